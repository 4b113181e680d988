"""Arithmetic on single sizes that keeps fractions of symbolic ones exact.

torch writes `floor(s * 0.5)` as a rounded float product, which equals `s // 2` only to those who
know. Models compute sizes like this, so a `Quotient` remembers which integers it is made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
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
    if y == 0:
        return math.nan if x == 0 or x != x else math.copysign(math.inf, x) * math.copysign(1, y)
    return x / y


def power(x: Number, y: Number) -> Number:
    """`x` to the power of `y`; of integers it is one, cut towards zero."""
    if isinstance(x, (SymInt, SymFloat)) or isinstance(y, (SymInt, SymFloat)):
        return x**y
    if isinstance(x, int) and isinstance(y, int):
        if y < 0:
            return {1: 1, -1: -1 if y % 2 else 1}.get(x, 0)
        # the lowest 64 bits are enough for every type, and a hostile exponent costs no memory
        return pow(x, y, 2**64) if x >= 0 else (-1) ** (y % 2) * pow(-x, y, 2**64)
    with np.errstate(all="ignore"):
        return float(np.float_power(x, y))


def floor(x: Number) -> Number:
    """The largest whole number that is not above, as a float."""
    if isinstance(x, Quotient):
        return quotient(x.numerator // x.denominator, 1)
    return as_float(math.floor(x)) if is_finite(x) else x


def ceil(x: Number) -> Number:
    """The smallest whole number that is not below, as a float."""
    if isinstance(x, Quotient):
        return quotient((x.numerator + (x.denominator - 1)) // x.denominator, 1)
    return as_float(math.ceil(x)) if is_finite(x) else x


def is_finite(x: Number) -> bool:
    """Whether a number is neither infinite nor NaN; a symbolic one is taken to be."""
    return not isinstance(x, float) or math.isfinite(x)


def round_half_even(x: Number) -> Number:
    """The closest whole number, as a float."""
    if isinstance(x, Quotient) and x.denominator == 1:
        return x
    return as_float(round(x)) if is_finite(x) else x


def floor_divide(x: Number, y: Number) -> Number:
    """The quotient rounded down; of integers it is one, and 0 where the divisor is 0."""
    if isinstance(x, (int, SymInt)) and isinstance(y, (int, SymInt)):
        return 0 if isinstance(y, int) and y == 0 else x // y
    return floor(divide(x, y))


def remainder(x: Number, y: Number) -> Number:
    """What is left by `floor_divide`, with the sign of `y`."""
    if isinstance(x, Quotient) or isinstance(y, Quotient):
        return plus(x, negate(multiply(y, floor_divide(x, y))))
    if isinstance(y, (int, float)) and y == 0:
        return math.nan if isinstance(x, float) or isinstance(y, float) else 0
    return x % y if is_finite(x) else math.nan


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
    if x != x:
        return x
    number = 1 if x > 0 else -1 if x < 0 else 0
    return number if isinstance(x, (int, SymInt)) else float(number)


def saturated(x: float, dtype: str) -> int:
    """A float as an integer of a type such as "int8": cut off, or the closest one; NaN is 0.

    >>> saturated(-2.5, "int8"), saturated(math.inf, "uint8"), saturated(math.nan, "int32")
    (-2, 255, 0)
    """
    low, high = limits(dtype)
    if math.isnan(x):
        return 0
    return int(min(max(x, low), high))


def wrapped(x: int, dtype: str) -> int:
    """An integer's lowest bits as one of a type such as "int8".

    >>> wrapped(300, "uint8"), wrapped(2**31, "int32"), wrapped(-7, "int32")
    (44, -2147483648, -7)
    """
    low, high = limits(dtype)
    return x if low <= x <= high else (x - low) % (high - low + 1) + low


def limits(dtype: str) -> tuple[int, int]:
    """The smallest and the largest integer of a type.

    >>> limits("int8"), limits("uint4")
    ((-128, 127), (0, 15))
    """
    bits = int(dtype.lstrip("uint"))
    return (0, 2**bits - 1) if dtype.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


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
