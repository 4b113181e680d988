"""Expressions of elements as Metal text, with the fewest parentheses that keep their meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from metal4conv.shader.network import Call, Element, Expression, Index, Number, Table, Vector
from metal4conv.shader.source_functions import HELPERS, LIBRARY

CONDITION, COMPARISON, SUM, PRODUCT, SIGN, ATOM = range(6)
"""How tightly a text holds together."""

OPERATORS: Mapping[str, tuple[str, int]] = {
    "add": ("+", SUM),
    "subtract": ("-", SUM),
    "multiply": ("*", PRODUCT),
    "divide": ("/", PRODUCT),
}

COMPARISONS: Mapping[str, str] = {
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
}

LOGICAL: Mapping[str, str] = {"logical_and": "&&", "logical_or": "||", "logical_xor": "!="}


@dataclass(frozen=True)
class Text:
    """A piece of an expression, and how tightly it holds together."""

    text: str
    strength: int = ATOM

    def within(self, strength: int) -> str:
        """The text as an operand of something that holds together so tightly.

        >>> Text("a + b", SUM).within(PRODUCT), Text("a * b", PRODUCT).within(SUM)
        ('(a + b)', 'a * b')
        """
        return self.text if self.strength >= strength else f"({self.text})"


@dataclass
class Writer:
    """Writes expressions, and notes which helpers and index tables they need.

    `element` gives a vector's element, `table` that of a table, both for the text of an index.
    """

    prefix: str
    element: Callable[[Vector, str], Text]
    table: Callable[[Table, str], Text]
    helpers: set[str] = field(default_factory=set)
    index_tables: dict[tuple[int, ...], str] = field(default_factory=dict)

    def write(self, expression: Expression, i: str) -> str:
        """The text of an expression for the element whose number is the text `i`."""
        return self.text(expression, i).text

    def text(self, expression: Expression, i: str) -> Text:
        """The same with its strength."""
        match expression:
            case Element(vector, index):
                return self.element(vector, self.index(index, i))
            case Table(_, index):
                return self.table(expression, self.index(index, i))
            case Number(value):
                return number(value)
            case Call():
                return self.call(expression, i)

    def call(self, call: Call, i: str) -> Text:
        """A function of elements."""
        name, arguments = call.function, call.arguments
        if name in OPERATORS:
            return self.operation(call, i)
        if name in COMPARISONS or name in LOGICAL or name == "logical_not":
            return Text(f"{self.condition(call, i).within(COMPARISON)} ? 1.0f : 0.0f", CONDITION)
        match name:
            case "select":
                condition, yes, no = arguments
                choice = self.condition(condition, i).within(COMPARISON)
                first = self.text(yes, i).within(COMPARISON)
                second = self.text(no, i).within(COMPARISON)
                return Text(f"{choice} ? {first} : {second}", CONDITION)
            case "negate":
                return Text(f"-{self.text(arguments[0], i).within(ATOM)}", SIGN)
            case "reciprocal":
                return Text(f"1.0f / {self.text(arguments[0], i).within(SIGN)}", PRODUCT)
            case "relu":
                return self.function("maximum", (*arguments, Number(0.0)), i)
            case "power" if arguments[1] == Number(2.0):
                return self.function("square", arguments[:1], i)
            case "power" if arguments[1] == Number(0.5):
                return self.function("sqrt", arguments[:1], i)
            case "clamp":
                return self.clamp(call, i)
        return self.function(name, arguments, i)

    def operation(self, call: Call, i: str) -> Text:
        """An operator between two operands; the right one holds together more tightly."""
        operator, strength = OPERATORS[call.function]
        left, right = (self.text(argument, i) for argument in call.arguments)
        return Text(f"{left.within(strength)} {operator} {right.within(strength + 1)}", strength)

    def condition(self, expression: Expression, i: str) -> Text:
        """Whether an expression is not 0, as a truth value."""
        if isinstance(expression, Call):
            name, arguments = expression.function, expression.arguments
            if name in COMPARISONS:
                left, right = (self.text(argument, i).within(SUM) for argument in arguments)
                return Text(f"{left} {COMPARISONS[name]} {right}", COMPARISON)
            if name in LOGICAL:
                left, right = (self.condition(argument, i).within(ATOM) for argument in arguments)
                return Text(f"{left} {LOGICAL[name]} {right}", CONDITION)
            if name == "logical_not":
                return Text(f"!{self.condition(arguments[0], i).within(ATOM)}", SIGN)
        return Text(f"{self.text(expression, i).within(SUM)} != 0.0f", COMPARISON)

    def clamp(self, call: Call, i: str) -> Text:
        """A clamp; one whose bound is infinite is a minimum or maximum."""
        value, low, high = call.arguments
        if low == Number(-math.inf):
            return self.function("minimum", (value, high), i)
        if high == Number(math.inf):
            return self.function("maximum", (value, low), i)
        return self.function("clamp", call.arguments, i)

    def function(self, name: str, arguments: tuple[Expression, ...], i: str) -> Text:
        """A call of the library's function or of a helper."""
        texts = ", ".join(self.write(argument, i) for argument in arguments)
        if name in LIBRARY:
            return Text(f"{LIBRARY[name]}({texts})")
        if name not in HELPERS:
            raise NotImplementedError(f"no Metal for the function {name}")
        self.helpers.add(name)
        return Text(f"{self.prefix}_{name}({texts})")

    def index(self, index: Index, i: str) -> str:
        """The number of the element that belongs to the number `i`, a number where `i` is one."""
        if i.isdigit():
            return str(index.at(int(i)))
        if index.table:
            return f"{self.index_table(index.table)}[{i}]"
        return index_text(index, i)

    def index_table(self, table: tuple[int, ...]) -> str:
        """The name of a constant array of indices."""
        return self.index_tables.setdefault(
            table, f"{self.prefix}_indices_{len(self.index_tables)}"
        )


