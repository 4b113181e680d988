"""Operators that change shapes, make tensors of a shape, and move elements without picking any."""

from __future__ import annotations

import math

import numpy as np

from metal4conv.frontends.lowering import MOST_DIMENSIONS
from metal4conv.frontends.onnx.context import Context, FlatSource, set_shape
from metal4conv.frontends.onnx.operators.indexing import axes_that_stay, size_of_axes
from metal4conv.frontends.onnx.operators.slicing import spread
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.tensors import Tensor, type_name
from metal4conv.frontends.onnx.value import Value, is_static

# shapes --------------------------------------------------------------------------------------


@ONNX_OPS("Shape")
def shape(ctx: Context, data: Value, *, end: int | None = None, start: int = 0) -> Value:
    """The sizes from axis `start` to before `end`."""
    sizes = ctx.shape(data)
    chosen = range(data.rank)[start:end]
    if len(chosen) == data.rank:
        return sizes
    if sizes.array is not None:
        return ctx.value(sizes.array[chosen.start : chosen.stop])
    return ctx.slice_axis(sizes, 0, chosen.start, chosen.stop)


@ONNX_OPS("Size")
def size(ctx: Context, data: Value) -> Value:
    """The number of elements."""
    if is_static(data.shape):
        return ctx.value(np.int64(math.prod(data.shape)))
    result: Value = ctx.emit(
        "reduce_prod", x=ctx.shape(data), axes=[0], keep_dims=False, dtype="int64"
    )
    return result


@ONNX_OPS("Reshape", since=5)
def reshape(ctx: Context, data: Value, shape: Value, *, allowzero: int = 0) -> Value:
    """The elements in another shape; 0 keeps the size that is there, unless `allowzero` is set."""
    sizes = shape.sizes
    if sizes is None:
        return reshape_by_computed(ctx, data, shape, bool(allowzero))
    rows: list[int | Value] = []
    for axis, size in enumerate(sizes):
        if is_static((size,)):
            rows.append(ctx.size(data, axis) if size == 0 and not allowzero else int(size))
        else:
            rows.append(ctx.element(shape, axis))
    if is_static(data.shape) and 0 in data.shape:
        return ctx.filled([0 if row == -1 else row for row in rows], 0, data.dtype)
    return reshaped(ctx, data, rows)


def reshaped(ctx: Context, data: Value, rows: list[int | Value]) -> Value:
    """A reshaped value; one of too many dimensions is remembered with what it was made of."""
    source = ctx.flat_sources[id(data.var)].source if id(data.var) in ctx.flat_sources else data
    result = ctx.reshape(source, rows)
    if len(rows) > MOST_DIMENSIONS and result.var is not None and not is_static(result.shape):
        ctx.flat_sources[id(result.var)] = FlatSource(result, source, tuple(rows))
    return result


def transposed_in_groups(ctx: Context, made: FlatSource, perm: list[int]) -> Value | None:
    """A value of too many dimensions transposed with neighbours that stay neighbours as one axis.

    reshape(x, [b, h, 8, w, 8, c])                 reshape(x, [b * h, 8, w, 8 * c])
    transpose(perm=[0, 1, 3, 2, 4, 5])       →     transpose(perm=[0, 2, 1, 3])
    reshape([-1, 8, 8, c])                         reshape([-1, 8, 8, c])
    """
    runs = [[perm[0]]]
    for axis in perm[1:]:
        if axis == runs[-1][-1] + 1:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    if len(runs) > MOST_DIMENSIONS:
        return None
    ordered = sorted(runs)
    merged = ctx.reshape(
        made.source, [product_of(ctx, [made.rows[axis] for axis in run]) for run in ordered]
    )
    moved = ctx.transpose(merged, [ordered.index(run) for run in runs])
    rows = [made.rows[axis] for axis in perm]
    result = ctx.reshape(moved, rows)
    ctx.flat_sources[id(result.var)] = FlatSource(result, moved, tuple(rows))
    return result


def product_of(ctx: Context, sizes: list[int | Value]) -> int | Value:
    """The product of sizes; -1 where one of them is still to be found."""
    if any(isinstance(size, int) and size == -1 for size in sizes):
        return -1
    total: int | Value = 1
    for size in sizes:
        if isinstance(size, int) and isinstance(total, int):
            total *= size
        else:
            total = ctx.mul(ctx.value(total, "int64"), size)
    return total


def reshape_by_computed(ctx: Context, data: Value, shape: Value, zero_is_zero: bool) -> Value:
    """The elements in a shape that the model computes.

    MIL counts the axes that a 0 keeps from the right, so the sizes are put in their place.
    """
    if zero_is_zero and is_static(data.shape) and 0 in data.shape:
        return ctx.filled(ctx.maximum(shape, 0), 0, data.dtype)
    if zero_is_zero or not is_static(shape.shape):
        return ctx.reshape(data, shape)
    count = int(shape.shape[0])
    own = ctx.vector([ctx.size(data, axis) if axis < data.rank else 1 for axis in range(count)])
    return ctx.reshape(data, ctx.where(ctx.equal(shape, 0), own, shape))


