"""Operators that take parts of a tensor, or extend it: Slice, Split, Pad, CenterCropPad.

Constant bounds give MIL's own operation. Those that are computed while the model runs, where MIL
wants constants, give one `gather` along each axis, with computed indices.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from metal4conv.frontends.onnx.context import Context, set_shape
from metal4conv.frontends.onnx.emitter import INT32
from metal4conv.frontends.onnx.sizes import Decider, Undecided, larger, smaller
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Size, Value, is_static

Bound = int | Value
"""A position or a number of elements: known, or an int64 scalar, or a vector of one."""

Pair = tuple[Bound, Bound]


def bounds(ctx: Context, vector: Value) -> list[Bound]:
    """The elements of a vector, whose length must be known."""
    if not is_static(vector.shape):
        raise ctx.unsupported("the length of the starts, ends, axes or pads is not known")
    count = int(vector.shape[0]) if vector.rank else 1
    if count == 1 and not vector.is_constant:
        return [vector]
    items = [ctx.element(vector, place) if vector.rank else vector for place in range(count)]
    return [item if item.array is None else int(item.array) for item in items]


def scalar(ctx: Context, bound: Bound) -> Value:
    """A bound as an int64 scalar."""
    value = ctx.value(bound, "int64")
    return ctx.element(value, 0) if value.rank else value


def spread(ctx: Context, axes: Value, values: Value, default: Value) -> Value:
    """A vector with one element an axis: those of `values` at computed `axes`, else the default."""
    rank = ctx.value(np.int64(default.shape[0]))
    place = ctx.wrap_indices(axes, rank)
    return ctx.emit(  # type: ignore[no-any-return]  # one output
        "scatter", data=default, indices=place, updates=values, axis=0, mode="update", dtype="int64"
    )


# Slice ---------------------------------------------------------------------------------------


@ONNX_OPS("Slice", since=10)
def sliced(
    ctx: Context,
    data: Value,
    starts: Value,
    ends: Value,
    axes: Value | None = None,
    steps: Value | None = None,
) -> Value:
    """The elements of each axis from a start to before an end in steps, as numpy has them."""
    steps = steps if steps is not None else ctx.value(np.ones(starts.shape, np.int64))
    if axes is not None and axes.array is None:
        rank = data.rank
        starts = spread(ctx, axes, starts, ctx.value(np.zeros(rank, np.int64)))
        ends = spread(ctx, axes, ends, ctx.shape(data))
        steps = spread(ctx, axes, steps, ctx.value(np.ones(rank, np.int64)))
        axes = None
    begins = bounds(ctx, starts)
    chosen = list(range(len(begins))) if axes is None else ctx.ints(axes, "axes")
    return slice_axes(ctx, data, chosen, begins, bounds(ctx, ends), bounds(ctx, steps))


@ONNX_OPS("Slice", since=1)
def sliced_by_attributes(
    ctx: Context, data: Value, *, axes: list[int] | None = None, ends: list[int], starts: list[int]
) -> Value:
    chosen = list(range(len(starts))) if axes is None else axes
    return slice_axes(ctx, data, chosen, list(starts), list(ends), [1] * len(starts))


def slice_axes(
    ctx: Context,
    data: Value,
    axes: Sequence[int],
    begins: Sequence[Bound],
    ends: Sequence[Bound],
    steps: Sequence[Bound],
) -> Value:
    """One `slice_by_index` for all axes with constant steps, a `gather` for each of the others."""
    begin: list[Bound] = [0] * data.rank
    end: list[Bound] = [0] * data.rank
    stride = [1] * data.rank
    low_open, high_open = [True] * data.rank, [True] * data.rank
    computed = []
    for given, first, last, step in zip(axes, begins, ends, steps, strict=True):
        axis = ctx.axis(given, data.rank)
        if isinstance(step, Value):
            computed.append((axis, first, last, step))
            continue
        if step == 0:
            raise ctx.unsupported(f"a step of 0 along axis {axis}")
        first = first if step > 0 else backward_start(ctx, data, axis, first)
        begin[axis], end[axis], stride[axis], low_open[axis], high_open[axis] = normalized(
            first, last, step, data.shape[axis]
        )
    result = data
    is_whole = all(low_open) and all(high_open) and all(step == 1 for step in stride)
    if not is_whole:
        result = emit_slice(ctx, data, begin, end, stride, low_open, high_open)
    for axis, first, last, step in computed:
        indices = computed_indices(ctx, ctx.size(data, axis), first, last, step)
        result = gather(ctx, result, indices, axis)
    return result


def backward_start(ctx: Context, data: Value, axis: int, first: Bound) -> Bound:
    """Where a slice with a negative step starts: one before the beginning starts there in ONNX,
    and gives nothing in MIL.
    """
    if isinstance(first, int) and (first >= -1 or is_static((data.shape[axis],))):
        return first
    start = scalar(ctx, cut(first) if isinstance(first, int) else first)
    from_end = ctx.maximum(ctx.add(start, ctx.size(data, axis)), 0)
    if isinstance(first, int):
        return from_end
    return ctx.where(ctx.less(start, 0), from_end, start)


def normalized(
    first: Bound, last: Bound, step: int, size: Size
) -> tuple[Bound, Bound, int, bool, bool]:
    """Begin, end, stride, and whether begin and end are open, as MIL takes them."""
    if isinstance(first, int) and isinstance(last, int) and is_static((size,)):
        # ONNX cuts a start before the beginning to 0, numpy gives nothing for a negative step
        begin, end, _ = slice(max(first, -size) if step < 0 else first, last, step).indices(size)
        count = len(range(begin, end, step))
        if count == 0:
            return 0, 0, 1, False, False
        if step > 0:
            return begin, end, step, begin == 0, end == size
        return begin, max(end, 0), step, begin == size - 1, end < 0
    forward = step > 0
    low_open = isinstance(first, int) and (
        first == 0 if forward else first == -1 or first >= INT32.max
    )
    high_open = isinstance(last, int) and (last >= INT32.max if forward else last <= INT32.min)
    begin_, end_ = (cut(item) if isinstance(item, int) else item for item in (first, last))
    if isinstance(begin_, int) and isinstance(end_, int) and (begin_ < 0) == (end_ < 0):
        # nothing lies between; coremltools takes no end before the beginning
        end_ = max(begin_, end_) if forward else min(begin_, end_)
    return begin_, end_, step, low_open, high_open


def cut(number: int) -> int:
    """A number cut to what int32 holds."""
    return max(INT32.min, min(INT32.max, number))


def emit_slice(
    ctx: Context,
    x: Value,
    begin: Sequence[Bound],
    end: Sequence[Bound],
    stride: list[int],
    low_open: list[bool],
    high_open: list[bool],
) -> Value:
    """MIL's slice, and its sizes where they follow from those of the tensor and the bounds."""
    is_plain = all(step == 1 for step in stride)
    result: Value = ctx.emit(
        "slice_by_index",
        x=x,
        begin=ctx.vector(begin),
        end=ctx.vector(end),
        stride=None if is_plain else stride,
        begin_mask=low_open if any(low_open) else None,
        end_mask=high_open if any(high_open) else None,
        dtype=x.dtype,
    )
    if not is_static(result.shape):
        sizes = [
            sliced_size(
                ctx,
                x.shape[axis],
                None if low_open[axis] else begin[axis],
                None if high_open[axis] else end[axis],
                stride[axis],
            )
            for axis in range(x.rank)
        ]
        pairs = zip(sizes, result.shape, strict=True)
        set_shape(result, [found if known is None else known for known, found in pairs])
    return result


