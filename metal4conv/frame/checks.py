"""Rules of Metal that resources and barriers of a frame break; `layout.rules` has the sources."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from metal4conv.frame.document import Barrier, Frame, Heap, Resource
from metal4conv.frame.hazards import Conflicts
from metal4conv.frame.memory import Touch, tensor_bytes
from metal4conv.frame.stages import CPU, STAGES, UNWAITABLE, in_order, stages_of
from metal4conv.layout.rules import DATA_TYPES, ROW_ALIGNMENT
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


def barrier_findings(frame: Frame) -> Iterator[Finding]:
    """Barriers that name stages which their pass cannot run, or cannot wait for."""
    for number, barrier in enumerate(frame.synchronization.barriers, 1):
        owner = frame.pass_named(barrier.pass_name)
        where = f"barrier {number}"
        if barrier.form == "encoder":
            yield from encoder_findings(barrier, number, stages_of(owner.kind))
            continue
        side = "before" if barrier.form == "consumer" else "after"
        own = barrier.before if side == "before" else barrier.after
        if own & owner.stages:
            continue
        learns = owner.kind == "machine_learning"
        yield Finding(
            "failure" if learns else "warning",
            "barrier-other-stage",
            f'{where}, a {barrier.form} barrier in "{owner.name}", has {side} = '
            f"{list(in_order(own))}, and the pass runs {', '.join(in_order(owner.stages))}",
            where,
            f"name {', '.join(in_order(owner.stages))} there",
        )


def encoder_findings(barrier: Barrier, number: int, able: tuple[str, ...]) -> Iterator[Finding]:
    """What a barrier within a pass must not name."""
    where = f"barrier {number}"
    foreign = (barrier.after | barrier.before) - {*able}
    if foreign:
        yield fail(
            "barrier-stage",
            where,
            f'{where}, within "{barrier.pass_name}", names {", ".join(in_order(foreign))}, '
            "which its encoder cannot encode",
            f"its encoder has {', '.join(able)}",
        )
    late = barrier.after & {*UNWAITABLE}
    if late and not foreign:
        yield fail(
            "barrier-stage",
            where,
            f'{where}, within "{barrier.pass_name}", waits for {", ".join(in_order(late))}, '
            "which GPUs that render in tiles cannot do within a pass",
            "start another render pass there, with a consumer barrier",
        )
