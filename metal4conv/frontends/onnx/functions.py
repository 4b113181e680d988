"""Function bodies of operators: those that a model brings, and those of the standard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto

from metal4conv.frontends.onnx.tensors import ONNX_NAMES
from metal4conv.frontends.onnx.value import Value, is_static

ELEMENT_TYPES = {name: number for number, name in ONNX_NAMES.items()}


class Functions:
    """Finds the body for a node."""

    def __init__(self, functions: Sequence[onnx.FunctionProto], folder: Path | None) -> None:
        self.local = {(item.domain, item.name, item.overload): item for item in functions}
        self.folder = folder

    def of_model(self, node: onnx.NodeProto) -> onnx.FunctionProto | None:
        """The function of the model that a node calls."""
        return self.local.get((node.domain, node.op_type, node.overload))

    def of_standard(
        self,
        node: onnx.NodeProto,
        inputs: Sequence[Any],
        opset: int,
        outer: Mapping[str, onnx.AttributeProto],
    ) -> onnx.FunctionProto | None:
        """The body by which ONNX defines an operator, for these inputs."""
        schema = schema_of(node.domain, node.op_type, opset)
        if schema is None:
            return None
        function = onnx.FunctionProto()
        if schema.has_function:
            version = best(schema.function_opset_versions, opset)
            function.ParseFromString(schema.get_function_with_opset_version(version))
            return function
        if not schema.has_context_dependent_function:
            return None
        version = best(schema.context_dependent_function_opset_versions, opset)
        call = onnx.NodeProto()
        call.CopyFrom(node)
        del call.attribute[:]
        call.attribute.extend(resolved_attributes(node, outer).values())
        types = [type_of(item).SerializeToString() for item in inputs]
        text = schema.get_context_dependent_function_with_opset_version(
            version, call.SerializeToString(), types
        )
        if not text:
            return None
        function.ParseFromString(text)
        return function

    def call_attributes(
        self,
        node: onnx.NodeProto,
        function: onnx.FunctionProto,
        outer: Mapping[str, onnx.AttributeProto],
    ) -> dict[str, onnx.AttributeProto]:
        """What the attributes are within a function's body: the call's, else the defaults."""
        defaults = {item.name: item for item in function.attribute_proto}
        if self.of_model(node) is None:
            schema = onnx.defs.get_schema(node.op_type, domain=node.domain)
            for name, attribute in schema.attributes.items():
                if attribute.default_value.type:
                    defaults.setdefault(name, attribute.default_value)
        return {**defaults, **resolved_attributes(node, outer)}


def resolved_attributes(
    node: onnx.NodeProto, outer: Mapping[str, onnx.AttributeProto]
) -> dict[str, onnx.AttributeProto]:
    """A node's attributes, those that refer to the call around it replaced by its."""
    found = {}
    for attribute in node.attribute:
        if not attribute.ref_attr_name:
            found[attribute.name] = attribute
        elif attribute.ref_attr_name in outer:
            copy = onnx.AttributeProto()
            copy.CopyFrom(outer[attribute.ref_attr_name])
            copy.name = attribute.name
            found[attribute.name] = copy
    return found


def schema_of(domain: str, name: str, opset: int) -> Any:
    """The schema of an operator in an opset version; None for an unknown one.

    (Any: an OpSchema, whose function bodies onnx's stubs leave out.)
    """
    try:
        return onnx.defs.get_schema(name, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return None


def best(versions: Sequence[int], opset: int) -> int:
    """The highest version that is not above the model's, else the lowest there is."""
    fitting = [version for version in versions if version <= opset]
    return max(fitting) if fitting else min(versions)


def type_of(value: Any) -> onnx.TypeProto:  # Any: a Value, or None for an input that is left out
    """A value's type in ONNX's words; a dynamic size has no number."""
    if not isinstance(value, Value):
        return onnx.TypeProto()
    shape = [int(size) if is_static((size,)) else None for size in value.shape]
    element = ELEMENT_TYPES.get(value.dtype, TensorProto.UNDEFINED)
    return onnx.helper.make_tensor_type_proto(element, shape)
