"""Operators that pick elements by index or by value, or put them somewhere.

ONNX counts negative indices from the end; to MIL they are out of range from iOS17 on, so they are
wrapped first, unless they cannot be negative.
"""

from __future__ import annotations

import math

import numpy as np

from metal4conv.frontends.onnx.context import Context, set_shape
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import NARROW, Size, Value, is_static

Scalar = np.generic | np.ndarray
"""A number in a dtype of MIL; numpy's types have an element of an array as either."""

MODES = {"none": "update", "add": "add", "mul": "mul", "max": "max", "min": "min"}
"""MIL's modes of scattering by ONNX's reductions."""


# by index ------------------------------------------------------------------------------------


@ONNX_OPS("Gather")
def gather(ctx: Context, data: Value, indices: Value, *, axis: int = 0) -> Value:
    """Slices of `data` along `axis`, picked by `indices`."""
    place = ctx.axis(axis, data.rank)
    index = ctx.wrap_indices(indices, ctx.size(data, place))
    return ctx.emit(  # type: ignore[no-any-return]  # one output
        "gather", x=data, indices=index, axis=place, dtype=data.dtype
    )


@ONNX_OPS("GatherElements")
def gather_elements(ctx: Context, data: Value, indices: Value, *, axis: int = 0) -> Value:
    """Elements of `data`; `indices`, of the result's shape, says where each lies along `axis`.

    MIL wants the sizes of the other axes to be equal, so `data` is cut to those of `indices`.
    """
    place = ctx.axis(axis, data.rank)
    index = ctx.wrap_indices(indices, ctx.size(data, place))
    for other in range(data.rank):
        if other != place and data.shape[other] != indices.shape[other]:
            data = ctx.slice_axis(data, other, 0, sized(ctx.size(indices, other)))
    return ctx.emit(  # type: ignore[no-any-return]  # one output
        "gather_along_axis", x=data, indices=index, axis=place, dtype=data.dtype
    )


def sized(size: Value) -> int | Value:
    """A size as a number, where it is known."""
    return size if size.array is None else int(size.array)


@ONNX_OPS("GatherND")
def gather_nd(ctx: Context, data: Value, indices: Value, *, batch_dims: int = 0) -> Value:
    """Slices of `data`; the last axis of `indices` holds one index for each axis after the first
    `batch_dims`, which run in parallel.
    """
    depth = depth_of(ctx, indices)
    index = ctx.wrap_indices(indices, sizes_of(ctx, data, batch_dims, batch_dims + depth))
    if batch_dims and ctx.target < 16:
        shape = ctx.vector([ctx.size(indices, axis) for axis in range(indices.rank - 1)])
        last = [int(shape.shape[0])]
        rows = [
            ctx.expand_dims(place_along(ctx, data, axis, shape), last) for axis in range(batch_dims)
        ]
        index = ctx.concat([*rows, index], index.rank - 1)
        batch_dims = 0
    return ctx.emit(  # type: ignore[no-any-return]  # one output
        "gather_nd",
        x=data,
        indices=index,
        batch_dims=batch_dims if ctx.target >= 16 else None,
        dtype=data.dtype,
    )


def depth_of(ctx: Context, indices: Value) -> int:
    """How many axes the indices along the last axis run over."""
    if not is_static(indices.shape[-1:]):
        raise ctx.unsupported("the last size of the indices, and so the result's rank, is dynamic")
    return int(indices.shape[-1])


def sizes_of(ctx: Context, data: Value, first: int, last: int) -> Value:
    """Some sizes of a tensor as a vector."""
    return ctx.vector([ctx.size(data, axis) for axis in range(first, last)])


def place_along(ctx: Context, data: Value, axis: int, shape: Value) -> Value:
    """Where each element of a tensor of this shape lies along an axis that `data` has too."""
    rank = int(shape.shape[0])
    places = ctx.range(0, ctx.size(data, axis), dtype="int32")
    column = ctx.expand_dims(places, [other for other in range(rank) if other != axis])
    return ctx.broadcast(column if rank > 1 else places, shape)


