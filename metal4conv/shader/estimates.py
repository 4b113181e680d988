"""What one point of a network costs: parameters, arithmetic, and memory of its thread."""

from __future__ import annotations

from collections.abc import Iterator

from metal4conv.layout.expression import align
from metal4conv.shader.document import Estimates
from metal4conv.shader.network import (
    Convolution,
    Linear,
    Network,
    PointProgram,
    Table,
    Vector,
    operands,
)
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.weight_arrays import INPUT_MULTIPLE, OUTPUT_MULTIPLE
from metal4conv.shader.weight_names import tables_of, weighted_steps

FLOAT_BYTES = 4
HALF_BYTES = 2


def estimate(network: Network, options: ShaderOptions, threadgroup_bytes: int = 0) -> Estimates:
    """The costs of one point; `threadgroup_bytes` are what the generated functions declare."""
    operand_bytes = FLOAT_BYTES if options.precision == "float32" else HALF_BYTES
    return Estimates(
        parameters=parameter_count(network),
        multiply_adds=multiply_adds(network),
        register_bytes=max(
            (most_alive(one.program, operand_bytes) for one in network.passes), default=0
        ),
        threadgroup_bytes=threadgroup_bytes,
    )


def parameter_count(network: Network) -> int:
    """The numbers of all weights and tables, without padding; a shared table counts once."""
    weights, tables = 0, set[Table]()
    for step in weighted_steps(network):
        if isinstance(step, Linear | Convolution):
            weights += step.weight.size
        else:
            tables.update(tables_of(step))
    return weights + sum(table.values.size for table in tables)


def multiply_adds(network: Network) -> int:
    """Multiplications with a weight for one point, without those of the padding."""
    return sum(
        step.weight.size
        for step in weighted_steps(network)
        if isinstance(step, Linear | Convolution)
    )


def most_alive(program: PointProgram, operand_bytes: int) -> int:
    """The most bytes of one point's vectors that are needed at the same time.

    Vectors are float32. A linear layer has its operand besides in the type of the weights and
    padded, and writes a padded result.
    """
    return max(moments(program, operand_bytes), default=vector_bytes(set(program.inputs)))


def moments(program: PointProgram, operand_bytes: int) -> Iterator[int]:
    """Bytes that are alive during each step."""
    needed_after = needed_later(program)
    alive = set(program.inputs)
    for step, later in zip(program.steps, needed_after, strict=True):
        kept = alive & later
        if isinstance(step, Linear):
            copy = operand_bytes * align(step.operand.width, INPUT_MULTIPLE)
            result = FLOAT_BYTES * align(step.result.width, OUTPUT_MULTIPLE)
            yield vector_bytes(alive) + copy
            yield vector_bytes(kept) + copy + result
        else:
            yield vector_bytes(alive | {step.result})
        alive = kept | ({step.result} & later)


def needed_later(program: PointProgram) -> list[set[Vector]]:
    """For each step the vectors that a later one reads, or that are outputs."""
    needed = set(program.outputs)
    found = []
    for step in reversed(program.steps):
        found.append(set(needed))
        needed |= set(operands(step))
    return found[::-1]


def vector_bytes(vectors: set[Vector]) -> int:
    """Bytes of float32 vectors."""
    return FLOAT_BYTES * sum(vector.width for vector in vectors)
