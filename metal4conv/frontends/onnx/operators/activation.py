"""Activation functions."""

from __future__ import annotations

import math

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value

# rectifiers ----------------------------------------------------------------------------------


@ONNX_OPS("Relu")
def relu(ctx: Context, X: Value) -> Value:
    return ctx.unary("relu", X) if X.is_float else ctx.maximum(X, 0)


@ONNX_OPS("LeakyRelu")
def leaky_relu(ctx: Context, X: Value, *, alpha: float = 0.01) -> Value:
    return ctx.unary("leaky_relu", X, alpha=np.float32(alpha))


@ONNX_OPS("PRelu", since=7)
def prelu(ctx: Context, X: Value, slope: Value) -> Value:
    """`X`, its negative elements times `slope`, which broadcasts to `X`.

    MIL's `prelu` takes a constant with one element a channel.
    """
    slopes = slope.array
    if slopes is not None and X.is_float and 3 <= X.rank <= 5 and isinstance(X.shape[1], int):
        shape = (1,) * (X.rank - slopes.ndim) + slopes.shape
        if all(size == 1 for axis, size in enumerate(shape) if axis != 1):
            alpha = np.broadcast_to(slopes.reshape(-1), (X.shape[1],))
            return ctx.unary("prelu", X, alpha=np.ascontiguousarray(alpha, np.float32))
    scaled = ctx.mul(X, slope)
    return scaled if X.dtype.startswith("uint") else ctx.where(ctx.less(X, 0), scaled, X)


@ONNX_OPS("PRelu", since=6)
def prelu_by_channel(ctx: Context, X: Value, slope: Value) -> Value:
    """Before opset 7 the slopes were those of the channels, whatever axes follow."""
    if slope.rank == 1 and slope.shape[0] != 1 and X.rank > 2:
        slope = ctx.reshape(slope, [-1, *[1] * (X.rank - 2)])
    return prelu(ctx, X, slope)


@ONNX_OPS("ThresholdedRelu", since=10)
def thresholded_relu(ctx: Context, X: Value, *, alpha: float = 1.0) -> Value:
    """`X` where it is above `alpha`; MIL's operation of this name keeps `alpha` itself too."""
    return ctx.where(ctx.binary("greater", X, alpha), X, 0.0)


@ONNX_OPS("Shrink", since=9)
def shrink(ctx: Context, input: Value, *, bias: float = 0.0, lambd: float = 0.5) -> Value:
    """Elements moved towards 0 by `bias`, and 0 where they are within `lambd` of it."""
    x = input if input.is_float else ctx.cast(input, "float32")
    low = ctx.where(ctx.less(x, -lambd), ctx.add(x, bias) if bias else x, 0.0)
    high = ctx.sub(x, bias) if bias else x
    return ctx.cast(ctx.where(ctx.binary("greater", x, lambd), high, low), input.dtype)


# exponential ones ----------------------------------------------------------------------------


@ONNX_OPS("Elu")
def elu(ctx: Context, X: Value, *, alpha: float = 1.0) -> Value:
    return ctx.unary("elu", X, alpha=np.float32(alpha))


@ONNX_OPS("Selu", since=6)
def selu(
    ctx: Context,
    X: Value,
    *,
    alpha: float = 1.67326319217681884765625,
    gamma: float = 1.05070102214813232421875,
) -> Value:
    return ctx.mul(elu(ctx, X, alpha=alpha), gamma)


@ONNX_OPS("Celu", since=12)
def celu(ctx: Context, X: Value, *, alpha: float = 1.0) -> Value:
    """max(0, x) + min(0, alpha * (exp(x / alpha) - 1)), which is `elu` of a scaled `X`."""
    if alpha == 1:
        return elu(ctx, X)
    if alpha > 0:
        return ctx.mul(elu(ctx, ctx.mul(X, 1 / alpha)), alpha)
    low = ctx.mul(ctx.sub(ctx.unary("exp", ctx.mul(X, 1 / alpha)), 1.0), alpha)
    return ctx.add(ctx.maximum(X, 0.0), ctx.minimum(low, 0.0))


@ONNX_OPS("Sigmoid")
def sigmoid(ctx: Context, X: Value) -> Value:
    return ctx.unary("sigmoid", X)


@ONNX_OPS("HardSigmoid", since=6)
def hard_sigmoid(ctx: Context, X: Value, *, alpha: float = 0.2, beta: float = 0.5) -> Value:
    return ctx.unary("sigmoid_hard", X, alpha=np.float32(alpha), beta=np.float32(beta))


@ONNX_OPS("HardSwish", since=14)
def hard_swish(ctx: Context, X: Value) -> Value:
    return ctx.mul(X, hard_sigmoid(ctx, X, alpha=1 / 6, beta=0.5))


@ONNX_OPS("Swish", since=24)
def swish(ctx: Context, X: Value, *, alpha: float = 1.0) -> Value:
    """x * sigmoid(alpha * x)."""
    if alpha == 1:
        return ctx.unary("silu", X)
    return ctx.mul(X, sigmoid(ctx, ctx.mul(X, alpha)))


@ONNX_OPS("SwiGLU", since=28)
def swi_glu(ctx: Context, A: Value, B: Value, *, alpha: float = 1.0) -> Value:
    """The swish of `A` times `B`."""
    return ctx.mul(swish(ctx, A, alpha=alpha), B)


@ONNX_OPS("Mish", since=18)
def mish(ctx: Context, X: Value) -> Value:
    """x * tanh(softplus(x))."""
    return ctx.mul(X, ctx.unary("tanh", softplus(ctx, X)))


