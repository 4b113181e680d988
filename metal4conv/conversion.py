"""What `convert` does: source → package, layout manifest and golden vectors, all or nothing."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any

from metal4conv import __version__
from metal4conv.errors import Metal4ConvError, UnsupportedModel, UsageError, last_line
from metal4conv.frontends.mixed import MIXED
from metal4conv.frontends.provenance import name_before_cast
from metal4conv.frontends.source import (
    CastOperation,
    Lowered,
    LoweringRequest,
    ModelSource,
    SourceInput,
    open_source,
    parse_options,
)
from metal4conv.layout.document import MANIFEST_SUFFIX, LayoutManifest, dimension_json
from metal4conv.layout.manifest import content_sha256, layout_manifest
from metal4conv.layout.schema import check_manifest
from metal4conv.mil.correspondence import KEY as CORRESPONDENCE_KEY
from metal4conv.mil.correspondence import correspondence_text, make_correspondence
from metal4conv.mil.interface import LAYOUT_KEY
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Dimension, TensorType
from metal4conv.mil.schema import deterministic_bytes, new_model
from metal4conv.mil.writer import set_metadata, write_package
from metal4conv.outputs import depfile_text, staged, write_file
from metal4conv.packaging import MetalStep, add_metal_package, metal_step
from metal4conv.precision.document import SUFFIX as PRECISION_SUFFIX
from metal4conv.precision.document import document_text, precision_document
from metal4conv.precision.extremes import KINDS, extreme_cases
from metal4conv.precision.options import asked_tolerance, precision_file, precision_request
from metal4conv.precision.search import Search, Trial, open_search
from metal4conv.precision.tolerance import Wanted
from metal4conv.report import Finding, Report
from metal4conv.verify.draw import (
    DEFAULT_LIMIT_BYTES,
    DISTRIBUTIONS,
    DrawnCases,
    draw_cases,
    golden_origin,
    predict_cases,
)
from metal4conv.verify.given import cases_from_npz
from metal4conv.verify.golden import SUFFIX as GOLDEN_SUFFIX
from metal4conv.verify.golden import GoldenCase, installed_versions, write_golden
from metal4conv.verify.verification import package_input

LARGEST_ENUMERATION = 128
"""Core ML allows this many enumerated shapes."""
WIDE_PACKAGE = ".float32.mlpackage"
"""Where the float32 package of a search is until the end; no package's name starts with a dot."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class GoldenOptions:
    """How golden vectors are made: drawn from a seed, or with the inputs of a file."""

    inputs_npz: str | Path | None = None
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    seed: int = 0


@dataclass(frozen=True)
class Conversion:
    """The files that a conversion wrote (or found unchanged), and what to know about them.

    `metal_package` is None where none was wanted, or none could be made.
    """

    package: Path
    manifest: Path
    golden: Path | None
    layout: LayoutManifest
    source: Mapping[str, str]
    findings: tuple[Finding, ...] = ()
    unchanged: tuple[Path, ...] = field(default=())
    metal_package: Path | None = None
    precision: Path | None = None
    mixed: Mapping[str, Any] | None = None
    """What `--precision auto` found. (Any: the document in the file `precision`.)"""

    @property
    def files(self) -> tuple[Path, ...]:
        """All outputs."""
        found = (self.package, self.manifest, self.golden, self.precision, self.metal_package)
        return tuple(path for path in found if path is not None)

    def report(self) -> Report:
        """The conversion for the console."""
        data: dict[str, Any] = {
            "source": dict(self.source),
            "package": str(self.package),
            "manifest": str(self.manifest),
            "golden": None if self.golden is None else str(self.golden),
            "metal_package": None if self.metal_package is None else str(self.metal_package),
            "unchanged": [str(path) for path in self.unchanged],
            "layout": self.layout.to_json(),
        }
        if self.mixed is not None:
            data["precision"] = {"file": str(self.precision), **self.mixed}
        return Report("convert", data, self.findings, tuple(str(path) for path in self.files))


