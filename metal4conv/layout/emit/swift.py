"""The layout as a Swift file: a struct of the open dimensions that creates and binds tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metal4conv.layout.document import FORMAT, allowed_sizes
from metal4conv.layout.emit.cpp import condition_text, formulas, listed, tensor_comment
from metal4conv.layout.emit.expressions import Language, Statements, render
from metal4conv.layout.emit.identifiers import (
    SWIFT_WORDS,
    Identifiers,
    camel_case,
    plain,
    swift_literal,
)
from metal4conv.layout.emit.plan import BoundTensor, Condition, Plan
from metal4conv.layout.emit.templates import fill
from metal4conv.layout.rules import MAXIMUM_RANK, ROW_ALIGNMENT
from metal4conv.layout.sizes import Size
from metal4conv.mil.program import Dimension

FUNCTIONS = {
    "//": "Self.floorDivide",
    "ceildiv": "Self.ceilDivide",
    "align": "Self.align",
    "min": "Swift.min",
    "max": "Swift.max",
}

MEMBERS = (
    "packageFile",
    "packageSHA256",
    "function",
    "maxBufferBindCount",
    "tensors",
    "setInputDimensions",
    "makeArgumentTable",
    "bind",
    "allows",
    "floorDivide",
    "ceilDivide",
    "align",
    "extents",
    "Tensor",
    "Failure",
    "hash",
    "hashValue",
)
"""Names that the struct has anyhow."""

PARAMETERS = ("table", "bindings", "descriptor", "device")
"""Names of parameters, beside which a tensor's is one."""


@dataclass(frozen=True)
class SwiftTensor:
    """What the template shows of a tensor; lists are array literals."""

    member: str
    name: str
    comment: str
    formulas: tuple[str, ...]
    parts: tuple[tuple[str, str], ...]
    dimensions: str
    strides: str
    cpu_strides: str
    byte_length: str
    cpu_byte_length: str
    bound: BoundTensor


@dataclass(frozen=True)
class SwiftDimension:
    """A stored property of the struct."""

    member: str
    comment: str
    default: str
    condition: str
    name: str


@dataclass(frozen=True)
class SwiftChoice:
    """The open sizes of an input that enumerates its shapes, and the lists that they may be."""

    sizes: str
    allowed: str


@dataclass(frozen=True)
class SwiftFile:
    """What the template shows."""

    type: str
    package: str
    function: str
    sha256: str
    origin: str
    dimensions: tuple[SwiftDimension, ...]
    fixed: tuple[tuple[str, int], ...]
    enumerated: tuple[SwiftChoice, ...]
    tensors: tuple[SwiftTensor, ...]
    dynamic_inputs: tuple[SwiftTensor, ...]
    max_buffer_bind_count: int


def swift_text(plan: Plan) -> str:
    """The file."""
    package = plan.manifest.package
    identifiers = Identifiers((*MEMBERS, *PARAMETERS))
    members = {name: member_name(name, "size", identifiers) for name in plan.open}
    language = Language(FUNCTIONS, members)
    tensors = [swift_tensor(tensor, identifiers, language) for tensor in plan.tensors]
    file = SwiftFile(
        type=type_name(package.name, package.function),
        package=swift_literal(package.file),
        function=swift_literal(package.function),
        sha256=swift_literal(package.sha256 or ""),
        origin=f"{FORMAT}, SHA-256 of the package: {package.sha256 or 'not computed'}.",
        dimensions=tuple(
            swift_dimension(name, members[name], row) for name, row in plan.open.items()
        ),
        fixed=tuple((swift_literal(name), size) for name, size in plan.fixed.items()),
        enumerated=tuple(choice_of(choices, language) for choices in plan.enumerated),
        tensors=tuple(tensors),
        dynamic_inputs=tuple(item for item in tensors if item.bound in plan.dynamic_inputs),
        max_buffer_bind_count=plan.manifest.max_buffer_bind_count,
    )
    return fill(
        "layout.swift.j2", file=file, maximum_rank=MAXIMUM_RANK, row_alignment=ROW_ALIGNMENT
    )


def type_name(name: str, function: str) -> str:
    """The struct's name.

    >>> type_name("Upscaler 2x", "main"), type_name("net", "encode"), type_name("?", "main")
    ('Upscaler2xLayout', 'NetEncodeLayout', 'NetLayout')
    """
    own = camel_case(plain(name if function == "main" else f"{name}_{function}")) or "net"
    return f"{own[:1].upper()}{own[1:]}Layout"


def member_name(name: str, otherwise: str, identifiers: Identifiers) -> str:
    """A property's name; `otherwise` for a name without letters."""
    return identifiers.unique(
        camel_case(plain(name)) or otherwise,
        lambda member: [member, f"{member}Tensor"],  # which is the parameter's name
        SWIFT_WORDS,
    )


def swift_dimension(name: str, member: str, dimension: Dimension) -> SwiftDimension:
    """A dimension with its bounds."""
    return SwiftDimension(
        member=member,
        comment=f"{swift_literal(name)}: {allowed_sizes(dimension)}",
        default=str(dimension.default),
        condition=(
            f"{list(dimension.values)}.contains({member})"  # quicker to type-check than many `||`
            if dimension.values
            else condition_text(member, dimension)
        ),
        name=swift_literal(name),
    )


def choice_of(choices: tuple[Condition, ...], language: Language) -> SwiftChoice:
    """The open sizes of an input, and those that they may be."""
    formulas = dict.fromkeys(size for choice in choices for size, _ in choice)
    rows = [str([dict(choice)[size] for size in formulas]) for choice in choices]
    return SwiftChoice(
        sizes=array_literal([render(size, language) for size in formulas]),
        allowed=array_literal(rows),
    )


def array_literal(items: Sequence[str]) -> str:
    """An array, with a line for each element where they are long.

    >>> array_literal(["1", "2 * h"])
    '[1, 2 * h]'
    """
    text = listed(items, 16)
    return f"[\n{' ' * 16}{text}\n{' ' * 12}]" if "\n" in text else f"[{text}]"


def swift_tensor(bound: BoundTensor, identifiers: Identifiers, language: Language) -> SwiftTensor:
    """A tensor's numbers and formulas."""
    layout, parts = bound.layout, Statements()

    def array(sizes: tuple[Size, ...]) -> str:
        return array_literal([render(size, language, parts) for size in sizes])

    lists = (layout.dimensions, bound.buffer.strides, layout.cpu_strides)
    dimensions, strides, cpu_strides = map(array, lists)
    return SwiftTensor(
        member=member_name(layout.name, layout.role, identifiers),
        name=swift_literal(layout.name),
        comment=tensor_comment(bound, swift_literal(layout.name)),
        formulas=formulas(bound),
        dimensions=dimensions,
        strides=strides,
        cpu_strides=cpu_strides,
        byte_length=render(bound.buffer.byte_length, language, parts),
        cpu_byte_length=render(bound.cpu_byte_length, language, parts),
        parts=tuple(parts.lines),
        bound=bound,
    )
