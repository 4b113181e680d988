"""Branches and loops of a MIL program, with types that hold for whatever happens in them.

MIL wants the same types from both branches, and from a loop's body those that went in. What a body
gives is seen in a trial first: it is lowered into a block that is thrown away. Sizes that differ
become dynamic ones then:

    while_loop(x: [1, 4])                     while_loop(x: [n, 4])
      body(x) { concat(x, row): [2, 4] }        body(x) { concat(x, row): [n + 1, 4] }
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from metal4conv.frontends.onnx.context import Context, set_shape
from metal4conv.frontends.onnx.value import MIL_DTYPE, Size, Value, Var, is_static

Body = Callable[[], Sequence[Value]]
"""Lowers a branch into the current block."""


@dataclass(frozen=True)
class Step:
    """What one iteration of a loop gives."""

    values: Sequence[Value]
    """What the next iteration starts with."""
    rows: Sequence[Value] = ()
    """What is stacked over all iterations."""
    go_on: Value | None = None
    """Whether there is a next iteration; None where only their number says."""


Iteration = Callable[[Value, Sequence[Value]], Step]
"""Lowers an iteration, given its number and what it starts with, into the current block."""


# branches ------------------------------------------------------------------------------------


def branch(ctx: Context, condition: Value, then: Body, otherwise: Body) -> list[Value]:
    """What the first body gives where the condition holds, else what the second one gives."""
    from coremltools.converters.mil.mil import Builder

    types = []
    for body in (then, otherwise):
        with trial(ctx, []):
            types.append([(item.dtype, item.shape) for item in body()])
    shapes = [
        common_shape(ctx, number, first[1], second[1])
        for number, (first, second) in enumerate(zip(*types, strict=True))
    ]
    dtypes = [dtype for dtype, _ in types[0]]

    def built(body: Body) -> Callable[[], list[Var]]:
        def build() -> list[Var]:
            rows = zip(body(), dtypes, shapes, strict=True)
            return [
                own_var(ctx, loosened(ctx, ctx.cast(item, dtype), shape, condition))
                for item, dtype, shape in rows
            ]

        return build

    results = Builder.cond(
        pred=ctx.var(condition),
        _true_fn=built(then),
        _false_fn=built(otherwise),
        name=ctx.free_name("cond"),
    )
    found = results if isinstance(results, (tuple, list)) else [results]
    return [
        shaped(ctx.wrap_var(var, dtype), shape)
        for var, dtype, shape in zip(found, dtypes, shapes, strict=True)
    ]


def common_shape(
    ctx: Context, number: int, first: Sequence[Size], second: Sequence[Size]
) -> tuple[Size, ...]:
    """Sizes that hold for two shapes; where these differ, a new dynamic one."""
    if len(first) != len(second):
        raise ctx.unsupported(
            f"output {number} has {len(first)} dimensions in one branch and {len(second)} in the "
            "other; a MIL program needs the same number in both",
            "make the condition constant, or give both branches' results the same rank",
        )
    return tuple(a if a == b else new_symbol() for a, b in zip(first, second, strict=True))


def loosened(ctx: Context, value: Value, shape: Sequence[Size], seed: Value) -> Value:
    """The value with dynamic sizes where `shape` has them; `seed` is any value that is computed
    while the model runs, so that these sizes are.
    """
    fixed = [
        is_static((own,)) and not is_static((wanted,))
        for own, wanted in zip(value.shape, shape, strict=True)
    ]
    if not any(fixed):
        return value
    nothing = ctx.mul(ctx.cast(seed, "int32"), 0).with_dtype("int64")
    sizes = ctx.add(ctx.shape(value), nothing)
    result: Value = ctx.emit("reshape", x=value, shape=sizes, dtype=value.dtype)
    return shaped(result, shape)


# loops ---------------------------------------------------------------------------------------


def loop(
    ctx: Context,
    count: Value | None,
    go_on: Value | None,
    initial: Sequence[Value],
    iteration: Iteration,
) -> tuple[list[Value], list[Value]]:
    """The values after the last iteration, and the rows of all of them, stacked.

    There are `count` iterations at most; with `go_on` only while it and each step's say so.
    """
    shapes, rows, is_endless = settled(ctx, initial, iteration)
    if go_on is None and not is_endless:
        go_on = ctx.value(np.bool_(True))
    if count is None and is_endless:
        raise ctx.unsupported("the loop never ends: it has no trip count and its condition holds")
    state = [ctx.value(np.int64(0), "int64"), *([go_on] if go_on is not None else []), *initial]
    first = len(state) - len(initial)
    lists = [new_list(ctx, item) for item in rows]
    dtypes = [item.dtype for item in state]

    def values_of(variables: Sequence[Var]) -> list[Value]:
        return [Value(dtype, var) for dtype, var in zip(dtypes, variables, strict=False)]

    def condition(*variables: Var) -> Var:
        number, *more = values_of(variables)
        tests = [] if count is None else [ctx.less(number, count)]
        tests += more[:1] if go_on is not None else []
        return own_var(ctx, tests[0] if len(tests) == 1 else ctx.binary("logical_and", *tests))

    def body(*variables: Var) -> list[Var]:
        number, *more = values_of(variables)
        step = iteration(number, more[first - 1 :])
        written = [
            written_list(ctx, variable, number, row)
            for variable, row in zip(variables[len(state) :], step.rows, strict=True)
        ]
        kept = [
            loosened(ctx, ctx.cast(item, dtype), shape, number)
            for item, dtype, shape in zip(step.values, dtypes[first:], shapes, strict=True)
        ]
        after = [ctx.add(number, 1)]
        if go_on is not None:
            after.append(go_on if step.go_on is None else step.go_on)
        results = [own_var(ctx, item) for item in (*after, *kept)]
        for var in results:
            tell_rank_0(var)
            secrets.hide(var)
        return [*results, *written]

    secrets = Secrets()
    try:
        starts = [secrets.start(ctx, item, ()) for item in state[:first]]
        starts += [
            secrets.start(ctx, item, shape) for item, shape in zip(initial, shapes, strict=True)
        ]
        results = while_loop(ctx, condition, body, [*starts, *lists])
    finally:
        secrets.reveal()
    found = [
        shaped(ctx.wrap_var(var, dtype), shape)
        for var, dtype, shape in zip(results[first:], dtypes[first:], shapes, strict=False)
    ]
    total = count if go_on is None and count is not None else ctx.wrap_var(results[0], "int64")
    return found, [
        stacked(ctx, var, total, row) for var, row in zip(results[len(state) :], rows, strict=True)
    ]


def while_loop(
    ctx: Context, condition: Callable[..., Var], body: Callable[..., list[Var]], starts: list[Var]
) -> Sequence[Var]:
    """The results of MIL's `while_loop`, always several."""
    from coremltools.converters.mil.mil import Builder

    results = Builder.while_loop(
        _cond=condition, _body=body, loop_vars=tuple(starts), name=ctx.free_name("while_loop")
    )
    return results if isinstance(results, (tuple, list)) else [results]


