"""How much memory the intermediate values of a function take, from where they are last used.

Counted are values that operations make, in the program's order and without gaps between rows;
not inputs, outputs, states and constants, nor what `constexpr_` operations unpack from constants.
A value lives from the operation that makes it to the last one that reads it, both included, so an
operation's inputs and outputs are alive together::

    a = relu(x)        a                    a
    b = conv(a)        a b                  a + b
    c = conv(b)          b c                b + c
    y = add(a, c)      (a lives on to here: a + b + c above, a + c here; y is an output)

Metal may place and reuse memory better or worse than that: the pipeline state's
`intermediatesHeapSize` is the truth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import TypeVar

from metal4conv.layout.canonical import quotient_up
from metal4conv.layout.polynomial import Polynomial, constant_polynomial
from metal4conv.layout.sizes import Size, is_unknown, largest, product_polynomial, size_of
from metal4conv.mil.program import (
    Block,
    Dimension,
    Function,
    ListType,
    Operation,
    TensorType,
    ValueType,
)

Amount = TypeVar("Amount", int, Polynomial)
MOST_CANDIDATES = 4
ZERO = constant_polynomial(0)


def is_constant(operation: Operation) -> bool:
    """Whether its outputs are known before the program runs."""
    return operation.type == "const" or operation.type.startswith("constexpr_")


def tight_bytes(type: ValueType) -> Polynomial | None:
    """Bytes of a value without gaps, None where its size is only known when it runs.

    States and dictionaries are held by Core ML elsewhere, and count nothing.
    """
    match type:
        case TensorType(_, shape):
            if any(map(is_unknown, shape)):
                return None
            bits = product_polynomial(shape).scaled(type.element_bits)
            return quotient_up(bits, constant_polynomial(8))
        case ListType(element, length):
            element_bytes = tight_bytes(element)
            if element_bytes is None or length is None:
                return None
            return element_bytes.scaled(length)
    return ZERO


def intermediate_bytes(
    function: Function, types: Mapping[str, ValueType]
) -> dict[str, Polynomial] | None:
    """Bytes by name of each intermediate value, None when one is not known.

    `types` holds symbolic types of values whose declared type has unknown sizes.
    """
    outputs = set(function.block.outputs)
    known: dict[ValueType, Polynomial | None] = {}
    found: dict[str, Polynomial] = {}
    for operation in function.block.walk():
        if is_constant(operation):
            continue
        inner = [value for block in operation.blocks for value in block.inputs]
        for value in (*operation.outputs, *inner):
            type = types.get(value.name, value.type)
            if type not in known:
                known[type] = tight_bytes(type)
            amount = known[type]
            if amount is None:
                return None
            if value.name not in outputs:
                found[value.name] = amount
    return found


def live_amounts(block: Block, amounts: Mapping[str, Amount], zero: Amount) -> Iterator[Amount]:
    """The bytes alive at each operation, those inside nested blocks included."""
    dying = values_by_last_use(block)
    live = zero
    for value in block.inputs:
        live += amounts.get(value.name, zero)
    for position, operation in enumerate(block.operations):
        if is_constant(operation):
            continue
        for value in operation.outputs:
            live += amounts.get(value.name, zero)
        for inner in operation.blocks:
            yield from (live + amount for amount in live_amounts(inner, amounts, zero))
        yield live
        for name in dying[position]:
            live -= amounts.get(name, zero)


def values_by_last_use(block: Block) -> dict[int, list[str]]:
    """Names of the block's own values by the position of the operation that reads them last.

    What the block gives back lives to its end, and what nobody reads dies where it is made.
    """
    last = {value.name: 0 for value in block.inputs}
    for position, operation in enumerate(block.operations):
        if is_constant(operation):
            continue
        for value in operation.outputs:
            last[value.name] = position
        for name in names_read(operation):
            if name in last:
                last[name] = position
    last |= {name: len(block.operations) for name in block.outputs if name in last}
    dying = defaultdict(list)
    for name, position in last.items():
        dying[position].append(name)
    return dying


def names_read(operation: Operation) -> Iterator[str]:
    """Names of the values that an operation reads, also in its nested blocks."""
    for arguments in operation.inputs.values():
        for argument in arguments:
            if isinstance(argument, str):
                yield argument
    for block in operation.blocks:
        yield from block.outputs
        for inner in block.operations:
            yield from names_read(inner)


def peak_bytes(
    block: Block, amounts: Mapping[str, Polynomial], dimensions: Mapping[str, Dimension]
) -> Size:
    """The most that is alive at once in a function's block; plain numbers need no formulas."""
    numbers = {name: amount.constant for name, amount in amounts.items()}
    known = {name: number for name, number in numbers.items() if number is not None}
    if len(known) == len(numbers):
        return max(live_amounts(block, known, 0), default=0)
    return largest_of(live_amounts(block, amounts, ZERO), dimensions)


def largest_of(amounts: Iterable[Polynomial], dimensions: Mapping[str, Dimension]) -> Size:
    """The largest of some amounts: a number, a formula, or `max` of a few formulas.

    Left out are those that another one bounds, then those that are the largest nowhere on a grid
    of sizes. If still more than four remain, one formula that bounds them all stands for them.
    """
    candidates = not_bounded(amounts)
    if len(candidates) > 1:
        values = [[item.value(sizes) for item in candidates] for sizes in sample_sizes(dimensions)]
        winners = {row.index(max(row)) for row in values}
        candidates = [candidates[index] for index in sorted(winners)]
    if len(candidates) > MOST_CANDIDATES:
        keys = {key for candidate in candidates for key in candidate.terms}
        bound = {key: max(item.terms.get(key, 0) for item in candidates) for key in keys}
        candidates = [Polynomial({key: value for key, value in bound.items() if value})]
    return largest(map(size_of, candidates)) if candidates else 0


def not_bounded(amounts: Iterable[Polynomial]) -> list[Polynomial]:
    """The amounts that none of the others bounds whatever the sizes."""
    kept: list[Polynomial] = []
    seen: set[frozenset[tuple[tuple[str, ...], int]]] = set()
    for amount in amounts:
        key = frozenset(amount.terms.items())
        if key in seen:
            continue
        seen.add(key)
        if not any(amount.is_bounded_by(other) for other in kept):
            kept = [other for other in kept if not other.is_bounded_by(amount)] + [amount]
    return kept


def sample_sizes(dimensions: Mapping[str, Dimension]) -> list[dict[str, int]]:
    """Smallest, default and largest sizes of the dimensions, in all combinations of up to four."""
    choices = [
        (row.minimum, row.default, row.maximum or 8 * row.default) for row in dimensions.values()
    ]
    chosen = product(*choices) if len(choices) <= 4 else zip(*choices, strict=True)
    return [dict(zip(dimensions, sizes, strict=True)) for sizes in chosen]
