"""Strings among the arguments of an exported program's operations are no names of its nodes.

coremltools looks up each string in the program first. In a model that calls torch.floor, the node
"floor" would be taken for the rounding mode "floor" of a division, which then does not round.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.fx.node import map_aggregate

from metal4conv.frontends.torch_arguments import Context


class Literal(str):
    """A string that the model passes to an operation."""

    __slots__ = ()


@contextmanager
def strings_apart_from_names() -> Iterator[None]:
    """Within it, coremltools tells a string from the name of a node."""
    from coremltools.converters.mil.frontend.torch import ops
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode

    read, bind = InternalTorchIRNode.from_exir_node, ops._get_bindings

    def from_exir_node(node: Any) -> Any:  # torch.fx's node, coremltools' node
        args, kwargs = node.args, node.kwargs
        node.args, node.kwargs = map_aggregate(args, marked), map_aggregate(kwargs, marked)
        try:
            return read(node)
        finally:
            node.args, node.kwargs = args, kwargs

    def get_bindings(context: Context, names: Any) -> list[Any]:
        return [
            str(name) if isinstance(name, Literal) else bind(context, [name])[0] for name in names
        ]

    InternalTorchIRNode.from_exir_node, ops._get_bindings = from_exir_node, get_bindings
    try:
        yield
    finally:
        InternalTorchIRNode.from_exir_node = read
        ops._get_bindings = bind


def marked(value: Any) -> Any:  # whatever an operation takes
    """Strings as literals, all else as it is."""
    return Literal(value) if isinstance(value, str) else value
