"""Pooling over windows, over whole images, and over regions of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value, is_static
from metal4conv.frontends.onnx.windows import (
    Windows,
    padded,
    taps,
    tell_shape,
    windows_of,
)

Fold = Callable[[Value, Value], Value]


# windows -------------------------------------------------------------------------------------


def overhangs(x: Value, windows: Windows) -> list[int]:
    """What ceil mode adds after the padding of each axis so that a last, partial window fits.

    A window that would start behind the data is left out; of a dynamic size `shortened` does it.
    """
    if windows.pads is None:
        return [0] * len(windows.kernel)
    found = []
    for size, step, span, (before, after) in zip(
        x.shape[2:], windows.strides, windows.spans, windows.pads, strict=True
    ):
        if not is_static((size,)):
            found.append(step - 1)
            continue
        length = int(size) + before + after
        count = -(-(length - span) // step) + 1
        count = min(count, -(-(int(size) + before) // step))
        found.append((count - 1) * step + span - length)
    return found


def shortened(ctx: Context, x: Value, result: Value, windows: Windows) -> Value:
    """The result of ceil mode without a window that starts behind data of a dynamic size."""
    if windows.pads is None:
        return result
    for axis, (size, step, span, (before, after)) in enumerate(
        zip(x.shape[2:], windows.strides, windows.spans, windows.pads, strict=True), 2
    ):
        if is_static((size,)) or after + step <= span:
            continue
        length = ctx.add(ctx.size(x, axis), before)
        starts = ctx.floor_div(ctx.add(length, step - 1), step)
        result = ctx.slice_axis(result, axis, 0, ctx.minimum(starts, ctx.size(result, axis)))
    return result


def widened(windows: Windows, more: Sequence[int]) -> Windows:
    """The windows with more padding after each axis."""
    assert windows.pads is not None
    pads = tuple(
        (before, after + extra) for (before, after), extra in zip(windows.pads, more, strict=True)
    )
    return Windows(windows.kernel, windows.strides, windows.dilations, pads)


def native(ctx: Context, windows: Windows) -> bool:
    """Whether MIL's own pooling has such windows."""
    is_known = windows.pads is not None or not windows.is_lower or ctx.target >= 16
    return is_known and not windows.is_dilated


def folded(ctx: Context, x: Value, windows: Windows, fold: Fold, fill: float) -> Value:
    """A fold of what lies under each window, along one axis after the other."""
    x, bare = padded(ctx, x, windows, fill)
    for axis, (kernel, step, dilation) in enumerate(
        zip(bare.kernel, bare.strides, bare.dilations, strict=True), 2
    ):
        x = reduce(fold, taps(ctx, x, axis, kernel, step, dilation))
    return x


def pooled(ctx: Context, x: Value, operation: str, windows: Windows, **options: bool) -> Value:
    """MIL's own pooling."""
    result = ctx.unary(
        operation,
        x,
        kernel_sizes=list(windows.kernel),
        strides=list(windows.strides),
        **windows.padding(),
        **options,
    )
    return tell_shape(x, result, windows)


@ONNX_OPS("MaxPool", since=1)
def max_pool(
    ctx: Context,
    X: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    storage_order: int = 0,
    strides: list[int] | None = None,
) -> tuple[Value, ...]:
    """The maximum under each window, and where it was in the whole input."""
    windows = windows_of(ctx, X, kernel_shape, strides, pads, dilations, auto_pad)
    x = X if X.is_float else ctx.cast(X, "float32")
    wide = widened(windows, overhangs(X, windows)) if ceil_mode and windows.pads else windows
    if native(ctx, wide):
        result = pooled(ctx, x, "max_pool", wide)
    else:
        result = folded(ctx, x, wide, ctx.maximum, -np.inf)
    places = None
    if len(ctx.place.outputs) > 1 and ctx.place.outputs[1]:
        places = max_places(ctx, x, wide, storage_order == 1)
    if ceil_mode:
        result = shortened(ctx, X, result, windows)
        places = None if places is None else shortened(ctx, X, places, windows)
    result = ctx.cast(result, X.dtype)
    return (result,) if places is None else (result, places)


