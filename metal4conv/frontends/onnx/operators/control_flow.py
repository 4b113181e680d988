"""Branches and loops: MIL's `cond` and `while_loop`, or neither where the way is known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from metal4conv.frontends.onnx.blocks import Step, branch, loop, trial
from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.emitter import INT32
from metal4conv.frontends.onnx.model import subgraphs
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import (
    Nothing,
    Size,
    StackedSequence,
    TensorSequence,
    Value,
    is_static,
)

MOST_UNROLLED = 16
"""Iterations up to which a loop is written out."""

MOST_WITH_SEQUENCES = 1024
"""The same of a loop that carries sequences, which cannot run in any other way."""

Anything = Any
"""A value, a sequence, or an optional that holds nothing."""

Results = tuple[Anything, ...]
Lower = Callable[[onnx.GraphProto, Sequence[Anything]], list[Anything]]
"""Lowers a subgraph with its inputs into the current block."""


# values in and out of blocks -----------------------------------------------------------------


def lower_of(ctx: Context) -> Lower:
    """What lowers the current node's subgraphs, also while others are lowered within them."""
    assert ctx.lower_subgraph is not None
    return ctx.lower_subgraph


def single(ctx: Context, value: Value) -> Value:
    """A number that the model may hold as a tensor of one element."""
    if not value.rank:
        return value
    if value.array is not None:
        return Value(value.dtype, known=value.array.reshape(()))
    return ctx.squeeze(value, list(range(value.rank)))


def leaves(items: Sequence[Anything]) -> list[Value]:
    """The tensors in values and sequences, in their order."""
    found: list[Value] = []
    for item in items:
        if isinstance(item, TensorSequence):
            found += leaves(item.items)
        elif isinstance(item, Value):
            found.append(item)
    return found


def rebuilt(template: Sequence[Anything], tensors: Sequence[Value]) -> list[Anything]:
    """Values and sequences like those of `template`, made of these tensors."""
    rest = iter(tensors)

    def build(item: Anything) -> Anything:
        if isinstance(item, TensorSequence):
            return TensorSequence(tuple(map(build, item.items)))
        return next(rest) if isinstance(item, Value) else item

    return list(map(build, template))


def pattern(items: Sequence[Anything]) -> str:
    """The kinds of values and the lengths of sequences, to compare and to tell.

    >>> pattern([TensorSequence((Nothing(), TensorSequence()))])
    'sequence(nothing, sequence())'
    """
    texts = []
    for item in items:
        if isinstance(item, TensorSequence):
            texts.append(f"sequence({pattern(item.items)})")
        else:
            texts.append("nothing" if isinstance(item, Nothing) else "tensor")
    return ", ".join(texts)


# If ------------------------------------------------------------------------------------------


@ONNX_OPS("If")
def if_(
    ctx: Context, cond: Value, *, else_branch: onnx.GraphProto, then_branch: onnx.GraphProto
) -> Results:
    """The outputs of one of two graphs; a condition that is known leaves only that one."""
    lower = lower_of(ctx)
    condition = single(ctx, cond)
    if condition.array is not None:
        return tuple(lower(then_branch if condition.array else else_branch, []))
    seen: list[list[Anything]] = []

    def lowered(graph: onnx.GraphProto) -> list[Value]:
        found = lower(graph, [])
        seen.append(found)
        if pattern(found) != pattern(seen[0]):
            raise ctx.unsupported(
                f"one branch gives {pattern(seen[0])}, the other {pattern(found)}",
                "make the condition constant, or the sequences of equal length",
            )
        return leaves(found)

    found = branch(ctx, condition, lambda: lowered(then_branch), lambda: lowered(else_branch))
    return tuple(rebuilt(seen[0], found))


# Loop ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A Loop node on its way through its iterations."""

    ctx: Context
    body: Callable[[Value, Sequence[Anything]], list[Anything]]
    """From an iteration's number and values: the condition, the values after it, and the rows."""
    count: int
    """How many values are carried."""
    growing: tuple[int, ...] = ()
    """The places of sequences that each iteration only appends one element to."""


