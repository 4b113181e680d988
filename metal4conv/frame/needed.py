"""The barriers that a frame lacks, and those that it can do without.

What is proposed is irreducible: without any one of the barriers, or any stage of one, some conflict
is unordered. A pair that is ordered through other passes asks for no barrier of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from metal4conv.frame.document import Barrier, Event, Fence, Synchronization, Wait
from metal4conv.frame.hazards import Conflicts
from metal4conv.frame.order import Pair

Order = Barrier | Fence | Event


@dataclass(frozen=True)
class MissingWait:
    """A step of the CPU that has to wait for a pass."""

    pass_name: str
    wait: Wait


def with_order(synchronization: Synchronization, order: Order) -> Synchronization:
    """One more barrier, fence or event."""
    match order:
        case Barrier():
            return replace(synchronization, barriers=(*synchronization.barriers, order))
        case Fence():
            return replace(synchronization, fences=(*synchronization.fences, order))
        case Event():
            return replace(synchronization, events=(*synchronization.events, order))


def without(synchronization: Synchronization, order: Order) -> Synchronization:
    """One of them taken away, by identity: there may be an equal one."""
    return Synchronization(
        tuple(item for item in synchronization.barriers if item is not order),
        tuple(item for item in synchronization.fences if item is not order),
        tuple(item for item in synchronization.events if item is not order),
    )


def needless(conflicts: Conflicts, listed: Synchronization) -> list[Order]:
    """What can be taken away, all together, without a new hazard; of two equal ones the later."""
    kept, found = listed, []
    wanted = set(conflicts.unordered(listed))
    orders: list[Order] = [*listed.barriers, *listed.fences, *listed.events]
    for order in reversed(orders):
        fewer = without(kept, order)
        if set(conflicts.unordered(fewer)) == wanted:
            kept = fewer
            found.append(order)
    return found[::-1]


def missing(
    conflicts: Conflicts, listed: Synchronization
) -> tuple[tuple[Barrier | Event, ...], tuple[MissingWait, ...]]:
    """Barriers and events that order what is unordered, and waits that the CPU lacks."""
    proposed = list(propose(conflicts, listed))
    synchronization = listed
    for order in proposed:
        synchronization = with_order(synchronization, order)
    wanted = set(conflicts.unordered(synchronization))
    kept: list[Barrier | Event] = []
    for order in proposed:
        fewer = without(synchronization, order)
        if set(conflicts.unordered(fewer)) == wanted:
            synchronization = fewer
        else:
            kept.append(order)
    tight = []
    for order in kept:
        if isinstance(order, Barrier):
            synchronization, order = tighten(conflicts, synchronization, order, wanted)
            synchronization, order = turn(conflicts, synchronization, order, wanted)
        tight.append(order)
    return tuple(tight), tuple(missing_waits(conflicts, synchronization))


def propose(conflicts: Conflicts, listed: Synchronization) -> Iterator[Barrier | Event]:
    """Barriers right before the steps that must wait, and events before their passes."""
    synchronization = listed
    for position, item in enumerate(conflicts.frame.passes):
        for step in range(len(item.steps)):
            unordered = [
                pair
                for pair in conflicts.unordered(synchronization)
                if conflicts.items[pair.second].pass_number == position
                and conflicts.items[pair.second].step == step
            ]
            orders: list[Barrier | Event] = [*events_for(conflicts, unordered)]
            for order in (*orders, *barriers_for(conflicts, unordered)):
                synchronization = with_order(synchronization, order)
                yield order


def events_for(conflicts: Conflicts, pairs: Sequence[Pair]) -> list[Event]:
    """For each queue that has to be waited for, its last pass that matters."""
    latest: dict[str, Pair] = {}
    for pair in pairs:
        if conflicts.remedy(pair) == "event":
            queue = conflicts.frame.passes[conflicts.items[pair.first].pass_number].queue
            latest[queue] = max(latest.get(queue, pair), pair, key=lambda p: (-p.ago, p.first))
    return [
        Event(name_of(conflicts, pair.first), name_of(conflicts, pair.second), pair.ago)
        for pair in latest.values()
    ]


def barriers_for(conflicts: Conflicts, pairs: Sequence[Pair]) -> list[Barrier]:
    """One for each set of stages that some stages have to wait for."""
    sources: defaultdict[tuple[bool, str], set[str]] = defaultdict(set)
    levels: defaultdict[tuple[bool, str], int] = defaultdict(int)
    for pair in pairs:
        if conflicts.remedy(pair) != "barrier":
            continue
        key = (not pair.ago and conflicts.same_pass(pair), conflicts.items[pair.second].stage)
        sources[key].add(conflicts.items[pair.first].stage)
        levels[key] = max(levels[key], conflicts.level(pair))
    joined: defaultdict[tuple[bool, frozenset[str]], set[str]] = defaultdict(set)
    for (inside, stage), after in sources.items():
        joined[inside, frozenset(after)].add(stage)
    return [
        Barrier(
            name_of(conflicts, pairs[0].second),
            "encoder" if inside else "consumer",
            conflicts.items[pairs[0].second].step,
            after,
            frozenset(before),
            max(levels[inside, stage] for stage in before),
        )
        for (inside, after), before in joined.items()
    ]


def name_of(conflicts: Conflicts, number: int) -> str:
    """The name of the pass of an item."""
    return conflicts.frame.passes[conflicts.items[number].pass_number].name


def tighten(
    conflicts: Conflicts, synchronization: Synchronization, barrier: Barrier, wanted: set[Pair]
) -> tuple[Synchronization, Barrier]:
    """The barrier without the stages, and without the visibility, that nothing needs."""
    for smaller in smaller_barriers:
        for stage in sorted(barrier.after | barrier.before) if smaller is not lower else [""]:
            tried = smaller(barrier, stage)
            if tried is None:
                continue
            other = with_order(without(synchronization, barrier), tried)
            if set(conflicts.unordered(other)) == wanted:
                synchronization, barrier = other, tried
    return synchronization, barrier


def narrow_after(barrier: Barrier, stage: str) -> Barrier | None:
    """It waits for one stage less; None where that is no barrier, or the same one."""
    after = barrier.after - {stage}
    return replace(barrier, after=after) if after and after != barrier.after else None


def narrow_before(barrier: Barrier, stage: str) -> Barrier | None:
    """It holds back one stage less."""
    before = barrier.before - {stage}
    return replace(barrier, before=before) if before and before != barrier.before else None


def lower(barrier: Barrier, _: str) -> Barrier | None:
    """It only orders execution."""
    return replace(barrier, level=0) if barrier.level else None


smaller_barriers = (narrow_after, narrow_before, lower)


def turn(
    conflicts: Conflicts, synchronization: Synchronization, barrier: Barrier, wanted: set[Pair]
) -> tuple[Synchronization, Barrier]:
    """A producer barrier instead, where several passes wait for the pass just before.

    It stands at the end of that pass, where it orders exactly the same.
    """
    before = pass_before(conflicts, barrier)
    if before is None or barrier.form != "consumer" or barrier.step:
        return synchronization, barrier
    freed = set(conflicts.unordered(without(synchronization, barrier))) - wanted
    waiting = {
        conflicts.items[pair.second].pass_number
        for pair in freed
        if not pair.ago and name_of(conflicts, pair.first) == before
    }
    if len(waiting) < 2:
        return synchronization, barrier
    last = len(conflicts.frame.pass_named(before).steps) - 1
    turned = replace(barrier, pass_name=before, form="producer", step=last)
    return with_order(without(synchronization, barrier), turned), turned


def pass_before(conflicts: Conflicts, barrier: Barrier) -> str | None:
    """The pass of the same queue that comes just before a barrier's, in the same frame."""
    passes = conflicts.frame.passes
    position = conflicts.frame.position(barrier.pass_name)
    names = [
        item.name
        for item in passes[:position]
        if item.kind != "cpu" and item.queue == passes[position].queue
    ]
    return names[-1] if names else None


def missing_waits(conflicts: Conflicts, synchronization: Synchronization) -> list[MissingWait]:
    """For each step of the CPU and each queue, the last pass that it has to wait for."""
    latest: dict[tuple[str, str], Pair] = {}
    for pair in conflicts.unordered(synchronization):
        if conflicts.remedy(pair) == "wait":
            queue = conflicts.frame.passes[conflicts.items[pair.first].pass_number].queue
            key = (name_of(conflicts, pair.second), queue)
            latest[key] = max(latest.get(key, pair), pair, key=lambda p: (-p.ago, p.first))
    return [
        MissingWait(name, Wait(name_of(conflicts, pair.first), pair.ago))
        for (name, _), pair in latest.items()
    ]
