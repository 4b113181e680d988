"""What the features of a point hold while a program is read: which element, which arithmetic.

The reader moves features about by whole arrays of places, as numpy does; only what has to be kept
becomes a vector, and its arithmetic an expression of the network.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Expression,
    Index,
    Linear,
    Number,
    Piece,
    Reduce,
    Step,
    Table,
    Vector,
)


@dataclass(frozen=True, eq=False)
class Picked:
    """Elements of a vector: the i-th is element `places[i]`."""

    vector: Vector
    places: np.ndarray

    def take(self, chosen: np.ndarray) -> Picked:
        """The same at some places."""
        return Picked(self.vector, self.places[chosen])

    def __len__(self) -> int:
        return len(self.places)


@dataclass(frozen=True, eq=False)
class Fixed:
    """Constants, float64 so that what is folded is rounded once."""

    values: np.ndarray

    def take(self, chosen: np.ndarray) -> Fixed:
        """The same at some places."""
        return Fixed(self.values[chosen])

    def __len__(self) -> int:
        return len(self.values)


@dataclass(frozen=True, eq=False)
class Applied:
    """A function of `network.FUNCTIONS`, element by element; `label` is the operation's name."""

    function: str
    arguments: tuple[Formula, ...]
    label: str

    def take(self, chosen: np.ndarray) -> Applied:
        """The same at some places."""
        return replace(self, arguments=tuple(item.take(chosen) for item in self.arguments))

    def __len__(self) -> int:
        return len(self.arguments[0])


Formula = Picked | Fixed | Applied
"""What as many elements are as it is long."""


@dataclass(frozen=True, eq=False)
class Part:
    """Some elements of a content: their places in it, in increasing order, and what they are."""

    places: np.ndarray
    formula: Formula


@dataclass(frozen=True)
class Content:
    """The features of a value, flattened: parts that fill all `width` places, each once."""

    width: int
    parts: tuple[Part, ...]

    def gather(self, chosen: np.ndarray) -> Content:
        """The elements at `chosen` places, flattened."""
        chosen = np.asarray(chosen, np.intp).reshape(-1)
        owner, local = self.owners()
        found = []
        for number, part in enumerate(self.parts):
            places = np.flatnonzero(owner[chosen] == number)
            if len(places):
                found.append(Part(places, part.formula.take(local[chosen[places]])))
        return Content(len(chosen), tuple(sorted(found, key=lambda part: int(part.places[0]))))

    def owners(self) -> tuple[np.ndarray, np.ndarray]:
        """For each place the number of its part, and its place within it."""
        owner = np.empty(self.width, np.intp)
        local = np.empty(self.width, np.intp)
        for number, part in enumerate(self.parts):
            owner[part.places] = number
            local[part.places] = np.arange(len(part.places))
        return owner, local

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to compute: elements and constants alone."""
        return not any(isinstance(part.formula, Applied) for part in self.parts)

    @property
    def constant(self) -> np.ndarray | None:
        """The numbers where all of them are constants."""
        if not all(isinstance(part.formula, Fixed) for part in self.parts):
            return None
        found = np.empty(self.width)
        for part in self.parts:
            assert isinstance(part.formula, Fixed)
            found[part.places] = part.formula.values
        return found

    @property
    def only(self) -> Picked | None:
        """The elements where all of them are of one vector."""
        formula = self.parts[0].formula if len(self.parts) == 1 else None
        return formula if isinstance(formula, Picked) else None

    def is_whole(self, vector: Vector) -> bool:
        """Whether it is the vector as it is."""
        only = self.only
        return (
            only is not None
            and only.vector == vector
            and np.array_equal(only.places, np.arange(vector.width))
        )


def whole(formula: Formula) -> Content:
    """A content of one part."""
    return Content(len(formula), (Part(np.arange(len(formula)), formula),))


def vector_content(vector: Vector) -> Content:
    """The elements of a vector in their order."""
    return whole(Picked(vector, np.arange(vector.width)))


def constant_content(values: np.ndarray) -> Content:
    """Constants, flattened."""
    return whole(Fixed(np.asarray(values, np.float64).reshape(-1)))


def joined(contents: Sequence[Content]) -> Content:
    """Contents one after the other; what is of one vector, or constant, becomes one part."""
    parts: list[Part] = []
    start = 0
    for content in contents:
        parts += [Part(part.places + start, part.formula) for part in content.parts]
        start += content.width
    return Content(start, tuple(merged(parts)))


def merged(parts: Sequence[Part]) -> list[Part]:
    """Neighbouring parts of the same vector, or constant, as one."""
    found: list[Part] = []
    for part in parts:
        if found and (formula := together(found[-1].formula, part.formula)):
            found[-1] = Part(np.concatenate([found[-1].places, part.places]), formula)
        else:
            found.append(part)
    return found


def together(first: Formula, second: Formula) -> Formula | None:
    """Two formulas as one where no arithmetic is needed."""
    match first, second:
        case Fixed(), Fixed():
            return Fixed(np.concatenate([first.values, second.values]))
        case Picked(), Picked() if first.vector == second.vector:
            return Picked(first.vector, np.concatenate([first.places, second.places]))
    return None


def applied(function: str, arguments: Sequence[Content], label: str) -> Content:
    """A function of contents of one width, element by element."""
    width = arguments[0].width
    owners = [argument.owners() for argument in arguments]
    kinds = np.stack([owner for owner, _ in owners])
    _, first, kind = np.unique(kinds, axis=1, return_index=True, return_inverse=True)
    kind = kind.reshape(-1)
    parts = []
    for number in np.argsort(first):
        places = np.flatnonzero(kind == number)
        items = tuple(
            argument.parts[int(owner[places[0]])].formula.take(local[places])
            for argument, (owner, local) in zip(arguments, owners, strict=True)
        )
        parts.append(Part(places, Applied(function, items, label)))
    return Content(width, tuple(parts))


@dataclass(frozen=True, eq=False)
class DraftLinear:
    """A linear layer that later steps may still be folded into; weight float64."""

    result: Vector
    operand: Vector
    weight: np.ndarray
    label: str


@dataclass(frozen=True, eq=False)
class DraftConvolution:
    """A spatial convolution; its weight, float64 OIHW, may change as a linear layer's does."""

    result: Vector
    operand: Vector
    weight: np.ndarray
    label: str
    template: Convolution