@ONNX_OPS("Flatten")
def flatten(ctx: Context, input: Value, *, axis: int = 1) -> Value:
    """A matrix: the axes before `axis` are its rows, the others its columns."""
    if not -input.rank <= axis <= input.rank:
        raise ctx.unsupported(f"axis {axis} is out of range for {input.rank} dimensions")
    place = axis + input.rank if axis < 0 else axis
    before, after = input.shape[:place], input.shape[place:]
    rows: int | Value = math.prod(before) if is_static(before) else -1
    columns: int | Value = math.prod(after) if is_static(after) else -1
    if rows == -1 and columns == -1:
        columns = size_of_axes(ctx, input, range(place, input.rank))
    return ctx.reshape(input, [rows, columns])


@ONNX_OPS("Squeeze", since=13)
def squeeze(ctx: Context, data: Value, axes: Value | None = None) -> Value:
    """The tensor without axes of size 1, by default without all of them."""
    if axes is None:
        return without_all_ones(ctx, data)
    if axes.array is None and axes.shape != (0,):
        return without_computed_axes(ctx, data, axes)
    return without_axes(ctx, data, ctx.ints(axes, "axes") if axes.is_constant else [])


@ONNX_OPS("Squeeze", since=1)
def squeeze_by_attribute(ctx: Context, data: Value, *, axes: list[int] | None = None) -> Value:
    return without_all_ones(ctx, data) if axes is None else without_axes(ctx, data, axes)


def without_axes(ctx: Context, data: Value, axes: list[int]) -> Value:
    """The tensor without these axes, all of which have size 1."""
    chosen = sorted({ctx.axis(axis, data.rank) for axis in axes})
    for axis in chosen:
        if is_static((data.shape[axis],)) and data.shape[axis] != 1:
            raise ctx.unsupported(f"axis {axis} has {data.shape[axis]} elements, not 1")
    result = ctx.squeeze(data, chosen)
    if not is_static(result.shape) and result.rank:
        set_shape(result, [n for axis, n in enumerate(data.shape) if axis not in chosen])
    return result


def without_computed_axes(ctx: Context, data: Value, axes: Value) -> Value:
    """The tensor without axes that the model computes; how many there are is known."""
    count = data.rank - number_of(ctx, axes)
    if not count:
        return ctx.squeeze(data, list(range(data.rank)))
    ones = ctx.filled(axes.shape, 1, "int64")
    is_gone = spread(ctx, axes, ones, ctx.value(np.zeros(data.rank, np.int64)))
    stay = axes_that_stay(ctx, is_gone, count)
    shape = ctx.emit("gather", x=ctx.shape(data), indices=stay, axis=0, dtype="int64")
    return ctx.reshape(data, shape)


def number_of(ctx: Context, axes: Value) -> int:
    """How many axes there are."""
    if not is_static(axes.shape):
        raise ctx.unsupported("the number of axes is not known, and so the result's rank")
    return int(axes.shape[0])


def without_all_ones(ctx: Context, data: Value) -> Value:
    """The tensor without all axes of size 1."""
    if not is_static(data.shape):
        raise ctx.unsupported(
            f"without axes, the rank of the result depends on the sizes {list(data.shape)}",
            "give the axes to remove in the model",
        )
    return ctx.squeeze(data, [axis for axis, n in enumerate(data.shape) if n == 1])


@ONNX_OPS("Unsqueeze", since=13)
def unsqueeze(ctx: Context, data: Value, axes: Value) -> Value:
    """The tensor with axes of size 1 at `axes`, counted in the result."""
    if axes.array is None and axes.shape != (0,):
        return with_computed_axes(ctx, data, axes)
    return with_axes(ctx, data, ctx.ints(axes, "axes") if axes.is_constant else [])


@ONNX_OPS("Unsqueeze", since=1)
def unsqueeze_by_attribute(ctx: Context, data: Value, *, axes: list[int]) -> Value:
    return with_axes(ctx, data, axes)


def with_axes(ctx: Context, data: Value, axes: list[int]) -> Value:
    """The tensor with new axes of size 1."""
    rank = data.rank + len(axes)
    chosen = sorted({ctx.axis(axis, rank) for axis in axes})
    if len(chosen) != len(axes):
        raise ctx.unsupported(f"axes {list(axes)} name one of {rank} axes twice")
    return ctx.expand_dims(data, chosen) if chosen else data


