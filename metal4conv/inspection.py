"""What `inspect` and `layout` tell about a package or a source model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from metal4conv.errors import UsageError
from metal4conv.report import Finding, Report


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
    """Interface, operations, weights and costs of a package."""
    from metal4conv.layout.manifest import manifest_of
    from metal4conv.layout.statistics import program_statistics
    from metal4conv.mil.package import read_package
    from metal4conv.mil.program import TensorType

    package = read_package(file)
    interface = package.interface()
    data: dict[str, Any] = {
        "file": file,
        "kind": "package",
        "functions": sorted(package.program.functions),
        "opset": package.function().opset,
        "specification_version": package.specification_version,
        "inputs": [{"name": item.name, "type": str(item.type)} for item in interface.inputs],
        "outputs": [
            {"name": item.name, "type": str(TensorType(item.coreml.dtype, item.coreml.shape))}
            for item in manifest_of(package).outputs
        ],
        "states": [{"name": item.name, "type": str(item.type)} for item in interface.states],
        "dimensions": {name: str(row) for name, row in interface.dimensions.items()},
        **program_statistics(package),
    }
    return Report("inspect", data)


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