@ONNX_OPS("Gelu", since=20)
def gelu(ctx: Context, X: Value, *, approximate: str = "none") -> Value:
    mode = {"none": "EXACT", "tanh": "TANH_APPROXIMATION"}.get(approximate)
    if mode is None:
        raise ctx.unsupported(f'approximate is "{approximate}", expected "none" or "tanh"')
    return ctx.unary("gelu", X, mode=mode)


@ONNX_OPS("Softsign")
def softsign(ctx: Context, input: Value) -> Value:
    return ctx.unary("softsign", input)


@ONNX_OPS("Softplus")
def softplus(ctx: Context, X: Value) -> Value:
    return ctx.unary("softplus", X)


# along an axis -------------------------------------------------------------------------------


@ONNX_OPS("Softmax", since=13)
def softmax(ctx: Context, input: Value, *, axis: int = -1) -> Value:
    if not input.rank:
        return ctx.squeeze(softmax(ctx, ctx.expand_dims(input, [0])), [0])
    return ctx.unary("softmax", input, axis=ctx.axis(axis, input.rank))


@ONNX_OPS("LogSoftmax", since=13)
def log_softmax(ctx: Context, input: Value, *, axis: int = -1) -> Value:
    """x - max - log(sum(exp(x - max))), which does not underflow."""
    if not input.rank:
        return ctx.sub(input, input)
    axes = [ctx.axis(axis, input.rank)]
    moved = ctx.sub(input, ctx.unary("reduce_max", input, axes=axes, keep_dims=True))
    total = ctx.unary("reduce_sum", ctx.unary("exp", moved), axes=axes, keep_dims=True)
    return ctx.sub(moved, ctx.unary("log", total, epsilon=np.float32(0)))


@ONNX_OPS("Softmax", since=1)
def softmax_of_matrix(ctx: Context, input: Value, *, axis: int = 1) -> Value:
    """Before opset 13 the softmax went over all axes from `axis` on."""
    if is_last(ctx, input, axis):
        return softmax(ctx, input)
    return ctx.reshape(softmax(ctx, matrix_from(ctx, input, axis)), ctx.shape(input))


@ONNX_OPS("LogSoftmax", since=1)
def log_softmax_of_matrix(ctx: Context, input: Value, *, axis: int = 1) -> Value:
    """Before opset 13 the softmax went over all axes from `axis` on."""
    if is_last(ctx, input, axis):
        return log_softmax(ctx, input)
    return ctx.reshape(log_softmax(ctx, matrix_from(ctx, input, axis)), ctx.shape(input))


def is_last(ctx: Context, x: Value, axis: int) -> bool:
    """Whether no axis of more than one element follows this one."""
    if axis == x.rank or x.rank == 0:
        return False
    return ctx.axis(axis, x.rank) == x.rank - 1


def matrix_from(ctx: Context, x: Value, axis: int) -> Value:
    """The elements as a matrix; its columns are those of the axes from `axis` on."""
    first = axis if axis == x.rank else ctx.axis(axis, x.rank)
    rows, columns = x.shape[:first], x.shape[first:]
    if all(isinstance(size, (int, np.integer)) for size in columns):
        return ctx.reshape(x, [-1, math.prod(columns)])
    if all(isinstance(size, (int, np.integer)) for size in rows):
        return ctx.reshape(x, [math.prod(rows), -1])
    height: Value | int = 1
    for place in range(first):
        height = ctx.mul(ctx.size(x, place), height)
    return ctx.reshape(x, [height, -1])


# dropout -------------------------------------------------------------------------------------


@ONNX_OPS("Dropout", since=12)
def dropout(
    ctx: Context,
    data: Value,
    ratio: Value | None = None,
    training_mode: Value | None = None,
    *,
    seed: int | None = None,
) -> tuple[Value | None, ...]:
    """`data` as it is, with a mask that keeps everything.

    Where `training_mode` is computed while the model runs, elements are dropped at random if it
    holds; a constant one that asks for that is an export by mistake.
    """
    given = ctx.value(np.float32(0.5)) if ratio is None else ctx.cast(ratio, "float32")
    if training_mode is None or (given.array is not None and given.array.item() == 0):
        return with_mask(ctx, data)
    if training_mode.array is not None:
        if training_mode.array.item():
            raise ctx.unsupported(
                "training_mode is true, which drops elements at random",
                "export the model in inference mode",
            )
        return with_mask(ctx, data)
    drawn = ctx.emit("random_uniform", shape=ctx.shape(data), seed=-1 if seed is None else seed)
    is_kept = ctx.binary("greater_equal", drawn, given)
    mask = ctx.binary("logical_or", is_kept, ctx.unary("logical_not", training_mode))
    factor = ctx.where(training_mode, ctx.div(1.0, ctx.sub(1.0, given)), 1.0)
    result = ctx.where(mask, ctx.mul(data, factor.with_dtype(data.dtype)), 0.0)
    return (result, mask)[: len(ctx.place.outputs)]


@ONNX_OPS("Dropout", since=7)
def dropout_by_attributes(
    ctx: Context, data: Value, *, ratio: float = 0.5
) -> tuple[Value | None, ...]:
    return with_mask(ctx, data)


@ONNX_OPS("Dropout", since=1)
def dropout_in_training(
    ctx: Context,
    data: Value,
    *,
    consumed_inputs: list[int] | None = None,
    is_test: int = 0,
    ratio: float = 0.5,
) -> tuple[Value | None, ...]:
    if not is_test and ratio:
        raise ctx.unsupported("is_test is 0, which drops elements at random", "set is_test to 1")
    return with_mask(ctx, data)


def with_mask(ctx: Context, data: Value) -> tuple[Value | None, ...]:
    """The data, and a mask of true if the node has one."""
    wants_mask = len(ctx.place.outputs) > 1 and bool(ctx.place.outputs[1])
    return (data, ctx.filled(ctx.shape(data), True, "bool")) if wants_mask else (data,)