def convert(
    source: str | Path,
    *,
    inputs: Iterable[str] = (),
    dims: Iterable[str] = (),
    output: str | Path = ".",
    name: str | None = None,
    output_names: Sequence[str] = (),
    precision: str = "float16",
    io_precision: str | None = None,
    min_psnr: float | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    target: str = "iOS18",
    weights: str | Path | None = None,
    signature: str | None = None,
    trust: bool = False,
    golden: GoldenOptions | None = None,
    mtlpackage: bool | None = None,
    depfile: str | Path | None = None,
    say: Say = lambda text: None,
) -> Conversion:
    """Converts a model; the files appear in the folder `output` when everything went well.

    `inputs` and `dims` are written as on the command line: `x:1x3xhxw:float16`, `h=64..2160`.
    `precision` may be `auto`, which keeps as few operations in float32 as hold the tolerance
    `min_psnr`, `atol`, `rtol` (50 dB without any), or `mixed:FILE`, which keeps those that the file
    names.
    `mtlpackage` says whether to make a Metal package, too; without it one is made where Apple's
    tool is, and a failure is a finding. `say` is told what is being done.
    """
    step = metal_step(mtlpackage)
    options = parse_options(inputs, dims, weights=weights, signature=signature, trust=trust)
    floats = {
        spec.name: spec.dtype
        for spec in options.inputs
        if spec.dtype and spec.dtype in ("float16", "float32")
    }
    wanted = asked_tolerance(precision, min_psnr, atol, rtol)
    request = replace(
        precision_request(precision), target=target, io_precision=io_precision, input_dtypes=floats
    )
    say(f"reading {source}")
    opened = open_source(str(source), options)
    package_name = name or opened.name
    check_name(package_name)
    done = build(
        opened,
        package_name,
        Path(output),
        output_names,
        request,
        golden or GoldenOptions(),
        say,
        step,
        wanted,
    )
    if depfile is not None:
        read = depfile_inputs(str(source), opened)
        if file := precision_file(precision):
            read.append(file)
        write_file(Path(depfile), depfile_text(done.files, read))
    return done


def check_name(name: str) -> None:
    """`UsageError` for a package name that is no file name."""
    if not name or name.startswith(".") or "/" in name or name.endswith(".mlpackage"):
        raise UsageError(
            f'"{name}" cannot be the name of a package',
            where="--name",
            hint="a plain name without a folder and without .mlpackage",
        )


def build(
    source: ModelSource,
    name: str,
    folder: Path,
    output_names: Sequence[str],
    request: LoweringRequest,
    golden: GoldenOptions,
    say: Say,
    step: MetalStep | None = None,
    wanted: Wanted | None = None,
) -> Conversion:
    """Lowers a source and writes its outputs into `folder`; a Metal package where it can.

    `wanted` is the tolerance that mixed precision is to hold; None for what the request says.
    """
    mixed = None
    names = wanted_outputs(source, output_names)
    request = replace(request, output_names=names)
    with staged(folder) as stage:
        work = stage.path("work")
        target = stage.path(f"{name}.mlpackage")
        looked = None
        if wanted is not None:
            looked = look_for_precision(source, request, golden, wanted, work, say)
            request = looked.request
        say("converting")
        made = make_package(source, request, target, work)
        while looked is not None and not looked.search.confirm(made.package):
            say("converting with more operations in float32")
            made = make_package(source, looked.request, target, work)
        lowered, package, manifest = made.lowered, made.package, made.manifest
        manifest_file = stage.path(f"{name}{MANIFEST_SUFFIX}")
        manifest_file.write_text(manifest_text(manifest, indent=2), "utf-8")
        if looked is None:
            say("running the source model")
            drawn, cases = golden_cases(source, made, golden, names)
        else:
            drawn, cases = looked.drawn, looked.cases
            mixed = precision_document(looked.search, package, source_texts(source, lowered))
            stage.path(f"{name}{PRECISION_SUFFIX}").write_text(document_text(mixed), "utf-8")
        seed = golden.seed if golden.inputs_npz is None else None
        origin = golden_origin(source, name, manifest.package.sha256 or "", seed)
        write_golden(stage.path(f"{name}{GOLDEN_SUFFIX}"), cases, origin)
        metal, found = add_metal_package(stage, package, manifest, step, say)
        remove_work(work)
        remove_work(stage.path(WIDE_PACKAGE))
    return Conversion(
        folder / f"{name}.mlpackage",
        folder / f"{name}{MANIFEST_SUFFIX}",
        folder / f"{name}{GOLDEN_SUFFIX}",
        manifest,
        {"framework": source.framework, "kind": source.kind},
        (
            *source.findings,
            *lowered.findings,
            *drawn.findings,
            *(looked.findings if looked else ()),
            *found,
        ),
        tuple(stage.unchanged),
        None if metal is None else folder / metal,
        folder / f"{name}{PRECISION_SUFFIX}" if looked else None,
        mixed,
    )


