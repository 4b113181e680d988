"""What a C header shows of a shader: macros of numbers, and structs of blocks and functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from metal4conv.layout.emit.cpp import Macro, prefix_of
from metal4conv.layout.emit.identifiers import C_WORDS, Identifiers, c_literal, plain
from metal4conv.layout.emit.templates import fill
from metal4conv.layout.rules import DATA_TYPES
from metal4conv.shader.document import (
    FORMAT,
    LATENTS_SUFFIX,
    SOURCE_SUFFIX,
    WEIGHTS_SUFFIX,
    Attachment,
    ShaderManifest,
    TextureLayout,
    WeightBlock,
)
from metal4conv.shader.emit.plan import (
    ShaderFunction,
    ShaderPlan,
    Slot,
)

FOLDER = Path(__file__).parent / "templates"

MOST_DIMENSIONS = 4
"""Of a weight: those of a convolution."""

ADDRESS_MODES = {"repeat": "Repeat", "clamp_to_edge": "ClampToEdge"}
"""The end of a constant of MTLSamplerAddressMode."""

LOCALS = "table weights tensors textures sampler parameters width height points error"
"""Parameters and variables of the emitted functions, beside which an argument's name is one."""

OWN_WORDS = (
    "make_weights",
    "make_tensors",
    "make_textures",
    "make_sampler",
    "make_pipeline",
    "set_functions",
    "encode",
    "shader_h",
    "shader_metal_h",
    "source_file",
    "weights_file",
    "weights_byte_length",
    "latents_file",
    "latents_byte_length",
    "switch_index",
    "tensor_count",
    "texture_count",
    "pass_count",
)
"""What follows the prefix in names that every header has."""


@dataclass(frozen=True)
class CSlot:
    """A slot of an argument table; `length` is the least bytes of a buffer, as an expression."""

    parameter: str
    index: str
    slot: Slot
    length: str


@dataclass(frozen=True)
class CFunction:
    """A fragment or compute function; `word` follows the prefix in the names of its own."""

    function: str
    word: str
    comment: str
    slots: tuple[CSlot, ...]
    macros: tuple[Macro, ...]
    attachments: tuple[str, ...]
    planned: ShaderFunction

    def slots_of(self, *holds: str) -> tuple[CSlot, ...]:
        """The slots for these sorts of things, in order."""
        return tuple(slot for slot in self.slots if slot.slot.holds in holds)


@dataclass(frozen=True)
class CBlock:
    """An array in the weights' file."""

    function: str
    comment: str
    macros: tuple[Macro, ...]
    dimensions: str
    strides: str
    data_type: str
    block: WeightBlock


@dataclass(frozen=True)
class CTexture:
    """A texture in the latents' file."""

    function: str
    comment: str
    layout: TextureLayout


@dataclass(frozen=True)
class CShader:
    """What the templates of both C languages show."""

    prefix: str
    title: str
    origin: str
    files: tuple[Macro, ...]
    numbers: tuple[Macro, ...]
    rows: tuple[Macro, ...]
    blocks: tuple[CBlock, ...]
    textures: tuple[CTexture, ...]
    functions: tuple[CFunction, ...]
    vertex: str
    plan: ShaderPlan

    @property
    def macro(self) -> str:
        """The beginning of the names of macros."""
        return self.prefix.upper()

    @property
    def tensors(self) -> tuple[CBlock, ...]:
        """The blocks that are bound as MTLTensors."""
        return tuple(block for block in self.blocks if block.block.index is not None)

    @property
    def compute(self) -> tuple[CFunction, ...]:
        """The compute functions."""
        return tuple(item for item in self.functions if item.planned.entry.stage == "compute")

    @property
    def fragment(self) -> tuple[CFunction, ...]:
        """The fragment functions."""
        return tuple(item for item in self.functions if item.planned.entry.stage == "fragment")

    @property
    def passes(self) -> tuple[CFunction, ...]:
        """The functions to dispatch in order, of a network that has several passes."""
        known = {item.planned.entry.name: item for item in self.functions}
        return tuple(known[name] for name in self.plan.manifest.passes)


def header_text(template: str, plan: ShaderPlan) -> str:
    """A header of one of the C languages."""
    sampler = plan.manifest.sampler
    return fill(
        template,
        FOLDER,
        header=c_shader(plan),
        most_dimensions=MOST_DIMENSIONS,
        address_mode=ADDRESS_MODES[sampler.address] if sampler else "",
    )