def max_places(ctx: Context, x: Value, windows: Windows, is_column_major: bool) -> Value:
    """Where the first maximum under each window lies, counted through the whole input."""
    outer, bare = padded(ctx, x, windows, -np.inf)
    parts = [outer]
    for axis, (kernel, step, dilation) in enumerate(
        zip(bare.kernel, bare.strides, bare.dilations, strict=True), 2
    ):
        parts = [tap for part in parts for tap in taps(ctx, part, axis, kernel, step, dilation)]
    # the batch and channels are one axis, since MIL has five of them
    sizes = [ctx.size(parts[0], axis) for axis in range(x.rank)]
    rows = ctx.mul(sizes[0], sizes[1])
    shape: list[Value | int] = [1, rows, *sizes[2:]]
    stacked = ctx.concat([ctx.reshape(part, shape) for part in parts], 0)
    tap = ctx.emit("reduce_argmax", x=stacked, axis=0, keep_dims=False)
    places: Value | None = None
    if windows.pads is None:
        raise ctx.unsupported("Indices with auto_pad of a dynamic size; give pads instead")
    axes = list(range(len(windows.kernel)))
    for axis in axes[::-1] if is_column_major else axes:
        after = int(np.prod(windows.kernel[axis + 1 :]))
        inner = ctx.mod(ctx.floor_div(tap, after), windows.kernel[axis])
        starts = ctx.mul(ctx.range(0, sizes[axis + 2], dtype="int32"), windows.strides[axis])
        starts = ctx.expand_dims(starts, [0, *[number + 1 for number in axes if number != axis]])
        row = ctx.add(ctx.mul(inner, windows.dilations[axis]), starts)
        row = ctx.sub(row, windows.pads[axis][0])
        length = ctx.size(x, axis + 2)
        places = row if places is None else ctx.add(ctx.mul(places, length), row)
    assert places is not None
    image = reduce(ctx.mul, [ctx.size(x, axis + 2) for axis in axes])
    channels = ctx.mul(ctx.range(0, rows, dtype="int32"), image)
    channels = ctx.expand_dims(channels, [axis + 1 for axis in axes])
    return ctx.reshape(ctx.add(places, channels), sizes).with_dtype("int64")


