"""Arithmetic on sizes that are plain numbers or formulas; a result without names is a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce

from metal4conv.layout.canonical import aligned, extremum, of_expression, of_size
from metal4conv.layout.expression import Binary, Call, Expression, Name, Number, parse, text_of
from metal4conv.layout.polynomial import Polynomial, constant_polynomial

Size = int | str


def is_unknown(size: Size) -> bool:
    """Whether a size is only known when the program runs: `?0`.

    >>> is_unknown("?0"), is_unknown("2*h"), is_unknown(3)
    (True, False, False)
    """
    return isinstance(size, str) and size.startswith("?")


def simplify(size: Size) -> Size:
    """The canonical form of a formula, a number where it has no names.

    >>> simplify("h * w * 4 * 2"), simplify("2*(3+h)-2*h")
    ('8*h*w', 6)
    """
    return size if isinstance(size, int) or is_unknown(size) else size_of(of_size(size))


def size_of(polynomial: Polynomial) -> Size:
    """A canonical form as number or text."""
    number = polynomial.constant
    return text_of(polynomial.expression()) if number is None else number


def product(sizes: Iterable[Size]) -> Size:
    """All sizes multiplied; 1 for none.

    >>> product([2, "h", 4]), product([])
    ('8*h', 1)
    """
    return size_of(product_polynomial(sizes))


def product_polynomial(sizes: Iterable[Size]) -> Polynomial:
    """All sizes multiplied, for further arithmetic."""
    number = 1
    formulas: list[Polynomial] = []
    for size in sizes:
        if isinstance(size, int):
            number *= size
        else:
            formulas.append(of_size(size))
    return reduce(Polynomial.__mul__, formulas, constant_polynomial(number))


def total(sizes: Iterable[Size]) -> Size:
    """All sizes added; 0 for none.

    >>> total([2, "h", "h"])
    '2*h+2'
    """
    return size_of(reduce(Polynomial.__add__, map(of_size, sizes), constant_polynomial(0)))


def align_size(size: Size, multiple: int) -> Size:
    """The smallest multiple that is not below `size`.

    >>> align_size(518, 32), align_size("2*w", 32)
    (544, 'align(2*w, 32)')
    """
    return size_of(aligned(of_size(size), constant_polynomial(multiple)))


def largest(sizes: Iterable[Size]) -> Size:
    """The largest of some sizes.

    >>> largest([4, "h", 7])
    'max(h, 7)'
    """
    return size_of(extremum("max", map(of_size, sizes)))


def substitute(size: Size, known: Mapping[str, int]) -> Size:
    """The size with numbers in the place of known names.

    >>> substitute("2*h*align(w, 32)", {"w": 20}), substitute("2*h", {"h": 3})
    ('64*h', 6)
    """
    if isinstance(size, int) or is_unknown(size):
        return size
    return size_of(of_expression(replace_names(parse(size), known)))


def replace_names(expression: Expression, known: Mapping[str, int]) -> Expression:
    """The tree with numbers in the place of known names."""
    match expression:
        case Number():
            return expression
        case Name(name):
            return Number(known[name]) if name in known else expression
        case Binary(operator, left, right):
            return Binary(operator, replace_names(left, known), replace_names(right, known))
        case Call(function, arguments):
            return Call(function, tuple(replace_names(item, known) for item in arguments))