def settled(
    ctx: Context, initial: Sequence[Value], iteration: Iteration
) -> tuple[list[tuple[Size, ...]], list[Value], bool]:
    """Shapes of the values that hold in every iteration, the rows as their types, and whether
    every iteration says constantly that there is a next one.
    """
    shapes = [item.shape for item in initial]
    loose: set[tuple[int, int]] = set()
    while True:
        inputs = [new_var(item.dtype, shape) for item, shape in zip(initial, shapes, strict=True)]
        number = new_var("int64", ())
        with trial(ctx, [number, *inputs]):
            given = [Value(item.dtype, var) for item, var in zip(initial, inputs, strict=True)]
            step = iteration(Value("int64", number), given)
            go_on = None if step.go_on is None else step.go_on.array
            wider = [
                widened(ctx, place, shape, item.shape, loose)
                for place, (shape, item) in enumerate(zip(shapes, step.values, strict=True))
            ]
        if wider == shapes:
            is_endless = step.go_on is None or (go_on is not None and bool(go_on.all()))
            return shapes, list(step.rows), is_endless
        shapes = wider


def widened(
    ctx: Context,
    number: int,
    before: tuple[Size, ...],
    after: tuple[Size, ...],
    loose: set[tuple[int, int]],
) -> tuple[Size, ...]:
    """Sizes that a value has before and after an iteration; dynamic where that changes them.

    `loose` are the values and axes for which that is so already.
    """
    if len(before) != len(after):
        raise ctx.unsupported(
            f"value {number} that the loop carries has {len(before)} dimensions before an "
            f"iteration and {len(after)} after it; a MIL program needs the same number"
        )
    sizes = list(before)
    for axis, (old, new) in enumerate(zip(before, after, strict=True)):
        if old != new and (number, axis) not in loose:
            loose.add((number, axis))
            sizes[axis] = new_symbol()
    return tuple(sizes)


def new_list(ctx: Context, row: Value) -> Var:
    """An empty MIL list for rows of one type."""
    from coremltools.converters.mil.mil import Builder

    sizes = row.shape or (1,)
    return Builder.make_list(
        init_length=1,
        dynamic_length=True,
        elem_shape=tuple(int(size) if is_static((size,)) else str(new_symbol()) for size in sizes),
        dtype=MIL_DTYPE[row.dtype],
        name=ctx.free_name("list"),
    )


