"""Pooling over regions of an image: RoiAlign and MaxRoiPool."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value


@ONNX_OPS("RoiAlign", since=16)
def roi_align(
    ctx: Context,
    X: Value,
    rois: Value,
    batch_indices: Value,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Value:
    """Regions of images, resampled to one size: `[regions, C, output_height, output_width]`.

    Each result takes several samples, a grid of them. Their weights are products of one for the
    row and one for the column, so that the mean is a product of matrices: rows * image * columns.
    With mode "max" it is the largest of the weighted elements, of which each sample has four.
    """
    is_half = coordinate_transformation_mode == "half_pixel"
    boxes = ctx.sub(ctx.mul(rois, spatial_scale), 0.5) if is_half else ctx.mul(rois, spatial_scale)
    images = ctx.emit("gather", x=X, indices=batch_indices, axis=0, dtype=X.dtype)
    sides = []
    for axis, count in enumerate((output_height, output_width)):
        start = ctx.slice_axis(boxes, 1, 1 - axis, 2 - axis)
        end = ctx.slice_axis(boxes, 1, 3 - axis, 4 - axis)
        extent = ctx.sub(end, start)
        extent = extent if is_half else ctx.maximum(extent, 1.0)
        sides.append(Side(ctx, start, extent, ctx.size(X, 2 + axis), count, sampling_ratio))
    if mode == "avg":
        rows, columns = (ctx.expand_dims(side.means(), [1]) for side in sides)
        result = ctx.unary("matmul", rows, y=images)
        return ctx.unary("matmul", result, y=columns, transpose_y=True)
    if mode != "max":
        raise ctx.unsupported(f'mode is "{mode}", expected "avg" or "max"')
    return max_of_samples(ctx, images, sides)


@ONNX_OPS("RoiAlign", since=10)
def roi_align_from_corners(
    ctx: Context,
    X: Value,
    rois: Value,
    batch_indices: Value,
    *,
    mode: str = "avg",
    output_height: int = 1,
    output_width: int = 1,
    sampling_ratio: int = 0,
    spatial_scale: float = 1.0,
) -> Value:
    return roi_align(
        ctx,
        X,
        rois,
        batch_indices,
        coordinate_transformation_mode="output_half_pixel",
        mode=mode,
        output_height=output_height,
        output_width=output_width,
        sampling_ratio=sampling_ratio,
        spatial_scale=spatial_scale,
    )


class Side:
    """The samples of regions along one axis of the image, `[regions, results, samples]`."""

    def __init__(
        self, ctx: Context, start: Value, extent: Value, size: Value, count: int, ratio: int
    ) -> None:
        self.ctx, self.count = ctx, count
        self.size = ctx.cast(size, "float32")
        width = ctx.mul(extent, 1 / count)
        if ratio > 0:
            self.most: Value = ctx.value(np.int64(ratio))
            number = ctx.value(np.full((1, 1), ratio, np.float32))
        else:
            number = ctx.maximum(ctx.unary("ceil", width), 0.0)
            most = ctx.emit("reduce_max", x=number, axes=[0, 1], keep_dims=False)
            self.most = ctx.maximum(ctx.cast(most, "int64"), 1)
        steps = ctx.expand_dims(ctx.cast(ctx.range(0, self.most), "float32"), [0, 1])
        self.number = ctx.expand_dims(number, [2])
        self.is_taken = ctx.less(steps, self.number)
        places = ctx.value(np.arange(count, dtype=np.float32).reshape(1, count, 1))
        inner = ctx.div(ctx.add(steps, 0.5), ctx.maximum(self.number, 1.0))
        inner = ctx.mul(ctx.add(places, inner), ctx.expand_dims(width, [2]))
        where = ctx.add(inner, ctx.expand_dims(start, [2]))
        self.is_inside = ctx.binary(
            "logical_and",
            ctx.binary("greater_equal", where, -1.0),
            ctx.binary("less_equal", where, self.size),
        )
        last = ctx.sub(self.size, 1.0)
        self.where = ctx.minimum(ctx.maximum(where, 0.0), last)
        self.elements = ctx.cast(ctx.range(0, size), "float32")

    def weights(self, low: Value | None = None) -> Value:
        """How much each sample takes of each element, `[regions, results, samples, elements]`."""
        ctx = self.ctx
        elements = ctx.expand_dims(self.elements, [0, 1, 2])
        distance = ctx.unary("abs", ctx.sub(ctx.expand_dims(self.where, [3]), elements))
        found = ctx.maximum(ctx.sub(1.0, distance), 0.0)
        return ctx.mul(found, ctx.expand_dims(ctx.cast(self.is_inside, "float32"), [3]))

    def means(self) -> Value:
        """How much each result takes of each element, `[regions, results, elements]`."""
        ctx = self.ctx
        taken = ctx.expand_dims(ctx.cast(self.is_taken, "float32"), [3])
        sums = ctx.unary("reduce_sum", ctx.mul(self.weights(), taken), axes=[2], keep_dims=False)
        return ctx.div(sums, ctx.maximum(self.number, 1.0))

    def neighbours(self) -> Value:
        """The two elements that each sample lies between, by their weights:
        `[regions, results, 2 * samples, elements]`.
        """
        ctx = self.ctx
        low = ctx.unary("floor", self.where)
        high = ctx.minimum(ctx.add(low, 1.0), ctx.sub(self.size, 1.0))
        part = ctx.sub(self.where, low)
        inside = ctx.cast(self.is_inside, "float32")
        elements = ctx.expand_dims(self.elements, [0, 1, 2])
        rows = []
        for place, weight in ((low, ctx.sub(1.0, part)), (high, part)):
            is_here = ctx.equal(ctx.expand_dims(place, [3]), elements)
            weight = ctx.expand_dims(ctx.mul(weight, inside), [3])
            rows.append(ctx.mul(ctx.cast(is_here, "float32"), weight))
        return ctx.concat(rows, 2)


def max_of_samples(ctx: Context, images: Value, sides: Sequence[Side]) -> Value:
    """The largest weighted element of each result's samples."""
    result = images
    regions, channels = ctx.size(images, 0), ctx.size(images, 1)
    for axis, side in enumerate(sides):
        taken = side.neighbours()
        samples = ctx.mul(side.most, 2)
        rows = ctx.reshape(
            taken, [regions, 1, ctx.mul(samples, side.count), ctx.size(images, 2 + axis)]
        )
        if axis == 0:
            result = ctx.unary("matmul", rows, y=result)
        else:
            result = ctx.unary("matmul", result, y=rows, transpose_y=True)
    # [regions, C, height * samples, width * samples], whose samples that do not count are -inf
    high, wide = (ctx.mul(side.most, 2) for side in sides)
    groups = ctx.mul(regions, channels)
    tall = sides[0].count
    result = ctx.reshape(result, [groups, tall, high, ctx.mul(wide, sides[1].count)])
    result = masked_max(ctx, result, sides[0], channels, 2)
    result = ctx.reshape(result, [groups, tall, sides[1].count, wide])
    result = ctx.transpose(result, [0, 2, 3, 1])
    result = masked_max(ctx, result, sides[1], channels, 2)
    result = ctx.transpose(result, [0, 2, 1])
    return ctx.reshape(result, [regions, channels, tall, sides[1].count])


