"""Checking a manifest against the JSON Schema that comes with the project, and its formulas."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from metal4conv.errors import DamagedFile, UsageError
from metal4conv.layout.document import (
    Json,
    LayoutManifest,
    TensorLayout,
    manifest_from_json,
    tensor_json,
)
from metal4conv.layout.expression import names, parse
from metal4conv.layout.manifest import dynamic_inputs, tensor_layout
from metal4conv.layout.sizes import is_unknown
from metal4conv.mil.interface import Feature
from metal4conv.mil.program import TensorType

SCHEMA_FILE = Path(__file__).with_name("schema.json")


@cache
def layout_schema() -> Json:
    """The JSON Schema of a layout manifest."""
    schema: Json = json.loads(SCHEMA_FILE.read_text("utf-8"))
    return schema


def check_manifest(document: Json) -> None:
    """`DamagedFile` that says which field is wrong, and what it should be."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(layout_schema()).iter_errors(document))
    if error is not None:
        raise DamagedFile(
            f"the layout manifest does not fit its schema: {error.message}",
            where=error.json_path,
        )
    for place, formula in formulas(document):
        check_formula(place, formula, set(document["dimensions"]))
    check_consistency(manifest_from_json(document))


def check_consistency(manifest: LayoutManifest) -> None:
    """What follows from the types of the inputs and outputs must be what is written."""
    for index, tensor in enumerate(manifest.tensors):
        coreml = tensor.coreml
        feature = Feature(
            tensor.name,
            TensorType(coreml.dtype, coreml.shape),
            coreml.kind,
            enumerated=coreml.enumerated,
        )
        expected = tensor_layout(feature, index, tensor.role, coreml.shape)
        require_equal(tensor.name, tensor_json(tensor), tensor_json(expected) | usage_json(tensor))
    written, count = manifest.max_buffer_bind_count, len(manifest.tensors)
    require_equal("max_buffer_bind_count", {"": written}, {"": count})
    if not manifest.sizes:
        dynamic = {"": dynamic_inputs(manifest.tensors)}
        found = {"": manifest.requires_input_dimensions}
        require_equal("requires_input_dimensions", found, dynamic)


def usage_json(tensor: TensorLayout) -> Json:
    """The usage, which does not follow from the type."""
    return {"usage": list(tensor.usage)}


def require_equal(place: str, found: Json, expected: Json) -> None:
    """`DamagedFile` that names the first field that differs."""
    for field, value in expected.items():
        if found[field] != value:
            raise DamagedFile(
                f"the layout manifest contradicts itself: expected {value}, found {found[field]}",
                where=f"{place}.{field}".rstrip("."),
            )


def formulas(document: Json) -> Iterator[tuple[str, str]]:
    """Each formula of a document that fits the schema, after the place where it stands."""
    for tensor in document["tensors"]:
        buffer = tensor["buffer"] or {"strides": (), "byte_length": 0}
        found: dict[str, Any] = {  # Any: numbers, formulas
            "coreml.shape": tensor["coreml"]["shape"],
            "dimensions": tensor["dimensions"],
            "buffer.strides": buffer["strides"],
            "buffer.byte_length": [buffer["byte_length"]],
            "cpu.strides": tensor["cpu"]["strides"],
        }
        for place, sizes in found.items():
            yield from ((f"{tensor['name']}.{place}", s) for s in sizes if isinstance(s, str))
    costs = {**document["intermediates"], "flops": document["flops"]}
    yield from ((place, size) for place, size in costs.items() if isinstance(size, str))


def check_formula(place: str, formula: str, dimensions: set[str]) -> None:
    """A formula must parse, and have no names but the dimensions."""
    if is_unknown(formula):
        return
    try:
        strangers = [name for name in names(parse(formula)) if name not in dimensions]
    except UsageError as error:
        raise DamagedFile(error.message, where=place) from None
    if strangers:
        raise DamagedFile(
            f'formula "{formula}" names {", ".join(strangers)}, which is no dimension', where=place
        )