@dataclass(frozen=True)
class Made:
    """A package that was just written, with its manifest."""

    lowered: Lowered
    package: Package
    manifest: LayoutManifest


def make_package(source: ModelSource, request: LoweringRequest, folder: Path, work: Path) -> Made:
    """Lowers a source and lays it out in `folder`, in place of what is there."""
    remove_work(folder)
    remove_work(work)
    lowered = source.lower(request, work)
    package, manifest = lay_out(
        folder,
        lowered,
        package_metadata(source, request, lowered),
        source.inputs,
        source.dimensions,
    )
    return Made(lowered, package, manifest)


def golden_cases(
    source: ModelSource, made: Made, golden: GoldenOptions, names: Sequence[str]
) -> tuple[DrawnCases, tuple[GoldenCase, ...]]:
    """Golden inputs, and the source's outputs for them by their names in the package."""
    drawn = make_cases(source, made.package, made.manifest, golden)
    cases = run_source(source, drawn.cases, dict(zip(source.outputs, names, strict=True)))
    check_shapes(cases, made.manifest)
    return drawn, cases


@dataclass(frozen=True)
class Looked:
    """A search for operations to keep in float32, and the golden cases that it is made with."""

    search: Search
    base: LoweringRequest
    drawn: DrawnCases
    cases: tuple[GoldenCase, ...]
    findings: tuple[Finding, ...]

    @property
    def request(self) -> LoweringRequest:
        """What the search asks of the frontend now."""
        return replace(self.base, precision=MIXED, float32_operations=self.search.names)


def look_for_precision(
    source: ModelSource,
    request: LoweringRequest,
    golden: GoldenOptions,
    wanted: Wanted,
    work: Path,
    say: Say,
) -> Looked:
    """Converts to float32, measures, and finds which operations must stay in float32."""
    say("converting to float32")
    seen: list[CastOperation] = []
    wide = replace(request, precision=MIXED, io_precision=request.io_dtype, cast_operations=seen)
    made = make_package(source, wide, work.with_name(WIDE_PACKAGE), work)
    say("running the source model")
    drawn, cases = golden_cases(source, made, golden, request.output_names)
    types = {item.name: item.type for item in made.package.interface().inputs}
    dtypes = {name: type.dtype for name, type in types.items()}
    outputs = dict(zip(source.outputs, request.output_names, strict=True))
    extremes, failed = run_extremes(
        source, extreme_cases(source.inputs, cases, dtypes, golden.seed), outputs
    )
    say("looking for operations that need float32")
    search, findings = open_search(
        made.package,
        [trial_of(f"golden case {n}", case, types) for n, case in enumerate(cases)],
        [
            trial_of(f"inputs at the ends of their ranges ({kind})", case, types)
            for kind, case in zip(KINDS, extremes, strict=False)
        ],
        wanted,
        seen,
    )
    search.choose()
    return Looked(search, request, drawn, cases, (*failed, *findings))


def run_extremes(
    source: ModelSource, extremes: Sequence[GoldenCase], names: Mapping[str, str]
) -> tuple[tuple[GoldenCase, ...], tuple[Finding, ...]]:
    """The source's outputs at the ends of value ranges; none where it does not run there."""
    try:
        return run_source(source, extremes, names), ()
    except UnsupportedModel as error:
        return (), (
            Finding(
                "warning",
                "precision-extreme",
                f"precision is not tried at the ends of the inputs' ranges: {error.message}",
                hint="give the ranges that the model takes with -i",
            ),
        )


