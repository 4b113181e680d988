"""Where resources lie in buffers and heaps; `layout.rules` has the sources of Metal's rules."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from metal4conv.frame.checks import fail, needed_usage
from metal4conv.frame.document import Frame, Heap, Resource
from metal4conv.frame.hazards import Conflicts
from metal4conv.frame.memory import tensor_bytes
from metal4conv.layout.rules import DATA_TYPES, ROW_ALIGNMENT
from metal4conv.report import Finding


def memory_findings(conflicts: Conflicts) -> Iterator[Finding]:
    """Where resources lie in buffers and heaps, and their strides."""
    frame = conflicts.frame
    for resource in frame.resources.values():
        if resource.kind == "tensor":
            learns = "machine_learning" in (
                *needed_usage(conflicts, resource),
                *(resource.usage or ()),
            )
            yield from tensor_findings(frame, resource, learns)
        heap = frame.heaps.get(resource.heap or "")
        if heap is not None and heap.bytes is not None:
            end = resource.heap_offset + (resource.bytes or 0)
            if end > heap.bytes:
                yield too_small(f'heap "{heap.name}"', heap.bytes, resource, end)
    yield from heap_findings(frame)


def too_small(what: str, found: int, resource: Resource, end: int) -> Finding:
    """Something ends after what it lies in."""
    return fail(
        "too-small",
        resource.name,
        f'{what} has {found:,} bytes, and {resource.kind} "{resource.name}" ends at byte {end:,}',
        "Metal does not check this reliably",
    )


def tensor_findings(frame: Frame, resource: Resource, learns: bool) -> Iterator[Finding]:
    """The rules of a tensor in a buffer; one that the device makes only has no strides."""
    name, told = resource.name, f'tensor "{resource.name}"'
    if resource.buffer is None:
        if resource.strides is not None:
            yield fail(
                "device-strides",
                name,
                f"{told} has strides, and lies in no buffer: the device lays it out",
                "take the strides away, or name its buffer",
            )
        return
    buffer = frame.resources[resource.buffer]
    if None not in (resource.storage, buffer.storage) and resource.storage != buffer.storage:
        yield fail(
            "storage-differs",
            name,
            f'{told} is {resource.storage}, and its buffer "{buffer.name}" {buffer.storage}',
        )
    if learns and resource.offset:
        yield fail(
            "learning-offset",
            name,
            f"{told} is for machine learning passes and starts at byte {resource.offset} of "
            f'"{buffer.name}"; such tensors start at 0',
            "give it a buffer of its own",
        )
    element = DATA_TYPES[resource.dtype].bytes if resource.dtype else 1
    if resource.offset % element:
        yield fail(
            "offset-alignment",
            name,
            f"{told} starts at byte {resource.offset}, and its elements have "
            f"{element} bytes: an offset is a multiple",
        )
    wrong = stride_error(resource, element, learns)
    if wrong:
        hint = "metal4conv layout prints strides that fit; without the key they are those"
        yield fail(
            "strides", name, f"{told} has strides {list(resource.strides or ())}: {wrong}", hint
        )
        return
    length = tensor_bytes(resource)
    if length is not None and buffer.bytes is not None and resource.offset + length > buffer.bytes:
        end = resource.offset + length
        yield too_small(f'buffer "{buffer.name}"', buffer.bytes, resource, end)


def stride_error(resource: Resource, element: int, learns: bool) -> str | None:
    """What is wrong with strides, if anything.

    >>> tensor = Resource("t", "tensor", dimensions=(518, 518), strides=(1, 518))
    >>> stride_error(tensor, 2, learns=True)
    'rows are 1036 bytes apart, and for machine learning must be a multiple of 64'
    """
    strides, dimensions = resource.strides, resource.dimensions
    if strides is None or dimensions is None:
        return None
    if len(strides) != len(dimensions):
        return f"{len(strides)} of them for {len(dimensions)} dimensions"
    if strides and strides[0] != 1:
        return "the first one must be 1"
    for position in range(1, len(strides)):
        least = strides[position - 1] * dimensions[position - 1]
        if strides[position] < least:
            return f"number {position + 1} must be {least} or more"
        if learns and position == 1 and strides[1] * element % ROW_ALIGNMENT:
            return (
                f"rows are {strides[1] * element} bytes apart, and for machine learning must be a "
                f"multiple of {ROW_ALIGNMENT}"
            )
        if learns and position > 1 and strides[position] != least:
            return f"number {position + 1} must be {least} exactly, for machine learning"
    return None


def heap_findings(frame: Frame) -> Iterator[Finding]:
    """A heap that networks take their intermediate values from, and that holds resources too."""
    users: dict[str, list[str]] = defaultdict(list)
    for item in frame.passes:
        for step in item.steps:
            if step.network is not None and step.network.intermediates is not None:
                users[step.network.intermediates].append(item.name)
    for resource in frame.resources.values():
        heap: Heap | None = frame.heaps.get(resource.heap or "")
        if heap is not None and heap.name in users:
            yield Finding(
                "warning",
                "intermediates-share-heap",
                f'heap "{heap.name}" holds {resource.kind} "{resource.name}", and the intermediate '
                f'values of "{users[heap.name][0]}": which bytes those take is not documented',
                heap.name,
                "give the network a heap of its own",
            )
