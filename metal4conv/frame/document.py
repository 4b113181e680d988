"""A frame: its passes, what they read and write, and what orders them. Format `metal4conv.frame/1`.

A frame file is TOML. Passes are listed in the order in which they are committed; sizes are numbers
or formulas of `[dims]`; names are any text::

    format = "metal4conv.frame/1"
    frames_in_flight = 2    # frames that the GPU may work on at once; 1 without it
    mode = "check"          # or "plan": barriers that are missing are listed, and are no failures

    [dims]                  # --dim h=1080 on the command line replaces one
    h = 720
    w = 1280

    [[texture]]
    name = "normals"
    usage = ["render_target", "shader_read"]    # what the app sets; not compared without it
    copies = 2              # one for each of two frames, in turn; 1 without it
    storage = "private"     # or "shared"
    written_elsewhere = false                   # true: not by this frame, but loaded before
    read_elsewhere = false                      # true: by something after the frame

    [[texture]]
    name = "picture"
    drawable = true         # what is shown: another one each frame, read elsewhere

    [[heap]]
    name = "scratch"
    bytes = 16777216

    [[buffer]]
    name = "features"
    bytes = "6*h*w"
    heap = "scratch"        # placed there, which makes it share bytes with others
    heap_offset = 0         # textures may be placed too, if their bytes are given

    [[tensor]]
    name = "color"
    dtype = "float16"
    shape = [1, 3, "h", "w"]                    # outermost first, or `dimensions`, innermost first
    usage = ["machine_learning", "compute"]     # or "render"
    buffer = "features"     # in a buffer, from `offset` on; made by the device without it
    offset = 0
    strides = [1, "w", "w*h", "3*w*h"]          # in elements, innermost first; of a buffer only,
                                                # where those that `layout` prints are the default
    [[tensor]]
    name = "big"            # type and size are those of the first network that it is bound to
    copies = 2

    [[pass]]
    name = "gbuffer"
    kind = "render"         # "compute", "machine_learning", "cpu"
    queue = "main"          # the default
    attachments = ["normals"]                   # { resource, load = true } is read as well
    reads = [{ resource = "features", stages = ["vertex"], offset = 0, bytes = 4096 }]
    stages = ["vertex"]     # further stages that it runs; a render pass has vertices and fragments

    [[pass]]
    name = "upscale"
    kind = "machine_learning"
    package = "upscaler.mlpackage"              # or manifest = "upscaler.layout.json", or neither
    function = "main"
    inputs = { color = "color", history = { resource = "big", frames_ago = 1 } }
    outputs = { upscaled = "big" }
    dims = { h = "h//2" }   # sizes of the network's dimensions; the frame's own without it
    intermediates = "scratch"                   # the heap; one of its own without it

    [[pass]]
    name = "blur"
    kind = "compute"

    [[pass.step]]           # commands of one encoder that barriers may part
    name = "rows"
    reads = ["big"]
    writes = ["features"]

    [[pass.step]]
    name = "columns"
    reads = ["features"]
    writes = ["picture"]

    [[pass]]
    name = "read back"
    kind = "cpu"            # replaceSlice, getBytes, or memory that the CPU maps
    reads = ["big"]
    waits_for = ["upscale"] # through a shared event; { pass, frames_ago } for an earlier frame

    [[barrier]]
    pass = "blur"
    form = "encoder"        # barrierAfterEncoderStages:…, within a pass, before one of its steps
    step = "columns"
    after = ["dispatch"]
    before = ["dispatch"]
    visibility = ["device"] # the default; [] for none, "resource_alias" for memory in a heap

    [[barrier]]
    pass = "blur"
    form = "consumer"       # barrierAfterQueueStages:beforeStages:…, before the pass's commands, or
    after = ["machine_learning"]                # before a step; "producer":
    before = ["dispatch"]   # barrierAfterStages:beforeQueueStages:…, after them, or after a step

    [[fence]]
    update = { pass = "gbuffer", after = ["fragment"] }
    wait = { pass = "upscale", before = ["machine_learning"] }

    [[event]]               # signalled after one pass, awaited before another, of another queue
    signal = "gbuffer"
    wait = "upscale"
    frames_ago = 0

    [[residency_set]]       # compared with what passes use as soon as there is one
    name = "all"
    resources = ["normals", "big", "scratch"]
    queues = ["main"]       # all without it

A name that a table gives may be used everywhere. Metal's default usage of a tensor is compute and
render; where a file does not tell the usage, the report says which one is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from metal4conv.frame.stages import PassKind

FORMAT = "metal4conv.frame/1"

ResourceKind = Literal["tensor", "texture", "buffer"]
Form = Literal["consumer", "producer", "encoder"]


@dataclass(frozen=True)
class Resource:
    """A tensor, texture or buffer. Sizes are numbers, None where the file does not tell.

    `dimensions` and `strides` are innermost first, `strides` in elements.
    """

    name: str
    kind: ResourceKind
    usage: frozenset[str] | None = None
    copies: int = 1
    storage: str | None = None
    bytes: int | None = None
    heap: str | None = None
    heap_offset: int = 0
    buffer: str | None = None
    offset: int = 0
    dtype: str | None = None
    dimensions: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    written_elsewhere: bool = False
    read_elsewhere: bool = False
    drawable: bool = False


@dataclass(frozen=True)
class Heap:
    """Memory in which resources are placed, or that networks take for intermediate values."""

    name: str
    bytes: int | None = None
    copies: int = 1


@dataclass(frozen=True)
class Access:
    """What one stage of a step does with a resource.

    `frames_ago` counts back to the frame whose copy is meant; `begin` and `end` are bytes of a part
    of a buffer.
    """

    resource: str
    stage: str
    reads: bool = False
    writes: bool = False
    frames_ago: int = 0
    begin: int = 0
    end: int | None = None
    attachment: bool = False


@dataclass(frozen=True)
class Network:
    """A network that a machine learning pass dispatches, and the tensor of each binding."""

    path: Path | None
    function: str | None
    inputs: Mapping[str, Access]
    outputs: Mapping[str, Access]
    sizes: Mapping[str, int]
    intermediates: str | None


@dataclass(frozen=True)
class Step:
    """Commands of a pass that no barrier of the pass parts."""

    name: str
    accesses: tuple[Access, ...]
    stages: tuple[str, ...]
    network: Network | None = None


@dataclass(frozen=True)
class Wait:
    """The CPU waits until a pass, and all before it in its queue, are done."""

    pass_name: str
    frames_ago: int = 0


@dataclass(frozen=True)
class Pass:
    """One encoder's work, or something that the CPU does."""

    name: str
    kind: PassKind
    queue: str
    steps: tuple[Step, ...]
    waits: tuple[Wait, ...] = ()

    @property
    def stages(self) -> frozenset[str]:
        """The stages that it runs."""
        return frozenset(stage for step in self.steps for stage in step.stages)


