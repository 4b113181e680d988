"""Formulas over dimension names: `2*h`, `align(w, 32)`, `4*max(h, 2*w)`, `(h+1)//2`.

Grammar, lowest precedence first, all operators from left to right::

    sum     = term  (("+" | "-") term)*
    term    = factor (("*" | "//") factor)*
    factor  = "-" factor | integer | name | name "(" sum ("," sum)* ")" | "(" sum ")"

`//` rounds towards minus infinity, `ceildiv(a, b)` up, and `align(a, b)` is the smallest multiple
of `b` that is not below `a`. A parsed formula is a tree of `Number`, `Name`, `Binary` and `Call`,
which is what code emitters walk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from metal4conv.errors import UsageError, did_you_mean

Operator = Literal["+", "-", "*", "//"]
FunctionName = Literal["ceildiv", "align", "min", "max"]
MAXIMUM_DEPTH = 100
MAXIMUM_TOKENS = 500


@dataclass(frozen=True)
class Number:
    """An integer."""

    value: int


@dataclass(frozen=True)
class Name:
    """A dimension."""

    name: str


@dataclass(frozen=True)
class Binary:
    """Two formulas and the operator between them."""

    operator: Operator
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Call:
    """`ceildiv` and `align` of two formulas, `min` and `max` of one or more."""

    function: FunctionName
    arguments: tuple[Expression, ...]


Expression = Number | Name | Binary | Call


def ceildiv(value: int, divisor: int) -> int:
    """The quotient, rounded up.

    >>> ceildiv(7, 2), ceildiv(8, 2)
    (4, 4)
    """
    return -(-value // divisor)


def align(value: int, multiple: int) -> int:
    """The smallest multiple of `multiple` that is not below `value`.

    >>> align(518, 32), align(544, 32)
    (544, 544)
    """
    return ceildiv(value, multiple) * multiple


OPERATORS: dict[Operator, Callable[[int, int], int]] = {
    "+": int.__add__,
    "-": int.__sub__,
    "*": int.__mul__,
    "//": int.__floordiv__,
}
FUNCTIONS: dict[FunctionName, Callable[..., int]] = {
    "ceildiv": ceildiv,
    "align": align,
    "min": lambda *values: min(values),  # which takes a single number no other way
    "max": lambda *values: max(values),
}
PRECEDENCE: dict[Operator, int] = {"+": 1, "-": 1, "*": 2, "//": 2}


def evaluate(formula: str | int, sizes: Mapping[str, int]) -> int:
    """The value of a formula, or of a plain number, for these sizes.

    >>> evaluate("align(2*w, 32)*h", {"w": 20, "h": 3})
    192
    """
    if isinstance(formula, int):
        return formula
    try:
        return value_of(parse(formula), sizes)
    except KeyError as error:
        name = str(error.args[0])
        raise UsageError(
            f'formula "{formula}" needs the size of "{name}"', hint=did_you_mean(name, sizes)
        ) from None
    except ZeroDivisionError:
        raise UsageError(f'formula "{formula}" divides by zero for {dict(sizes)}') from None


def value_of(expression: Expression, sizes: Mapping[str, int]) -> int:
    """The value of a tree; `KeyError` for a size that is not given."""
    match expression:
        case Number(value):
            return value
        case Name(name):
            return sizes[name]
        case Binary(operator, left, right):
            return OPERATORS[operator](value_of(left, sizes), value_of(right, sizes))
        case Call(function, arguments):
            return FUNCTIONS[function](*(value_of(item, sizes) for item in arguments))


def names(expression: Expression) -> tuple[str, ...]:
    """The dimensions in a tree, each once, in the order of their first use.

    >>> names(parse("w*h + align(w, c)"))
    ('w', 'h', 'c')
    """
    match expression:
        case Number():
            return ()
        case Name(name):
            return (name,)
        case Binary(_, left, right):
            parts: tuple[Expression, ...] = (left, right)
        case Call(_, arguments):
            parts = arguments
    return tuple(dict.fromkeys(name for part in parts for name in names(part)))


def text_of(expression: Expression) -> str:
    """The formula of a tree, with the fewest parentheses that keep it.

    >>> text_of(parse("(2 * ((h + 1) // 2)) + ceildiv((w), 4)"))
    '2*((h+1)//2)+ceildiv(w, 4)'
    """
    match expression:
        case Number(value):
            return str(value)
        case Name(name):
            return name
        case Call(function, arguments):
            return f"{function}({', '.join(map(text_of, arguments))})"
        case Binary(operator, left, right):
            level = PRECEDENCE[operator]
            return f"{operand_text(left, level)}{operator}{operand_text(right, level + 1)}"


def operand_text(operand: Expression, level: int) -> str:
    """An operand of an operator, in parentheses where it binds less tightly than `level`."""
    text = text_of(operand)
    loose = isinstance(operand, Binary) and PRECEDENCE[operand.operator] < level
    negative = isinstance(operand, Number) and operand.value < 0
    return f"({text})" if loose or negative else text


@lru_cache(maxsize=4096)
def parse(text: str) -> Expression:
    """The tree of a formula; `UsageError` with the position of what is wrong.

    >>> parse("2*h")
    Binary(operator='*', left=Number(value=2), right=Name(name='h'))
    """
    parser = Parser(text)
    expression = parser.sum()
    parser.end()
    return expression


TOKEN = re.compile(r"\s*(?:(?P<number>\d+)|(?P<name>[^\W\d]\w*)|(?P<mark>//|[-+*(),]))")


class Parser:
    """Recursive descent over the tokens of one formula; a method per line of the grammar."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.depth = 0
        self.tokens = 0

    def error(self, expected: str) -> UsageError:
        """What was expected at the current position and what is there."""
        rest = self.text[self.position :].strip()
        found = f'"{rest[:12]}"' if rest else "the end"
        skipped = len(self.text[self.position :]) - len(self.text[self.position :].lstrip())
        return UsageError(
            f'formula "{self.text}": expected {expected} at position '
            f"{self.position + skipped + 1}, found {found}",
            hint="a formula has integers, dimension names, + - * //, parentheses, "
            "ceildiv(a, b), align(a, b), min(a, …) and max(a, …)",
        )

    def accept(self, kind: str, wanted: tuple[str, ...] = ()) -> str | None:
        """The next token, passed over, if it is of this kind and among the wanted ones."""
        found = TOKEN.match(self.text, self.position)
        if found is None or (token := found[kind]) is None or (wanted and token not in wanted):
            return None
        self.position = found.end()
        self.tokens += 1
        if self.tokens > MAXIMUM_TOKENS:
            raise self.error(f"a formula of at most {MAXIMUM_TOKENS} numbers, names and marks")
        return token

    def end(self) -> None:
        """Nothing may follow."""
        if self.text[self.position :].strip():
            raise self.error("an operator or the end")

    def sum(self) -> Expression:
        """Terms with `+` and `-` between them."""
        left = self.term()
        while operator := self.accept("mark", ("+", "-")):
            left = Binary("+" if operator == "+" else "-", left, self.term())
        return left

    def term(self) -> Expression:
        """Factors with `*` and `//` between them."""
        left = self.factor()
        while operator := self.accept("mark", ("*", "//")):
            left = Binary("*" if operator == "*" else "//", left, self.factor())
        return left

    def factor(self) -> Expression:
        """A number, a name, a call, a formula in parentheses, or one of these negated."""
        self.depth += 1
        if self.depth > MAXIMUM_DEPTH:
            raise self.error(f"no more than {MAXIMUM_DEPTH} nested parentheses")
        factor = self.primary()
        self.depth -= 1
        return factor

    def primary(self) -> Expression:
        """The part of a factor that comes after the check of its depth."""
        if self.accept("mark", ("-",)):
            factor = self.factor()
            if isinstance(factor, Number):
                return Number(-factor.value)
            return Binary("-", Number(0), factor)
        if number := self.accept("number"):
            return Number(int(number))
        if self.accept("mark", ("(",)):
            inside = self.sum()
            self.close()
            return inside
        before = self.position
        name = self.accept("name")
        if name is None:
            raise self.error('a number, a name or "("')
        if not self.accept("mark", ("(",)):
            return Name(name)
        return self.call(name, before)

    def call(self, name: str, start: int) -> Call:
        """The arguments of a function, after its opening parenthesis."""
        function = next((known for known in FUNCTIONS if known == name), None)
        if function is None:
            self.position = start
            raise self.error(f"one of {', '.join(FUNCTIONS)}")
        arguments = [self.sum()]
        while self.accept("mark", (",",)):
            arguments.append(self.sum())
        if function in ("ceildiv", "align") and len(arguments) != 2:
            self.position = start
            raise self.error(f"two arguments of {function}, got {len(arguments)},")
        self.close()
        return Call(function, tuple(arguments))

    def close(self) -> None:
        """A closing parenthesis."""
        if not self.accept("mark", (")",)):
            raise self.error('an operator or ")"')
