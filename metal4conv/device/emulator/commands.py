"""Encoders of networks, command buffers, queues and events.

A submission runs when its event is waited for, so that whatever was dropped, changed or read
between commit and the end of the wait is seen. Command buffers hold nothing alive, as on Metal.
"""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from metal4conv.device.emulator.barriers import Barriers
from metal4conv.device.emulator.compute import ComputeEncoder
from metal4conv.device.emulator.library import PipelineState, TensorBinding, abort
from metal4conv.device.emulator.memory import (
    MACHINE_LEARNING,
    Buffer,
    Heap,
    ResidencySet,
    Tensor,
    Texture,
)
from metal4conv.device.emulator.misbehaviour import World
from metal4conv.device.emulator.objects import CommitOptions
from metal4conv.device.emulator.rules import EmulatedError
from metal4conv.device.emulator.tables import ArgumentTable, alive, check_resident
from metal4conv.layout.rules import READ

QUEUE_DOMAIN = "MTL4CommandQueueErrorDomain"
INTERNAL = 6
PLACEMENT = 1
MOST_RESIDENCY_SETS = 32
STAGE_MACHINE_LEARNING = 1 << 30
ALL_STAGES = (1 << 63) - 1
POLL_SECONDS = 0.01


class CommandAllocator:
    """`MTL4CommandAllocator`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.in_flight = 0
        self.user: weakref.ref[CommandBuffer] | None = None

    def reset(self) -> None:
        self.world.referee.require(
            not self.in_flight, "allocator-busy", "a submission from it is not done"
        )


class Recorded(Protocol):
    """What an encoder recorded."""

    is_ordered: bool
    """Whether a barrier stands between it and what was encoded before."""

    def held(self, world: World) -> Sequence[Tensor | Buffer | Texture]:
        """What the CPU leaves alone until it is done."""

    def touched(self, world: World) -> Sequence[tuple[int, bool, str]]:
        """The number of each resource, whether it is written, and what it is called."""

    def run(self, world: World, sets: Sequence[ResidencySet]) -> None:
        """Does it."""


@dataclass
class Dispatch:
    """A network's dispatch, by weak references."""

    pipeline: weakref.ref[PipelineState]
    table: weakref.ref[ArgumentTable]
    heap: weakref.ref[Heap] | None
    is_ordered: bool

    def held(self, world: World) -> list[Tensor]:
        """The tensors that the table holds."""
        table = alive(world, self.table, "the argument table")
        found = (world.tensors.get(identifier) for identifier in table.slots if identifier)
        return [tensor for tensor in found if tensor is not None]

    def touched(self, world: World) -> list[tuple[int, bool, str]]:
        """The tensors of all bindings."""
        pipeline = alive(world, self.pipeline, "the pipeline state")
        table = alive(world, self.table, "the argument table")
        return [
            (
                table.slots[binding.place],
                binding.use != READ.raw,
                f'the tensor of binding "{binding.tensor.name}"',
            )
            for binding in pipeline.bindings
        ]

    def run(self, world: World, sets: Sequence[ResidencySet]) -> None:
        """The network, from the tensors of the table into them."""
        run_network(world, self, sets)


