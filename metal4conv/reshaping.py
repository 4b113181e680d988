"""What `reshape` does: a package with other sizes, with its manifest and golden vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from metal4conv.assembly import check_name, lay_out, manifest_text, remove_work
from metal4conv.conversion import Conversion, Say
from metal4conv.errors import UnsupportedModel, UsageError, did_you_mean
from metal4conv.execute.interpreter import load
from metal4conv.execute.symbolic import infer_types
from metal4conv.frontends.rebuild import rebuild_package
from metal4conv.frontends.source import SourceInput, parse_options
from metal4conv.frontends.spec import InputSpec
from metal4conv.layout.document import MANIFEST_SUFFIX, LayoutManifest
from metal4conv.layout.statistics import constants_of
from metal4conv.mil.interface import LAYOUT_KEY, Interface
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Dimension, Shape, TensorType
from metal4conv.outputs import depfile_text, staged, write_file
from metal4conv.report import Finding
from metal4conv.verify.draw import draw_cases
from metal4conv.verify.golden import SUFFIX as GOLDEN_SUFFIX
from metal4conv.verify.golden import (
    Golden,
    GoldenCase,
    GoldenOrigin,
    golden_path,
    read_golden,
    write_golden,
)

Resized = tuple[tuple[SourceInput, ...], dict[str, Dimension]]


def reshape(
    path: str | Path,
    *,
    inputs: Iterable[str] = (),
    dims: Iterable[str] = (),
    output: str | Path = ".",
    name: str | None = None,
    depfile: str | Path | None = None,
    say: Say = lambda text: None,
) -> Conversion:
    """The package with other sizes, written into the folder `output`."""
    package = read_package(path)
    options = parse_options(inputs, dims)
    package_name = name or package.path.resolve().stem
    check_name(package_name)
    folder = Path(output)
    interface = package.interface()
    check_plain(package, interface)
    resized, dimensions = new_shapes(interface, options.inputs, options.dimensions)
    say("checking the program with the new sizes")
    check_program(package, resized, dimensions)
    findings: list[Finding] = []
    with staged(folder) as stage:
        work = stage.path("work")
        say("building the package")
        lowered = rebuild_package(package, resized, dimensions, work)
        metadata = {key: text for key, text in package.metadata.items() if key != LAYOUT_KEY}
        target = stage.path(f"{package_name}.mlpackage")
        new, manifest = lay_out(target, lowered, metadata, resized, dimensions)
        stage.path(f"{package_name}{MANIFEST_SUFFIX}").write_text(
            manifest_text(manifest, indent=2), "utf-8"
        )
        say("golden vectors")
        golden = follow_golden(package, new, manifest, package_name, findings)
        if golden is not None:
            path_of_golden = stage.path(f"{package_name}{GOLDEN_SUFFIX}")
            write_golden(path_of_golden, golden.cases, golden.origin)
        remove_work(work)
    done = Conversion(
        folder / f"{package_name}.mlpackage",
        folder / f"{package_name}{MANIFEST_SUFFIX}",
        folder / f"{package_name}{GOLDEN_SUFFIX}" if golden is not None else None,
        manifest,
        {"framework": "Core ML", "kind": "package"},
        tuple(findings),
        tuple(stage.unchanged),
    )
    if depfile is not None:
        read = [package.path / "Manifest.json", package.model_folder / "model.mlmodel"]
        write_file(Path(depfile), depfile_text(done.files, [*read, *package.weight_files()]))
    return done


def check_plain(package: Package, interface: Interface) -> None:
    """`UnsupportedModel` for what the new package would not declare as the old one does."""
    reasons = [
        f'{role} "{item.name}" is {"a picture" if item.kind == "image" else f"of kind {item.kind}"}'
        for role, items in (("input", interface.inputs), ("output", interface.outputs))
        for item in items
        if item.kind != "tensor"
    ]
    reasons += [f'input "{item.name}" is optional' for item in interface.inputs if item.optional]
    reasons += [f'it has a state "{item.name}"' for item in interface.states]
    if len(package.program.functions) > 1:
        reasons.append(f"it has {len(package.program.functions)} functions")
    if reasons:
        raise UnsupportedModel(
            f"{package.path} cannot be given other sizes: {reasons[0]}",
            hint="packages of one function with plain tensors can be; convert the source model "
            "again with the sizes",
        )


def new_shapes(
    interface: Interface,
    specs: Iterable[InputSpec],
    given: Mapping[str, Dimension | int],
) -> Resized:
    """The inputs with their new shapes, and the dimensions that are dynamic then."""
    shapes = {item.name: item.type.shape for item in interface.inputs}
    for spec in specs:
        if spec.name not in shapes:
            hint = did_you_mean(spec.name, shapes)
            raise UsageError(f'the package has no input "{spec.name}"', where="--input", hint=hint)
        if spec.shape is None or len(spec.shape) != len(shapes[spec.name]):
            raise UsageError(
                f'input "{spec.name}" has {len(shapes[spec.name])} dimensions, '
                f"{list(shapes[spec.name])}; give it as many",
                where="--input",
            )
        shapes[spec.name] = spec.shape
    known: dict[str, Dimension | int] = {**interface.dimensions, **given}
    used = [size for shape in shapes.values() for size in shape if isinstance(size, str)]
    for name in given:
        if name not in used:
            raise UsageError(
                f'no input has a dimension "{name}"',
                where="--dim",
                hint=did_you_mean(name, dict.fromkeys(used))
                if used
                else "name a size with -i first: -i color:1x3xhxw",
            )
    for name in used:
        if name not in known:
            raise UsageError(
                f'dimension "{name}" has no range', hint=f"give one: --dim {name}=64..1024"
            )
    inputs = tuple(
        SourceInput(item.name, TensorType(item.type.dtype, with_sizes(shapes[item.name], known)))
        for item in interface.inputs
    )
    kept = [size for item in inputs for size in item.type.shape if isinstance(size, str)]
    return inputs, {
        name: row for name in dict.fromkeys(kept) if isinstance(row := known[name], Dimension)
    }


def with_sizes(shape: Shape, known: Mapping[str, Dimension | int]) -> Shape:
    """A shape with numbers for the names that have one.

    >>> with_sizes((1, "h"), {"h": 720})
    (1, 720)
    """
    return tuple(
        row if isinstance(size, str) and isinstance(row := known[size], int) else size
        for size in shape
    )


def check_program(
    package: Package, inputs: Iterable[SourceInput], dimensions: Mapping[str, Dimension]
) -> None:
    """`UnsupportedModel` that names the operation which forbids the new sizes."""
    for operation in package.function().block.walk():
        for constant in constants_of(operation):
            if constant.file is not None:
                _ = constant.value  # mapped, not read: a damaged weight file is named here
    infer_types(package.function(), {item.name: item.type for item in inputs}, dimensions)


def follow_golden(
    old: Package, new: Package, manifest: LayoutManifest, name: str, findings: list[Finding]
) -> Golden | None:
    """Golden vectors for the new sizes.

    The old ones are kept where their sizes fit. Sizes that only the new package has are left out;
    those that both have but no vector has are run through the old package on the executor.
    """
    interface = new.interface()
    kept, origin = fitting_cases(old, interface)
    if not kept:
        kept = cases_of_old_package(old, interface)
        origin = GoldenOrigin(name, source="the package before reshape, on the MIL executor")
        if kept:
            message = (
                "no golden vector has the new sizes, so the package as it was before gives the "
                "expected outputs"
            )
            findings.append(Finding("info", "golden-from-package", message))
    if not kept:
        findings.append(
            Finding(
                "warning",
                "no-golden-vectors",
                "there are no golden vectors: the package before had none of the new sizes",
                hint="verify with --against SOURCE",
            )
        )
        return None
    sha256 = manifest.package.sha256 or ""
    return Golden(replace(origin, package=name, package_sha256=sha256), tuple(kept))


def fitting_cases(old: Package, interface: Interface) -> tuple[list[GoldenCase], GoldenOrigin]:
    """The old golden cases whose inputs fit the new declaration, with their sizes by new names."""
    path = golden_path(old.path)
    if not path.exists():
        return [], GoldenOrigin("")
    golden = read_golden(path)
    cases = []
    for case in golden.cases:
        sizes = sizes_of(case, interface)
        if sizes is not None:
            cases.append(replace(case, dimensions=sizes))
    return cases, golden.origin


def sizes_of(case: GoldenCase, interface: Interface) -> dict[str, int] | None:
    """The dynamic sizes of a case, None when an input does not fit the declaration."""
    sizes: dict[str, int] = {}
    for item in interface.inputs:
        shape = case.inputs[item.name].shape if item.name in case.inputs else None
        if shape is None or len(shape) != len(item.type.shape):
            return None
        for found, wanted in zip(shape, item.type.shape, strict=True):
            if isinstance(wanted, int):
                if found != wanted:
                    return None
                continue
            allowed = interface.dimensions[wanted].allows(found)
            if not allowed or sizes.setdefault(wanted, found) != found:
                return None
    return sizes


def cases_of_old_package(old: Package, interface: Interface) -> list[GoldenCase]:
    """New cases with outputs of the old package, where it takes their sizes."""
    inputs = [SourceInput(item.name, item.type) for item in interface.inputs]
    drawn = draw_cases(inputs, interface.dimensions)
    executor = load(old.path)
    cases = []
    for case in drawn.cases:
        try:
            outputs = executor.predict(case.inputs)
        except UsageError:
            continue  # the old package does not take these sizes
        widened = {
            key: array.astype("float32") if array.dtype.kind == "f" else array
            for key, array in outputs.items()
        }
        cases.append(replace(case, outputs=widened))
    return cases
