"""What stands within an ONNX graph: its values, where an exporter says that they come from."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import onnx

from metal4conv.frontends.onnx.folding import GROWING, NEVER
from metal4conv.frontends.onnx.graph import Scope
from metal4conv.frontends.onnx.table import qualified_name
from metal4conv.frontends.onnx.value import Value
from metal4conv.frontends.provenance import Held
from metal4conv.frontends.stack_traces import line_of_trace
from metal4conv.mil.correspondence import SourceValue

STACK_TRACE = "pkg.torch.onnx.stack_trace"
SCOPES = "pkg.torch.onnx.name_scopes"
"""Metadata that PyTorch's newer exporter writes for each node."""


def graph_values(graph: onnx.GraphProto) -> tuple[SourceValue, ...]:
    """The outputs of the graph's nodes in their order; those of subgraphs are left out, and so is
    what only depends on constants: it is none of the package's operations.
    """
    constants = {tensor.name for tensor in graph.initializer}
    found = []
    for node in graph.node:
        if is_folded(node, constants):
            constants.update(node.output)
        else:
            found += [value_of_node(node, name) for name in node.output if name]
    return tuple(found)


def is_folded(node: onnx.NodeProto, constants: Collection[str]) -> bool:
    """Whether a node becomes a constant when its inputs are among `constants`."""
    if node.op_type == "Constant":
        return True
    may_stay = node.op_type in NEVER or node.op_type in GROWING
    return not may_stay and bool(node.input) and all(name in constants for name in node.input)


def value_of_node(node: onnx.NodeProto, name: str) -> SourceValue:
    """An output of a node with the module and the line of code that an exporter noted."""
    noted = {item.key: item.value for item in node.metadata_props}
    line, code = line_of_trace(noted.get(STACK_TRACE, ""))
    operator = qualified_name(node.domain, node.op_type)
    return SourceValue(name, operator, module_of(node, noted), line, code)


def module_of(node: onnx.NodeProto, noted: Mapping[str, str]) -> str | None:
    """The module or the layer of a node: what an exporter noted, else the path in its name.

    >>> module_of(onnx.NodeProto(name="/down/conv_1/Conv"), {})
    'down/conv_1'
    >>> module_of(onnx.NodeProto(name="node_conv"), {SCOPES: "['', 'down.1', 'conv2d']"})
    'down.1'
    """
    if scopes := re.findall(r"'([^']*)'", noted.get(SCOPES, "")):
        return next(filter(None, reversed(scopes[:-1])), None)
    return node.name.strip("/").rpartition("/")[0] or None


def held_values(graph: onnx.GraphProto, scope: Scope) -> list[Held]:
    """Which variables hold which of the graph's values, once it is lowered into `scope`."""
    values = [
        (scope.values[name], name)
        for node in graph.node
        for name in node.output
        if name in scope.values
    ]
    return [
        (value.var, name)
        for value, name in values
        if isinstance(value, Value) and value.var is not None
    ]
