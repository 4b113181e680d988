"""Arithmetic of intervals that hold whatever a shader may compute, rounding included.

A shader computes in float32, and its functions err by a few units in the last place: `ULPS`. The
order of sums is free. Bounds are computed in float64, whose own rounding is far below that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metal4conv.shader.element_functions import ELEMENT_FUNCTIONS

UNIT = 2.0**-24
"""The most that rounding to float32 changes a number by, relative to it."""

SMALLEST = 1.2e-38
"""What becomes zero where small float32 numbers are flushed to it."""


@dataclass(frozen=True, eq=False)
class Interval:
    """The least and the largest value of each element; infinite where it may be anything."""

    low: np.ndarray
    high: np.ndarray

    def pick(self, places: np.ndarray | int) -> Interval:
        """The elements at places of the last axis."""
        return Interval(self.low[..., places], self.high[..., places])

    @property
    def largest(self) -> np.ndarray:
        """The largest absolute value."""
        return np.asarray(np.maximum(np.abs(self.low), np.abs(self.high)))


def exactly(values: np.ndarray) -> Interval:
    """Values that are known."""
    return Interval(values, values)


def as_written(values: np.ndarray) -> Interval:
    """Numbers that stand in a source as float32.

    >>> [bool(item.low[0] < item.high[0]) for item in map(as_written, np.array([[0.5], [0.7]]))]
    [False, True]
    """
    rounded = values.astype(np.float32).astype(np.float64)
    return Interval(np.minimum(values, rounded), np.maximum(values, rounded))


def bounded(low: np.ndarray, high: np.ndarray) -> Interval:
    """An interval; where a bound is no number, of everything."""
    unknown = np.isnan(low) | np.isnan(high)
    return Interval(np.where(unknown, -np.inf, low), np.where(unknown, np.inf, high))


def widened(interval: Interval, ulps: float) -> Interval:
    """An interval with what rounding may add to it."""
    slack = ulps * UNIT * interval.largest + (SMALLEST if ulps else 0.0)
    return bounded(interval.low - slack, interval.high + slack)


def as_half(interval: Interval) -> Interval:
    """The numbers rounded to float16, which keeps their order."""
    with np.errstate(over="ignore"):
        low = interval.low.astype(np.float16).astype(np.float64)
        high = interval.high.astype(np.float16).astype(np.float64)
    is_finite = np.isfinite(low) & np.isfinite(high)
    return bounded(np.where(is_finite, low, np.nan), high)


def matrix_product(
    product: Callable[[np.ndarray, np.ndarray], np.ndarray],
    operand: Interval,
    weight: np.ndarray,
    terms: int,
) -> Interval:
    """Sums of `terms` products in any order; `product` multiplies by a matrix or its likes."""
    middle = (operand.low + operand.high) / 2
    radius = (operand.high - operand.low) / 2
    is_known = np.isfinite(middle) & np.isfinite(radius)
    middle, spread = np.where(is_known, middle, 0), np.where(is_known, radius, 0)
    centre = product(middle, weight)
    rounding = (terms + 1) * UNIT * product(np.abs(middle) + spread, np.abs(weight))
    width = product(spread, np.abs(weight)) + rounding
    is_lost = product((~is_known).astype(np.float64), np.ones_like(weight)) > 0
    return bounded(np.where(is_lost, np.nan, centre - width), centre + width)


def reduced(operation: str, terms: Interval) -> Interval:
    """A reduction over the last axis, in any order."""
    count = terms.low.shape[-1]
    match operation:
        case "sum":
            low, high = terms.low.sum(axis=-1), terms.high.sum(axis=-1)
            slack = count * UNIT * terms.largest.sum(axis=-1) + SMALLEST
            floor = np.where((terms.low >= 0).all(axis=-1), 0.0, -np.inf)
            return bounded(np.maximum(low - slack, floor), high + slack)
        case "minimum":
            return bounded(terms.low.min(axis=-1), terms.high.min(axis=-1))
        case "maximum":
            return bounded(terms.low.max(axis=-1), terms.high.max(axis=-1))
    found = terms.pick(0)
    for place in range(1, count):
        found = widened(corners(np.multiply, found, terms.pick(place)), 1)
    return found


def applied(function: str, arguments: Sequence[Interval], *, is_square: bool = False) -> Interval:
    """A function of elements; `is_square` says that a product is of one value with itself."""
    with np.errstate(all="ignore"):
        if is_square:
            smaller = np.where(
                (arguments[0].low <= 0) & (arguments[0].high >= 0),
                0.0,
                np.minimum(np.abs(arguments[0].low), np.abs(arguments[0].high)),
            )
            found = widened(bounded(smaller**2, arguments[0].largest ** 2), 1)
            return Interval(np.maximum(found.low, 0), found.high)
        special = RANGES.get(function)
        found = special(*arguments) if special else monotone(function, *arguments)
        return widened(found, ULPS.get(function, FUNCTION_ULPS))


FUNCTION_ULPS = 16.0
"""Of functions that are not in `ULPS`. Metal's own are within 4 or so where they are `precise`,
those that generated source has for what Metal lacks within some 1e-6."""

ULPS: Mapping[str, float] = {
    **dict.fromkeys(
        (
            "abs", "ceil", "floor", "negate", "round", "sign", "truncate", "relu", "minimum",
            "maximum", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
            "logical_and", "logical_or", "logical_xor", "logical_not", "select", "clamp",
        ),
        0.0,
    ),
    **dict.fromkeys(("add", "subtract", "multiply", "leaky_relu"), 1.0),
    **dict.fromkeys(("divide", "reciprocal", "sqrt", "rsqrt", "softsign"), 6.0),
    "power": 64.0,
}  # fmt: skip
"""How far a function's result may be off, in `UNIT`s of it; of those of comparisons not at all."""