@ONNX_OPS("Loop")
def loop_(
    ctx: Context,
    M: Value | None = None,
    cond: Value | None = None,
    *v_initial: Anything,
    body: onnx.GraphProto,
) -> Results:
    """The values after at most `M` iterations while a condition holds, and rows of all of them.

    An iteration runs only where the condition held, so its graph is told that it does.
    """
    lower = lower_of(ctx)
    holds = ctx.value(np.bool_(True))
    run = Run(
        ctx,
        lambda number, values: lower(body, [number, holds, *values]),
        len(v_initial),
        tuple(
            place
            for place, item in enumerate(v_initial)
            if isinstance(item, TensorSequence) and is_growing(body, place)
        ),
    )
    trips = None if M is None else single(ctx, M)
    most = None if trips is None or trips.array is None else int(trips.array)
    if most is not None and most > INT32.max:
        trips, most = None, None
    start = None if cond is None else single(ctx, cond)
    if start is not None and start.array is not None:
        if not start.array:
            most, trips = 0, None
        start = None
    if most is not None and most <= 0:
        return no_iterations(run, v_initial)
    if start is None and (trips is None or most is not None) and is_unrolled(run, most, v_initial):
        return unrolled(run, most, v_initial)
    values, rows = remaining(run, 0, trips, start, v_initial)
    return (*values, *rows)


def no_iterations(run: Run, initial: Sequence[Anything]) -> Results:
    """What a loop gives that does nothing: rows that are none."""
    with trial(run.ctx, []):
        given = run.body(run.ctx.value(np.int64(0)), initial)
        types = [(row.dtype, row.shape) for row in given[1 + run.count :]]
    empty = [
        run.ctx.filled([0, *(int(size) if is_static((size,)) else 0 for size in shape)], 0, dtype)
        for dtype, shape in types
    ]
    return (*initial, *empty)


def is_unrolled(run: Run, most: int | None, initial: Sequence[Anything]) -> bool:
    """Whether a loop is written out: a short one that runs to its end, one with sequences."""
    if len(leaves(initial)) < len(initial) or any(
        isinstance(item, TensorSequence) for item in initial
    ):
        return True
    if most is None or most > MOST_UNROLLED:
        return False
    with trial(run.ctx, []):
        return run.body(run.ctx.value(np.int64(0)), initial)[0].array is not None


def unrolled(run: Run, most: int | None, initial: Sequence[Anything]) -> Results:
    """The iterations one after the other; from the first whose condition is computed, a loop."""
    ctx, values = run.ctx, list(initial)
    taken: list[list[Value]] = []
    number = 0
    while most is None or number < most:
        if number == MOST_WITH_SEQUENCES:
            raise ctx.unsupported(
                f"a loop that carries sequences runs more than {MOST_WITH_SEQUENCES} times"
            )
        go_on, *after = run.body(ctx.value(np.int64(number)), values)
        values = after[: run.count]
        taken.append(after[run.count :])
        number += 1
        if go_on.array is None:
            left = None if most is None else ctx.value(np.int64(most - number))
            values, rest = remaining(run, number, left, single(ctx, go_on), values)
            written = [stack(ctx, rows) for rows in zip(*taken, strict=True)]
            joined = [ctx.concat(pair, 0) for pair in zip(written, rest, strict=True)]
            return (*values, *joined)
        if not go_on.array.all():
            break
    return (*values, *(stack(ctx, rows) for rows in zip(*taken, strict=True)))


