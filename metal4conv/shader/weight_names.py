"""Which constants a network has, in order of use, and which table is which layer's bias."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Expression,
    Linear,
    Network,
    Reduce,
    Table,
    Vector,
    expressions,
    leaves,
)

Weighted = Linear | Convolution
"""What has a weight."""


def weighted_steps(network: Network) -> Iterator[Weighted | Assign | Reduce]:
    """The convolutions and steps of all passes, in the order in which they run."""
    for one in network.passes:
        if one.convolution is not None:
            yield one.convolution
        yield from one.program.steps


def tables_of(step: Assign | Reduce) -> Iterator[Table]:
    """The tables of a step, from left to right."""
    for expression in expressions(step):
        yield from (leaf for leaf in leaves(expression) if isinstance(leaf, Table))


def biases_of(network: Network) -> dict[Table, tuple[int, str]]:
    """The tables that are added to a layer's result: the layer's number and label.

    A layer has one at most; a table that is added to several layers belongs to the first one.
    """
    found: dict[Table, tuple[int, str]] = {}
    layer = 0
    for one in network.passes:
        layers: dict[Vector, tuple[int, str]] = {}
        for step in (one.convolution, *one.program.steps):
            if isinstance(step, Linear | Convolution):
                layers[step.result] = (layer, step.label)
                layer += 1
            elif step is not None:
                for expression in expressions(step):
                    note_biases(expression, layers, found)
    return found


def note_biases(
    expression: Expression,
    layers: Mapping[Vector, tuple[int, str]],
    found: dict[Table, tuple[int, str]],
) -> None:
    """Enters the tables of an expression that are added to a layer's result."""
    if not isinstance(expression, Call):
        return
    for argument in expression.arguments:
        note_biases(argument, layers, found)
    if expression.function != "add":
        return
    first, second = expression.arguments
    for table, other in ((first, second), (second, first)):
        if not isinstance(table, Table) or table in found:
            continue
        elements = (leaf for leaf in leaves(other) if isinstance(leaf, Element))
        owners = [layers[leaf.vector] for leaf in elements if leaf.vector in layers]
        free = [owner for owner in owners if owner not in found.values()]
        if free:
            found[table] = free[-1]