def index_text(index: Index, i: str) -> str:
    """The formula of an index map.

    >>> index_text(Index(), "i"), index_text(Index(3), "i"), index_text(Index(1, 2, 4, 3), "i")
    ('i', '3 + i', '1 + 2 * (i / 4 % 3)')
    >>> index_text(Index(5, -1), "i"), index_text(Index(2, 0), "i"), index_text(Index(), "i - 3")
    ('5 - i', '2', 'i - 3')
    """
    if index.stride == 0:
        return str(index.offset)
    step = Text(i, ATOM if i.isidentifier() else SUM)
    if index.divisor > 1:
        step = Text(f"{step.within(ATOM)} / {index.divisor}", PRODUCT)
    if index.modulus:
        step = Text(f"{step.within(PRODUCT)} % {index.modulus}", PRODUCT)
    size = abs(index.stride)
    if size > 1:
        step = Text(f"{size} * {step.within(ATOM)}", PRODUCT)
    if index.stride < 0:
        return f"{index.offset} - {step.within(PRODUCT)}"
    return step.text if index.offset == 0 else f"{index.offset} + {step.text}"


def number(value: float) -> Text:
    """A number as a float literal: the shortest that reads back the same float.

    >>> [number(value).text for value in (0.1, 2.0, -1.5e-8, 16777217.0, math.inf)]
    ['0.1f', '2.0f', '-1.5e-08f', '1.6777216e+07f', 'INFINITY']
    """
    with np.errstate(over="ignore"):
        single = np.float32(value)
    if np.isnan(single):
        return Text("NAN")
    if np.isinf(single):
        return Text("INFINITY") if single > 0 else Text("-INFINITY", SIGN)
    text = str(single)
    if "e" not in text and "." not in text:
        text += ".0"
    return Text(f"{text}f", SIGN if text.startswith("-") else ATOM)
