"""Sums of products of atoms, the form in which formulas are added, compared and printed.

An atom is a dimension, or a quotient, alignment, minimum or maximum that does not simplify any
further; it is held as its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce

from metal4conv.layout.expression import Binary, Expression, Number, parse, text_of, value_of

Monomial = tuple[str, ...]
"""The texts of the atoms of a product, sorted; the empty one is the constant term."""


@dataclass(frozen=True)
class Polynomial:
    """Coefficients by product of atoms; a coefficient is never zero."""

    terms: Mapping[Monomial, int]

    def __add__(self, other: Polynomial) -> Polynomial:
        terms = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            terms[monomial] = terms.get(monomial, 0) + coefficient
        return polynomial(terms)

    def __sub__(self, other: Polynomial) -> Polynomial:
        return self + other.scaled(-1)

    def __mul__(self, other: Polynomial) -> Polynomial:
        terms: dict[Monomial, int] = {}
        for left, factor in self.terms.items():
            for right, coefficient in other.terms.items():
                monomial = (
                    tuple(sorted(left + right, key=atom_order)) if left and right else left or right
                )
                terms[monomial] = terms.get(monomial, 0) + factor * coefficient
        return polynomial(terms)

    def scaled(self, factor: int) -> Polynomial:
        """All coefficients times `factor`."""
        return polynomial({key: value * factor for key, value in self.terms.items()})

    @property
    def constant(self) -> int | None:
        """The value when there is no atom in it, else None."""
        if not self.terms:
            return 0
        return self.terms[()] if len(self.terms) == 1 and () in self.terms else None

    def is_bounded_by(self, other: Polynomial) -> bool:
        """Whether no coefficient is larger: `other` is not below it where no atom is negative.

        >>> Polynomial({("h", "w"): 2}).is_bounded_by(Polynomial({("h", "w"): 3, ("h",): 1}))
        True
        """
        return all(
            self.terms.get(key, 0) <= other.terms.get(key, 0)
            for key in self.terms.keys() | other.terms.keys()
        )

    def value(self, sizes: Mapping[str, int]) -> int:
        """The value for these sizes; `KeyError` for a size that is not given."""
        total = 0
        for monomial, coefficient in self.terms.items():
            for atom in monomial:
                coefficient *= sizes[atom] if atom in sizes else value_of(parse(atom), sizes)
            total += coefficient
        return total

    def expression(self) -> Expression:
        """The tree: higher degrees first, and a positive term before the negative ones."""
        if self.constant is not None:
            return Number(self.constant)
        ordered = sorted(self.terms, key=lambda key: (-len(key), [atom_order(a) for a in key]))
        first = next((key for key in ordered if self.terms[key] > 0), None)
        result = Number(0) if first is None else product_expression(first, self.terms[first])
        for monomial in ordered:
            coefficient = self.terms[monomial]
            if monomial != first:
                term = product_expression(monomial, abs(coefficient))
                result = Binary("+" if coefficient > 0 else "-", result, term)
        return result


def polynomial(terms: Mapping[Monomial, int]) -> Polynomial:
    """Terms without those that are zero."""
    return Polynomial({key: value for key, value in terms.items() if value})


def constant_polynomial(value: int) -> Polynomial:
    """A plain number."""
    return polynomial({(): value})


def atom_polynomial(atom: Expression) -> Polynomial:
    """An atom alone."""
    return Polynomial({(text_of(atom),): 1})


def sorted_monomial(atoms: Iterable[str]) -> Monomial:
    """The atoms of a product in their order."""
    return tuple(sorted(atoms, key=atom_order))


def atom_order(atom: str) -> tuple[bool, str]:
    """Dimensions before quotients and calls, so that `w*((h+1)//2)` reads unmistakably."""
    return not atom.isidentifier(), atom


def product_expression(monomial: Monomial, coefficient: int) -> Expression:
    """The tree of one term."""
    factors = [parse(atom) for atom in monomial]
    if coefficient != 1 or not factors:
        factors.insert(0, Number(coefficient))
    return reduce(lambda left, right: Binary("*", left, right), factors)
