"""Recurrent modules of exported programs: one node with several outputs, where TorchScript's has
a name for each. coremltools' lowerings know the latter.
"""

from __future__ import annotations

from typing import Any

from metal4conv.frontends.torch_arguments import Context, Lowering, Node, passed_on

OUTPUTS = {
    "lstm": ("sequence", "hidden", "cell"),
    "gru": ("sequence", "hidden"),
    "rnn_tanh": ("sequence", "hidden"),
    "rnn_relu": ("sequence", "hidden"),
}
"""What a recurrent operation gives: the outputs of all steps, and the states after the last."""


def with_several_outputs(original: Lowering, kind: str) -> Lowering:
    """The lowering of a node whose outputs are read by `getitem` nodes."""

    def lower(context: Context, node: Node) -> None:
        names = [f"{node.name}_{output}" for output in OUTPUTS[kind]]
        named = passed_on(node, list(node.inputs), kind=kind)
        named.outputs = names
        original(context, named)
        context.add(tuple(context[name] for name in names), node.name)

    return lower


def register_recurrent(known: dict[str, Any]) -> None:
    """Puts the forms of exported programs in coremltools' table. (Any: functions of theirs.)"""
    for kind in OUTPUTS:
        known[f"{kind}.input"] = with_several_outputs(known[kind], kind)
