"""onnxruntime's own operators (com.microsoft) for attention."""

from __future__ import annotations

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.operators.attention import (
    Mask,
    attend,
    mask_of,
    merge_heads,
    rotate,
    rows_of,
    split_heads,
    window_mask,
)
from metal4conv.frontends.onnx.operators.contrib import standard
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value, is_static

HIDES = -10000.0
"""What is added to scores of masked keys; a query without keys therefore sees all of them."""


@ONNX_OPS("com.microsoft.Attention")
def attention(
    ctx: Context,
    input: Value,
    weights: Value,
    bias: Value | None = None,
    mask_index: Value | None = None,
    past: Value | None = None,
    attention_bias: Value | None = None,
    past_sequence_length: Value | None = None,
    *,
    do_rotary: int = 0,
    mask_filter_value: float = HIDES,
    num_heads: int,
    past_present_share_buffer: int = 0,
    qkv_hidden_sizes: list[int] | None = None,
    rotary_embedding_dim: int = 0,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[Value | None, ...]:
    """Self-attention with the projections of queries, keys and values in one matrix."""
    refuse_buffers(ctx, past_present_share_buffer, past_sequence_length)
    if do_rotary:
        raise ctx.unsupported("do_rotary is set", "rotate with RotaryEmbedding before it")
    projected: Value = standard(ctx, "MatMul", input, weights)
    projected = projected if bias is None else ctx.add(projected, bias)
    widths = qkv_hidden_sizes or [int(weights.shape[-1]) // 3] * 3
    query, key, value = (
        split_heads(ctx, ctx.slice_axis(projected, 2, begin, begin + width), num_heads)
        for begin, width in zip(np.cumsum([0, *widths[:2]]).tolist(), widths, strict=True)
    )
    if past is not None:
        key, value = (
            ctx.concat([ctx.squeeze(ctx.slice_axis(past, 0, place, place + 1), [0]), item], 2)
            for place, item in ((0, key), (1, value))
        )
    length = None if past is None else ctx.size(past, 3)
    mask = padding_mask(
        ctx, query, key, mask_index, length, attention_bias, unidirectional, mask_filter_value
    )
    result, _ = attend(ctx, query, key, value, mask, scale or None)
    present = None
    if len(ctx.place.outputs) > 1 and ctx.place.outputs[1]:
        present = ctx.emit("stack", values=[key, value], axis=0, dtype=input.dtype)
    return tuple([merge_heads(ctx, result), present][: len(ctx.place.outputs)])


@ONNX_OPS("com.microsoft.MultiHeadAttention")
def multi_head_attention(
    ctx: Context,
    query: Value,
    key: Value | None = None,
    value: Value | None = None,
    bias: Value | None = None,
    key_padding_mask: Value | None = None,
    attention_bias: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    past_sequence_length: Value | None = None,
    cache_indirection: Value | None = None,
    *,
    mask_filter_value: float = HIDES,
    num_heads: int,
    scale: float = 0.0,
    unidirectional: int = 0,
) -> tuple[Value | None, ...]:
    """Attention of projected queries, keys and values.

    All three may be packed in one tensor of five dimensions, keys and values in another; with
    four dimensions keys and values are split into heads already, and complete.
    """
    refuse_buffers(ctx, 0, past_sequence_length, cache_indirection)
    if len(ctx.place.outputs) > 3 and ctx.place.outputs[3]:
        raise ctx.unsupported("its fourth output (the scores) cannot be given")
    q, k, v = unpacked(ctx, query, key, value, num_heads, bias)
    length = None
    if past_key is not None and past_value is not None:
        k, v = ctx.concat([past_key, k], 2), ctx.concat([past_value, v], 2)
        length = ctx.size(past_key, 2)
    mask = padding_mask(
        ctx, q, k, key_padding_mask, length, attention_bias, unidirectional, mask_filter_value
    )
    result, _ = attend(ctx, q, k, v, mask, scale or None)
    return tuple([merge_heads(ctx, result), k, v][: len(ctx.place.outputs)])


def unpacked(
    ctx: Context,
    query: Value,
    key: Value | None,
    value: Value | None,
    heads: int,
    bias: Value | None,
) -> tuple[Value, Value, Value]:
    """Queries, keys and values as (batch, heads, length, size), with their part of the bias."""
    if query.rank == 5:
        q, k, v = (packed_part(ctx, query, place) for place in range(3))
    elif key is None:
        raise ctx.unsupported("there are no keys")
    elif value is None:
        q = split_heads(ctx, query, heads)
        k, v = (packed_part(ctx, key, place) for place in range(2))
    else:
        q, k, v = (split_heads(ctx, item, heads) for item in (query, key, value))
    if bias is None:
        return q, k, v
    has_all = key is None or (key.rank == 3 and value is not None)
    items = (q, k, v) if has_all else (q,)
    begin = 0
    found = []
    for item in items:
        width = heads * int(item.shape[-1])
        part = ctx.slice_axis(bias, 0, begin, begin + width)
        found.append(ctx.add(item, ctx.reshape(part, [1, heads, 1, int(item.shape[-1])])))
        begin += width
    q, k, v = [*found, *(q, k, v)[len(found) :]]
    return q, k, v


def packed_part(ctx: Context, x: Value, place: int) -> Value:
    """One of (batch, length, heads, parts, size), as (batch, heads, length, size)."""
    part = ctx.squeeze(ctx.slice_axis(x, 3, place, place + 1), [3])
    return ctx.transpose(part, [0, 2, 1, 3])


def padding_mask(
    ctx: Context,
    query: Value,
    key: Value,
    padding: Value | None,
    past: Value | None,
    bias: Value | None,
    is_causal: int,
    hides: float,
) -> Mask:
    """The mask of onnxruntime's attention: numbers added to the scores.

    `padding` holds lengths of keys (batch), ends and starts (2 × batch), or 0 where a key is
    masked: (batch, keys), (batch, queries, keys), (batch, 1, longest, longest).
    """
    causal = window_mask(ctx, query, key, past, (-1, 0)) if is_causal else None
    if padding is None:
        return Mask(causal, bias)
    added = hidden_by(ctx, shown_keys(ctx, query, key, padding, past), hides)
    return Mask(causal, added if bias is None else ctx.add(added, bias))


def hidden_by(ctx: Context, shown: Value, amount: float) -> Value:
    """0 where a key is shown, else the amount."""
    array = shown.array
    if array is not None:
        return ctx.value(np.where(array, 0, amount).astype(np.float32))
    return ctx.where(shown, np.float32(0), np.float32(amount))


def shown_keys(ctx: Context, query: Value, key: Value, padding: Value, past: Value | None) -> Value:
    """Where keys are no padding, to broadcast with the scores."""
    if padding.rank == 1:
        places = ctx.range(0, ctx.size(key, 2))
        batch, count = query.shape[0], padding.shape[0]
        columns = ctx.expand_dims(padding, [1, 2, 3])
        if count == batch:
            return ctx.less(places, columns)
        if not is_static((batch, count)) or count != 2 * batch:
            raise ctx.unsupported(
                f"a mask of {count} numbers for {batch} rows; one or two a row are possible"
            )
        ends, starts = (
            ctx.slice_axis(columns, 0, begin, begin + int(batch)) for begin in (0, int(batch))
        )
        return ctx.binary(
            "logical_and", ctx.less(places, ends), ctx.binary("greater_equal", places, starts)
        )
    if padding.rank == 4:
        first = 0 if past is None else past
        end = ctx.add(ctx.size(query, 2), first)
        padding = ctx.slice_axis(padding, 3, 0, as_number(ctx.size(key, 2)))
        padding = ctx.slice_axis(padding, 2, as_number(ctx.value(first)), as_number(end))
    else:
        padding = ctx.expand_dims(padding, [1, 2] if padding.rank == 2 else [1])
    if padding.dtype == "bool":
        return padding
    return ctx.binary("greater", padding, 0)


def as_number(size: Value) -> int | Value:
    """A size as a number where it is one."""
    return size if size.array is None else int(size.array.item())


def refuse_buffers(ctx: Context, is_shared: int, *given: Value | None) -> None:
    """Past and present in one buffer are for onnxruntime's own text generation."""
    if is_shared or any(item is not None for item in given):
        raise ctx.unsupported(
            "past and present keys share a buffer", "export without past_present_share_buffer"
        )


# grouped queries -----------------------------------------------------------------------------


@ONNX_OPS("com.microsoft.GroupQueryAttention")
def group_query_attention(
    ctx: Context,
    query: Value,
    key: Value | None,
    value: Value | None,
    past_key: Value | None,
    past_value: Value | None,
    seqlens_k: Value,
    total_sequence_length: Value,
    cos_cache: Value | None = None,
    sin_cache: Value | None = None,
    position_ids: Value | None = None,
    attention_bias: Value | None = None,
    head_sink: Value | None = None,
    k_scale: Value | None = None,
    v_scale: Value | None = None,
    q_norm_weight: Value | None = None,
    k_norm_weight: Value | None = None,
    query_seqlens: Value | None = None,
    *,
    causal: int = 1,
    do_rotary: int = 0,
    k_norm_epsilon: float | None = None,
    k_quant_type: str = "NONE",
    kv_cache_bit_width: int = 0,
    kv_num_heads: int,
    local_window_size: int = -1,
    num_heads: int,
    q_norm_epsilon: float | None = None,
    qk_norm_epsilon: float = 1e-6,
    qk_output: int = 0,
    rotary_interleaved: int = 0,
    scale: float = 0.0,
    sliding_window_cache: int = 0,
    smooth_softmax: int = -1,
    softcap: float = 0.0,
    v_quant_type: str = "NONE",
) -> tuple[Value | None, ...]:
    """Causal attention whose keys follow on those of a cache, a row of the batch at its own place.

    `seqlens_k` is the number of keys of each row, less 1; a row's new keys come behind its old
    ones, which the cache has in front.
    """
    exotic = {
        "head_sink": head_sink,
        "k_scale": k_scale,
        "v_scale": v_scale,
        "q_norm_weight": q_norm_weight,
        "k_norm_weight": k_norm_weight,
        "query_seqlens": query_seqlens,
    }
    found = [name for name, item in exotic.items() if item is not None]
    found += ["smooth_softmax"] if smooth_softmax > 0 else []
    found += ["qk_output"] if qk_output else []
    found += ["sliding_window_cache"] if sliding_window_cache else []
    if found:
        raise ctx.unsupported(f"{', '.join(found)} cannot be converted")
    q, k, v = grouped_heads(ctx, query, key, value, num_heads, kv_num_heads)
    length = ctx.size(q, 2)
    ends = ctx.add(ctx.cast(ctx.reshape(seqlens_k, [-1, 1]), "int64"), 1)
    starts = ctx.maximum(ctx.sub(ends, length), 0)
    if past_key is None or past_key.shape[2] == 0:
        starts = ctx.mul(starts, 0)
    if do_rotary and cos_cache is not None and sin_cache is not None:
        places = ctx.add(starts, ctx.range(0, length)) if position_ids is None else position_ids
        cosine, sine = (rows_of(ctx, cache, places) for cache in (cos_cache, sin_cache))
        width = 2 * int(cos_cache.shape[-1])
        q, k = (rotate(ctx, item, cosine, sine, width, bool(rotary_interleaved)) for item in (q, k))
    if past_key is not None and past_value is not None and past_key.shape[2] != 0:
        total = ctx.cast(ctx.reshape(total_sequence_length, []), "int64")
        k, v = (
            appended(ctx, old, new, starts, total) for old, new in ((past_key, k), (past_value, v))
        )
    offset = ctx.expand_dims(starts, [2, 3])
    mask = mask_of(ctx, q, k, given=attention_bias)
    if causal:
        left = local_window_size - 1 if local_window_size > 0 else -1
        mask = Mask(window_mask(ctx, q, k, offset, (left, 0)), mask.added)
    result, _ = attend(ctx, q, k, v, mask, scale or None, softcap)
    return tuple([merge_heads(ctx, result), k, v, None][: len(ctx.place.outputs)])


def grouped_heads(
    ctx: Context, query: Value, key: Value | None, value: Value | None, heads: int, groups: int
) -> tuple[Value, Value, Value]:
    """Queries, keys and values as (batch, heads, length, size); all may be in one tensor."""
    if key is not None and value is not None:
        return (
            split_heads(ctx, query, heads),
            split_heads(ctx, key, groups),
            split_heads(ctx, value, groups),
        )
    whole = split_heads(ctx, query, heads + 2 * groups)
    return (
        ctx.slice_axis(whole, 1, 0, heads),
        ctx.slice_axis(whole, 1, heads, heads + groups),
        ctx.slice_axis(whole, 1, heads + groups),
    )


def appended(ctx: Context, old: Value, new: Value, starts: Value, total: Value) -> Value:
    """The cache with each row's new elements at its own place, and room for `total`.

    An element comes from the cache, or, from a row's start on, from behind it.
    """
    room = ctx.size(old, 2)
    length = ctx.size(new, 2)
    places = ctx.range(0, ctx.maximum(room, total))
    behind = ctx.sub(places, starts)
    is_new = ctx.binary(
        "logical_and", ctx.binary("greater_equal", behind, 0), ctx.less(behind, length)
    )
    kept = ctx.minimum(places, ctx.sub(ctx.add(room, length), 1))
    picked = ctx.where(is_new, ctx.add(behind, room), kept)
    if ctx.target < 16:
        raise ctx.unsupported("a cache of keys needs iOS16", "convert with --target iOS16 or later")
    both = ctx.concat([old, new], 2)
    # one gather a row: rows of the batch have their own places
    result: Value = ctx.emit(
        "gather",
        x=ctx.transpose(both, [0, 2, 1, 3]),
        indices=picked,
        axis=1,
        batch_dims=1,
        dtype=old.dtype,
    )
    return ctx.transpose(result, [0, 2, 1, 3])


# rotations -----------------------------------------------------------------------------------


@ONNX_OPS("com.microsoft.RotaryEmbedding")
def rotary_embedding(
    ctx: Context,
    input: Value,
    position_ids: Value,
    cos_cache: Value,
    sin_cache: Value,
    *,
    interleaved: int = 0,
    is_packed_batching: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
    scale: float = 1.0,
) -> Value:
    """Pairs of elements turned by angles that grow with the position.

    A single position is that of the first element. Heads of a flat input are as wide as the
    caches say, unless their number is given.
    """
    if is_packed_batching or scale != 1:
        raise ctx.unsupported("is_packed_batching and scale cannot be converted")
    width = 2 * int(cos_cache.shape[-1])
    heads = split_heads(ctx, input, num_heads or int(input.shape[-1]) // width)
    if position_ids.rank == 1:
        places = ctx.add(ctx.range(0, ctx.size(heads, 2)), position_ids)
        position_ids = ctx.expand_dims(places, [0])
    cosine, sine = (rows_of(ctx, cache, position_ids) for cache in (cos_cache, sin_cache))
    turned = rotate(ctx, heads, cosine, sine, rotary_embedding_dim, bool(interleaved))
    return merge_heads(ctx, turned) if input.rank == 3 else turned
