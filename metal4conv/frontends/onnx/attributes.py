"""A node's attributes as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from metal4conv.frontends.onnx.tensors import array_of

Attributes = dict[str, Any]
"""By name: numbers, texts, lists, arrays (tensors), or graphs. (Any: these.)"""


def attributes_of(node: onnx.NodeProto, outer: Mapping[str, onnx.AttributeProto]) -> Attributes:
    """The attributes of a node; `outer` are those of the function call around it."""
    found: Attributes = {}
    for attribute in node.attribute:
        given: onnx.AttributeProto | None = attribute
        if attribute.ref_attr_name:
            given = outer.get(attribute.ref_attr_name)
        if given is not None:
            found[attribute.name] = attribute_value(given)
    return found


def attribute_value(attribute: onnx.AttributeProto) -> Any:  # Any: see Attributes
    """The value of an attribute; bytes are texts, tensors arrays."""
    kind = onnx.AttributeProto
    match attribute.type:
        case kind.STRING:
            return attribute.s.decode("utf-8", "replace")
        case kind.STRINGS:
            return [text.decode("utf-8", "replace") for text in attribute.strings]
        case kind.TENSOR:
            return array_of(attribute.t)
        case kind.TENSORS:
            return [array_of(tensor) for tensor in attribute.tensors]
        case kind.INTS | kind.FLOATS | kind.GRAPHS:
            return list(onnx.helper.get_attribute_value(attribute))
    return onnx.helper.get_attribute_value(attribute)
