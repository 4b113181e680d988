"""Formulas in canonical form, so that equal formulas read the same.

Dimensions are sizes: simplification assumes that no divisor is zero, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from math import gcd

from metal4conv.layout.expression import (
    Binary,
    Call,
    Expression,
    FunctionName,
    Name,
    Number,
    align,
    parse,
    text_of,
)
from metal4conv.layout.polynomial import (
    Monomial,
    Polynomial,
    atom_polynomial,
    constant_polynomial,
    polynomial,
    sorted_monomial,
)


@lru_cache(maxsize=4096)
def of_text(formula: str) -> Polynomial:
    """The canonical form of a formula."""
    return of_expression(parse(formula))


def of_size(size: int | str) -> Polynomial:
    """The canonical form of a number or formula."""
    return constant_polynomial(size) if isinstance(size, int) else of_text(size)


def of_expression(expression: Expression) -> Polynomial:
    """The canonical form of a tree."""
    match expression:
        case Number(value):
            return constant_polynomial(value)
        case Name():
            return atom_polynomial(expression)
        case Binary("//", left, right):
            return quotient(of_expression(left), of_expression(right))
        case Binary(operator, left, right):
            first, second = of_expression(left), of_expression(right)
            if operator == "*":
                return first * second
            return first + second if operator == "+" else first - second
        case Call("ceildiv", (value, divisor)):
            return quotient_up(of_expression(value), of_expression(divisor))
        case Call("align", (value, multiple)):
            return aligned(of_expression(value), of_expression(multiple))
        case Call(function, arguments):
            return extremum(function, map(of_expression, arguments))


def quotient(value: Polynomial, divisor: Polynomial) -> Polynomial:
    """`value // divisor`: what divides evenly leaves the quotient, nested quotients become one.

    `(4*h+2*w+5)//4` is `h+w//2+1`, and `((h+1)//2+1)//2` is `(h+3)//4`.
    """
    number = divisor.constant
    if number is None or number <= 0:
        exact = exact_quotient(value, divisor)
        if exact is not None:
            return exact
        return atom_polynomial(Binary("//", value.expression(), divisor.expression()))
    whole, rest = split(value, number)
    if rest.constant is not None:
        return whole
    common = gcd(number, *(factor for key, factor in rest.terms.items() if key))
    reduced = polynomial({key: factor // common for key, factor in rest.terms.items()})
    return whole + reduced_quotient(reduced, number // common)


def reduced_quotient(value: Polynomial, number: int) -> Polynomial:
    """`value // number` when `number` divides no term of it."""
    if number == 1:
        return value
    inner = inner_quotient(value)
    if inner is None:
        return atom_polynomial(Binary("//", value.expression(), Number(number)))
    dividend, inner_number = inner
    shift = constant_polynomial(inner_number * value.terms.get((), 0))
    return quotient(dividend + shift, constant_polynomial(number * inner_number))


def split(value: Polynomial, number: int) -> tuple[Polynomial, Polynomial]:
    """The terms that `number` divides, divided; and the others, with a constant below `number`."""
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for monomial, coefficient in value.terms.items():
        if monomial and coefficient % number:
            rest[monomial] = coefficient
        else:
            whole[monomial], rest[monomial] = divmod(coefficient, number)
    return polynomial(whole), polynomial(rest)


def inner_quotient(value: Polynomial) -> tuple[Polynomial, int] | None:
    """`x` and `number` of a formula that is `x // number`, plus a constant."""
    terms: Mapping[Monomial, int] = {key: factor for key, factor in value.terms.items() if key}
    if len(terms) != 1 or set(terms.values()) != {1}:
        return None
    (monomial,) = terms
    match [parse(atom) for atom in monomial]:
        case [Binary("//", dividend, Number(number))] if number > 0:
            return of_expression(dividend), number
    return None


def exact_quotient(value: Polynomial, divisor: Polynomial) -> Polynomial | None:
    """The quotient that leaves no rest whatever the sizes, if it can be seen."""
    if value == divisor and value.constant is None:
        return constant_polynomial(1)
    if len(divisor.terms) != 1 or divisor.constant is not None:
        return None
    ((monomial, factor),) = divisor.terms.items()
    removed = Counter(monomial)
    if any(removed - Counter(key) or c % factor for key, c in value.terms.items()):
        return None
    return polynomial(
        {
            sorted_monomial((Counter(key) - removed).elements()): c // factor
            for key, c in value.terms.items()
        }
    )


def quotient_up(value: Polynomial, divisor: Polynomial) -> Polynomial:
    """`ceildiv(value, divisor)`; by a number it is `(value+number-1)//number`."""
    number = divisor.constant
    if number is not None and number > 0:
        return quotient(value + constant_polynomial(number - 1), divisor)
    exact = exact_quotient(value, divisor)
    if exact is not None:
        return exact
    return atom_polynomial(Call("ceildiv", (value.expression(), divisor.expression())))


def aligned(value: Polynomial, multiple: Polynomial) -> Polynomial:
    """`align(value, multiple)`: terms that are multiples already stand outside."""
    number = multiple.constant
    if number is None or number <= 0:
        return atom_polynomial(Call("align", (value.expression(), multiple.expression())))
    whole, rest = split(value, number)
    if rest.constant is not None:
        return whole.scaled(number) + constant_polynomial(align(rest.constant, number))
    atom = Call("align", (rest.expression(), Number(number)))
    return whole.scaled(number) + atom_polynomial(atom)


def extremum(function: FunctionName, arguments: Iterable[Polynomial]) -> Polynomial:
    """`min` or `max`: nested ones flat, of two that differ by a number only one stays."""
    kept: list[Polynomial] = []
    for candidate in flattened(function, arguments):
        for position, other in enumerate(kept):
            difference = (candidate - other).constant
            if difference is not None:
                if difference > 0 if function == "max" else difference < 0:
                    kept[position] = candidate
                break
        else:
            kept.append(candidate)
    if len(kept) == 1:
        return kept[0]
    trees = sorted((item.expression() for item in kept), key=argument_order)
    return atom_polynomial(Call(function, tuple(trees)))


def flattened(function: FunctionName, arguments: Iterable[Polynomial]) -> Iterable[Polynomial]:
    """The arguments, with those of a nested call of the same function in its place."""
    for argument in arguments:
        match argument.expression():
            case Call(inner, parts) if inner == function:
                yield from map(of_expression, parts)
            case _:
                yield argument


def argument_order(argument: Expression) -> tuple[bool, str]:
    """Formulas by their text, the plain number last."""
    return isinstance(argument, Number), text_of(argument)
