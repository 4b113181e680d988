"""From a source to a package with its manifest and golden cases, in a folder aside."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from metal4conv import __version__
from metal4conv.errors import Metal4ConvError, UnsupportedModel, UsageError, last_line
from metal4conv.frontends.source import (
    Lowered,
    LoweringRequest,
    ModelSource,
    SourceInput,
)
from metal4conv.layout.document import LayoutManifest, dimension_json
from metal4conv.layout.manifest import content_sha256, layout_manifest
from metal4conv.layout.schema import check_manifest
from metal4conv.mil.correspondence import KEY as CORRESPONDENCE_KEY
from metal4conv.mil.correspondence import correspondence_text, make_correspondence
from metal4conv.mil.interface import LAYOUT_KEY
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Dimension
from metal4conv.mil.schema import deterministic_bytes, new_model
from metal4conv.mil.writer import set_metadata, write_package
from metal4conv.verify.draw import (
    DEFAULT_LIMIT_BYTES,
    DISTRIBUTIONS,
    DrawnCases,
    draw_cases,
    predict_cases,
)
from metal4conv.verify.given import cases_from_npz
from metal4conv.verify.golden import GoldenCase, installed_versions

LARGEST_ENUMERATION = 128
"""Core ML allows this many enumerated shapes."""


@dataclass(frozen=True)
class GoldenOptions:
    """How golden vectors are made: drawn from a seed, or with the inputs of a file."""

    inputs_npz: str | Path | None = None
    limit_bytes: int = DEFAULT_LIMIT_BYTES
    seed: int = 0


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


def remove_work(folder: Path) -> None:
    """Deletes the frontend's temporary files, so that they are not taken for outputs."""
    shutil.rmtree(folder, ignore_errors=True)


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


def check_name(name: str) -> None:
    """`UsageError` for a package name that is no file name."""
    if not name or name.startswith(".") or "/" in name or name.endswith(".mlpackage"):
        raise UsageError(
            f'"{name}" cannot be the name of a package',
            where="--name",
            hint="a plain name without a folder and without .mlpackage",
        )


def wanted_outputs(source: ModelSource, given: Sequence[str]) -> tuple[str, ...]:
    """The outputs' names: those of `--output`, else the source's own."""
    if given and len(given) != len(source.outputs):
        raise UsageError(
            f"the model has {len(source.outputs)} outputs ({', '.join(source.outputs)}), "
            f"{len(given)} names were given",
            where="--output",
        )
    return tuple(given) or source.outputs


def depfile_inputs(text: str, source: ModelSource) -> list[Path]:
    """The files that a conversion read, the one on the command line as it was written there."""
    target, _, _ = text.rpartition(":")
    given = Path(target if source.kind == "factory" and target.endswith(".py") else text)
    files = [given] if given.exists() and not given.is_dir() else []
    known = {path.resolve() for path in files}
    return files + [path for path in source.files if path.resolve() not in known]
