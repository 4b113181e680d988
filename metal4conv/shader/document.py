"""The layout manifest of a shader: what a host program has to bind, and where it lies.

Format `metal4conv.shader/1`, the file `NAME.shader.json`. All numbers are bytes where the name
says so, else elements; dimensions and strides are innermost first, as Metal counts them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

FORMAT = "metal4conv.shader/1"
MANIFEST_SUFFIX = ".shader.json"
SOURCE_SUFFIX = ".metal"
WEIGHTS_SUFFIX = ".weights"
LATENTS_SUFFIX = ".latents"
GOLDEN_SUFFIX = ".shader.golden.safetensors"
"""Not that of packages: a package of the same name may stand in the same folder."""

Stage = Literal["fragment", "compute"]
ArgumentKind = Literal[
    "buffer", "tensor", "texture", "sampler", "threadgroup", "stage_in", "builtin"
]
BlockRole = Literal["weight", "bias", "scale", "table"]


@dataclass(frozen=True)
class WeightBlock:
    """One array in the weights' file.

    A weight is a tensor of extents (inputs, outputs), both padded with zeros: element [i, o] is the
    source's `weight[o, i]`. What is not a weight has one dimension. `dtype` is float16, float32 or
    int8; `raw_data_type` the `MTLTensorDataType`. `index` is where its MTLTensor is bound, None
    where the shader reads it out of the weights' buffer.
    """

    name: str
    layer: str
    role: BlockRole
    dtype: str
    raw_data_type: int
    offset: int
    byte_length: int
    dimensions: tuple[int, ...]
    strides: tuple[int, ...]
    used: tuple[int, ...]
    """The dimensions without padding."""
    usage: tuple[str, ...] = ("compute", "render")
    index: int | None = None


@dataclass(frozen=True)
class Argument:
    """A parameter of a fragment or compute function, in the order of its declaration.

    `role` says what it holds: `weights`, `input`, `output`, `image` (between passes), `parameters`,
    `weight` (a tensor), `latents`, `tile`; for a builtin it is the attribute's name
    (`thread_position_in_grid`). `port` names the input, output, intermediate image, weight block
    or texture. Buffers of inputs and outputs hold float32 rows, one a point, without gaps; a
    uniform input's holds one row.
    """

    name: str
    kind: ArgumentKind
    index: int | None
    declaration: str
    """The parameter as it stands in the source, without attributes."""
    role: str
    port: str | None = None


@dataclass(frozen=True)
class Attachment:
    """A colour attachment that a fragment function writes: `channels` features from `first` on."""

    index: int
    member: str
    output: str
    first: int
    channels: int


@dataclass(frozen=True)
class EntryPoint:
    """A fragment or compute function.

    Compute functions are dispatched with `threads_per_threadgroup` threads in one dimension, and
    as many threadgroups as cover the points with `points_per_threadgroup` each; with `tile` they
    are two-dimensional tiles of pixels (width, height), one a threadgroup.
    `inputs` says where inputs come from: `buffer` or `texture`.
    """

    name: str
    stage: Stage
    arguments: tuple[Argument, ...]
    inputs: Literal["buffer", "texture"] = "buffer"
    threads_per_threadgroup: int = 1
    points_per_threadgroup: int = 1
    tile: tuple[int, int] | None = None
    threadgroup_memory_bytes: int = 0
    attachments: tuple[Attachment, ...] = ()
    simdgroup: bool = False
    """Whether the threads of a simdgroup work together, so that all of them have to run."""


@dataclass(frozen=True)
class ShaderPort:
    """An input or output; see `network.Port`. `dynamic sizes` are strings in `shape`."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    feature_axes: tuple[int, ...]
    width: int
    uniform: bool = False
    textures: tuple[str, ...] = ()


@dataclass(frozen=True)
class IntermediateImage:
    """What one pass writes and a later one reads: rows of `width`, one a pixel, without gaps.

    float16 where only convolutions read it, which round it to that anyway; else float32.
    """

    name: str
    width: int
    dtype: str = "float32"


@dataclass(frozen=True)
class TextureLayout:
    """A texture in the latents' file: rows from the top, without gaps.

    `channels` are the features of `input` that its red, green, blue and alpha hold, -1 for none.
    Sampling gives value/255 for rgba8Unorm, the value itself for rgba16Float.
    """

    name: str
    input: str
    channels: tuple[int, int, int, int]
    pixel_format: str
    raw_pixel_format: int
    width: int
    height: int
    offset: int
    bytes_per_row: int
    byte_length: int


@dataclass(frozen=True)
class SamplerLayout:
    """How textures are sampled, at pixel centres, level 0."""

    filter: str = "linear"
    address: str = "repeat"


@dataclass(frozen=True)
class TextureCase:
    """A golden case whose inputs are samples of the textures on a grid of pixel centres."""

    case: int
    width: int
    height: int


@dataclass(frozen=True)
class Rounding:
    """What the precision of weights and operands alone costs an output, over all golden cases.

    `largest` is the largest difference from exact arithmetic on the network, `rms` that of the
    worst case; all but the storage is computed in float64. A package's golden vectors take the
    place of exact arithmetic, as its weights may have been rounded before.
    """

    output: str
    largest: float
    rms: float


@dataclass(frozen=True)
class FunctionConstant:
    """A function constant of the source."""

    name: str
    index: int
    type: str
    meaning: str


@dataclass(frozen=True)
class Estimates:
    """What one point costs. `register_bytes` is the most that is alive at once, were nothing kept
    elsewhere: an estimate, the compiler decides.
    """

    parameters: int
    multiply_adds: int
    register_bytes: int
    threadgroup_bytes: int


@dataclass(frozen=True)
class ShaderManifest:
    """Everything about a generated shader; `passes` are the compute functions to dispatch in order
    for a network that has several (none for one that is evaluated point by point).
    """

    name: str
    source: Mapping[str, str]
    precision: str
    tensors: str
    inline_weights: bool
    system: tuple[int, int]
    evaluate: str | None
    inputs: tuple[ShaderPort, ...]
    outputs: tuple[ShaderPort, ...]
    entry_points: tuple[EntryPoint, ...]
    constants: tuple[FunctionConstant, ...]
    blocks: tuple[WeightBlock, ...]
    weights_bytes: int
    weights_sha256: str
    source_sha256: str
    estimates: Estimates
    passes: tuple[str, ...] = ()
    images: tuple[IntermediateImage, ...] = ()
    textures: tuple[TextureLayout, ...] = ()
    sampler: SamplerLayout | None = None
    texture_case: TextureCase | None = None
    latents_sha256: str | None = None
    rounding: tuple[Rounding, ...] = ()
    notes: tuple[str, ...] = field(default=())
    """What was left out, and why: for instance a fragment function with too many outputs."""

    def entry(self, name: str) -> EntryPoint:
        """The entry point of that name."""
        return next(entry for entry in self.entry_points if entry.name == name)

    def block(self, name: str) -> WeightBlock:
        """The weight block of that name."""
        return next(block for block in self.blocks if block.name == name)
