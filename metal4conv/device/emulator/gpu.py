"""The emulated GPU, and the module with the names that PyObjC's `Metal` has."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from metal4conv.device.emulator.commands import (
    CommandAllocator,
    CommandBuffer,
    CommandQueue,
    SharedEvent,
)
from metal4conv.device.emulator.compute import MOST_MEMORY, compile_source
from metal4conv.device.emulator.compute_objects import (
    CompileOptions,
    ComputePipelineDescriptor,
    FunctionConstantValues,
    Region,
    SamplerDescriptor,
    Size,
    SpecializedFunctionDescriptor,
    TextureDescriptor,
)
from metal4conv.device.emulator.library import Compiler, open_library
from metal4conv.device.emulator.memory import (
    Buffer,
    Heap,
    ResidencySet,
    SamplerState,
    SizeAndAlign,
    Texture,
    device_tensor,
    size_and_align,
)
from metal4conv.device.emulator.misbehaviour import World
from metal4conv.device.emulator.objects import (
    ArgumentTableDescriptor,
    CommandQueueDescriptor,
    CommitOptions,
    CompilerDescriptor,
    FileURL,
    HeapDescriptor,
    LibraryFunctionDescriptor,
    MachineLearningPipelineDescriptor,
    PipelineOptions,
    ResidencySetDescriptor,
    TensorDescriptor,
    TensorExtents,
)
from metal4conv.device.emulator.rules import Answer
from metal4conv.device.emulator.tables import ArgumentTable
from metal4conv.layout.rules import DATA_TYPES

FAMILIES = (1007, 1008, 1009, 5001, 5002)
"""Apple7 to Apple9, Metal3 and Metal4: an M3."""

CONSTANTS = {
    "MTLGPUFamilyMetal3": 5001,
    "MTLGPUFamilyMetal4": 5002,
    "MTL4ShaderReflectionNone": 0,
    "MTL4ShaderReflectionBindingInfo": 1,
    "MTLBindingTypeTensor": 37,
    "MTLBindingAccessReadOnly": 0,
    "MTLBindingAccessReadWrite": 1,
    "MTLBindingAccessWriteOnly": 2,
    "MTLHeapTypePlacement": 1,
    "MTLStorageModeShared": 0,
    "MTLStorageModePrivate": 2,
    "MTLTensorUsageCompute": 1,
    "MTLTensorUsageRender": 2,
    "MTLTensorUsageMachineLearning": 4,
    "MTLStageDispatch": 1 << 27,
    "MTLStageMachineLearning": 1 << 30,
    "MTLLanguageVersion4_0": 0x40000,
    "MTLDataTypeBool": 53,
    "MTL4VisibilityOptionNone": 0,
    "MTL4VisibilityOptionDevice": 1,
    **{row.constant: row.raw for row in DATA_TYPES.values()},
}

CLASSES: dict[str, type] = {
    "MTLHeapDescriptor": HeapDescriptor,
    "MTLResidencySetDescriptor": ResidencySetDescriptor,
    "MTL4LibraryFunctionDescriptor": LibraryFunctionDescriptor,
    "MTL4MachineLearningPipelineDescriptor": MachineLearningPipelineDescriptor,
    "MTL4PipelineOptions": PipelineOptions,
    "MTL4SpecializedFunctionDescriptor": SpecializedFunctionDescriptor,
    "MTL4ComputePipelineDescriptor": ComputePipelineDescriptor,
    "MTLCompileOptions": CompileOptions,
    "MTLTextureDescriptor": TextureDescriptor,
    "MTLSamplerDescriptor": SamplerDescriptor,
    "MTL4CompilerDescriptor": CompilerDescriptor,
    "MTL4ArgumentTableDescriptor": ArgumentTableDescriptor,
    "MTL4CommandQueueDescriptor": CommandQueueDescriptor,
    "MTL4CommitOptions": CommitOptions,
}

OLD_CLASSES = (
    *("MTLHeapDescriptor", "MTLResidencySetDescriptor", "MTLCompileOptions"),
    *("MTLTextureDescriptor", "MTLSamplerDescriptor"),
)
"""Those that were there before macOS 26."""


class Device:
    """`MTLDevice`."""

    def __init__(self, world: World) -> None:
        self.world = world

    def name(self) -> str:
        return "metal4conv emulator"

    def supportsFamily_(self, family: int) -> bool:
        return family in FAMILIES and not (family == 5002 and self.world.misbehave == "no-metal4")

    def newLibraryWithURL_error_(self, url: FileURL, error: None) -> Answer:
        return open_library(self.world, url)

    def newLibraryWithSource_options_error_(
        self, source: str, options: CompileOptions | None, error: None
    ) -> Answer:
        return compile_source(self.world, source, options)

    def newTextureWithDescriptor_(self, descriptor: TextureDescriptor) -> Texture:
        return Texture(self.world, descriptor.values)

    def newSamplerStateWithDescriptor_(self, descriptor: SamplerDescriptor) -> SamplerState:
        return SamplerState(self.world, descriptor.values)

    def maxThreadgroupMemoryLength(self) -> int:
        return MOST_MEMORY

    def newCompilerWithDescriptor_error_(
        self, descriptor: CompilerDescriptor, error: None
    ) -> Answer:
        return Compiler(self.world), None

    def newTensorWithDescriptor_error_(self, descriptor: TensorDescriptor, error: None) -> Answer:
        return device_tensor(self.world, descriptor)

    def tensorSizeAndAlignWithDescriptor_(self, descriptor: TensorDescriptor) -> SizeAndAlign:
        return size_and_align(self.world, descriptor)

    def newBufferWithLength_options_(self, length: int, options: int) -> Buffer | None:
        return Buffer(self.world, length, options) if length > 0 else None

    def newArgumentTableWithDescriptor_error_(
        self, descriptor: ArgumentTableDescriptor, error: None
    ) -> Answer:
        return ArgumentTable(self.world, descriptor), None

    def newHeapWithDescriptor_(self, descriptor: HeapDescriptor) -> Heap:
        return Heap(self.world, descriptor)

    def newResidencySetWithDescriptor_error_(
        self, descriptor: ResidencySetDescriptor, error: None
    ) -> Answer:
        return ResidencySet(), None

    def newMTL4CommandQueue(self) -> CommandQueue:
        return CommandQueue(self.world)

    def newMTL4CommandQueueWithDescriptor_error_(
        self, descriptor: CommandQueueDescriptor, error: None
    ) -> Answer:
        return CommandQueue(self.world), None

    def newCommandAllocator(self) -> CommandAllocator:
        return CommandAllocator(self.world)

    def newCommandBuffer(self) -> CommandBuffer:
        return CommandBuffer(self.world)

    def newSharedEvent(self) -> SharedEvent:
        return SharedEvent(self.world)


def metal_module(world: World) -> Any:
    """What stands in for the module `Metal`. (Any: as PyObjC's modules, it has no types.)"""
    extents = type("MTLTensorExtents", (TensorExtents,), {"world": world})
    world.extents_class = extents
    descriptor = type("MTLTensorDescriptor", (TensorDescriptor,), {"world": world})
    constants = type("MTLFunctionConstantValues", (FunctionConstantValues,), {"world": world})
    classes: dict[str, type] = {
        "MTLFunctionConstantValues": constants,
        "MTLTensorExtents": extents,
        "MTLTensorDescriptor": descriptor,
        **CLASSES,
    }
    if world.misbehave == "old-system":
        classes = {name: kind for name, kind in classes.items() if name in OLD_CLASSES}
    device = None if world.misbehave == "no-device" else Device(world)
    functions = {
        "MTLCreateSystemDefaultDevice": lambda: device,
        "MTLSizeMake": Size,
        "MTLRegionMake2D": Region,
    }
    return SimpleNamespace(**functions, **classes, **CONSTANTS)
