"""What `convert` does: source → package, layout manifest and golden vectors, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metal4conv.assembly import (
    GoldenOptions,
    check_name,
    depfile_inputs,
    golden_cases,
    make_package,
    manifest_text,
    remove_work,
    wanted_outputs,
)
from metal4conv.frontends.source import (
    LoweringRequest,
    ModelSource,
    open_source,
    parse_options,
)
from metal4conv.layout.document import MANIFEST_SUFFIX, LayoutManifest
from metal4conv.outputs import depfile_text, staged, write_file
from metal4conv.packaging import MetalStep, add_metal_package, metal_step
from metal4conv.precision.document import SUFFIX as PRECISION_SUFFIX
from metal4conv.precision.document import document_text, precision_document
from metal4conv.precision.options import asked_tolerance, precision_file, precision_request
from metal4conv.precision.tolerance import Wanted
from metal4conv.precision_search import WIDE_PACKAGE, look_for_precision, source_texts
from metal4conv.report import Finding, Report
from metal4conv.verify.draw import (
    golden_origin,
)
from metal4conv.verify.golden import SUFFIX as GOLDEN_SUFFIX
from metal4conv.verify.golden import write_golden

Say = Callable[[str], None]


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