def written_list(ctx: Context, variable: Var, number: Value, row: Value) -> Var:
    """A list with one more row; a single number is a row of one."""
    from coremltools.converters.mil.mil import Builder

    element = row if row.rank else ctx.expand_dims(row, [0])
    return Builder.list_write(
        ls=variable, index=ctx.var(number), value=own_var(ctx, element), name=ctx.free_name("list")
    )


def stacked(ctx: Context, variable: Var, count: Value, row: Value) -> Value:
    """The first `count` elements of a list as one tensor; `row` has their type."""
    from coremltools.converters.mil.mil import Builder

    places = ctx.range(0, count).with_dtype("int32")
    name = ctx.free_name("list_gather")
    var = Builder.list_gather(ls=variable, indices=ctx.var(places), name=name)
    result = ctx.wrap_var(var, row.dtype)
    size = places.shape[0] if count.sizes is None else count.sizes.reshape(-1)[0]
    shaped(result, (size, *(row.shape or (1,))))
    return result if row.rank else ctx.squeeze(result, [1])


# variables -----------------------------------------------------------------------------------


class Secrets:
    """Values that coremltools must not know while it builds a loop, where they change.

    It takes the types and values of what a loop starts with for those of every iteration.
    """

    def __init__(self) -> None:
        self.held: list[tuple[Var, Any, Any]] = []  # Any: coremltools' types and values

    def start(self, ctx: Context, value: Value, shape: tuple[Size, ...]) -> Var:
        """A variable of its own for what a loop starts with, of the type of all iterations."""
        from coremltools.converters.mil.mil import Builder

        if value.known is not None:
            array = ctx.held_constant(value.known, value.dtype)
            var = Builder.const(val=array[()], name=ctx.free_name("const"))
        else:
            var = Builder.identity(x=value.var, name=ctx.free_name("start"))
        self.hide(var)
        var._sym_type = type_of(value.dtype, shape)
        return var

    def hide(self, var: Var) -> None:
        """Takes the value of a variable away."""
        self.held.append((var, var._sym_type, var._sym_val))
        var._sym_val = None

    def reveal(self) -> None:
        """Gives all variables their types and values again."""
        for var, kind, value in reversed(self.held):
            var._sym_type, var._sym_val = kind, value


@contextmanager
def trial(ctx: Context, inputs: Sequence[Var]) -> Iterator[None]:
    """A block with these inputs, whose operations and names are forgotten at its end."""
    from coremltools.converters.mil.mil import Block, Builder, ops
    from coremltools.converters.mil.mil.block import curr_block

    taken = dict(ctx.taken)
    anchor = Builder.const(val=np.int32(0), name=ctx.free_name("trial")).op
    block = Block(block_inputs=tuple(inputs), outer_op=anchor, name=anchor.name)
    try:
        with block:
            yield
    finally:
        ops.defs.iOS15.control_flow.while_loop._clean_up_child_ops(block)
        curr_block().remove_ops([anchor])
        ctx.taken = taken


def own_var(ctx: Context, value: Value) -> Var:
    """A variable that the current block itself has, so that the block can give it."""
    from coremltools.converters.mil.mil import Builder
    from coremltools.converters.mil.mil.block import curr_block

    var, block = ctx.var(value), curr_block()
    if var.op is not None and var.op.enclosing_block is block:
        return var
    if var.op is None and any(var is item for item in block._block_inputs):
        return var
    return Builder.identity(x=var, name=ctx.free_name("identity"))


def new_var(dtype: str, shape: tuple[Size, ...]) -> Var:
    """A variable that no operation gives, for a trial."""
    from coremltools.converters.mil.mil import Var as MilVar

    return MilVar("trial", type_of(dtype, shape))


def type_of(dtype: str, shape: tuple[Size, ...]) -> Any:  # Any: a type of coremltools
    """coremltools' type for an ONNX dtype and sizes."""
    from coremltools.converters.mil.mil import types

    element = types.string_to_builtin(MIL_DTYPE[dtype])
    return types.tensor(element, shape) if shape else element


def tell_rank_0(var: Var) -> None:
    """Makes the type of a single number the plain one; coremltools has two for it."""
    if not tuple(var.shape):
        var._sym_type = var.dtype


def shaped(value: Value, shape: Sequence[Size]) -> Value:
    """The value, whose variable is told its sizes."""
    if shape:
        set_shape(value, shape)
    return value


def new_symbol() -> Any:  # Any: a sympy symbol
    """A new dynamic size."""
    from coremltools.converters.mil.mil import get_new_symbol

    return get_new_symbol()
