"""Who reads which vector of a network: what its functions in Metal have in common."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from metal4conv.shader.network import (
    IDENTITY,
    Assign,
    Element,
    Expression,
    Linear,
    PointProgram,
    Step,
    Vector,
    leaves,
    operands,
)
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import PackedWeights
from metal4conv.shader.source_names import Names

SIMDGROUP_THREADS = 32
"""Threads of a simdgroup on all GPUs of Apple; a tile has a point for each."""

THREADGROUP_BYTES = 32768
"""Threadgroup memory that all GPUs have (Metal feature set tables)."""

MOST_SIMDGROUPS = 4
"""More in a threadgroup gain nothing: simdgroups do not share their tiles."""


@dataclass(frozen=True)
class Plan:
    """What the source's functions have in common: the steps, and what each vector is for.

    `operand_only` are vectors that nothing but linear layers read, so that they exist only in the
    operands' type; `fused` are linear layers whose next step changes each sum by itself and hands
    it to the layer after, as the positions of such layers among the steps.
    """

    program: PointProgram
    names: Names
    packed: PackedWeights
    options: ShaderOptions
    operand_only: frozenset[Vector]
    fused: frozenset[int]

    @property
    def operand_type(self) -> str:
        """The type of what is multiplied with weights."""
        return "float" if self.options.precision == "float32" else "half"

    @property
    def has_blob(self) -> bool:
        """Whether there is a buffer of weights."""
        return bool(self.packed.blocks) and not self.options.inline_weights

    def block(self, linear: Linear) -> str:
        """The constants of a layer begin so."""
        return f"{self.names.prefix}_{self.packed.of[linear].name}"


def plan_of(
    program: PointProgram, names: Names, packed: PackedWeights, options: ShaderOptions
) -> Plan:
    """Looks at who reads what."""
    readers: dict[Vector, list[Step]] = {}
    for step in program.steps:
        for vector in operands(step):
            readers.setdefault(vector, []).append(step)
    outputs = set(program.outputs)
    operand_only = frozenset(
        step.result
        for step in program.steps
        if not isinstance(step, Linear)
        and step.result not in outputs
        and all(isinstance(reader, Linear) for reader in readers.get(step.result, []))
        and readers.get(step.result)
    )
    counts = Counter({vector: len(steps) for vector, steps in readers.items()})
    fused = frozenset(
        position
        for position in range(len(program.steps) - 2)
        if is_fused(program.steps[position : position + 3], counts, outputs)
    )
    return Plan(program, names, packed, options, operand_only, fused)


def is_fused(steps: tuple[Step, ...], counts: Counter[Vector], outputs: set[Vector]) -> bool:
    """Whether a layer's sums become the next one's operand element by element, for nobody else."""
    match steps:
        case (Linear() as first, Assign(result, (piece,)), Linear() as second):
            return (
                second.operand == result
                and piece.width == result.width == first.result.width
                and counts[result] == counts[first.result] == 1
                and not outputs & {result, first.result}
                and is_elementwise(piece.expression, first.result)
            )
    return False


def is_elementwise(expression: Expression, vector: Vector) -> bool:
    """Whether element i of an expression depends on element i of one vector alone."""
    return all(
        leaf.vector == vector and leaf.index == IDENTITY
        for leaf in leaves(expression)
        if isinstance(leaf, Element)
    )


def tile_bytes(plan: Plan) -> int:
    """Threadgroup memory for 32 points' operands and, after them, their sums."""
    number_bytes = 4 if plan.operand_type == "float" else 2
    most = 0
    for position, step in enumerate(plan.program.steps):
        if isinstance(step, Linear):
            inputs, outputs = plan.packed.of[step].dimensions
            sums = 0 if position in plan.fused else 4 * outputs
            most = max(most, number_bytes * inputs, sums)
    return SIMDGROUP_THREADS * most
