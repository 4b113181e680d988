"""The sequence of a machine-learning pass on the emulator, written out step by step.

It is not the runner's: a test changes one step of it, and everything else stays right.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.device.api import Api
from metal4conv.device.emulator import open_api
from metal4conv.device.emulator.package import write_emulated_package
from metal4conv.device.emulator.rules import BrokenRule, Referee
from metal4conv.layout.manifest import manifest_of
from tests.layout.packages import PackageBuilder

X = np.arange(20, dtype=np.float16).reshape(2, 10)


def metal_package(folder: Path, *, is_dynamic: bool = False, dtype: str = "float16") -> Path:
    """A Metal package of y = x + x, `x` (2, 10) or (h, 10)."""
    build = PackageBuilder()
    build.input("x", dtype, ((1, 4) if is_dynamic else 2, 10))
    build.operation("add", "y", dtype, ("h" if is_dynamic else 2, 10), {"x": ["x"], "y": ["x"]})
    build.output("y", dtype)
    package = build.write(folder / "net.mlpackage")
    return write_emulated_package(package.path, manifest_of(package), folder / "net.mtlpackage")


@dataclass
class Pass:
    """A pass with its objects; each method is a step and may be replaced by a test."""

    package: Path
    misbehave: str | None = None
    referee: Referee = field(default_factory=Referee)
    kept: list[Any] = field(default_factory=list)  # Any: whatever has to live

    def __post_init__(self) -> None:
        self.api: Api = open_api(self.misbehave, self.referee)
        self.api.register()
        self.metal = self.api.metal
        self.device = self.metal.MTLCreateSystemDefaultDevice()

    def extents(self, *numbers: int) -> Any:
        return self.metal.MTLTensorExtents.alloc().initWithRank_values_(len(numbers), list(numbers))

    def tensor_descriptor(self, *numbers: int, strides: Any = None, **changes: Any) -> Any:
        descriptor = self.metal.MTLTensorDescriptor.alloc().init()
        descriptor.setDimensions_(self.extents(*numbers) if numbers else None)
        descriptor.setDataType_(16)
        descriptor.setUsage_(4)
        if strides is not None:
            descriptor.setStrides_(self.extents(*strides))
        for name, value in changes.items():
            getattr(descriptor, f"set{name[0].upper()}{name[1:]}_")(value)
        return descriptor

    def tensor(self, *numbers: int, **changes: Any) -> Any:
        return self.device.newTensorWithDescriptor_error_(
            self.tensor_descriptor(*numbers, **changes), None
        )

    def in_buffer(
        self, *numbers: int, length: int = 4096, options: int = 0, offset: int = 0, **changes: Any
    ) -> Any:
        buffer = self.device.newBufferWithLength_options_(length, options)
        self.kept.append(buffer)
        descriptor = self.tensor_descriptor(*numbers, **changes)
        return buffer.newTensorWithDescriptor_offset_error_(descriptor, offset, None)

    def library(self) -> Any:
        url = self.api.foundation.NSURL.fileURLWithPath_(str(self.package))
        library, error = self.device.newLibraryWithURL_error_(url, None)
        assert library is not None, error
        return library

    def pipeline(
        self,
        sizes: tuple[int, ...] | None = None,
        name: str = "main",
        reflection: int = 1,
        function: Any = True,
    ) -> Any:
        descriptor = self.metal.MTL4MachineLearningPipelineDescriptor.alloc().init()
        if function:
            chosen = self.metal.MTL4LibraryFunctionDescriptor.alloc().init()
            chosen.setName_(name)
            chosen.setLibrary_(self.library())
            descriptor.setMachineLearningFunctionDescriptor_(chosen)
        options = self.metal.MTL4PipelineOptions.alloc().init()
        options.setShaderReflection_(reflection)
        descriptor.setOptions_(options)
        if sizes is not None:
            descriptor.setInputDimensions_atBufferIndex_(self.extents(*sizes), 0)
        compiler, _ = self.device.newCompilerWithDescriptor_error_(
            self.metal.MTL4CompilerDescriptor.alloc().init(), None
        )
        self.kept.append(compiler)
        return compiler.newMachineLearningPipelineStateWithDescriptor_error_(descriptor, None)

    def table(self, *tensors: Any, count: int = 2) -> Any:
        descriptor = self.metal.MTL4ArgumentTableDescriptor.alloc().init()
        descriptor.setMaxBufferBindCount_(count)
        table, _ = self.device.newArgumentTableWithDescriptor_error_(descriptor, None)
        for index, tensor in enumerate(tensors):
            if tensor is not None:
                table.setResource_atBufferIndex_(tensor.gpuResourceID(), index)
        return table

    def heap(self, size: int = 1 << 20, kind: int = 1) -> Any:
        descriptor = self.metal.MTLHeapDescriptor.alloc().init()
        descriptor.setType_(kind)
        descriptor.setSize_(size)
        return self.device.newHeapWithDescriptor_(descriptor)

    def residency(self, *allocations: Any, is_committed: bool = True) -> Any:
        descriptor = self.metal.MTLResidencySetDescriptor.alloc().init()
        made, _ = self.device.newResidencySetWithDescriptor_error_(descriptor, None)
        for allocation in allocations:
            made.addAllocation_(allocation)
        if is_committed:
            made.commit()
            made.requestResidency()
        return made

    def write(self, tensor: Any, array: np.ndarray = X) -> None:
        numbers = array.shape[::-1]
        tensor.replaceSliceOrigin_sliceDimensions_withBytes_strides_(
            self.extents(*[0] * len(numbers)),
            self.extents(*numbers),
            array.tobytes(),
            self.extents(*tight(numbers)),
        )

    def read(self, tensor: Any, like: np.ndarray = X) -> np.ndarray:
        numbers, memory = like.shape[::-1], bytearray(like.nbytes)
        tensor.getBytes_strides_fromSliceOrigin_sliceDimensions_(
            memory,
            self.extents(*tight(numbers)),
            self.extents(*[0] * len(numbers)),
            self.extents(*numbers),
        )
        return np.frombuffer(memory, like.dtype).reshape(like.shape)

    def prepared(self, sizes: tuple[int, ...] | None = None) -> Any:
        """Everything up to the command buffer, as attributes."""
        self.state, error = self.pipeline(sizes)
        assert self.state is not None, error.localizedDescription()
        self.x, self.y = self.tensor(10, 2)[0], self.tensor(10, 2)[0]
        self.write(self.x)
        self.arguments = self.table(self.x, self.y)
        self.memory = self.heap()
        self.set = self.residency(self.x, self.y, self.memory)
        self.queue = self.device.newMTL4CommandQueue()
        self.queue.addResidencySet_(self.set)
        self.allocator = self.device.newCommandAllocator()
        self.commands = self.device.newCommandBuffer()
        self.event = self.device.newSharedEvent()
        return self

    def encode(self, *, barrier: bool = False) -> Any:
        """Encodes the dispatch, behind a barrier if asked for; gives back the pass."""
        self.commands.beginCommandBufferWithAllocator_(self.allocator)
        encoder = self.commands.machineLearningCommandEncoder()
        if barrier:
            stage = self.metal.MTLStageMachineLearning
            encoder.barrierAfterQueueStages_beforeStages_visibilityOptions_(stage, stage, 1)
        encoder.setPipelineState_(self.state)
        encoder.setArgumentTable_(self.arguments)
        encoder.dispatchNetworkWithIntermediatesHeap_(self.memory)
        encoder.endEncoding()
        self.commands.endCommandBuffer()
        return self

    def commit(self, value: int = 1) -> Any:
        self.queue.commit_count_([self.commands], 1)
        self.queue.signalEvent_value_(self.event, value)
        return self

    def wait(self, timeout: int = 1000, value: int = 1) -> bool:
        return self.event.waitUntilSignaledValue_timeoutMS_(value, timeout)


def tight(dimensions: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of a C-contiguous array, innermost first."""
    return tuple(math.prod(dimensions[:at]) for at in range(len(dimensions)))


def broken_by(act: Any, run: Pass) -> str:
    """The rule that a function breaks, told by an exception, an error's text, or the referee."""
    before = len(run.referee.broken)
    told = None
    try:
        answer = act(run)
    except BrokenRule as fault:
        told = str(fault)
        rule = fault.rule.identifier
    else:
        if isinstance(answer, tuple) and answer[0] is None:
            told = answer[1].localizedDescription()
        else:
            assert answer is None, f"no rule was broken: {answer}"
        assert len(run.referee.broken) > before, "no rule was broken"
        rule = run.referee.broken[-1].identifier
    assert [item.identifier for item in run.referee.broken[before:]] == [rule]
    if told is not None:
        assert told.startswith(f"{rule}: {run.referee.broken[-1].text}")
    return rule
