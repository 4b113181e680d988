"""Attention, and the rotations of its queries and keys."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from metal4conv.frontends.attention import FUSED_SINCE
from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Size, Value, is_static


@dataclass(frozen=True)
class Mask:
    """Which keys a query sees, and what is added to the scores; both broadcast to the scores."""

    allowed: Value | None = None
    """bool, true where a key takes part."""
    added: Value | None = None
    """float."""
    has_empty_rows: bool = False
    """Whether a query may see no key at all; its result is 0 then."""


@ONNX_OPS("Attention", since=25)
def attention(
    ctx: Context,
    Q: Value,
    K: Value,
    V: Value,
    attn_mask: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    nonpad_kv_seqlen: Value | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> tuple[Value | None, ...]:
    """Values weighted by how well each query fits the keys, for one head beside the other.

    Gives Y, present key, present value, and the scores at the stage that
    `qk_matmul_output_mode` says. A query that sees no key gives 0.
    """
    query, key, value = (
        split_heads(ctx, item, count)
        for item, count in ((Q, q_num_heads), (K, kv_num_heads), (V, kv_num_heads))
    )
    present_key = key if past_key is None else ctx.concat([past_key, key], 2)
    present_value = value if past_value is None else ctx.concat([past_value, value], 2)
    past = None if past_key is None else ctx.size(past_key, 2)
    mask = mask_of(
        ctx,
        query,
        present_key,
        given=attn_mask,
        past=past,
        lengths=nonpad_kv_seqlen,
        window=(left_window_size, 0 if is_causal else right_window_size),
    )
    wants_scores = len(ctx.place.outputs) > 3 and bool(ctx.place.outputs[3])
    stage = qk_matmul_output_mode if wants_scores else None
    result, scores = attend(ctx, query, present_key, present_value, mask, scale, softcap, stage)
    merged = merge_heads(ctx, result) if Q.rank == 3 else result
    return tuple([merged, present_key, present_value, scores][: len(ctx.place.outputs)])


@ONNX_OPS("Attention", since=24)
def attention_without_windows(
    ctx: Context,
    Q: Value,
    K: Value,
    V: Value,
    attn_mask: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    nonpad_kv_seqlen: Value | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> tuple[Value | None, ...]:
    return attention(
        ctx,
        Q,
        K,
        V,
        attn_mask,
        past_key,
        past_value,
        nonpad_kv_seqlen,
        is_causal=is_causal,
        kv_num_heads=kv_num_heads,
        q_num_heads=q_num_heads,
        qk_matmul_output_mode=qk_matmul_output_mode,
        scale=scale,
        softcap=softcap,
    )


@ONNX_OPS("Attention", since=23)
def attention_without_lengths(
    ctx: Context,
    Q: Value,
    K: Value,
    V: Value,
    attn_mask: Value | None = None,
    past_key: Value | None = None,
    past_value: Value | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
) -> tuple[Value | None, ...]:
    return attention(
        ctx,
        Q,
        K,
        V,
        attn_mask,
        past_key,
        past_value,
        is_causal=is_causal,
        kv_num_heads=kv_num_heads,
        q_num_heads=q_num_heads,
        qk_matmul_output_mode=qk_matmul_output_mode,
        scale=scale,
        softcap=softcap,
    )


# heads ---------------------------------------------------------------------------------------


def split_heads(ctx: Context, x: Value, count: int | None) -> Value:
    """(batch, length, heads * size) as (batch, heads, length, size); other ranks stay."""
    if x.rank != 3:
        return x
    if not count:
        raise ctx.unsupported("inputs of 3 dimensions need the number of heads")
    width = x.shape[2]
    if not is_static((width,)) or width % count:
        raise ctx.unsupported(f"a width of {width} does not divide into {count} heads")
    rows = ctx.reshape(x, [ctx.size(x, 0), ctx.size(x, 1), count, int(width) // count])
    return ctx.transpose(rows, [0, 2, 1, 3])


def merge_heads(ctx: Context, x: Value) -> Value:
    """(batch, heads, length, size) as (batch, length, heads * size)."""
    heads, size = x.shape[1], x.shape[3]
    rows = ctx.transpose(x, [0, 2, 1, 3])
    if is_static((heads, size)):
        return ctx.reshape(rows, [ctx.size(x, 0), ctx.size(x, 2), int(heads) * int(size)])
    width = ctx.mul(ctx.size(x, 1), ctx.size(x, 3))
    return ctx.reshape(rows, [ctx.size(x, 0), ctx.size(x, 2), width])


def repeat_heads(ctx: Context, x: Value, heads: Size) -> Value:
    """Each head of keys or values so often that there are as many as queries have."""
    own = x.shape[1]
    if own == heads:
        return x
    if not is_static((own, heads)) or heads % own:
        raise ctx.unsupported(f"{heads} heads of queries and {own} of keys and values")
    count = int(heads) // int(own)
    wide = ctx.unary("tile", ctx.expand_dims(x, [2]), reps=[1, 1, count, 1, 1])
    return ctx.reshape(wide, [ctx.size(x, 0), int(heads), ctx.size(x, 2), ctx.size(x, 3)])


# masks ---------------------------------------------------------------------------------------


def mask_of(
    ctx: Context,
    query: Value,
    key: Value,
    *,
    given: Value | None = None,
    past: Value | None = None,
    lengths: Value | None = None,
    window: tuple[int, int] = (-1, -1),
) -> Mask:
    """The mask of a model's own mask, valid lengths of keys, and a window around each query.

    `past` is how many keys come before the first query, `lengths` the number of valid keys in
    each batch, `window` how far a query sees to the left and right; -1 is without a limit.
    """
    parts = []
    added = None
    if given is not None:
        fitted = with_length(ctx, given, ctx.size(key, 2), key.shape[2])
        if fitted.dtype == "bool":
            parts.append(fitted)
        else:
            added = fitted
    offset = past
    if lengths is not None:
        counts = ctx.expand_dims(ctx.reshape(lengths, [-1]), [1, 2, 3])
        parts.append(ctx.less(ctx.range(0, ctx.size(key, 2)), counts))
        offset = ctx.sub(counts, ctx.size(query, 2)) if past is None else past
    sees_itself = not parts
    if max(window) >= 0:
        parts.append(window_mask(ctx, query, key, offset, window))
        sees_itself = sees_itself and window[0] < 0
    allowed = parts[0] if parts else None
    for part in parts[1:]:
        allowed = ctx.binary("logical_and", allowed, part)  # type: ignore[arg-type]  # not None
    return Mask(allowed, added, may_be_empty(allowed, sees_itself) or may_hide(added))


def may_be_empty(allowed: Value | None, sees_itself: bool) -> bool:
    """Whether there may be a query without any key."""
    if allowed is None or sees_itself:
        return False
    array = allowed.array
    return array is None or not bool(array.any(axis=-1).all())


def may_hide(added: Value | None) -> bool:
    """Whether what is added to the scores may hide all keys of a query."""
    if added is None:
        return False
    array = added.array
    return array is None or bool(np.isneginf(array.max(axis=-1)).any())


def window_mask(
    ctx: Context, query: Value, key: Value, offset: Value | None, window: tuple[int, int]
) -> Value:
    """Where a key lies within the window around a query, which stands at `offset` and on."""
    left, right = window
    rows = ctx.range(0, ctx.size(query, 2))
    columns = ctx.range(0, ctx.size(key, 2))
    places = ctx.expand_dims(rows, [1])
    if offset is not None and not (offset.array is not None and not offset.array.any()):
        places = add_known(ctx, places, offset)
    if columns.array is not None and places.array is not None:
        distance = columns.array - places.array
        inside = np.ones(distance.shape, bool)
        inside &= (distance <= right) if right >= 0 else True
        inside &= (distance >= -left) if left >= 0 else True
        return ctx.value(inside)
    distances = ctx.sub(columns, places)
    tests = []
    if right >= 0:
        tests.append(ctx.binary("less_equal", distances, right))
    if left >= 0:
        tests.append(ctx.binary("greater_equal", distances, -left))
    return tests[0] if len(tests) == 1 else ctx.binary("logical_and", *tests)


def add_known(ctx: Context, x: Value, y: Value) -> Value:
    """The sum, a constant for constants."""
    if x.array is not None and y.array is not None:
        return ctx.value(x.array + y.array)
    return ctx.add(x, y)


def with_length(ctx: Context, mask: Value, length: Value, size: Size) -> Value:
    """A mask for `length` keys; keys behind the end of a shorter one are hidden."""
    own = mask.shape[-1] if mask.rank else 1
    if not mask.rank:
        mask = ctx.expand_dims(mask, [0])
    if own == size or (is_static((own, size)) and own > size):
        return mask
    places = ctx.range(0, length)
    if is_static((own, size)):
        missing = int(size) - int(own)
        fill = False if mask.dtype == "bool" else -np.inf
        rows = [ctx.size(mask, axis) for axis in range(mask.rank - 1)]
        tail = ctx.filled([*rows, missing], fill, mask.dtype)
        return ctx.concat([mask, tail], mask.rank - 1)
    # the sizes are only known when the model runs
    end = ctx.size(mask, -1)
    inside = ctx.less(places, end)
    last = ctx.minimum(places, ctx.sub(end, 1))
    wide: Value = ctx.emit("gather", x=mask, indices=last, axis=mask.rank - 1, dtype=mask.dtype)
    if mask.dtype == "bool":
        return ctx.binary("logical_and", wide, inside)
    return ctx.add(wide, ctx.where(inside, 0.0, np.float32(-np.inf)))


# attention itself ----------------------------------------------------------------------------


def attend(
    ctx: Context,
    query: Value,
    key: Value,
    value: Value,
    mask: Mask,
    scale: float | None = None,
    softcap: float = 0.0,
    stage: int | None = None,
) -> tuple[Value, Value | None]:
    """softmax(query @ keyᵀ * scale) @ value, and the scores at a stage if one is asked for.

    Stages are ONNX's: 0 the scores, 1 with softcap, 2 with the mask, 3 after softmax.
    """
    key, value = (repeat_heads(ctx, item, query.shape[1]) for item in (key, value))
    mask, visible = without_empty_rows(ctx, mask)
    width = query.shape[-1]
    is_fused = ctx.target >= FUSED_SINCE and not softcap and stage is None
    if is_fused and is_static((width,)):
        result = fused(ctx, query, key, value, mask, scale)
        return (result if visible is None else ctx.mul(result, visible)), None
    scores = scaled_scores(ctx, query, key, scale)
    stages = [scores]
    if softcap:
        scores = ctx.mul(ctx.unary("tanh", ctx.div(scores, float(softcap))), float(softcap))
    stages.append(scores)
    bias = bias_of(ctx, mask)
    scores = scores if bias is None else ctx.add(scores, bias)
    stages.append(hidden(ctx, scores, visible) if stage == 2 else scores)
    weights = ctx.unary("softmax", scores, axis=-1)
    weights = weights if visible is None else ctx.mul(weights, visible)
    stages.append(weights)
    result = ctx.binary("matmul", weights, value)
    return result, None if stage is None else stages[stage]


def fused(
    ctx: Context, query: Value, key: Value, value: Value, mask: Mask, scale: float | None
) -> Value:
    """MIL's own attention; another scale than its own is multiplied into the queries."""
    width = math.sqrt(int(query.shape[-1]))
    if scale is not None and not math.isclose(scale * width, 1.0, rel_tol=1e-6):
        query = ctx.mul(query, float(scale * width))
    given = mask.allowed if mask.added is None else bias_of(ctx, mask)
    result: Value = ctx.emit(
        "scaled_dot_product_attention",
        query=query,
        key=key,
        value=value,
        attn_mask=given,
        dtype=query.dtype,
    )
    return result