@ONNX_OPS("ScatterElements")
def scatter_elements(
    ctx: Context,
    data: Value,
    indices: Value,
    updates: Value,
    *,
    axis: int = 0,
    reduction: str = "none",
) -> Value:
    """`data` with elements changed by `updates`; `indices`, of their shape, is where along
    `axis`.

    Where the updates are fewer than the data along another axis, which MIL does not take, each
    update has the indices of all axes. So it is where another size is dynamic: coremltools' passes
    must find the same symbol for both.
    """
    place = ctx.axis(axis, data.rank)
    index = ctx.wrap_indices(indices, ctx.size(data, place))
    mode = scatter_mode(ctx, reduction)
    others = [other for other in range(data.rank) if other != place]
    if all(is_static_size(data.shape[other], indices.shape[other]) for other in others):
        found = ctx.emit(
            "scatter_along_axis",
            data=data,
            indices=index,
            updates=updates,
            axis=place,
            mode=mode,
            dtype=data.dtype,
        )
        return narrowed(ctx, found, data.dtype)
    shape = ctx.shape(indices)
    columns = [
        ctx.cast(index, "int32") if other == place else place_along(ctx, indices, other, shape)
        for other in range(data.rank)
    ]
    rows = ctx.concat([ctx.reshape(column, [-1, 1]) for column in columns], 1)
    return placed(ctx, data, rows, ctx.reshape(updates, [-1]), mode)


def is_static_size(size: Size, other: Size) -> bool:
    """Whether two sizes are the same number."""
    return is_static((size, other)) and bool(size == other)


@ONNX_OPS("Scatter")
def scatter(ctx: Context, data: Value, indices: Value, updates: Value, *, axis: int = 0) -> Value:
    return scatter_elements(ctx, data, indices, updates, axis=axis)


@ONNX_OPS("ScatterND")
def scatter_nd(
    ctx: Context, data: Value, indices: Value, updates: Value, *, reduction: str = "none"
) -> Value:
    """`data` with slices changed by `updates`; the last axis of `indices` says which."""
    depth = depth_of(ctx, indices)
    index = ctx.wrap_indices(indices, sizes_of(ctx, data, 0, depth))
    return placed(ctx, data, index, updates, scatter_mode(ctx, reduction))


def scatter_mode(ctx: Context, reduction: str) -> str:
    """MIL's mode for a reduction."""
    if reduction not in MODES:
        raise ctx.unsupported(f'reduction "{reduction}" is none of {", ".join(MODES)}')
    return MODES[reduction]


def placed(ctx: Context, data: Value, index: Value, updates: Value, mode: str) -> Value:
    """Data with updates of whole slices."""
    found = ctx.emit(
        "scatter_nd", data=data, indices=index, updates=updates, mode=mode, dtype=data.dtype
    )
    return narrowed(ctx, found, data.dtype)


def narrowed(ctx: Context, found: Value, dtype: str) -> Value:
    """Sums and products wrapped as those in a narrow integer dtype are."""
    return ctx.wrapped(found.with_dtype("int32"), dtype) if dtype in NARROW else found


def size_of_axes(ctx: Context, x: Value, axes: range) -> Value:
    """The number of elements along some axes."""
    sizes = [x.shape[axis] for axis in axes]
    result = ctx.value(np.int64(math.prod(size for size in sizes if is_static((size,)))))
    for axis in axes:
        if not is_static((x.shape[axis],)):
            dynamic = ctx.size(x, axis)
            is_one = result.array is not None and result.array == 1
            result = dynamic if is_one else ctx.mul(result, dynamic)
    return result


@ONNX_OPS("TensorScatter")
def tensor_scatter(
    ctx: Context,
    past_cache: Value,
    update: Value,
    write_indices: Value | None = None,
    *,
    axis: int = -2,
    mode: str = "linear",
) -> Value:
    """A cache with `update` written along `axis` from an index on, one for each batch; a circular
    one goes on at its beginning.
    """
    if mode not in ("linear", "circular"):
        raise ctx.unsupported(f'mode "{mode}" is none of linear and circular')
    place = ctx.axis(axis, past_cache.rank)
    if not place:
        raise ctx.unsupported("axis 0 is the batch's, along which nothing can be written")
    length, count = ctx.size(past_cache, place), ctx.size(update, place)
    rows = size_of_axes(ctx, update, range(1, place))
    steps = ctx.range(0, count)
    if write_indices is not None:
        first = ctx.expand_dims(ctx.cast(write_indices, "int64"), [1, 2])
        steps = ctx.add(first, steps)
    if mode == "circular":
        steps = ctx.mod(steps, length)
    # the place of each row in a cache without the axes before
    batches = ctx.mul(ctx.range(0, ctx.size(update, 0)), rows)
    number = ctx.add(ctx.expand_dims(batches, [1]), ctx.range(0, rows))
    index = ctx.add(ctx.expand_dims(ctx.mul(number, length), [2]), steps)
    behind = size_of_axes(ctx, update, range(place + 1, update.rank))
    found = ctx.emit(
        "scatter",
        data=ctx.reshape(past_cache, [-1, behind]),
        indices=ctx.reshape(index, [-1]),
        updates=ctx.reshape(update, [-1, behind]),
        axis=0,
        mode="update",
        dtype=past_cache.dtype,
    )
    return ctx.reshape(found, [ctx.size(past_cache, axis) for axis in range(past_cache.rank)])


