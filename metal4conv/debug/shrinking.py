"""Making a part of a program smaller while it still fails.

Four ways, the cheap ones first: the last operations go (bisection), then the first ones, whose
values come from outside instead; an operation far behind another reads that one's value directly;
at last any operations go whose absence does not matter (delta debugging).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from metal4conv.debug.reference import Reference
from metal4conv.debug.search import around
from metal4conv.debug.values import RunValues
from metal4conv.mil.border import can_be_fed, can_be_output
from metal4conv.mil.cutting import Cut, border_values
from metal4conv.mil.dataflow import Dataflow

ROUNDS = 3
"""So often all ways are tried again after one of them made the part smaller."""


@dataclass
class Shrinking:
    """The parts of one function that can be made, and which of them fail."""

    flow: Dataflow
    values: RunValues
    reference: Reference
    specification_version: int
    fails: Callable[[Cut], bool]

    def whole(self) -> Cut:
        """All that the outputs of the function need."""
        outputs = self.flow.nearest(self.flow.function.block.outputs, self.can_be_output)
        return Cut(self.flow.ancestors(outputs), outputs)

    def shrink(self, cut: Cut) -> Cut:
        """The smallest failing part that is found, from one that fails."""
        cut = self.one_output(self.without_end(cut))
        cut = self.without_beginning(cut)
        for _ in range(ROUNDS):
            before = cut
            if not self.reference.is_recorded:
                cut = self.with_short_ways(cut)
            cut = self.one_output(self.minimal(cut))
            if cut == before:
                break
        return cut

    def without_end(self, cut: Cut) -> Cut:
        """The shortest prefix that fails."""
        places = sorted(cut.operations)
        return self.bisected(
            cut, len(places), lambda count: self.part(frozenset(places[:count]), cut)
        )

    def without_beginning(self, cut: Cut) -> Cut:
        """The shortest suffix that fails."""
        places = sorted(cut.operations)
        return self.bisected(
            cut, len(places), lambda count: self.part(frozenset(places[-count:]), cut)
        )

    def bisected(self, cut: Cut, count: int, make: Callable[[int], Cut | None]) -> Cut:
        """The failing part with the least operations of those that `make` gives for a number."""
        low, high = 0, count
        while high - low > 1:
            for middle in around(low, high):
                candidate = make(middle)
                if candidate is not None:
                    break
            else:
                break
            if self.fails(candidate):
                cut, high = candidate, middle
            else:
                low = middle
        return cut

    def one_output(self, cut: Cut) -> Cut:
        """The part with one of its outputs alone, where that fails."""
        if len(cut.outputs) < 2:
            return cut
        for name in reversed(cut.outputs):
            candidate = self.live(replace(cut, outputs=(name,)))
            if candidate is not None and self.fails(candidate):
                return candidate
        return cut

    def with_short_ways(self, cut: Cut) -> Cut:
        """The part in which values are replaced by earlier ones of the same type."""
        done: set[str] = set()
        while True:
            reads = (
                cut.resolve(name)
                for place in sorted(cut.operations, reverse=True)
                for name in self.flow.data_reads(place)
            )
            made = self.made(cut)
            name = next((name for name in reads if name not in done and name in made), None)
            if name is None:
                return cut
            done.add(name)
            cut = self.short_way(cut, name)

    def short_way(self, cut: Cut, value: str) -> Cut:
        """The part in which the farthest possible value stands in for this one."""
        others = self.stand_ins(cut, value)
        low, high, best = -1, len(others), cut
        while high - low > 1:
            middle = 0 if low < 0 else (low + high) // 2
            bypassed = {**cut.bypassed, value: others[middle]}
            kept = cut.operations - {self.flow.makers[value]}
            candidate = self.live(Cut(kept, cut.outputs, bypassed))
            if candidate is not None and self.fails(candidate):
                high, best = middle, candidate
            else:
                low = middle
        return best

    def stand_ins(self, cut: Cut, value: str) -> list[str]:
        """Values before this one of the same type and shape, the farthest first."""
        place, own = self.flow.makers[value], self.flow.tensor_type(value)
        if own is None or value in cut.outputs:
            return []
        earlier = [
            *border_values(self.flow, cut),
            *(
                made.name
                for before in sorted(cut.operations)
                for made in self.flow.operations[before].outputs
            ),
        ]
        shapes = self.values.shapes
        return [
            name
            for name in earlier
            if self.flow.makers.get(name, -1) < place
            and (other := self.flow.tensor_type(name)) is not None
            and other.dtype == own.dtype
            and shapes.get(name) == shapes[value]
        ]

    def minimal(self, cut: Cut) -> Cut:
        """The part without operations that can go; what they gave comes from outside."""
        places = sorted(cut.operations)

        def make(kept: Sequence[int]) -> Cut | None:
            return self.part(frozenset(kept), cut)

        count = 2
        while len(places) > 1:
            smaller = self.smaller(places, count, make)
            if smaller is not None:
                places, cut, count = smaller[0], smaller[1], max(count - 1, 2)
            elif count < len(places):
                count = min(2 * count, len(places))
            else:
                break
        return cut

    def smaller(
        self, places: Sequence[int], count: int, make: Callable[[Sequence[int]], Cut | None]
    ) -> tuple[list[int], Cut] | None:
        """The operations without one of `count` pieces of them, where that fails."""
        bounds = [number * len(places) // count for number in range(count + 1)]
        for start, end in pairwise(bounds):
            kept = [*places[:start], *places[end:]]
            candidate = make(kept)
            if candidate is not None and self.fails(candidate):
                return sorted(candidate.operations), candidate
        return None

    def part(self, operations: frozenset[int], cut: Cut) -> Cut | None:
        """These operations of a part; its outputs are what none of them reads."""
        read = {cut.resolve(name) for place in operations for name in self.flow.reads[place]}
        outputs = tuple(
            value.name
            for place in sorted(operations)
            for value in self.flow.operations[place].outputs
            if value.name not in read
            and value.name not in cut.bypassed
            and self.can_be_output(value.name)
        )
        return self.live(Cut(operations, outputs, cut.bypassed))

    def live(self, cut: Cut) -> Cut | None:
        """The part without operations that its outputs do not need; None if it cannot be made."""
        needed: set[int] = set()
        todo = list(cut.outputs)
        while todo:
            place = self.flow.makers.get(cut.resolve(todo.pop()))
            if place is None or place in needed or place not in cut.operations:
                continue
            needed.add(place)
            todo += self.flow.data_reads(place)
        read = {name for place in needed for name in self.flow.reads[place]}
        bypassed = {name: other for name, other in cut.bypassed.items() if name in read}
        while any(other in cut.bypassed and other not in bypassed for other in bypassed.values()):
            bypassed |= {
                other: cut.bypassed[other] for other in bypassed.values() if other in cut.bypassed
            }
        found = Cut(frozenset(needed), cut.outputs, bypassed)
        return found if needed and self.can_be_made(found) else None

    def can_be_made(self, cut: Cut) -> bool:
        """Whether all that the part reads can come from outside."""
        shapes = self.values.shapes
        return all(
            self.reference.can_feed(name)
            and name in shapes
            and can_be_fed(self.flow.tensor_type(name), shapes[name], self.specification_version)
            for name in border_values(self.flow, cut)
        )

    def can_be_output(self, value: str) -> bool:
        """Whether a value can be an output that somebody can judge."""
        return (
            can_be_output(self.flow.tensor_type(value), self.specification_version)
            and value in self.values
            and self.reference.knows(value)
        )

    def made(self, cut: Cut) -> set[str]:
        """The values that the part computes."""
        return {
            value.name for place in cut.operations for value in self.flow.operations[place].outputs
        }
