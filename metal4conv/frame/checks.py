"""What resources must be for what passes do with them: usage, storage, residency."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations

from metal4conv.frame.document import Frame, Resource
from metal4conv.frame.hazards import Conflicts
from metal4conv.frame.memory import Touch
from metal4conv.frame.stages import CPU, STAGES
from metal4conv.report import Finding

MOST_RESIDENCY_SETS = 32
"""`MTL4CommandQueue.h`: of one queue."""


def fail(code: str, where: str, message: str, hint: str | None = None) -> Finding:
    """A broken rule."""
    return Finding("failure", code, message, where, hint)


def needed_usage(conflicts: Conflicts, resource: Resource) -> tuple[str, ...]:
    """The usage flags that a resource needs for what passes do with it."""
    flags = {
        flag
        for item in conflicts.items
        for touch in conflicts.touches[item.number]
        if touch.access.resource == resource.name
        for flag in flags_of(resource, touch)
    }
    return tuple(sorted(flags))


def flags_of(resource: Resource, touch: Touch) -> Iterator[str]:
    """The flags that one access needs; copies (the blit stage) need none."""
    access = touch.access
    if access.stage in (CPU, "blit", "resource_state", "acceleration_structure"):
        return
    kind = STAGES[access.stage].kind
    if resource.kind == "tensor":
        yield kind
    elif resource.kind == "texture" and kind != "machine_learning":
        if access.attachment:
            yield "render_target"
            return
        if access.reads:
            yield "shader_read"
        if access.writes:
            yield "shader_write"


def usage_findings(conflicts: Conflicts) -> Iterator[Finding]:
    """Usage flags that are missing where the file tells the usage."""
    for resource in conflicts.frame.resources.values():
        if resource.usage is None:
            continue
        for flag in needed_usage(conflicts, resource):
            if flag not in resource.usage:
                yield fail(
                    "missing-usage",
                    resource.name,
                    f'{resource.kind} "{resource.name}" lacks the usage {flag}: it has '
                    f"{', '.join(sorted(resource.usage)) or 'none'}",
                    f"add {constant_of(resource, flag)} to its descriptor's usage",
                )


def constant_of(resource: Resource, flag: str) -> str:
    """The constant of a usage flag.

    >>> constant_of(Resource("x", "tensor"), "machine_learning")
    'MTLTensorUsageMachineLearning'
    """
    prefix = "MTLTensorUsage" if resource.kind == "tensor" else "MTLTextureUsage"
    return prefix + "".join(word.capitalize() for word in flag.split("_"))


def storage_findings(conflicts: Conflicts) -> Iterator[Finding]:
    """What the CPU copies to and from must be shared."""
    told = set()
    for item in conflicts.items:
        for touch in conflicts.touches[item.number] if item.stage == CPU else ():
            resource = conflicts.frame.resources[touch.access.resource]
            owner = conflicts.frame.resources.get(resource.buffer or "", resource)
            if "private" in (resource.storage, owner.storage) and resource.name not in told:
                told.add(resource.name)
                yield fail(
                    "private-storage",
                    resource.name,
                    f'the CPU uses {resource.kind} "{resource.name}", whose storage is private',
                    "make it shared, or copy it on the GPU",
                )


def in_place_findings(conflicts: Conflicts) -> Iterator[Finding]:
    """What a network reads and writes in one dispatch; attachments that their own pass samples."""
    for item in conflicts.items:
        owner = conflicts.frame.passes[item.pass_number]
        for pair in combinations(conflicts.touches[item.number], 2):
            other, writing = sorted(pair, key=lambda t: (t.access.attachment, t.access.writes))
            if not writing.access.writes or not writing.meets(other, 0):
                continue
            sampled = writing.access.attachment and not other.access.attachment
            if sampled or owner.kind == "machine_learning":
                names = dict.fromkeys((other.access.resource, writing.access.resource))
                deed = "reads" if other.access.reads else "writes"
                yield fail(
                    "in-place",
                    owner.name,
                    f'"{owner.name}" {deed} and writes the same bytes at once: '
                    f"{', '.join(quoted(tuple(names)))}",
                    "give it copies that take turns, or memory of its own",
                )


def residency_findings(conflicts: Conflicts) -> Iterator[Finding]:
    """What passes use and no residency set of their queue has, where the file has such sets."""
    frame = conflicts.frame
    if not frame.residency:
        return
    used: defaultdict[tuple[str, str], None] = defaultdict()
    for item in conflicts.items:
        owner = frame.passes[item.pass_number]
        for touch in conflicts.touches[item.number] if owner.kind != "cpu" else ():
            used[touch.access.resource, owner.queue] = None
    for name, queue in used:
        resource = frame.resources.get(name)
        if resource is None and name not in frame.heaps:
            continue  # a heap of which the file tells nothing
        if resource is not None and resource.drawable:
            continue  # resident through the layer's own set
        resident = {
            entry for row in frame.residency if queue in row.queues for entry in row.resources
        }
        if not resident & {*owners(frame, name)}:
            yield fail(
                "not-resident",
                name,
                f'no residency set of queue "{queue}" has "{name}", which its passes use',
                f"add {' or '.join(quoted(owners(frame, name)))}, and commit the set",
            )
    for queue in sorted({queue for row in frame.residency for queue in row.queues}):
        count = sum(queue in row.queues for row in frame.residency)
        if count > MOST_RESIDENCY_SETS:
            message = f'queue "{queue}" has {count} residency sets, at most {MOST_RESIDENCY_SETS}'
            yield fail("residency-count", queue, message)


def owners(frame: Frame, name: str) -> tuple[str, ...]:
    """What makes a resource resident: itself, its buffer, its heap."""
    resource = frame.resources.get(name)
    if resource is None:
        return (name,)
    outer = resource.buffer or resource.heap
    return (name, *owners(frame, outer)) if outer is not None else (name,)


def quoted(names: tuple[str, ...]) -> list[str]:
    """Names in quotation marks."""
    return [f'"{name}"' for name in names]
