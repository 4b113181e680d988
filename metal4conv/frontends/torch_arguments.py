"""What a node of a PyTorch model passes to its operation, for lowerings of ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Node = Any
"""coremltools' node; coremltools carries no types."""

Context = Any
"""What coremltools knows of the program that it makes."""

Var = Any
"""A variable of a coremltools program."""

Lowering = Callable[[Context, Node], None]
"""Makes the operations of a node, and tells the context what its outputs are."""


class Keywords(dict[str, Any]):
    """Keywords of a node, which remember those that were read."""

    def __init__(self, values: Mapping[str, Any], read: set[str] | None = None) -> None:
        super().__init__(values)
        self.read: set[str] = set() if read is None else read

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        """As a dictionary's."""
        self.read.add(key)
        return super().get(key, default)


def argument(
    context: Context, node: Node, position: int, keyword: str, default: Any = None
) -> Any:  # a variable, a number, or None
    """An argument by its place or its keyword; TorchScript passes all by their place."""
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs, _get_kwinputs

    inputs = _get_inputs(context, node)
    found = inputs[position] if position < len(inputs) else None
    if found is None:
        [found] = _get_kwinputs(context, node, keyword, default=[None])
    return default if found is None else found


def number(context: Context, node: Node, position: int, keyword: str, default: Any = None) -> Any:
    """The value of an argument that is known when the model is converted."""
    found = argument(context, node, position, keyword, default)
    return getattr(found, "val", found)


def passed_on(
    node: Node,
    inputs: list[Any],
    kwinputs: Mapping[str, Any] | None = None,
    kind: str | None = None,
    name: str | None = None,
) -> Node:
    """The node with other inputs, kind or name, for the lowering that coremltools has."""
    from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode

    return InternalTorchIRNode(
        kind=kind or node.kind,
        inputs=inputs,
        outputs=[name] if name else node.outputs,
        # what the other lowering reads counts as read
        kwinputs=Keywords(kwinputs, getattr(node.kwinputs, "read", None)) if kwinputs else None,
        name=name or node.name,
        parent=node.parent,
        attr=node.attr,
        blocks=node.blocks,
        model_hierarchy=node.model_hierarchy,
        meta=node.meta,
    )
