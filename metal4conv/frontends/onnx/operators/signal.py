"""Fourier transforms and mel weights.

MIL has no Fourier transform, so a transform is a product with a matrix of cosines and sines. Real
and imaginary parts lie along the last axis in ONNX; in the matrix they take turns, so that the
product's result only needs to be reshaped:

    (…, n, 1 or 2) → (…, n * parts) @ (n * parts, bins * 2) → (…, bins, 2)
"""

from __future__ import annotations

import math

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.tensors import type_name
from metal4conv.frontends.onnx.value import Value

LARGEST = 1 << 26
"""Elements of a matrix of cosines and sines; a transform that needs more is refused."""


@ONNX_OPS("DFT", since=20)
def dft(
    ctx: Context,
    input: Value,
    dft_length: Value | None = None,
    axis: Value | None = None,
    *,
    inverse: int = 0,
    onesided: int = 0,
) -> Value:
    """The discrete Fourier transform along an axis, which may be given while the model runs."""
    if axis is None or axis.array is not None:
        place = -2 if axis is None else int(axis.array.item())  # type: ignore[union-attr]
        return dft_along(ctx, input, dft_length, place, bool(inverse), bool(onesided))
    # as a tensor of four axes: those before, the transformed one, those behind, the parts
    axis = ctx.reshape(ctx.cast(axis, "int64"), [])
    axis = ctx.where(ctx.less(axis, 0), ctx.add(axis, input.rank), axis)
    sizes = ctx.shape(input)
    places = ctx.range(0, input.rank)
    is_axis = ctx.equal(places, axis)
    is_behind = ctx.binary("greater", places, axis)
    is_behind = ctx.binary("logical_and", is_behind, ctx.less(places, input.rank - 1))
    before, length, behind = (
        ctx.emit(
            "reduce_prod",
            x=ctx.where(chosen, sizes, ctx.value(np.ones(input.rank, np.int64))),
            axes=[0],
            keep_dims=False,
            dtype="int64",
        )
        for chosen in (ctx.less(places, axis), is_axis, is_behind)
    )
    parts = int(input.shape[-1])
    rows = ctx.reshape(input, [before, length, behind, parts])
    result = dft_along(ctx, rows, dft_length, 1, bool(inverse), bool(onesided))
    sizes = ctx.where(is_axis, ctx.size(result, 1), sizes)
    front = [ctx.element(sizes, place) for place in range(input.rank - 1)]
    return ctx.reshape(result, [*front, int(result.shape[-1])])


@ONNX_OPS("DFT", since=17)
def dft_of_axis(
    ctx: Context,
    input: Value,
    dft_length: Value | None = None,
    *,
    axis: int = 1,
    inverse: int = 0,
    onesided: int = 0,
) -> Value:
    return dft_along(ctx, input, dft_length, axis, bool(inverse), bool(onesided))


def dft_along(
    ctx: Context, x: Value, length: Value | None, axis: int, is_inverse: bool, is_onesided: bool
) -> Value:
    """The transform along an axis; the signal is cut, or goes on with zeros, to have `length`."""
    axis = ctx.axis(axis, x.rank)
    order = [place for place in range(x.rank) if place not in (axis, x.rank - 1)]
    rows = ctx.transpose(x, [*order, axis, x.rank - 1])
    own = ctx.size(x, axis)
    is_real = is_inverse and is_onesided
    if length is not None:
        count = ctx.reshape(ctx.cast(length, "int64"), [])
    elif is_real:
        count = integer(ctx, "mul", integer(ctx, "sub", own, 1), 2)
    else:
        count = own
    half = integer(ctx, "add", integer(ctx, "floor_div", count, 2), 1)
    used = integer(ctx, "minimum", own, half if is_real else count)
    if not (used.array is not None and own.array is not None and used.array == own.array) and (
        length is not None
    ):
        rows = ctx.slice_axis(rows, rows.rank - 2, 0, number(used))
    parts = int(x.shape[-1])
    bins = half if is_onesided and not is_inverse else count
    made = 1 if is_real else 2
    matrix = transform(ctx, used, bins, count, (parts, made), is_inverse)
    front = [ctx.size(x, place) for place in order]
    flat = ctx.reshape(rows, [*front, ctx.mul(used, parts) if used.array is None else -1])
    product = ctx.binary("matmul", flat, matrix)
    if is_inverse:
        # not within the matrix, where 1 / length would be rounded and sums of 0 become others
        product = ctx.div(product, ctx.cast(count, "float32"))
    result = ctx.reshape(product, [*front, bins, made])
    back = list(np.argsort([*order, axis, x.rank - 1]))
    return ctx.transpose(result, [int(place) for place in back])


def number(size: Value) -> int | Value:
    """A size as a number where it is one."""
    return size if size.array is None else int(size.array.item())


def integer(ctx: Context, operation: str, x: Value, y: int | Value) -> Value:
    """A result of integers, computed at once for constants."""
    other = ctx.value(y, "int64")
    if x.array is None or other.array is None:
        return ctx.binary(operation, x, other)
    functions = {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "floor_div": np.floor_divide,
        "minimum": np.minimum,
    }
    return ctx.value(np.int64(functions[operation](x.array.item(), other.array.item())))


