"""What there is to say of each pass before it is written: names, tiles, types of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metal4conv.layout.emit.identifiers import Identifiers, plain
from metal4conv.shader.document import IntermediateImage
from metal4conv.shader.network import (
    IDENTITY,
    Assign,
    Element,
    Linear,
    Network,
    Pass,
    Step,
    Table,
    Vector,
    expressions,
    leaves,
    operands,
)
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import PackedWeights
from metal4conv.shader.source_names import RESERVED, Names
from metal4conv.shader.source_plan import THREADGROUP_BYTES, Plan, plan_of

THREADS = 128
"""Of a threadgroup: four simdgroups, one thread for each pixel of the largest tile."""

TILES = ((16, 8), (8, 8), (8, 4), (4, 4))
"""Widths and heights of tiles, the best first: a larger one reads fewer pixels around it."""

OWN_WORDS = "size origin pixel group thread_index sums sum at place first value"
"""Names that the compute functions use for themselves."""


@dataclass(frozen=True)
class Tile:
    """The pixels that a threadgroup computes at once, and those that their windows see."""

    width: int
    height: int
    window_width: int
    window_height: int
    bytes: int
    """Threadgroup memory for the window or, after it, for the sums of all pixels."""


@dataclass(frozen=True)
class PassPlan:
    """One pass: its number, the names of its buffers, and how it is computed.

    `tile` is None where there is no convolution2d for it. `halves` are images in the operands'
    type, `buffers` the identifiers of ports and images.
    """

    number: int
    dispatch: Pass
    plan: Plan
    buffers: Mapping[str, str]
    halves: frozenset[str]
    inputs: frozenset[str]
    uniform: frozenset[str]
    outputs: frozenset[str]
    tile: Tile | None

    @property
    def name(self) -> str:
        """The compute function."""
        return f"{self.prefix}_pass_{self.number}"

    @property
    def prefix(self) -> str:
        """What begins all names."""
        return self.plan.names.prefix

    @property
    def sums(self) -> Vector | None:
        """The convolution's result."""
        return None if self.dispatch.convolution is None else self.dispatch.convolution.result

    @property
    def block(self) -> str:
        """The structure of the convolution's constants."""
        assert self.dispatch.convolution is not None
        return f"{self.prefix}_{self.plan.packed.of[self.dispatch.convolution].name}"

    @property
    def reads(self) -> list[tuple[Vector, str]]:
        """The vectors that come from buffers, with the ports or images."""
        given = [vector for vector in self.dispatch.program.inputs if vector != self.sums]
        return list(zip(given, self.dispatch.reads, strict=True))

    @property
    def writes(self) -> list[tuple[Vector, str]]:
        """The vectors that go to buffers, with the ports or images."""
        return list(zip(self.dispatch.program.outputs, self.dispatch.writes, strict=True))

    @property
    def tile_size(self) -> tuple[int, int]:
        """Width and height of the tiles of a pass with a convolution."""
        return (self.tile.width, self.tile.height) if self.tile else TILES[0]

    def buffer_type(self, name: str) -> str:
        """The type of what a buffer holds."""
        return "half" if name in self.halves else "float"


def pass_plans(
    network: Network, options: ShaderOptions, packed: PackedWeights
) -> tuple[PassPlan, ...]:
    """The passes with names for everything in them."""
    found = Identifiers(block.name for block in packed.blocks)

    def unique(wanted: str) -> str:
        words = f"{RESERVED} {OWN_WORDS}"
        return found.unique(plain(wanted) or "value", lambda name: [name], words)

    ports = [port.name for port in (*network.inputs, *network.outputs)]
    written = [name for one in network.passes for name in one.writes]
    buffers = {name: unique(name) for name in dict.fromkeys([*ports, *written])}
    local: dict[Vector, str] = {}
    for one in network.passes:
        given = [vector for vector in one.program.inputs if not is_result(one, vector)]
        for vector, name in (
            *zip(given, one.reads, strict=True),
            *zip(one.program.outputs, one.writes, strict=True),
        ):
            local.setdefault(vector, buffers[name])
    for one in network.passes:
        made = (*one.program.inputs, *(step.result for step in one.program.steps))
        for vector in made:
            if vector not in local:
                local[vector] = unique(vector.name)
    names = Names(plain(network.name) or "network", local, (), ())
    halves = half_images(network, options)
    return tuple(
        PassPlan(
            number=number,
            dispatch=one,
            plan=plan_of(one.program, names, packed, options),
            buffers=buffers,
            halves=halves,
            inputs=frozenset(port.name for port in network.inputs),
            uniform=frozenset(port.name for port in network.inputs if port.uniform),
            outputs=frozenset(port.name for port in network.outputs),
            tile=tile_of(one, packed, options),
        )
        for number, one in enumerate(network.passes, start=1)
    )


