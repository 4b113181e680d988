"""Arithmetic on single sizes that keeps fractions of symbolic ones exact.

torch writes `floor(s * 0.5)` as a rounded float product, which equals `s // 2` only to those who
know. Models compute sizes like this, so a `Quotient` remembers which integers it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import SymFloat, SymInt
from torch.fx.experimental.symbolic_shapes import statically_known_true

Number = Any
"""A Python number, or torch's symbolic one."""

LARGEST_DENOMINATOR = 4096
"""Floats with a larger one, such as 0.1, are not meant as fractions."""


class Quotient(SymFloat):
    """A symbolic float that is `numerator / denominator`, of which the latter is positive."""

    def __init__(self, numerator: SymInt, denominator: int) -> None:
        float_value: SymFloat = torch.sym_float(numerator)  # type: ignore[no-untyped-call]
        value = float_value / denominator if denominator != 1 else float_value
        super().__init__(value.node)  # type: ignore[no-untyped-call]
        self.numerator = numerator
        self.denominator = denominator


def quotient(numerator: Number, denominator: int) -> Number:
    """A float from integers, of which the numerator may be symbolic."""
    if not isinstance(numerator, SymInt):
        return numerator / denominator
    return Quotient(numerator, denominator)


def ratio(x: Number) -> tuple[Number, int] | None:
    """A number as numerator and positive denominator, or None if it is no simple fraction."""
    if isinstance(x, Quotient):
        return x.numerator, x.denominator
    if isinstance(x, (int, SymInt)):
        return x, 1
    if isinstance(x, float) and math.isfinite(x):
        top, bottom = x.as_integer_ratio()
        return (top, bottom) if bottom <= LARGEST_DENOMINATOR else None
    return None


def ratios(x: Number, y: Number) -> tuple[tuple[Number, int], tuple[Number, int]] | None:
    """Two numbers as fractions where that is needed: one of them is a fraction of a size."""
    if not any(isinstance(item, (Quotient, SymInt)) for item in (x, y)):
        return None
    if not any(isinstance(item, (Quotient, float)) for item in (x, y)):
        return None
    first, second = ratio(x), ratio(y)
    return None if first is None or second is None else (first, second)


def plus(x: Number, y: Number) -> Number:
    """The sum."""
    if (pair := ratios(x, y)) is None:
        return x + y
    (a, b), (c, d) = pair
    common = math.lcm(b, d)
    return quotient(a * (common // b) + c * (common // d), common)


def negate(x: Number) -> Number:
    """The number with the other sign."""
    return quotient(-x.numerator, x.denominator) if isinstance(x, Quotient) else -x


def multiply(x: Number, y: Number) -> Number:
    """The product."""
    if (pair := ratios(x, y)) is None:
        return x * y
    (a, b), (c, d) = pair
    for number in (a, c):
        if isinstance(number, int) and number:
            shared = math.gcd(number, b * d)
            other = c if number is a else a
            return quotient(number // shared * other, b * d // shared)
    return quotient(a * c, b * d)


def divide(x: Number, y: Number) -> Number:
    """The quotient as a float."""
    first, second = ratio(x), ratio(y)
    if isinstance(x, (SymInt, Quotient)) and first and second and isinstance(second[0], int):
        factor = -second[1] if second[0] < 0 else second[1]
        if second[0] != 0:
            shared = math.gcd(factor, abs(second[0]) * first[1])
            bottom = abs(second[0]) * first[1] // shared
            return quotient(first[0] * (factor // shared), bottom)
    return x / y


def floor(x: Number) -> Number:
    """The largest whole number that is not above, as a float."""
    if isinstance(x, Quotient):
        return quotient(x.numerator // x.denominator, 1)
    return as_float(math.floor(x))


def ceil(x: Number) -> Number:
    """The smallest whole number that is not below, as a float."""
    if isinstance(x, Quotient):
        return quotient((x.numerator + (x.denominator - 1)) // x.denominator, 1)
    return as_float(math.ceil(x))


def round_half_even(x: Number) -> Number:
    """The closest whole number, as a float."""
    if isinstance(x, Quotient) and x.denominator == 1:
        return x
    return as_float(round(x))


def floor_divide(x: Number, y: Number) -> Number:
    """The quotient rounded down; of integers it is one."""
    if isinstance(x, (int, SymInt)) and isinstance(y, (int, SymInt)):
        return x // y
    return floor(divide(x, y))


def remainder(x: Number, y: Number) -> Number:
    """What is left by `floor_divide`, with the sign of `y`."""
    if isinstance(x, Quotient) or isinstance(y, Quotient):
        return plus(x, negate(multiply(y, floor_divide(x, y))))
    return x % y


def maximum(x: Number, y: Number) -> Number:
    """The larger one."""
    return extreme(torch.sym_max, x, y)


def minimum(x: Number, y: Number) -> Number:
    """The smaller one."""
    return extreme(torch.sym_min, x, y)


def extreme(choose: Callable[[Number, Number], Number], x: Number, y: Number) -> Number:
    """What `choose`, torch's maximum or minimum, gives for two numbers."""
    if (pair := ratios(x, y)) is None:
        return choose(x, y)
    (a, b), (c, d) = pair
    common = math.lcm(b, d)
    return quotient(choose(a * (common // b), c * (common // d)), common)


def sign(x: Number) -> Number:
    """-1, 0 or 1; a symbolic number's is decided, by its range if that is enough."""
    number = 1 if x > 0 else -1 if x < 0 else 0
    return number if isinstance(x, (int, SymInt)) else float(number)


def as_float(x: Number) -> Number:
    """The number as a float."""
    if isinstance(x, SymInt):
        return Quotient(x, 1)
    return x if isinstance(x, SymFloat) else float(x)


def as_int(x: Number) -> Number:
    """The number as an integer, cut towards zero."""
    if isinstance(x, torch.SymBool):
        return int(bool(x))
    if isinstance(x, Quotient):
        if x.denominator == 1:
            return x.numerator
        if statically_known_true(x.numerator >= 0):
            return x.numerator // x.denominator
    if isinstance(x, (SymInt, SymFloat)):
        return torch.sym_int(x)  # type: ignore[no-untyped-call]
    return int(x)
