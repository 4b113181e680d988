"""Operations that must stay in float32 because float16's range breaks them or their neighbours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metal4conv.mil.program import Function
from metal4conv.precision.eligible import (
    NEVER,
    constants_of,
    inner_operations,
    overflowing_constant,
)
from metal4conv.precision.measuring import Measured
from metal4conv.precision.probing import Node


def forced_operations(nodes: Sequence[Node], runs: Iterable[Measured]) -> dict[str, str]:
    """The reason by the name of the operation, in the order of the program.

    An operation whose inside is beyond float16 is kept alone. Where a value breaks what takes it
    (an infinity that becomes NaN, a divisor that becomes 0), both ends are kept, and those before
    that hand on values of the kind.
    """
    runs = list(runs)
    makers = makers_of(nodes)
    kept: dict[int, str] = {}
    for run in runs:
        for number, node in enumerate(nodes):
            if node.name in run.inner:
                kept.setdefault(number, run.reasons[node.name])
    for run in runs:
        for number, name in sorted(run.harmful):
            kept.setdefault(number, taker_reason(nodes[number], name, run))
            keep_makers(name, nodes, makers, run, kept)
    return {nodes[number].name: reason for number, reason in sorted(kept.items())}


def constant_reasons(function: Function) -> dict[str, str]:
    """The operations that the converter itself keeps, for a constant such as a mask's."""
    constants = constants_of(function)
    found = {}
    for operation in inner_operations(function.block):
        if operation.type in NEVER:
            continue
        number = overflowing_constant(operation, constants)
        if number is not None:
            found[operation.name] = f"its constant {number:.1e} is beyond float16's 65,504"
    return found


def makers_of(nodes: Sequence[Node]) -> dict[str, int]:
    """The node that gives a value."""
    return {value: number for number, node in enumerate(nodes) for value in node.results}


def keep_makers(
    name: str,
    nodes: Sequence[Node],
    makers: dict[str, int],
    run: Measured,
    kept: dict[int, str],
) -> None:
    """Adds the operation that gives a value, and those before that give values of its kind."""
    waiting, seen = [name], set[str]()
    while waiting:
        value = waiting.pop()
        number = makers.get(value)
        if value in seen or number is None:
            continue
        seen.add(value)
        node = nodes[number]
        if node.eligible:
            reason = run.reasons.get(node.name) or maker_reason(value, run)
            kept.setdefault(number, reason)
        waiting += [item for item in node.activations if is_doubtful(item, run)]


def is_doubtful(name: str, run: Measured) -> bool:
    """Whether float16 holds a value badly."""
    figures = run.values.get(name)
    return figures is not None and (figures.is_beyond or figures.is_tiny)


def taker_reason(node: Node, name: str, run: Measured) -> str:
    """Why an operation that takes a value cannot take it in float16."""
    if reason := run.reasons.get(node.name):
        return reason
    figures = run.values.get(name)
    peak = 0.0 if figures is None else figures.peak
    if figures is not None and figures.is_beyond:
        return f'its input "{name}" reaches {peak:.1e}, beyond float16\'s 65,504'
    return f'rounded to float16, its input "{name}" (up to {peak:.1e}) gives NaN or infinities'


def maker_reason(name: str, run: Measured) -> str:
    """Why an operation must hand a value on in float32."""
    figures = run.values.get(name)
    peak = 0.0 if figures is None else figures.peak
    if figures is not None and figures.is_beyond:
        return f"its result reaches {peak:.1e}, beyond float16's 65,504"
    if figures is not None and figures.is_tiny:
        return f"its result is at most {peak:.1e}, where float16 loses digits"
    return "its result, rounded to float16, breaks what takes it"
