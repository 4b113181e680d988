"""Convolutions, their transposes, and what is built like them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value, is_static
from metal4conv.frontends.onnx.windows import (
    Windows,
    pad_by,
    padded,
    tell_shape,
    windows_of,
)


@ONNX_OPS("Conv")
def conv(
    ctx: Context,
    X: Value,
    W: Value,
    B: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """The convolution of `X` with `W`, which may be computed while the model runs."""
    windows = windows_of(ctx, X, W.shape[2:], strides, pads, dilations, auto_pad)
    return convolved(ctx, X, W, B, windows, group)


def convolved(
    ctx: Context, x: Value, weight: Value, bias: Value | None, windows: Windows, groups: int
) -> Value:
    """The convolution. A computed weight has no dilations in MIL; zeros between do the same."""
    source = x
    told = windows
    if windows.pads is None and windows.is_lower and ctx.target < 16:
        x, windows = padded(ctx, x, windows)
    if not is_fixed(weight) and windows.is_dilated:
        for axis, step in enumerate(windows.dilations, 2):
            weight = spread(ctx, weight, axis, step)
        kernel = tuple(int(size) for size in weight.shape[2:])
        windows = Windows(
            kernel, windows.strides, (1,) * len(kernel), windows.pads, windows.is_lower
        )
    result = ctx.unary(
        "conv",
        x,
        weight=weight,
        bias=constant_bias(bias),
        strides=list(windows.strides),
        dilations=list(windows.dilations),
        groups=groups,
        **windows.padding(),
    )
    return with_bias(ctx, tell_shape(source, result, told), bias)


def is_fixed(value: Value) -> bool:
    """Whether MIL takes the value as a constant; a compressed weight is one too."""
    return value.is_constant or bool(value.var.is_descendant_of_const)


def constant_bias(bias: Value | None) -> Value | None:
    """The bias, if it is a constant: MIL takes no other."""
    return bias if bias is not None and bias.array is not None else None


def with_bias(ctx: Context, result: Value, bias: Value | None) -> Value:
    """The result with a bias that is computed while the model runs."""
    if bias is None or bias.array is not None:
        return result
    return ctx.add(result, ctx.reshape(bias, [1, -1, *[1] * (result.rank - 2)]))


def spread(ctx: Context, x: Value, axis: int, step: int) -> Value:
    """The value with `step` - 1 zeros between the elements along an axis."""
    if step == 1:
        return x
    sizes: list[int | Value] = [ctx.size(x, place) for place in range(x.rank)]
    rows = ctx.expand_dims(x, [axis + 1])
    rows = pad_by(ctx, rows, [(0, step - 1), *[(0, 0)] * (x.rank - axis - 1)])
    sizes[axis] = ctx.mul(ctx.size(x, axis), step)
    return ctx.slice_axis(ctx.reshape(rows, sizes), axis, 0, -(step - 1))


# transposed ----------------------------------------------------------------------------------


@ONNX_OPS("ConvTranspose")
def conv_transpose(
    ctx: Context,
    X: Value,
    W: Value,
    B: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    output_padding: list[int] | None = None,
    output_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """The transposed convolution of `X` with `W`, `[C_in, C_out / group, *kernel]`.

    It is cut out of the full one by `pads`, or so that it has `output_shape`. What reaches beyond
    the full one is 0 plus the bias.
    """
    windows = windows_of(ctx, X, W.shape[2:], strides, pads, dilations)
    extra = output_padding or [0] * (X.rank - 2)
    if output_shape:
        wanted = output_shape[-(X.rank - 2) :]
        if not is_static(X.shape[2:]):
            return cut_to_shape(ctx, X, W, B, windows, group, wanted, auto_pad == "SAME_UPPER")
        totals = [
            (int(size) - 1) * step + span - goal
            for size, step, span, goal in zip(
                X.shape[2:], windows.strides, windows.spans, wanted, strict=True
            )
        ]
        cuts = [halved(total, auto_pad == "SAME_UPPER") for total in totals]
    elif auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [span - step for step, span in zip(windows.strides, windows.spans, strict=True)]
        cuts = [halved(total, auto_pad == "SAME_UPPER") for total in totals]
    else:
        assert windows.pads is not None
        given = windows.pads if auto_pad == "NOTSET" else ((0, 0),) * len(extra)
        cuts = [(before, after - more) for (before, after), more in zip(given, extra, strict=True)]
    return transposed(ctx, X, W, B, windows, group, cuts)


def halved(total: int, is_upper: bool) -> tuple[int, int]:
    """What is cut before and after; of an odd total the larger part after, or else before."""
    if total < 0:
        return 0, total
    return (total // 2, total - total // 2) if is_upper else (total - total // 2, total // 2)


def transposed(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    windows: Windows,
    groups: int,
    cuts: Sequence[tuple[int, int]],
) -> Value:
    """The transposed convolution without what `cuts` says; a negative number appends zeros."""
    missing = [(0, max(-after, 0)) for _, after in cuts]
    kept = tuple((before, max(after, 0)) for before, after in cuts)
    is_short = any(map(any, missing))
    inner = None if is_short else constant_bias(bias)
    if is_fixed(weight) or ctx.target >= 17:
        result = ctx.unary(
            "conv_transpose",
            x,
            weight=weight,
            bias=inner,
            strides=list(windows.strides),
            dilations=list(windows.dilations),
            groups=groups,
            **Windows(windows.kernel, windows.strides, windows.dilations, kept).padding(),
        )
    else:
        result = transposed_by_conv(ctx, x, weight, inner, windows, groups, kept)
    result = pad_by(ctx, result, missing)
    if not is_short or bias is None:
        return with_bias(ctx, result, bias)
    return ctx.add(result, ctx.reshape(bias, [1, -1, *[1] * (result.rank - 2)]))


def transposed_by_conv(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    windows: Windows,
    groups: int,
    cuts: Sequence[tuple[int, int]],
) -> Value:
    """The same as a convolution of the spread input with the mirrored weight.

    Before iOS17 the weight of `conv_transpose` must be constant.
    """
    rank = x.rank - 2
    rows, columns = (int(size) for size in weight.shape[:2])
    kernel = list(windows.kernel)
    mirrored = ctx.unary("reverse", weight, axes=list(range(2, rank + 2)))
    for axis, step in enumerate(windows.dilations, 2):
        mirrored = spread(ctx, mirrored, axis, step)
    spans = windows.spans if windows.is_dilated else kernel
    split = ctx.reshape(mirrored, [groups, rows // groups, columns * int(np.prod(spans))])
    split = ctx.reshape(split, [groups, rows // groups, columns, -1])
    split = ctx.transpose(split, [0, 2, 1, 3])
    turned = ctx.reshape(split, [groups * columns, rows // groups, *spans])
    for axis, step in enumerate(windows.strides, 2):
        x = spread(ctx, x, axis, step)
    around = [
        (span - 1 - before, span - 1 - after)
        for span, (before, after) in zip(spans, cuts, strict=True)
    ]
    ones = (1,) * rank
    x = pad_by(ctx, x, [(max(before, 0), max(after, 0)) for before, after in around])
    for axis, (before, after) in enumerate(around, 2):
        if min(before, after) < 0:
            x = ctx.slice_axis(x, axis, max(-before, 0), min(after, 0) or None)
    bare = Windows(tuple(spans), ones, ones, ((0, 0),) * rank)
    return convolved(ctx, x, turned, bias, bare, groups)


def cut_to_shape(
    ctx: Context,
    x: Value,
    weight: Value,
    bias: Value | None,
    windows: Windows,
    groups: int,
    wanted: Sequence[int],
    is_upper: bool,
) -> Value:
    """A transposed convolution of dynamic sizes, cut or filled up with zeros to fixed ones."""
    result = transposed(ctx, x, weight, None, windows, groups, [(0, 0)] * len(wanted))
    for axis, goal in enumerate(wanted, 2):
        total = ctx.maximum(ctx.sub(ctx.size(result, axis), goal), 0)
        half = ctx.floor_div(total, 2)
        before = half if is_upper else ctx.sub(total, half)
        result = pad_by(ctx, result, [(0, goal), *[(0, 0)] * (result.rank - axis - 1)])
        result = ctx.slice_axis(result, axis, before, ctx.add(before, goal))
        result = ctx.reshape(result, fixed_axis(ctx, result, axis, goal))
    if bias is None:
        return result
    return ctx.add(result, ctx.reshape(bias, [1, -1, *[1] * (result.rank - 2)]))


def fixed_axis(ctx: Context, x: Value, axis: int, size: int) -> list[int | Value]:
    """The sizes of a value, one of which is known though coremltools does not know it."""
    return [size if place == axis else ctx.size(x, place) for place in range(x.rank)]


# others --------------------------------------------------------------------------------------


@ONNX_OPS("DeformConv", since=19)
def deform_conv(
    ctx: Context,
    X: Value,
    W: Value,
    offset: Value,
    B: Value | None = None,
    mask: Value | None = None,
    *,
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    offset_group: int = 1,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """A convolution whose window's elements are each moved by an offset, and weighted by a mask.

    The moved elements are resampled, laid out as columns, and multiplied with the weight.
    """
    if X.rank != 4:
        raise ctx.unsupported(f"the input has {X.rank} axes; images have 4")
    windows = windows_of(ctx, X, W.shape[2:], strides, pads, dilations)
    assert windows.pads is not None
    count = int(np.prod(windows.kernel))
    high, wide = ctx.size(offset, 2), ctx.size(offset, 3)
    channels, outputs = int(X.shape[1]), int(W.shape[0])
    places = ctx.reshape(offset, [ctx.size(X, 0), offset_group, count, 2, ctx.mul(high, wide)])
    base = window_places(ctx, windows, high, wide)
    parts = []
    for number in range(offset_group):
        moved = ctx.squeeze(ctx.slice_axis(places, 1, number, number + 1), [1])
        moved = ctx.transpose(ctx.add(moved, base), [0, 1, 3, 2])
        moved = ctx.unary("reverse", moved, axes=[3])  # MIL's coordinates are (column, row)
        width = channels // offset_group
        image = (
            X if offset_group == 1 else ctx.slice_axis(X, 1, number * width, (number + 1) * width)
        )
        part = ctx.unary("resample", image, coordinates=moved, **resampling("bilinear"))
        if mask is not None:
            weights = ctx.slice_axis(mask, 1, number * count, (number + 1) * count)
            weights = ctx.reshape(weights, [ctx.size(X, 0), 1, count, ctx.mul(high, wide)])
            part = ctx.mul(part, weights)
        parts.append(part)
    columns = ctx.concat(parts, 1)
    rows = channels // group * count
    columns = ctx.reshape(columns, [ctx.size(X, 0), group, rows, ctx.mul(high, wide)])
    matrix = ctx.reshape(W, [1, group, outputs // group, rows])
    result = ctx.unary("matmul", matrix, y=columns)
    result = ctx.reshape(result, [ctx.size(X, 0), outputs, high, wide])
    if B is None:
        return result
    return ctx.add(result, ctx.reshape(B, [1, -1, 1, 1]))


def resampling(mode: str) -> dict[str, Any]:  # Any: texts, a number, a flag
    """How `resample` takes positions in elements, with zeros around."""
    return {
        "sampling_mode": mode,
        "padding_mode": "constant",
        "padding_value": np.float32(0),
        "coordinates_mode": "unnormalized",
        "align_corners": True,
    }


def window_places(ctx: Context, windows: Windows, high: Value, wide: Value) -> Value:
    """Rows and columns, `[1, kernel elements, 2, windows]`, of what lies under each window."""
    assert windows.pads is not None
    grids = []
    for axis, count in enumerate((high, wide)):
        starts = ctx.sub(ctx.mul(ctx.range(0, count), windows.strides[axis]), windows.pads[axis][0])
        starts = ctx.expand_dims(ctx.cast(starts, "float32"), [0, 2 - axis])
        steps = np.indices(windows.kernel)[axis].reshape(-1, 1, 1) * windows.dilations[axis]
        grid = ctx.add(starts, ctx.value(steps.astype(np.float32)))
        other = ctx.filled(ctx.vector([1, 1, wide] if axis == 0 else [1, high, 1]), 0.0, "float32")
        grid = ctx.add(grid, other)
        grids.append(ctx.reshape(grid, [1, int(np.prod(windows.kernel)), 1, ctx.mul(high, wide)]))
    return ctx.concat(grids, 2)


@ONNX_OPS("Col2Im", since=18)
def col2im(
    ctx: Context,
    input: Value,
    image_shape: Value,
    block_shape: Value,
    *,
    dilations: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """Columns, `[N, C * block, windows]`, added up where their elements came from.

    Positions are computed for one image; what falls into the padding goes to a place behind it.
    """
    rank = int(image_shape.shape[0])
    apart, steps = dilations or [1] * rank, strides or [1] * rank
    around = pads or [0] * (2 * rank)
    images = [ctx.element(image_shape, axis) for axis in range(rank)]
    blocks = [ctx.element(block_shape, axis) for axis in range(rank)]
    counts = []
    for axis in range(rank):
        span = ctx.add(ctx.mul(ctx.sub(blocks[axis], 1), apart[axis]), 1)
        free = ctx.sub(ctx.add(images[axis], around[axis] + around[rank + axis]), span)
        counts.append(ctx.add(ctx.floor_div(free, steps[axis]), 1))
    block, image = product_of(ctx, blocks), product_of(ctx, images)
    inner = unraveled(ctx, ctx.expand_dims(ctx.range(0, block), [1]), blocks)
    outer = unraveled(ctx, ctx.expand_dims(ctx.range(0, product_of(ctx, counts)), [0]), counts)
    places: Value | None = None
    inside: Value | None = None
    for axis in range(rank):
        place = ctx.add(
            ctx.mul(inner[axis], apart[axis]),
            ctx.sub(ctx.mul(outer[axis], steps[axis]), around[axis]),
        )
        fits = ctx.binary(
            "logical_and", ctx.binary("greater_equal", place, 0), ctx.less(place, images[axis])
        )
        inside = fits if inside is None else ctx.binary("logical_and", inside, fits)
        places = place if places is None else ctx.add(ctx.mul(places, images[axis]), place)
    assert places is not None
    assert inside is not None
    places = ctx.reshape(ctx.where(inside, places, image), [-1])
    batch = ctx.size(input, 0)
    channels = ctx.floor_div(ctx.size(input, 1), block)
    rows = ctx.mul(batch, channels)
    updates = ctx.reshape(input, [rows, ctx.mul(block, ctx.size(input, 2))])
    zeros = ctx.filled([rows, ctx.add(image, 1)], 0.0, "float32").with_dtype(input.dtype)
    result = ctx.emit("scatter", data=zeros, indices=places, updates=updates, axis=1, mode="add")
    result = ctx.slice_axis(result, 1, 0, -1)
    return ctx.reshape(result, [batch, channels, *images])


def product_of(ctx: Context, sizes: Sequence[Value]) -> Value:
    """The product of scalars."""
    result = sizes[0]
    for size in sizes[1:]:
        result = ctx.mul(result, size)
    return result


def unraveled(ctx: Context, number: Value, sizes: Sequence[Value]) -> list[Value]:
    """The index along each axis of elements that are counted in their order."""
    found = []
    for size in reversed(sizes[1:]):
        found.append(ctx.mod(number, size))
        number = ctx.floor_div(number, size)
    return [number, *reversed(found)]