def scaled_scores(ctx: Context, query: Value, key: Value, scale: float | None) -> Value:
    """How well each query fits each key; the queries are scaled, which keeps float16 small."""
    width = query.shape[-1]
    if scale is not None:
        scaled = ctx.mul(query, float(scale))
    elif is_static((width,)):
        scaled = ctx.mul(query, 1 / math.sqrt(int(width)))
    else:
        scaled = ctx.div(query, ctx.unary("sqrt", ctx.cast(ctx.size(query, -1), "float32")))
    result: Value = ctx.emit("matmul", x=scaled, y=key, transpose_y=True, dtype=query.dtype)
    return result


def bias_of(ctx: Context, mask: Mask) -> Value | None:
    """What is added to the scores: -∞ where a key is hidden."""
    if mask.allowed is None:
        return mask.added
    array = mask.allowed.array
    if array is not None:
        bias = ctx.value(np.where(array, 0, -np.inf).astype(np.float32))
    else:
        bias = ctx.where(mask.allowed, np.float32(0), np.float32(-np.inf))
    return bias if mask.added is None else ctx.add(mask.added, bias)


def without_empty_rows(ctx: Context, mask: Mask) -> tuple[Mask, Value | None]:
    """The mask with all keys open to queries that would see none, and 0 for those, 1 for others.

    A softmax over nothing is not a number, so such queries see everything and their result is
    multiplied by 0.
    """
    if not mask.has_empty_rows:
        return mask, None
    if mask.added is None and mask.allowed is not None:
        counted = ctx.cast(mask.allowed, "float32")
        visible: Value = ctx.emit("reduce_max", x=counted, axes=[-1], keep_dims=True)
        is_empty = ctx.less(visible, 0.5)
        return Mask(ctx.binary("logical_or", mask.allowed, is_empty)), visible
    bias = bias_of(ctx, mask)
    assert bias is not None
    highest: Value = ctx.emit("reduce_max", x=bias, axes=[-1], keep_dims=True)
    is_seen = ctx.binary("greater", highest, np.float32(-np.inf))
    least = ctx.where(is_seen, np.float32(-np.inf), np.float32(0))
    return Mask(added=ctx.maximum(bias, least)), ctx.cast(is_seen, "float32")