def masked_max(ctx: Context, x: Value, side: Side, channels: Value, axis: int) -> Value:
    """The largest of the samples that count, along an axis of `[groups, results, samples, …]`."""
    if side.most.is_constant:
        return ctx.unary("reduce_max", x, axes=[axis], keep_dims=False)
    taken = ctx.concat([side.is_taken, side.is_taken], 2)
    taken = ctx.expand_dims(ctx.cast(taken, "float32"), [1])
    reps = ctx.vector([1, channels, 1, 1])
    taken = ctx.emit("tile", x=taken, reps=reps)
    regions = ctx.size(side.is_taken, 0)
    taken = ctx.reshape(taken, [ctx.mul(regions, channels), 1, ctx.size(taken, 3), 1])
    held = ctx.where(ctx.binary("greater", taken, 0.5), x, -np.inf)
    return ctx.unary("reduce_max", held, axes=[axis], keep_dims=False)


@ONNX_OPS("MaxRoiPool")
def max_roi_pool(
    ctx: Context, X: Value, rois: Value, *, pooled_shape: list[int], spatial_scale: float = 1.0
) -> Value:
    """The maximum of each part of regions `[image, x1, y1, x2, y2]`; an empty part gives 0."""
    index = ctx.cast(ctx.squeeze(ctx.slice_axis(rois, 1, 0, 1), [1]), "int32")
    result = ctx.emit("gather", x=X, indices=index, axis=0, dtype=X.dtype)
    for axis, count in enumerate(pooled_shape):
        first, last = (
            ctx.unary("floor", ctx.add(ctx.mul(part, spatial_scale), 0.5))
            for part in (
                ctx.slice_axis(rois, 1, 2 - axis, 3 - axis),
                ctx.slice_axis(rois, 1, 4 - axis, 5 - axis),
            )
        )
        extent = ctx.maximum(ctx.add(ctx.sub(last, first), 1.0), 1.0)
        steps = ctx.value(np.arange(count, dtype=np.float32)[None])
        start = ctx.unary("floor", ctx.mul(ctx.mul(steps, extent), 1 / count))
        end = ctx.unary("ceil", ctx.mul(ctx.mul(ctx.add(steps, 1.0), extent), 1 / count))
        places = ctx.expand_dims(ctx.cast(ctx.range(0, ctx.size(X, 2 + axis)), "float32"), [0, 1])
        start, end = (ctx.expand_dims(ctx.add(part, first), [2]) for part in (start, end))
        inside = ctx.binary(
            "logical_and", ctx.binary("greater_equal", places, start), ctx.less(places, end)
        )
        # one more axis for the parts: [regions, C, parts, elements, others]
        shape = [1, 3 + 1] if axis == 0 else [1, 2]
        inside = ctx.expand_dims(inside, shape)
        wide = ctx.expand_dims(result, [2 + axis])
        parts = ctx.where(inside, wide, -np.inf)
        result = ctx.unary("reduce_max", parts, axes=[3 + axis], keep_dims=False)
    return ctx.where(ctx.equal(result, np.float32(-np.inf)), 0.0, result)
