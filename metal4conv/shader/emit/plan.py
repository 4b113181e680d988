"""What all languages emit of a shader: its functions, and what is bound at which index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metal4conv.errors import UnsupportedModel
from metal4conv.shader.consistency import INDEX_SPACES
from metal4conv.shader.document import (
    Argument,
    EntryPoint,
    FunctionConstant,
    ShaderManifest,
    WeightBlock,
)

Holds = Literal["weights", "tensor", "rows", "parameters", "texture", "sampler"]

SWITCH = "use_matmul2d"
"""The end of the name of the function constant that picks a path."""

PARAMETERS_BYTES = 8
"""Width and height of the grid of points, 32 bits each."""

ELEMENT_BYTES = {"float32": 4, "float16": 2}


@dataclass(frozen=True)
class Slot:
    """An index of an argument table and what is put there.

    `features` are those of a row, of `element_bytes` each; `uniform` is for a buffer with one row
    for all points; `number` is the place among the tensors or textures.
    """

    argument: Argument
    index: int
    holds: Holds
    features: int = 0
    element_bytes: int = ELEMENT_BYTES["float32"]
    uniform: bool = False
    number: int = 0


@dataclass(frozen=True)
class ShaderFunction:
    """A fragment or compute function: `word` is its name without that of the shader."""

    entry: EntryPoint
    word: str
    slots: tuple[Slot, ...]
    memory_index: int | None

    def count(self, space: str) -> int:
        """How many slots an argument table needs for `buffer`, `texture` or `sampler`."""
        found = [slot.index for slot in self.slots if INDEX_SPACES[slot.argument.kind] == space]
        return max(found, default=-1) + 1

    def has(self, holds: Holds) -> bool:
        """Whether it takes something of this sort."""
        return any(slot.holds == holds for slot in self.slots)

    @property
    def needs_size(self) -> bool:
        """Whether buffers have a length that follows from the number of points."""
        return any(slot.holds == "rows" and not slot.uniform for slot in self.slots)


@dataclass(frozen=True)
class ShaderPlan:
    """A manifest for emission. `tensors` are the blocks that are bound as MTLTensors."""

    manifest: ShaderManifest
    functions: tuple[ShaderFunction, ...]
    tensors: tuple[WeightBlock, ...]
    switch: FunctionConstant | None

    @property
    def has_sampler(self) -> bool:
        """Whether a function takes a sampler, rather than having one of its own."""
        return any(function.has("sampler") for function in self.functions)


def plan_of(manifest: ShaderManifest) -> ShaderPlan:
    """The plan of a manifest; `UnsupportedModel` names what no code is written for."""
    for constant in manifest.constants:
        if not constant.name.endswith(SWITCH) or constant.type != "bool":
            raise UnsupportedModel(
                f"no code is written for the function constant {constant.name}",
                where=f"{manifest.name}.shader.json",
                hint=f"only {manifest.name}_{SWITCH} is known",
            )
    return ShaderPlan(
        manifest=manifest,
        functions=tuple(planned(manifest, entry) for entry in manifest.entry_points),
        tensors=tuple(block for block in manifest.blocks if block.index is not None),
        switch=next(iter(manifest.constants), None),
    )


def planned(manifest: ShaderManifest, entry: EntryPoint) -> ShaderFunction:
    """A function with what the host puts into its argument table."""
    bound = [argument for argument in entry.arguments if argument.kind in INDEX_SPACES]
    memory = [argument.index for argument in bound if argument.kind == "threadgroup"]
    return ShaderFunction(
        entry=entry,
        word=entry.name.removeprefix(f"{manifest.name}_"),
        slots=tuple(
            slot_of(manifest, entry, argument)
            for argument in bound
            if argument.kind != "threadgroup"
        ),
        memory_index=memory[0] if memory and entry.threadgroup_memory_bytes else None,
    )


def slot_of(manifest: ShaderManifest, entry: EntryPoint, argument: Argument) -> Slot:
    """What is put where for one argument."""
    index = argument.index
    assert index is not None  # a consistent manifest has one for all that the host binds
    tensors = [block.name for block in manifest.blocks if block.index is not None]
    textures = [texture.name for texture in manifest.textures]
    match argument.kind, argument.role:
        case "buffer", "weights":
            return Slot(argument, index, "weights")
        case "buffer", "parameters":
            return Slot(argument, index, "parameters")
        case "buffer", "input" | "output" | "image":
            return rows_slot(manifest, argument, index)
        case "tensor", "weight":
            return Slot(argument, index, "tensor", number=tensors.index(str(argument.port)))
        case "texture", "latents":
            return Slot(argument, index, "texture", number=textures.index(str(argument.port)))
        case "sampler", _:
            return Slot(argument, index, "sampler")
    raise UnsupportedModel(
        f'no code is written for a {argument.kind} that holds "{argument.role}"',
        where=f"argument {argument.name} of {entry.name}",
    )


def rows_slot(manifest: ShaderManifest, argument: Argument, index: int) -> Slot:
    """The slot of a buffer of rows: an input, an output, or what is between passes."""
    name = str(argument.port)
    images = {image.name: image for image in manifest.images}
    if argument.role == "image" and name in images:
        image = images[name]
        return Slot(argument, index, "rows", image.width, ELEMENT_BYTES[image.dtype])
    ports = manifest.inputs if argument.role == "input" else manifest.outputs
    port = next(port for port in ports if port.name == name)
    return Slot(argument, index, "rows", port.width, uniform=port.uniform)