def remaining(
    run: Run,
    first: int,
    count: Value | None,
    go_on: Value | None,
    initial: Sequence[Anything],
) -> tuple[list[Anything], list[Value]]:
    """The values and rows of a loop that decides at run time, with numbers from `first` on."""
    ctx = run.ctx
    # sequences that grow are filled like scan outputs: an iteration appends to an empty one
    carried = [
        TensorSequence() if place in run.growing else item for place, item in enumerate(initial)
    ]

    def iteration(number: Value, given: Sequence[Value]) -> Step:
        place = ctx.add(number, first) if first else number
        next_go_on, *after = run.body(place, rebuilt(carried, given))
        values, rows = after[: run.count], after[run.count :]
        for grown in run.growing:
            rows += values[grown].items
            values[grown] = TensorSequence()
        if pattern(values) != pattern(carried):
            raise ctx.unsupported(
                f"an iteration makes {pattern(values)} of {pattern(carried)}, and how many there "
                "are is known only while the model runs",
                "give the loop a constant trip count and condition",
            )
        return Step(leaves(values), rows, single(ctx, next_go_on))

    found, rows = loop(ctx, count, go_on, leaves(carried), iteration)
    values = rebuilt(carried, found)
    split = len(rows) - len(run.growing)
    for place, added in zip(run.growing, rows[split:], strict=True):
        items = initial[place].items
        whole = ctx.concat([stack(ctx, items), added], 0) if items else added
        values[place] = StackedSequence(whole)
    return values, rows[:split]


def is_growing(body: onnx.GraphProto, place: int) -> bool:
    """Whether a loop's body does nothing with a sequence but append one element to it."""
    given, wanted = body.input[2 + place].name, body.output[1 + place].name
    users = [node for node in body.node if given in names_read(node)]
    if len(users) != 1 or users[0].op_type != "SequenceInsert":
        return False
    is_appended = users[0].input[0] == given and not any(users[0].input[2:])
    others = [node for node in body.node if wanted in names_read(node)]
    return is_appended and users[0].output[0] == wanted and not others