@dataclass(frozen=True)
class Barrier:
    """A barrier that an encoder encodes; `level` is its visibility, as `stages.VISIBILITY` counts.

    `step` is the position of the step that it stands before, for a producer barrier after.
    """

    pass_name: str
    form: Form
    step: int
    after: frozenset[str]
    before: frozenset[str]
    level: int = 1


@dataclass(frozen=True)
class Fence:
    """A fence that one pass updates after stages, and another waits for before stages."""

    update_pass: str
    after: frozenset[str]
    wait_pass: str
    before: frozenset[str]


@dataclass(frozen=True)
class Event:
    """An event that a queue signals after one pass, and another awaits before a pass."""

    signal: str
    wait: str
    frames_ago: int = 0


@dataclass(frozen=True)
class ResidencySet:
    """Allocations that are resident for some queues."""

    name: str
    resources: frozenset[str]
    queues: frozenset[str]


@dataclass(frozen=True)
class Synchronization:
    """What orders the passes of a frame beside the order in which the CPU commits them."""

    barriers: tuple[Barrier, ...] = ()
    fences: tuple[Fence, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True)
class Frame:
    """A frame, read from its file."""

    file: str
    sizes: Mapping[str, int]
    in_flight: int
    plan: bool
    resources: Mapping[str, Resource]
    heaps: Mapping[str, Heap]
    passes: tuple[Pass, ...]
    synchronization: Synchronization = field(default_factory=Synchronization)
    residency: tuple[ResidencySet, ...] = ()

    def position(self, name: str) -> int:
        """Where a pass stands in the frame."""
        return next(index for index, item in enumerate(self.passes) if item.name == name)

    def pass_named(self, name: str) -> Pass:
        """A pass by its name."""
        return self.passes[self.position(name)]