def with_computed_axes(ctx: Context, data: Value, axes: Value) -> Value:
    """The tensor with new axes that the model computes; how many there are is known.

    sizes [2, 3], axes [1]  →  new [0, 1, 0], each one's own size [2, 2, 3]  →  [2, 1, 3]
    """
    rank = data.rank + number_of(ctx, axes)
    if not data.rank:
        return ctx.reshape(data, [1] * rank)
    ones = ctx.filled(axes.shape, 1, "int64")
    is_new = spread(ctx, axes, ones, ctx.value(np.zeros(rank, np.int64)))
    number: Value = ctx.emit("cumsum", x=ctx.sub(1, is_new), axis=0, dtype="int64")
    place = ctx.maximum(ctx.sub(number, 1), 0)
    sizes = ctx.emit("gather", x=ctx.shape(data), indices=place, axis=0, dtype="int64")
    ones = ctx.value(np.ones(rank, np.int64))
    return ctx.reshape(data, ctx.where(ctx.equal(is_new, 1), ones, sizes))


# order and repetition ------------------------------------------------------------------------


@ONNX_OPS("Transpose")
def transpose(ctx: Context, data: Value, *, perm: list[int] | None = None) -> Value:
    """The axes in another order, by default the reverse one."""
    order = list(perm) if perm is not None else list(range(data.rank))[::-1]
    made = ctx.flat_sources.get(id(data.var))
    grouped = None if made is None else transposed_in_groups(ctx, made, order)
    return ctx.transpose(data, order) if grouped is None else grouped


@ONNX_OPS("Concat", since=4)
def concat(ctx: Context, *inputs: Value, axis: int) -> Value:
    """The tensors one behind the other; those known to be empty are left out."""
    place = ctx.axis(axis, inputs[0].rank)
    parts = [item for item in inputs if not is_empty(item, place)] or [inputs[0]]
    return ctx.concat(parts, place)


def is_empty(x: Value, axis: int) -> bool:
    """Whether a tensor has no elements along an axis, whatever the dynamic sizes are."""
    return is_static((x.shape[axis],)) and x.shape[axis] == 0


@ONNX_OPS("Expand")
def expand(ctx: Context, input: Value, shape: Value) -> Value:
    """The tensor repeated along its axes of size 1, to the shape that it has with `shape`."""
    if not is_static(shape.shape):
        raise ctx.unsupported("the length of the shape is not known, and so the result's rank")
    return ctx.broadcast(input, shape)


@ONNX_OPS("Tile", since=6)
def tile(ctx: Context, input: Value, repeats: Value) -> Value:
    """The tensor repeated along each axis."""
    counts = repeats.sizes
    if not input.rank or (counts is not None and all(count == 1 for count in counts)):
        return input
    if repeats.array is not None and not repeats.array.all():
        sizes = [n * int(count) for n, count in zip(input.shape, repeats.array, strict=True)]
        if is_static(tuple(sizes)):
            return ctx.filled(sizes, 0, input.dtype)
    result: Value = ctx.emit("tile", x=input, reps=repeats, dtype=input.dtype)
    if counts is not None and not is_static(result.shape):
        set_shape(result, [n * count for n, count in zip(input.shape, counts, strict=True)])
    return result


@ONNX_OPS("ReverseSequence")
def reverse_sequence(
    ctx: Context, input: Value, sequence_lens: Value, *, batch_axis: int = 1, time_axis: int = 0
) -> Value:
    """The first elements of each sequence backwards, as many as its length says."""
    return ctx.unary(
        "reverse_sequence",
        input,
        lengths=sequence_lens,
        seq_axis=ctx.axis(time_axis, input.rank),
        batch_axis=ctx.axis(batch_axis, input.rank),
    )


