"""Images resampled at positions of a grid, and such grids."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import product

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value

CUBIC_A = -0.75
"""The parameter of the cubic weights, which GridSample fixes."""

PADDING = {"zeros": "constant", "border": "border"}
"""ONNX's padding that MIL's `resample` has, with its name there."""


@ONNX_OPS("GridSample", since=20)
def grid_sample(
    ctx: Context,
    X: Value,
    grid: Value,
    *,
    align_corners: int = 0,
    mode: str = "linear",
    padding_mode: str = "zeros",
) -> Value:
    """`X` at the positions of `grid`, each from -1 to 1 with the innermost axis first.

    Linear sampling of images is MIL's `resample`. All else picks elements around each position,
    and adds them up by weights.
    """
    if mode not in ("nearest", "linear", "cubic"):
        raise ctx.unsupported(f'mode is "{mode}", expected nearest, linear or cubic')
    if padding_mode not in (*PADDING, "reflection"):
        raise ctx.unsupported(f'padding_mode is "{padding_mode}", which is not known')
    if mode == "linear" and X.rank == 4 and padding_mode in PADDING:
        return ctx.unary(
            "resample",
            X,
            coordinates=grid,
            sampling_mode="bilinear",
            padding_mode=PADDING[padding_mode],
            padding_value=np.float32(0),
            coordinates_mode="normalized_minus_one_to_one",
            align_corners=bool(align_corners),
        )
    rank = X.rank - 2
    flat = ctx.reshape(grid, [ctx.size(grid, 0), -1, rank])
    sides = [Side(ctx, X, axis, bool(align_corners), padding_mode) for axis in range(rank)]
    columns = [ctx.slice_axis(flat, 2, rank - 1 - axis, rank - axis) for axis in range(rank)]
    places = [side.places(column, mode) for side, column in zip(sides, columns, strict=True)]
    found = picked(ctx, X, sides, [[place for place, _ in row] for row in places])
    if mode == "nearest":
        result = ctx.squeeze(found, [2])
    else:
        rows = [
            ctx.transpose(reduce(ctx.mul, weights), [0, 2, 1])
            for weights in product(*([weight for _, weight in row] for row in places))
        ]
        factors = ctx.expand_dims(ctx.concat(rows, 1), [1]).with_dtype(X.dtype)
        result = ctx.unary("reduce_sum", ctx.mul(found, factors), axes=[2], keep_dims=False)
    sizes = [ctx.size(grid, axis + 1) for axis in range(rank)]
    return ctx.reshape(result, [ctx.size(X, 0), ctx.size(X, 1), *sizes])


@ONNX_OPS("GridSample", since=16)
def grid_sample_of_images(
    ctx: Context,
    X: Value,
    grid: Value,
    *,
    align_corners: int = 0,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
) -> Value:
    """The same under the modes' older names."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode, mode)
    return grid_sample(
        ctx, X, grid, align_corners=align_corners, mode=mode, padding_mode=padding_mode
    )


class Side:
    """One spatial axis of the sampled value."""

    def __init__(self, ctx: Context, x: Value, axis: int, is_aligned: bool, padding: str) -> None:
        self.ctx, self.padding, self.is_aligned = ctx, padding, is_aligned
        self.count = ctx.size(x, axis + 2)
        self.size = ctx.cast(self.count, "float32")
        self.last = ctx.sub(self.size, 1.0)

    def places(self, grid: Value, mode: str) -> list[tuple[Value, Value]]:
        """The elements around positions of a grid, as whole floats, and their weights."""
        ctx, grid = self.ctx, self.ctx.cast(grid, "float32")
        if self.is_aligned:
            where = ctx.mul(ctx.add(grid, 1.0), ctx.mul(self.last, 0.5))
        else:
            where = ctx.mul(ctx.sub(ctx.mul(ctx.add(grid, 1.0), self.size), 1.0), 0.5)
        if mode == "nearest":
            return [(self.padded(ctx.unary("round", where)), ctx.value(np.float32(1)))]
        # of cubic sampling PyTorch and onnxruntime bring in the elements, not the position
        where = where if mode == "cubic" else self.padded(where)
        low = ctx.unary("floor", where)
        part = ctx.sub(where, low)
        if mode == "linear":
            return [(low, ctx.sub(1.0, part)), (ctx.add(low, 1.0), part)]
        return [
            (ctx.add(low, float(step)), cubic_weight(ctx, part, step)) for step in (-1, 0, 1, 2)
        ]

    def padded(self, where: Value) -> Value:
        """Positions brought into the axis; with zeros around they stay outside."""
        if self.padding == "zeros":
            return where
        return self.inner(where) if self.padding == "border" else self.reflected(where)

    def inner(self, where: Value) -> Value:
        return self.ctx.maximum(self.ctx.minimum(where, self.last), 0.0)

    def reflected(self, where: Value) -> Value:
        """Positions mirrored at the ends: outer centres, or else outer edges, of the elements."""
        ctx = self.ctx
        start = 0.0 if self.is_aligned else -0.5
        extent = ctx.maximum(self.last, 1.0) if self.is_aligned else self.size
        moved = ctx.mod(ctx.unary("abs", ctx.sub(where, start)), ctx.mul(extent, 2.0))
        return ctx.add(ctx.sub(extent, ctx.unary("abs", ctx.sub(moved, extent))), start)

    def element(self, place: Value) -> Value:
        """An element for a whole position that may lie outside."""
        return self.inner(self.reflected(place) if self.padding == "reflection" else place)


