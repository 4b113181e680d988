"""What `debug --reduce` says: the JSON document, and the README of the case."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metal4conv import __version__
from metal4conv.debug.case import SUFFIX, Case, inputs_path, judge, outputs_path, verify_words
from metal4conv.debug.journal import Journal
from metal4conv.debug.search_report import input_rows, origin_of
from metal4conv.debug.values import RunValues
from metal4conv.execute.interpreter import Executor
from metal4conv.execute.tracing import figures
from metal4conv.layout.document import MANIFEST_SUFFIX
from metal4conv.mil.cutting import Cut
from metal4conv.mil.dataflow import Dataflow, dataflow
from metal4conv.mil.package import Package
from metal4conv.report import Finding, Report
from metal4conv.verify.golden import golden_path, installed_versions
from metal4conv.verify.tolerance import GivenTolerance

if TYPE_CHECKING:
    from metal4conv.debug.reduction import Failure

Json = dict[str, Any]  # Any: a JSON object

VERSIONS = ("coremltools", "numpy", "torch", "protobuf")


def nothing_to_reduce(
    package: Package, flow: Dataflow, journal: Journal, failure: Failure | None
) -> Report:
    """The report about a package that does not fail."""
    data = {
        "package": str(package.path),
        "function": flow.function.name,
        "verdict": "does not fail",
        "checks": len(journal.steps),
        "operations": {"before": len(flow.working)},
    }
    what = (
        "the whole package gives what is expected of it"
        if failure is None
        else f"of the whole package it is not true that {failure.text}"
    )
    finding = Finding(
        "failure",
        "does-not-fail",
        f"there is nothing to reduce: {what}",
        hint="name another case with --case, or what decides with --check or --against",
    )
    return Report("debug reduce", data, (finding,))


def spent_finding(most_checks: int) -> Finding:
    """The note about a reduction that stopped before it was done."""
    return Finding(
        "warning",
        "stopped-early",
        f"stopped after {most_checks} checks: a smaller part may fail, too",
        hint="go on with --resume and a larger --max-checks",
    )


def reduction_report(
    package: Package,
    operations: int,
    cut: Cut,
    case: Case,
    journal: Journal,
    failure: Failure | None,
    target: Path,
    given: GivenTolerance | None = None,
) -> tuple[Report, str]:
    """The report, and the text of the case's README; `target` is where the case's package goes.

    `operations` is how many the whole package has.
    """
    result = judge(case, given)
    failures = [item.message for item in result.findings if item.severity == "failure"]
    rows = case_rows(package, case, cut)
    stem = target.name.removesuffix(SUFFIX)
    files = [
        target,
        golden_path(target),
        inputs_path(target),
        outputs_path(target),
        target.with_name(f"{stem}{MANIFEST_SUFFIX}"),
        target.with_name("README.md"),
    ]
    command = failure.command if failure else None
    data: Json = {
        "package": str(package.path),
        "function": journal.about["function"],
        "verdict": "reduced",
        "case": str(target),
        "fails": failure.text if failure else failures[0],
        "operations": {"before": operations, "after": len(cut.operations)},
        "parts": rows,
        "inputs": [{"name": name, **figures(array)} for name, array in case.inputs.items()],
        "outputs": [{"name": name, **figures(array)} for name, array in case.expected.items()],
        "verify": "differs" if failures else "agrees",
        "checks": len(journal.steps),
        "repeat": shlex.join(command(target) if command else verify_words(target, given)),
        "journal": str(journal.path),
    }
    report = Report("debug reduce", data, (), tuple(map(str, files)))
    verify = shlex.join(verify_words(Path(target.name), given))
    shown = shlex.join(command(target)) if command else None
    return report, readme_text(data, failures, target, verify, shown)


def case_rows(package: Package, case: Case, cut: Cut) -> list[Json]:
    """The operations of the case, with the ranges of what they take in it."""
    flow = dataflow(case.part.package.function())
    values = RunValues(Executor.from_package(case.part.package), case.inputs)
    instead = {other: name for name, other in cut.bypassed.items()}
    return [
        {
            "operation": operation.outputs[0].name if operation.outputs else operation.name,
            "type": operation.type,
            "source": origin_of(package, operation),
            "inputs": input_rows(flow, values, place),
            "instead_of": {name: instead[name] for name in flow.reads[place] if name in instead},
        }
        for place in flow.working
        for operation in [flow.operations[place]]
    ]


def readme_text(
    data: Json, failures: Sequence[str], target: Path, verify: str, command: str | None
) -> str:
    """A README for whoever gets the case; `command` shows the failure, or else `verify` does."""
    name = target.name.removesuffix(SUFFIX)
    before, after = data["operations"]["before"], data["operations"]["after"]
    lines = [
        f"# {name}",
        "",
        f"A failing part of `{Path(data['package']).name}`: {after} of its {before} operations.",
        "",
        f"What fails: {data['fails']}",
        "",
        "## How to see it",
        "",
        "Run where the case was made:" if command else "Run in this folder:",
        "",
        f"    {command or verify}",
        "",
    ]
    if not failures:
        lines += [
            "The expected outputs are those of metal4conv's own executor in float32. On the "
            "machine where the case was made the executor itself agrees with them, so",
            "",
            f"    {verify}",
            "",
            "passes; `--on coreml` or `--on metal` compares another machine with them.",
            "",
        ]
    lines += ["## Operations", "", "| operation | type | inputs | source |", "|---|---|---|---|"]
    lines += [table_line(row) for row in data["parts"]]
    lines += ["", "## Files", ""]
    lines += [
        f"- `{name}.mlpackage`: the package",
        f"- `{name}.golden.safetensors`: inputs and expected outputs, as `verify` takes them",
        f"- `{name}.inputs.npz`, `{name}.outputs.npz`: the same for numpy",
        f"- `{name}{MANIFEST_SUFFIX}`: how its tensors are laid out",
        "",
        "## Versions",
        "",
        f"- metal4conv {__version__}",
        *(f"- {key} {value}" for key, value in installed_versions(*VERSIONS).items()),
        f"- Python {platform.python_version()}, {platform.system()} {platform.machine()}",
    ]
    return "\n".join(lines) + "\n"


def table_line(row: Json) -> str:
    """One operation as a line of a Markdown table."""
    inputs = ", ".join(
        f"{item['name']} {item['dtype']}{item['shape']} {range_text(item)}"
        for item in row["inputs"]
    )
    cells = (row["operation"], row["type"], inputs, row["source"] or "")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def range_text(item: Json) -> str:
    """The range of a value, and what is not finite in it.

    >>> range_text({"min": -1.0, "max": 2.0, "nan": 0, "inf": 3})
    '-1..2, 3 infinite'
    """
    parts = [] if item["min"] is None else [f"{item['min']:.6g}..{item['max']:.6g}"]
    if item["nan"]:
        parts.append(f"{item['nan']} NaN")
    if item["inf"]:
        parts.append(f"{item['inf']} infinite")
    return ", ".join(parts) or "empty"
