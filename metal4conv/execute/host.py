"""The same operations on sizes: small numpy arrays of Python numbers or torch's symbolic ones.

Arithmetic on sizes happens here rather than in tensors, so that a symbolic size stays a formula.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metal4conv.execute import tensor_operation
from metal4conv.execute.host_numbers import (
    as_float,
    as_int,
    ceil,
    divide,
    floor,
    floor_divide,
    maximum,
    minimum,
    multiply,
    negate,
    plus,
    power,
    remainder,
    round_half_even,
    saturated,
    sign,
)
from metal4conv.execute.marshal import HOST_ELEMENTS, to_tensor
from metal4conv.execute.table import HOST_OPS, Bools, Ints, Operator

Sizes = np.ndarray[Any, np.dtype[np.object_]]
"""Python numbers, or torch.SymInt and its kin."""

Number = Any
"""An element of `Sizes`. (Any: int, float, bool, or a symbolic one.)"""


def array_of(value: Any) -> Sizes:
    """A result of numpy, which is a bare element where it has rank 0, as an array."""
    if isinstance(value, np.ndarray):
        return value.astype(object, copy=False)
    array = np.empty((), dtype=object)
    array[()] = value
    return array


def vector(items: list[Number]) -> Sizes:
    """An array of rank 1."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def unary(function: Callable[[Number], Number], name: str) -> Operator:
    """An operation with the single parameter `x`."""

    def host_operator(x: Sizes) -> Sizes:
        return array_of(np.frompyfunc(function, 1, 1)(x))

    host_operator.__name__ = name
    host_operator.__doc__ = f"`{name}` of each element."
    return host_operator


def binary(function: Callable[[Number, Number], Number], name: str) -> Operator:
    """An operation with the parameters `x` and `y`, with numpy's broadcasting."""

    def host_operator(x: Sizes, y: Sizes) -> Sizes:
        return array_of(np.frompyfunc(function, 2, 1)(x, y))

    host_operator.__name__ = name
    host_operator.__doc__ = f"`{name}` of each pair of elements."
    return host_operator


def both(x: Number, y: Number) -> Number:
    """Whether both hold; only two symbolic claims make a symbolic one."""
    if isinstance(x, bool):
        return y if x else False
    if isinstance(y, bool):
        return x if y else False
    return x & y


def opposite(x: Number) -> Number:
    """The claim denied."""
    if isinstance(x, bool):
        return not x
    return torch.sym_not(x)  # type: ignore[no-untyped-call]


def either(x: Number, y: Number) -> Number:
    """Whether one holds, or both."""
    return opposite(both(opposite(x), opposite(y)))


def one_only(x: Number, y: Number) -> Number:
    """Whether exactly one holds."""
    return either(both(x, opposite(y)), both(opposite(x), y))


UNARY: dict[str, Callable[[Number], Number]] = {
    "abs": lambda x: maximum(x, negate(x)),
    "ceil": ceil,
    "floor": floor,
    "identity": lambda x: x,
    "logical_not": opposite,
    "round": round_half_even,
    "sign": sign,
    "square": lambda x: multiply(x, x),
}

BINARY: dict[str, Callable[[Number, Number], Number]] = {
    "add": plus,
    "equal": operator.eq,
    "floor_div": floor_divide,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "less": operator.lt,
    "less_equal": operator.le,
    "logical_and": both,
    "logical_or": either,
    "logical_xor": one_only,
    "maximum": maximum,
    "minimum": minimum,
    "mod": remainder,
    "mul": multiply,
    "not_equal": operator.ne,
    "pow": power,
    "real_div": divide,
    "sub": lambda x, y: plus(x, negate(y)),
}

for name, unary_function in UNARY.items():
    HOST_OPS.add(name, unary(unary_function, name))
for name, binary_function in BINARY.items():
    HOST_OPS.add(name, binary(binary_function, name))


@HOST_OPS("shape")
def shape(x: Tensor) -> Sizes:
    """The tensor's shape as a vector."""
    return vector(list(x.shape))


@HOST_OPS("cast")
def cast(x: Sizes, dtype: str) -> Sizes:
    """The elements as another type; from float to integer they are cut towards zero."""
    if dtype == "bool":
        return array_of(np.frompyfunc(lambda item: item != 0, 1, 1)(x))

    def convert(item: Number) -> Number:
        if dtype.startswith("fp"):
            return as_float(item)
        return saturated(item, dtype) if isinstance(item, float) else as_int(item)

    return array_of(np.frompyfunc(convert, 1, 1)(x))