def cubic_weight(ctx: Context, part: Value, step: int) -> Value:
    """Keys' weight of the element `step` after the one before a position."""
    a = CUBIC_A
    distance = (
        ctx.add(part, 1.0) if step == -1 else part if step == 0 else ctx.sub(float(step), part)
    )
    if step in (0, 1):
        square = ctx.mul(distance, distance)
        return ctx.add(ctx.mul(ctx.sub(ctx.mul(distance, a + 2), a + 3), square), 1.0)
    inner = ctx.add(ctx.mul(ctx.sub(ctx.mul(distance, a), 5 * a), distance), 8 * a)
    return ctx.sub(ctx.mul(inner, distance), 4 * a)


def picked(ctx: Context, x: Value, sides: Sequence[Side], taps: Sequence[Sequence[Value]]) -> Value:
    """The elements at each combination of places along the axes, `[N, C, combinations, points]`.

    Images are resampled at whole positions; of other values all elements are counted through.
    """
    combinations = list(product(*taps))
    if x.rank == 4 and x.is_float:
        is_zero = sides[0].padding == "zeros"
        rows = []
        for row, column in combinations:
            if not is_zero:
                row, column = sides[0].element(row), sides[1].element(column)
            rows.append(ctx.expand_dims(ctx.concat([column, row], 2), [1]))
        return ctx.unary(
            "resample",
            x,
            coordinates=ctx.concat(rows, 1),
            sampling_mode="nearest",
            padding_mode="constant" if is_zero else "border",
            padding_value=np.float32(0),
            coordinates_mode="unnormalized",
            align_corners=True,
        )
    indices, masks = [], []
    for places in combinations:
        whole = [side.element(place) for side, place in zip(sides, places, strict=True)]
        index = ctx.cast(whole[0], "int32")
        for side, element in zip(sides[1:], whole[1:], strict=True):
            index = ctx.add(ctx.mul(index, side.count), ctx.cast(element, "int32"))
        tests = [ctx.equal(own, place) for own, place in zip(whole, places, strict=True)]
        mask = reduce(lambda a, b: ctx.binary("logical_and", a, b), tests)
        indices.append(ctx.transpose(index, [0, 2, 1]))
        masks.append(ctx.transpose(ctx.cast(mask, "int32"), [0, 2, 1]))
    index = ctx.concat(indices, 1)
    channels = ctx.size(x, 1)
    flat = ctx.reshape(x, [ctx.size(x, 0), channels, -1])
    points = ctx.reshape(index, [ctx.size(x, 0), 1, -1])
    wide = ctx.emit("tile", x=points, reps=ctx.vector([1, channels, 1]))
    found = ctx.emit("gather_along_axis", x=flat, indices=wide, axis=2, dtype=x.dtype)
    found = ctx.reshape(found, [ctx.size(x, 0), channels, len(combinations), ctx.size(index, 2)])
    if sides[0].padding != "zeros":
        return found
    mask = ctx.cast(ctx.expand_dims(ctx.concat(masks, 1), [1]), "bool")
    return ctx.where(mask, found, ctx.value(0, x.dtype))


@ONNX_OPS("AffineGrid", since=20)
def affine_grid(ctx: Context, theta: Value, size: Value, *, align_corners: int = 0) -> Value:
    """A grid of the size's spatial axes, moved by a matrix for each image."""
    rank = int(size.shape[0]) - 2
    sizes = [ctx.element(size, axis + 2) for axis in range(rank)]
    zeros = ctx.filled(ctx.vector(sizes), 0.0, "float32")
    columns = []
    for axis in reversed(range(rank)):
        steps = ctx.mul(ctx.cast(ctx.range(0, sizes[axis]), "float32"), 2.0)
        length = ctx.cast(sizes[axis], "float32")
        if align_corners:
            row = ctx.sub(ctx.div(steps, ctx.maximum(ctx.sub(length, 1.0), 1.0)), 1.0)
        else:
            row = ctx.sub(ctx.div(ctx.add(steps, 1.0), length), 1.0)
        row = ctx.expand_dims(row, [place for place in range(rank) if place != axis])
        columns.append(ctx.reshape(ctx.add(row, zeros), [1, -1, 1]))
    columns.append(ctx.reshape(ctx.add(zeros, 1.0), [1, -1, 1]))
    points = ctx.concat(columns, 2)
    moved = ctx.unary("matmul", points, y=theta.with_dtype("float32"), transpose_y=True)
    return ctx.reshape(moved, [ctx.size(theta, 0), *sizes, rank])