class MachineLearningEncoder(Barriers):
    """`MTL4MachineLearningCommandEncoder`."""

    def __init__(self, world: World, commands: CommandBuffer) -> None:
        self.world = world
        self.commands = weakref.ref(commands)
        self.pipeline: weakref.ref[PipelineState] | None = None
        self.table: weakref.ref[ArgumentTable] | None = None

    def setPipelineState_(self, pipeline: PipelineState) -> None:
        self.pipeline = weakref.ref(pipeline)

    def setArgumentTable_(self, table: ArgumentTable) -> None:
        self.table = weakref.ref(table)

    def dispatchNetworkWithIntermediatesHeap_(self, heap: Heap | None) -> None:
        """Checks what Metal's validation layer checks, and records the dispatch."""
        referee = self.world.referee
        commands = self.encoding()
        pipeline = None if self.pipeline is None else self.pipeline()
        if pipeline is None:
            referee.fault("pipeline-set", "there is none, or it is gone")
        table = None if self.table is None else self.table()
        if table is None:
            referee.fault("table-set", "there is none, or it is gone")
        bindings = pipeline.bindings
        needed = max(binding.place for binding in bindings) + 1
        count = len(table.slots)
        referee.require(count >= needed, "table-size", f"{count} slots, {needed} are needed")
        for binding in bindings:
            self.check_slot(table, binding)
        self.check_heap(heap, pipeline.intermediatesHeapSize())
        held = None if heap is None else weakref.ref(heap)
        ordered, commands.has_barrier = commands.has_barrier, False
        commands.dispatches.append(
            Dispatch(weakref.ref(pipeline), weakref.ref(table), held, ordered)
        )

    def encoding(self) -> CommandBuffer:
        """The command buffer, which takes commands as long as this encoder has not ended."""
        commands: CommandBuffer = alive(self.world, self.commands, "the command buffer")
        self.world.referee.require(
            commands.encoder is self, "encoder-ended", "a command came after the encoder's end"
        )
        return commands

    def check_slot(self, table: ArgumentTable, binding: TensorBinding) -> None:
        """The tensor of a binding must be there, and be what the graph expects."""
        referee, place = self.world.referee, f'binding "{binding.tensor.name}"'
        identifier = table.slots[binding.place]
        referee.require(identifier != 0, "slots-filled", f"{place} at index {binding.place}")
        tensor = self.world.tensors.get(identifier)
        if tensor is None:
            referee.fault("kept-alive", f"the tensor of {place} is gone")
        referee.require(
            bool(tensor.usage() & MACHINE_LEARNING),
            "learning-usage",
            f"the tensor of {place} has usage {tensor.usage()}",
        )
        types = (binding.tensorDataType(), tensor.dataType())
        referee.require(types[0] == types[1], "bound-type", f"{place}: type {types[0]} {types[1]}")
        detail = f"{place} has dimensions {binding.sizes}, the tensor {tensor.numbers}"
        referee.require(tensor.numbers == binding.sizes, "bound-extents", detail)

    def check_heap(self, heap: Heap | None, needed: int) -> None:
        """The heap must be of the right kind and have room."""
        referee = self.world.referee
        if heap is None:
            referee.require(not needed, "heap-needed", f"{needed} bytes are needed")
            return
        referee.require(heap.type() == PLACEMENT, "heap-type", f"found type {heap.type()}")
        free = heap.size() - heap.usedSize()
        referee.require(free >= needed, "heap-size", f"{free} bytes are free, {needed} are needed")

    def check_barrier(self, own: int) -> None:
        """The stages of this pass's side."""
        self.encoding().has_barrier = True
        named = bool(own & STAGE_MACHINE_LEARNING) and not own & ~ALL_STAGES
        self.world.referee.require(named, "barrier-stage", f"stages {own:#x}")

    def endEncoding(self) -> None:
        self.encoding().encoder = None


