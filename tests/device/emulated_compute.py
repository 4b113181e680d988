"""The sequence of a compute pass on the emulator, written out step by step.

It is not the runner's: a test changes one step of it, and everything else stays right. In place of
a compiled library a function of Python runs: `y` is the weights' sum plus `x`, element by element.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from metal4conv.device.api import Api
from metal4conv.device.compute_protocol import StandIn, StandInArgument, StandInFunction
from metal4conv.device.emulator import compute, open_api
from metal4conv.device.emulator.compute_library import Bound
from metal4conv.device.emulator.compute_objects import Size
from metal4conv.device.emulator.rules import Referee

SOURCE = "".join(f"kernel void net_{name}(…) {{}}\n" for name in ("compute", "other", "picture"))

ARGUMENTS = (
    StandInArgument("weights", "buffer", 0),
    StandInArgument("x", "buffer", 1),
    StandInArgument("y", "buffer", 2, writes=True),
    StandInArgument("w0", "tensor", 3),
    StandInArgument("tile", "threadgroup", 0),
)

PICTURE_ARGUMENTS = (
    StandInArgument("picture", "texture", 0),
    StandInArgument("sampling", "sampler", 0),
    StandInArgument("point", "builtin"),
)

STAND_IN = StandIn(
    "no library",
    (
        StandInFunction("net_compute", ARGUMENTS, cooperative=True),
        StandInFunction("net_other", ARGUMENTS[:3]),
        StandInFunction("net_picture", (*ARGUMENTS[:3], *PICTURE_ARGUMENTS)),
        StandInFunction("net_absent", ()),
    ),
    {"net_use_matmul2d": 0},
)

WEIGHTS = np.arange(8, dtype=np.float16)
X = np.arange(64, dtype=np.float32)
PICTURE = np.arange(24, dtype=np.uint8)
"""Three pixels by two of RGBA8Unorm."""


def python_function(
    stand_in: StandIn,
    function: StandInFunction,
    bound: Sequence[Bound],
    constants: Mapping[str, bool],
    threadgroups: Size,
    threads: Size,
) -> None:
    """`y = x + sum(weights)`; negated on the path of the function constant."""
    given = {item.argument.name: item for item in bound}
    weights, x, y = (given[name].resource for name in ("weights", "x", "y"))
    total = weights.data[:16].view(np.float16).sum(dtype=np.float32)
    if "w0" in given:
        assert given["w0"].resource.elements.sum() == total
        assert given["tile"].memory_bytes == 256
    if "picture" in given:
        assert given["sampling"].resource.values["magFilter"] == 1
        total += float(given["picture"].resource.data.sum())
    count = min(threadgroups.count * threads.count, len(X))
    found = x.data.view(np.float32)[:count] + total
    sign = -1 if constants["net_use_matmul2d"] else 1
    y.data.view(np.float32)[:count] = found * sign


@pytest.fixture
def python_library(monkeypatch):
    """The emulator runs `python_function`."""
    monkeypatch.setattr(compute, "run_function", python_function)


@dataclass
class ComputePass:
    """A compute pass with its objects; each method is a step and may be replaced by a test."""

    misbehave: str | None = None
    referee: Referee = field(default_factory=Referee)
    kept: list[Any] = field(default_factory=list)  # Any: whatever has to live

    def __post_init__(self) -> None:
        self.api: Api = open_api(self.misbehave, self.referee, STAND_IN)
        self.api.register()
        self.metal = self.api.metal
        self.device = self.metal.MTLCreateSystemDefaultDevice()

    def size(self, width: int, height: int = 1, depth: int = 1) -> Any:
        return self.metal.MTLSizeMake(width, height, depth)

    def library(self, version: int = 0x40000) -> Any:
        options = self.metal.MTLCompileOptions.alloc().init()
        options.setLanguageVersion_(version)
        return self.device.newLibraryWithSource_options_error_(SOURCE, options, None)

    def constants(self, value: bytes = b"\1", kind: int = 53, index: int = 0) -> Any:
        values = self.metal.MTLFunctionConstantValues.alloc().init()
        values.setConstantValue_type_atIndex_(value, kind, index)
        return values

    def pipeline(
        self,
        name: str = "net_compute",
        constants: Any = True,
        threads: int = 32,
        function: Any = True,
        reflection: int = 1,
    ) -> Any:
        descriptor = self.metal.MTL4ComputePipelineDescriptor.alloc().init()
        if function:
            chosen = self.metal.MTL4LibraryFunctionDescriptor.alloc().init()
            chosen.setName_(name)
            chosen.setLibrary_(self.library()[0])
            if constants:
                special = self.metal.MTL4SpecializedFunctionDescriptor.alloc().init()
                special.setFunctionDescriptor_(chosen)
                special.setConstantValues_(self.constants() if constants is True else constants)
                chosen = special
            descriptor.setComputeFunctionDescriptor_(chosen)
        options = self.metal.MTL4PipelineOptions.alloc().init()
        options.setShaderReflection_(reflection)
        descriptor.setOptions_(options)
        if threads:
            descriptor.setRequiredThreadsPerThreadgroup_(self.size(threads))
        compiler, _ = self.device.newCompilerWithDescriptor_error_(
            self.metal.MTL4CompilerDescriptor.alloc().init(), None
        )
        self.kept.append(compiler)
        return compiler.newComputePipelineStateWithDescriptor_compilerTaskOptions_error_(
            descriptor, None, None
        )

    def buffer(self, array: np.ndarray) -> Any:
        buffer = self.device.newBufferWithLength_options_(array.nbytes, 0)
        buffer.contents().as_buffer(array.nbytes)[:] = array.tobytes()
        return buffer

    def view(self, usage: int = 3) -> Any:
        descriptor = self.metal.MTLTensorDescriptor.alloc().init()
        for name, values in (("Dimensions", (4, 2)), ("Strides", (1, 4))):
            extents = self.metal.MTLTensorExtents.alloc().initWithRank_values_(2, list(values))
            getattr(descriptor, f"set{name}_")(extents)
        descriptor.setDataType_(16)
        descriptor.setUsage_(usage)
        tensor, error = self.weights.newTensorWithDescriptor_offset_error_(descriptor, 0, None)
        assert tensor is not None, error
        return tensor

    def table(self, count: int = 4) -> Any:
        descriptor = self.metal.MTL4ArgumentTableDescriptor.alloc().init()
        descriptor.setMaxBufferBindCount_(count)
        table, _ = self.device.newArgumentTableWithDescriptor_error_(descriptor, None)
        return table

    def filled_table(self, *left_out: int) -> Any:
        table = self.table()
        for index, buffer in enumerate((self.weights, self.x, self.y)):
            if index not in left_out:
                table.setAddress_atIndex_(buffer.gpuAddress(), index)
        if 3 not in left_out:
            table.setResource_atBufferIndex_(self.w0.gpuResourceID(), 3)
        return table

    def residency(self, *allocations: Any) -> Any:
        descriptor = self.metal.MTLResidencySetDescriptor.alloc().init()
        made, _ = self.device.newResidencySetWithDescriptor_error_(descriptor, None)
        for allocation in allocations:
            made.addAllocation_(allocation)
        made.commit()
        made.requestResidency()
        return made

    def prepared(self) -> ComputePass:
        """Everything up to the command buffer, as attributes."""
        self.state, error = self.pipeline()
        assert self.state is not None, error.localizedDescription()
        self.weights, self.x = self.buffer(WEIGHTS), self.buffer(X)
        self.y = self.buffer(np.full_like(X, np.nan))
        self.w0 = self.view()
        self.arguments = self.filled_table()
        self.set = self.residency(self.weights, self.x, self.y)
        self.queue = self.device.newMTL4CommandQueue()
        self.queue.addResidencySet_(self.set)
        self.allocator = self.device.newCommandAllocator()
        self.commands = self.device.newCommandBuffer()
        self.event = self.device.newSharedEvent()
        return self

    def texture(self, data: bytes = PICTURE.tobytes(), usage: int = 1, row: int = 12) -> Any:
        kind = self.metal.MTLTextureDescriptor
        descriptor = kind.texture2DDescriptorWithPixelFormat_width_height_mipmapped_(
            70, 3, 2, False
        )
        descriptor.setUsage_(usage)
        made = self.device.newTextureWithDescriptor_(descriptor)
        region = self.metal.MTLRegionMake2D(0, 0, 3, 2)
        made.replaceRegion_mipmapLevel_withBytes_bytesPerRow_(region, 0, data, row)
        return made

    def sampler(self, supports: bool = True) -> Any:
        descriptor = self.metal.MTLSamplerDescriptor.alloc().init()
        descriptor.setMagFilter_(1)
        descriptor.setMinFilter_(1)
        descriptor.setSupportArgumentBuffers_(supports)
        return self.device.newSamplerStateWithDescriptor_(descriptor)

    def picture_table(self, textures: int = 1) -> Any:
        descriptor = self.metal.MTL4ArgumentTableDescriptor.alloc().init()
        descriptor.setMaxBufferBindCount_(3)
        descriptor.setMaxTextureBindCount_(textures)
        descriptor.setMaxSamplerStateBindCount_(1)
        table, _ = self.device.newArgumentTableWithDescriptor_error_(descriptor, None)
        for index, buffer in enumerate((self.weights, self.x, self.y)):
            table.setAddress_atIndex_(buffer.gpuAddress(), index)
        if textures:
            table.setTexture_atIndex_(self.picture.gpuResourceID(), 0)
        table.setSamplerState_atIndex_(self.sampling.gpuResourceID(), 0)
        return table

    def prepared_picture(self, usage: int = 1) -> ComputePass:
        """Everything up to the command buffer, for the function that samples a texture."""
        self.prepared()
        self.state, _ = self.pipeline("net_picture")
        self.picture, self.sampling = self.texture(usage=usage), self.sampler()
        self.arguments = self.picture_table()
        self.queue.removeResidencySet_(self.set)
        self.set = self.residency(self.weights, self.x, self.y, self.picture)
        self.queue.addResidencySet_(self.set)
        return self

    def encoder(self) -> Any:
        self.commands.beginCommandBufferWithAllocator_(self.allocator)
        return self.commands.computeCommandEncoder()

    def dispatch(
        self, encoder: Any, groups: int = 2, threads: int = 32, memory: int | None = 256
    ) -> None:
        encoder.setComputePipelineState_(self.state)
        encoder.setArgumentTable_(self.arguments)
        if memory is not None:
            encoder.setThreadgroupMemoryLength_atIndex_(memory, 0)
        encoder.dispatchThreadgroups_threadsPerThreadgroup_(self.size(groups), self.size(threads))

    def encode(self, **changes: Any) -> ComputePass:
        """Encodes one dispatch; gives back the pass."""
        encoder = self.encoder()
        self.dispatch(encoder, **changes)
        encoder.endEncoding()
        self.commands.endCommandBuffer()
        return self

    def commit(self, value: int = 1) -> ComputePass:
        self.queue.commit_count_([self.commands], 1)
        self.queue.signalEvent_value_(self.event, value)
        return self

    def wait(self, timeout: int = 1000, value: int = 1) -> bool:
        return self.event.waitUntilSignaledValue_timeoutMS_(value, timeout)

    def read(self) -> np.ndarray:
        return np.frombuffer(bytes(self.y.contents().as_buffer(X.nbytes)), np.float32)


COMPUTE_BREAKERS: dict[str, Any] = {}


def breaks(rule: str) -> Any:
    """Registers what breaks a rule; it gets a pass and gives what the breaking selector gave."""

    def register(function: Any) -> Any:
        assert rule not in COMPUTE_BREAKERS
        COMPUTE_BREAKERS[rule] = function
        return function

    return register


@breaks("language-version")
def metal_3(run):
    return run.library(0x30002)


@breaks("constant-metadata")
def constants_before_the_registration(run):
    api = open_api(referee=run.referee)
    values = api.metal.MTLFunctionConstantValues.alloc().init()
    values.setConstantValue_type_atIndex_(b"\1", 53, 0)


@breaks("constant-memory")
def an_int_of_one_byte(run):
    return run.constants(b"\1", kind=29)


@breaks("constant-known")
def another_index(run):
    return run.pipeline(constants=run.constants(index=7))


@breaks("constant-set")
def no_constants(run):
    return run.pipeline(constants=None)


@breaks("compute-function")
def no_function(run):
    return run.pipeline(function=None)


@breaks("threads-told")
def no_size_of_threadgroups(run):
    return run.pipeline(threads=0)


@breaks("threads-required")
def another_size_of_threadgroups(run):
    return run.prepared().encode(threads=64)


@breaks("threads-most")
def too_many_threads(run):
    run.prepared().state = run.pipeline(threads=2048)[0]
    return run.encode(threads=2048)


@breaks("threadgroups-some")
def no_threadgroups(run):
    return run.prepared().encode(groups=0)


@breaks("memory-step")
def memory_of_100_bytes(run):
    return run.prepared().encode(memory=100)


@breaks("memory-most")
def memory_of_64_kib(run):
    return run.prepared().encode(memory=1 << 16)


@breaks("memory-set")
def no_memory(run):
    return run.prepared().encode(memory=None)


@breaks("compute-usage")
def a_tensor_for_render_passes(run):
    run.prepared()
    run.w0 = run.view(usage=2)
    run.arguments = run.filled_table()
    return run.encode()


@breaks("texture-read")
def a_texture_to_draw_into(run):
    return run.prepared_picture(usage=4).encode()


@breaks("texture-bytes")
def half_of_a_picture(run):
    return run.texture(PICTURE[:12].tobytes())


@breaks("sampler-argument")
def a_sampler_for_other_encoders(run):
    run.prepared_picture().sampling = run.sampler(supports=False)
    return run.picture_table()


@breaks("table-count")
def a_table_of_32(run):
    return run.table(32)


@breaks("slot-address")
def an_address_beyond_the_buffer(run):
    run.prepared()
    return run.table().setAddress_atIndex_(run.y.gpuAddress() + X.nbytes, 2)


@breaks("slot-kind")
def an_address_for_a_tensor(run):
    run.prepared()
    run.arguments.setAddress_atIndex_(run.weights.gpuAddress(), 3)
    return run.encode()
