"""What is done before what: the meaning of barriers, fences, events and waits in Metal 4.

Metal 4 tracks no hazards. Passes of a queue, their stages, and the commands of a stage run at the
same time unless something orders them (`MTL4CommandEncoder.h`, and Apple's articles on consumer
barriers, producer barriers, fences, and stages within a pass):

- A **consumer** barrier (`barrierAfterQueueStages:beforeStages:visibilityOptions:`) in a pass holds
  back the stages `before` of the commands that follow in this pass, and of all later passes of
  the queue, until the stages `after` of all earlier passes of the queue are done. (The header of
  the macOS 26.0 SDK only speaks of this pass; Apple's article and later headers of the others.)
- A **producer** barrier (`barrierAfterStages:beforeQueueStages:visibilityOptions:`) holds back the
  stages `before` of all later passes of the queue until the stages `after` of what the pass has
  encoded so far, and of all earlier passes, are done. So one queue barrier may order many pairs of
  passes; at the end of a pass it does what a consumer barrier does at the start of the next one.
- An **encoder** barrier (`barrierAfterEncoderStages:beforeEncoderStages:visibilityOptions:`) orders
  commands of its own pass and nothing else. It cannot wait for fragments or tiles.
- Earlier and later are meant in the order of commits to the queue, so barriers reach across command
  buffers and across frames, but never to another queue.
- A **fence** orders the stages `after` of the pass that updates it, and nothing before that pass,
  before the stages `before` of the pass that waits; of the same queue. A pass that waits before the
  update is encoded waits for the one of the frame before.
- An **event** orders all that its signalling queue was given before the signal before all that the
  waiting queue is given after the wait.
- The **CPU** does its steps in order, and what it did before a commit is done, and visible, when
  the GPU starts. It knows that the GPU is done only where it waits for a shared event. Before a
  frame it waits for the one `frames_in_flight` before, so the GPU has no more frames at once.
- Within a step of a render pass, fragments come from the vertices (objects, meshes) of the same
  commands: what holds back those holds back the fragments, what waits for the fragments has waited
  for them. What one stage writes and another one reads still needs a barrier between steps.

Orders add up through commands that run: `a` before `b` and `b` before `c` gives `a` before `c`. A
barrier without visibility (`None`) orders execution, which is enough to write over what was read.
To write over what was written, one of the barriers on the way must have the option `Device`; to
read it, each of them; where two resources share memory in a heap, one of them `ResourceAlias` too.
Apple does not say what becomes of caches over several barriers: this is the cautious reading.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from metal4conv.frame.document import Barrier, Frame, Synchronization
from metal4conv.frame.stages import GEOMETRY, UNWAITABLE


class Past(NamedTuple):
    """What is done when something starts, as bits by item, and how far its writes have come.

    `flushed` is what some barrier with `Device` has followed, `visible` what only such barriers
    have followed, `unaliased` what some barrier with `ResourceAlias` has followed.
    """

    done: int = 0
    flushed: int = 0
    visible: int = 0
    unaliased: int = 0

    def join(self, other: Past) -> Past:
        """Both pasts."""
        if not other.done or other is self:
            return self
        return Past(
            self.done | other.done,
            self.flushed | other.flushed,
            self.visible | other.visible,
            self.unaliased | other.unaliased,
        )

    def through(self, level: int) -> Past:
        """What is left of it after a barrier of some visibility."""
        if not level:
            return Past(self.done, self.flushed, 0, self.unaliased)
        return Past(self.done, self.done, self.visible, self.done if level == 2 else self.unaliased)


NOTHING = Past()
Pasts = defaultdict[str, Past]
Key = TypeVar("Key", str, int)


@dataclass(frozen=True)
class Item:
    """What one stage of a step does: what barriers order."""

    number: int
    pass_number: int
    step: int
    stage: str


class Pair(NamedTuple):
    """Two items by number; `ago` counts back from this frame to that of the first."""

    first: int
    second: int
    ago: int


def items_of(frame: Frame) -> tuple[Item, ...]:
    """The items of one frame, in order."""
    found: list[Item] = []
    for position, item in enumerate(frame.passes):
        for number, step in enumerate(item.steps):
            found += [
                Item(len(found) + index, position, number, stage)
                for index, stage in enumerate(step.stages)
            ]
    return tuple(found)


class Timeline:
    """Goes through a few frames in order of their commits, and notes the past of each item.

    `mended` puts further pairs of items in order, with some visibility.
    """

    def __init__(
        self,
        frame: Frame,
        items: tuple[Item, ...],
        synchronization: Synchronization,
        mended: Mapping[Pair, int] | None = None,
    ) -> None:
        self.frame, self.items, self.synchronization = frame, items, synchronization
        self.pasts: list[Past] = []
        self.ends: list[Past] = []
        self.cpu = NOTHING
        self.stage_done: defaultdict[str, Pasts] = defaultdict(new_pasts)
        self.held: defaultdict[str, Pasts] = defaultdict(new_pasts)
        self.queue_held = new_pasts()
        self.fences: defaultdict[int, Past] = defaultdict(Past)
        self.done_after: dict[tuple[str, int], Past] = {}
        self.barriers: defaultdict[tuple[str, int, bool], list[Barrier]] = defaultdict(list)
        for barrier in synchronization.barriers:
            place = (barrier.pass_name, barrier.step, barrier.form == "producer")
            self.barriers[place].append(barrier)
        self.mended: defaultdict[int, list[tuple[Pair, int]]] = defaultdict(list)
        for pair, level in (mended or {}).items():
            self.mended[pair.second].append((pair, level))

    def run(self, frames: int) -> list[Past]:
        """The pasts of all items of frame 0, then of frame 1, and so on."""
        by_pass: defaultdict[int, list[Item]] = defaultdict(list)
        for item in self.items:
            by_pass[item.pass_number].append(item)
        for number in range(frames):
            for position in range(len(self.frame.passes)):
                if self.frame.passes[position].kind == "cpu":
                    self.run_cpu(number, position, by_pass[position])
                else:
                    self.run_gpu(number, position, by_pass[position])
        return self.pasts

    def bit(self, frame: int, item: Item) -> Past:
        """An item itself, done and visible to what is ordered after it."""
        mask = 1 << (frame * len(self.items) + item.number)
        return Past(mask, 0, mask)

    def run_cpu(self, frame: int, position: int, items: list[Item]) -> None:
        """The CPU waits, then does its steps."""
        for wait in self.frame.passes[position].waits:
            done = self.done_after.get((wait.pass_name, frame - wait.frames_ago), NOTHING)
            self.cpu = self.cpu.join(done.through(2))
        for item in items:
            start = self.begin(frame, item, self.cpu.through(2))
            self.cpu = start.join(self.bit(frame, item))
            self.ends.append(self.cpu)

    def begin(self, frame: int, item: Item, start: Past) -> Past:
        """Notes the past of an item, with what was mended."""
        for pair, level in self.mended[item.number]:
            if pair.ago <= frame:
                number = (frame - pair.ago) * len(self.items) + pair.first
                start = start.join(self.ends[number].through(level))
        self.pasts.append(start)
        return start

    def run_gpu(self, frame: int, position: int, items: list[Item]) -> None:
        """A pass: its steps with the barriers and fences between them."""
        name, queue = self.frame.passes[position].name, self.frame.passes[position].queue
        for event in self.synchronization.events:
            if event.wait == name:
                signalled = self.done_after.get((event.signal, frame - event.frames_ago), NOTHING)
                add(self.queue_held, queue, signalled.through(2))
        earlier, held = self.stage_done[queue], self.held[queue]
        own, own_held, later = new_pasts(), new_pasts(), new_pasts()
        for number, fence in enumerate(self.synchronization.fences):
            if fence.wait_pass == name:
                hold(own_held, fence.before, self.fences[number].through(2))
        for step in range(len(self.frame.passes[position].steps)):
            for barrier in self.barriers[name, step, False]:
                if barrier.form == "consumer":
                    hold(held, barrier.before, gather(earlier, barrier))
                else:
                    hold(own_held, barrier.before, gather(own, barrier))
            self.run_step(frame, queue, [i for i in items if i.step == step], own, own_held)
            for barrier in self.barriers[name, step, True]:
                hold(later, barrier.before, gather(earlier, barrier).join(gather(own, barrier)))
        for number, fence in enumerate(self.synchronization.fences):
            if fence.update_pass == name:
                for stage in fence.after:
                    add(self.fences, number, own[stage])
        for stage, past in own.items():
            add(earlier, stage, past)
        for stage, past in later.items():
            add(held, stage, past)
        self.done_after[name, frame] = union(earlier)

    def run_step(
        self,
        frame: int,
        queue: str,
        items: list[Item],
        own: Pasts,
        own_held: Pasts,
    ) -> None:
        """The stages of a step, those of geometry before the fragments."""
        geometry = started = NOTHING
        given = self.queue_held[queue].join(self.cpu.through(2))
        for item in items:
            start = given.join(self.held[queue][item.stage]).join(own_held[item.stage])
            if item.stage == "fragment":
                start = start.join(started)
            start = self.begin(frame, item, start)
            end = start.join(self.bit(frame, item))
            if item.stage in GEOMETRY:
                started, geometry = started.join(start), geometry.join(end)
            if item.stage == "fragment":
                end = end.join(geometry)
            self.ends.append(end)
            add(own, item.stage, end)


def new_pasts() -> Pasts:
    """Pasts by stage, at first empty."""
    return defaultdict(Past)


def add(pasts: defaultdict[Key, Past], key: Key, past: Past) -> None:
    """Joins a past with the one that is there."""
    pasts[key] = pasts[key].join(past)


def hold(held: Pasts, stages: frozenset[str], past: Past) -> None:
    """Lets stages wait for a past."""
    for stage in stages:
        add(held, stage, past)


def gather(done: Pasts, barrier: Barrier) -> Past:
    """What a barrier waits for."""
    past = NOTHING
    unable = UNWAITABLE if barrier.form == "encoder" else ()
    for stage in barrier.after.difference(unable):
        past = past.join(done[stage])
    return past.through(barrier.level)


def union(done: Pasts) -> Past:
    """All stages' pasts."""
    past = NOTHING
    for other in done.values():
        past = past.join(other)
    return past