@ONNX_OPS("DepthToSpace")
def depth_to_space(ctx: Context, input: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Channels moved into blocks of pixels; the place in a block is the outer part of the
    channel (DCR), or the inner one (CRD).
    """
    if blocksize == 1:
        return input
    if input.is_float and mode == "DCR":
        return ctx.unary("depth_to_space", input, block_size=blocksize)
    if input.is_float:
        return ctx.unary("pixel_shuffle", input, upscale_factor=blocksize)
    n, c, h, w = (ctx.size(input, axis) for axis in range(4))
    channels, size = ctx.floor_div(c, blocksize * blocksize), blocksize
    # one direction after the other: MIL has five axes, six would be needed at once
    outer = ctx.mul(n, size) if mode == "DCR" else ctx.mul(ctx.mul(n, channels), size)
    rest = [channels] if mode == "DCR" else [1]
    wide = ctx.transpose(ctx.reshape(input, [outer, size, *rest, h, w]), [0, 2, 3, 4, 1])
    width, height = ctx.mul(w, size), ctx.mul(h, size)
    if mode == "DCR":
        tall = ctx.transpose(ctx.reshape(wide, [n, size, channels, h, width]), [0, 2, 3, 1, 4])
    else:
        tall = ctx.transpose(ctx.reshape(wide, [n, channels, size, h, width]), [0, 1, 3, 2, 4])
    return ctx.reshape(tall, [n, channels, height, width])


@ONNX_OPS("SpaceToDepth")
def space_to_depth(ctx: Context, input: Value, *, blocksize: int, mode: str = "DCR") -> Value:
    """Blocks of pixels moved into channels; the inverse of DepthToSpace with the same mode."""
    if blocksize == 1:
        return input
    if input.is_float and mode == "DCR":
        return ctx.unary("space_to_depth", input, block_size=blocksize)
    if input.is_float and ctx.target >= 16:
        return ctx.unary("pixel_unshuffle", input, downscale_factor=np.uint32(blocksize))
    n, c, h, w = (ctx.size(input, axis) for axis in range(4))
    rows, columns, size = ctx.floor_div(h, blocksize), ctx.floor_div(w, blocksize), blocksize
    flat = ctx.reshape(input, [n, c, rows, size, w])
    if mode == "DCR":
        low = ctx.transpose(flat, [0, 3, 1, 2, 4])
        split = ctx.reshape(low, [ctx.mul(n, size), c, rows, columns, size])
        narrow = ctx.transpose(split, [0, 4, 1, 2, 3])
    else:
        low = ctx.transpose(flat, [0, 1, 3, 2, 4])
        split = ctx.reshape(low, [n, ctx.mul(c, size), rows, columns, size])
        narrow = ctx.transpose(split, [0, 1, 4, 2, 3])
    return ctx.reshape(narrow, [n, ctx.mul(c, size * size), rows, columns])


# tensors of a shape --------------------------------------------------------------------------


@ONNX_OPS("ConstantOfShape")
def constant_of_shape(ctx: Context, input: Value, *, value: Tensor | None = None) -> Value:
    """A tensor full of one number, by default 0.0."""
    if value is None:
        return ctx.filled(input, 0.0, "float32")
    return ctx.filled(input, value.array.reshape(-1)[0].item(), value.dtype)


@ONNX_OPS("Range")
def number_range(
    ctx: Context, start: Value, limit: Value, delta: Value, *, stash_type: int = 1
) -> Value:
    """The numbers from `start` to before `limit` in steps of `delta`."""
    first, last, step = (
        ctx.element(item, 0) if item.rank else item for item in (start, limit, delta)
    )
    return ctx.range(first, last, step, start.dtype)


@ONNX_OPS("EyeLike")
def eye_like(ctx: Context, input: Value, *, dtype: int | None = None, k: int = 0) -> Value:
    """A matrix of the input's shape with ones on its diagonal, or on one `k` to the right."""
    wanted = input.dtype if dtype is None else type_name(dtype)
    if is_static(input.shape):
        rows, columns = input.shape
        return ctx.value(np.eye(rows, columns, k), wanted)
    return ctx.cast(ctx.equal(diagonals(ctx, input), k), wanted)


def diagonals(ctx: Context, x: Value) -> Value:
    """How far each element of a matrix lies to the right of its diagonal, as an int64 matrix."""
    columns = ctx.range(0, ctx.size(x, -1))
    rows = ctx.expand_dims(ctx.range(0, ctx.size(x, -2)), [1])
    if columns.array is not None and rows.array is not None:
        return ctx.value(columns.array - rows.array)
    return ctx.sub(columns, rows)


@ONNX_OPS("Trilu")
def triangle(ctx: Context, input: Value, k: Value | None = None, *, upper: int = 1) -> Value:
    """The part of each matrix above a diagonal, that one included, or the part below; else 0."""
    above = k if k is not None else ctx.value(np.int64(0))
    above = ctx.element(above, 0) if above.rank else above
    known = None if above.array is None else int(above.array)
    if known is not None and (known <= 0 if upper else known >= 0):
        lower, higher = (-known, -1) if upper else (-1, known)
        return ctx.unary("band_part", input, lower=lower, upper=higher)
    if is_static(input.shape) and 0 in input.shape:
        return input
    distance = diagonals(ctx, input)
    if upper:
        inside = inside_of(ctx, "greater_equal", distance, above)
    else:
        inside = inside_of(ctx, "less_equal", distance, above)
    return ctx.where(inside, input, ctx.value(0, input.dtype))


def inside_of(ctx: Context, operation: str, distance: Value, k: Value) -> Value:
    """Where a comparison of distances with `k` holds; a constant if both are."""
    if distance.array is not None and k.array is not None:
        return ctx.value(getattr(np, operation)(distance.array, k.array))
    return ctx.binary(operation, distance, k)
