"""Sequences and optionals, resolved at conversion: a MIL program holds their tensors only."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.operators.control_flow import lower_of, stack
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import (
    Nothing,
    StackedSequence,
    TensorSequence,
    Value,
    is_static,
)

Element = Any
"""A value, a sequence, or an optional that holds nothing."""

AnySequence = TensorSequence | StackedSequence


def items_of(ctx: Context, sequence: AnySequence) -> tuple[Element, ...]:
    """The elements of a sequence, whose number must be known."""
    if isinstance(sequence, StackedSequence):
        raise ctx.unsupported(
            "how many elements the sequence has is known only while the model runs",
            "give the loop that fills it a constant trip count and condition",
        )
    return sequence.items


def place_of(ctx: Context, length: int, position: Value, count: int) -> int:
    """A position from the front; it must be a constant, and below `count`."""
    given = int(ctx.constant(position, "the position").reshape(-1)[0])
    if not -length <= given < count:
        raise ctx.unsupported(f"position {given} in a sequence of {length}")
    return given % length if given < 0 else given


@ONNX_OPS("SequenceConstruct", since=11)
def sequence_construct(ctx: Context, *inputs: Value) -> TensorSequence:
    return TensorSequence(inputs)


@ONNX_OPS("SequenceEmpty", since=11)
def sequence_empty(ctx: Context, *, dtype: int = 1) -> TensorSequence:
    return TensorSequence()


@ONNX_OPS("SequenceInsert", since=11)
def sequence_insert(
    ctx: Context, input_sequence: AnySequence, tensor: Element, position: Value | None = None
) -> TensorSequence:
    """The sequence with one more element before a position, or at the end."""
    items = items_of(ctx, input_sequence)
    count = len(items)
    place = count if position is None else place_of(ctx, count, position, count + 1)
    return TensorSequence((*items[:place], tensor, *items[place:]))


@ONNX_OPS("SequenceErase", since=11)
def sequence_erase(
    ctx: Context, input_sequence: AnySequence, position: Value | None = None
) -> TensorSequence:
    """The sequence without the element at a position, or without the last."""
    items = items_of(ctx, input_sequence)
    place = len(items) - 1
    if position is not None or not items:
        last = ctx.value(np.int64(-1)) if position is None else position
        place = place_of(ctx, len(items), last, len(items))
    return TensorSequence((*items[:place], *items[place + 1 :]))


@ONNX_OPS("SequenceAt", since=11)
def sequence_at(ctx: Context, input_sequence: AnySequence, position: Value) -> Element:
    """The element at a position; one that is computed picks among elements of one shape."""
    if isinstance(input_sequence, StackedSequence):
        return row_at(ctx, input_sequence.rows, position)
    items = input_sequence.items
    if position.array is not None:
        return items[place_of(ctx, len(items), position, len(items))]
    shapes = {item.shape if isinstance(item, Value) else None for item in items}
    if len(shapes) != 1 or None in shapes:
        raise ctx.unsupported(
            "the position is computed while the model runs, and the elements of the sequence "
            f"have {len(shapes)} different shapes; they must have one",
            "make the position constant",
        )
    return row_at(ctx, stack(ctx, items), position)


def row_at(ctx: Context, rows: Value, position: Value) -> Value:
    """The row at a position, which counts from the end when it is negative."""
    place = ctx.mod(ctx.cast(position, "int64"), ctx.size(rows, 0))
    result: Value = ctx.emit("gather", x=rows, indices=place, axis=0, dtype=rows.dtype)
    return ctx.squeeze(result, [0]) if position.rank else result


@ONNX_OPS("SequenceLength", since=11)
def sequence_length(ctx: Context, input_sequence: AnySequence) -> Value:
    if isinstance(input_sequence, StackedSequence):
        return ctx.size(input_sequence.rows, 0)
    return ctx.value(np.int64(len(input_sequence.items)))


@ONNX_OPS("ConcatFromSequence", since=11)
def concat_from_sequence(
    ctx: Context, input_sequence: AnySequence, *, axis: int, new_axis: int = 0
) -> Value:
    """The elements one behind the other along an axis, or along a new one."""
    if isinstance(input_sequence, StackedSequence):
        return joined_rows(ctx, input_sequence.rows, axis, bool(new_axis))
    items = input_sequence.items
    if not items:
        raise ctx.unsupported("the sequence is empty, so nothing says what its elements are")
    if new_axis:
        return stack(ctx, items, ctx.axis(axis, items[0].rank + 1))
    return ctx.concat(items, ctx.axis(axis, items[0].rank))


def joined_rows(ctx: Context, rows: Value, axis: int, is_new: bool) -> Value:
    """Rows along axis 0, which becomes another axis or part of one."""
    axis = ctx.axis(axis, rows.rank if is_new else rows.rank - 1)
    others = list(range(1, rows.rank))
    placed = ctx.transpose(rows, [*others[:axis], 0, *others[axis:]])
    if is_new:
        return placed
    sizes: list[int | Value] = [ctx.size(placed, place) for place in range(placed.rank)]
    joined = ctx.mul(ctx.size(placed, axis), ctx.size(placed, axis + 1))
    return ctx.reshape(placed, [*sizes[:axis], joined, *sizes[axis + 2 :]])


@ONNX_OPS("SplitToSequence", since=11)
def split_to_sequence(
    ctx: Context, input: Value, split: Value | None = None, *, axis: int = 0, keepdims: int = 1
) -> TensorSequence:
    """Slices along an axis: of size 1, of one size with a smaller rest, or of given sizes."""
    axis = ctx.axis(axis, input.rank)
    size = input.shape[axis]
    sizes = [1] if split is None else ctx.ints(split, "split")
    is_list = split is not None and split.rank > 0
    if not is_list:
        if not is_static((size,)):
            raise ctx.unsupported(
                f"axis {axis} is dynamic, so how many elements the sequence has is known only "
                "while the model runs",
                "give the axis a fixed size",
            )
        sizes = [min(sizes[0], int(size) - start) for start in range(0, int(size), sizes[0])]
    begins = np.cumsum([0, *sizes]).tolist()
    parts = [
        ctx.slice_axis(input, axis, begin, begin + width)
        for begin, width in zip(begins, sizes, strict=False)
    ]
    # keepdims is about slices of size 1 that nobody asked for by size
    if split is None and not keepdims:
        parts = [ctx.squeeze(part, [axis]) for part in parts]
    return TensorSequence(tuple(parts))


@ONNX_OPS("SequenceMap", since=17)
def sequence_map(
    ctx: Context,
    input_sequence: AnySequence,
    *additional_inputs: Element,
    body: onnx.GraphProto,
) -> tuple[TensorSequence, ...]:
    """What a graph gives for each element, and for those of further sequences at its place."""
    lower = lower_of(ctx)
    results = []
    for place, item in enumerate(items_of(ctx, input_sequence)):
        more = [
            other.items[place] if isinstance(other, TensorSequence) else other
            for other in additional_inputs
        ]
        results.append(lower(body, [item, *more]))
    count = len(body.output)
    return tuple(TensorSequence(tuple(row[k] for row in results)) for k in range(count))


# optionals -----------------------------------------------------------------------------------


@ONNX_OPS("Optional", since=15)
def optional(
    ctx: Context, input: Element | None = None, *, type: onnx.TypeProto | None = None
) -> Element:
    """The input itself, or nothing."""
    return Nothing() if input is None else input


@ONNX_OPS("OptionalHasElement", since=15)
def optional_has_element(ctx: Context, input: Element | None = None) -> Value:
    return ctx.value(np.bool_(input is not None and not isinstance(input, Nothing)))


@ONNX_OPS("OptionalGetElement", since=15)
def optional_get_element(ctx: Context, input: Element) -> Element:
    if isinstance(input, Nothing):
        raise ctx.unsupported("the optional holds nothing")
    return input