@dataclass(frozen=True, eq=False)
class DraftAssign:
    """The formulas of a vector one after the other."""

    result: Vector
    formulas: tuple[Formula, ...]
    label: str


@dataclass(frozen=True, eq=False)
class DraftReduce:
    """`operation` over each `count` elements of a formula."""

    result: Vector
    operation: str
    count: int
    formula: Formula
    label: str


Weighted = DraftLinear | DraftConvolution
Draft = DraftLinear | DraftConvolution | DraftAssign | DraftReduce


def formulas_of(step: Draft) -> tuple[Formula, ...]:
    """The formulas of a step."""
    match step:
        case DraftAssign():
            return step.formulas
        case DraftReduce():
            return (step.formula,)
    return ()


def with_formulas(step: Draft, formulas: Sequence[Formula]) -> Draft:
    """A step with other formulas of the same lengths."""
    match step:
        case DraftAssign():
            return replace(step, formulas=tuple(formulas))
        case DraftReduce():
            return replace(step, formula=formulas[0])
    return step


def picked_leaves(formula: Formula) -> Iterator[Picked]:
    """The elements of vectors that a formula is made of."""
    match formula:
        case Picked():
            yield formula
        case Applied():
            for argument in formula.arguments:
                yield from picked_leaves(argument)


def label_of(formula: Formula, default: str) -> str:
    """The name of the operation that a formula ends with."""
    return formula.label if isinstance(formula, Applied) else default


def vectors_read(step: Draft) -> tuple[Vector, ...]:
    """The vectors that a step reads, each once."""
    if isinstance(step, Weighted):
        return (step.operand,)
    found = [leaf.vector for formula in formulas_of(step) for leaf in picked_leaves(formula)]
    return tuple(dict.fromkeys(found))


def operations_in(formula: Formula) -> Iterator[Applied]:
    """All functions in a formula, the outermost first."""
    if isinstance(formula, Applied):
        yield formula
        for argument in formula.arguments:
            yield from operations_in(argument)