def transform(
    ctx: Context,
    rows: Value,
    bins: Value,
    length: Value,
    parts: tuple[int, int],
    is_inverse: bool,
) -> Value:
    """The matrix of a transform of `length`, from `rows` elements to `bins`.

    `parts` are those of an element before and after: 1 for real numbers, 2 for complex ones. That
    of an inverse transform lacks the division by the length. One to real numbers takes the first
    half of a spectrum, whose elements stand for their mirror images too.
    """
    if rows.array is not None and bins.array is not None and length.array is not None:
        sizes = [int(item.array.item()) for item in (rows, bins, length) if item.array is not None]
        return ctx.value(constant_transform(ctx, sizes, parts, is_inverse))
    steps = ctx.mul(
        ctx.expand_dims(ctx.range(0, rows), [1]), ctx.expand_dims(ctx.range(0, bins), [0])
    )
    cosine, sine = turned(ctx, ctx.mod(steps, length), length)
    if is_inverse and parts[1] == 1:
        weights = ctx.expand_dims(mirrored(ctx, rows, length), [1])
        cosine, sine = ctx.mul(cosine, weights), ctx.mul(sine, weights)
    against = ctx.mul(sine, -1.0)
    ahead, back = (sine, against) if is_inverse else (against, sine)
    entries = [[cosine, ahead][: parts[1]], [back, cosine][: parts[1]]][: parts[0]]
    stacked = [ctx.emit("stack", values=row, axis=2, dtype="float32") for row in entries]
    whole = ctx.emit("stack", values=stacked, axis=1, dtype="float32")
    return ctx.reshape(whole, [ctx.mul(rows, parts[0]), ctx.mul(bins, parts[1])])


def turned(ctx: Context, steps: Value, length: Value) -> tuple[Value, Value]:
    """Cosines and sines of `steps` of a circle in `length` steps.

    Both are sines of at most a quarter of a circle, which are exact where they are 0 or 1.
    """
    opposite = ctx.sub(steps, length)
    signed = ctx.where(ctx.less(ctx.mul(steps, 2), length), steps, opposite)
    size = ctx.unary("abs", signed)
    rest = ctx.minimum(ctx.mul(size, 2), ctx.sub(length, ctx.mul(size, 2)))
    quarter = ctx.div(math.pi / 2, ctx.cast(length, "float32"))
    sine, cosine = (
        ctx.unary("sin", ctx.mul(ctx.cast(item, "float32"), quarter))
        for item in (ctx.mul(rest, 2), ctx.sub(length, ctx.mul(size, 4)))
    )
    return cosine, ctx.mul(sine, ctx.cast(ctx.unary("sign", signed), "float32"))


def mirrored(ctx: Context, rows: Value, length: Value) -> Value:
    """How many elements of a spectrum each of its first half stands for: 1 or 2."""
    places = ctx.range(0, rows)
    doubled = ctx.mul(places, 2)
    is_single = ctx.binary("logical_or", ctx.equal(places, 0), ctx.equal(doubled, length))
    return ctx.sub(2.0, ctx.cast(is_single, "float32"))


def constant_transform(
    ctx: Context, sizes: list[int], parts: tuple[int, int], is_inverse: bool
) -> np.ndarray:
    """`transform` of sizes that are known."""
    rows, bins, length = sizes
    if rows * bins * parts[0] * parts[1] > LARGEST:
        raise ctx.unsupported(
            f"a Fourier transform of {length} elements needs a matrix of {rows} × {bins} numbers",
            "move the transform out of the model into the app",
        )
    steps = np.outer(np.arange(rows), np.arange(bins)) % max(length, 1)
    angles = 2 * np.pi * steps / max(length, 1)
    cosine, sine = np.cos(angles), np.sin(angles)
    if is_inverse and parts[1] == 1:
        places = np.arange(rows)
        weights = np.where((places == 0) | (2 * places == length), 1, 2)[:, None]
        cosine, sine = cosine * weights, sine * weights
    ahead, back = (sine, -sine) if is_inverse else (-sine, sine)
    entries = np.array([[cosine, ahead], [back, cosine]])[: parts[0], : parts[1]]
    whole = entries.transpose(2, 0, 3, 1).reshape(rows * parts[0], bins * parts[1])
    return whole.astype(np.float32)


