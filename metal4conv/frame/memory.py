"""Where resources lie: which accesses touch the same bytes, and in which of the copies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metal4conv.frame.document import Access, Frame, Resource, Step
from metal4conv.layout.rules import DATA_TYPES, buffer_bytes

ENDLESS = 1 << 62
"""The end of what has no known size."""


@dataclass(frozen=True)
class Span:
    """Bytes of an allocation that is there `copies` times (0: another one in each frame).

    `root` is the resource whose content they are: that of a tensor in a buffer is the buffer's, but
    two resources in one place of a heap are not the same.
    """

    allocation: str
    root: str
    copies: int
    begin: int
    end: int

    def overlaps(self, other: Span) -> bool:
        """Whether both hold some byte of one allocation."""
        return (
            self.allocation == other.allocation
            and self.begin < other.end
            and other.begin < self.end
        )


@dataclass(frozen=True)
class Touch:
    """An access with its bytes."""

    access: Access
    span: Span

    def meets(self, later: Touch, ago: int) -> bool:
        """Whether an access `ago` frames after this one touches the same bytes of the same copy."""
        apart = ago + self.access.frames_ago - later.access.frames_ago
        if apart % self.span.copies if self.span.copies else apart:
            return False
        return self.span.overlaps(later.span)


def tensor_bytes(resource: Resource) -> int | None:
    """Bytes that a tensor takes in a buffer, None where its size is not told.

    >>> tensor_bytes(Resource("t", "tensor", dtype="float16", dimensions=(10, 3)))
    192
    >>> tensor_bytes(Resource("t", "tensor", dtype="float16", dimensions=(10, 3), strides=(1, 16)))
    96
    """
    if resource.dtype is None or resource.dimensions is None:
        return None
    element = DATA_TYPES[resource.dtype].bytes
    if not resource.strides:
        length = buffer_bytes(resource.dimensions, element)
        assert isinstance(length, int)
        return length
    return resource.strides[-1] * resource.dimensions[-1] * element


def span_of(resources: Mapping[str, Resource], name: str) -> Span:
    """All bytes of a resource."""
    resource = resources[name]
    if resource.buffer is not None:
        outer = span_of(resources, resource.buffer)
        length = tensor_bytes(resource)
        begin = outer.begin + resource.offset
        end = outer.end if length is None else begin + length
        return Span(outer.allocation, outer.root, outer.copies, begin, end)
    copies = 0 if resource.drawable else resource.copies
    if resource.heap is not None:
        begin = resource.heap_offset
        end = begin + (resource.bytes or 0)
        return Span(f"heap {resource.heap}", name, copies, begin, end)
    end = ENDLESS if resource.bytes is None else resource.bytes
    return Span(name, name, copies, 0, end)


def touches(frame: Frame, pass_name: str, step: Step) -> Iterator[Touch]:
    """The accesses of a step with their bytes, and what a network does to its heap."""
    for access in step.accesses:
        span = span_of(frame.resources, access.resource)
        if access.begin or access.end is not None:
            end = span.end if access.end is None else min(span.end, span.begin + access.end)
            begin = min(span.begin + access.begin, end)
            span = Span(span.allocation, span.root, span.copies, begin, end)
        yield Touch(access, span)
    if step.network is not None:
        yield intermediates(frame, pass_name, step)


def intermediates(frame: Frame, pass_name: str, step: Step) -> Touch:
    """A network's intermediate values: it may write any byte of the heap that it is given."""
    heap = step.network.intermediates if step.network else None
    own = f"{pass_name}/{step.name}" if step.name else pass_name
    name = heap if heap is not None else f"intermediates of {own}"
    copies = frame.heaps[heap].copies if heap is not None else 1
    span = Span(f"intermediates {name}", name, copies, 0, ENDLESS)
    return Touch(Access(name, "machine_learning", writes=True), span)
