"""Normalizations of onnxruntime's own domain, com.microsoft, with what is fused to them."""

from __future__ import annotations

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.operators.contrib import (
    channels_first,
    channels_last,
    standard,
)
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value


@ONNX_OPS("SimplifiedLayerNormalization", "com.microsoft.SimplifiedLayerNormalization")
def simplified_layer_normalization(
    ctx: Context,
    X: Value,
    scale: Value,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,
) -> tuple[Value, Value | None]:
    """X over the root of the mean of its squares, from `axis` on; the second output is 1 / root."""
    axes = list(range(ctx.axis(axis, X.rank), X.rank))
    squares: Value = ctx.emit("reduce_mean", x=ctx.mul(X, X), axes=axes, keep_dims=True)
    inverse = ctx.unary("rsqrt", squares, epsilon=np.float32(epsilon))
    return ctx.mul(ctx.mul(X, inverse.with_dtype(X.dtype)), scale), inverse


@ONNX_OPS("com.microsoft.SkipLayerNormalization")
def skip_layer_normalization(
    ctx: Context,
    input: Value,
    skip: Value,
    gamma: Value,
    beta: Value | None = None,
    bias: Value | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Value | None, ...]:
    """Layer normalization of a sum, which is the fourth output."""
    total = skipped(ctx, input, skip, bias)
    return (layer_norm(ctx, total, gamma, beta, epsilon), None, None, total)


@ONNX_OPS("com.microsoft.SkipSimplifiedLayerNormalization")
def skip_simplified_layer_normalization(
    ctx: Context,
    input: Value,
    skip: Value,
    gamma: Value,
    bias: Value | None = None,
    *,
    epsilon: float = 1e-12,
) -> tuple[Value | None, ...]:
    """Normalization by the root of the mean square of a sum, which is the fourth output."""
    total = skipped(ctx, input, skip, bias)
    result, _ = simplified_layer_normalization(ctx, total, gamma, epsilon=epsilon)
    return (result, None, None, total)


def skipped(ctx: Context, x: Value, skip: Value, bias: Value | None) -> Value:
    """x + skip + bias; the statistics that training takes are refused."""
    if any(ctx.place.outputs[1:3]):
        raise ctx.unsupported("its second and third outputs (statistics) are for training")
    total = ctx.add(x, skip)
    return total if bias is None else ctx.add(total, bias)


def layer_norm(ctx: Context, x: Value, gamma: Value, beta: Value | None, epsilon: float) -> Value:
    """Layer normalization over the last axis."""
    result = standard(ctx, "LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)
    first: Value = result[0] if isinstance(result, tuple) else result
    return first


@ONNX_OPS("com.microsoft.EmbedLayerNormalization")
def embed_layer_normalization(
    ctx: Context,
    input_ids: Value,
    segment_ids: Value | None,
    word_embedding: Value,
    position_embedding: Value,
    segment_embedding: Value | None,
    gamma: Value,
    beta: Value,
    mask: Value | None = None,
    position_ids: Value | None = None,
    *,
    epsilon: float = 1e-12,
    mask_index_type: int = 0,
) -> tuple[Value | None, ...]:
    """Layer normalization of the sum of word, position and segment embeddings.

    The second output is how many words of each row are valid, the third the sum.
    """
    length = ctx.size(input_ids, 1)
    if position_ids is None:
        places = ctx.slice_axis(position_embedding, 0, 0, constant_or_value(length))
    else:
        places = rows_of(ctx, position_embedding, position_ids)
    total = ctx.add(rows_of(ctx, word_embedding, input_ids), places)
    if segment_ids is not None and segment_embedding is not None:
        total = ctx.add(total, rows_of(ctx, segment_embedding, segment_ids))
    normalized = layer_norm(ctx, total, gamma, beta, epsilon)
    counts = None
    if len(ctx.place.outputs) > 1 and ctx.place.outputs[1]:
        shown = ctx.mul(input_ids, 0) if mask is None else mask
        counts = ctx.emit("reduce_sum", x=shown, axes=[1], keep_dims=False, dtype="int32")
    return normalized, counts, total


def constant_or_value(size: Value) -> int | Value:
    """A size as a number where it is one."""
    return size if size.array is None else int(size.array.item())


def rows_of(ctx: Context, table: Value, places: Value) -> Value:
    """The rows of a table at places."""
    result: Value = standard(ctx, "Gather", table, places, axis=0)
    return result


@ONNX_OPS("com.microsoft.GroupNorm")
def group_norm(
    ctx: Context,
    X: Value,
    gamma: Value,
    beta: Value,
    *,
    activation: int,
    channels_last: int = 1,
    epsilon: float = 1e-5,
    groups: int,
) -> Value:
    """Groups of channels normalized; with `activation` 1 silu follows."""
    x = channels_first(ctx, X) if channels_last else X
    given = {"epsilon": epsilon, "num_groups": groups}
    result: Value = standard(ctx, "GroupNormalization", x, gamma, beta, **given)
    result = ctx.unary("silu", result) if activation else result
    return last(ctx, result) if channels_last else result


last = channels_last
"""`channels_last` under a name that no attribute has."""


@ONNX_OPS("com.microsoft.SkipGroupNorm")
def skip_group_norm(
    ctx: Context,
    X: Value,
    gamma: Value,
    beta: Value,
    skip: Value,
    bias: Value | None = None,
    *,
    activation: int,
    channels_last: int = 1,
    epsilon: float = 1e-5,
    groups: int,
) -> tuple[Value, Value]:
    """`GroupNorm` of X + skip + bias, and that sum."""
    if skip.rank == 2:
        skip = ctx.expand_dims(skip, [1, 2] if channels_last else [2, 3])
    total = ctx.add(X, skip)
    if bias is not None:
        shaped = bias if channels_last else ctx.expand_dims(bias, [1, 2])
        total = ctx.add(total, shaped)
    normalized = group_norm(
        ctx,
        total,
        gamma,
        beta,
        activation=activation,
        channels_last=channels_last,
        epsilon=epsilon,
        groups=groups,
    )
    return normalized, total