@HOST_OPS("clip")
def clip(x: Sizes, alpha: float, beta: float) -> Sizes:
    """Each element within `alpha` and `beta`."""
    return array_of(np.frompyfunc(lambda item: minimum(maximum(item, alpha), beta), 1, 1)(x))


@HOST_OPS("select")
def select(cond: Sizes, a: Sizes, b: Sizes) -> Sizes:
    """Elements of `a` where the condition holds, of `b` elsewhere.

    A symbolic condition is decided, by its range if that is enough.
    """
    return array_of(np.frompyfunc(lambda c, x, y: x if c else y, 3, 1)(cond, a, b))


@HOST_OPS("gather")
def gather(x: Sizes, indices: Sizes, axis: int = 0) -> Sizes:
    """Slices of `x` along `axis`; negative indices count from the end."""
    return array_of(np.take(x, indices.astype(np.int64), axis))


@HOST_OPS("gather", since=16)
def gather_batched(x: Sizes, indices: Sizes, axis: int = 0, batch_dims: int = 0) -> Sizes:
    """The same, where the first `batch_dims` axes of both run in parallel."""
    axis %= x.ndim
    inner = indices.ndim - batch_dims
    rows = np.moveaxis(x, axis, batch_dims)
    batch = np.ogrid[tuple(slice(size) for size in x.shape[:batch_dims])]
    grids = [np.expand_dims(grid, tuple(range(batch_dims, indices.ndim))) for grid in batch]
    found = array_of(rows[(*grids, indices.astype(np.int64))])
    source = range(batch_dims, batch_dims + inner)
    return np.moveaxis(found, list(source), [axis + place for place in range(inner)])


@HOST_OPS("gather", since=17)
def gather_validated(
    x: Sizes, indices: Sizes, axis: int = 0, batch_dims: int = 0, validate_indices: bool = False
) -> Sizes:
    """The same.

    From iOS17 on negative indices are out of range, but coremltools goes on writing them for
    torch's `x.size(-1)`, so they count from the end here.
    """
    picked: Sizes = gather_batched(x, indices, axis, batch_dims)
    return picked