class CommandBuffer:
    """`MTL4CommandBuffer`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.state = "new"
        self.allocator: weakref.ref[CommandAllocator] | None = None
        self.encoder: MachineLearningEncoder | ComputeEncoder | None = None
        self.dispatches: list[Recorded] = []
        self.residency: list[weakref.ref[ResidencySet]] = []
        self.has_barrier = False

    def beginCommandBufferWithAllocator_(self, allocator: CommandAllocator) -> None:
        user = None if allocator.user is None else allocator.user()
        is_free = user is None or user is self or user.state != "begun"
        self.world.referee.require(
            is_free, "allocator-alone", "another command buffer encodes with it"
        )
        allocator.user = weakref.ref(self)
        self.allocator = weakref.ref(allocator)
        self.state = "begun"
        self.dispatches = []
        self.residency = []
        self.has_barrier = False

    def useResidencySet_(self, residency: ResidencySet) -> None:
        self.world.referee.require(self.state == "begun", "begin-first", f"it is {self.state}")
        self.residency.append(weakref.ref(residency))

    def machineLearningCommandEncoder(self) -> MachineLearningEncoder:
        self.check_free()
        self.encoder = made = MachineLearningEncoder(self.world, self)
        return made

    def computeCommandEncoder(self) -> ComputeEncoder:
        self.check_free()
        self.encoder = made = ComputeEncoder(self.world, self)
        return made

    def check_free(self) -> None:
        """Whether an encoder may begin."""
        referee = self.world.referee
        referee.require(self.state == "begun", "begin-first", f"it is {self.state}")
        referee.require(self.encoder is None, "one-encoder", "the last one has not ended")

    def endCommandBuffer(self) -> None:
        self.world.referee.require(self.encoder is None, "encoder-ended", "one has not ended")
        self.world.referee.require(self.state == "begun", "begin-first", f"it is {self.state}")
        self.state = "ended"


@dataclass(frozen=True)
class CommitFeedback:
    """`MTL4CommitFeedback`; times in seconds."""

    trouble: EmulatedError | None
    start: float
    end: float

    def error(self) -> EmulatedError | None:
        return self.trouble

    def GPUStartTime(self) -> float:
        return self.start

    def GPUEndTime(self) -> float:
        return self.end


@dataclass
class Submission:
    """What was committed, and how far it is."""

    dispatches: list[Recorded]
    allocators: list[weakref.ref[CommandAllocator]]
    residency: list[weakref.ref[ResidencySet]]
    handlers: list[Any]  # functions that take feedback
    busy: list[weakref.ref[Tensor | Buffer | Texture]] = field(default_factory=list)


@dataclass(frozen=True)
class Signal:
    """An event gets a value once all before it in the queue is done."""

    event: SharedEvent
    value: int


@dataclass(frozen=True)
class Wait:
    """What comes after it in the queue waits for an event."""

    event: SharedEvent
    value: int


class CommandQueue:
    """`MTL4CommandQueue`. What it was given runs in that order, when an event is waited for."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.residency: list[weakref.ref[ResidencySet]] = []
        self.entries: deque[Submission | Signal | Wait] = deque()
        self.is_running = False
        self.unordered: dict[int, bool] = {}
        """Resources of dispatches since the last barrier or wait, and whether they are written."""

    def addResidencySet_(self, residency: ResidencySet) -> None:
        count = len(self.residency) + 1
        self.world.referee.require(
            count <= MOST_RESIDENCY_SETS, "residency-count", f"this is number {count}"
        )
        self.residency.append(weakref.ref(residency))

    def removeResidencySet_(self, residency: ResidencySet) -> None:
        self.residency = [item for item in self.residency if item() is not residency]

    def commit_count_(self, buffers: Sequence[CommandBuffer], count: int) -> None:
        self.submit(buffers, count, [])

    def commit_count_options_(
        self, buffers: Sequence[CommandBuffer], count: int, options: CommitOptions
    ) -> None:
        self.submit(buffers, count, list(options.handlers))

    def submit(self, buffers: Sequence[CommandBuffer], count: int, handlers: list[Any]) -> None:
        """Takes command buffers; their tensors and allocators are busy from now on."""
        referee = self.world.referee
        referee.require(
            len(buffers) == count, "commit-count", f"{len(buffers)} buffers, count {count}"
        )
        for commands in buffers:
            referee.require(commands.state == "ended", "buffer-ended", f"it is {commands.state}")
        made = Submission(
            [dispatch for commands in buffers for dispatch in commands.dispatches],
            [commands.allocator for commands in buffers if commands.allocator],
            [*self.residency, *(item for commands in buffers for item in commands.residency)],
            handlers,
        )
        if not any(isinstance(entry, Submission) for entry in self.entries):
            self.unordered = {}  # all work before was waited for
        for dispatch in made.dispatches:
            self.check_order(dispatch)
            for item in dispatch.held(self.world):
                item.in_flight += 1
                made.busy.append(weakref.ref(item))
        for reference in made.allocators:
            alive(self.world, reference, "the command allocator").in_flight += 1
        for commands in buffers:
            commands.state = "committed"
        self.entries.append(made)

    def check_order(self, dispatch: Recorded) -> None:
        """What another dispatch writes, or writes what it reads, comes after a barrier."""
        if dispatch.is_ordered:
            self.unordered = {}
        touched = dispatch.touched(self.world)
        for identifier, writes, name in touched:
            clash = identifier in self.unordered and (writes or self.unordered[identifier])
            self.world.referee.require(not clash, "barrier-between", name)
        for identifier, writes, _ in touched:
            self.unordered[identifier] = writes or self.unordered.get(identifier, False)

    def signalEvent_value_(self, event: SharedEvent, value: int) -> None:
        """The event has the value once what was committed before is done."""
        self.entries.append(Signal(event, value))
        event.signallers.append(self)

    def waitForEvent_value_(self, event: SharedEvent, value: int) -> None:
        """What is committed later runs after the event has the value."""
        self.entries.append(Wait(event, value))

    def run_until(self, event: SharedEvent, value: int) -> None:
        """Runs as far as the signal that gives an event this value, if there is one; not farther,
        so that what nobody has waited for is not done."""
        will_come = any(
            isinstance(entry, Signal) and entry.event is event and entry.value >= value
            for entry in self.entries
        )
        if self.is_running or not will_come:
            return
        self.is_running = True
        try:
            while event.value < value and self.run_next():
                pass
        finally:
            self.is_running = False

    def run_next(self) -> bool:
        """Runs the next entry; False where it has to wait."""
        entry = self.entries[0]
        if isinstance(entry, Wait):
            entry.event.advance(entry.value)
            if entry.event.value < entry.value:
                return False
        self.entries.popleft()
        if isinstance(entry, Submission):
            execute(self.world, entry)
        elif isinstance(entry, Signal):
            entry.event.value = max(entry.event.value, entry.value)
        return True


