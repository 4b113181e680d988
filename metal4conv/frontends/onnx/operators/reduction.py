"""Operators that reduce axes of a tensor, or run along one: sums, extremes, norms, positions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.emitter import Number
from metal4conv.frontends.onnx.operators.elementwise import logarithm
from metal4conv.frontends.onnx.operators.indexing import axes_that_stay, size_of_axes
from metal4conv.frontends.onnx.operators.slicing import spread
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import MIL_DTYPE, NARROW, Value, is_static

Elementwise = Callable[[Context, Value], Value]


@dataclass(frozen=True)
class Reduction:
    """How an operator reduces: with one MIL operation, or, along axes that are computed, element
    by element: prepared, scattered in a mode on what no elements give, and finished.
    """

    operation: str
    mode: str
    empty: float
    before: Elementwise = lambda ctx, x: x
    after: Elementwise = lambda ctx, x: x


def square(ctx: Context, x: Value) -> Value:
    return ctx.mul(x, x)


def absolute(ctx: Context, x: Value) -> Value:
    return ctx.unary("abs", x)


def root(ctx: Context, x: Value) -> Value:
    return through_floats(ctx, x, lambda ctx, x: ctx.unary("sqrt", x))


def log(ctx: Context, x: Value) -> Value:
    return through_floats(ctx, x, logarithm)


def through_floats(ctx: Context, x: Value, function: Elementwise) -> Value:
    """A function of floats; integers come back as such, cut towards 0."""
    if x.is_float:
        return function(ctx, x)
    return ctx.cast(function(ctx, ctx.cast(x, "float32")), x.dtype)


INF = float("inf")

REDUCTIONS = {
    "ReduceL1": Reduction("reduce_l1_norm", "add", 0, absolute),
    "ReduceL2": Reduction("reduce_l2_norm", "add", 0, square, root),
    "ReduceLogSum": Reduction("reduce_log_sum", "add", -INF, after=log),
    "ReduceLogSumExp": Reduction("reduce_log_sum_exp", "add", -INF),
    "ReduceMax": Reduction("reduce_max", "max", -INF),
    "ReduceMean": Reduction("reduce_mean", "add", float("nan")),
    "ReduceMin": Reduction("reduce_min", "min", INF),
    "ReduceProd": Reduction("reduce_prod", "mul", 1),
    "ReduceSum": Reduction("reduce_sum", "add", 0),
    "ReduceSumSquare": Reduction("reduce_sum_square", "add", 0, square),
}
"""By operator; `empty` is what no elements give."""


def register_reduction(name: str, since: int) -> None:
    reduction = REDUCTIONS[name]

    @ONNX_OPS(name, since=since)
    def reduce(
        ctx: Context,
        data: Value,
        axes: Value | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> Value:
        is_none = axes is None or axes.shape == (0,)
        if axes is not None and axes.array is None and not is_none:
            return reduced_by_computed(ctx, data, reduction, axes, bool(keepdims))
        if is_none and noop_with_empty_axes:
            return elementwise(ctx, data, reduction)
        chosen = list(range(data.rank)) if is_none else ctx.ints(axes, "axes")
        return reduced(ctx, data, reduction, chosen, bool(keepdims))

    @ONNX_OPS(name, since=1)
    def reduce_by_attribute(
        ctx: Context, data: Value, *, axes: list[int] | None = None, keepdims: int = 1
    ) -> Value:
        return reduced(ctx, data, reduction, axes or list(range(data.rank)), bool(keepdims))


for operator in REDUCTIONS:
    register_reduction(operator, 13 if operator == "ReduceSum" else 18)


def reduced(ctx: Context, data: Value, reduction: Reduction, axes: list[int], keep: bool) -> Value:
    """The reduction over these axes."""
    if not data.rank:
        return elementwise(ctx, data, reduction)
    places = sorted({ctx.axis(axis, data.rank) for axis in axes})
    if any(is_static((data.shape[axis],)) and data.shape[axis] == 0 for axis in places):
        return of_nothing(ctx, data, reduction, places, keep)
    x = ctx.cast(data, "int32") if data.dtype == "bool" else data
    result: Value = ctx.emit(reduction.operation, x=x, axes=places, keep_dims=keep, dtype=x.dtype)
    return as_before(ctx, result, data.dtype)


def as_before(ctx: Context, result: Value, dtype: str) -> Value:
    """A result in the dtype of the data: bool again, narrow integers wrapped."""
    if dtype == "bool":
        return ctx.cast(result, "bool")
    return ctx.wrapped(result.with_dtype("int32"), dtype) if dtype in NARROW else result


def elementwise(ctx: Context, data: Value, reduction: Reduction) -> Value:
    """The reduction of each element alone."""
    if reduction.operation in ("reduce_l1_norm", "reduce_l2_norm"):
        return absolute(ctx, data)
    return reduction.after(ctx, reduction.before(ctx, data))


def of_nothing(
    ctx: Context, data: Value, reduction: Reduction, axes: list[int], keep: bool
) -> Value:
    """What reductions over axes without elements give."""
    sizes: list[int | Value] = []
    for axis in range(data.rank):
        if axis not in axes:
            sizes.append(ctx.size(data, axis))
        elif keep:
            sizes.append(1)
    return ctx.filled(sizes, limited(reduction.empty, data.dtype), data.dtype)


def limited(number: float, dtype: str) -> Number:
    """What stands for an infinite number in a dtype: its largest or smallest one."""
    if "float" in dtype:
        return number
    if dtype == "bool":
        return number > 0
    if not np.isfinite(number):
        limits = np.iinfo("int32" if dtype not in NARROW else dtype)
        return int(limits.max if number > 0 else limits.min)
    return int(number)


# axes that are computed ----------------------------------------------------------------------


def reduced_by_computed(
    ctx: Context, data: Value, reduction: Reduction, axes: Value, keep: bool
) -> Value:
    """The reduction over axes that the model computes: all elements are scattered, each to the
    place in the result that it falls on.

        axes [1] of (2, 3, 4) → sizes (2, 1, 4), element (i, j, k) to place i * 4 + k
    """
    rank = data.rank
    if not keep and not is_static(axes.shape):
        raise ctx.unsupported(
            "the number of axes is not known, and so the result's rank",
            "set keepdims, or make the axes constant",
        )
    zeros = ctx.value(np.zeros(rank, np.int64))
    is_reduced = spread(ctx, axes, ctx.filled(ctx.shape(axes), 1, "int64"), zeros)
    sizes = ctx.where(ctx.equal(is_reduced, 1), ctx.value(np.ones(rank, np.int64)), ctx.shape(data))
    shape = sizes
    if not keep:
        stay = axes_that_stay(ctx, is_reduced, rank - int(axes.shape[0]))
        shape = ctx.emit("gather", x=sizes, indices=stay, axis=0, dtype="int64")
    if is_static(data.shape) and 0 in data.shape:
        return ctx.filled(shape, limited(reduction.empty, data.dtype), data.dtype)
    place = places_in_result(ctx, data, is_reduced, sizes)
    x = ctx.cast(data, "int32") if data.dtype == "bool" else data
    flat = scatter_reduced(ctx, ctx.reshape(x, [-1]), reduction, place, sizes)
    return as_before(ctx, ctx.reshape(flat, shape).with_dtype(x.dtype), data.dtype)


def places_in_result(ctx: Context, data: Value, is_reduced: Value, sizes: Value) -> Value:
    """For each element of a tensor, in order, its place in the result."""
    place = ctx.value(np.zeros((1,) * data.rank, np.int64))
    stride: Value = ctx.value(np.int64(1))
    for axis in reversed(range(data.rank)):
        stays = ctx.sub(1, ctx.element(is_reduced, axis))
        along = ctx.range(0, ctx.size(data, axis))
        others = [other for other in range(data.rank) if other != axis]
        column = ctx.expand_dims(along, others) if others else along
        place = ctx.add(place, ctx.mul(column, ctx.mul(stays, stride)))
        stride = ctx.mul(stride, ctx.element(sizes, axis))
    return ctx.reshape(ctx.broadcast(place, ctx.shape(data)), [-1])


def scatter_reduced(
    ctx: Context, x: Value, reduction: Reduction, place: Value, sizes: Value
) -> Value:
    """The reduced elements, in order."""
    count: Value = ctx.emit("reduce_prod", x=sizes, axes=[0], keep_dims=True, dtype="int64")
    if reduction.operation == "reduce_log_sum_exp":
        return log_sum_exp(ctx, x, place, count)
    if reduction.operation == "reduce_mean":
        total = scatter_all(ctx, x, "add", place, count)
        each = ctx.floor_div(ctx.size(x, 0), count)
        if x.is_float:
            return ctx.div(total, ctx.cast(each, "float32").with_dtype(x.dtype))
        mean = ctx.div(ctx.cast(total, "float32"), ctx.cast(each, "float32"))
        return ctx.cast(mean, x.dtype)
    return reduction.after(
        ctx, scatter_all(ctx, reduction.before(ctx, x), reduction.mode, place, count)
    )


def scatter_all(ctx: Context, x: Value, mode: str, place: Value, count: Value) -> Value:
    """The elements of a vector, those that fall on one place combined."""
    start = {"add": 0.0, "mul": 1.0, "max": -INF, "min": INF}[mode]
    dtype = "float32" if MIL_DTYPE[x.dtype] == "fp32" else "int32"
    nothing = ctx.filled(count, limited(start, dtype), dtype).with_dtype(x.dtype)
    result: Value = ctx.emit(
        "scatter", data=nothing, indices=place, updates=x, axis=0, mode=mode, dtype=x.dtype
    )
    return result


def log_sum_exp(ctx: Context, x: Value, place: Value, count: Value) -> Value:
    """Less the largest of those that fall on one place, so that no exponential overflows."""
    top = scatter_all(ctx, x, "max", place, count)
    its_top: Value = ctx.emit("gather", x=top, indices=place, axis=0, dtype=x.dtype)
    raised = ctx.unary("exp", ctx.sub(x, its_top))
    return ctx.add(log(ctx, scatter_all(ctx, raised, "add", place, count)), top)


# positions -----------------------------------------------------------------------------------


def register_position(name: str, operation: str) -> None:
    @ONNX_OPS(name)
    def position(
        ctx: Context, data: Value, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0
    ) -> Value:
        if not data.rank:
            return ctx.value(np.int64(0))
        place = ctx.axis(axis, data.rank)
        x = ctx.unary("reverse", data, axes=[place]) if select_last_index else data
        found: Value = ctx.emit(operation, x=x, axis=place, keep_dims=bool(keepdims), dtype="int64")
        if not select_last_index:
            return found
        return ctx.sub(ctx.sub(ctx.size(data, place), 1), found)


register_position("ArgMax", "reduce_argmax")
register_position("ArgMin", "reduce_argmin")


@ONNX_OPS("Hardmax", since=13)
def hardmax(ctx: Context, input: Value, *, axis: int = -1) -> Value:
    """1 at the first of the largest elements along an axis, 0 elsewhere."""
    place = ctx.axis(axis, input.rank)
    best: Value = ctx.emit("reduce_argmax", x=input, axis=place, keep_dims=True, dtype="int32")
    along = ctx.range(0, ctx.size(input, place), dtype="int32")
    others = [other for other in range(input.rank) if other != place]
    column = ctx.expand_dims(along, others) if others else along
    return ctx.cast(ctx.equal(best, column), input.dtype)


@ONNX_OPS("Hardmax", since=1)
def hardmax_of_matrix(ctx: Context, input: Value, *, axis: int = 1) -> Value:
    """The same along all axes from `axis` on together."""
    place = ctx.axis(axis, input.rank)
    if place == input.rank - 1:
        return hardmax(ctx, input)
    sizes: list[int | Value] = [ctx.size(input, other) for other in range(input.rank)]
    rows = ctx.reshape(input, [*sizes[:place], -1])
    return ctx.reshape(hardmax(ctx, rows), sizes)


# running sums and products -------------------------------------------------------------------


@ONNX_OPS("CumSum")
def cumulative_sum(
    ctx: Context, x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0
) -> Value:
    """Running sums along an axis; exclusive ones start with 0, reverse ones at the end."""

    def along(place: int) -> Value:
        return ctx.unary("cumsum", x, axis=place, exclusive=bool(exclusive), reverse=bool(reverse))

    return along_axis(ctx, x, axis, along)


def along_axis(ctx: Context, x: Value, axis: Value, along: Callable[[int], Value]) -> Value:
    """What a function gives along an axis; one that is computed selects among all."""
    place = ctx.element(axis, 0) if axis.rank else axis
    if place.array is not None:
        return along(ctx.axis(int(place.array), x.rank))
    result = along(0)
    for candidate in range(1, x.rank):
        is_it = ctx.binary(
            "logical_or", ctx.equal(place, candidate), ctx.equal(place, candidate - x.rank)
        )
        result = ctx.where(is_it, along(candidate), result)
    return result


@ONNX_OPS("CumProd")
def cumulative_product(
    ctx: Context, x: Value, axis: Value, *, exclusive: int = 0, reverse: int = 0
) -> Value:
    """Running products along an axis; exclusive ones start with 1, reverse ones at the end."""
    return along_axis(
        ctx, x, axis, lambda place: products(ctx, x, place, bool(exclusive), bool(reverse))
    )


def products(ctx: Context, x: Value, axis: int, exclusive: bool, reverse: bool) -> Value:
    """Each product is one over a row of a matrix that has 1 for the elements that are not in it:

    x = [a, b, c]   →   [[a, 1, 1], [a, b, 1], [a, b, c]]   →   [a, a*b, a*b*c]
    """
    sizes: list[int | Value] = [ctx.size(x, place) for place in range(x.rank)]
    behind = size_of_axes(ctx, x, range(axis + 1, x.rank))
    column = ctx.range(0, sizes[axis], dtype="int32")
    row = ctx.expand_dims(column, [1])
    earlier, later = (row, column) if reverse else (column, row)
    is_in = ctx.binary("less" if exclusive else "less_equal", earlier, later)
    lines = ctx.reshape(x, [-1, 1, sizes[axis], behind])
    rows = ctx.where(ctx.expand_dims(is_in, [2]), lines, ctx.value(1, x.dtype))
    result: Value = ctx.emit("reduce_prod", x=rows, axes=[2], keep_dims=False, dtype=x.dtype)
    return ctx.reshape(result, sizes)
