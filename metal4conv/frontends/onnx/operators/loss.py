"""Losses. Spatial axes are one while they are computed, since MIL has five axes at most."""

from __future__ import annotations

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.operators.activation import log_softmax
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value


@ONNX_OPS("NegativeLogLikelihoodLoss", since=12)
def negative_log_likelihood_loss(
    ctx: Context,
    input: Value,
    target: Value,
    weight: Value | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Value:
    """The negative log probabilities of the target classes, weighted by class."""
    return likelihood_loss(
        ctx, in_columns(ctx, input), target, weight, ignore_index, reduction
    ).with_dtype(input.dtype)


@ONNX_OPS("SoftmaxCrossEntropyLoss", since=12)
def softmax_cross_entropy_loss(
    ctx: Context,
    scores: Value,
    labels: Value,
    weights: Value | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Value, ...]:
    """The same of the softmax of scores, which is the second output as a logarithm."""
    logs = log_softmax(ctx, in_columns(ctx, scores), axis=1)
    loss = likelihood_loss(ctx, logs, labels, weights, ignore_index, reduction)
    if len(ctx.place.outputs) < 2 or not ctx.place.outputs[1]:
        return (loss,)
    return loss, ctx.reshape(logs, ctx.shape(scores))


def in_columns(ctx: Context, x: Value) -> Value:
    """`[N, C, …]` as `[N, C, elements]`."""
    if x.rank == 2:
        return ctx.expand_dims(x, [2])
    return ctx.reshape(x, [ctx.size(x, 0), ctx.size(x, 1), -1])


def likelihood_loss(
    ctx: Context,
    logs: Value,
    target: Value,
    weight: Value | None,
    ignored: int | None,
    reduction: str,
) -> Value:
    """The loss of log probabilities `[N, C, elements]`."""
    if reduction not in ("none", "sum", "mean"):
        raise ctx.unsupported(f'reduction is "{reduction}", expected none, sum or mean')
    classes = ctx.reshape(target, [ctx.size(logs, 0), 1, -1])
    is_ignored = None if ignored is None else ctx.equal(classes, ignored)
    if is_ignored is not None:
        classes = ctx.where(is_ignored, 0, classes)
    loss = ctx.emit("gather_along_axis", x=logs, indices=classes, axis=1, dtype=logs.dtype)
    loss = ctx.mul(loss, -1.0)
    factors = None
    if weight is not None:
        factors = ctx.emit("gather", x=weight, indices=classes, axis=0, dtype=logs.dtype)
    if is_ignored is not None:
        one = ctx.value(1.0, logs.dtype)
        factors = ctx.where(is_ignored, 0.0, one if factors is None else factors)
    if factors is not None:
        loss = ctx.mul(loss, factors)
    if reduction == "none":
        return ctx.reshape(loss, ctx.shape(target))
    axes = [0, 1, 2]
    total = ctx.unary("reduce_sum", loss, axes=axes, keep_dims=False)
    if reduction == "sum":
        return total
    if factors is None:
        return ctx.unary("reduce_mean", loss, axes=axes, keep_dims=False)
    return ctx.div(total, ctx.unary("reduce_sum", factors, axes=axes, keep_dims=False))
