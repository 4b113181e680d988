"""How large a network may be to be evaluated within a shader, and what to do with a larger one."""

from __future__ import annotations

from metal4conv.errors import UnsupportedModel
from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Expression,
    Linear,
    Network,
    PointProgram,
    Reduce,
    Step,
    operands,
)

MAXIMUM_WIDTH = 256
"""Outputs of a layer. A thread of an Apple GPU has at most 256 registers of 4 bytes or so: 1 KB.
Wider vectors live in memory that each thread has to itself, which a shader is meant to avoid."""

MAXIMUM_JOINED_WIDTH = 512
"""Features of any other vector, such as a layer's outputs joined with the network's input: half of
it is then needed no longer than until the next layer has read it."""

MAXIMUM_MULTIPLY_ADDS = 1 << 20
"""Of one point: at a million points (a picture of 1000 × 1000 pixels) some 10^12, which already
takes tens of milliseconds on a fast GPU."""

MAXIMUM_ALIVE_BYTES = 8192
"""Of a point's vectors that are needed at the same time: eight times what registers hold. A layer
of 256 to 256 has 2 KB; a network gets here by keeping many wide vectors for later."""

FLOAT_BYTES = 4

ML_PASS = (
    "run it as a pass of its own on Metal's machine learning encoder: metal4conv convert, then "
    "metal4conv layout"
)


class TooLarge(UnsupportedModel):
    """A network that is of the right kind, but larger than what a shader should evaluate."""


def check_layer(outputs: int, where: str) -> None:
    """`TooLarge` for a layer that is too wide for the registers of a thread."""
    check(outputs, MAXIMUM_WIDTH, f"a layer of {outputs} outputs is", where)


def check_width(width: int, where: str) -> None:
    """`TooLarge` for any vector that is too wide for the registers of a thread."""
    check(width, MAXIMUM_JOINED_WIDTH, f"{width} features of a point are", where)


def check(width: int, maximum: int, what: str, where: str) -> None:
    """`TooLarge` with what is too wide, and why."""
    if width <= maximum:
        return
    raise TooLarge(
        f"{what} too wide for a shader, which holds at most {maximum}: a thread would need "
        f"{kilobytes(width * FLOAT_BYTES)} for them, and has registers of about 1 KB",
        where=where,
        hint=f"use layers of at most {MAXIMUM_WIDTH}, or {ML_PASS}",
    )


def check_multiply_adds(count: int, where: str) -> None:
    """`TooLarge` for more multiplications with weights than a point should cost."""
    if count <= MAXIMUM_MULTIPLY_ADDS:
        return
    raise TooLarge(
        f"{count} multiply-adds for each point are too many for a shader, which does at most "
        f"{MAXIMUM_MULTIPLY_ADDS}: every pixel pays for them in each frame",
        where=where,
        hint=f"use fewer or narrower layers, or {ML_PASS}",
    )


def check_limits(network: Network) -> None:
    """`TooLarge` for a network as a whole that costs a point too much."""
    where = f'network "{network.name}"'
    total, elements = 0, 0
    for one in network.passes:
        weighted: list[Linear | Convolution] = list(one.program.linears)
        if one.convolution is not None:
            weighted.append(one.convolution)
        total += sum(step.weight.size for step in weighted)
        elements += sum(map(element_operations, one.program.steps))
        check_alive(one.program)
    check_multiply_adds(total, where)
    if elements > MAXIMUM_MULTIPLY_ADDS:
        raise TooLarge(
            f"{elements} operations on elements for each point are too many for a shader, which "
            f"does at most {MAXIMUM_MULTIPLY_ADDS}",
            where=where,
            hint=f"use fewer features, or {ML_PASS}",
        )


def element_operations(step: Step) -> int:
    """How often functions of elements are computed in a step for one point."""
    match step:
        case Assign():
            return sum(piece.width * functions_in(piece.expression) for piece in step.pieces)
        case Reduce():
            return step.result.width * step.count * (1 + functions_in(step.expression))
    return 0


def functions_in(expression: Expression) -> int:
    """The number of functions in an expression.

    >>> from metal4conv.shader.network import Number
    >>> functions_in(Call("sin", (Call("negate", (Number(1),)),)))
    2
    """
    if not isinstance(expression, Call):
        return 0
    return 1 + sum(map(functions_in, expression.arguments))


def check_alive(program: PointProgram) -> None:
    """`TooLarge` where vectors that are needed at the same time take too much memory."""
    last_use = {vector: len(program.steps) for vector in program.outputs}
    for place, step in reversed(list(enumerate(program.steps))):
        for vector in operands(step):
            last_use.setdefault(vector, place)
    alive = {vector for vector in program.inputs if vector in last_use}
    for place, step in enumerate(program.steps):
        alive.add(step.result)
        needed = FLOAT_BYTES * sum(vector.width for vector in alive)
        if needed > MAXIMUM_ALIVE_BYTES:
            widest = ", ".join(
                f'"{vector.name}" ({vector.width})'
                for vector in sorted(alive, key=lambda vector: (-vector.width, vector.name))[:4]
            )
            raise TooLarge(
                f"{kilobytes(needed)} of a point's values are needed at the same time, a shader "
                f"keeps at most {kilobytes(MAXIMUM_ALIVE_BYTES)}: the widest are {widest}",
                where=step.label,
                hint=f"use narrower layers or fewer connections that skip layers, or {ML_PASS}",
            )
        alive = {vector for vector in alive if last_use.get(vector, -1) > place}


def kilobytes(count: int) -> str:
    """Bytes in words.

    >>> kilobytes(4096), kilobytes(1100)
    ('4 KB', '1.07 KB')
    """
    return f"{count / 1024:.3g} KB"