# by value ------------------------------------------------------------------------------------


@ONNX_OPS("NonZero")
def non_zero(ctx: Context, X: Value) -> Value:
    """The indices of the elements that are not 0, one column each."""
    if not X.rank:
        raise ctx.unsupported("a scalar has no axes to give indices along")
    rows: Value = ctx.emit("non_zero", x=X, dtype="int64")
    return ctx.transpose(rows, [1, 0])


@ONNX_OPS("Compress")
def compress(ctx: Context, input: Value, condition: Value, *, axis: int | None = None) -> Value:
    """The slices along an axis, by default the elements, whose condition holds."""
    data = ctx.reshape(input, [-1]) if axis is None else input
    return gather(ctx, data, places_of(ctx, condition), axis=axis or 0)


def places_of(ctx: Context, condition: Value) -> Value:
    """The indices where a vector of conditions holds, int32."""
    if condition.array is not None:
        return ctx.value(np.flatnonzero(condition.array), "int32")
    rows: Value = ctx.emit("non_zero", x=condition, dtype="int32")
    return ctx.squeeze(rows, [1])


@ONNX_OPS("OneHot")
def one_hot(ctx: Context, indices: Value, depth: Value, values: Value, *, axis: int = -1) -> Value:
    """The second of `values` where a new axis has the index's position, the first elsewhere."""
    count = ctx.element(depth, 0) if depth.rank else depth
    count = ctx.cast(count, "int32")
    index = ctx.cast(indices, "int32")
    if not ctx.is_never_negative(index):
        index = ctx.where(ctx.less(index, 0), ctx.add(index, count), index)
    place = ctx.axis(axis, indices.rank + 1)
    if values.array is not None:
        off, on = (ctx.held_constant(item, values.dtype)[()] for item in values.array)
        return one_hot_of(ctx, index, count, place, on, off).with_dtype(values.dtype)
    found = one_hot_of(ctx, index, count, place, np.int32(1), np.int32(0))
    is_on = ctx.cast(found, "bool")
    return ctx.where(is_on, ctx.element(values, 1), ctx.element(values, 0))


def one_hot_of(
    ctx: Context, index: Value, count: Value, axis: int, on: Scalar, off: Scalar
) -> Value:
    """MIL's operation, with the number of positions in the shape of its result."""
    known = count.array
    found: Value = ctx.emit(
        "one_hot",
        indices=index,
        one_hot_vector_size=count if known is None else np.int32(known),
        axis=axis,
        on_value=on,
        off_value=off,
    )
    if known is None and count.sizes is not None:
        sizes = list(found.shape)
        sizes[axis] = count.sizes.reshape(-1)[0]
        set_shape(found, sizes)
    return found


@ONNX_OPS("TopK", since=10)
def top_k(
    ctx: Context, X: Value, K: Value, *, axis: int = -1, largest: int = 1, sorted: int = 1
) -> tuple[Value, Value]:
    """The K largest or smallest elements along an axis, in order, and their indices."""
    place = ctx.axis(axis, X.rank)
    count = ctx.element(K, 0) if K.rank else K
    if count.array is None:
        order = sorting(ctx, X, place, ascending=not largest)
        index = ctx.slice_axis(order, place, 0, count)
        values = ctx.emit("gather_along_axis", x=X, indices=index, axis=place, dtype=X.dtype)
        return values, index.with_dtype("int64")
    values, index = ctx.emit("topk", x=X, k=int(count.array), axis=place, ascending=not largest)
    return values.with_dtype(X.dtype), index.with_dtype("int64")


@ONNX_OPS("TopK")
def top_k_by_attribute(ctx: Context, X: Value, *, axis: int = -1, k: int) -> tuple[Value, Value]:
    return top_k(ctx, X, ctx.value(np.int64(k)), axis=axis)


def sorting(ctx: Context, x: Value, axis: int, *, ascending: bool) -> Value:
    """The indices that sort along an axis, int32."""
    result: Value = ctx.emit("argsort", x=x, axis=axis, ascending=ascending, dtype="int32")
    return result


