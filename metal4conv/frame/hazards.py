"""Conflicts between items of a frame, and those that nothing orders.

Two items conflict when they touch the same bytes, and one of them writes: a read after a write
(RAW), a write after a read (WAR), a write after a write (WAW). The later one is always an item of
this frame, the earlier one may be of a frame that the GPU still works on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from metal4conv.frame.document import Frame, Synchronization
from metal4conv.frame.memory import Touch, touches
from metal4conv.frame.order import Item, Pair, Past, Timeline, items_of
from metal4conv.frame.stages import UNWAITABLE

Kind = Literal["RAW", "WAW", "WAR"]
Remedy = Literal["barrier", "event", "wait", "steps", "passes"]


@dataclass(frozen=True)
class Clash:
    """One reason for a conflict: the names of the resources; `aliased` where two share memory.

    `replaced` is a read of bytes that others write in between, so that they need not be seen.
    """

    kind: Kind
    first: str
    second: str
    aliased: bool = False
    replaced: bool = False

    @property
    def need(self) -> int:
        """What of `Past` the first access must be in."""
        if self.aliased and self.kind != "WAR":
            return UNALIASED
        return NEEDS["WAW"] if self.replaced else NEEDS[self.kind]


NEEDS: dict[Kind, int] = {"WAR": 0, "WAW": 1, "RAW": 2}
UNALIASED = 3


@dataclass(frozen=True)
class Hazard:
    """A conflict that nothing orders. `implied`: mending other hazards mends this one too."""

    pair: Pair
    clashes: tuple[Clash, ...]
    remedy: Remedy
    implied: bool


class Conflicts:
    """All conflicts of a frame, found once; then what is unordered for some synchronization."""

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.items = items_of(frame)
        self.touches = touches_by_item(frame, self.items)
        self.writers: defaultdict[str, list[tuple[int, Touch]]] = defaultdict(list)
        for number, found_touches in self.touches.items():
            for touch in found_touches:
                if touch.access.writes:
                    self.writers[touch.span.allocation].append((number, touch))
        self.known: dict[Synchronization, dict[Pair, tuple[Clash, ...]]] = {}
        self.clashes: dict[Pair, tuple[Clash, ...]] = {}
        for first, second in candidate_pairs(self.touches):
            for ago in range(frame.in_flight):
                if ago == 0 and first >= second:
                    continue
                found = self.clashes_of(Pair(first, second, ago))
                if found:
                    self.clashes[Pair(first, second, ago)] = found
        self.needs = {
            pair: tuple({clash.need for clash in found}) for pair, found in self.clashes.items()
        }

    def clashes_of(self, pair: Pair) -> tuple[Clash, ...]:
        """Why two items conflict, the gravest reason for each pair of resources."""
        found: dict[tuple[str, str], Clash] = {}
        together = not pair.ago and self.same_pass(pair)
        for a in self.touches[pair.first]:
            for b in self.touches[pair.second]:
                if together and a.access.attachment and b.access.attachment:
                    continue  # fragments of one pass reach an attachment in order
                if a.meets(b, pair.ago) and (clash := clash_of(a, b)) is not None:
                    if clash.kind == "RAW" and self.is_replaced(pair, a, b):
                        clash = replace(clash, replaced=True)
                    names = (clash.first, clash.second)
                    found[names] = min(found.get(names, clash), clash, key=gravity)
        return tuple(sorted(found.values(), key=lambda clash: (gravity(clash), clash.second)))

    def is_replaced(self, pair: Pair, first: Touch, second: Touch) -> bool:
        """Whether all bytes that both touch are written in between, as the same content."""
        begin = max(first.span.begin, second.span.begin)
        end = min(first.span.end, second.span.end)
        spans = [
            touch.span
            for number, touch in self.writers[second.span.allocation]
            for ago in range(pair.ago + 1)
            if is_forward(Pair(pair.first, number, pair.ago - ago))
            and is_forward(Pair(number, pair.second, ago))
            and touch.meets(second, ago)
            and touch.span.root == second.span.root
        ]
        for span in sorted(spans, key=lambda span: span.begin):
            if span.begin > begin:
                return False
            begin = max(begin, span.end)
            if begin >= end:
                return True
        return False

    def same_pass(self, pair: Pair) -> bool:
        """Whether both items are of one pass, in some frames."""
        return self.items[pair.first].pass_number == self.items[pair.second].pass_number

    def pasts(
        self, synchronization: Synchronization, mended: Mapping[Pair, int] | None = None
    ) -> list[Past]:
        """The past of each item of the frames that the GPU may have at once."""
        return Timeline(self.frame, self.items, synchronization, mended).run(self.frame.in_flight)

    def unordered(self, synchronization: Synchronization) -> dict[Pair, tuple[Clash, ...]]:
        """The conflicts that nothing orders, or not visibly."""
        if synchronization not in self.known:
            pasts = self.pasts(synchronization)
            self.known[synchronization] = {
                pair: clashes
                for pair, clashes in self.clashes.items()
                if not self.is_ordered(pair, pasts)
            }
        return self.known[synchronization]

    def is_ordered(self, pair: Pair, pasts: list[Past]) -> bool:
        """Whether the second item has all that it needs of the first in its past."""
        needs = self.needs[pair]
        if len(needs) == 1:  # nearly always, and this is asked very often
            return self.reaches(pair, needs[0], pasts)
        return all(self.reaches(pair, need, pasts) for need in needs)

    def reaches(self, pair: Pair, need: int, pasts: list[Past]) -> bool:
        """Whether the first item is in a part of the past that the second one has in this frame."""
        frame = self.frame.in_flight - 1
        past = pasts[frame * len(self.items) + pair.second][need]
        return bool(past >> ((frame - pair.ago) * len(self.items) + pair.first) & 1)

    def level(self, pair: Pair) -> int:
        """The visibility of a barrier that orders a pair."""
        needs = self.needs[pair]
        return 2 if UNALIASED in needs else int(max(needs) > 0)

    def remedy(self, pair: Pair) -> Remedy:
        """What can order a pair."""
        first, second = self.items[pair.first], self.items[pair.second]
        a, b = self.frame.passes[first.pass_number], self.frame.passes[second.pass_number]
        if b.kind == "cpu":
            return "wait"
        if a.queue != b.queue:
            return "event"
        if pair.ago or a is not b:
            return "barrier"
        if first.step == second.step:
            return "steps"
        return "passes" if first.stage in UNWAITABLE else "barrier"

    def hazards(self, synchronization: Synchronization) -> list[Hazard]:
        """What `unordered` finds, in order of the frame, with what mends it."""
        unordered = self.unordered(synchronization)
        told = self.told(synchronization, unordered)
        return [
            Hazard(pair, unordered[pair], self.remedy(pair), pair not in told)
            for pair in sorted(unordered, key=lambda pair: (pair.second, pair.ago, pair.first))
        ]

    def told(self, synchronization: Synchronization, pairs: Iterable[Pair]) -> dict[Pair, int]:
        """Those pairs that have to be put in order so that all are, and the visibility for it.

        The closest ones are mended first: what they imply lies further apart.
        """
        by_span: defaultdict[int, list[Pair]] = defaultdict(list)
        for pair in pairs:
            by_span[pair.ago * len(self.items) + pair.second - pair.first].append(pair)
        mended: dict[Pair, int] = {}
        for _, found in sorted(by_span.items()):
            pasts = self.pasts(synchronization, mended)
            left = [pair for pair in found if not self.is_ordered(pair, pasts)]
            mended |= {pair: self.level(pair) for pair in left}
        return mended


def is_forward(pair: Pair) -> bool:
    """Whether the first item is committed before the second."""
    return pair.ago > 0 or pair.first < pair.second


def touches_by_item(frame: Frame, items: Iterable[Item]) -> dict[int, list[Touch]]:
    """What each item touches."""
    found: dict[int, list[Touch]] = {}
    for item in items:
        owner = frame.passes[item.pass_number]
        step = owner.steps[item.step]
        found[item.number] = [
            touch for touch in touches(frame, owner.name, step) if touch.access.stage == item.stage
        ]
    return found


def candidate_pairs(touched: Mapping[int, Iterable[Touch]]) -> list[tuple[int, int]]:
    """Pairs of items that use one allocation, in any order, each with itself too."""
    users: defaultdict[str, list[int]] = defaultdict(list)
    for number, found in touched.items():
        for name in dict.fromkeys(touch.span.allocation for touch in found):
            users[name].append(number)
    pairs = {(a, b) for numbers in users.values() for a in numbers for b in numbers}
    return sorted(pairs)


def clash_of(first: Touch, second: Touch) -> Clash | None:
    """Why two accesses to the same bytes conflict; None where both only read."""
    a, b = first.access, second.access
    aliased = first.span.root != second.span.root
    if a.writes and b.reads and not aliased:  # else the content is lost: see `contents`
        return Clash("RAW", a.resource, b.resource)
    if a.writes and b.writes:
        return Clash("WAW", a.resource, b.resource, aliased)
    return Clash("WAR", a.resource, b.resource, aliased) if a.reads and b.writes else None


def gravity(clash: Clash) -> int:
    """The order in which reasons are told."""
    return ("RAW", "WAW", "WAR").index(clash.kind) + 3 * clash.replaced