def trial_of(label: str, case: GoldenCase, types: Mapping[str, TensorType]) -> Trial:
    """A case as the package takes it."""
    inputs = {name: package_input(array, types[name]) for name, array in case.inputs.items()}
    return Trial(label, inputs, case.outputs)


def source_texts(source: ModelSource, lowered: Lowered) -> dict[str, str]:
    """What values of the package are in the source, by their names before the casts to float16."""
    known = {row.name: str(row) for row in source.values()}
    return {
        name_before_cast(value): known[name]
        for value, name in lowered.values.items()
        if name in known
    }


def remove_work(folder: Path) -> None:
    """Deletes the frontend's temporary files, so that they are not taken for outputs."""
    shutil.rmtree(folder, ignore_errors=True)


def wanted_outputs(source: ModelSource, given: Sequence[str]) -> tuple[str, ...]:
    """The outputs' names: those of `--output`, else the source's own."""
    if given and len(given) != len(source.outputs):
        raise UsageError(
            f"the model has {len(source.outputs)} outputs ({', '.join(source.outputs)}), "
            f"{len(given)} names were given",
            where="--output",
        )
    return tuple(given) or source.outputs


def package_metadata(
    source: ModelSource, request: LoweringRequest, lowered: Lowered
) -> dict[str, str]:
    """What the package says about its origin; nothing of the time or the machine."""
    origin = make_correspondence(source.values(), lowered.values)
    versions = installed_versions("coremltools", *DISTRIBUTIONS[source.framework])
    return {
        "metal4conv.version": __version__,
        "metal4conv.source": f"{source.framework} {source.kind}",
        "metal4conv.precision": request.precision,
        CORRESPONDENCE_KEY: correspondence_text(origin),
        **{f"metal4conv.version.{key}": value for key, value in versions.items()},
    }


def lay_out(
    folder: Path,
    lowered: Lowered,
    metadata: Mapping[str, str],
    inputs: Sequence[SourceInput],
    dimensions: Mapping[str, Dimension],
) -> tuple[Package, LayoutManifest]:
    """Writes the package, lays it out, and puts the manifest into its metadata."""
    spec = new_model()
    spec.ParseFromString(lowered.spec)
    enumerate_shapes(spec, inputs, dimensions)
    names = {LAYOUT_KEY: provisional_layout(inputs, dimensions)}
    set_metadata(spec, {**metadata, **names})
    write_package(folder, spec, lowered.weights_folder)
    package = read_package(folder)
    manifest = layout_manifest(package, sha256=content_sha256(package))
    check_manifest(manifest.to_json())
    set_metadata(spec, {**metadata, LAYOUT_KEY: manifest_text(manifest)})
    (package.model_folder / "model.mlmodel").write_bytes(deterministic_bytes(spec))
    return read_package(folder), manifest


def manifest_text(manifest: LayoutManifest, indent: int | None = None) -> str:
    """A manifest as JSON text: on one line, or indented as a file for people too."""
    if indent is None:
        return json.dumps(manifest.to_json(), separators=(",", ":"))
    return json.dumps(manifest.to_json(), indent=indent) + "\n"


def provisional_layout(inputs: Sequence[SourceInput], dimensions: Mapping[str, Dimension]) -> str:
    """The part of a manifest that names the dynamic dimensions; the package has only ranges."""
    document = {
        "dimensions": {name: dimension_json(row) for name, row in dimensions.items()},
        "tensors": [
            {"name": item.name, "role": "input", "coreml": {"shape": list(item.type.shape) or [1]}}
            for item in inputs
        ],
    }
    return json.dumps(document)