def monotone(function: str, *arguments: Interval) -> Interval:
    """A function that rises or falls over the whole of each argument."""
    return corners(ELEMENT_FUNCTIONS[function], *arguments)


def corners(function: Callable[..., np.ndarray], *arguments: Interval) -> Interval:
    """The least and the largest value at the ends of the arguments' intervals."""
    ends: list[tuple[np.ndarray, ...]] = [()]
    for argument in arguments:
        ends = [(*end, value) for end in ends for value in (argument.low, argument.high)]
    found = [np.asarray(function(*end), np.float64) for end in ends]
    low, high = found[0], found[0]
    for values in found[1:]:
        low, high = np.minimum(low, values), np.maximum(high, values)
    return bounded(low, high)


def wave(maximum_at: float) -> Callable[[Interval], Interval]:
    """sin or cos: 1 at `maximum_at` and every full turn from there."""

    def found(x: Interval) -> Interval:
        function = np.cos if maximum_at == 0 else np.sin
        ends = corners(function, x)
        tops = reaches(x, maximum_at)
        bottoms = reaches(x, maximum_at + math.pi)
        # near a zero the error is that of the argument, which float32 has reduced
        return bounded(
            np.where(bottoms, -1.0, ends.low) - 4 * UNIT, np.where(tops, 1.0, ends.high) + 4 * UNIT
        )

    return found


def reaches(x: Interval, place: float) -> np.ndarray:
    """Whether an interval holds `place`, or any full turn from it."""
    turn = 2 * math.pi
    return np.asarray(np.floor((x.high - place) / turn) >= np.ceil((x.low - place) / turn))


def valley(function: str, place: float) -> Callable[[Interval], Interval]:
    """A function that falls up to `place` and rises from there."""

    def found(x: Interval) -> Interval:
        ends = monotone(function, x)
        bottom = ELEMENT_FUNCTIONS[function](np.array(place))
        is_within = (x.low <= place) & (x.high >= place)
        return bounded(np.where(is_within, np.minimum(bottom, ends.low), ends.low), ends.high)

    return found


def kinked(function: str) -> Callable[..., Interval]:
    """A function that may fall on one side of 0, where it is 0."""

    def found(x: Interval, parameter: Interval) -> Interval:
        ends = monotone(function, x, parameter)
        crosses = (x.low < 0) & (x.high > 0)
        return bounded(
            np.where(crosses, np.minimum(ends.low, 0), ends.low),
            np.where(crosses, np.maximum(ends.high, 0), ends.high),
        )

    return found


def without_zero(divisor: Interval, result: Interval) -> Interval:
    """A quotient, which may be anything where the divisor may be zero."""
    is_zero = (divisor.low <= 0) & (divisor.high >= 0)
    return bounded(np.where(is_zero, np.nan, result.low), result.high)


def quotient(function: str) -> Callable[..., Interval]:
    """A function whose last argument divides."""

    def found(*arguments: Interval) -> Interval:
        return without_zero(arguments[-1], monotone(function, *arguments))

    return found


