"""What is known of packages that no machine learning pass runs, said before any tool is started."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from metal4conv.errors import UnsupportedModel
from metal4conv.layout.document import LayoutManifest
from metal4conv.layout.findings import layout_findings
from metal4conv.mil.package import Package
from metal4conv.mil.program import Constant, Function, Operation
from metal4conv.report import Finding

ENTRY_POINT = "main"
"""The function of every Metal package that was seen."""

CONTROL_FLOW = ("cond", "while_loop")

USUAL_OPSET = 18
"""iOS18's operations. A builder of an Xcode 27 beta crashed on newer ones, others measured."""


def metal_findings(package: Package, manifest: LayoutManifest) -> tuple[Finding, ...]:
    """What keeps a function from running in a machine learning pass, or may.

    Failures are what Metal has no way to bind, or what nobody is known to have brought into a
    Metal package. Warnings are what failed for somebody, or is untried.
    """
    return (
        *layout_findings(manifest),
        *binding_findings(manifest),
        *function_findings(package, manifest.package.function),
        *operation_findings(package.function(manifest.package.function)),
    )


def require_suitable(path: Path, findings: Iterable[Finding]) -> None:
    """`UnsupportedModel` that lists all failures at once, if there are any."""
    failures = [finding for finding in findings if finding.severity == "failure"]
    if failures:
        hints = dict.fromkeys(finding.hint for finding in failures if finding.hint)
        raise UnsupportedModel(
            f"{path.name} cannot run in a machine learning pass: "
            + "; ".join(dict.fromkeys(finding.message for finding in failures)),
            hint="; ".join(hints) or None,
        )


def binding_findings(manifest: LayoutManifest) -> Iterator[Finding]:
    """What the layout allows, and Metal packages do not take."""
    for tensor in manifest.tensors:
        where = f'{tensor.role} "{tensor.name}"'
        if tensor.coreml.enumerated:
            yield Finding(
                "failure",
                "enumerated-shapes",
                f"{where} has {len(tensor.coreml.enumerated)} enumerated shapes, with which no "
                "Metal package is known to work",
                where,
                "give it a range or fixed sizes: metal4conv reshape",
            )
        if tensor.data_type is not None and tensor.data_type.name == "bfloat16":
            yield Finding(
                "failure",
                "bfloat16-binding",
                f"{where} is bfloat16, which Metal refuses when it compiles the pipeline "
                '("Unsupported Ops or shapes for MLEncoder")',
                where,
                "convert the model again with float16 or float32 there",
            )


def function_findings(package: Package, function: str) -> Iterator[Finding]:
    """Functions beside the one, or one with an unusual name."""
    names = sorted(package.program.functions)
    if len(names) > 1:
        yield Finding(
            "failure",
            "several-functions",
            f"the package has {len(names)} functions ({', '.join(names)}), and no Metal package "
            "with more than one is known",
            hint="make a package of each function",
        )
    elif function != ENTRY_POINT:
        yield Finding(
            "warning",
            "entry-point",
            f'the function is called "{function}"; those of all known Metal packages "main"',
        )


def operation_findings(function: Function) -> Iterator[Finding]:
    """Operations with which somebody's package did not build, compile or finish."""
    operations = list(function.block.walk())
    counts = Counter(operation.type for operation in operations)
    if flow := [name for name in CONTROL_FLOW if counts[name]]:
        yield Finding(
            "warning",
            "control-flow",
            f"it has control flow ({counted(counts, flow)}), with which Metal refused other "
            'packages when it compiled the pipeline ("Unsupported Ops or shapes for MLEncoder")',
            hint="write loops out, and branches as a selection between both results",
        )
    packed = [
        name
        for name in sorted(counts)
        if name in ("quantize", "dequantize")
        or (name.startswith("constexpr_") and name != "constexpr_cast")
    ]
    if packed:
        yield Finding(
            "warning",
            "compressed-weights",
            f"it has compressed or quantised numbers ({counted(counts, packed)}); one package with "
            "8-bit weights ran into the GPU's time limit, and none is known to have run",
            hint="if it does not run, use the package without compression",
        )
    yield from grid_findings(operations)
    if function.opset_version > USUAL_OPSET:
        yield Finding(
            "warning",
            "new-opset",
            f"it uses the operations of {function.opset}, on which a builder of an Xcode 27 beta "
            "crashed",
            hint="if the builder fails, convert the model again with --target iOS18",
        )


def grid_findings(operations: Iterable[Operation]) -> Iterator[Finding]:
    """`resample` (grid_sample) that reads at places which the network itself works out."""
    constants: set[str] = set()
    for operation in operations:
        if operation.type == "const":
            constants |= {value.name for value in operation.outputs}
        if operation.type != "resample":
            continue
        places = operation.inputs.get("coordinates", ())
        if not all(isinstance(item, Constant) or item in constants for item in places):
            yield Finding(
                "warning",
                "computed-grid",
                f"{operation} reads at places that are computed; Metal refused such a package when "
                "it compiled the pipeline",
                operation.name,
                "split the model there, and write this operation as a compute kernel",
            )


def counted(counts: Counter[str], names: Iterable[str]) -> str:
    """Operations with their numbers.

    >>> counted(Counter(["cond", "cond", "add"]), ["cond", "add"])
    '2 cond, 1 add'
    """
    return ", ".join(f"{counts[name]} {name}" for name in names)
