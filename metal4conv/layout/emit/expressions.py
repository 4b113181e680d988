"""Formulas as expressions of other languages, with the values that `expression.evaluate` gives.

C and Swift round quotients towards zero, so `//`, `ceildiv` and `align` become calls of functions
that stand in the emitted text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metal4conv.errors import UnsupportedModel
from metal4conv.layout.expression import (
    PRECEDENCE,
    Binary,
    Call,
    Expression,
    Name,
    Number,
    names,
    parse,
    value_of,
)
from metal4conv.layout.sizes import Size

LARGEST = 2**63 - 1
"""Sizes are 64-bit integers in all languages."""

MOST_SPACES = 8
"""In one operand of a Swift expression, two for each infix operator.

Swift's type checker takes very long for long expressions that are full of literals.
"""


@dataclass(frozen=True)
class Language:
    """How a language spells the functions of formulas, and a dimension.

    `functions` has the keys `//`, `ceildiv`, `align`, `min` and `max`; `dimensions` holds an
    expression for each dimension.
    """

    functions: Mapping[str, str]
    dimensions: Mapping[str, str]


@dataclass
class Statements:
    """Parts of long formulas, each under a name of its own: (name, expression).

    Names of dimensions and tensors never begin with an underscore.
    """

    lines: list[tuple[str, str]] = field(default_factory=list)

    def name(self, expression: str) -> str:
        """The name of a part; equal parts have one name.

        >>> parts = Statements()
        >>> parts.name("2 * h"), parts.name("3 * h"), parts.name("2 * h")
        ('_part1', '_part2', '_part1')
        """
        known = {text: name for name, text in self.lines}
        if expression not in known:
            known[expression] = f"_part{len(self.lines) + 1}"
            self.lines.append((known[expression], expression))
        return known[expression]


def render(size: Size, language: Language, parts: Statements | None = None) -> str:
    """The expression of a size; with `parts`, long ones are cut into several statements.

    `UnsupportedModel` for a number that does not fit, or a division by zero.

    >>> c = Language({"//": "floordiv", "align": "align"}, {"h": "dims.h", "w": "dims.w"})
    >>> render("2*(h+1)*align(w, 32)", c), render("(h-5)//2", c), render(7, c)
    ('2 * (dims.h + 1) * align(dims.w, 32)', 'floordiv(dims.h - 5, 2)', '7')
    """
    tree = Number(size) if isinstance(size, int) else parse(size)
    try:
        return Renderer(language, parts).text(folded(tree))
    except ZeroDivisionError:
        raise UnsupportedModel(f'formula "{size}" divides by zero') from None


def folded(expression: Expression) -> Expression:
    """The tree with a number for each part without names, so that no literals are multiplied.

    Two literals would be multiplied in 32 bits by C.
    """
    if not names(expression):
        return Number(value_of(expression, {}))
    match expression:
        case Binary(operator, left, right):
            return Binary(operator, folded(left), folded(right))
        case Call(function, arguments):
            return Call(function, tuple(map(folded, arguments)))
        case _:
            return expression


class Renderer:
    """Walks one tree; `parts` is None for a language without a limit on expressions."""

    def __init__(self, language: Language, parts: Statements | None) -> None:
        self.language = language
        self.parts = parts

    def text(self, expression: Expression) -> str:
        """The expression of a tree."""
        match expression:
            case Number(value):
                return number(value)
            case Name(name):
                return self.language.dimensions[name]
            case Binary("//", left, right):
                return self.call("//", left, right)
            case Binary(operator, left, right):
                level = PRECEDENCE[operator]
                first, second = self.operand(left, level), self.operand(right, level + 1)
                return f"{first} {operator} {second}"
            case Call("min" | "max", (argument,)):
                return self.text(argument)
            case Call("min" | "max" as function, (first_argument, *others)):
                return self.call(function, first_argument, Call(function, tuple(others)))
            case Call(function, arguments):
                return self.call(function, *arguments)

    def call(self, function: str, *arguments: Expression) -> str:
        """A call of one of the language's functions."""
        texts = ", ".join(self.operand(argument, 0) for argument in arguments)
        return f"{self.language.functions[function]}({texts})"

    def operand(self, operand: Expression, level: int) -> str:
        """An operand, in parentheses where it binds less tightly, or by name where it is long."""
        if isinstance(operand, Call) and len(operand.arguments) == 1:
            return self.operand(operand.arguments[0], level)
        if isinstance(operand, Number) and operand.value < 0:
            return number(operand.value) if level == 0 else f"({number(operand.value)})"
        text = self.text(operand)
        if self.parts is not None and text.count(" ") >= MOST_SPACES:
            return self.parts.name(text)
        is_infix = isinstance(operand, Binary) and operand.operator != "//"
        loose = isinstance(operand, Binary) and PRECEDENCE[operand.operator] < level
        return f"({text})" if is_infix and loose else text


def number(value: int) -> str:
    """A literal; `UnsupportedModel` where it does not fit into 64 bits."""
    if abs(value) > LARGEST:
        raise UnsupportedModel(f"the size {value} does not fit into 64 bits")
    return str(value)


def shape_text(sizes: tuple[Size, ...]) -> str:
    """Sizes for a comment.

    >>> shape_text((1, 3, "2*h", "w"))
    '(1, 3, 2*h, w)'
    """
    return f"({', '.join(map(str, sizes))})"


def dimension_names(size: Size) -> tuple[str, ...]:
    """The dimensions that a size depends on.

    >>> dimension_names("2*h+w"), dimension_names(4)
    (('h', 'w'), ())
    """
    return () if isinstance(size, int) else names(parse(size))