def hidden(ctx: Context, scores: Value, visible: Value | None) -> Value:
    """Scores with -∞ for the queries that see no key."""
    if visible is None:
        return scores
    return ctx.add(scores, ctx.where(ctx.less(visible, 0.5), np.float32(-np.inf), np.float32(0)))


# rotations -----------------------------------------------------------------------------------


@ONNX_OPS("RotaryEmbedding")
def rotary_embedding(
    ctx: Context,
    X: Value,
    cos_cache: Value,
    sin_cache: Value,
    position_ids: Value | None = None,
    *,
    interleaved: int = 0,
    num_heads: int = 0,
    rotary_embedding_dim: int = 0,
) -> Value:
    """Pairs of elements turned by angles that grow with the position.

    The pairs are the halves of each head, or with `interleaved` neighbours. Without positions
    the caches have a row for every position already.
    """
    heads = split_heads(ctx, X, num_heads)
    cosine, sine = (
        cache if position_ids is None else rows_of(ctx, cache, position_ids)
        for cache in (cos_cache, sin_cache)
    )
    turned = rotate(ctx, heads, cosine, sine, rotary_embedding_dim, bool(interleaved))
    return merge_heads(ctx, turned) if X.rank == 3 else turned


def rows_of(ctx: Context, cache: Value, positions: Value) -> Value:
    """The rows of a table at positions."""
    result: Value = ctx.emit("gather", x=cache, indices=positions, axis=0, dtype=cache.dtype)
    return result


