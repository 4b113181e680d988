"""What `inspect` and `layout` tell about a package or a source model."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metal4conv.errors import UsageError
from metal4conv.report import Finding, Report

if TYPE_CHECKING:
    from metal4conv.mil.interface import Feature, Interface
    from metal4conv.mil.package import Package


def inspect_file(
    file: str,
    inputs: Iterable[str] = (),
    dims: Iterable[str] = (),
    *,
    weights: str | None = None,
    signature: str | None = None,
    trust: bool = False,
) -> Report:
    """A package, or a source model with the options that opening it takes."""
    if is_package(file):
        return inspect_package(file)
    return inspect_source(file, inputs, dims, weights=weights, signature=signature, trust=trust)


def is_package(file: str) -> bool:
    """Whether a path is to be read as a package, whole or damaged."""
    path = Path(file)
    return path.suffix == ".mlpackage" or (path / "Manifest.json").exists()


def inspect_package(file: str) -> Report:
    """Interface, operations, weights and costs of a package, or of each model of a pipeline."""
    from metal4conv.mil.package import read_package

    package = read_package(file)
    if package.is_pipeline:
        return Report("inspect", {"file": file, **pipeline_data(package)})
    return Report("inspect", {"file": file, "kind": "package", **program_data(package)})


def program_data(package: Package) -> dict[str, Any]:  # Any: a JSON document
    """What a package of one program is made of."""
    from metal4conv.layout.manifest import manifest_of
    from metal4conv.layout.statistics import program_statistics
    from metal4conv.mil.program import TensorType

    interface = package.interface()
    shapes = {item.name: item.coreml.shape for item in manifest_of(package).outputs}
    outputs = [
        replace(item, type=TensorType(item.type.dtype, shapes[item.name]))
        for item in interface.outputs
    ]
    return {
        "default_function": package.default_function,
        "opset": package.function().opset,
        "specification_version": package.specification_version,
        **features_data(replace(interface, outputs=tuple(outputs))),
        **program_statistics(package),
    }


def pipeline_data(package: Package) -> dict[str, Any]:  # Any: a JSON document
    """What a pipeline declares, and what its models are made of."""
    from metal4conv.mil.pipeline import nested_interface, pipeline_models

    models = [
        pipeline_data(model) if model.is_pipeline else {"kind": "ML Program", **program_data(model)}
        for model in pipeline_models(package)
    ]
    sizes = [model.pop("weight_file_bytes") for model in models]  # all of the same files
    return {
        "kind": f"pipeline of {len(models)} models",
        "specification_version": package.specification_version,
        **features_data(nested_interface(package)),
        "models": models,
        "weight_file_bytes": max(sizes),
    }


def features_data(interface: Interface) -> dict[str, Any]:  # Any: a JSON document
    """Inputs, outputs and states, and the sizes that they may have."""
    return {
        "inputs": [{"name": item.name, "type": feature_text(item)} for item in interface.inputs],
        "outputs": [{"name": item.name, "type": feature_text(item)} for item in interface.outputs],
        "states": [{"name": item.name, "type": str(item.type)} for item in interface.states],
        "dimensions": {name: str(row) for name, row in interface.dimensions.items()},
    }


def feature_text(item: Feature) -> str:
    """A feature's type in words: a tensor's, a picture's layout, or what else it is."""
    optional = ", optional" if item.optional else ""
    if item.kind == "image":
        return f"{item.color} picture, {item.type}{optional}"
    return f"{item.type if item.kind == 'tensor' else item.kind}{optional}"


def inspect_source(
    file: str,
    inputs: Iterable[str],
    dims: Iterable[str],
    *,
    weights: str | None,
    signature: str | None,
    trust: bool,
) -> Report:
    """Interface and operations of a source model; those that cannot be converted are findings."""
    from metal4conv.frontends.source import open_source, parse_options

    options = parse_options(inputs, dims, weights=weights, signature=signature, trust=trust)
    source = open_source(file, options)
    described = source.describe()
    unsupported = described.get("unsupported", [])
    assert isinstance(unsupported, list)
    findings = [
        Finding(
            "warning",
            "operation-not-convertible",
            f"operation {row['operation']} cannot be converted: {row['where']}",
            where=row["where"],
        )
        for row in unsupported
    ]
    data = {
        "file": file,
        "kind": f"{source.framework} {source.kind}",
        "inputs": [{"name": item.name, "type": str(item.type)} for item in source.inputs],
        "outputs": [{"name": name} for name in source.outputs],
        "dimensions": {name: str(row) for name, row in source.dimensions.items()},
        **described,
    }
    return Report("inspect", data, (*source.findings, *findings))


def layout_report(file: str, dims: Iterable[str] = (), function: str | None = None) -> Report:
    """The layout manifest of a package, with numbers for the given dimensions."""
    from metal4conv.layout.findings import layout_findings
    from metal4conv.layout.manifest import layout
    from metal4conv.layout.table import layout_rows

    sizes = dict(parse_number(text) for text in dims)
    manifest = layout(file, sizes, function)
    data = {"layout": manifest.to_json(), "rows": layout_rows(manifest)}
    return Report("layout", data, tuple(layout_findings(manifest)))


def emitted_shader(path: str, language: str) -> str:
    """What `--emit` prints of a shader."""
    from metal4conv.shader.emit import emit_shader
    from metal4conv.shader.manifest import manifest_text, read_manifest

    manifest = read_manifest(path)
    return manifest_text(manifest) if language == "json" else emit_shader(manifest, language)


def emitted_text(report: Report, language: str) -> str:
    """The manifest of a layout report as JSON, or as code in a language of `layout.emit`."""
    import json

    from metal4conv.layout.emit import emit
    from metal4conv.layout.manifest import manifest_from_json

    document = report.data["layout"]
    if language == "json":
        return f"{json.dumps(document, indent=2)}\n"
    return emit(manifest_from_json(document), language)


def parse_number(text: str) -> tuple[str, int]:
    """`h=720` as name and number.

    >>> parse_number("h=720")
    ('h', 720)
    """
    name, equals, size = text.partition("=")
    if not equals or not size.isdigit():
        raise UsageError(
            f'dimension "{text}" cannot be read', where="--dim", hint="write a number: --dim h=720"
        )
    return name, int(size)