def is_result(one: Pass, vector: Vector) -> bool:
    """Whether a vector is what the pass's convolution gives."""
    return one.convolution is not None and vector == one.convolution.result


def half_images(network: Network, options: ShaderOptions) -> frozenset[str]:
    """Intermediate images that convolutions alone read: they round them to half anyway."""
    if options.precision == "float32":
        return frozenset()
    written = {
        name: (vector, one)
        for one in network.passes
        for vector, name in zip(one.program.outputs, one.writes, strict=True)
    }
    outputs = {port.name for port in network.outputs}
    read = {name for one in network.passes for name in one.reads}
    used_here = {
        name
        for name, (vector, one) in written.items()
        if any(vector in operands(step) for step in one.program.steps)
    }
    return frozenset(written) - outputs - read - used_here


def tile_of(one: Pass, packed: PackedWeights, options: ShaderOptions) -> Tile | None:
    """The largest tile that fits in threadgroup memory; None where convolution2d does not fit."""
    if one.convolution is None or options.inline_weights or options.precision == "int8":
        return None
    outputs, inputs, kernel_width, kernel_height = packed.of[one.convolution].dimensions
    operand_bytes = 4 if options.precision == "float32" else 2
    for width, height in TILES:
        window = (width + kernel_width - 1, height + kernel_height - 1)
        taken = max(window[0] * window[1] * inputs * operand_bytes, width * height * outputs * 4)
        if taken <= THREADGROUP_BYTES:
            return Tile(width, height, *window, taken)
    return None


def images_of(plans: Sequence[PassPlan]) -> tuple[IntermediateImage, ...]:
    """What lies between passes: all that is written and is no output."""
    return tuple(
        IntermediateImage(
            name, vector.width, "float16" if one.buffer_type(name) == "half" else "float32"
        )
        for one in plans
        for vector, name in one.writes
        if name not in one.outputs
    )


def direct_outputs(one: PassPlan) -> frozenset[Vector]:
    """Outputs that are computed right where they go, as nothing in the pass reads them."""
    read = {vector for step in one.dispatch.program.steps for vector in operands(step)}
    made = {step.result for step in one.dispatch.program.steps if not isinstance(step, Linear)}
    return frozenset(vector for vector, _ in one.writes if vector in made - read)


def target_names(one: PassPlan) -> dict[str, str]:
    """The parameters for what a pass writes: the buffer's name, or another one where a vector of
    that name is computed in a variable first.
    """
    direct = direct_outputs(one)
    variables = {
        one.plan.names.local[step.result]
        for step in one.dispatch.program.steps
        if step.result not in direct
    }
    found = {}
    for _, name in one.writes:
        target = one.buffers[name]
        while target in variables:
            target += "_out"
        found[name] = target
    return found


def is_each(one: PassPlan) -> bool:
    """Whether each element that a pass writes depends on one sum alone, and on others' of its
    number: then it is computed where convolution2d leaves the sum.
    """
    if one.tile is None or one.sums is None:
        return False
    direct = direct_outputs(one) | {one.sums}
    width = one.sums.width
    return all(vector in direct for vector, _ in one.writes) and all(
        is_elementwise_step(step, width) for step in one.dispatch.program.steps
    )


def is_elementwise_step(step: Step, width: int) -> bool:
    """Whether element i of a step is made of elements i of vectors as wide, and of tables."""
    if not isinstance(step, Assign) or len(step.pieces) != 1 or step.result.width != width:
        return False
    for expression in expressions(step):
        for leaf in leaves(expression):
            if isinstance(leaf, Element) and (leaf.index, leaf.vector.width) != (IDENTITY, width):
                return False
            if isinstance(leaf, Table) and leaf.index != IDENTITY:
                return False
    return True


def has_weights(one: PassPlan) -> bool:
    """Whether a pass reads the weights' buffer."""
    if one.plan.options.inline_weights:
        return False
    steps = one.dispatch.program.steps
    tables = any(
        isinstance(leaf, Table)
        for step in steps
        for expression in expressions(step)
        for leaf in leaves(expression)
    )
    return tables or one.dispatch.convolution is not None or bool(one.dispatch.program.linears)