def sliced_size(
    ctx: Context, size: Size, first: Bound | None, last: Bound | None, step: int
) -> Size | None:
    """How many elements a slice has, as an expression; None where that is not decided."""
    import sympy

    decide = Decider(ctx.positive)
    if step < 0 and not (first is None and last is None):
        return None
    try:
        low = position(first, size, 0, decide)
        high = position(last, size, size, decide)
    except Undecided:
        return None
    count = larger(sympy.sympify(high) - low, 0, decide)
    count = sympy.ceiling(sympy.sympify(count) / abs(step))
    return int(count) if count.is_Integer else count


def position(bound: Bound | None, size: Size, default: Size, decide: Decider) -> Size:
    """A bound as a place from 0 to the size."""
    if bound is None:
        return default
    if isinstance(bound, Value):
        if bound.sizes is None:
            raise Undecided
        place = bound.sizes.reshape(-1)[0]
    else:
        place = bound
    if not decide.is_positive(place + 1):
        return larger(size + place, 0, decide)
    return smaller(place, size, decide)


def computed_indices(ctx: Context, size: Value, first: Bound, last: Bound, step: Bound) -> Value:
    """The places that a slice with a computed step takes, as ONNX cuts them to the axis."""
    width = scalar(ctx, step)
    before = ctx.minimum(ctx.unary("sign", width), 0)
    top = ctx.add(size, before)
    begin, end = (
        ctx.where(ctx.less(item, 0), ctx.add(item, size), item)
        for item in (scalar(ctx, first), scalar(ctx, last))
    )
    begin = ctx.minimum(ctx.maximum(begin, 0), top)
    end = ctx.minimum(ctx.maximum(end, before), top)
    return ctx.range(begin, end, width)


