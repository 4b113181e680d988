"""A shader's host code as a Swift file: an enum without cases that makes, binds and encodes."""

from __future__ import annotations

from dataclasses import dataclass

from metal4conv.layout.emit.cpp import Macro
from metal4conv.layout.emit.identifiers import (
    SWIFT_WORDS,
    Identifiers,
    camel_case,
    plain,
    swift_literal,
)
from metal4conv.layout.emit.templates import fill
from metal4conv.shader.document import FORMAT, SOURCE_SUFFIX, TextureLayout, WeightBlock
from metal4conv.shader.emit.numbers import (
    FOLDER,
    attachment_text,
    block_comment,
    function_comment,
    latents_bytes,
    rows_of,
    texture_comment,
)
from metal4conv.shader.emit.plan import ShaderFunction, ShaderPlan, Slot

ADDRESS_MODES = {"repeat": "repeat", "clamp_to_edge": "clampToEdge"}
"""Cases of MTLSamplerAddressMode."""

LOCALS = "table weights tensors textures sampler parameters width height points device library"
"""Parameters and variables of the emitted functions, beside which an argument's name is one."""

MEMBERS = (
    "sourceFile",
    "weightsFile",
    "weightsByteLength",
    "latentsFile",
    "latentsByteLength",
    "tensors",
    "textures",
    "passes",
    "parametersByteLength",
    "makeBuffer",
    "makeWeights",
    "makeParameters",
    "makeTensors",
    "makeTextures",
    "makeSampler",
    "makePipeline",
    "functionDescriptor",
    "encode",
    "check",
    "extents",
    "Block",
    "Texture",
    "Function",
    "Failure",
    "self",
    "Type",
)
"""Names that the enum has anyhow."""


@dataclass(frozen=True)
class SwiftSlot:
    """A slot of an argument table; `length` is the least bytes of a buffer, as an expression."""

    parameter: str
    slot: Slot
    length: str


@dataclass(frozen=True)
class SwiftFunction:
    """A fragment or compute function; `title` is its member in what other names end with."""

    member: str
    title: str
    comment: str
    slots: tuple[SwiftSlot, ...]
    attachments: tuple[str, ...]
    planned: ShaderFunction

    def slots_of(self, *holds: str) -> tuple[SwiftSlot, ...]:
        """The slots for these sorts of things, in order."""
        return tuple(slot for slot in self.slots if slot.slot.holds in holds)


@dataclass(frozen=True)
class SwiftBlock:
    """An array in the weights' file."""

    member: str
    comment: str
    block: WeightBlock


@dataclass(frozen=True)
class SwiftTexture:
    """A texture in the latents' file."""

    member: str
    comment: str
    layout: TextureLayout


@dataclass(frozen=True)
class SwiftShader:
    """What the template shows."""

    type: str
    title: str
    origin: str
    rows: tuple[Macro, ...]
    blocks: tuple[SwiftBlock, ...]
    textures: tuple[SwiftTexture, ...]
    functions: tuple[SwiftFunction, ...]
    latents_bytes: int
    plan: ShaderPlan

    @property
    def tensors(self) -> tuple[SwiftBlock, ...]:
        """The blocks that are bound as MTLTensors."""
        return tuple(block for block in self.blocks if block.block.index is not None)

    @property
    def compute(self) -> tuple[SwiftFunction, ...]:
        """The compute functions."""
        return tuple(item for item in self.functions if item.planned.entry.stage == "compute")

    @property
    def fragment(self) -> tuple[SwiftFunction, ...]:
        """The fragment functions."""
        return tuple(item for item in self.functions if item.planned.entry.stage == "fragment")

    @property
    def passes(self) -> tuple[SwiftFunction, ...]:
        """The functions to dispatch in order, of a network that has several passes."""
        known = {item.planned.entry.name: item for item in self.functions}
        return tuple(known[name] for name in self.plan.manifest.passes)


