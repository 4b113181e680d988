"""What things are called in a shader's source, and the constants that name its sizes."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from metal4conv.layout.emit.identifiers import C_WORDS, Identifiers, plain
from metal4conv.shader.network import PointProgram, Table, Vector
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import PackedWeights
from metal4conv.shader.source_expressions import number
from metal4conv.shader.source_functions import LIBRARY
from metal4conv.shader.source_text import shown, wrapped

OWN_WORDS = """
inputs outputs weights tensors parameters tile lane simdgroup_index point count shown rows pixel uv
varyings targets latent_sampler i j total value sum
float2 float3 float4 half2 half3 half4 int2 int3 int4 uint2 uint3 uint4 char4 uchar4
tensor extents dextents array texture2d sampler level precise fast metal mpp main
INFINITY NAN
"""
"""Names that the functions which hold the model's names use for themselves, or of Metal."""

RESERVED = " ".join(
    [C_WORDS, OWN_WORDS, *(name.removeprefix("precise::") for name in LIBRARY.values())]
)


@dataclass(frozen=True)
class Names:
    """The names of a network's source: `prefix` begins all that stands at file scope.

    `local` holds the vectors' names inside functions, `inputs` and `outputs` those of the ports:
    members of the structures, and parameters of the entry points.
    """

    prefix: str
    local: Mapping[Vector, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    def width(self, vector: Vector) -> str:
        """The constant that holds a vector's width."""
        return f"{self.prefix}_{self.local[vector]}_width"


def names_of(
    network: str,
    program: PointProgram,
    packed: PackedWeights,
    inputs: Iterable[str],
    outputs: Iterable[str],
) -> Names:
    """Names for the ports and vectors of a program: those of the model, made unique and plain.

    `inputs` and `outputs` are the names that the program's inputs and outputs have outside.
    """
    found = Identifiers(block.name for block in packed.blocks)
    prefix = plain(network) or "network"

    def unique(wanted: str) -> str:
        name = plain(wanted) or "value"
        if name.startswith(f"{prefix}_"):
            name = f"own_{name}"  # what begins with the prefix stands at file scope
        return found.unique(name, lambda name: [name], RESERVED)

    members = tuple(unique(name) for name in inputs), tuple(unique(name) for name in outputs)
    local: dict[Vector, str] = {}
    for vector, name in zip(program.inputs, members[0], strict=True):
        local.setdefault(vector, name)
    results = {step.result for step in program.steps}
    for vector, name in zip(program.outputs, members[1], strict=True):
        if vector in results:
            local.setdefault(vector, name)
    for step in program.steps:
        if step.result not in local:
            local[step.result] = unique(step.result.name)
    return Names(prefix, local, *members)


def value_type(width: int) -> str | None:
    """The Metal type of a vector of few features; None where it takes an array.

    >>> [value_type(width) for width in (1, 3, 8)]
    ['float', 'float3', None]
    """
    return {1: "float", 2: "float2", 3: "float3", 4: "float4"}.get(width)


def declared(name: str, width: int, size: str) -> str:
    """The declaration of a float vector; `size` is the text of its width.

    >>> declared("color", 3, "3"), declared("hidden", 32, "material_hidden_width")
    ('float3 color', 'float hidden[material_hidden_width]')
    """
    kind = value_type(width)
    return f"{kind} {name}" if kind else f"float {name}[{size}]"


def constant(name: str, value: int, remark: str = "") -> str:
    """A named number at file scope."""
    text = f"constant constexpr int {name} = {value};"
    return f"{text} // {shown(remark)}" if remark else text


def width_constants(names: Names, program: PointProgram, words: Container[str]) -> list[str]:
    """The widths of those vectors, without padding, whose constants are among the words."""
    vectors = dict.fromkeys([*program.inputs, *(step.result for step in program.steps)])
    return [
        constant(names.width(vector), vector.width)
        for vector in vectors
        if names.width(vector) in words
    ]


def layer_constants(
    names: Names, program: PointProgram, packed: PackedWeights, options: ShaderOptions
) -> list[str]:
    """Sizes and places of the weights, or the weights themselves."""
    if options.inline_weights:
        return inline_constants(names, program, packed)
    lines: list[str] = []
    for layer, linear in enumerate(program.linears):
        block = packed.of[linear]
        inputs, outputs = block.dimensions
        lines += [
            f"// layer {layer}, {shown(linear.label)}: {block.dtype} weight [output][input]",
            constant(f"{names.prefix}_{block.name}_inputs", inputs, padding(inputs, block.used[0])),
            constant(
                f"{names.prefix}_{block.name}_outputs", outputs, padding(outputs, block.used[1])
            ),
        ]
    if packed.blocks:
        lines.append("// where the arrays begin in the weights, in bytes")
    lines += [
        constant(f"{names.prefix}_{block.name}_offset", block.offset, block.layer)
        for block in packed.blocks
    ]
    return lines


def padding(whole: int, used: int) -> str:
    """What to say of a padded size.

    >>> padding(32, 8), padding(32, 32)
    ('8, padded with zeros', '')
    """
    return "" if whole == used else f"{used}, padded with zeros"


def inline_constants(names: Names, program: PointProgram, packed: PackedWeights) -> list[str]:
    """The weights and tables as arrays of numbers."""
    lines: list[str] = []
    for layer, linear in enumerate(program.linears):
        block = packed.of[linear]
        inputs, outputs = block.used
        lines += [
            f"// layer {layer}, {shown(linear.label)}: weight [output][input]",
            constant(f"{names.prefix}_{block.name}_inputs", inputs),
            constant(f"{names.prefix}_{block.name}_outputs", outputs),
            *number_array(f"{names.prefix}_{block.name}", packed.stored(block)),
        ]
    for owner, block in packed.of.items():
        if isinstance(owner, Table):
            lines.append(f"// {block.role} of {shown(block.layer)}")
            lines += number_array(f"{names.prefix}_{block.name}", packed.stored(block))
    return lines


def number_array(name: str, values: np.ndarray) -> list[str]:
    """A constant array of floats."""
    numbers = [number(float(value)).text for value in np.asarray(values).reshape(-1)]
    return [f"constant float {name}[] = {{", *wrapped(", ".join(numbers)), "};"]


def index_array(name: str, values: Iterable[int]) -> list[str]:
    """A constant array of indices."""
    return [f"constant int {name}[] = {{", *wrapped(", ".join(map(str, values))), "};"]
