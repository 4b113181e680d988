"""How many float16 operations that round lie on the longest path to each output of a function."""

from __future__ import annotations

from collections.abc import Mapping

from metal4conv.mil.program import Block, Function, Operation, TensorType

CHOOSING = frozenset(("clip", "max_pool", "threshold"))
"""Operations that only choose values, although the executor runs them in float32.

Those that it runs in float16 as they are (`execute.table.is_exact`) need no list.
"""

REPEATS = {"while_loop": 16, "lstm": 16, "gru": 16, "rnn": 16}
"""How often a round of these counts; the real number is known only when they run."""


def float16_depths(function: Function) -> dict[str, int]:
    """The depth of each output; 0 where no float16 operation rounds on the way to it."""
    # these load torch, and errors in names and files come before that
    from metal4conv.execute.families import load_all

    load_all()
    known = {value.name: 0 for value in function.inputs}
    walk_block(function.block, known)
    return {name: known[name] for name in function.block.outputs}


def walk_block(block: Block, known: dict[str, int]) -> int:
    """Adds the depths of all values in a block to `known`; gives the largest of its outputs."""
    for operation in block.operations:
        depth = operation_depth(operation, known)
        known.update({value.name: depth for value in operation.outputs})
    return max((known.get(name, 0) for name in block.outputs), default=0)


def operation_depth(operation: Operation, known: Mapping[str, int]) -> int:
    """The depth of an operation's outputs."""
    start = max(
        (known.get(argument, 0) for argument in operation_arguments(operation)),
        default=0,
    )
    repeats = REPEATS.get(operation.type, 1)
    if not operation.blocks:
        return start + (repeats if rounds(operation) else 0)
    inner = 0
    for block in operation.blocks:
        inside = dict(known) | {value.name: start for value in block.inputs}
        inner = max(inner, walk_block(block, inside) - start)
    return start + repeats * max(inner, 0)


def operation_arguments(operation: Operation) -> list[str]:
    """The names of the values that an operation reads."""
    return [
        argument
        for group in operation.inputs.values()
        for argument in group
        if isinstance(argument, str)
    ]


def rounds(operation: Operation) -> bool:
    """Whether an operation rounds its result to float16.

    What compression loses belongs to the weights.
    """
    from metal4conv.execute.table import is_exact

    if operation.type == "const" or operation.type.startswith("constexpr_"):
        return False
    if operation.type in CHOOSING or is_exact(operation.type):
        return False
    return any(
        isinstance(value.type, TensorType) and value.type.dtype == "float16"
        for value in operation.outputs
    )