def c_shader(plan: ShaderPlan) -> CShader:
    """What a header shows of a plan."""
    manifest = plan.manifest
    prefix = prefix_of(manifest.name, "main")
    identifiers = Identifiers(f"{prefix}_{word}" for word in OWN_WORDS)
    rows = {row.key: row_macro(row, prefix, identifiers) for row in rows_of(manifest)}
    return CShader(
        prefix=prefix,
        title=f"Functions of {manifest.name}{SOURCE_SUFFIX}, and what they bind.",
        origin=f"{FORMAT}, SHA-256 of the source: {manifest.source_sha256}.",
        files=tuple(file_macros(manifest, prefix)),
        numbers=tuple(number_macros(plan, prefix)),
        rows=tuple(rows.values()),
        blocks=tuple(c_block(block, prefix, identifiers) for block in manifest.blocks),
        textures=tuple(c_texture(texture, prefix, identifiers) for texture in manifest.textures),
        functions=tuple(
            c_function(function, prefix, identifiers, {key: row.name for key, row in rows.items()})
            for function in plan.functions
        ),
        vertex=c_literal(f"{manifest.name}_vertex"),
        plan=plan,
    )


def file_macros(manifest: ShaderManifest, prefix: str) -> Iterator[Macro]:
    """The names of the files, and their lengths."""
    start = prefix.upper()
    yield Macro(f"{start}_SOURCE_FILE", c_literal(f"{manifest.name}{SOURCE_SUFFIX}"))
    if manifest.weights_bytes:
        yield Macro(f"{start}_WEIGHTS_FILE", c_literal(f"{manifest.name}{WEIGHTS_SUFFIX}"))
        yield Macro(f"{start}_WEIGHTS_BYTE_LENGTH", str(manifest.weights_bytes))
    if manifest.textures:
        yield Macro(f"{start}_LATENTS_FILE", c_literal(f"{manifest.name}{LATENTS_SUFFIX}"))
        yield Macro(f"{start}_LATENTS_BYTE_LENGTH", str(latents_bytes(manifest)))


def latents_bytes(manifest: ShaderManifest) -> int:
    """The length of the latents' file."""
    return max(texture.offset + texture.byte_length for texture in manifest.textures)


def number_macros(plan: ShaderPlan, prefix: str) -> Iterator[Macro]:
    """The numbers of the shader as a whole."""
    start = prefix.upper()
    if plan.switch is not None:
        yield Macro(
            f"{start}_SWITCH_INDEX", str(plan.switch.index), f"function constant {plan.switch.name}"
        )
    if plan.tensors:
        yield Macro(f"{start}_TENSOR_COUNT", str(len(plan.tensors)))
    if plan.manifest.textures:
        yield Macro(f"{start}_TEXTURE_COUNT", str(len(plan.manifest.textures)))
    if plan.manifest.passes:
        yield Macro(f"{start}_PASS_COUNT", str(len(plan.manifest.passes)))


@dataclass(frozen=True)
class Row:
    """What a row of a buffer holds: an input, an output, or an image between passes."""

    role: str
    name: str
    features: int
    dtype: str

    @property
    def key(self) -> tuple[str, str]:
        """What arguments name it by."""
        return (self.role, self.name)


def rows_of(manifest: ShaderManifest) -> list[Row]:
    """The rows of all inputs, outputs and images; buffers of inputs and outputs hold float32."""
    return [
        *(Row("input", port.name, port.width, "float32") for port in manifest.inputs),
        *(Row("output", port.name, port.width, "float32") for port in manifest.outputs),
        *(Row("image", image.name, image.width, image.dtype) for image in manifest.images),
    ]


def row_macro(row: Row, prefix: str, identifiers: Identifiers) -> Macro:
    """The features of a row as a macro."""
    stem = identifiers.unique(
        plain(row.name) or row.role, lambda stem: [f"{prefix}_{stem}_features"]
    )
    comment = f"{row.role} {c_literal(row.name)}, {row.dtype}"
    return Macro(f"{prefix}_{stem}_FEATURES".upper(), str(row.features), comment)


def c_block(block: WeightBlock, prefix: str, identifiers: Identifiers) -> CBlock:
    """A block's numbers."""
    stem = identifiers.unique(
        block.name,
        lambda stem: [f"{prefix}_{stem}_{word}" for word in ("block", "offset", "bytes")],
    )
    start = f"{prefix}_{stem}".upper()
    macros = [Macro(f"{start}_OFFSET", str(block.offset))]
    macros += [Macro(f"{start}_BYTES", str(block.byte_length))]
    return CBlock(
        function=f"{prefix}_{stem}_block".lower(),
        comment=block_comment(block),
        macros=tuple(macros),
        dimensions=", ".join(map(str, padded(block.dimensions))),
        strides=", ".join(map(str, padded(block.strides))),
        data_type=DATA_TYPES[block.dtype].constant,
        block=block,
    )