def mapped(formula: Formula, change: Callable[[Formula], Formula]) -> Formula:
    """A formula after `change` of each formula within it, the innermost first."""
    if isinstance(formula, Applied):
        items = tuple(mapped(argument, change) for argument in formula.arguments)
        if any(new is not old for new, old in zip(items, formula.arguments, strict=True)):
            formula = replace(formula, arguments=items)
    return change(formula)


def finished(step: Draft) -> Step | Convolution:
    """A step as the network has it: weights rounded to float32, places as formulas."""
    match step:
        case DraftLinear():
            weight = np.asarray(step.weight, np.float32)
            return Linear(step.result, step.operand, weight, step.label)
        case DraftConvolution():
            return replace(
                step.template,
                image=step.operand.name,
                weight=np.asarray(step.weight, np.float32),
            )
        case DraftReduce():
            expression = expression_of(step.formula)
            return Reduce(step.result, step.operation, step.count, expression, step.label)
    pieces = []
    offset = 0
    for formula in step.formulas:
        pieces.append(Piece(offset, len(formula), expression_of(formula)))
        offset += len(formula)
    return Assign(step.result, tuple(pieces), step.label)


def expression_of(formula: Formula) -> Expression:
    """A formula as an expression of `i`."""
    match formula:
        case Picked():
            return Element(formula.vector, index_of(formula.places))
        case Fixed():
            return constant_expression(formula.values)
        case Applied():
            arguments = tuple(expression_of(argument) for argument in formula.arguments)
            return Call(formula.function, arguments)


def constant_expression(values: np.ndarray) -> Number | Table:
    """Constants as a number where they are all the same, else as the shortest table.

    >>> constant_expression(np.array([1.0, 1, 2, 2, 1, 1, 2, 2])).values.tolist()
    [1.0, 2.0]
    """
    rounded = values.astype(np.float32)
    if np.all(rounded == rounded[0]) or np.all(np.isnan(rounded)):
        return Number(float(rounded[0]))
    divisor, modulus = repetition(rounded)
    shortest = rounded[::divisor][:modulus]
    is_all = divisor * modulus == len(rounded)
    index = Index(divisor=divisor, modulus=0 if is_all else modulus)
    return Table(np.ascontiguousarray(shortest), index)


def repetition(values: np.ndarray) -> tuple[int, int]:
    """Divisor and modulus that give the shortest table: `values[i] = table[i // d % m]`."""
    count = len(values)
    divisor = 1
    for candidate in divisors(count):
        blocks = values.reshape(-1, candidate)
        if np.array_equal(blocks, np.broadcast_to(blocks[:, :1], blocks.shape)):
            divisor = candidate
    shorter = values[::divisor]
    for modulus in divisors(len(shorter)):
        if np.array_equal(shorter, np.resize(shorter[:modulus], len(shorter))):
            return divisor, modulus
    return divisor, len(shorter)


def divisors(count: int) -> list[int]:
    """All divisors of a number in increasing order.

    >>> divisors(12)
    [1, 2, 3, 4, 6, 12]
    """
    return [number for number in range(1, count + 1) if count % number == 0]


def index_of(places: np.ndarray) -> Index:
    """The index that picks these places: a formula where there is one, else a table.

    >>> index_of(np.array([2, 3, 4])), index_of(np.array([0, 0, 3, 3, 0, 0]))
    (Index(offset=2, stride=1, divisor=1, modulus=0, table=()), \
Index(offset=0, stride=3, divisor=2, modulus=2, table=()))
    """
    first = int(places[0])
    if len(places) == 1:
        return Index(first)
    if np.all(places == first):
        return Index(first, 0)
    divisor = int(np.argmax(places != first))
    steps = places[::divisor]
    stride = int(steps[1]) - first
    regular = first + stride * np.arange(len(steps))
    modulus = 0 if np.array_equal(steps, regular) else int(np.argmax(steps != regular))
    found = Index(first, stride, divisor, modulus)
    numbers = np.arange(len(places)) // divisor
    again = first + stride * (numbers % modulus if modulus else numbers)
    if np.array_equal(again, places):
        return found
    return Index(table=tuple(places.tolist()))
