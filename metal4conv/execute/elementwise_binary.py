"""Arithmetic, comparisons and logic on two tensors, with numpy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metal4conv.execute.table import EXACT_OPS, MIL_OPS, ROUNDED_OPS, Operator

Binary = Callable[[Tensor, Tensor], Tensor]


def binary(function: Binary, name: str) -> Operator:
    """An operation with the parameters `x` and `y`."""

    def operator(x: Tensor, y: Tensor) -> Tensor:
        return function(x, y)

    operator.__name__ = name
    operator.__doc__ = f"`{name}` of each pair of elements."
    return operator


ARITHMETIC: dict[str, Binary] = {
    "add": torch.add,
    "mul": torch.mul,
    "sub": torch.sub,
}

COMPARISONS: dict[str, Binary] = {
    "equal": torch.eq,
    "greater": torch.gt,
    "greater_equal": torch.ge,
    "less": torch.lt,
    "less_equal": torch.le,
    "logical_and": torch.logical_and,
    "logical_or": torch.logical_or,
    "logical_xor": torch.logical_xor,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "not_equal": torch.ne,
}

MIL_OPS("pow")(binary(torch.pow, "pow"))
for name, function in ARITHMETIC.items():
    ROUNDED_OPS(name)(binary(function, name))
for name, function in COMPARISONS.items():
    EXACT_OPS(name)(binary(function, name))


@MIL_OPS("floor_div")
def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """`x / y` rounded towards negative infinity, as Python's `//`.

    An integer divided by zero is 0, as in numpy, which folds MIL's constants.
    """
    if y.is_floating_point():
        return torch.div(x, y, rounding_mode="floor")
    is_zero = y == 0
    return torch.div(x, y + is_zero, rounding_mode="floor").masked_fill(is_zero, 0)


@MIL_OPS("mod")
def mod(x: Tensor, y: Tensor) -> Tensor:
    """What is left by `floor_div`, with the sign of `y`; of an integer by zero 0."""
    if y.is_floating_point():
        return torch.remainder(x, y)
    is_zero = y == 0
    return torch.remainder(x, y + is_zero).masked_fill(is_zero, 0)


@ROUNDED_OPS("real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """`x / y`.

    Of two integers it is a double, which holds their quotient; where the program declares an
    integer it is cut towards zero, and infinities become the largest integers.
    """
    if x.is_floating_point() or y.is_floating_point():
        return torch.div(x, y)
    return torch.div(x.double(), y.double())
