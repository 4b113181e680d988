"""The layout as a header of plain numbers, for C11, C++14, Objective-C and Metal shaders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from metal4conv.layout.document import FORMAT, allowed_sizes
from metal4conv.layout.emit.expressions import Language, render, shape_text
from metal4conv.layout.emit.identifiers import C_WORDS, Identifiers, c_literal, plain
from metal4conv.layout.emit.plan import BoundTensor, Condition, Plan
from metal4conv.layout.emit.templates import fill
from metal4conv.layout.rules import MAXIMUM_RANK, ROW_ALIGNMENT
from metal4conv.layout.sizes import Size
from metal4conv.mil.program import Dimension

FUNCTIONS = {
    "//": "metal4conv_floordiv",
    "ceildiv": "metal4conv_ceildiv",
    "align": "metal4conv_align",
    "min": "metal4conv_min",
    "max": "metal4conv_max",
}

WIDTH = 85
"""Characters of a list that stays on one line."""


@dataclass(frozen=True)
class Macro:
    """A `#define` of a plain number or string."""

    name: str
    text: str
    comment: str = ""


@dataclass(frozen=True)
class CTensor:
    """What the template shows of a tensor; lists are the elements of C initializers."""

    function: str
    stem: str
    comment: str
    macros: tuple[Macro, ...]
    dimensions: str
    strides: str
    cpu_strides: str
    byte_length: str
    cpu_byte_length: str
    formulas: tuple[str, ...]
    bound: BoundTensor

    @property
    def name_macro(self) -> str:
        """The macro that holds its name."""
        return self.macros[0].name


@dataclass(frozen=True)
class CDimension:
    """A member of the struct of open dimensions."""

    member: str
    comment: str
    default: str
    condition: str
    macros: tuple[Macro, ...]


@dataclass(frozen=True)
class CHeader:
    """What the templates of both C languages show."""

    prefix: str
    package: str
    function: str
    title: str
    origin: str
    dimensions: tuple[CDimension, ...]
    fixed: tuple[Macro, ...]
    enumerated: tuple[str, ...]
    tensors: tuple[CTensor, ...]
    dynamic_inputs: tuple[CTensor, ...]
    max_buffer_bind_count: int

    @property
    def macro(self) -> str:
        """The beginning of the names of macros."""
        return self.prefix.upper()

    @property
    def parameters(self) -> str:
        """The parameter list of functions of the open dimensions."""
        return f"{self.prefix}_dims dims" if self.dimensions else "void"

    @property
    def argument(self) -> str:
        """What is passed to them."""
        return "dims" if self.dimensions else ""


def cpp_text(plan: Plan) -> str:
    """The header."""
    return fill("layout.h.j2", header=c_header(plan), **constants())


def constants() -> dict[str, int]:
    """Numbers that the templates need."""
    return {"maximum_rank": MAXIMUM_RANK, "row_alignment": ROW_ALIGNMENT}


def c_header(plan: Plan) -> CHeader:
    """What a header shows of a plan."""
    package = plan.manifest.package
    prefix = prefix_of(package.name, package.function)
    words = ("dims", "default_dims", "allows", "set_input_dimensions", "bind", "layout_h")
    identifiers = Identifiers(f"{prefix}_{word}" for word in words)
    identifiers.taken.add(f"{prefix}_max_buffer_bind_count")
    members = {name: member_name(name, identifiers) for name in plan.open}
    language = Language(FUNCTIONS, {name: f"dims.{member}" for name, member in members.items()})
    tensors = {
        tensor.layout.name + tensor.layout.role: c_tensor(tensor, prefix, identifiers, language)
        for tensor in plan.tensors
    }
    return CHeader(
        prefix=prefix,
        package=c_literal(package.file),
        function=c_literal(package.function),
        title=f"Tensors of {c_literal(package.file)}, function {c_literal(package.function)}.",
        origin=f"{FORMAT}, SHA-256 of the package: {package.sha256 or 'not computed'}.",
        dimensions=tuple(
            c_dimension(name, members[name], prefix, row, identifiers)
            for name, row in plan.open.items()
        ),
        fixed=tuple(fixed_sizes(plan, prefix, identifiers)),
        enumerated=tuple(choice_text(choices, language) for choices in plan.enumerated),
        tensors=tuple(tensors.values()),
        dynamic_inputs=tuple(
            tensors[tensor.layout.name + tensor.layout.role] for tensor in plan.dynamic_inputs
        ),
        max_buffer_bind_count=plan.manifest.max_buffer_bind_count,
    )


def prefix_of(name: str, function: str) -> str:
    """The beginning of all names of a package.

    >>> prefix_of("Upscaler 2x", "main"), prefix_of("net", "encode")
    ('upscaler_2x', 'net_encode')
    """
    own = plain(name) if function == "main" else plain(f"{name}_{function}")
    prefix = own.lower() or "net"
    return f"{prefix}_net" if prefix == "metal4conv" else prefix  # that of the shared functions


def member_name(name: str, identifiers: Identifiers) -> str:
    """The struct member of a dimension."""
    return identifiers.unique(plain(name) or "size", lambda member: [f"dims.{member}"], C_WORDS)


def c_dimension(
    name: str, member: str, prefix: str, dimension: Dimension, identifiers: Identifiers
) -> CDimension:
    """A dimension, its bounds as macros and as a condition."""
    bounds: list[tuple[str, int | None]] = [("DEFAULT", dimension.default)]
    if not dimension.values:
        bounds += [("MINIMUM", dimension.minimum), ("MAXIMUM", dimension.maximum)]
        bounds += [("STEP", dimension.step)] if dimension.step != 1 else []
    stem = identifiers.unique(
        member, lambda stem: [f"{prefix}_{stem}_{bound.lower()}" for bound, _ in bounds]
    )
    return CDimension(
        member=member,
        comment=f"{c_literal(name)}: {allowed_sizes(dimension)}",
        default=str(dimension.default),
        condition=condition_text(f"dims.{member}", dimension),
        macros=tuple(
            Macro(f"{prefix}_{stem}_{bound}".upper(), wide(size))
            for bound, size in bounds
            if size is not None
        ),
    )


def condition_text(value: str, dimension: Dimension) -> str:
    """Whether a dimension may have a size.

    >>> condition_text("h", Dimension(8, 64, 8, step=8))
    'h >= 8 && h <= 64 && h % 8 == 0'
    >>> condition_text("h", Dimension(1, 3, 1, values=(1, 3)))
    '(h == 1 || h == 3)'
    """
    if dimension.values:
        return f"({' || '.join(f'{value} == {size}' for size in dimension.values)})"
    parts = [f"{value} >= {dimension.minimum}"]
    parts += [] if dimension.maximum is None else [f"{value} <= {dimension.maximum}"]
    parts += [f"{value} % {dimension.step} == 0"] if dimension.step != 1 else []
    return " && ".join(parts)


def fixed_sizes(plan: Plan, prefix: str, identifiers: Identifiers) -> Iterator[Macro]:
    """The dimensions that were given a number, as macros."""
    for name, size in plan.fixed.items():
        wanted = plain(name) or "size"
        stem = identifiers.unique(wanted, lambda stem: [f"{prefix}_{stem}_fixed"])
        yield Macro(f"{prefix}_{stem}_FIXED".upper(), wide(size), c_literal(name))


def choice_text(choices: tuple[Condition, ...], language: Language) -> str:
    """Whether the sizes make one of the shapes that an input allows."""
    texts = (
        " && ".join(f"{render(size, language)} == {number}" for size, number in choice)
        for choice in choices
    )
    return " || ".join(f"({text})" for text in texts)


def c_tensor(
    bound: BoundTensor, prefix: str, identifiers: Identifiers, language: Language
) -> CTensor:
    """A tensor's numbers and formulas."""
    layout = bound.layout
    stem = identifiers.unique(
        plain(layout.name) or layout.role,
        lambda stem: [f"{prefix}_{stem}", *(row.name for row in c_macros(bound, prefix, stem))],
    )
    lists = (layout.dimensions, bound.buffer.strides, layout.cpu_strides)
    dimensions, strides, cpu_strides = (initializer(sizes, language) for sizes in lists)
    return CTensor(
        function=f"{prefix}_{stem}".lower(),
        stem=stem.lower(),
        comment=tensor_comment(bound, c_literal(layout.name)),
        macros=tuple(c_macros(bound, prefix, stem)),
        dimensions=dimensions,
        strides=strides,
        cpu_strides=cpu_strides,
        byte_length=render(bound.buffer.byte_length, language),
        cpu_byte_length=render(bound.cpu_byte_length, language),
        formulas=formulas(bound),
        bound=bound,
    )


