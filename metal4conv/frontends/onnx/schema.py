"""What an operator's schema says of the dtypes of its outputs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

import onnx

from metal4conv.frontends.onnx.functions import schema_of
from metal4conv.frontends.onnx.tensors import type_name

Formal = onnx.defs.OpSchema.FormalParameterOption
SPELLING = {"float": "float32", "double": "float64"}


@cache
def formal_types(
    domain: str, name: str, opset: int
) -> tuple[Any, Any, dict[str, list[str]]] | None:
    """The types of an operator's inputs and outputs, and what each type variable may be."""
    schema = schema_of(domain, name, opset)
    if schema is None:
        return None
    allowed = {
        item.type_param_str: list(item.allowed_type_strs) for item in schema.type_constraints
    }
    inputs = [(item.type_str, item.option == Formal.Variadic) for item in schema.inputs]
    outputs = [(item.type_str, item.option == Formal.Variadic) for item in schema.outputs]
    return inputs, outputs, allowed


def result_dtypes(
    node: onnx.NodeProto,
    opset: int,
    given: Sequence[str | None],
    attributes: dict[str, Any],  # Any: attribute values
    count: int,
) -> list[str | None]:
    """The dtypes of a node's outputs; None where the schema leaves them to the lowering."""
    found = formal_types(node.domain, node.op_type, opset)
    if found is None:
        return [None] * count
    inputs, outputs, allowed = found
    bound: dict[str, str] = {}
    for place, dtype in enumerate(given):
        formal, _ = inputs[min(place, len(inputs) - 1)] if inputs else ("", False)
        if dtype:
            bound.setdefault(formal, dtype)
    dtypes = []
    for place in range(count):
        formal, is_variadic = outputs[min(place, len(outputs) - 1)] if outputs else ("", False)
        is_mixed = is_variadic and len(outputs) == 1 and node.op_type in ("If", "Loop", "Scan")
        dtypes.append(None if is_mixed else dtype_of(formal, bound, allowed, attributes))
    return dtypes


def mixed_dtypes(node: onnx.NodeProto, opset: int, given: Sequence[str | None]) -> str:
    """Says which inputs have several dtypes where the operator takes one; empty if none have."""
    found = formal_types(node.domain, node.op_type, opset)
    if found is None or not found[0]:
        return ""
    inputs, _, allowed = found
    uses: dict[str, dict[str, str]] = {}
    for place, dtype in enumerate(given):
        formal, is_variadic = inputs[min(place, len(inputs) - 1)]
        if dtype and formal in allowed and not is_variadic:
            uses.setdefault(formal, {}).setdefault(dtype, node.input[place])
    for dtypes in uses.values():
        if len(dtypes) > 1:
            return ", ".join(f'input "{name}" is {dtype}' for dtype, name in dtypes.items())
    return ""


def dtype_of(
    formal: str,
    bound: dict[str, str],
    allowed: dict[str, list[str]],
    attributes: dict[str, Any],  # Any: attribute values
) -> str | None:
    """The dtype that a formal type stands for."""
    if formal in bound:
        return bound[formal]
    if formal in allowed:
        for key in ("to", "dtype", "output_dtype", "output_datatype"):
            if attributes.get(key):
                return type_name(attributes[key])
        if len(allowed[formal]) != 1:
            return None
        formal = allowed[formal][0]
    match = re.fullmatch(r"tensor\((\w+)\)", formal)
    return SPELLING.get(match[1], match[1]) if match else None