@ONNX_OPS("AveragePool", since=1)
def average_pool(
    ctx: Context,
    X: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """The mean under each window; what ceil mode adds behind the padding never counts."""
    windows = windows_of(ctx, X, kernel_shape, strides, pads, dilations, auto_pad)
    x, wide = X, windows
    if ceil_mode and windows.pads is not None:
        more = overhangs(X, windows)
        if count_include_pad and any(more):
            x, bare = padded(ctx, X, windows)
            wide, count_include_pad = widened(bare, more), 0
        else:
            wide = widened(windows, more)
    if native(ctx, wide):
        is_bare = bool(count_include_pad) or (
            wide.pads is not None and not any(map(any, wide.pads))
        )
        result = pooled(ctx, x, "avg_pool", wide, exclude_padding_from_average=not is_bare)
    else:
        result = folded(ctx, x, wide, ctx.add, 0.0)
        if count_include_pad:
            result = ctx.mul(result, 1 / float(np.prod(wide.kernel)))
        else:
            sizes: list[Value | int] = [1, 1, *[ctx.size(x, axis) for axis in range(2, x.rank)]]
            counts = folded(ctx, ctx.filled(sizes, 1.0, "float32"), wide, ctx.add, 0.0)
            result = ctx.div(result, counts.with_dtype(x.dtype))
    return shortened(ctx, X, result, windows) if ceil_mode else result


@ONNX_OPS("LpPool", since=2)
def lp_pool(
    ctx: Context,
    X: Value,
    *,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: list[int] | None = None,
    kernel_shape: list[int],
    p: int = 2,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """The p-norm of what lies under each window."""
    windows = windows_of(ctx, X, kernel_shape, strides, pads, dilations, auto_pad)
    wide = widened(windows, overhangs(X, windows)) if ceil_mode and windows.pads else windows
    if p == 2 and X.rank < 5 and native(ctx, wide):
        result = pooled(ctx, X, "l2_pool", wide)
    else:
        powers = powered(ctx, X, p)
        if native(ctx, wide):
            means = pooled(ctx, powers, "avg_pool", wide, exclude_padding_from_average=False)
            sums = ctx.mul(means, float(np.prod(wide.kernel)))
        else:
            sums = folded(ctx, powers, wide, ctx.add, 0.0)
        result = rooted(ctx, sums, p)
    return shortened(ctx, X, result, windows) if ceil_mode else result


def powered(ctx: Context, x: Value, p: int) -> Value:
    """Powers of the elements' distances from 0."""
    size = ctx.unary("abs", x)
    return size if p == 1 else ctx.mul(x, x) if p == 2 else ctx.binary("pow", size, float(p))


def rooted(ctx: Context, x: Value, p: int) -> Value:
    """The roots of sums of powers."""
    return x if p == 1 else ctx.unary("sqrt", x) if p == 2 else ctx.binary("pow", x, 1 / p)


# whole images --------------------------------------------------------------------------------


@ONNX_OPS("GlobalAveragePool")
def global_average_pool(ctx: Context, X: Value) -> Value:
    return ctx.unary("reduce_mean", X, axes=list(range(2, X.rank)), keep_dims=True)


@ONNX_OPS("GlobalMaxPool")
def global_max_pool(ctx: Context, X: Value) -> Value:
    return ctx.unary("reduce_max", X, axes=list(range(2, X.rank)), keep_dims=True)


@ONNX_OPS("GlobalLpPool", since=2)
def global_lp_pool(ctx: Context, X: Value, *, p: int = 2) -> Value:
    axes = list(range(2, X.rank))
    if p == 2:
        return ctx.unary("reduce_l2_norm", X, axes=axes, keep_dims=True)
    sums = ctx.unary("reduce_sum", powered(ctx, X, p), axes=axes, keep_dims=True)
    return rooted(ctx, sums, p)


# back ----------------------------------------------------------------------------------------


@ONNX_OPS("MaxUnpool", since=9)
def max_unpool(
    ctx: Context,
    X: Value,
    I: Value,  # noqa: E741
    output_shape: Value | None = None,
    *,
    kernel_shape: list[int],
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """Zeros but for the elements of `X`, which go where `I` says.

    `I` counts through the shape that follows from the windows; `output_shape` adds zeros to that.
    """
    windows = windows_of(ctx, X, kernel_shape, strides, pads)
    assert windows.pads is not None
    sizes = [ctx.size(X, 0), ctx.size(X, 1)]
    for axis, (step, span, around) in enumerate(
        zip(windows.strides, windows.spans, windows.pads, strict=True), 2
    ):
        reach = ctx.mul(ctx.sub(ctx.size(X, axis), 1), step)
        sizes.append(ctx.add(reach, span - sum(around)))
    zeros = ctx.filled([reduce(ctx.mul, sizes)], 0.0, "float32").with_dtype(X.dtype)
    flat, places = ctx.reshape(X, [-1]), ctx.reshape(I, [-1])
    result = ctx.emit("scatter", data=zeros, indices=places, updates=flat, axis=0, mode="update")
    result = ctx.reshape(result, sizes)
    if output_shape is None:
        return result
    pads_after: list[Value | int] = []
    for axis, size in enumerate(sizes):
        pads_after += [0, ctx.sub(ctx.element(output_shape, axis), size)]
    return ctx.unary(
        "pad",
        result,
        pad=ctx.vector(pads_after),
        mode="constant",
        constant_val=np.float32(0),
    )