def swift_text(plan: ShaderPlan) -> str:
    """The file."""
    sampler = plan.manifest.sampler
    return fill(
        "shader.swift.j2",
        FOLDER,
        file=swift_shader(plan),
        address_mode=ADDRESS_MODES[sampler.address] if sampler else "",
    )


def swift_shader(plan: ShaderPlan) -> SwiftShader:
    """What the file shows of a plan."""
    manifest = plan.manifest
    identifiers = Identifiers(MEMBERS)
    rows = {
        row.key: Macro(
            member_name(f"{row.name}_features", row.role, identifiers),
            str(row.features),
            f"{row.role} {swift_literal(row.name)}, {row.dtype}",
        )
        for row in rows_of(manifest)
    }
    return SwiftShader(
        type=type_name(manifest.name),
        title=f"Functions of {manifest.name}{SOURCE_SUFFIX}, and what they bind.",
        origin=f"{FORMAT}, SHA-256 of the source: {manifest.source_sha256}.",
        rows=tuple(rows.values()),
        blocks=tuple(
            SwiftBlock(
                member_name(f"{block.name}_block", "block", identifiers),
                block_comment(block),
                block,
            )
            for block in manifest.blocks
        ),
        textures=tuple(
            SwiftTexture(
                member_name(texture.name, "texture", identifiers),
                texture_comment(texture),
                texture,
            )
            for texture in manifest.textures
        ),
        functions=tuple(
            swift_function(function, identifiers, {key: row.name for key, row in rows.items()})
            for function in plan.functions
        ),
        latents_bytes=latents_bytes(manifest) if manifest.textures else 0,
        plan=plan,
    )


def type_name(name: str) -> str:
    """The enum's name.

    >>> type_name("neural_material"), type_name("Field")
    ('NeuralMaterialShader', 'FieldShader')
    """
    own = camel_case(plain(name)) or "net"
    return f"{own[:1].upper()}{own[1:]}Shader"


def member_name(name: str, otherwise: str, identifiers: Identifiers) -> str:
    """A member's name; `otherwise` for a name without letters."""
    return identifiers.unique(
        camel_case(plain(name)) or otherwise, lambda member: [member], SWIFT_WORDS
    )


def swift_function(
    function: ShaderFunction, identifiers: Identifiers, rows: dict[tuple[str, str], str]
) -> SwiftFunction:
    """A function and the parameters of the one that fills its argument table."""
    member = identifiers.unique(
        camel_case(plain(function.word)) or "function",
        lambda name: [name, f"bind{name}", f"draw{name}", f"set{name}"],
        SWIFT_WORDS,
    )
    own = Identifiers([*LOCALS.split(), *rows.values()])
    return SwiftFunction(
        member=member,
        title=f"{member[:1].upper()}{member[1:]}",
        comment=function_comment(function),
        slots=tuple(swift_slot(slot, own, rows) for slot in function.slots),
        attachments=tuple(map(attachment_text, function.entry.attachments)),
        planned=function,
    )


def swift_slot(slot: Slot, identifiers: Identifiers, rows: dict[tuple[str, str], str]) -> SwiftSlot:
    """A slot's parameter, and how long its buffer has to be."""
    match slot.holds:
        case "rows":
            key = (slot.argument.role, str(slot.argument.port))
            features = rows.get(key) or rows[("output", key[1])]  # which a later pass reads
            length = f"{'' if slot.uniform else 'points * '}{features} * {slot.element_bytes}"
            parameter = member_name(slot.argument.name, "buffer", identifiers)
            return SwiftSlot(parameter, slot, length)
        case "weights":
            return SwiftSlot("weights", slot, "weightsByteLength")
        case "parameters":
            return SwiftSlot("parameters", slot, "parametersByteLength")
    return SwiftSlot(
        {"tensor": "tensors", "texture": "textures"}.get(slot.holds, "sampler"), slot, ""
    )
