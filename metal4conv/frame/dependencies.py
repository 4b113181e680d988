"""Which pass waits for which, and for what: the edges of the drawing and of the report."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from metal4conv.frame.hazards import Clash, Conflicts, Hazard, Kind, is_forward
from metal4conv.frame.order import Pair


@dataclass(frozen=True)
class Dependency:
    """Two passes that use one resource; `ago` counts back to the first one's frame.

    `first` and `second` are names of the resource, which differ where memory is shared.
    """

    earlier: str
    later: str
    ago: int
    kind: Kind
    first: str
    second: str
    missing: bool


def dependencies_of(conflicts: Conflicts, hazards: Iterable[Hazard]) -> tuple[Dependency, ...]:
    """The conflicts between passes, but for those that go through a third use of the resource."""
    unordered = {hazard.pair for hazard in hazards}
    found: defaultdict[tuple[str, str, int, Kind, str, str], bool] = defaultdict(bool)
    for pair, clash in direct(conflicts):
        earlier, later = (name_of(conflicts, number) for number in pair[:2])
        key = (earlier, later, pair.ago, clash.kind, clash.first, clash.second)
        found[key] |= pair in unordered
    return tuple(Dependency(*key, is_missing) for key, is_missing in found.items())


def name_of(conflicts: Conflicts, number: int) -> str:
    """The name of an item's pass."""
    return conflicts.frame.passes[conflicts.items[number].pass_number].name


def direct(conflicts: Conflicts) -> Iterator[tuple[Pair, Clash]]:
    """Conflicts without a third item between them that conflicts with both about the same."""
    all_pairs = sorted(conflicts.clashes, key=lambda pair: (pair.second, pair.ago, pair.first))
    numbers = range(len(conflicts.items))
    for pair in all_pairs:
        for clash in conflicts.clashes[pair]:
            between = any(
                about(conflicts, Pair(pair.first, number, pair.ago - ago), first=clash.first)
                and about(conflicts, Pair(number, pair.second, ago), second=clash.second)
                for ago in range(pair.ago + 1)
                for number in numbers
            )
            if not between:
                yield pair, clash
    yield from finished_frames(conflicts)


def about(
    conflicts: Conflicts, pair: Pair, *, first: str | None = None, second: str | None = None
) -> bool:
    """Whether two items, the first one committed before, conflict about a resource."""
    return is_forward(pair) and any(
        first in (None, clash.first) and second in (None, clash.second)
        for clash in conflicts.clashes.get(pair, ())
    )


def finished_frames(conflicts: Conflicts) -> Iterator[tuple[Pair, Clash]]:
    """Reads of what a frame wrote that is done by now, as the CPU has waited for it."""
    for reader, touched in conflicts.touches.items():
        for touch in touched:
            ago = touch.access.frames_ago
            if not touch.access.reads or ago < conflicts.frame.in_flight:
                continue
            for writer, others in conflicts.touches.items():
                for other in others:
                    if other.access.writes and other.meets(touch, ago):
                        name = other.access.resource
                        clash = Clash("RAW", name, touch.access.resource)
                        yield Pair(writer, reader, ago), clash
