"""Which operation of a function makes a value, and which ones read it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from metal4conv.mil.program import Block, Function, Operation, TensorType, ValueType


@dataclass(frozen=True)
class Dataflow:
    """The operations of a function by their place in it, and the values between them.

    What the blocks of a loop or branch read from around it is read by the operation that holds
    them. `constants` are operations that need no input of the function: `const`, what decompresses
    weights, and what is computed of those alone. An executor computes them once, when it loads.
    """

    function: Function
    reads: tuple[tuple[str, ...], ...]
    makers: Mapping[str, int]
    readers: Mapping[str, tuple[int, ...]]
    types: Mapping[str, ValueType]
    constants: frozenset[int]

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations of the function's own block."""
        return self.function.block.operations

    @property
    def working(self) -> tuple[int, ...]:
        """The places of the operations that are no constants, in the order in which they run."""
        count = len(self.operations)
        return tuple(place for place in range(count) if place not in self.constants)

    def is_constant(self, value: str) -> bool:
        """Whether a value is a constant of the program."""
        return self.makers.get(value) in self.constants

    def data_reads(self, place: int) -> tuple[str, ...]:
        """The values that an operation reads, without constants."""
        return tuple(name for name in self.reads[place] if not self.is_constant(name))

    def ancestors(self, values: Collection[str]) -> frozenset[int]:
        """The operations that are needed for these values, without constants."""
        found: set[int] = set()
        todo = [self.makers[name] for name in values if name in self.makers]
        while todo:
            place = todo.pop()
            if place in found or place in self.constants:
                continue
            found.add(place)
            todo += [self.makers[name] for name in self.reads[place] if name in self.makers]
        return frozenset(found)

    def nearest(self, values: Iterable[str], accept: Callable[[str], bool]) -> tuple[str, ...]:
        """The values that are accepted; in place of another one the nearest that it comes of.

        A classifier gives a label and a dictionary, which come of an array of probabilities.
        """
        found: dict[str, None] = {}
        seen: set[str] = set()
        todo = list(values)[::-1]
        while todo:
            name = todo.pop()
            if name in seen or name not in self.makers or self.is_constant(name):
                continue
            seen.add(name)
            if accept(name):
                found[name] = None
            else:
                todo += reversed(self.data_reads(self.makers[name]))
        return tuple(found)

    def tensor_type(self, value: str) -> TensorType | None:
        """The declared type of a value; None where it is a list, a state, or the like."""
        type = self.types.get(value)
        return type if isinstance(type, TensorType) else None


def dataflow(function: Function) -> Dataflow:
    """The dataflow of a function."""
    makers: dict[str, int] = {}
    readers: dict[str, list[int]] = {}
    reads = []
    constants: set[int] = set()
    types: dict[str, ValueType] = {value.name: value.type for value in function.inputs}
    for place, operation in enumerate(function.block.operations):
        names = tuple(dict.fromkeys(free_names(operation)))
        reads.append(names)
        if gives_constant(operation) and all(makers.get(name) in constants for name in names):
            constants.add(place)
        for name in names:
            readers.setdefault(name, []).append(place)
        for value in operation.outputs:
            makers[value.name] = place
            types[value.name] = value.type
    by_name = {name: tuple(places) for name, places in readers.items()}
    return Dataflow(function, tuple(reads), makers, by_name, types, frozenset(constants))


def gives_constant(operation: Operation) -> bool:
    """Whether an operation gives the same tensor each time when its inputs are the same."""
    return (
        not operation.blocks
        and not operation.type.startswith(("random_", "read_state"))
        and all(isinstance(value.type, TensorType) for value in operation.outputs)
    )


def free_names(operation: Operation) -> Iterator[str]:
    """The names of values that an operation reads, those that only its blocks read among them."""
    for arguments in operation.inputs.values():
        yield from (name for name in arguments if isinstance(name, str))
    for block in operation.blocks:
        yield from outer_names(block)


def outer_names(block: Block) -> Iterator[str]:
    """The names of values from around a block that are read in it."""
    own = {value.name for value in block.inputs}
    for operation in block.operations:
        yield from (name for name in free_names(operation) if name not in own)
        own.update(value.name for value in operation.outputs)
    yield from (name for name in block.outputs if name not in own)