def enumerate_shapes(
    spec: Any, inputs: Sequence[SourceInput], dimensions: Mapping[str, Dimension]
) -> None:
    """Declares the allowed shapes of inputs with enumerated sizes: each size with each other.

    (Any: a protobuf message.)
    """
    for item in inputs:
        named = [size for size in dict.fromkeys(item.type.shape) if isinstance(size, str)]
        lists = [dimensions[name].values for name in named]
        if not any(lists):
            continue
        if not all(lists):
            ranged = ", ".join(name for name in named if not dimensions[name].values)
            raise UsageError(
                f'input "{item.name}" has enumerated sizes and the range of {ranged}; Core ML '
                "takes either for one input",
                where="--dim",
                hint=f"give {ranged} as a list of sizes, or as a number",
            )
        if math.prod(map(len, lists)) > LARGEST_ENUMERATION:
            raise UsageError(
                f'input "{item.name}" has {math.prod(map(len, lists))} enumerated shapes, Core ML '
                f"takes {LARGEST_ENUMERATION}",
                where="--dim",
            )
        array = next(row for row in spec.description.input if row.name == item.name)
        array = array.type.multiArrayType
        array.ClearField("shapeRange")
        default = {name: dimensions[name].default for name in named}
        combinations = [dict(zip(named, sizes, strict=True)) for sizes in product(*lists)]
        # Core ML takes the first one as the default
        for sizes in sorted(combinations, key=lambda sizes: sizes != default):
            shape = [sizes[size] if isinstance(size, str) else size for size in item.type.shape]
            array.enumeratedShapes.shapes.add().shape.extend(shape)
        array.shape[:] = array.enumeratedShapes.shapes[0].shape


def make_cases(
    source: ModelSource, package: Package, manifest: LayoutManifest, golden: GoldenOptions
) -> DrawnCases:
    """Golden inputs: drawn, or from the user's file."""
    dtypes = {feature.name: feature.type.dtype for feature in package.interface().inputs}
    if golden.inputs_npz is not None:
        return cases_from_npz(Path(golden.inputs_npz), source.inputs, source.dimensions, dtypes)

    def output_bytes(sizes: Mapping[str, int]) -> int:
        shapes = [tensor.coreml.shape for tensor in manifest.at(sizes).outputs]
        return sum(
            4 * math.prod(size for size in shape if isinstance(size, int)) for shape in shapes
        )

    return draw_cases(
        source.inputs,
        source.dimensions,
        seed=golden.seed,
        limit_bytes=golden.limit_bytes,
        input_dtypes=dtypes,
        output_bytes=output_bytes,
    )


def run_source(
    source: ModelSource, cases: Sequence[GoldenCase], names: Mapping[str, str]
) -> tuple[GoldenCase, ...]:
    """The source's own outputs; an error in it says at which sizes it does not run."""
    done: list[GoldenCase] = []
    for case in cases:
        try:
            done += predict_cases(source, [case], names)
        except Metal4ConvError:
            raise
        except Exception as error:  # whatever the user's model raises
            sizes = ", ".join(f"{key}={value}" for key, value in case.dimensions.items())
            reason = last_line(error)
            raise UnsupportedModel(
                f"the source model does not run with {sizes or 'its own sizes'}: {reason}",
                hint="give only sizes that the model takes: --dim" if sizes else None,
            ) from error
    return tuple(done)


def check_shapes(cases: Sequence[GoldenCase], manifest: LayoutManifest) -> None:
    """The source's output shapes must be those of the manifest, at all sizes that were run."""
    for case in cases:
        for tensor in manifest.at(case.dimensions).outputs:
            found = case.outputs[tensor.name].shape or (1,)
            if tensor.coreml.shape != found:
                sizes = ", ".join(f"{key}={value}" for key, value in case.dimensions.items())
                raise UnsupportedModel(
                    f'output "{tensor.name}" has the shape {tensor.coreml.shape} in the package, '
                    f"but {found} in the source model, with {sizes or 'fixed sizes'}",
                    hint="a size was fixed when the model was traced; export it with dynamic sizes",
                )


def depfile_inputs(text: str, source: ModelSource) -> list[Path]:
    """The files that a conversion read, the one on the command line as it was written there."""
    target, _, _ = text.rpartition(":")
    given = Path(target if source.kind == "factory" and target.endswith(".py") else text)
    files = [given] if given.exists() and not given.is_dir() else []
    known = {path.resolve() for path in files}
    return files + [path for path in source.files if path.resolve() not in known]