@HOST_OPS("slice_by_index")
def slice_by_index(
    x: Sizes,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Sizes:
    """`x[begin : end : stride]` for each axis; an axis in `squeeze_mask` is indexed by `begin`."""
    off = (False,) * x.ndim
    strides, low_open = stride or (1,) * x.ndim, begin_mask or off
    high_open, is_index = end_mask or off, squeeze_mask or off
    index = tuple(
        (0 if low_open[axis] else begin[axis])
        if is_index[axis]
        else slice(
            None if low_open[axis] else begin[axis],
            None if high_open[axis] else end[axis],
            strides[axis],
        )
        for axis in range(x.ndim)
    )
    return array_of(x[index])


@HOST_OPS("slice_by_size")
def slice_by_size(x: Sizes, begin: Ints, size: Ints) -> Sizes:
    """`size` elements from `begin` on for each axis; -1 is all that follow."""
    starts = [low + x.shape[axis] if low < 0 else low for axis, low in enumerate(begin)]
    ends = [None if n == -1 else low + n for low, n in zip(starts, size, strict=True)]
    return array_of(x[tuple(map(slice, starts, ends))])


@HOST_OPS("concat")
def concat(values: list[Sizes], axis: int, interleave: bool = False) -> Sizes:
    """The arrays one after the other along `axis`; scalars are joined to a vector."""
    if values[0].ndim == 0:
        return array_of(np.stack(values))
    if not interleave:
        return array_of(np.concatenate(values, axis))
    axis %= values[0].ndim
    joined = list(values[0].shape)
    joined[axis] *= len(values)
    return array_of(np.stack(values, axis + 1).reshape(joined))


@HOST_OPS("stack")
def stack(values: list[Sizes], axis: int) -> Sizes:
    """The arrays side by side along a new axis."""
    return array_of(np.stack(values, axis))


@HOST_OPS("split")
def split(
    x: Sizes, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> tuple[Sizes, ...]:
    """Parts of the array along `axis`: of the given sizes, or `num_splits` equal ones."""
    if split_sizes is None:
        return tuple(np.split(x, num_splits or 1, axis))
    return tuple(np.split(x, np.cumsum(split_sizes)[:-1], axis))


@HOST_OPS("squeeze")
def squeeze(x: Sizes, axes: Ints | None = None) -> Sizes:
    """The array without `axes`, by default without all of size 1; larger ones stay."""
    chosen = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes]
    return array_of(
        x.reshape([n for axis, n in enumerate(x.shape) if axis not in chosen or n != 1])
    )


@HOST_OPS("expand_dims")
def expand_dims(x: Sizes, axes: Ints) -> Sizes:
    """The array with axes of size 1 at `axes`, counted in the result."""
    return array_of(np.expand_dims(x, axes))


@HOST_OPS("reshape")
def reshape(x: Sizes, shape: Ints) -> Sizes:
    """The elements in another shape: 0 keeps the size of that axis, one -1 is what remains."""
    kept = [x.shape[axis] if n == 0 else n for axis, n in enumerate(shape)]
    return array_of(x.reshape(kept))


@HOST_OPS("reshape", since=17)
def reshape_from_right(x: Sizes, shape: Ints) -> Sizes:
    """The same, where zeros count axes from the right; beyond the array's first they are 1."""
    missing = len(shape) - x.ndim
    sizes = (1,) * missing + x.shape[max(-missing, 0) :]
    kept = [old if n == 0 else n for old, n in zip(sizes, shape, strict=True)]
    return array_of(x.reshape(kept))


@HOST_OPS("transpose")
def transpose(x: Sizes, perm: Ints) -> Sizes:
    """The axes in another order."""
    return np.transpose(x, perm)


@HOST_OPS("reverse")
def reverse(x: Sizes, axes: Ints | None = None) -> Sizes:
    """The array backwards along `axes`, by default along all."""
    return np.flip(x, axes)


def is_small(*sizes: Number) -> bool:
    """Whether an array of these sizes can be held here; otherwise it has to be a tensor."""
    return all(isinstance(n, int) for n in sizes) and math.prod(sizes) <= HOST_ELEMENTS


@HOST_OPS("fill")
def fill(shape: Ints, value: float = 0.0) -> Sizes | Tensor:
    """An array of this shape, full of one value; a tensor when it is large or symbolic."""
    if not is_small(*shape):
        filled: Tensor = tensor_operation.fill(shape, value)
        return filled
    return np.full(shape, value, dtype=object)


@HOST_OPS("tile")
def tile(x: Sizes, reps: Ints) -> Sizes | Tensor:
    """The array repeated `reps` times along each axis; a tensor when it is large or symbolic."""
    if not is_small(*x.shape, *reps):
        tiled: Tensor = tensor_operation.tile(to_tensor(x), reps)
        return tiled
    return array_of(np.tile(x, reps))


@HOST_OPS("range_1d")
def range_1d(end: float, start: float, step: float) -> Sizes | Tensor:
    """The numbers from `start` on in steps; a tensor when they are many, or symbolically many."""
    if isinstance(step, (int, float)) and step == 0:
        raise ValueError("a range cannot have steps of 0")
    count = as_int(ceil(divide(plus(end, negate(start)), step)))
    if not is_small(count):
        numbers: Tensor = tensor_operation.range_1d(end, start, step)
        return numbers
    return vector([plus(start, multiply(index, step)) for index in range(max(count, 0))])


def reduction(function: Callable[[Number, Number], Number], name: str) -> Operator:
    """An operation with the parameters `x`, `axes` and `keep_dims`."""

    def host_operator(x: Sizes, axes: Ints | None = None, keep_dims: bool = False) -> Sizes:
        chosen = range(x.ndim) if axes is None else [axis % x.ndim for axis in axes]
        for axis in sorted(chosen, reverse=True):
            parts = [array_of(part) for part in np.moveaxis(x, axis, 0)]
            x = array_of(reduce(np.frompyfunc(function, 2, 1), parts))
            x = np.expand_dims(x, axis) if keep_dims else x
        return x

    host_operator.__name__ = name
    host_operator.__doc__ = f"`{name}` over `axes`, by default all of them."
    return host_operator


for name, binary_function in {
    "reduce_max": maximum,
    "reduce_min": minimum,
    "reduce_prod": multiply,
    "reduce_sum": plus,
}.items():
    HOST_OPS.add(name, reduction(binary_function, name))
