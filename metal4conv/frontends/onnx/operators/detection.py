"""Detection: what is left of overlapping boxes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metal4conv.frontends.onnx.blocks import Step, loop
from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value

NEVER = np.float32(-np.inf)
"""The score of a box that is out."""


@ONNX_OPS("NonMaxSuppression")
def non_max_suppression(
    ctx: Context,
    boxes: Value,
    scores: Value,
    max_output_boxes_per_class: Value | None = None,
    iou_threshold: Value | None = None,
    score_threshold: Value | None = None,
    *,
    center_point_box: int = 0,
) -> Value:
    """The best boxes of each class, without those that overlap better ones: rows of batch, class
    and box.

    MIL's `non_maximum_suppression` has constant thresholds and pads its result, so this is a loop:
    an iteration takes the best box of every class and drops what overlaps it.
    """
    edges = corners(ctx, boxes, bool(center_point_box))
    limit = single(ctx, iou_threshold, 0.0)
    live = scores
    if score_threshold is not None:
        is_good = ctx.binary("greater", scores, single(ctx, score_threshold, 0.0))
        live = ctx.where(is_good, scores, NEVER)
    places = ctx.range(0, ctx.size(scores, 2)).with_dtype("int32")
    nothing = ctx.filled(ctx.shape(scores), -1, "int32")

    def iteration(number: Value, given: Sequence[Value]) -> Step:
        left, picked = given
        best: Value = ctx.emit("reduce_max", x=left, axes=[-1], keep_dims=True)
        place: Value = ctx.emit("reduce_argmax", x=left, axis=-1, keep_dims=True, dtype="int32")
        is_found = ctx.binary("greater", best, NEVER)
        is_best = ctx.equal(places, place)
        picks = ctx.binary("matmul", ctx.cast(is_best, "float32"), boxes)
        chosen = corners(ctx, ctx.expand_dims(picks, [2]), bool(center_point_box))
        shares = overlap(ctx, chosen, edges)
        is_out = ctx.binary("logical_or", is_best, ctx.binary("greater", shares, limit))
        is_slot = ctx.binary("logical_and", ctx.equal(places, number.with_dtype("int32")), is_found)
        kept = ctx.where(is_slot, place, picked)
        rest = ctx.where(is_out, NEVER, left)
        highest: Value = ctx.emit("reduce_max", x=rest, axes=[-1, -2, -3], keep_dims=False)
        return Step([rest, kept], go_on=ctx.binary("greater", highest, NEVER))

    if max_output_boxes_per_class is None:
        count = ctx.value(np.int64(0))
    else:
        count = ctx.reshape(ctx.cast(max_output_boxes_per_class, "int64"), [])
    count = ctx.minimum(count, ctx.size(scores, 2))
    (_, picked), _ = loop(ctx, count, None, [live, nothing], iteration)
    rows: Value = ctx.emit("non_zero", x=ctx.binary("greater_equal", picked, 0), dtype="int32")
    found: Value = ctx.emit("gather_nd", x=picked, indices=rows, dtype="int32")
    columns = [ctx.slice_axis(rows, 1, 0, 2), ctx.expand_dims(found, [1])]
    return ctx.concat(columns, 1).with_dtype("int64")


def single(ctx: Context, value: Value | None, default: float) -> Value:
    """A number that is given as a scalar or as a vector of one."""
    return ctx.value(np.float32(default)) if value is None else ctx.reshape(value, [])


def corners(ctx: Context, boxes: Value, is_centered: bool) -> tuple[Value, ...]:
    """(batch, boxes, 4) as the low and high edges of both directions: (batch, 1, boxes) each.

    Boxes of (batch, classes, 1, 4) give (batch, classes, 1).
    """
    if boxes.rank == 3:
        boxes = ctx.expand_dims(boxes, [1])
    first, second, third, fourth = (
        ctx.squeeze(ctx.slice_axis(boxes, 3, place, place + 1), [3]) for place in range(4)
    )
    if is_centered:
        wide, high = ctx.mul(third, 0.5), ctx.mul(fourth, 0.5)
        return (
            ctx.sub(first, wide),
            ctx.add(first, wide),
            ctx.sub(second, high),
            ctx.add(second, high),
        )
    return (
        ctx.minimum(first, third),
        ctx.maximum(first, third),
        ctx.minimum(second, fourth),
        ctx.maximum(second, fourth),
    )


def overlap(ctx: Context, a: Sequence[Value], b: Sequence[Value]) -> Value:
    """The area that two boxes have in common, over the one that they cover together."""
    shared = ctx.mul(
        *(
            ctx.maximum(
                ctx.sub(ctx.minimum(a[place + 1], b[place + 1]), ctx.maximum(a[place], b[place])),
                0.0,
            )
            for place in (0, 2)
        )
    )
    areas = [ctx.mul(ctx.sub(box[1], box[0]), ctx.sub(box[3], box[2])) for box in (a, b)]
    return ctx.div(shared, ctx.sub(ctx.add(*areas), shared))
