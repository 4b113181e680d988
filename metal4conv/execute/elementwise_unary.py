"""Operations on each element of one tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metal4conv.errors import UnsupportedModel, did_you_mean
from metal4conv.execute.table import EXACT_OPS, MIL_OPS, ROUNDED_OPS, Operator

CAST_DTYPES = {
    "bool": torch.bool,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp64": torch.float64,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
}
"""`cast`'s own names of element types."""


def elementwise(function: Callable[[Tensor], Tensor], name: str) -> Operator:
    """An operation with the single parameter `x`."""

    def operator(x: Tensor) -> Tensor:
        return function(x)

    operator.__name__ = name
    operator.__doc__ = f"`{name}` of each element."
    return operator


for name, function in {
    "acos": torch.acos,
    "asin": torch.asin,
    "atan": torch.atan,
    "atanh": torch.atanh,
    "cosh": torch.cosh,
    "erf": torch.erf,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "square": torch.square,
    "tan": torch.tan,
}.items():
    MIL_OPS.add(name, elementwise(function, name))

for name, function in {"cos": torch.cos, "exp": torch.exp, "tanh": torch.tanh}.items():
    ROUNDED_OPS(name)(elementwise(function, name))

for name, function in {
    "abs": torch.abs,
    "ceil": torch.ceil,
    "floor": torch.floor,
    "logical_not": torch.logical_not,
    "round": torch.round,  # halves to even
}.items():
    EXACT_OPS(name)(elementwise(function, name))


@MIL_OPS("exp2")
def exp2(x: Tensor) -> Tensor:
    """2 to the power of each element; of an integer below 0 nothing is left."""
    if x.is_floating_point():
        return torch.exp2(x)
    powers = torch.ones_like(x, dtype=torch.int64) << x.clamp(0, 62)
    return torch.where(x < 0, 0, powers).double()


@EXACT_OPS("sign")
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1 for each element; NaN stays NaN, which torch alone would make 0."""
    return torch.where(torch.isnan(x), x, torch.sign(x))


@MIL_OPS("clip")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Each element within `alpha` and `beta`; `beta` wins where they cross."""
    return torch.clamp(x, alpha, beta)


@MIL_OPS("threshold")
def threshold(x: Tensor, alpha: float) -> Tensor:
    """Each element, or `alpha` where that is larger."""
    return torch.clamp(x, min=alpha)


@MIL_OPS("inverse")
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """`1 / (x + epsilon)`."""
    return torch.reciprocal(x + epsilon)


@MIL_OPS("log")
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """Natural logarithm of `x + epsilon`."""
    return torch.log(x + epsilon)


@MIL_OPS("rsqrt")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """`1 / sqrt(x + epsilon)`."""
    return torch.reciprocal(torch.sqrt(x + epsilon))


@MIL_OPS("cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    """The elements as another type.

    From float to integer they are cut towards zero; what is out of range becomes the closest
    integer and NaN becomes 0, as on Apple silicon. Between integers they wrap around.
    """
    return converted(x, dtype_named(dtype))


def dtype_named(name: str) -> torch.dtype:
    """The dtype that an operation's parameter names."""
    if name not in CAST_DTYPES:
        raise UnsupportedModel(
            f'the dtype "{name}" is not known', hint=did_you_mean(name, CAST_DTYPES)
        )
    return CAST_DTYPES[name]


def converted(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The elements as another type, by the rules of `cast`.

    >>> converted(torch.tensor([-1.5, 3e9, torch.nan]), torch.int32).tolist()
    [-1, 2147483647, 0]
    """
    if not x.is_floating_point() or dtype.is_floating_point or dtype == torch.bool:
        return x.to(dtype)
    limits = torch.iinfo(dtype)
    if dtype in (torch.int64, torch.uint64):  # their limits are no doubles
        top = 2.0**63 - 2.0**10
        return torch.nan_to_num(x.double(), nan=0.0).clamp(max(-top, limits.min), top).to(dtype)
    within = torch.clamp(torch.nan_to_num(x.double(), nan=0.0), limits.min, limits.max)
    return within.to(torch.int64).to(dtype)