@ONNX_OPS("STFT")
def stft(
    ctx: Context,
    signal: Value,
    frame_step: Value,
    window: Value | None = None,
    frame_length: Value | None = None,
    *,
    onesided: int = 1,
) -> Value:
    """Fourier transforms of frames that move over a signal.

    With a known step, length and window the frames, the window and the transform are one
    convolution, whose weights are the matrix.
    """
    step = ctx.reshape(ctx.cast(frame_step, "int64"), [])
    if frame_length is not None:
        length = ctx.reshape(ctx.cast(frame_length, "int64"), [])
    elif window is not None:
        length = ctx.size(window, 0)
    else:
        length = ctx.size(signal, 1)
    parts = int(signal.shape[-1])
    half = integer(ctx, "add", integer(ctx, "floor_div", length, 2), 1)
    bins = half if onesided else length
    matrix = transform(ctx, length, bins, length, (parts, 2), False)
    weights = None if window is None else window.array
    is_known = step.array is not None and matrix.array is not None
    if is_known and (window is None or weights is not None):
        return stft_as_convolution(
            ctx, signal, int(ctx.constant(step, "the step")), matrix, weights
        )
    last = integer(ctx, "sub", ctx.size(signal, 1), length)
    starts = ctx.mul(ctx.range(0, ctx.add(ctx.floor_div(last, step), 1)), step)
    places = ctx.add(ctx.expand_dims(starts, [1]), ctx.expand_dims(ctx.range(0, length), [0]))
    frames: Value = ctx.emit("gather", x=signal, indices=places, axis=1, dtype=signal.dtype)
    if window is not None:
        frames = ctx.mul(frames, ctx.expand_dims(window, [1]))
    batch, count = ctx.size(signal, 0), ctx.size(places, 0)
    flat = ctx.reshape(frames, [batch, count, ctx.mul(length, parts)])
    return ctx.reshape(ctx.binary("matmul", flat, matrix), [batch, count, bins, 2])


def stft_as_convolution(
    ctx: Context, signal: Value, step: int, matrix: Value, window: np.ndarray | None
) -> Value:
    """Frames `step` apart, each multiplied with the matrix, which has the window in it."""
    parts = int(signal.shape[-1])
    array = ctx.constant(matrix, "the matrix")
    weights = array.reshape(-1, parts, array.shape[1])
    if window is not None:
        weights = weights * window.astype(np.float32)[:, None, None]
    found: Value = ctx.emit(
        "conv",
        x=ctx.transpose(signal, [0, 2, 1]),
        weight=weights.transpose(2, 1, 0).astype(np.float32),
        strides=[step],
        pad_type="valid",
        dtype=signal.dtype,
    )
    rows = ctx.transpose(found, [0, 2, 1])
    return ctx.reshape(rows, [ctx.size(rows, 0), ctx.size(rows, 1), array.shape[1] // 2, 2])


@ONNX_OPS("MelWeightMatrix")
def mel_weight_matrix(
    ctx: Context,
    num_mel_bins: Value,
    dft_length: Value,
    sample_rate: Value,
    lower_edge_hertz: Value,
    upper_edge_hertz: Value,
    *,
    output_datatype: int = 1,
) -> Value:
    """Triangles over the bins of a spectrum, evenly spaced in mel: (spectrum, mel bins)."""
    count, length, rate = (
        ctx.reshape(ctx.cast(item, "int64"), []) for item in (num_mel_bins, dft_length, sample_rate)
    )
    low, high = (
        mel(ctx, ctx.reshape(ctx.cast(item, "float32"), []))
        for item in (lower_edge_hertz, upper_edge_hertz)
    )
    edges = ctx.add(count, 2)
    step = ctx.div(ctx.sub(high, low), ctx.cast(edges, "float32"))
    mels = ctx.add(ctx.mul(ctx.cast(ctx.range(0, edges), "float32"), step), low)
    hertz = ctx.mul(ctx.sub(ctx.unary("exp", ctx.mul(mels, math.log(10) / 2595)), 1.0), 700.0)
    scale = ctx.div(ctx.cast(ctx.add(length, 1), "float32"), ctx.cast(rate, "float32"))
    bins = ctx.cast(ctx.unary("floor", ctx.mul(hertz, scale)), "int64")
    left, center, right = (
        ctx.expand_dims(ctx.slice_axis(bins, 0, begin, end), [0])
        for begin, end in ((0, -2), (1, -1), (2, None))
    )
    places = ctx.expand_dims(ctx.range(0, ctx.add(ctx.floor_div(length, 2), 1)), [1])
    rising = slope(ctx, ctx.sub(places, left), ctx.sub(center, left))
    falling = slope(ctx, ctx.sub(right, places), ctx.sub(right, center))
    sides = ctx.where(ctx.less(places, center), rising, falling)
    is_peak = ctx.equal(places, center)
    return ctx.cast(ctx.where(is_peak, 1.0, sides), type_name(output_datatype))


def slope(ctx: Context, distance: Value, width: Value) -> Value:
    """distance / width, at least 0; 0 where there is no width."""
    share = ctx.div(
        ctx.cast(ctx.maximum(distance, 0), "float32"), ctx.cast(ctx.maximum(width, 1), "float32")
    )
    return ctx.mul(share, ctx.cast(ctx.binary("greater", width, 0), "float32"))


def mel(ctx: Context, hertz: Value) -> Value:
    """Frequencies in mel."""
    shifted = ctx.add(ctx.div(hertz, 700.0), 1.0)
    logarithm = ctx.unary("log", shifted, epsilon=np.float32(0))
    return ctx.mul(logarithm, 2595 / math.log(10))
