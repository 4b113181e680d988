"""Random frames: the tool and a brute-force oracle find the same races, and the tool mends them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from metal4conv.frame.document import Barrier, Event, Synchronization
from metal4conv.frame.hazards import Conflicts
from metal4conv.frame.needed import MissingWait, missing, needless, with_order, without
from metal4conv.frame.networks import Fitting
from metal4conv.frame.reading import read_frame
from tests.frame.oracle import races
from tests.frame.sketches import Encoder, Order, Sketch, sketch

FAST, ALL = 80, 500
DECADES = [
    pytest.param(
        range(first, first + 10), marks=[] if first < FAST else [pytest.mark.slow], id=str(first)
    )
    for first in range(0, ALL, 10)
]


def read(found: Sketch, folder: Path) -> Conflicts:
    """The tool's view of a frame."""
    path = folder / "frame.toml"
    path.write_text(found.toml(), "utf-8")
    return Conflicts(Fitting(read_frame(path)).run())


@pytest.mark.parametrize("seeds", DECADES)
def test_races_are_those_of_the_oracle(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        found = sketch(seed)
        conflicts = read(found, tmp_path)
        hazards = {tuple(pair) for pair in conflicts.unordered(conflicts.frame.synchronization)}
        assert hazards == races(found), f"seed {seed}"


@pytest.mark.parametrize("seeds", DECADES)
def test_what_is_proposed_mends_all_and_nothing_of_it_is_spare(
    seeds: range, tmp_path: Path
) -> None:
    for seed in seeds:
        found = sketch(seed)
        conflicts = read(found, tmp_path)
        listed = conflicts.frame.synchronization
        orders, waits = missing(conflicts, listed)
        complete = listed
        for order in orders:
            complete = with_order(complete, order)
        whole = with_waits(found, waits)
        left = races(with_orders(whole, complete))
        hopeless = [conflicts.remedy(pair) for pair in conflicts.clashes if tuple(pair) in left]
        assert set(hopeless) <= {"steps", "passes"}, f"seed {seed}"
        assert len(hopeless) == len(left), f"seed {seed}"
        for order in orders:
            fewer = races(with_orders(found, without(complete, order)))
            assert fewer > races(with_orders(found, complete)), f"seed {seed}: {order}"


@pytest.mark.parametrize("seeds", DECADES)
def test_needless_ones_can_go_and_the_others_cannot(seeds: range, tmp_path: Path) -> None:
    for seed in seeds:
        found = sketch(seed)
        conflicts = read(found, tmp_path)
        kept = conflicts.frame.synchronization
        for order in needless(conflicts, kept):
            kept = without(kept, order)
        before = races(found)
        assert races(with_orders(found, kept)) == before, f"seed {seed}"
        for order in (*kept.barriers, *kept.fences, *kept.events):
            fewer = races(with_orders(found, without(kept, order)))
            assert fewer > before, f"seed {seed}: {order}"


@pytest.mark.parametrize("seeds", DECADES)
def test_mending_the_races_that_are_told_mends_those_that_they_imply(
    seeds: range, tmp_path: Path
) -> None:
    for seed in seeds:
        found = sketch(seed)
        conflicts = read(found, tmp_path)
        told = [h for h in conflicts.hazards(conflicts.frame.synchronization) if not h.implied]
        mended = {tuple(hazard.pair): conflicts.level(hazard.pair) for hazard in told}
        assert races(found, mended) == set(), f"seed {seed}"
        for hazard in told:
            others = {pair: level for pair, level in mended.items() if pair != hazard.pair}
            assert tuple(hazard.pair) in races(found, others), f"seed {seed}: {hazard}"


def test_random_frames_have_everything_in_them() -> None:
    found = [sketch(seed) for seed in range(FAST)]
    kinds = {encoder.kind for item in found for encoder in item.encoders}
    forms = {order.form for item in found for order in item.orders}
    assert kinds == {"render", "compute", "machine_learning", "cpu"}
    assert forms == {"consumer", "producer", "encoder", "fence", "event"}
    assert sum(bool(races(item)) for item in found) > len(found) / 2
    assert sum(not races(item) for item in found) > 5


def with_orders(found: Sketch, synchronization: Synchronization) -> Sketch:
    """The same frame with these barriers, fences and events."""
    orders = [barrier_order(barrier) for barrier in synchronization.barriers]
    orders += [
        Order(
            "fence",
            fence.update_pass,
            fence.wait_pass,
            after=tuple(fence.after),
            before=tuple(fence.before),
        )
        for fence in synchronization.fences
    ]
    orders += [event_order(event) for event in synchronization.events]
    return replace(found, orders=orders)


def barrier_order(barrier: Barrier) -> Order:
    return Order(
        barrier.form,
        barrier.pass_name,
        barrier.pass_name,
        barrier.step,
        tuple(barrier.after),
        tuple(barrier.before),
        barrier.level,
    )


def event_order(event: Event) -> Order:
    return Order("event", event.signal, event.wait, ago=event.frames_ago)


def with_waits(found: Sketch, waits: tuple[MissingWait, ...]) -> Sketch:
    """The same frame whose CPU steps wait for more."""
    encoders = []
    for encoder in found.encoders:
        more = [(w.wait.pass_name, w.wait.frames_ago) for w in waits if w.pass_name == encoder.name]
        encoders.append(
            Encoder(encoder.name, encoder.kind, encoder.queue, encoder.steps, encoder.waits + more)
        )
    return replace(found, encoders=encoders)
