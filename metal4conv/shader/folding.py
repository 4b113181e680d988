"""Making a network's steps fewer: constant factors move into weights, what nobody needs goes.

All that is done is exact in real numbers; it is computed in float64 and rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metal4conv.shader.contents import (
    Applied,
    Draft,
    DraftAssign,
    DraftConvolution,
    DraftLinear,
    Fixed,
    Formula,
    Picked,
    Weighted,
    formulas_of,
    label_of,
    mapped,
    operations_in,
    picked_leaves,
    vectors_read,
    with_formulas,
)
from metal4conv.shader.naming import stem_of
from metal4conv.shader.network import Vector


@dataclass(frozen=True)
class Folded:
    """Steps after folding, and what became of operations that left none, by their names."""

    steps: tuple[Draft, ...]
    folded: dict[str, str]


def fold(
    steps: Sequence[Draft], outputs: Collection[Vector], free_name: Callable[[str], str]
) -> Folded:
    """The steps without constant arithmetic around weights, copies, and what nobody needs.

    `free_name` makes an identifier, for what is no longer what its name says.
    """
    folded: dict[str, str] = {}
    found = list(steps)
    found = with_scales_after(found, outputs, folded)
    found = with_scales_before(found, outputs, folded, free_name)
    found = without_copies(found, outputs)
    return Folded(tuple(needed(found, outputs)), folded)


def with_scales_after(
    steps: Sequence[Draft], outputs: Collection[Vector], folded: dict[str, str]
) -> list[Draft]:
    """Factors and summands of a layer's result in its weight and one bias.

    Before: `relu((W x + b) * s + t)`; after: `relu(sW x + (sb + t))`.
    """
    found = list(steps)
    for place, step in enumerate(found):
        if not isinstance(step, Weighted) or step.result in outputs:
            continue
        readers = [k for k, other in enumerate(found) if step.result in vectors_read(other)]
        if len(readers) != 1 or isinstance(found[readers[0]], Weighted):
            continue
        reader = found[readers[0]]
        uses = [leaf for f in formulas_of(reader) for leaf in picked_leaves(f)]
        uses = [leaf for leaf in uses if leaf.vector == step.result]
        if len(uses) != 1 or not is_permutation(uses[0]):
            continue
        (leaf,) = uses
        formulas = []
        for formula in formulas_of(reader):
            outer = affine_chain(formula, leaf)
            if outer is None or len(list(operations_in(outer.formula))) < 2:
                formulas.append(formula)
                continue
            gone = {item.label for item in operations_in(outer.formula)} - {step.label}
            folded |= dict.fromkeys(gone, f"folded into {step.label}")
            rows = np.ones(step.result.width)
            rows[leaf.places] = outer.factor
            found[place] = scaled(step, rows)
            formulas.append(replaced(formula, outer.formula, with_bias(leaf, outer)))
        found[readers[0]] = with_formulas(reader, formulas)
    return found


@dataclass(frozen=True, eq=False)
class Affine:
    """A formula that is `factor * inner + summand`, with constants for each element."""

    formula: Formula
    inner: Formula
    factor: np.ndarray
    summand: np.ndarray


def affine(formula: Formula) -> Affine:
    """A formula taken apart into constant factors and summands, and what they are applied to."""
    width = len(formula)
    nothing = Affine(formula, formula, np.ones(width), np.zeros(width))
    if not isinstance(formula, Applied):
        return nothing
    match formula.function, formula.arguments:
        case "negate", (x,):
            inside = affine(x)
            return Affine(formula, inside.inner, -inside.factor, -inside.summand)
        case ("add", (x, Fixed(values))) | ("add", (Fixed(values), x)):
            inside = affine(x)
            return Affine(formula, inside.inner, inside.factor, inside.summand + values)
        case "subtract", (x, Fixed(values)):
            inside = affine(x)
            return Affine(formula, inside.inner, inside.factor, inside.summand - values)
        case "subtract", (Fixed(values), x):
            inside = affine(x)
            return Affine(formula, inside.inner, -inside.factor, values - inside.summand)
        case ("multiply", (x, Fixed(values))) | ("multiply", (Fixed(values), x)):
            inside = affine(x)
            return Affine(formula, inside.inner, inside.factor * values, inside.summand * values)
        case "divide", (x, Fixed(values)) if np.all(values != 0):
            inside = affine(x)
            return Affine(formula, inside.inner, inside.factor / values, inside.summand / values)
    return nothing


def affine_chain(formula: Formula, leaf: Picked) -> Affine | None:
    """The largest affine formula of just this leaf within a formula."""
    found = affine(formula)
    if found.inner is leaf and formula is not leaf:
        return found
    if isinstance(formula, Applied):
        for argument in formula.arguments:
            if (inside := affine_chain(argument, leaf)) is not None:
                return inside
    return None


def with_bias(leaf: Picked, outer: Affine) -> Formula:
    """What is left of an affine formula once its factor is in the weight."""
    if not np.any(outer.summand):
        return leaf
    label = next(operations_in(outer.formula)).label
    return Applied("add", (leaf, Fixed(outer.summand)), label)


def replaced(formula: Formula, old: Formula, new: Formula) -> Formula:
    """A formula with one part of it replaced."""
    if formula is old:
        return new
    if not isinstance(formula, Applied):
        return formula
    items = tuple(replaced(argument, old, new) for argument in formula.arguments)
    return replace(formula, arguments=items)


def scaled(step: DraftLinear | DraftConvolution, rows: np.ndarray) -> Draft:
    """A layer whose results come multiplied."""
    return replace(step, weight=step.weight * rows.reshape(-1, *[1] * (step.weight.ndim - 1)))


def with_scales_before(
    steps: Sequence[Draft],
    outputs: Collection[Vector],
    folded: dict[str, str],
    free_name: Callable[[str], str],
) -> list[Draft]:
    """Factors of a layer's operand in the columns of its weight.

    Before: `W (s * relu(x))`; after: `(Ws) relu(x)`. A summand stays where it is, although it
    could go into the bias: operands may be rounded to float16, and of 1000.3 - 1000 little is left
    when the difference is taken of the rounded number.
    """
    found = list(steps)
    for place, step in enumerate(found):
        if not isinstance(step, DraftAssign) or step.result in outputs:
            continue
        readers = [k for k, other in enumerate(found) if step.result in vectors_read(other)]
        layers = [found[k] for k in readers]
        if not readers or not all(isinstance(layer, Weighted) for layer in layers):
            continue
        parts = [affine(formula) for formula in step.formulas]
        if not any(is_factor(part) for part in parts):
            continue
        columns = np.concatenate(
            [part.factor if is_factor(part) else np.ones(len(part.formula)) for part in parts]
        )
        names = " and ".join(layer.label for layer in layers)
        for part in parts:
            if is_factor(part):
                gone = list(operations_in(part.formula))[: depth_of(part)]
                folded |= dict.fromkeys((item.label for item in gone), f"folded into {names}")
        formulas = tuple(part.inner if is_factor(part) else part.formula for part in parts)
        label = label_of(formulas[0], step.label) if len(formulas) == 1 else step.label
        result = step.result
        if stem_of(result.name) == stem_of(step.label) != stem_of(label):
            result = Vector(free_name(label), result.width)
        found[place] = DraftAssign(result, formulas, label)
        for k in readers:
            layer = found[k]
            assert isinstance(layer, Weighted)
            shape = (1, -1, *[1] * (layer.weight.ndim - 2))
            weight = layer.weight * columns.reshape(shape)
            found[k] = replace(layer, weight=weight, operand=result)
    return found


def is_factor(part: Affine) -> bool:
    """Whether a formula only multiplies; by zeros is left alone, as 0 times infinity is not 0."""
    return (
        part.inner is not part.formula
        and not isinstance(part.inner, Fixed)
        and not np.any(part.summand)
        and bool(np.all(np.isfinite(part.factor)))
        and bool(np.all(part.factor != 0))
    )


def depth_of(part: Affine) -> int:
    """The number of functions around what an affine formula is applied to."""
    return len(list(operations_in(part.formula))) - len(list(operations_in(part.inner)))


def without_copies(steps: Sequence[Draft], outputs: Collection[Vector]) -> list[Draft]:
    """Readers of a copied vector read the original one.

    Before: `y = x; z = W y`; after: `z = W x`. A copy in another order is one, too.
    """
    found: list[Draft] = []
    originals: dict[Vector, Picked] = {}
    for step in steps:
        moved = with_originals(step, originals)
        if isinstance(moved, DraftAssign) and moved.result not in outputs:
            (first, *others) = moved.formulas
            if isinstance(first, Picked) and not others and is_permutation(first):
                originals[moved.result] = first
                continue
        found.append(moved)
    return found


def with_originals(step: Draft, originals: dict[Vector, Picked]) -> Draft:
    """A step that reads no copies."""
    if isinstance(step, Weighted):
        original = originals.get(step.operand)
        if original is None:
            return step
        weight = np.take(step.weight, np.argsort(original.places), axis=1)
        return replace(step, operand=original.vector, weight=weight)

    def change(formula: Formula) -> Formula:
        if isinstance(formula, Picked) and formula.vector in originals:
            return originals[formula.vector].take(formula.places)
        return formula

    return with_formulas(step, [mapped(formula, change) for formula in formulas_of(step)])


def is_permutation(leaf: Picked) -> bool:
    """Whether a leaf is its vector, all of it, in whatever order."""
    return np.array_equal(np.sort(leaf.places), np.arange(leaf.vector.width))


def needed(steps: Sequence[Draft], outputs: Collection[Vector]) -> list[Draft]:
    """The steps that the outputs are made of."""
    wanted = set(outputs)
    found = []
    for step in reversed(steps):
        if step.result in wanted:
            wanted |= set(vectors_read(step))
            found.append(step)
    return found[::-1]
