"""Operations that make, join, cut, fill, sort and select tensors."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.elementwise_unary import dtype_named
from metal4conv.execute.host_numbers import as_int, ceil, divide, negate, plus
from metal4conv.execute.scatter_gather import picked_along
from metal4conv.execute.table import EXACT_OPS, MIL_OPS, Ints, Tensors


@EXACT_OPS("band_part")
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Each matrix with zeros outside a band about its diagonal; negative keeps that whole side."""
    below = torch.arange(x.shape[-2], device=x.device).unsqueeze(-1) - torch.arange(
        x.shape[-1], device=x.device
    )
    inside = torch.ones_like(below, dtype=torch.bool)
    if lower >= 0:
        inside = torch.logical_and(inside, below <= lower)
    if upper >= 0:
        inside = torch.logical_and(inside, -below <= upper)
    return torch.where(inside, x, torch.zeros_like(x))


@MIL_OPS("cumsum")
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sums along `axis`; exclusive ones start with 0, reverse ones at the end."""
    ordered = torch.flip(x, (axis,)) if reverse else x
    if exclusive:
        shape = list(x.shape)
        shape[axis] = 1
        longer = torch.cat([x.new_zeros(shape), ordered], axis)
        ordered = torch.narrow(longer, axis, 0, x.shape[axis])
    total = torch.cumsum(ordered, axis, dtype=x.dtype)
    return torch.flip(total, (axis,)) if reverse else total


def dtype_of(value: Any) -> torch.dtype:
    """The dtype of a tensor filled with a Python number. (Any: a number, maybe symbolic.)"""
    if isinstance(value, bool):
        return torch.bool
    return torch.float32 if isinstance(value, (float, torch.SymFloat)) else torch.int32


@EXACT_OPS("fill")
def fill(shape: Ints, value: float = 0.0) -> Tensor:
    """A tensor of this shape, full of one value."""
    return torch.full(shape, value, dtype=dtype_of(value))


@EXACT_OPS("fill_like", since=16)
def fill_like(ref_tensor: Tensor, value: float = 0.0) -> Tensor:
    """A tensor of another's shape, full of one value; the dtype is the value's."""
    return torch.full(ref_tensor.shape, value, dtype=dtype_of(value), device=ref_tensor.device)


@EXACT_OPS("non_zero")
def non_zero(x: Tensor) -> Tensor:
    """The indices of the elements that are not 0, one row each."""
    return torch.nonzero(x).to(torch.int32)


@EXACT_OPS("one_hot")
def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: float = 1,
    off_value: float = 0,
) -> Tensor:
    """`on_value` where a new axis has the index's position, `off_value` elsewhere.

    An index out of range gives `off_value` alone.
    """
    axis %= indices.ndim + 1
    shape = [1] * (indices.ndim + 1)
    shape[axis] = one_hot_vector_size
    position = torch.arange(one_hot_vector_size, device=indices.device).reshape(shape)
    dtype = dtype_of(on_value)
    on = torch.full((), on_value, dtype=dtype, device=indices.device)
    off = torch.full((), off_value, dtype=dtype, device=indices.device)
    return torch.where(indices.long().unsqueeze(axis) == position, on, off)


@EXACT_OPS("pad")
def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """The last axes extended by (before, after) pairs, which come in the order of the axes."""
    pairs = [(pad[2 * index], pad[2 * index + 1]) for index in range(len(pad) // 2)]
    if mode == "constant":
        return framed(x, pairs, constant_val)
    if mode not in ("reflect", "replicate"):
        raise UnsupportedModel(f'pad with mode "{mode}" is not known here')
    for axis, (before, after) in enumerate(pairs, start=x.ndim - len(pairs)):
        if is_plain(before, after) and before == after == 0:
            continue
        size = x.shape[axis]
        position = torch.arange(before + size + after, device=x.device) - before
        if mode == "reflect":
            position = (size - 1) - torch.abs((size - 1) - torch.abs(position))
        else:
            position = torch.clamp(position, 0, size - 1)
        x = torch.index_select(x, axis, position)
    return x


def framed(x: Tensor, pairs: list[tuple[int, int]], value: float) -> Tensor:
    """The last axes extended by one value.

    torch's own padding turns symbolic sizes into numbers.
    """
    first = x.ndim - len(pairs)
    grown = [
        before + x.shape[axis] + after for axis, (before, after) in enumerate(pairs, start=first)
    ]
    result = torch.full((*x.shape[:first], *grown), value, dtype=x.dtype, device=x.device)
    inside = result
    for axis, (before, _) in enumerate(pairs, start=first):
        inside = torch.narrow(inside, axis, before, x.shape[axis])
    inside.copy_(x)
    return result


@MIL_OPS("range_1d")
def range_1d(end: float, start: float, step: float) -> Tensor:
    """The numbers from `start` on in steps, without `end`."""
    numbers = (start, end, step)
    if isinstance(step, (int, float)) and step == 0:
        raise ValueError("a range cannot have steps of 0")
    if any(isinstance(number, (torch.SymInt, torch.SymFloat)) for number in numbers):
        count = as_int(ceil(divide(plus(end, negate(start)), step)))
        return torch.arange(count) * step + start
    if all(isinstance(number, int) for number in numbers):
        count = max(-((start - end) // step), 0)
        return torch.arange(count, dtype=torch.int32) * step + start
    return torch.arange(start, max(start, end) if step > 0 else min(start, end), step).float()


@EXACT_OPS("tile")
def tile(x: Tensor, reps: Ints) -> Tensor:
    """The tensor repeated `reps` times along each axis."""
    if len(reps) != x.ndim:
        raise ValueError(f"{len(reps)} repetitions do not fit a tensor of rank {x.ndim}")
    return x.repeat(*reps) if reps else x


def order(x: Tensor, axis: int, ascending: bool) -> Tensor:
    """Indices that sort; of equal elements the first comes first."""
    if x.dtype in (torch.uint16, torch.uint32):  # torch does not sort these
        x = x.long()
    return torch.argsort(x, dim=axis, descending=not ascending, stable=True)


@EXACT_OPS("argsort")
def argsort(x: Tensor, axis: int = -1, ascending: bool = False) -> Tensor:
    """Indices that sort along `axis`; of equal elements the first comes first."""
    return order(x, axis, ascending).to(torch.int32)


def first_of_order(
    x: Tensor, k: int, axis: int, ascending: bool, dtype: torch.dtype = torch.int32
) -> tuple[Tensor, Tensor]:
    """The first k elements of the sorted ones, and their indices."""
    count = x.shape[axis] if k == -1 else k
    index = torch.narrow(order(x, axis, ascending), axis, 0, count)
    return picked_along(x, index, axis), index.to(dtype)


@EXACT_OPS("topk")
def topk(x: Tensor, k: int = 1, axis: int = -1, ascending: bool = False) -> tuple[Tensor, Tensor]:
    """The k largest (ascending: smallest) elements along `axis`, and their indices."""
    return first_of_order(x, k, axis, ascending)


@EXACT_OPS("topk", since=16)
def topk_maybe_unsorted(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
) -> Tensor | tuple[Tensor, Tensor]:
    """The same, where the indices may be left out. Without `sort` any order is as good as this."""
    found = first_of_order(x, k, axis, ascending)
    return found if return_indices else found[0]


@EXACT_OPS("topk", since=17)
def topk_typed(
    x: Tensor,
    k: int = 1,
    axis: int = -1,
    ascending: bool = False,
    sort: bool = True,
    return_indices: bool = True,
    output_indices_dtype: str = "int32",
) -> Tensor | tuple[Tensor, Tensor]:
    """The same, where k = -1 takes all elements, and the indices are int32 or uint16."""
    found = first_of_order(x, k, axis, ascending, dtype_named(output_indices_dtype.lower()))
    return found if return_indices else found[0]


@EXACT_OPS("flatten2d")
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """A matrix: the axes before `axis` are its rows, the others its columns."""
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@EXACT_OPS("shape")
def shape(x: Tensor) -> Tensor:
    """The tensor's shape as a vector."""
    return torch.tensor(list(x.shape), dtype=torch.int32)