class SharedEvent:
    """`MTLSharedEvent`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.value = 0
        self.signallers: list[CommandQueue] = []

    def signaledValue(self) -> int:
        """The value; one who asks again and again sees the work come to its end."""
        self.advance(self.value + 1)
        return self.value

    def setSignaledValue_(self, value: int) -> None:
        self.value = value

    def advance(self, value: int) -> None:
        """Runs the work that gives the event this value."""
        if self.world.misbehave == "timeout":
            return
        for queue in list(self.signallers):
            queue.run_until(self, value)

    def waitUntilSignaledValue_timeoutMS_(self, value: int, timeout: int) -> bool:
        """Whether the value came; the work before it runs now."""
        end = time.monotonic() + timeout / 1000
        self.advance(value)
        while self.value < value and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, POLL_SECONDS))  # another thread may commit or signal
            self.advance(value)
        return self.value >= value


def execute(world: World, submission: Submission) -> None:
    """Runs what was committed, and tells the handlers."""
    if world.misbehave == "abort":
        abort(
            "MPSRuntime: failed assertion `expected element type f32 but received f16': "
            "GPURegionRuntime.mm"
        )
    gc.collect()  # what only cycles keep alive is gone on Metal, too
    for reference in submission.allocators:
        alive(world, reference, "the command allocator").in_flight -= 1
    trouble = None
    start = time.perf_counter()
    if world.misbehave == "feedback-error":
        trouble = EmulatedError("Internal Error (0000000e)", QUEUE_DOMAIN, INTERNAL)
    else:
        for dispatch in submission.dispatches:
            sets = [alive(world, item, "the residency set") for item in submission.residency]
            dispatch.run(world, sets)
    feedback = CommitFeedback(trouble, start, time.perf_counter())
    for busy in submission.busy:
        if (item := busy()) is not None:
            item.in_flight -= 1
    if world.misbehave != "no-feedback":
        tell(world, submission.handlers, feedback)


def run_network(world: World, dispatch: Dispatch, sets: Sequence[ResidencySet]) -> None:
    """One network, from the tensors of its table into them."""
    pipeline = alive(world, dispatch.pipeline, "the pipeline state")
    table = alive(world, dispatch.table, "the argument table")
    heap = dispatch.heap and alive(world, dispatch.heap, "the heap")
    inputs: dict[str, np.ndarray] = {}
    outputs: dict[str, Tensor] = {}
    for binding in pipeline.bindings:
        tensor = world.tensors.get(table.slots[binding.place])
        if tensor is None:
            detail = f'the tensor of binding "{binding.tensor.name}" was dropped before the end'
            world.referee.fault("kept-alive", detail)
        allocation = tensor.allocation
        if allocation is None:
            detail = f'the buffer of binding "{binding.tensor.name}" was dropped before the end'
            world.referee.fault("kept-alive", detail)
        check_resident(world, allocation, sets, f'"{binding.tensor.name}"')
        if binding.use == READ.raw:
            inputs[binding.tensor.name] = tensor.elements.copy()
        else:
            outputs[binding.tensor.name] = tensor
    if heap is not None:
        check_resident(world, heap, sets, "the heap")
    found = pipeline.run(inputs)
    for name, tensor in outputs.items():
        tensor.elements[...] = found[name].reshape(tensor.numbers[::-1])


def tell(world: World, handlers: Sequence[Any], feedback: CommitFeedback) -> None:
    """Calls the handlers on another thread, as Metal does. (Any: functions.)"""
    raised: list[BaseException] = []

    def call() -> None:
        for handler in handlers:
            try:
                handler(feedback)
            except BaseException as error:  # whatever an app's function raises
                raised.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    if raised:
        world.referee.fault("quiet-handler", repr(raised[0]))
