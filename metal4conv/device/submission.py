"""One dispatch of a network: heap, residency, encoding, commit, and the wait for its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from metal4conv.device.api import Api
from metal4conv.device.failures import RunFailed, answer, described, gpu_failure, made

HEAP_PLACEMENT = 1
"""`MTLHeapTypePlacement`, which the encoder asks for."""

STORAGE_PRIVATE = 2
"""`MTLStorageModePrivate`: only the GPU uses the heap."""

LEAST_HEAP = 16384
"""Bytes of the heap when the network asks for fewer; what happens with 0 is unknown."""

FEEDBACK_PATIENCE = 1.0
"""Seconds that commit feedback may come after the event; on some systems it never comes."""


@dataclass
class Feedback:
    """What the commit feedback said, if it came."""

    arrived: threading.Event = field(default_factory=threading.Event)
    error: Any = None  # an NSError
    start: float = 0.0
    end: float = 0.0
    trouble: str | None = None

    def receive(self, feedback: Any) -> None:  # Any: an MTL4CommitFeedback
        """Stores and never raises: on the thread of Metal's an exception ends the process."""
        try:
            self.error = feedback.error()
            self.start = float(feedback.GPUStartTime())
            self.end = float(feedback.GPUEndTime())
        except BaseException as error:  # see above
            self.trouble = repr(error)
        finally:
            self.arrived.set()

    @property
    def seconds(self) -> float | None:
        """The GPU's time, None where it is not told."""
        return self.end - self.start if self.end > self.start > 0 else None


class Submittable(Protocol):
    """What is encoded and may be committed. (Any: objects of Metal.)"""

    queue: Any
    commands: Any
    event: Any
    kept: list[Any]


@dataclass
class Network:
    """All that has to live until the GPU is done, since MTL4 command buffers retain nothing."""

    device: Any  # the rest are objects of Metal
    pipeline: Any
    table: Any
    heap: Any
    residency: Any
    allocations: Sequence[Any]
    queue: Any
    allocator: Any
    commands: Any
    event: Any
    was_used: bool = False
    kept: list[Any] = field(default_factory=list)  # blocks that Metal may call late


def make_heap(api: Api, device: Any, needed: int) -> Any:  # Any: objects of Metal
    """The heap for intermediate tensors; `RunFailed` when it is shorter than needed."""
    descriptor = api.metal.MTLHeapDescriptor.alloc().init()
    descriptor.setType_(HEAP_PLACEMENT)
    descriptor.setStorageMode_(STORAGE_PRIVATE)
    descriptor.setSize_(max(needed, LEAST_HEAP))
    heap = made(device.newHeapWithDescriptor_(descriptor), "newHeapWithDescriptor:")
    if int(heap.size()) < needed:
        raise RunFailed("error", f"the heap has {heap.size()} bytes, the network needs {needed}")
    return heap


def make_residency(api: Api, device: Any, allocations: Sequence[Any]) -> Any:  # Any: as above
    """A residency set of all that the dispatch touches; where none is needed it does no harm."""
    descriptor = api.metal.MTLResidencySetDescriptor.alloc().init()
    result = device.newResidencySetWithDescriptor_error_(descriptor, None)
    residency = answer(result, "newResidencySetWithDescriptor:error:")
    for allocation in allocations:
        residency.addAllocation_(allocation)
    residency.commit()
    residency.requestResidency()
    return residency


def make_network(
    device: Any, pipeline: Any, table: Any, heap: Any, residency: Any, allocations: Sequence[Any]
) -> Network:  # Any: objects of Metal
    """A queue, an allocator and a command buffer around what was made before.

    The queue is new each time: it takes 32 residency sets at most, and this one belongs to it.
    """
    queue = made(device.newMTL4CommandQueue(), "newMTL4CommandQueue")
    queue.addResidencySet_(residency)
    allocator = made(device.newCommandAllocator(), "newCommandAllocator")
    commands = made(device.newCommandBuffer(), "newCommandBuffer")
    event = made(device.newSharedEvent(), "newSharedEvent")
    return Network(
        device, pipeline, table, heap, residency, allocations, queue, allocator, commands, event
    )