def names_read(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, its subgraphs included."""
    inner = [reader for graph in subgraphs(node) for reader in graph.node]
    return set(node.input).union(*(names_read(reader) for reader in inner))


def stack(ctx: Context, rows: Sequence[Value], axis: int = 0) -> Value:
    """Tensors of one shape along a new axis."""
    return ctx.concat([ctx.expand_dims(row, [axis]) for row in rows], axis)


# Scan ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scanned:
    """A tensor that Scan walks along."""

    value: Value
    axis: int
    is_reversed: bool

    def slice_at(self, ctx: Context, number: Value, length: Value) -> Value:
        """The slice that an iteration sees, without the axis."""
        place = ctx.sub(ctx.sub(length, 1), number) if self.is_reversed else number
        if self.value.array is not None and place.array is not None:
            return Value(
                self.value.dtype, known=np.take(self.value.array, int(place.array), self.axis)
            )
        result: Value = ctx.emit(
            "gather", x=self.value, indices=place, axis=self.axis, dtype=self.value.dtype
        )
        return result


@ONNX_OPS("Scan", since=9)
def scan(
    ctx: Context,
    *initial_state_and_scan_inputs: Value,
    body: onnx.GraphProto,
    num_scan_inputs: int,
    scan_input_axes: list[int] | None = None,
    scan_input_directions: list[int] | None = None,
    scan_output_axes: list[int] | None = None,
    scan_output_directions: list[int] | None = None,
) -> Results:
    """The states after walking along all slices of the scan inputs, and a slice of each output
    for every step; a direction of 1 walks, or writes, from the end.
    """
    split = len(initial_state_and_scan_inputs) - num_scan_inputs
    states, inputs = initial_state_and_scan_inputs[:split], initial_state_and_scan_inputs[split:]
    axes = scan_input_axes or [0] * num_scan_inputs
    directions = scan_input_directions or [0] * num_scan_inputs
    scanned = [
        Scanned(item, ctx.axis(axis, item.rank), bool(direction))
        for item, axis, direction in zip(inputs, axes, directions, strict=True)
    ]
    values, rows = walked(ctx, lower_of(ctx), body, states, scanned, length_of(ctx, scanned))
    output_axes = scan_output_axes or [0] * len(rows)
    output_directions = scan_output_directions or [0] * len(rows)
    placed = [
        placed_rows(ctx, row, axis, bool(direction))
        for row, axis, direction in zip(rows, output_axes, output_directions, strict=True)
    ]
    return (*values, *placed)


def length_of(ctx: Context, scanned: Sequence[Scanned]) -> Value:
    """How many slices there are; all scan inputs have as many."""
    sizes: list[Size] = [item.value.shape[item.axis] for item in scanned]
    known = [size for size in sizes if is_static((size,))]
    if len(set(known)) > 1:
        raise ctx.unsupported(f"the scan inputs have {sorted(set(known))} slices, not as many")
    if known:
        return ctx.value(np.int64(known[0]))
    return ctx.size(scanned[0].value, scanned[0].axis)


def walked(
    ctx: Context,
    lower: Lower,
    body: onnx.GraphProto,
    states: Sequence[Value],
    scanned: Sequence[Scanned],
    length: Value,
) -> tuple[list[Value], list[Value]]:
    """The states at the end and the rows of all steps, stacked along axis 0."""

    def iteration(number: Value, given: Sequence[Value]) -> Step:
        slices = [item.slice_at(ctx, number, length) for item in scanned]
        after = lower(body, [*given, *slices])
        return Step(after[: len(states)], after[len(states) :])

    if length.array is None or not 0 < int(length.array) <= MOST_UNROLLED:
        return loop(ctx, length, None, states, iteration)
    values, taken = list(states), []
    for number in range(int(length.array)):
        step = iteration(ctx.value(np.int64(number)), values)
        values = list(step.values)
        taken.append(step.rows)
    return values, [stack(ctx, rows) for rows in zip(*taken, strict=True)]


def placed_rows(ctx: Context, rows: Value, axis: int, is_reversed: bool) -> Value:
    """Stacked rows in another order, and with their axis at another place."""
    if is_reversed:
        rows = ctx.unary("reverse", rows, axes=[0])
    axis = ctx.axis(axis, rows.rank)
    others = list(range(1, rows.rank))
    return ctx.transpose(rows, [*others[:axis], 0, *others[axis:]])


@ONNX_OPS("Scan", since=8)
def scan_batches(
    ctx: Context,
    sequence_lens: Value | None = None,
    *initial_state_and_scan_inputs: Value,
    body: onnx.GraphProto,
    directions: list[int] | None = None,
    num_scan_inputs: int,
) -> Results:
    """Scan as opset 8 has it: on each element of a batch, along axis 1, as far as its sequence
    goes; what lies behind is 0 in the outputs.
    """
    lower = lower_of(ctx)
    split = len(initial_state_and_scan_inputs) - num_scan_inputs
    states, inputs = initial_state_and_scan_inputs[:split], initial_state_and_scan_inputs[split:]
    ways = directions or [0] * num_scan_inputs
    whole = [Scanned(item, 1, bool(way)) for item, way in zip(inputs, ways, strict=True)]
    longest = length_of(ctx, whole)

    def iteration(number: Value, given: Sequence[Value]) -> Step:
        own = [Scanned(item, 0, False).slice_at(ctx, number, number) for item in states]
        scanned = [
            Scanned(
                Scanned(item.value, 0, False).slice_at(ctx, number, number), 0, item.is_reversed
            )
            for item in whole
        ]
        length = longest
        if sequence_lens is not None:
            length = Scanned(sequence_lens, 0, False).slice_at(ctx, number, number)
        values, rows = walked(ctx, lower, body, own, scanned, length.with_dtype("int64"))
        if sequence_lens is not None:
            rows = [lengthened(ctx, item, longest) for item in rows]
        return Step((), [*values, *rows])

    batch = length_of(ctx, [Scanned(item, 0, False) for item in (*states, *inputs)])
    if batch.array is None or not 0 < int(batch.array) <= MOST_UNROLLED:
        return tuple(loop(ctx, batch, None, (), iteration)[1])
    taken = [iteration(ctx.value(np.int64(number)), ()).rows for number in range(int(batch.array))]
    return tuple(stack(ctx, rows) for rows in zip(*taken, strict=True))


def lengthened(ctx: Context, rows: Value, length: Value) -> Value:
    """Rows with zeros behind them, so that they are `length`."""
    missing = ctx.sub(length, ctx.size(rows, 0))
    sizes = [ctx.size(rows, axis) for axis in range(1, rows.rank)]
    zeros = ctx.filled([missing, *sizes], 0, rows.dtype)
    return ctx.concat([rows, zeros], 0)
