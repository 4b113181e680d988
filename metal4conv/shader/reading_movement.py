"""Reading what moves elements: other shapes, orders, parts, and values put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from metal4conv.mil.program import Shape
from metal4conv.shader.axes import Known, MixedPoints, constant_known
from metal4conv.shader.limits import ML_PASS
from metal4conv.shader.reader import READERS, Reader

Ints = tuple[int, ...]
Bools = tuple[bool, ...]

END = 2**30
"""Positions from here on mean the end of any axis."""


@READERS("reshape")
def reshape(reader: Reader, x: Known, *, shape: Ints | None) -> Known:
    """The elements in another shape, which is known from the result's type."""
    return reader.reshaped(x, reader.output_shape())


@READERS("expand_dims")
def expand_dims(reader: Reader, x: Known, *, axes: Ints) -> Known:
    """The value with axes of size 1 more."""
    rank = len(x.shape) + len(axes)
    added = {axis % rank for axis in axes}
    shape, points = iter(x.shape), iter(x.points)
    return replace(
        x,
        shape=tuple(1 if axis in added else next(shape) for axis in range(rank)),
        points=tuple(False if axis in added else next(points) for axis in range(rank)),
    )


@READERS("squeeze")
def squeeze(reader: Reader, x: Known, *, axes: Ints | None = None) -> Known:
    """The value without axes of size 1."""
    chosen = range(len(x.shape)) if axes is None else [x.axis(axis) for axis in axes]
    dropped = {axis for axis in chosen if x.shape[axis] == 1}
    kept = [axis for axis in range(len(x.shape)) if axis not in dropped]
    shape = tuple(x.shape[axis] for axis in kept)
    return replace(x, shape=shape, points=tuple(x.points[axis] for axis in kept))


@READERS("flatten2d")
def flatten2d(reader: Reader, x: Known, *, axis: int = 1) -> Known:
    """The axes before `axis` as one, the others as another."""
    return reader.reshaped(x, reader.output_shape())


@READERS("transpose")
def transpose(reader: Reader, x: Known, *, perm: Ints) -> Known:
    """The axes in another order."""
    return reader.transposed(x, perm)


@READERS("reverse")
def reverse(reader: Reader, x: Known, *, axes: Ints | None = None) -> Known:
    """The value backwards along axes of features."""
    chosen = range(len(x.shape)) if axes is None else [x.axis(axis) for axis in axes]
    for axis in chosen:
        if x.points[axis]:
            raise MixedPoints(f"turns axis {axis} around, which counts points")
    return reader.moved(x, np.flip(x.grid, list(chosen)), x.shape, x.points)


