"""What goes into a network and comes out of it: structures, and the functions that fill them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metal4conv.shader.network import Network, Port, Vector
from metal4conv.shader.source_arguments import Textures, tensor_arguments, texture_arguments
from metal4conv.shader.source_names import declared
from metal4conv.shader.source_plan import MOST_SIMDGROUPS, THREADGROUP_BYTES, Plan
from metal4conv.shader.source_text import INDENT, function, structure


@dataclass(frozen=True)
class Entries:
    """What the entry points are made from. `tile_bytes` is what one simdgroup's points take in
    threadgroup memory, 0 where the compute functions do not work together.
    """

    plan: Plan
    network: Network
    textures: Textures
    uses_matmul2d: bool
    tile_bytes: int

    @property
    def prefix(self) -> str:
        """What begins all names."""
        return self.plan.names.prefix

    @property
    def guard(self) -> str:
        """The macro that tells whether there is matmul2d."""
        return f"#if {self.prefix.upper()}_HAS_MATMUL2D"

    @property
    def simdgroups(self) -> int:
        """Simdgroups of a threadgroup."""
        fit = THREADGROUP_BYTES // self.tile_bytes if self.tile_bytes else MOST_SIMDGROUPS
        return min(MOST_SIMDGROUPS, fit)


def structures(entries: Entries) -> str:
    """The types of what goes in and what comes out, and of the grid of points."""
    plan = entries.plan
    made = [
        structure(f"{entries.prefix}_{kind}", members(names, vectors, plan))
        for kind, names, vectors in (
            ("inputs", plan.names.inputs, plan.program.inputs),
            ("outputs", plan.names.outputs, plan.program.outputs),
        )
    ]
    remark = "// The grid of points: the one at (x, y) has row y * width + x in the buffers.\n"
    grid = structure(f"{entries.prefix}_parameters", ["uint width", "uint height"])
    return "\n".join([*made, remark + grid])


def members(names: Sequence[str], vectors: Sequence[Vector], plan: Plan) -> list[str]:
    """A member for each port."""
    return [
        declared(name, vector.width, plan.names.width(vector))
        for name, vector in zip(names, vectors, strict=True)
    ]


def tensor_structure(entries: Entries) -> str:
    """The bound tensors in one type, so that functions hand them on."""
    names = [one.name for one in tensor_arguments(entries.plan)]
    lines = [f"{entries.prefix}_tensor {name}" for name in names]
    return structure(f"{entries.prefix}_tensors", lines)


def input_rows(entries: Entries) -> list[tuple[Port, str, Vector]]:
    """The inputs that come from buffers: port, name and vector."""
    plan = entries.plan
    rows = zip(entries.network.inputs, plan.names.inputs, plan.program.inputs, strict=True)
    return [row for row in rows if row[0].name not in entries.textures.inputs]


def load_function(entries: Entries) -> str:
    """The function that reads a point's inputs from buffers."""
    prefix, plan = entries.prefix, entries.plan
    body: list[str] = []
    parameters = [f"thread {prefix}_inputs &inputs", "uint point"]
    for port, name, vector in input_rows(entries):
        parameters.append(f"const device float *{name}")
        width = plan.names.width(vector)
        row = "" if port.uniform else f"point * {width} + "
        if vector.width == 1:
            body.append(f"inputs.{name} = {name}[{'0' if port.uniform else 'point'}];")
            continue
        body += [
            f"for (int i = 0; i < {width}; ++i) {{",
            f"{INDENT}inputs.{name}[i] = {name}[{row}i];",
            "}",
        ]
    text = function(f"inline void {prefix}_load", parameters, body)
    which = " that no texture holds" if entries.textures.layouts else ""
    return f"// Reads a point's inputs{which}: float rows, one a point.\n{text}"


def store_function(entries: Entries) -> str:
    """The function that writes a point's outputs to buffers."""
    prefix, plan = entries.prefix, entries.plan
    body: list[str] = []
    parameters = [f"{prefix}_outputs outputs", "uint point"]
    for name, vector in zip(plan.names.outputs, plan.program.outputs, strict=True):
        parameters.append(f"device float *{name}")
        width = plan.names.width(vector)
        if vector.width == 1:
            body.append(f"{name}[point] = outputs.{name};")
            continue
        body += [
            f"for (int i = 0; i < {width}; ++i) {{",
            f"{INDENT}{name}[point * {width} + i] = outputs.{name}[i];",
            "}",
        ]
    text = function(f"inline void {prefix}_store", parameters, body)
    return f"// Writes a point's outputs: float rows, one a point.\n{text}"


def sample_function(entries: Entries) -> str:
    """The function that samples a point's inputs from textures."""
    prefix, textures = entries.prefix, entries.textures
    members = {
        port.name: (name, vector.width)
        for port, name, vector in zip(
            entries.network.inputs,
            entries.plan.names.inputs,
            entries.plan.program.inputs,
            strict=True,
        )
    }
    body: list[str] = []
    for place, (layout, name) in enumerate(zip(textures.layouts, textures.names, strict=True)):
        member, width = members[layout.input]
        body.append(f"const float4 texel_{place} = {name}.sample(latent_sampler, uv, level(0.0f));")
        for channel, feature in zip("xyzw", layout.channels, strict=True):
            if feature >= 0:
                target = f"inputs.{member}" if width == 1 else f"inputs.{member}[{feature}]"
                body.append(f"{target} = texel_{place}.{channel};")
    parameters = [f"thread {prefix}_inputs &inputs", "float2 uv"]
    parameters += [one.declaration for one in texture_arguments(textures)]
    text = function(f"inline void {prefix}_sample", parameters, body)
    sampler = textures.sampler
    how = f"; the sampler is to be {sampler.filter} and {sampler.address}" if sampler else ""
    return f"// Samples a point's inputs from the latent textures{how}.\n{text}"
