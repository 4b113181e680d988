"""Operations that give a tensor another shape, order, or part of it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.symbolic_shapes import statically_known_true

from metal4conv.execute.host_numbers import maximum, minimum
from metal4conv.execute.scatter_gather import picked_along, signed
from metal4conv.execute.table import EXACT_OPS, Bools, Ints, Tensors
from metal4conv.execute.tensor_operation import framed

LARGEST = 2**30
"""Positions from here on mean the end of any axis."""


@EXACT_OPS("depth_to_space")
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Channels moved into blocks of pixels; a block's position is the outer part of the channel."""
    n, c, h, w = x.shape
    channels = c // (block_size * block_size)
    blocks = x.reshape(n, block_size, block_size, channels, h, w)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(n, channels, h * block_size, w * block_size)


@EXACT_OPS("space_to_depth")
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """Blocks of pixels moved into channels; the inverse of `depth_to_space`."""
    n, c, h, w = x.shape
    rows, columns = h // block_size, w // block_size
    blocks = x.reshape(n, c, rows, block_size, columns, block_size)
    channels = c * block_size * block_size
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(n, channels, rows, columns)


@EXACT_OPS("pixel_shuffle")
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Channels moved into blocks of pixels; a block's position is the inner part of the channel."""
    n, c, h, w = x.shape
    f = upscale_factor
    blocks = x.reshape(n, c // (f * f), f, f, h, w)
    return blocks.permute(0, 1, 4, 2, 5, 3).reshape(n, c // (f * f), h * f, w * f)


@EXACT_OPS("pixel_unshuffle", since=16)
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Blocks of pixels moved into channels; the inverse of `pixel_shuffle`."""
    n, c, h, w = x.shape
    f = downscale_factor
    blocks = x.reshape(n, c, h // f, f, w // f, f)
    return blocks.permute(0, 1, 3, 5, 2, 4).reshape(n, c * f * f, h // f, w // f)


@EXACT_OPS("space_to_batch")
def space_to_batch(x: Tensor, block_shape: Ints, paddings: Ints) -> Tensor:
    """Blocks of pixels moved into the batch, after padding with zeros.

    `paddings` is [[top, bottom], [left, right]], row by row.
    """
    top, bottom, left, right = paddings
    rows, columns = block_shape
    padded = framed(x, [(top, bottom), (left, right)], 0)
    n, c, h, w = padded.shape
    blocks = padded.reshape(n, c, h // rows, rows, w // columns, columns)
    batch = n * rows * columns
    return blocks.permute(3, 5, 0, 1, 2, 4).reshape(batch, c, h // rows, w // columns)


@EXACT_OPS("batch_to_space")
def batch_to_space(x: Tensor, block_shape: Ints, crops: Ints) -> Tensor:
    """The batch moved into blocks of pixels, then cropped; the inverse of `space_to_batch`."""
    top, bottom, left, right = crops
    rows, columns = block_shape
    n, c, h, w = x.shape
    batch = n // (rows * columns)
    blocks = x.reshape(rows, columns, batch, c, h, w).permute(2, 3, 4, 0, 5, 1)
    merged = blocks.reshape(batch, c, h * rows, w * columns)
    return merged[:, :, top : h * rows - bottom, left : w * columns - right]


@EXACT_OPS("expand_dims")
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """The tensor with axes of size 1 at `axes`, counted in the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@EXACT_OPS("squeeze")
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """The tensor without `axes`, by default without all of size 1; larger ones stay."""
    return torch.squeeze(x) if axes is None else torch.squeeze(x, axes)


@EXACT_OPS("reshape")
def reshape(x: Tensor, shape: Ints) -> Tensor:
    """The elements in another shape: 0 keeps the size of that axis, one -1 is what remains."""
    if any(is_number(size, 0) for size in shape) and len(shape) != x.ndim:
        raise ValueError(f"a 0 in shape {shape} needs a tensor of rank {len(shape)}, not {x.ndim}")
    kept = [x.shape[axis] if is_number(size, 0) else size for axis, size in enumerate(shape)]
    return x.reshape(with_remainder(x, kept))


@EXACT_OPS("reshape", since=17)
def reshape_from_right(x: Tensor, shape: Ints) -> Tensor:
    """The same, where zeros count axes from the right; beyond the tensor's first they are 1."""
    missing = len(shape) - x.ndim
    sizes = [1] * missing + list(x.shape[max(-missing, 0) :])
    kept = [old if is_number(size, 0) else size for old, size in zip(sizes, shape, strict=True)]
    return x.reshape(with_remainder(x, kept))


def is_number(size: Any, number: int) -> bool:
    """Whether a size is this plain number; a symbolic one is not, as comparing would bind it."""
    return isinstance(size, int) and size == number


def with_remainder(x: Tensor, sizes: list[int]) -> list[int]:
    """Sizes whose -1 is replaced by what the number of elements leaves for it.

    torch could do this, but it would compare symbolic sizes with 0 on the way.
    """
    unknown = [axis for axis, size in enumerate(sizes) if is_number(size, -1)]
    if len(unknown) != 1:
        return sizes
    known = math.prod(size for axis, size in enumerate(sizes) if axis != unknown[0])
    if is_number(known, 0):
        return sizes
    return [x.numel() // known if axis == unknown[0] else size for axis, size in enumerate(sizes)]


@EXACT_OPS("reshape_like", since=16)
def reshape_like(
    x: Tensor, ref_tensors: Tensors, begins: Ints, ends: Ints, end_masks: Bools
) -> Tensor:
    """The elements in a shape put together from ranges of other tensors' shapes."""
    sizes: list[int] = []
    for reference, begin, end, to_end in zip(ref_tensors, begins, ends, end_masks, strict=True):
        sizes += reference.shape[begin:] if to_end else reference.shape[begin:end]
    return x.reshape(sizes)


@EXACT_OPS("reverse")
def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """The tensor backwards along `axes`, by default along all."""
    return turned(x, tuple(range(x.ndim)) if axes is None else axes)


def turned(x: Tensor, axes: Ints) -> Tensor:
    """The tensor backwards along `axes`, which may be none."""
    return torch.flip(signed(x), axes).view(x.dtype) if axes else x


@EXACT_OPS("reverse_sequence")
def reverse_sequence(x: Tensor, lengths: Tensor, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """The first `lengths[i]` elements backwards along `seq_axis`, for each i of `batch_axis`."""
    sequence = [1] * x.ndim
    sequence[seq_axis] = x.shape[seq_axis]
    batch = [1] * x.ndim
    batch[batch_axis] = x.shape[batch_axis]
    position = torch.arange(x.shape[seq_axis], device=x.device).reshape(sequence)
    length = lengths.long().reshape(batch)
    source = torch.where(position < length, length - 1 - position, position)
    return picked_along(x, source.expand(x.shape), seq_axis)


@EXACT_OPS("slice_by_index")
def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """`x[begin : end : stride]` for each axis, as in numpy; a masked end is left open.

    An axis in `squeeze_mask` is indexed by its `begin` and disappears.
    """
    flipped, index = slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result: Tensor = turned(x, flipped)[index]
    return result


@EXACT_OPS("slice_update", since=18)
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """The tensor with `update` in place of what `slice_by_index` gives."""
    flipped, index = slices(x, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    result = turned(x, flipped) if flipped else x.clone()
    part = result[index]
    part.copy_(update.reshape(part.shape))
    return turned(result, flipped)


def slices(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[tuple[int, ...], tuple[slice | int, ...]]:
    """The axes to turn around first, since torch has no negative strides, and torch's index."""
    off = (False,) * x.ndim
    flipped = []
    index: list[slice | int] = []
    for axis, (low, high, step, low_open, high_open, is_index) in enumerate(
        zip(
            begin,
            end,
            stride or (1,) * x.ndim,
            begin_mask or off,
            end_mask or off,
            squeeze_mask or off,
            strict=True,
        )
    ):
        if is_index:
            index.append(0 if low_open else low)
            continue
        place = within if step > 0 else from_end
        size = x.shape[axis]
        first = None if low_open else place(low, size)
        last = None if high_open else place(high, size)
        index.append(slice(first, not_before(first, last, size), abs(step)))
        if step < 0:
            flipped.append(axis)
    if len(index) != x.ndim:
        raise ValueError(f"a slice of {len(begin)} axes does not fit a tensor of rank {x.ndim}")
    return tuple(flipped), tuple(index)


def within(position: int, size: int) -> int:
    """A position cut to a symbolic size, which torch would only do by deciding for one size."""
    if isinstance(size, int) or not isinstance(position, int):
        return position
    if statically_known_true(size >= abs(position)):
        return position
    bound: int = minimum(position, size) if position >= 0 else maximum(size + position, 0)
    return size if position >= LARGEST else bound


def not_before(start: int | None, end: int | None, size: int) -> int | None:
    """The end of a slice, or its start where that lies behind it for some symbolic sizes.

    torch decides that for one size, and for others the result would have a negative one.
    """
    if isinstance(size, int):
        return end
    first, last = from_start(start, 0, size), from_start(end, size, size)
    if statically_known_true(last >= first):
        return end
    if statically_known_true(last <= first):
        return first
    later: int = maximum(first, last)
    return later


def from_start(position: int | None, default: int, size: int) -> int:
    """A position that may be open or counted from the end as one counted from the start."""
    if position is None:
        return default
    return size + position if isinstance(position, int) and position < 0 else position


def from_end(position: int, size: int) -> int:
    """Where an element is in the axis turned around; outside of it, the closest end."""
    if position < 0:
        return within(-1 - position, size)
    bound: int = maximum(size - 1 - position, 0)
    return bound


@EXACT_OPS("slice_by_size")
def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """`size` elements from `begin` on for each axis; -1 is all that follow."""
    for axis, (low, length) in enumerate(zip(begin, size, strict=True)):
        start = low + x.shape[axis] if low < 0 else low
        rest = x.shape[axis] - start
        x = torch.narrow(x, axis, start, rest if is_number(length, -1) else length)
    return x


@EXACT_OPS("sliding_windows")
def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """All windows of `size` along `axis`; their elements are a new axis behind it."""
    axis %= x.ndim
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)


@EXACT_OPS("transpose")
def transpose(x: Tensor, perm: Ints) -> Tensor:
    """The axes in another order."""
    return x.permute(perm)
