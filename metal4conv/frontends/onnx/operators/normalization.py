"""Normalizations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value, is_static
from metal4conv.frontends.onnx.windows import pad_by, taps

SPATIAL = (0, 2, 3)
"""The batch and the spatial axes of images."""


def by_channel(ctx: Context, parameter: Value, x: Value) -> Value:
    """A parameter with one element a channel, shaped to be broadcast to `x`."""
    if x.rank <= 2:
        return parameter
    shape = [1, -1, *[1] * (x.rank - 2)]
    if parameter.array is not None:
        return ctx.value(parameter.array.reshape(shape), parameter.dtype)
    return ctx.reshape(parameter, shape)


def moments(ctx: Context, x: Value, axes: Sequence[int]) -> tuple[Value, Value, Value]:
    """Mean, distance from the mean, and variance over axes, which stay with size 1."""
    mean = ctx.unary("reduce_mean", x, axes=list(axes), keep_dims=True)
    distance = ctx.sub(x, mean)
    squares = ctx.mul(distance, distance)
    return mean, distance, ctx.unary("reduce_mean", squares, axes=list(axes), keep_dims=True)


def inverse_root(ctx: Context, variance: Value, epsilon: float) -> Value:
    return ctx.unary("rsqrt", variance, epsilon=np.float32(epsilon))


# over the batch ------------------------------------------------------------------------------


@ONNX_OPS("BatchNormalization", since=14)
def batch_normalization(
    ctx: Context,
    X: Value,
    scale: Value,
    B: Value,
    input_mean: Value,
    input_var: Value,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> tuple[Value, ...]:
    """`X` normalized by given statistics of its channels, or in training mode by its own."""
    if not training_mode:
        return (normalized_by(ctx, X, scale, B, input_mean, input_var, epsilon),)
    axes = [axis for axis in range(X.rank) if axis != 1]
    mean, _, variance = moments(ctx, X, axes)
    mean, variance = (ctx.reshape(item, [-1]) for item in (mean, variance))
    result = normalized_by(ctx, X, scale, B, mean, variance, epsilon)
    running = [
        ctx.add(ctx.mul(old, momentum), ctx.mul(new.with_dtype(old.dtype), 1 - momentum))
        for old, new in ((input_mean, mean), (input_var, variance))
    ]
    return tuple([result, *running][: len(ctx.place.outputs)])


@ONNX_OPS("BatchNormalization", since=7)
def batch_normalization_by_statistics(
    ctx: Context,
    X: Value,
    scale: Value,
    B: Value,
    mean: Value,
    var: Value,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    spatial: int = 1,
) -> tuple[Value, ...]:
    """Before opset 14 more outputs than one asked for training."""
    if any(ctx.place.outputs[1:]):
        raise ctx.unsupported(
            f"{len(ctx.place.outputs)} outputs, which ask for training in this opset",
            "export the model in inference mode",
        )
    if not spatial:
        root = inverse_root(ctx, var, epsilon)
        return (ctx.add(ctx.mul(ctx.mul(ctx.sub(X, mean), root), scale), B),)
    return (normalized_by(ctx, X, scale, B, mean, var, epsilon),)


@ONNX_OPS("BatchNormalization", since=6)
def batch_normalization_in_test(
    ctx: Context,
    X: Value,
    scale: Value,
    B: Value,
    mean: Value,
    var: Value,
    *,
    epsilon: float = 1e-5,
    is_test: int = 0,
    momentum: float = 0.9,
    spatial: int = 1,
) -> tuple[Value, ...]:
    """Before opset 7 a flag said whether the statistics are the given ones."""
    if not is_test:
        raise ctx.unsupported(
            "is_test is 0, which asks for training", "export the model in inference mode"
        )
    return batch_normalization_by_statistics(
        ctx, X, scale, B, mean, var, epsilon=epsilon, momentum=momentum, spatial=spatial
    )


def normalized_by(
    ctx: Context, x: Value, scale: Value, bias: Value, mean: Value, variance: Value, epsilon: float
) -> Value:
    """The value normalized by statistics of its channels."""
    arrays = [item.array for item in (scale, bias, mean, variance)]
    if all(array is not None for array in arrays):
        gamma, beta, middle, spread = (
            np.asarray(array, np.float32) for array in arrays if array is not None
        )
        if 3 <= x.rank <= 5:
            return ctx.unary(
                "batch_norm",
                x,
                mean=middle,
                variance=spread,
                gamma=gamma,
                beta=beta,
                epsilon=np.float32(epsilon),
            )
        factor = gamma / np.sqrt(spread + np.float32(epsilon))
        return ctx.add(ctx.mul(x, ctx.value(factor)), ctx.value(beta - middle * factor))
    factor = by_channel(
        ctx, ctx.mul(scale, inverse_root(ctx, variance, epsilon).with_dtype(scale.dtype)), x
    )
    moved = ctx.sub(x, by_channel(ctx, mean, x))
    return ctx.add(ctx.mul(moved, factor), by_channel(ctx, bias, x))


# over each image -----------------------------------------------------------------------------


@ONNX_OPS("InstanceNormalization", since=6)
def instance_normalization(
    ctx: Context, input: Value, scale: Value, B: Value, *, epsilon: float = 1e-5
) -> Value:
    """Each channel of each image normalized by its own statistics."""
    if not 3 <= input.rank <= 4:
        flat = ctx.reshape(input, [ctx.size(input, 0), ctx.size(input, 1), -1])
        result = instance_normalization(ctx, flat, scale, B, epsilon=epsilon)
        return ctx.reshape(result, ctx.shape(input))
    gamma, beta = scale.array, B.array
    if gamma is not None and beta is not None:
        return ctx.unary("instance_norm", input, gamma=scale, beta=B, epsilon=np.float32(epsilon))
    plain = ctx.unary("instance_norm", input, epsilon=np.float32(epsilon))
    return ctx.add(ctx.mul(plain, by_channel(ctx, scale, input)), by_channel(ctx, B, input))


@ONNX_OPS("GroupNormalization", since=21)
def group_normalization(
    ctx: Context,
    X: Value,
    scale: Value,
    bias: Value,
    *,
    epsilon: float = 1e-5,
    num_groups: int,
    stash_type: int = 1,
) -> Value:
    """Groups of channels of each image normalized by their statistics, then scaled by channel."""
    result = ctx.reshape(in_groups(ctx, X, num_groups, epsilon), ctx.shape(X))
    return ctx.add(ctx.mul(result, by_channel(ctx, scale, X)), by_channel(ctx, bias, X))


@ONNX_OPS("GroupNormalization", since=18)
def group_normalization_by_group(
    ctx: Context, X: Value, scale: Value, bias: Value, *, epsilon: float = 1e-5, num_groups: int
) -> Value:
    """The same with a scale and a bias for each group, as opset 18 had it."""
    groups = in_groups(ctx, X, num_groups, epsilon)
    scaled = ctx.add(ctx.mul(groups, by_channel(ctx, scale, groups)), by_channel(ctx, bias, groups))
    return ctx.reshape(scaled, ctx.shape(X))


def in_groups(ctx: Context, x: Value, count: int, epsilon: float) -> Value:
    """Normalized groups of channels, `[N, groups, elements]`."""
    flat = ctx.reshape(x, [ctx.size(x, 0), count, -1])
    return ctx.unary("instance_norm", flat, epsilon=np.float32(epsilon))


# over last axes ------------------------------------------------------------------------------


@ONNX_OPS("LayerNormalization", since=17)
def layer_normalization(
    ctx: Context,
    X: Value,
    Scale: Value,
    B: Value | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Value | None, ...]:
    """`X` normalized over its axes from `axis` on; then the mean and 1 / standard deviation."""
    axes = list(range(ctx.axis(axis, X.rank), X.rank))
    if any(ctx.place.outputs[1:]):
        mean, distance, variance = moments(ctx, X, axes)
        root = inverse_root(ctx, variance, epsilon)
        scaled = ctx.mul(ctx.mul(distance, root), Scale.with_dtype(X.dtype))
        result = scaled if B is None else ctx.add(scaled, B.with_dtype(X.dtype))
        return tuple([result, mean, root][: len(ctx.place.outputs)])
    gamma = parameter_of(X, axes, Scale)
    beta = None if B is None else parameter_of(X, axes, B)
    fits = gamma is not None and (B is None or beta is not None)
    result = ctx.unary(
        "layer_norm",
        X,
        axes=axes,
        gamma=gamma if fits else None,
        beta=beta if fits else None,
        epsilon=np.float32(epsilon),
    )
    if fits:
        return (result,)
    result = ctx.mul(result, Scale.with_dtype(X.dtype))
    return (result if B is None else ctx.add(result, B.with_dtype(X.dtype)),)


def parameter_of(x: Value, axes: Sequence[int], given: Value) -> Value | np.ndarray | None:
    """A constant that broadcasts to the normalized axes, with their shape as MIL wants it."""
    shape = tuple(x.shape[axis] for axis in axes)
    array = given.array
    if array is None or not is_static(shape):
        return None
    if array.shape == shape:
        return given
    extra = array.ndim - len(shape)
    if extra > 0 and any(size != 1 for size in array.shape[:extra]):
        return None
    inner = array.reshape(array.shape[max(extra, 0) :])
    return np.ascontiguousarray(np.broadcast_to(inner, shape))


@ONNX_OPS("RMSNormalization", since=23)
def rms_normalization(
    ctx: Context,
    X: Value,
    scale: Value,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> Value:
    """`X` divided by the root of its mean square over the axes from `axis` on."""
    axes = list(range(ctx.axis(axis, X.rank), X.rank))
    squares = ctx.unary("reduce_mean", ctx.mul(X, X), axes=axes, keep_dims=True)
    return ctx.mul(ctx.mul(X, inverse_root(ctx, squares, epsilon)), scale.with_dtype(X.dtype))


@ONNX_OPS("LpNormalization")
def lp_normalization(ctx: Context, input: Value, *, axis: int = -1, p: int = 2) -> Value:
    """Vectors along an axis divided by their 1-norm or 2-norm; those of zeros stay."""
    operation = {1: "reduce_l1_norm", 2: "reduce_l2_norm"}.get(p)
    if operation is None:
        raise ctx.unsupported(f"p is {p}, expected 1 or 2")
    norm = ctx.unary(operation, input, axes=[ctx.axis(axis, input.rank)], keep_dims=True)
    return ctx.div(input, ctx.where(ctx.equal(norm, 0.0), 1.0, norm))


@ONNX_OPS("MeanVarianceNormalization", since=9)
def mean_variance_normalization(ctx: Context, X: Value, *, axes: Sequence[int] = SPATIAL) -> Value:
    """(x - mean) / (standard deviation + 1e-9)."""
    _, distance, variance = moments(ctx, X, [ctx.axis(axis, X.rank) for axis in axes])
    return ctx.div(distance, ctx.add(ctx.unary("sqrt", variance), 1e-9))


@ONNX_OPS("LRN")
def local_response_normalization(
    ctx: Context,
    X: Value,
    *,
    alpha: float = 1e-4,
    beta: float = 0.75,
    bias: float = 1.0,
    size: int,
) -> Value:
    """Elements divided by a power of the mean square of `size` neighbouring channels.

    Of an even `size` ONNX has the larger half behind the channel, MIL before it.
    """
    if size % 2 and X.rank >= 3:
        return ctx.unary(
            "local_response_norm",
            X,
            size=size,
            alpha=np.float32(alpha),
            beta=np.float32(beta),
            k=np.float32(bias),
        )
    before = (size - 1) // 2
    around = [(before, size - 1 - before), *[(0, 0)] * (X.rank - 2)]
    neighbours = taps(ctx, pad_by(ctx, ctx.mul(X, X), around), 1, size, 1, 1)
    total = neighbours[0]
    for item in neighbours[1:]:
        total = ctx.add(total, item)
    base = ctx.add(ctx.mul(total, alpha / size), bias)
    return ctx.div(X, ctx.binary("pow", base, beta))