def axes_that_stay(ctx: Context, is_chosen: Value, count: int) -> Value:
    """The first axes, as many, that are not among those chosen by a 1 for each axis."""
    rank = int(is_chosen.shape[0])
    key = ctx.add(ctx.mul(is_chosen, rank), ctx.value(np.arange(rank)))
    return ctx.slice_axis(sorting(ctx, key, 0, ascending=True), 0, 0, count)


# Unique --------------------------------------------------------------------------------------


@ONNX_OPS("Unique")
def unique(
    ctx: Context, X: Value, *, axis: int | None = None, sorted: int = 1
) -> tuple[Value, Value, Value, Value]:
    """The different elements (or slices along an axis), where each comes first, which of them
    each element is, and how often each comes.
    """
    if axis is None:
        data, place = ctx.reshape(X, [-1]), 0
        keys = data if data.dtype != "bool" else ctx.cast(data, "int32")
    else:
        data, place = X, ctx.axis(axis, X.rank)
        keys = ranks_of_slices(ctx, X, place)
    first, inverse, counts = groups(ctx, keys)
    if not sorted:
        order = sorting(ctx, first, 0, ascending=True)
        first, counts = pick(ctx, first, order), pick(ctx, counts, order)
        inverse = pick(ctx, sorting(ctx, order, 0, ascending=True), inverse)
    values: Value = ctx.emit("gather", x=data, indices=first, axis=place, dtype=X.dtype)
    first, inverse, counts = (item.with_dtype("int64") for item in (first, inverse, counts))
    return values, first, inverse, counts


def pick(ctx: Context, x: Value, indices: Value) -> Value:
    """Elements of a vector."""
    result: Value = ctx.emit("gather", x=x, indices=indices, axis=0, dtype=x.dtype)
    return result


def groups(ctx: Context, keys: Value) -> tuple[Value, Value, Value]:
    """Of the equal elements of a vector, by ascending value: where each comes first, in which
    group each element is, and how many there are; all int32.
    """
    order = sorting(ctx, keys, 0, ascending=True)
    ordered = pick(ctx, keys, order)
    place = ctx.range(0, ctx.size(keys, 0), dtype="int32")
    before = pick(ctx, ordered, ctx.maximum(ctx.sub(place, 1), 0))
    differs = ctx.binary("not_equal", ordered, before)
    is_new = ctx.cast(ctx.binary("logical_or", differs, ctx.equal(place, 0)), "int32")
    total: Value = ctx.emit("cumsum", x=is_new, axis=0, dtype="int32")
    group = ctx.sub(total, 1)
    starts = places_of(ctx, is_new)
    none = ctx.filled(ctx.shape(starts), 0, "int32")
    ones = ctx.filled(ctx.shape(keys), 1, "int32")
    zeros = ctx.filled(ctx.shape(keys), 0, "int32")
    behind = ctx.add(none, ctx.size(keys, 0).with_dtype("int32"))
    first = scattered(ctx, behind, group, order, "min")
    inverse = scattered(ctx, zeros, order, group, "update")
    counts = scattered(ctx, none, group, ones, "add")
    return first, inverse, counts


def scattered(ctx: Context, data: Value, indices: Value, updates: Value, mode: str) -> Value:
    """A vector with elements changed."""
    result: Value = ctx.emit(
        "scatter", data=data, indices=indices, updates=updates, axis=0, mode=mode, dtype="int32"
    )
    return result


def ranks_of_slices(ctx: Context, x: Value, axis: int) -> Value:
    """For each slice along an axis, how many slices come before it in lexicographic order."""
    front = [axis, *(other for other in range(x.rank) if other != axis)]
    held = ctx.cast(x, "int32") if x.dtype == "bool" else x
    rows = ctx.reshape(ctx.transpose(held, front), [ctx.size(x, axis), -1])
    one, other = ctx.expand_dims(rows, [0]), ctx.expand_dims(rows, [1])
    is_less = ctx.cast(ctx.less(one, other), "int32")
    is_more = ctx.cast(ctx.less(other, one), "int32")
    differs = ctx.maximum(is_less, is_more)
    place: Value = ctx.emit("reduce_argmax", x=differs, axis=2, keep_dims=True, dtype="int32")
    decides: Value = ctx.emit("gather_along_axis", x=is_less, indices=place, axis=2, dtype="int32")
    result: Value = ctx.emit("reduce_sum", x=decides, axes=[1, 2], keep_dims=False, dtype="int32")
    return result
