"""Why the search put an operation into float32, in words."""

from __future__ import annotations

import math

from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.precision.measuring import Measured
from metal4conv.precision.model import ErrorModel
from metal4conv.precision.probing import Node
from metal4conv.precision.tolerance import Wanted

CANCELS = 16
"""A difference so many times smaller than what it is taken of has lost four binary digits."""

SUMS = ("reduce_mean", "reduce_sum", "reduce_sum_square", "cumsum", "reduce_l2_norm")


def searched_reason(number: int, model: ErrorModel, run: Measured, wanted: Wanted) -> str:
    """What float16 does to an operation's inputs, weights and results, and what that costs."""
    node = model.nodes[number]
    parts = [text for text in (cancelled(node, run), steps(node, run)) if text]
    worst = worst_flow(number, model)
    weight = model.weights[number]
    if weight > max(worst[1], 0.0):
        parts.append(f"rounding its weights alone gives {cost(weight, wanted)}")
    elif worst[1] > 0:
        parts.append(f'rounding "{worst[0]}" alone gives {cost(worst[1], wanted)}')
    return "; ".join(parts) or "it lies between operations that are in float32"


def cancelled(node: Node, run: Measured) -> str | None:
    """A small difference of large numbers."""
    if node.operation.type not in ("sub", "add") or not node.results:
        return None
    given = run.values.get(node.results[0])
    taken = [run.values[name].peak for name in node.activations if name in run.values]
    if given is None or not taken or not given.peak or max(taken) < CANCELS * given.peak:
        return None
    return f"it cancels numbers up to {max(taken):.4g} to at most {given.peak:.3g}"


def steps(node: Node, run: Measured) -> str | None:
    """How coarse float16 is where the operation's values lie."""
    known = [
        (run.values[name].peak, name)
        for name in (*node.results, *node.activations)
        if name in run.values
    ]
    if not known:
        return None
    peak, name = max(known)
    if not 0 < peak <= FLOAT16_MAX:
        return None
    step = 2.0 ** (math.floor(math.log2(peak)) - 10)
    what = "its result" if name in node.results else f'its input "{name}"'
    return f"{what} goes up to {peak:.4g}, where float16 has steps of {step:.2g}"


def worst_flow(number: int, model: ErrorModel) -> tuple[str, float]:
    """The value at a node whose rounding costs most, and what it costs."""
    best = ("", 0.0)
    for name in sorted(model.touched[number]):
        flow = model.flows[name]
        if flow.maker == number:
            error = flow.total
        else:
            error = sum(edge.error for edge in flow.edges if edge.node == number)
        if error > best[1]:
            best = (name, error)
    return best


def cost(error: float, wanted: Wanted) -> str:
    """An estimated error in the words of the tolerance.

    >>> cost(10.0, Wanted(50.0)), cost(4.0, Wanted(None, atol=0.1))
    ('PSNR 40 dB', '4 times the allowed error')
    """
    if error >= 1e9:
        return "no usable result"
    if wanted.min_psnr is not None:
        return f"PSNR {wanted.min_psnr - 10 * math.log10(error):.0f} dB"
    return f"{error:.2g} times the allowed error"
