"""The least that answers as Metal: it stores what it is given and tells in which order.

For what the emulator does not have (captures, a bridge that misunderstands) and for looking at the
calls themselves. Every output is 2 everywhere but for its first value, 1.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from metal4conv.device.api import Api
from tests.device.plans import X, Y


class Stored:
    """A descriptor: `setX_(value)` stores a value."""

    @classmethod
    def alloc(cls):
        return cls()

    def init(self):
        self.values = {}
        return self

    def __getattr__(self, name):
        if not name.startswith("set") or not name.endswith("_"):
            raise AttributeError(name)
        return lambda *values: self.values.__setitem__(name[3:-1], values)


class Extents:
    @classmethod
    def alloc(cls):
        return cls()

    def initWithRank_values_(self, rank, values):
        assert rank == len(values)
        self.numbers = values
        return self

    def rank(self):
        return len(self.numbers)

    def extentAtDimensionIndex_(self, index):
        return self.numbers[index]


class Options:
    @classmethod
    def alloc(cls):
        return cls()

    def init(self):
        self.handlers = []
        return self

    def addFeedbackHandler_(self, handler):
        self.handlers.append(handler)


class StubMetal:
    """A device with one library; `calls` names the selectors that change something, in order.

    Attributes that a test replaces change what Metal answers.
    """

    def __init__(self):
        self.calls = []
        self.compiled = []
        self.tensors = []
        self.handlers = []
        self.feedback = SimpleNamespace(
            error=lambda: None, GPUStartTime=lambda: 1.0, GPUEndTime=lambda: 1.25
        )
        self.shown = [self.binding(X, 0), self.binding(Y, 2)]
        self.signals = True
        self.extra_bytes = 0
        classes = (
            "MTLTensorDescriptor",
            "MTLHeapDescriptor",
            "MTLResidencySetDescriptor",
            "MTL4LibraryFunctionDescriptor",
            "MTL4MachineLearningPipelineDescriptor",
            "MTL4PipelineOptions",
            "MTL4CompilerDescriptor",
            "MTL4ArgumentTableDescriptor",
        )
        self.metal = SimpleNamespace(
            **{name: type(name, (Stored,), {}) for name in classes},
            MTLTensorExtents=Extents,
            MTL4CommitOptions=Options,
            MTLCreateSystemDefaultDevice=lambda: self.device(),
        )

    def api(self, *, is_emulated=False) -> Api:
        url = SimpleNamespace(fileURLWithPath_=lambda path: f"file:{path}")
        foundation = SimpleNamespace(NSURL=url)
        return Api(self.metal, foundation, lambda: self.note("register"), is_emulated)

    def note(self, call, answer=None):
        self.calls.append(call)
        return answer

    def binding(self, plan, access, **changes):
        rows = {
            "name": plan.name,
            "index": plan.index,
            "type": 37,
            "access": access,
            "tensorDataType": plan.data_type,
            "dimensions": Extents().initWithRank_values_(2, list(plan.dimensions)),
            **changes,
        }
        return SimpleNamespace(**{key: (lambda value=value: value) for key, value in rows.items()})

    def reflection(self):
        return SimpleNamespace(bindings=lambda: self.shown)

    def device(self):
        library = SimpleNamespace(
            functionNames=lambda: ("main",),
            reflectionForFunctionWithName_=lambda name: self.reflection(),
        )
        compiler = SimpleNamespace(
            newMachineLearningPipelineStateWithDescriptor_error_=self.compile
        )
        return SimpleNamespace(
            name=lambda: "stub",
            supportsFamily_=lambda family: family == 5002,
            newLibraryWithURL_error_=lambda url, error: (library, None),
            newCompilerWithDescriptor_error_=lambda descriptor, error: (compiler, None),
            newTensorWithDescriptor_error_=lambda descriptor, error: self.tensor(descriptor),
            newBufferWithLength_options_=lambda length, options: self.buffer(length),
            newArgumentTableWithDescriptor_error_=lambda descriptor, error: (self.table(), None),
            newHeapWithDescriptor_=lambda d: SimpleNamespace(size=lambda: d.values["Size"][0]),
            newResidencySetWithDescriptor_error_=lambda descriptor, error: (self.set(), None),
            newMTL4CommandQueue=self.queue,
            newCommandAllocator=lambda: SimpleNamespace(reset=lambda: self.note("reset")),
            newCommandBuffer=self.command_buffer,
            newSharedEvent=self.event,
        )

    def compile(self, descriptor, error):
        self.note("compile")
        self.compiled.append(descriptor)
        state = SimpleNamespace(reflection=self.reflection, intermediatesHeapSize=lambda: 0)
        return state, None

    def tensor(self, descriptor):
        stored = descriptor.values

        def fill(origin, sizes, data, strides):
            made.data = bytes(data)

        def read(memory, strides, origin, sizes):
            self.note("getBytes")
            values = np.full(len(memory) // 4, 2, np.float32)
            values[0] = 1
            memory[:] = values.tobytes()

        made = SimpleNamespace(
            descriptor=descriptor,
            dimensions=lambda: stored["Dimensions"][0],
            dataType=lambda: stored["DataType"][0],
            usage=lambda: stored["Usage"][0],
            gpuResourceID=lambda: SimpleNamespace(_impl=7),
            replaceSliceOrigin_sliceDimensions_withBytes_strides_=fill,
            getBytes_strides_fromSliceOrigin_sliceDimensions_=read,
        )
        self.tensors.append(made)
        return made, None

    def buffer(self, length):
        def tensor(descriptor, offset, error):
            assert offset == 0
            return self.tensor(descriptor)

        return SimpleNamespace(
            length=lambda: length + self.extra_bytes, newTensorWithDescriptor_offset_error_=tensor
        )

    def table(self):
        return SimpleNamespace(
            setResource_atBufferIndex_=lambda identifier, index: self.note(f"slot {index}")
        )

    def set(self):
        return SimpleNamespace(
            addAllocation_=lambda allocation: self.note("add"),
            commit=lambda: self.note("commit set"),
            requestResidency=lambda: self.note("request"),
        )

    def queue(self):
        def commit(buffers, count, options=None):
            assert len(buffers) == count == 1
            self.note("commit")
            for handler in options.handlers if options else ():
                self.deliver(handler)

        return SimpleNamespace(
            addResidencySet_=lambda residency: self.note("add set"),
            commit_count_=commit,
            commit_count_options_=commit,
            signalEvent_value_=lambda event, value: self.note(f"signal {value}"),
        )

    def deliver(self, handler):
        handler(self.feedback)

    def command_buffer(self):
        encoder = SimpleNamespace(
            setPipelineState_=lambda state: None,
            setArgumentTable_=lambda table: None,
            dispatchNetworkWithIntermediatesHeap_=lambda heap: self.note("dispatch"),
            endEncoding=lambda: self.note("end encoding"),
        )
        return SimpleNamespace(
            beginCommandBufferWithAllocator_=lambda allocator: self.note("begin"),
            machineLearningCommandEncoder=lambda: encoder,
            endCommandBuffer=lambda: self.note("end"),
        )

    def event(self):
        def wait(value, timeout):
            return self.note(f"wait {value}", self.signals)

        return SimpleNamespace(signaledValue=lambda: 0, waitUntilSignaledValue_timeoutMS_=wait)
