"""Reads barriers, fences, events and residency sets of a frame's TOML file."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metal4conv.errors import did_you_mean
from metal4conv.frame.document import (
    Barrier,
    Event,
    Fence,
    Form,
    Pass,
    ResidencySet,
    Synchronization,
)
from metal4conv.frame.fields import Fields
from metal4conv.frame.passes import MOST_FRAMES_AGO
from metal4conv.frame.stages import STAGES, VISIBILITY

FORMS: tuple[Form, ...] = ("consumer", "producer", "encoder")
BARRIER_KEYS = ("pass", "form", "step", "after", "before", "visibility")


def read_synchronization(table: Fields, passes: Sequence[Pass]) -> Synchronization:
    """Barriers, fences and events, in the order of the file."""
    known = {item.name: item for item in passes if item.kind != "cpu"}
    order = [item.name for item in passes]
    barriers = [
        read_barrier(
            Fields(row, f"{table.place}: [[barrier]] number {number}", BARRIER_KEYS), known
        )
        for number, row in enumerate(table.tables("barrier"), 1)
    ]
    fences = [
        read_fence(Fields(row, f"{table.place}: [[fence]] number {number}", FENCE_KEYS), known)
        for number, row in enumerate(table.tables("fence"), 1)
    ]
    events = [
        read_event(
            Fields(row, f"{table.place}: [[event]] number {number}", EVENT_KEYS), known, order
        )
        for number, row in enumerate(table.tables("event"), 1)
    ]
    return Synchronization(tuple(barriers), tuple(fences), tuple(events))


FENCE_KEYS = ("update", "wait")
EVENT_KEYS = ("signal", "wait", "frames_ago")


def read_pass_name(fields: Fields, key: str, known: dict[str, Pass]) -> str:
    """The name of a pass that the GPU runs."""
    name = fields.name(key)
    if name not in known:
        fields.fail(key, f'the GPU has no pass "{name}"', did_you_mean(name, known))
    return name


def read_stages(fields: Fields, key: str) -> frozenset[str]:
    """The stages of a mask, which must not be empty."""
    if key not in fields:
        fields.name(key)  # says that it is missing
    words = fields.words(key, (*STAGES, "all"))
    if not words:
        fields.fail(key, "expected stages, got an empty list")
    return frozenset(STAGES) if "all" in words else frozenset(words)


def read_barrier(fields: Fields, known: dict[str, Pass]) -> Barrier:
    """One barrier."""
    item = known[read_pass_name(fields, "pass", known)]
    form = fields.choice("form", FORMS)
    options = fields.words("visibility", VISIBILITY) if "visibility" in fields else ("device",)
    return Barrier(
        pass_name=item.name,
        form=form,  # type: ignore[arg-type]  # one of FORMS
        step=read_step(fields, item, form),
        after=read_stages(fields, "after"),
        before=read_stages(fields, "before"),
        level=max((VISIBILITY[option] for option in options), default=0),
    )


def read_step(fields: Fields, item: Pass, form: str) -> int:
    """The position of the step that a barrier stands at."""
    names = [step.name for step in item.steps]
    last = len(names) - 1
    name = fields.text("step")
    if name is None:
        if form == "encoder":
            fields.fail(
                "form",
                f'a barrier within pass "{item.name}" stands before one of its steps',
                f"name it with step: {', '.join(names)}" if last else "give the pass steps",
            )
        return last if form == "producer" else 0
    if name not in names or not name:
        fields.fail("step", f'pass "{item.name}" has no such step', did_you_mean(name, names))
    position = names.index(name)
    if form == "encoder" and not position:
        fields.fail("step", f'before "{name}", the first step, there is nothing to wait for')
    return position


def read_fence(fields: Fields, known: dict[str, Pass]) -> Fence:
    """One fence, which orders two passes of a queue."""
    update = Fields(fields.mapping("update"), f"{fields.place}, update", ("pass", "after"))
    wait = Fields(fields.mapping("wait"), f"{fields.place}, wait", ("pass", "before"))
    first = known[read_pass_name(update, "pass", known)]
    second = known[read_pass_name(wait, "pass", known)]
    if first.queue != second.queue:
        fields.fail(
            "wait",
            f'a fence works within a queue, and "{first.name}" is in "{first.queue}", '
            f'"{second.name}" in "{second.queue}"',
            "use an event",
        )
    if first.name == second.name:
        fields.fail("wait", "a fence orders two passes", "within one, use an encoder barrier")
    return Fence(first.name, read_stages(update, "after"), second.name, read_stages(wait, "before"))


def read_event(fields: Fields, known: dict[str, Pass], order: list[str]) -> Event:
    """One event."""
    signal = read_pass_name(fields, "signal", known)
    wait = read_pass_name(fields, "wait", known)
    ago = fields.count("frames_ago", 0, most=MOST_FRAMES_AGO)
    if not ago and order.index(signal) >= order.index(wait):
        fields.fail(
            "wait",
            f'"{wait}" is not listed after "{signal}", which signals the event',
            "list it later, or let it wait for an earlier frame with frames_ago = 1",
        )
    return Event(signal, wait, ago)


def read_residency(
    table: Fields, passes: Sequence[Pass], known: Iterable[str]
) -> tuple[ResidencySet, ...]:
    """The residency sets; resources may be heaps."""
    queues = {item.queue for item in passes if item.kind != "cpu"}
    names = tuple(known)
    sets = []
    for number, row in enumerate(table.tables("residency_set"), 1):
        place = f"{table.place}: [[residency_set]] number {number}"
        fields = Fields(row, place, ("name", "resources", "queues"))
        sets.append(
            ResidencySet(
                fields.name(),
                frozenset(fields.words("resources", names)),
                frozenset(fields.words("queues", sorted(queues)) or queues),
            )
        )
    return tuple(sets)