def tensor_comment(bound: BoundTensor, name: str) -> str:
    """A tensor in words."""
    layout = bound.layout
    shape = shape_text(layout.coreml.shape)
    return f"{layout.role.capitalize()} {name}: {bound.data_type.name}, {shape} in Core ML."


def formulas(bound: BoundTensor) -> tuple[str, ...]:
    """The manifest's sizes, for a comment."""
    buffer = bound.buffer
    return (
        f"Dimensions {shape_text(bound.layout.dimensions)},",
        f"strides in a buffer {shape_text(buffer.strides)},",
        f"{buffer.byte_length} bytes.",
    )


def initializer(sizes: Iterable[Size], language: Language) -> str:
    """The elements of an array; C has no empty initializers."""
    return listed([render(size, language) for size in sizes], 9) or "0"


def listed(items: Sequence[str], indent: int) -> str:
    """Items with commas between them, each on a line of its own where they are long.

    >>> listed(["1", "2 * h"], 4)
    '1, 2 * h'
    """
    line = ", ".join(items)
    return line if len(line) <= WIDTH else f",\n{' ' * indent}".join(items)


def c_macros(bound: BoundTensor, prefix: str, stem: str) -> Iterator[Macro]:
    """The numbers of a tensor that do not depend on an open dimension."""
    layout, start = bound.layout, f"{prefix}_{stem}".upper()
    yield Macro(f"{start}_NAME", c_literal(layout.name))
    yield Macro(f"{start}_RANK", str(len(layout.dimensions)))
    yield Macro(f"{start}_DATA_TYPE", str(bound.data_type.raw), bound.data_type.constant)
    yield Macro(f"{start}_ELEMENT_BYTES", str(bound.data_type.bytes))
    yield Macro(f"{start}_EXPECTED_BUFFER_INDEX", str(layout.expected_buffer_index))
    lists = {
        "DIMENSION": layout.dimensions,
        "STRIDE": bound.buffer.strides,
        "CPU_STRIDE": layout.cpu_strides,
    }
    for word, sizes in lists.items():
        for position, size in enumerate(sizes):
            if isinstance(size, int):
                yield Macro(f"{start}_{word}_{position}", wide(size))
    lengths = {"BYTE_LENGTH": bound.buffer.byte_length, "CPU_BYTE_LENGTH": bound.cpu_byte_length}
    for word, size in lengths.items():
        if isinstance(size, int):
            yield Macro(f"{start}_{word}", wide(size))


def wide(size: int) -> str:
    """A literal of 64 bits, whose arithmetic does not overflow in C.

    >>> wide(544)
    'METAL4CONV_INT64(544)'
    """
    return f"METAL4CONV_INT64({render(size, Language({}, {}))})"
