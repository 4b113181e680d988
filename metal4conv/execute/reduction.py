"""Operations that reduce one or more axes of a tensor."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from metal4conv.execute.elementwise_unary import converted, dtype_named
from metal4conv.execute.table import EXACT_OPS, MIL_OPS, Ints, Operator

Reduce = Callable[[Tensor, Ints, bool], Tensor]
"""From a tensor, at least one axis, and whether to keep them, to the reduced tensor."""


def reduction(function: Reduce, name: str) -> Operator:
    """An operation with the parameters `x`, `axes` and `keep_dims`."""

    def operator(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        if axes is None:
            axes = tuple(range(x.ndim))
        if not axes:  # torch takes no axes for all
            return converted(function(x.unsqueeze(0), (0,), False), x.dtype)
        return converted(function(x, axes, keep_dims), x.dtype)

    operator.__name__ = name
    operator.__doc__ = (
        f"`{name}` over `axes`, by default all of them.\n\n"
        "Integers give integers: means, roots and logarithms are cut towards zero."
    )
    return operator


def real(x: Tensor) -> Tensor:
    """Integers as doubles, which hold them exactly."""
    return x if x.is_floating_point() else x.double()


def product(x: Tensor, axes: Ints, keep: bool) -> Tensor:
    """Product over several axes, which torch takes one at a time."""
    for axis in sorted((axis % x.ndim for axis in axes), reverse=True):
        x = torch.prod(x, axis, keepdim=keep)
    return x


ARITHMETIC: dict[str, Reduce] = {
    "reduce_l1_norm": lambda x, axes, keep: torch.sum(torch.abs(x), axes, keep),
    "reduce_l2_norm": lambda x, axes, keep: torch.sqrt(
        torch.sum(torch.square(real(x)), axes, keep)
    ),
    "reduce_log_sum": lambda x, axes, keep: torch.log(torch.sum(real(x), axes, keep)),
    "reduce_log_sum_exp": lambda x, axes, keep: torch.logsumexp(real(x), axes, keep),
    "reduce_mean": lambda x, axes, keep: torch.mean(real(x), axes, keep),
    "reduce_prod": product,
    "reduce_sum": lambda x, axes, keep: torch.sum(x, axes, keep),
    "reduce_sum_square": lambda x, axes, keep: torch.sum(torch.square(x), axes, keep),
}

CHOICES: dict[str, Reduce] = {
    "reduce_max": lambda x, axes, keep: torch.amax(x, axes, keep),
    "reduce_min": lambda x, axes, keep: torch.amin(x, axes, keep),
}

for name, function in ARITHMETIC.items():
    MIL_OPS.add(name, reduction(function, name))
for name, function in CHOICES.items():
    EXACT_OPS(name)(reduction(function, name))


@EXACT_OPS("reduce_argmax")
def reduce_argmax(x: Tensor, axis: int = -1, keep_dims: bool = False) -> Tensor:
    """Index of the largest element along `axis`; of equal ones, the first."""
    return torch.argmax(x, axis, keepdim=keep_dims).to(torch.int32)


@EXACT_OPS("reduce_argmin")
def reduce_argmin(x: Tensor, axis: int = -1, keep_dims: bool = False) -> Tensor:
    """Index of the smallest element along `axis`; of equal ones, the first."""
    return torch.argmin(x, axis, keepdim=keep_dims).to(torch.int32)


@EXACT_OPS("reduce_argmax", since=17)
def reduce_argmax_typed(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    """The same, as int32 or uint16."""
    return torch.argmax(x, axis, keepdim=keep_dims).to(dtype_named(output_dtype.lower()))


@EXACT_OPS("reduce_argmin", since=17)
def reduce_argmin_typed(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    """The same, as int32 or uint16."""
    return torch.argmin(x, axis, keepdim=keep_dims).to(dtype_named(output_dtype.lower()))