def encode(network: Network) -> None:
    """Encodes the one dispatch; the last one must have ended."""
    if network.was_used:
        network.allocator.reset()
    network.was_used = True
    network.commands.beginCommandBufferWithAllocator_(network.allocator)
    selector = "machineLearningCommandEncoder"
    encoder = made(network.commands.machineLearningCommandEncoder(), selector)
    encoder.setPipelineState_(network.pipeline)
    encoder.setArgumentTable_(network.table)
    encoder.dispatchNetworkWithIntermediatesHeap_(network.heap)
    encoder.endEncoding()
    network.commands.endCommandBuffer()


def commit_and_wait(
    api: Api,
    network: Submittable,
    timeout_ms: int,
    note: Callable[[str], None],
    patience: float,
    experience: str,
) -> float | None:
    """Runs what was encoded; the GPU's time in seconds, None where feedback does not tell it.

    `experience` is what is known of work that never ends. Only the shared event is waited for.
    `RunFailed` when it is not signalled in time, or feedback has an error.
    """
    feedback = Feedback()
    value = int(network.event.signaledValue()) + 1
    options = commit_options(api, feedback)
    network.kept.append((options, feedback))
    if options is None:
        network.queue.commit_count_([network.commands], 1)
    else:
        network.queue.commit_count_options_([network.commands], 1, options)
    network.queue.signalEvent_value_(network.event, value)
    signalled = network.event.waitUntilSignaledValue_timeoutMS_(value, timeout_ms)
    if signalled and options is not None:
        feedback.arrived.wait(patience)
    if feedback.error is not None:
        raise gpu_failure(feedback.error)
    if not signalled:
        raise RunFailed(
            "timeout",
            f"the GPU did not finish within {timeout_ms} ms",
            f"allow more time with --timeout; {experience}",
        )
    if feedback.trouble:
        note(f"commit feedback could not be read: {feedback.trouble}")
    return feedback.seconds


def commit_options(api: Api, feedback: Feedback) -> Any:  # Any: an MTL4CommitOptions or None
    """Options that ask for feedback, None where this system has none."""
    options_class = getattr(api.metal, "MTL4CommitOptions", None)
    if options_class is None:
        return None

    def handler(commit_feedback: Any) -> None:  # Any: an MTL4CommitFeedback
        feedback.receive(commit_feedback)

    options = options_class.alloc().init()
    options.addFeedbackHandler_(handler)
    return options


def start_capture(api: Api, device: Any, path: str) -> Any:  # Any: objects of Metal
    """Begins a capture of the device's work into a `.gputrace`; gives back who ends it."""
    manager_class = getattr(api.metal, "MTLCaptureManager", None)
    if manager_class is None or api.is_emulated:
        raise RunFailed("refused", "only Metal itself writes captures", "leave --capture out")
    if Path(path).exists():
        raise RunFailed("refused", f"{path} is there already", "remove it, or name another")
    manager = made(manager_class.sharedCaptureManager(), "sharedCaptureManager")
    document = api.metal.MTLCaptureDestinationGPUTraceDocument
    if not manager.supportsDestination_(document):
        raise RunFailed(
            "error",
            "Metal does not write captures to files here",
            "METAL_CAPTURE_ENABLED=1 was set; is Xcode installed?",
        )
    descriptor = api.metal.MTLCaptureDescriptor.alloc().init()
    descriptor.setCaptureObject_(device)
    descriptor.setDestination_(document)
    descriptor.setOutputURL_(api.foundation.NSURL.fileURLWithPath_(path))
    started, error = manager.startCaptureWithDescriptor_error_(descriptor, None)
    if not started:
        text = described(error)
        raise RunFailed("error", f"startCaptureWithDescriptor:error: failed: {text}")
    return manager