@READERS("slice_by_index")
def slice_by_index(
    reader: Reader,
    x: Known,
    *,
    begin: Ints | None,
    end: Ints | None,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Known:
    """`x[begin : end : stride]` for each axis; points are taken all or not at all."""
    rank = len(x.shape)
    if begin is None or end is None:
        return all_of(reader, x)
    off = (False,) * rank
    index: list[slice | int] = []
    dropped = set()
    for axis, (low, high, step, low_open, high_open, is_index) in enumerate(
        zip(
            begin,
            end,
            stride or (1,) * rank,
            begin_mask or off,
            end_mask or off,
            squeeze_mask or off,
            strict=True,
        )
    ):
        if is_index:
            dropped.add(axis)
        first = None if low_open else low
        wanted = slice(first, None if high_open else high, step)
        if x.points[axis]:
            check_all_points(x, axis, None if is_index else wanted)
            index.append(slice(None))
        else:
            index.append(first or 0 if is_index else wanted)
    grid = x.grid[tuple(index)]
    kept = [axis for axis in range(rank) if axis not in dropped]
    sizes = iter(grid.shape)
    shape = tuple(
        x.shape[axis] if x.points[axis] else size for axis, size in zip(kept, sizes, strict=True)
    )
    return reader.moved(x, grid, shape, [x.points[axis] for axis in kept])


def check_all_points(x: Known, axis: int, wanted: slice | None) -> None:
    """`MixedPoints` unless a slice takes the whole axis, which counts points."""
    size = x.shape[axis]
    if wanted is not None and wanted.step in (None, 1):
        if isinstance(size, int):
            if wanted.indices(size) == (0, size, 1):
                return
        elif wanted.start in (None, 0) and (wanted.stop is None or wanted.stop >= END):
            return
    raise MixedPoints(f"takes a part of axis {axis}, which counts points")


def all_of(reader: Reader, x: Known) -> Known:
    """A slice whose bounds come of sizes; it has to give all there is."""
    if reader.output_shape() != x.shape:
        raise MixedPoints(
            f"cuts {list(x.shape)} to {list(reader.output_shape())} by sizes of values"
        )
    return x


@READERS("slice_by_size")
def slice_by_size(reader: Reader, x: Known, *, begin: Ints | None, size: Ints | None) -> Known:
    """`size` elements from `begin` on for each axis; -1 is all that follow."""
    if begin is None or size is None:
        return all_of(reader, x)
    ends = tuple(
        2**31 - 1 if length == -1 else first + length
        for first, length in zip(begin, size, strict=True)
    )
    open_ends = tuple(first < 0 and last == 0 for first, last in zip(begin, ends, strict=True))
    return slice_by_index(reader, x, begin=begin, end=ends, end_mask=open_ends)


@READERS("split")
def split(
    reader: Reader,
    x: Known,
    *,
    axis: int,
    num_splits: int | None = None,
    split_sizes: Ints | None = None,
) -> list[Known]:
    """Parts of the value along an axis of features."""
    axis = x.axis(axis)
    if x.points[axis]:
        raise MixedPoints(f"splits axis {axis}, which counts points")
    found = []
    start = 0
    for number in range(outputs_of(reader)):
        size = int(reader.output_shape(number)[axis])
        grid = np.take(x.grid, range(start, start + size), axis)
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        found.append(reader.moved(x, grid, shape, x.points))
        start += size
    return found


def outputs_of(reader: Reader) -> int:
    """The number of results of the operation that is read."""
    assert reader.operation is not None
    return len(reader.operation.outputs)


@READERS("gather")
def gather(
    reader: Reader,
    x: Known,
    indices: Known,
    *,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> Known:
    """Elements along an axis of features, by constant indices."""
    axis = x.axis(axis)
    if indices.content.constant is None:
        raise reader.refused(
            f"operation {reader.operation} looks up elements by indices that the network computes "
            "or is given, as an embedding does; a shader knows where each element is beforehand",
            f"give the shader the looked-up features as an input, or {ML_PASS}",
        )
    if x.points[axis]:
        raise MixedPoints(f"picks single points along axis {axis}")
    if batch_dims:
        raise reader.refused(
            f"operation {reader.operation} gathers with batch_dims={batch_dims}, expected 0",
            ML_PASS,
        )
    chosen = reader.constant(indices, "indices").astype(np.intp)
    grid = np.take(x.grid, chosen, axis)
    more = (False,) * chosen.ndim
    shape = (*x.shape[:axis], *chosen.shape, *x.shape[axis + 1 :])
    return reader.moved(x, grid, shape, (*x.points[:axis], *more, *x.points[axis + 1 :]))


@READERS("concat")
def concat(reader: Reader, values: list[Known], *, axis: int, interleave: bool = False) -> Known:
    """The values one after the other along an axis of features."""
    if not values[0].shape:
        return stack(reader, values, axis=0)
    found = reader.concatenated(values, axis)
    if not interleave:
        return found
    axis = values[0].axis(axis)
    grid = found.grid
    count = len(values)
    split_up = grid.reshape(*grid.shape[:axis], count, -1, *grid.shape[axis + 1 :])
    return reader.moved(
        found, np.swapaxes(split_up, axis, axis + 1).reshape(grid.shape), found.shape, found.points
    )


@READERS("stack")
def stack(reader: Reader, values: list[Known], *, axis: int) -> Known:
    """The values side by side along a new axis."""
    rank = len(values[0].shape) + 1
    axis %= rank
    return reader.concatenated([expand_dims(reader, value, axes=(axis,)) for value in values], axis)


@READERS("tile")
def tile(reader: Reader, x: Known, *, reps: Ints | None) -> Known:
    """The value several times along axes; points are not repeated.

    What is the same for all points may be repeated for each of them.
    """
    shape = reader.output_shape()
    if x.is_uniform and is_for_each_point(reader, x, shape):
        grown = tuple(
            size != x.shape[axis] and x.shape[axis] == 1 for axis, size in enumerate(shape)
        )
        return Known(shape, grown, x.content, x.name)
    counts = []
    for axis, size in enumerate(shape):
        if x.points[axis]:
            if size != x.shape[axis] and not (reps is not None and reps[axis] == 1):
                raise MixedPoints(f"repeats axis {axis}, which counts points")
            counts.append(1)
        elif isinstance(size, str):
            raise MixedPoints(f"repeats axis {axis} {size} times")
        else:
            counts.append(size // int(x.shape[axis]))
    grid = np.tile(x.grid, counts)
    found = tuple(
        x.shape[axis] if x.points[axis] else grid.shape[axis] for axis in range(len(shape))
    )
    return reader.moved(x, grid, found, x.points)


def is_for_each_point(reader: Reader, x: Known, shape: Shape) -> bool:
    """Whether a repetition gives each point what all points have in common."""
    grown = [size for size, old in zip(shape, x.shape, strict=True) if size != old]
    was_one = all(old == 1 for size, old in zip(shape, x.shape, strict=True) if size != old)
    return was_one and bool(grown) and grown == reader.points


@READERS("fill")
def fill(reader: Reader, *, shape: Ints | None, value: float = 0.0) -> Known:
    """One number everywhere, in a shape that comes of sizes of values."""
    return constant_everywhere(reader.output_shape(), value)


@READERS("fill_like")
def fill_like(reader: Reader, ref_tensor: Known, *, value: float = 0.0) -> Known:
    """One number everywhere, in the shape of another value."""
    width = int(np.prod(ref_tensor.grid_shape))
    content = constant_known(np.full(width, value)).content
    return Known(ref_tensor.shape, ref_tensor.points, content)


def constant_everywhere(shape: Shape, value: float) -> Known:
    """A number for each element; axes of a named size count points."""
    points = tuple(isinstance(size, str) for size in shape)
    grid = [1 if isinstance(size, str) else size for size in shape]
    return Known(shape, points, constant_known(np.full(grid, value)).content)


@READERS("pad")
def pad(
    reader: Reader,
    x: Known,
    *,
    pad: Ints,
    mode: str = "constant",
    constant_val: float = 0.0,
) -> Known:
    """Axes of features extended by a number, or by what is within them."""
    count = len(pad) // 2
    first = len(x.shape) - count
    pairs = [(0, 0)] * first + [(pad[2 * k], pad[2 * k + 1]) for k in range(count)]
    for axis, pair in enumerate(pairs):
        if x.points[axis] and any(pair):
            raise MixedPoints(f"pads axis {axis}, which counts points")
    if mode != "constant":
        grid = np.pad(x.grid, pairs, "reflect" if mode == "reflect" else "edge")
        return reader.moved(x, grid, padded_shape(x, pairs), x.points)
    for axis, (before, after) in enumerate(pairs):
        parts = [x]
        if before:
            parts.insert(0, frame(x, axis, before, constant_val))
        if after:
            parts.append(frame(x, axis, after, constant_val))
        x = reader.concatenated(parts, axis) if len(parts) > 1 else x
    return x


def frame(x: Known, axis: int, size: int, value: float) -> Known:
    """Constants to be put before or after a value."""
    shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
    grid = (*x.grid_shape[:axis], size, *x.grid_shape[axis + 1 :])
    return Known(shape, x.points, constant_known(np.full(grid, value)).content)


def padded_shape(x: Known, pairs: Sequence[tuple[int, int]]) -> Shape:
    """The shape of a value after padding."""
    return tuple(
        size if isinstance(size, str) else size + sum(pair)
        for size, pair in zip(x.shape, pairs, strict=True)
    )