def padded(sizes: Sequence[int]) -> list[int]:
    """Sizes with zeros behind them, as many as the struct has.

    >>> padded((32, 16))
    [32, 16, 0, 0]
    """
    return [*sizes, *(0 for _ in range(MOST_DIMENSIONS - len(sizes)))]


def block_comment(block: WeightBlock) -> str:
    """A block in words.

    >>> block_comment(WeightBlock("b0", "fc.1", "bias", "float32", 3, 0, 64, (16,), (1,), (3,)))
    'Bias of "fc.1": float32, (16), of which (3) are used.'
    """
    sizes = size_text(block.dimensions)
    used = "" if block.used == block.dimensions else f", of which {size_text(block.used)} are used"
    return f"{block.role.capitalize()} of {c_literal(block.layer)}: {block.dtype}, {sizes}{used}."


def size_text(sizes: Sequence[int]) -> str:
    """Sizes in a comment.

    >>> size_text((3, 4)), size_text((3,))
    ('(3, 4)', '(3)')
    """
    return f"({', '.join(map(str, sizes))})"


def c_texture(texture: TextureLayout, prefix: str, identifiers: Identifiers) -> CTexture:
    """A texture's numbers."""
    stem = identifiers.unique(plain(texture.name) or "texture", lambda stem: [f"{prefix}_{stem}"])
    return CTexture(f"{prefix}_{stem}".lower(), texture_comment(texture), texture)


def texture_comment(texture: TextureLayout) -> str:
    """A texture in words."""
    held = ", ".join(str(channel) for channel in texture.channels if channel >= 0)
    return f"Features {held} of {c_literal(texture.input)}: {texture.pixel_format}."


def c_function(
    function: ShaderFunction,
    prefix: str,
    identifiers: Identifiers,
    rows: dict[tuple[str, str], str],
) -> CFunction:
    """A function's numbers, and the parameters of the one that fills its argument table."""
    names = [slot.argument.name for slot in function.slots]
    word = identifiers.unique(
        plain(function.word) or "function",
        lambda word: [
            *(f"{prefix}_{verb}{word}" for verb in ("", "bind_", "draw_", "set_")),
            *(f"{prefix}_{word}_{name}_index" for name in names),
        ],
    ).lower()
    own = Identifiers(LOCALS.split())
    slots = tuple(c_slot(slot, f"{prefix}_{word}", own, rows) for slot in function.slots)
    return CFunction(
        function=f"{prefix}_{word}",
        word=word,
        comment=function_comment(function),
        slots=slots,
        macros=tuple(Macro(slot.index, str(slot.slot.index)) for slot in slots),
        attachments=tuple(map(attachment_text, function.entry.attachments)),
        planned=function,
    )


def c_slot(
    slot: Slot, start: str, identifiers: Identifiers, rows: dict[tuple[str, str], str]
) -> CSlot:
    """A slot's index and parameter."""
    name = plain(slot.argument.name) or slot.holds
    shared = {"tensor": "tensors", "texture": "textures"}.get(slot.holds, slot.holds)
    parameter = (
        identifiers.unique(name, lambda name: [name], C_WORDS) if slot.holds == "rows" else shared
    )
    length = ""
    if slot.holds == "rows":
        key = (slot.argument.role, str(slot.argument.port))
        macro = rows.get(key) or rows[("output", key[1])]  # an output that a later pass reads
        length = f"{'' if slot.uniform else 'points * '}{macro} * {slot.element_bytes}"
    return CSlot(parameter, f"{start}_{name}_INDEX".upper(), slot, length)


def function_comment(function: ShaderFunction) -> str:
    """A function in words."""
    entry = function.entry
    if entry.stage == "fragment":
        return f"Fragment function {entry.name}: inputs from {entry.inputs}s."
    points = entry.points_per_threadgroup
    covered = (
        f"{points} points" if entry.tile is None else f"tiles of {entry.tile[0]} × {entry.tile[1]}"
    )
    return f"Compute function {entry.name}: inputs from {entry.inputs}s, {covered} a threadgroup."


def attachment_text(attachment: Attachment) -> str:
    """What a color attachment holds, in words.

    >>> attachment_text(Attachment(1, "rest", "normal", 4, 2))
    'color(1): features 4 to 5 of "normal"'
    """
    last = attachment.first + attachment.channels - 1
    features = (
        f"features {attachment.first} to {last}" if last > attachment.first else (f"feature {last}")
    )
    return f"color({attachment.index}): {features} of {c_literal(attachment.output)}"