def tangent(x: Interval) -> Interval:
    """tan, which is infinite twice a turn."""
    poles = reaches(x, math.pi / 2) | reaches(x, -math.pi / 2)
    ends = monotone("tan", x)
    return bounded(np.where(poles, np.nan, ends.low), ends.high)


def compared(function: str) -> Callable[..., Interval]:
    """A comparison: 0 or 1, or either where the intervals overlap."""

    def found(x: Interval, y: Interval) -> Interval:
        decide = ELEMENT_FUNCTIONS[function]
        if function in ("equal", "not_equal"):
            is_point = (x.low == x.high) & (y.low == y.high)
            apart = (x.high < y.low) | (y.high < x.low)
            certain = np.where(is_point, decide(x.low, y.low), function == "not_equal")
            is_open = ~is_point & ~apart
            return bounded(np.where(is_open, 0.0, certain), np.where(is_open, 1.0, certain))
        first, second = decide(x.low, y.high), decide(x.high, y.low)
        return bounded(np.minimum(first, second) * 1.0, np.maximum(first, second) * 1.0)

    return found


def truth(x: Interval) -> Interval:
    """Whether a number is not 0: 0, 1, or either."""
    may_be_zero = (x.low <= 0) & (x.high >= 0)
    is_zero = (x.low == 0) & (x.high == 0)
    return Interval(np.where(may_be_zero, 0.0, 1.0), np.where(is_zero, 0.0, 1.0))


def logical(function: str) -> Callable[..., Interval]:
    """A function of truths."""
    return lambda *arguments: monotone(function, *map(truth, arguments))


def select(condition: Interval, then: Interval, otherwise: Interval) -> Interval:
    """One of two, or what holds both."""
    decided = truth(condition)
    low = np.where(
        decided.low > 0,
        then.low,
        np.where(decided.high == 0, otherwise.low, np.minimum(then.low, otherwise.low)),
    )
    high = np.where(
        decided.low > 0,
        then.high,
        np.where(decided.high == 0, otherwise.high, np.maximum(then.high, otherwise.high)),
    )
    return bounded(low, high)


def modulo(x: Interval, y: Interval) -> Interval:
    """What a division leaves, which jumps where the quotient does."""
    whole = monotone("floor_divide", x, y)
    ends = monotone("modulo", x, y)
    jumps = whole.low != whole.high
    low = np.where(jumps, np.minimum(y.low, 0), ends.low)
    high = np.where(jumps, np.maximum(y.high, 0), ends.high)
    slack = 4 * UNIT * x.largest
    return without_zero(y, bounded(low - slack, high + slack))


def power(x: Interval, y: Interval) -> Interval:
    """A power; of a base that may be negative only whole constant exponents are known."""
    ends = monotone("power", x, y)
    is_even = (y.low == y.high) & (np.mod(y.low, 2) == 0) & (y.low > 0)
    crosses = (x.low < 0) & (x.high > 0)
    low = np.where(is_even & crosses, 0.0, ends.low)
    is_odd = (y.low == y.high) & (np.mod(y.low, 2) == 1) & (y.low > 0)
    is_unknown = (x.low < 0) & ~is_even & ~is_odd | ((x.low <= 0) & (x.high >= 0) & (y.low < 0))
    return bounded(np.where(is_unknown, np.nan, low), ends.high)


RANGES: Mapping[str, Callable[..., Interval]] = {
    "sin": wave(math.pi / 2),
    "cos": wave(0.0),
    "tan": tangent,
    "abs": valley("abs", 0.0),
    "cosh": valley("cosh", 0.0),
    "gelu": valley("gelu", -0.75179152),
    "gelu_tanh": valley("gelu_tanh", -0.75246142),
    "gelu_sigmoid": valley("gelu_sigmoid", -0.75115425),
    "silu": valley("silu", -1.27846451),
    "leaky_relu": kinked("leaky_relu"),
    "elu": kinked("elu"),
    "reciprocal": quotient("reciprocal"),
    "divide": quotient("divide"),
    "floor_divide": quotient("floor_divide"),
    "modulo": modulo,
    "power": power,
    "select": select,
    **{
        name: compared(name)
        for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
    },
    **{name: logical(name) for name in ("logical_and", "logical_or", "logical_xor", "logical_not")},
}
"""The functions that are not monotone in each argument, or not everywhere."""