def rotate(
    ctx: Context, x: Value, cosine: Value, sine: Value, width: int, is_interleaved: bool
) -> Value:
    """(batch, heads, length, size) with its first `width` elements turned, all for a width of 0.

    The cosines and sines are (batch, length, width / 2).
    """
    size = int(x.shape[-1])
    width = width or size
    half = width // 2
    turning = x if width == size else ctx.slice_axis(x, 3, 0, width)
    cosine, sine = (
        ctx.expand_dims(item if item.shape[-1] == half else ctx.slice_axis(item, 2, 0, half), [1])
        for item in (cosine, sine)
    )
    if is_interleaved:
        pairs = ctx.reshape(turning, [*(ctx.size(x, axis) for axis in range(3)), half, 2])
        first, second = (
            ctx.squeeze(ctx.slice_axis(pairs, 4, place, place + 1), [4]) for place in (0, 1)
        )
    else:
        first, second = ctx.slice_axis(turning, 3, 0, half), ctx.slice_axis(turning, 3, half, width)
    turned = [
        ctx.sub(ctx.mul(first, cosine), ctx.mul(second, sine)),
        ctx.add(ctx.mul(second, cosine), ctx.mul(first, sine)),
    ]
    if is_interleaved:
        stacked: Value = ctx.emit("stack", values=turned, axis=4, dtype=x.dtype)
        result = ctx.reshape(stacked, [*(ctx.size(x, axis) for axis in range(3)), width])
    else:
        result = ctx.concat(turned, 3)
    return result if width == size else ctx.concat([result, ctx.slice_axis(x, 3, width)], 3)