def gather(ctx: Context, x: Value, indices: Value, axis: int) -> Value:
    """Slices along an axis by indices that are in range."""
    result: Value = ctx.emit("gather", x=x, indices=indices, axis=axis, dtype=x.dtype)
    return result


# Split ---------------------------------------------------------------------------------------


@ONNX_OPS("Split", since=13)
def split_into_parts(
    ctx: Context,
    input: Value,
    split: Value | None = None,
    *,
    axis: int = 0,
    num_outputs: int | None = None,
) -> tuple[Value, ...]:
    """Parts along an axis: of the given sizes, or as many as there are outputs, all alike; the
    last one may be smaller.
    """
    place = ctx.axis(axis, input.rank)
    count = num_outputs or len(ctx.place.outputs)
    size = input.shape[place]
    if split is not None:
        return split_by_sizes(ctx, input, place, bounds(ctx, split))
    if is_static((size,)):
        part = -(-size // count)
        sizes = [max(min(part, size - number * part), 0) for number in range(count)]
        return split_by_sizes(ctx, input, place, list(sizes))
    if num_outputs is None:
        return split_evenly(ctx, input, place, count)
    part_size = ctx.floor_div(ctx.add(ctx.size(input, place), count - 1), count)
    inner = [ctx.mul(part_size, number) for number in range(1, count)]
    marks: list[Bound] = [0, *inner, INT32.max]
    return tuple(
        slice_axes(ctx, input, [place], [first], [last], [1]) for first, last in pairwise(marks)
    )


@ONNX_OPS("Split", since=2)
def split_by_attribute(
    ctx: Context, input: Value, *, axis: int = 0, split: list[int] | None = None
) -> tuple[Value, ...]:
    sizes = None if split is None else ctx.value(np.array(split, np.int64))
    return split_into_parts(ctx, input, sizes, axis=axis)


def split_evenly(ctx: Context, x: Value, axis: int, count: int) -> tuple[Value, ...]:
    """Equal parts of a dynamic size, which they must divide."""
    if count == 1:
        return (x,)
    parts: tuple[Value, ...] = ctx.emit("split", x=x, num_splits=count, axis=axis, dtype=x.dtype)
    return parts


def split_by_sizes(ctx: Context, x: Value, axis: int, sizes: Sequence[Bound]) -> tuple[Value, ...]:
    """Parts of these sizes; MIL takes them as constants above 0, slices all others."""
    if len(sizes) == 1:
        return (x,)
    fixed = [size for size in sizes if isinstance(size, int)]
    if len(fixed) == len(sizes) and all(fixed):
        parts: tuple[Value, ...] = ctx.emit(
            "split", x=x, split_sizes=fixed, axis=axis, dtype=x.dtype
        )
        return parts
    marks: list[Bound] = [0]
    for size in sizes:
        marks.append(plus(ctx, marks[-1], size))
    return tuple(
        slice_axes(ctx, x, [axis], [first], [last], [1]) for first, last in pairwise(marks)
    )


def plus(ctx: Context, x: Bound, y: Bound) -> Bound:
    """The sum of two numbers of elements."""
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    return ctx.add(ctx.value(x, "int64"), ctx.value(y, "int64"))


# Pad -----------------------------------------------------------------------------------------


@ONNX_OPS("Pad", since=11)
def pad(
    ctx: Context,
    data: Value,
    pads: Value,
    constant_value: Value | None = None,
    axes: Value | None = None,
    *,
    mode: str = "constant",
) -> Value:
    """The tensor extended at both ends of its axes, or cut where a number is negative.

    What is added is one value, or what the tensor holds: its elements mirrored at the ends
    (reflect), those at the ends (edge), or those from the other end (wrap).
    """
    if axes is not None and axes.array is None:
        none = ctx.value(np.zeros(data.rank, np.int64))
        halves = (ctx.slice_axis(pads, 0, 0, axes.shape[0]), ctx.slice_axis(pads, 0, axes.shape[0]))
        before, after = (bounds(ctx, spread(ctx, axes, half, none)) for half in halves)
        chosen = list(range(data.rank))
    else:
        rows = bounds(ctx, pads)
        before, after = rows[: len(rows) // 2], rows[len(rows) // 2 :]
        chosen = list(range(data.rank)) if axes is None else ctx.ints(axes, "axes")
    pairs: list[Pair] = [(0, 0)] * data.rank
    for axis, pair in zip(chosen, zip(before, after, strict=True), strict=True):
        pairs[ctx.axis(axis, data.rank)] = pair
    value = constant_value if constant_value is not None else ctx.value(0, data.dtype)
    return padded(ctx, data, pairs, mode, value)


@ONNX_OPS("Pad", since=2)
def pad_by_attributes(
    ctx: Context, data: Value, *, mode: str = "constant", pads: list[int], value: float = 0.0
) -> Value:
    before, after = pads[: len(pads) // 2], pads[len(pads) // 2 :]
    return padded(
        ctx, data, list(zip(before, after, strict=True)), mode, ctx.value(value, data.dtype)
    )


def padded(ctx: Context, data: Value, pairs: Sequence[Pair], mode: str, value: Value) -> Value:
    """The tensor extended by a pair of numbers an axis, the negative ones of which cut it."""
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise ctx.unsupported(f'mode "{mode}" is none of constant, reflect, edge and wrap')
    fixed = [
        (before, after)
        for before, after in pairs
        if isinstance(before, int) and isinstance(after, int)
    ]
    if len(fixed) < len(pairs):
        return padded_by_computed(ctx, data, pairs, mode, value)
    firsts = [max(-before, 0) for before, _ in fixed]
    lasts = [min(after, 0) or INT32.max for _, after in fixed]
    rank = data.rank
    data = slice_axes(ctx, data, range(rank), firsts, lasts, [1] * rank)
    grown = [(max(before, 0), max(after, 0)) for before, after in fixed]
    if not any(before or after for before, after in grown):
        return data
    if mode == "constant":
        return framed(ctx, data, grown, value)
    if data.is_float and is_native(data, grown, mode):
        native = {"reflect": "reflect", "edge": "replicate"}[mode]
        numbers = [number for pair in grown[-2:] for number in pair]
        return ctx.unary("pad", data, pad=numbers, mode=native)
    return padded_by_computed(ctx, data, grown, mode, value)


def is_native(data: Value, pairs: Sequence[tuple[int, int]], mode: str) -> bool:
    """Whether MIL mirrors or repeats edges so: along the last two axes, and not too far."""
    if mode == "wrap" or data.rank < 2 or any(before or after for before, after in pairs[:-2]):
        return False
    return all(
        not is_static((size,)) or max(pair) <= (size - 1 if mode == "reflect" else size)
        for size, pair in zip(data.shape[-2:], pairs[-2:], strict=True)
    )


def framed(ctx: Context, data: Value, pairs: Sequence[tuple[int, int]], value: Value) -> Value:
    """The tensor within a frame of one value."""
    if data.is_float and value.array is not None:
        first = next(axis for axis, pair in enumerate(pairs) if any(pair))
        numbers = [number for pair in pairs[first:] for number in pair]
        number = np.float32(value.array.reshape(-1)[0])
        return ctx.unary("pad", data, pad=numbers, mode="constant", constant_val=number)
    for axis, (before, after) in enumerate(pairs):
        parts = [block(ctx, data, axis, before, value), data, block(ctx, data, axis, after, value)]
        data = ctx.concat([item for item in parts if item is not None], axis)
    return data


def block(ctx: Context, data: Value, axis: int, count: int, value: Value) -> Value | None:
    """As many slices of one value along an axis; None for none."""
    if not count:
        return None
    sizes: list[int | Value] = [ctx.size(data, place) for place in range(data.rank)]
    sizes[axis] = count
    if value.array is not None:
        return ctx.filled(sizes, value.array.reshape(-1)[0].item(), data.dtype)
    return ctx.broadcast(ctx.reshape(value, [1] * data.rank), ctx.vector(sizes))


def padded_by_computed(
    ctx: Context, data: Value, pairs: Sequence[Pair], mode: str, value: Value
) -> Value:
    """MIL's own operation where all numbers are sizes, else a `gather` along each axis."""
    numbers = ctx.vector([number for pair in pairs for number in pair])
    is_native = mode == "constant" and data.is_float and value.array is not None
    if is_native and ctx.is_never_negative(numbers) and value.array is not None:
        constant = np.float32(value.array.reshape(-1)[0])
        return ctx.unary("pad", data, pad=numbers, mode="constant", constant_val=constant)
    for axis, (before, after) in enumerate(pairs):
        if isinstance(before, int) and isinstance(after, int) and before == after == 0:
            continue
        data = padded_axis(ctx, data, axis, before, after, mode, value)
    return data


def padded_axis(
    ctx: Context, data: Value, axis: int, before: Bound, after: Bound, mode: str, value: Value
) -> Value:
    """The tensor extended along one axis by indices that are computed."""
    low, high = scalar(ctx, before), scalar(ctx, after)
    size = ctx.size(data, axis)
    first = ctx.maximum(ctx.mul(low, -1), 0)
    count = ctx.add(ctx.sub(size, first), ctx.minimum(high, 0))
    places = ctx.range(ctx.minimum(ctx.mul(low, -1), 0), ctx.add(count, ctx.maximum(high, 0)))
    last = ctx.sub(count, 1)
    if mode == "wrap":
        inner = ctx.mod(places, count)
    elif mode == "reflect":
        period = ctx.maximum(ctx.mul(last, 2), 1)
        turn = ctx.mod(places, period)
        inner = ctx.minimum(turn, ctx.sub(period, turn))
    else:
        inner = ctx.minimum(ctx.maximum(places, 0), last)
    result = gather(ctx, data, ctx.add(inner, first), axis)
    if mode != "constant":
        return result
    inside = ctx.equal(inner, places)
    shaped = ctx.expand_dims(inside, [place for place in range(data.rank) if place != axis])
    filling = ctx.reshape(value, [1] * data.rank)
    return ctx.where(shaped if data.rank > 1 else inside, result, filling)


@ONNX_OPS("CenterCropPad")
def center_crop_pad(
    ctx: Context, input_data: Value, shape: Value, *, axes: list[int] | None = None
) -> Value:
    """The middle of the tensor, or the tensor in the middle of zeros, in the sizes of `shape`."""
    chosen = list(range(input_data.rank)) if axes is None else axes
    pairs: list[Pair] = [(0, 0)] * input_data.rank
    for axis, wanted in zip(chosen, bounds(ctx, shape), strict=True):
        place = ctx.axis(axis, input_data.rank)
        pairs[place] = centered(ctx, input_data, place, wanted)
    return padded(ctx, input_data, pairs, "constant", ctx.value(0, input_data.dtype))


def centered(ctx: Context, x: Value, axis: int, wanted: Bound) -> Pair:
    """How many elements are added before and after, or cut off, to have the wanted number."""
    size = x.shape[axis]
    if isinstance(wanted, int) and is_static((size,)):
        more = wanted - int(size)
        before = (more + (more < 0)) // 2
        return before, more - before
    change = ctx.sub(ctx.value(wanted, "int64"), ctx.size(x, axis))
    is_cut = ctx.cast(ctx.less(change, 0), "int64")
    half = ctx.floor_div(ctx.add(change, is_cut), 2)
    return half, ctx.sub(change, half)
