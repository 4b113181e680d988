"""What a read finds: nothing, what it is meant to find, or what something else has left there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from metal4conv.frame.document import Resource
from metal4conv.frame.hazards import Conflicts
from metal4conv.frame.memory import Touch, span_of
from metal4conv.frame.order import Item
from metal4conv.report import Finding


@dataclass(frozen=True)
class Written:
    """Bytes that an item wrote, and in which frame."""

    touch: Touch
    frame: int
    by: Item


def content_findings(conflicts: Conflicts) -> Iterator[Finding]:
    """What is never written, never read, or not what the read is meant to find."""
    frame = conflicts.frame
    all_touches = [touch for found in conflicts.touches.values() for touch in found]
    for resource in frame.resources.values():
        yield from use_findings(frame.resources, resource, all_touches)
    seen: set[tuple[str, str]] = set()
    for finding in read_findings(conflicts):
        if (finding.code, finding.message) not in seen:
            seen.add((finding.code, finding.message))
            yield finding


def use_findings(
    resources: Mapping[str, Resource], resource: Resource, all_touches: list[Touch]
) -> Iterator[Finding]:
    """Whether a resource is written and read, under this name or another one for its content."""
    name = resource.name
    own = [touch for touch in all_touches if touch.access.resource == name]
    span = span_of(resources, name)
    same = [t for t in all_touches if t.span.root == span.root and t.span.overlaps(span)]
    if not same:
        holds = any(name in (r.buffer, r.heap) for r in resources.values())
        if not holds:
            message = f'{resource.kind} "{name}" is not used'
            yield Finding("warning", "unused", message, name, "take it out of the file")
        return
    unwritten = [
        touch
        for touch in own
        if touch.access.reads
        and not any(t.access.writes and t.span.overlaps(touch.span) for t in same)
    ]
    if unwritten and not written_elsewhere(resources, resource):
        yield Finding(
            "failure",
            "never-written",
            f'{resource.kind} "{name}" is read, and nothing writes it',
            name,
            "say written_elsewhere = true if it is filled before the frame",
        )
    unread = [
        touch
        for touch in own
        if touch.access.writes
        and not any(t.access.reads and t.span.overlaps(touch.span) for t in same)
    ]
    if unread and not read_elsewhere(resources, resource):
        yield Finding(
            "warning",
            "never-read",
            f'{resource.kind} "{name}" is written, and nothing reads it',
            name,
            "say read_elsewhere = true if something after the frame does",
        )


def written_elsewhere(resources: Mapping[str, Resource], resource: Resource) -> bool:
    """Whether it, or the buffer that it lies in, is filled before the frame."""
    return resource.written_elsewhere or bool(
        resource.buffer and resources[resource.buffer].written_elsewhere
    )


def read_elsewhere(resources: Mapping[str, Resource], resource: Resource) -> bool:
    """Whether it, or the buffer that it lies in, is read after the frame."""
    return (
        resource.read_elsewhere
        or resource.drawable
        or bool(resource.buffer and resources[resource.buffer].read_elsewhere)
    )


def read_findings(conflicts: Conflicts) -> Iterator[Finding]:
    """Plays enough frames for every copy to be written, and looks at what the last one reads."""
    touched = [touch for found in conflicts.touches.values() for touch in found]
    frames = 2 + max((touch.span.copies + touch.access.frames_ago for touch in touched), default=0)
    memory: defaultdict[tuple[str, int], list[Written]] = defaultdict(list)
    for frame in range(frames):
        for item in conflicts.items:
            own = conflicts.touches[item.number]
            if frame == frames - 1:
                for touch in own:
                    if touch.access.reads and not is_private(touch):
                        yield from read_finding(conflicts, memory, touch, frame, item)
            for touch in own:
                if touch.access.writes and not is_private(touch):
                    memory[place_of(touch, frame)].append(Written(touch, frame, item))


def is_private(touch: Touch) -> bool:
    """Whether it is a network's intermediate values, whose content nobody else reads."""
    return touch.span.allocation.startswith("intermediates ")


def place_of(touch: Touch, frame: int) -> tuple[str, int]:
    """The allocation and which of its copies a frame's access means."""
    number = frame - touch.access.frames_ago
    copies = touch.span.copies
    return touch.span.allocation, number % copies if copies else number


def read_finding(
    conflicts: Conflicts,
    memory: Mapping[tuple[str, int], list[Written]],
    touch: Touch,
    frame: int,
    item: Item,
) -> Iterator[Finding]:
    """What is wrong with what a read finds, if anything."""
    access, resources = touch.access, conflicts.frame.resources
    name, reader = access.resource, conflicts.frame.passes[item.pass_number].name
    elsewhere = written_elsewhere(resources, resources[name])
    written = [
        w for w in memory.get(place_of(touch, frame), []) if w.touch.span.overlaps(touch.span)
    ]
    if not written or not (elsewhere or any(w.touch.span.root == touch.span.root for w in written)):
        return  # `use_findings` tells
    last = written[-1]
    writer = conflicts.frame.passes[last.by.pass_number].name
    if last.touch.span.root != touch.span.root:
        yield Finding(
            "failure",
            "overwritten",
            f'"{reader}" reads "{name}" after "{writer}" has written '
            f'"{last.touch.access.resource}" to the same bytes of the heap',
            f"{writer} → {reader}",
            "place them apart, or read it before",
        )
    elif last.frame > frame - access.frames_ago:
        yield Finding(
            "failure",
            "overwritten",
            f'"{reader}" reads what "{name}" held {ago_text(access.frames_ago)}, and "{writer}" '
            f"has already written {written_text(frame - last.frame)} to it",
            f"{writer} → {reader}",
            f'give "{name}" {access.frames_ago + 1} copies, or read it before',
        )
    elif last.frame < frame - access.frames_ago and not elsewhere:
        yield Finding(
            "warning",
            "read-before-write",
            f'"{reader}" reads "{name}" before anything writes it in the frame: it finds what was '
            f"written {ago_text(frame - last.frame)}",
            reader,
            f"say frames_ago = {frame - last.frame} if that is meant",
        )


def ago_text(frames: int) -> str:
    """A frame in words.

    >>> ago_text(1), ago_text(2)
    ('one frame ago', '2 frames ago')
    """
    return "one frame ago" if frames == 1 else f"{frames} frames ago"


def written_text(frames: int) -> str:
    """What a frame wrote, in words.

    >>> written_text(0), written_text(1)
    ("this frame's", 'that of one frame ago')
    """
    return "this frame's" if not frames else f"that of {ago_text(frames)}"