@EXACT_OPS("concat")
def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """The tensors one after the other along `axis`; interleaved, element by element in turn.

    Scalars are joined to a vector.
    """
    if values[0].ndim == 0:
        return torch.stack(values)
    if not interleave:
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.flatten(torch.stack(values, axis + 1), axis, axis + 1)


@EXACT_OPS("stack")
def stack(values: Tensors, axis: int) -> Tensor:
    """The tensors side by side along a new axis."""
    return torch.stack(values, axis)


def is_plain(*sizes: Any) -> bool:
    """Whether sizes are plain numbers, which may be compared. (Any: they may be symbolic.)"""
    return all(isinstance(size, int) for size in sizes)


@EXACT_OPS("split")
def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> tuple[Tensor, ...]:
    """Parts of the tensor along `axis`: of the given sizes, or `num_splits` equal ones."""
    total = x.shape[axis]
    if split_sizes is None:
        if num_splits is None:
            raise ValueError("split needs num_splits or split_sizes")
        if is_plain(total) and total % num_splits:
            raise ValueError(f"{total} elements cannot be split into {num_splits} equal parts")
        split_sizes = (total // num_splits,) * num_splits
    elif is_plain(total, *split_sizes) and sum(split_sizes) != total:
        raise ValueError(f"{total} elements cannot be split into {split_sizes}")
    parts = []
    start = 0
    for size in split_sizes:
        parts.append(torch.narrow(x, axis, start, size))
        start = start + size
    return tuple(parts)


@EXACT_OPS("const", "_const_symbolic")
def const(val: Tensor) -> Tensor:
    """The value; a plan takes it from the operation and does not run this."""
    return val


@EXACT_OPS("identity")
def identity(x: Any) -> Any:
    """The value itself. (Any: lists and dictionaries pass too.)"""
    return x


@EXACT_OPS("select")
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Elements of `a` where the condition holds, of `b` elsewhere."""
    return torch.where(cond.bool(), a, b)


@MIL_OPS("non_maximum_suppression")
def non_maximum_suppression(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    score_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The best boxes, their scores and indices, and how many there are in each batch.

    Boxes are (x, y, width, height) about their centre. A box goes when it overlaps a better one (of
    its own class, if asked for) by more than `iou_threshold`. What is missing to `max_boxes` is 0,
    indices are -1. When no score reaches the threshold, the best box alone is given.
    """
    if isinstance(boxes, FakeTensor) or isinstance(scores, FakeTensor):
        n = boxes.shape[0]
        index = boxes.new_empty((n, max_boxes), dtype=torch.int32)
        found_boxes = boxes.new_empty((n, max_boxes, boxes.shape[2]))
        found_scores = scores.new_empty((n, max_boxes, scores.shape[2]))
        return found_boxes, found_scores, index, index.new_empty((n,))
    found_boxes = boxes.new_zeros((boxes.shape[0], max_boxes, 4))
    found_scores = scores.new_zeros((scores.shape[0], max_boxes, scores.shape[2]))
    found_indices = boxes.new_full((boxes.shape[0], max_boxes), -1, dtype=torch.int32)
    counts = boxes.new_zeros(boxes.shape[0], dtype=torch.int32)
    for batch in range(boxes.shape[0]):
        kept = survivors(
            boxes[batch], scores[batch], iou_threshold, score_threshold, per_class_suppression
        )[:max_boxes]
        found_boxes[batch, : len(kept)] = boxes[batch, kept]
        found_scores[batch, : len(kept)] = scores[batch, kept]
        found_indices[batch, : len(kept)] = found_indices.new_tensor(kept)
        counts[batch] = len(kept)
    return found_boxes, found_scores, found_indices, counts


@MIL_OPS("non_maximum_suppression", since=17)
def non_maximum_suppression_transposed(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    max_boxes: int,
    per_class_suppression: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The same with the boxes along the last axis, without a threshold of scores and a count."""
    found_boxes, found_scores, indices, _ = non_maximum_suppression(
        boxes.transpose(1, 2),
        scores.transpose(1, 2),
        iou_threshold,
        -math.inf,
        max_boxes,
        per_class_suppression,
    )
    return found_boxes.transpose(1, 2), found_scores.transpose(1, 2), indices


def survivors(
    boxes: Tensor, scores: Tensor, iou_threshold: float, score_threshold: float, per_class: bool
) -> list[int]:
    """The indices of the boxes that stay, the best first."""
    best, classes = torch.max(scores, -1)
    overlap = intersection_over_union(boxes) > iou_threshold
    if per_class:
        overlap = torch.logical_and(overlap, classes.unsqueeze(-1) == classes)
    ranked = order(best, -1, ascending=False).tolist()
    kept: list[int] = []
    for index in ranked:
        if best[index] > score_threshold and not overlap[index, kept].any():
            kept.append(index)
    return kept or ranked[:1]


def intersection_over_union(boxes: Tensor) -> Tensor:
    """How much each pair of boxes overlaps, 0 to 1; boxes without an area overlap nothing."""
    centre, half = boxes[:, :2], boxes[:, 2:] / 2
    low, high = centre - half, centre + half
    sides = torch.minimum(high.unsqueeze(1), high) - torch.maximum(low.unsqueeze(1), low)
    common = torch.prod(torch.clamp(sides, min=0), -1)
    area = torch.prod(boxes[:, 2:], -1)
    union = area.unsqueeze(-1) + area - common
    return torch.where(union > 0, common / union, torch.zeros_like(union))
