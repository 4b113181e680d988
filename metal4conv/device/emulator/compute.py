"""Libraries from source, compute pipelines and their encoder.

The functions run as another compiler translated them, in a shared library that the request names.
"""

from __future__ import annotations

import re
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metal4conv.device.compute_protocol import (
    BOOL,
    LANGUAGE_4_0,
    StandIn,
    StandInArgument,
    StandInFunction,
)
from metal4conv.device.emulator.barriers import Barriers
from metal4conv.device.emulator.compute_library import Bound, Resource, run_function
from metal4conv.device.emulator.compute_objects import (
    CompileOptions,
    ComputePipelineDescriptor,
    FunctionConstantValues,
    Size,
    SpecializedFunctionDescriptor,
)
from metal4conv.device.emulator.memory import (
    Buffer,
    ResidencySet,
    Tensor,
    Texture,
)
from metal4conv.device.emulator.misbehaviour import World
from metal4conv.device.emulator.objects import LibraryFunctionDescriptor
from metal4conv.device.emulator.rules import Answer, EmulatedError
from metal4conv.device.emulator.tables import ArgumentTable, alive, check_resident

if TYPE_CHECKING:
    from metal4conv.device.emulator.commands import CommandBuffer

LIBRARY_DOMAIN = "MTLLibraryErrorDomain"
COMPILE_FAILURE, FUNCTION_NOT_FOUND = 3, 5
MOST_THREADS = 1024
MOST_MEMORY = 32768
"""Bytes of threadgroup memory: those of Apple's GPUs."""

MEMORY_STEP = 16
SIMDGROUP_THREADS = 32
COMPUTE = 1
SHADER_READ = 1
STAGE_DISPATCH = 1 << 27
BINDING_TYPES = {"buffer": 0, "threadgroup": 1, "texture": 2, "sampler": 3, "tensor": 37}


class SourceLibrary:
    """`MTLLibrary` of a source: the functions of the stand-in that the source declares."""

    def __init__(self, world: World, text: str, stand_in: StandIn) -> None:
        self.world = world
        self.text = text
        self.stand_in = stand_in

    def functionNames(self) -> tuple[str, ...]:
        names = (function.name for function in self.stand_in.functions)
        return tuple(name for name in names if re.search(rf"\b{re.escape(name)}\s*\(", self.text))

    def function(self, name: str) -> StandInFunction:
        """The function of a name that the library has."""
        return next(item for item in self.stand_in.functions if item.name == name)


def compile_source(world: World, text: str, options: CompileOptions | None) -> Answer:
    """The library of a source."""
    if world.misbehave == "compile-error":
        return None, EmulatedError("program_source:1:1: error", LIBRARY_DOMAIN, COMPILE_FAILURE)
    version = LANGUAGE_4_0 if options is None else options.values["languageVersion"]
    if version < LANGUAGE_4_0:
        detail = f"found {version:#x}"
        return world.referee.error("language-version", detail, LIBRARY_DOMAIN, COMPILE_FAILURE)
    if world.stand_in is None:
        text = "the emulator compiles no source, and was given no stand-in for it"
        return None, EmulatedError(text, LIBRARY_DOMAIN, COMPILE_FAILURE)
    return SourceLibrary(world, text, world.stand_in), None


class ComputeBinding:
    """`MTLBinding` of a function's parameter."""

    def __init__(self, argument: StandInArgument) -> None:
        self.argument = argument

    def name(self) -> str:
        return self.argument.name

    def type(self) -> int:
        return BINDING_TYPES[self.argument.kind]

    def index(self) -> int:
        return self.argument.index

    def access(self) -> int:
        return 1 if self.argument.writes else 0

    def isUsed(self) -> bool:
        return True

    def isArgument(self) -> bool:
        return True


class ComputeReflection:
    """`MTLComputePipelineReflection`."""

    def __init__(self, function: StandInFunction) -> None:
        bound = (item for item in function.arguments if item.kind in BINDING_TYPES)
        self.shown = tuple(map(ComputeBinding, bound))

    def bindings(self) -> tuple[ComputeBinding, ...]:
        return self.shown


class ComputePipelineState:
    """`MTLComputePipelineState`: a function with its constants, for threadgroups of one size."""

    def __init__(
        self,
        library: SourceLibrary,
        function: StandInFunction,
        constants: dict[str, bool],
        required: Size,
        is_reflected: bool,
    ) -> None:
        self.world = library.world
        self.library = library
        self.stand_in_function = function
        self.constants = constants
        self.required = required
        self.is_reflected = is_reflected

    def maxTotalThreadsPerThreadgroup(self) -> int:
        return MOST_THREADS

    def threadExecutionWidth(self) -> int:
        return SIMDGROUP_THREADS

    def staticThreadgroupMemoryLength(self) -> int:
        return 0

    def requiredThreadsPerThreadgroup(self) -> Size:
        return self.required

    def reflection(self) -> ComputeReflection | None:
        if not self.is_reflected:
            self.world.referee.note("reflection-option")
            return None
        if self.world.misbehave == "nil-reflection":
            return None
        return ComputeReflection(self.stand_in_function)


def compile_function(world: World, descriptor: ComputePipelineDescriptor) -> Answer:
    """The pipeline state of a descriptor."""
    referee = world.referee
    function = descriptor.values["computeFunctionDescriptor"]
    values: dict[int, tuple[int, bytes]] = {}
    if isinstance(function, SpecializedFunctionDescriptor):
        given: FunctionConstantValues | None = function.values["constantValues"]
        values = {} if given is None else given.values
        function = function.values["functionDescriptor"]
    library = function and function.values["library"]
    is_function = isinstance(function, LibraryFunctionDescriptor)
    if not is_function or not isinstance(library, SourceLibrary):
        referee.fault("compute-function", "there is no function of a library from source")
    name = function.values["name"]
    if name not in library.functionNames():
        detail = f"Function {name} not found"
        return referee.error("function-name", detail, LIBRARY_DOMAIN, FUNCTION_NOT_FOUND)
    known = library.stand_in.constants
    for index, (kind, _) in values.items():
        detail = f"index {index}, type {kind}; the source has {dict(known)} of type {BOOL}"
        referee.require(index in known.values() and kind == BOOL, "constant-known", detail)
    if unset := [constant for constant, index in known.items() if index not in values]:
        detail = f"function {name}: {', '.join(unset)}"
        return referee.error("constant-set", detail, LIBRARY_DOMAIN, COMPILE_FAILURE)
    constants = {constant: values[index][1] != b"\0" for constant, index in known.items()}
    if world.misbehave == "no-constants" and any(constants.values()):
        return None, EmulatedError("Compilation failed", LIBRARY_DOMAIN, COMPILE_FAILURE)
    found = library.function(name)
    required: Size = descriptor.values["requiredThreadsPerThreadgroup"]
    referee.require(required.count > 0 or not found.cooperative, "threads-told", f"function {name}")
    options = descriptor.values["options"]
    is_reflected = options is not None and bool(options.values["shaderReflection"] & 1)
    return ComputePipelineState(library, found, constants, required, is_reflected), None


@dataclass
class ComputeDispatch:
    """What a compute encoder recorded, by weak references; sizes and memory as they were then."""

    pipeline: weakref.ref[ComputePipelineState]
    table: weakref.ref[ArgumentTable] | None
    threadgroups: Size
    threads: Size
    memory: dict[int, int]
    is_ordered: bool

    def bound(self, world: World) -> list[tuple[StandInArgument, Resource | None, int]]:
        """The parameters of the function, with the resource that is bound and where in it; None
        where it is gone, or is no resource."""
        pipeline = alive(world, self.pipeline, "the pipeline state")
        table = None if self.table is None else alive(world, self.table, "the argument table")
        rows: list[tuple[StandInArgument, Resource | None, int]] = []
        for argument in pipeline.stand_in_function.arguments:
            place = argument.index
            if table is None:
                rows.append((argument, None, 0))
            elif argument.kind == "buffer":
                address = table.addresses[place]
                buffer = world.buffer_at(address)
                rows.append((argument, buffer, 0 if buffer is None else address - buffer.address))
            elif argument.kind == "tensor":
                rows.append((argument, world.tensors.get(table.slots[place]), 0))
            elif argument.kind == "texture":
                rows.append((argument, world.textures.get(table.textures[place]), 0))
            elif argument.kind == "sampler":
                rows.append((argument, world.samplers.get(table.samplers[place]), 0))
            else:
                rows.append((argument, None, 0))
        return rows

    def held(self, world: World) -> list[Tensor | Buffer | Texture]:
        """The buffers, tensors and textures that the function uses."""
        found = (resource for _, resource, _ in self.bound(world))
        return [item for item in found if isinstance(item, Tensor | Buffer | Texture)]

    def touched(self, world: World) -> list[tuple[int, bool, str]]:
        """The buffers and textures of all parameters, also below tensors."""
        return [
            (
                resource.allocation.identifier,
                argument.writes,
                f'the {argument.kind} "{argument.name}"',
            )
            for argument, resource, _ in self.bound(world)
            if resource is not None and resource.allocation is not None
        ]

    def run(self, world: World, sets: Sequence[ResidencySet]) -> None:
        """The function, for all threads."""
        pipeline = alive(world, self.pipeline, "the pipeline state")
        given = []
        for argument, resource, offset in self.bound(world):
            what = f'the {argument.kind} "{argument.name}"'
            if argument.kind not in ("threadgroup", "builtin"):
                if resource is None or resource.allocation is None:
                    world.referee.fault("kept-alive", f"{what} was dropped before the end")
                if argument.kind != "sampler":
                    check_resident(world, resource.allocation, sets, what)
            length = self.memory.get(argument.index, 0) if argument.kind == "threadgroup" else 0
            given.append(Bound(argument, resource, offset, length))
        written = [item.resource for item in given if item.argument.writes]
        buffers = [(item, item.data.copy()) for item in written if isinstance(item, Buffer)]
        run_function(
            pipeline.library.stand_in,
            pipeline.stand_in_function,
            given,
            pipeline.constants,
            self.threadgroups,
            self.threads,
        )
        for buffer, before in buffers:
            spoil(world, buffer, before)


def spoil(world: World, buffer: Buffer, before: np.ndarray) -> None:
    """Makes the numbers that were written wrong, where that is asked for."""
    value = {"constant-output": 0.5, "nan-output": float("nan")}.get(world.misbehave or "")
    if value is not None:
        count = len(before) // 4 * 4
        now = buffer.data[:count].view(np.float32)
        now[buffer.data[:count].view(np.uint32) != before[:count].view(np.uint32)] = value


class ComputeEncoder(Barriers):
    """`MTL4ComputeCommandEncoder`."""

    def __init__(self, world: World, commands: CommandBuffer) -> None:
        self.world = world
        self.commands = weakref.ref(commands)
        self.pipeline: weakref.ref[ComputePipelineState] | None = None
        self.table: weakref.ref[ArgumentTable] | None = None
        self.memory: dict[int, int] = {}

    def encoding(self) -> CommandBuffer:
        """The command buffer, which takes commands as long as this encoder has not ended."""
        commands: CommandBuffer = alive(self.world, self.commands, "the command buffer")
        self.world.referee.require(
            commands.encoder is self, "encoder-ended", "a command came after the encoder's end"
        )
        return commands

    def setComputePipelineState_(self, state: ComputePipelineState) -> None:
        self.pipeline = weakref.ref(state)

    def setArgumentTable_(self, table: ArgumentTable) -> None:
        self.table = weakref.ref(table)

    def setThreadgroupMemoryLength_atIndex_(self, length: int, index: int) -> None:
        self.world.referee.require(
            length % MEMORY_STEP == 0, "memory-step", f"{length} bytes at index {index}"
        )
        self.memory[index] = length

    def dispatchThreadgroups_threadsPerThreadgroup_(self, groups: Any, threads: Any) -> None:
        """Checks what Metal's validation layer checks, and records the dispatch. (Any: MTLSize, or
        three numbers, which the bridge takes as well.)"""
        referee = self.world.referee
        commands = self.encoding()
        pipeline = None if self.pipeline is None else self.pipeline()
        if pipeline is None:
            referee.fault("pipeline-set", "there is none, or it is gone")
        count, size = size_of(groups), size_of(threads)
        referee.require(
            min(count.width, count.height, count.depth) > 0, "threadgroups-some", f"{count}"
        )
        most = pipeline.maxTotalThreadsPerThreadgroup()
        referee.require(0 < size.count <= most, "threads-most", f"{size}, {most} at most")
        required = pipeline.required
        referee.require(
            not required.count or required == size, "threads-required", f"{size}, told {required}"
        )
        for argument in pipeline.stand_in_function.arguments:
            self.check_argument(argument)
        total = sum(self.memory.values())
        referee.require(total <= MOST_MEMORY, "memory-most", f"{total} bytes of {MOST_MEMORY}")
        ordered, commands.has_barrier = commands.has_barrier, False
        commands.dispatches.append(
            ComputeDispatch(
                weakref.ref(pipeline), self.table, count, size, dict(self.memory), ordered
            )
        )

    def check_argument(self, argument: StandInArgument) -> None:
        """What a parameter needs must be bound, and be of its kind."""
        referee, place = self.world.referee, argument.index
        what = f'the {argument.kind} "{argument.name}" at index {place}'
        if argument.kind == "builtin":
            return
        if argument.kind == "threadgroup":
            referee.require(self.memory.get(place, 0) > 0, "memory-set", what)
            return
        table = None if self.table is None else self.table()
        if table is None:
            referee.fault("table-set", "there is none, or it is gone")
        if argument.kind in ("texture", "sampler"):
            self.check_picture(table, argument, what)
            return
        count = len(table.slots)
        referee.require(place < count, "table-size", f"{count} slots, {what}")
        own, other = table.addresses[place], table.slots[place]
        if argument.kind == "tensor":
            own, other = other, own
        referee.require(bool(own or other), "slots-filled", what)
        referee.require(bool(own), "slot-kind", what)
        if argument.kind == "tensor":
            tensor = self.world.tensors.get(own)
            if tensor is None:
                referee.fault("kept-alive", f"{what} is gone")
            usage = tensor.usage()
            referee.require(bool(usage & COMPUTE), "compute-usage", f"{what} has usage {usage}")

    def check_picture(self, table: ArgumentTable, argument: StandInArgument, what: str) -> None:
        """A texture or sampler must be bound, and be what a function may sample."""
        referee, is_texture = self.world.referee, argument.kind == "texture"
        slots = table.textures if is_texture else table.samplers
        count = len(slots)
        referee.require(argument.index < count, "table-size", f"{count} slots, {what}")
        identifier = slots[argument.index]
        referee.require(bool(identifier), "slots-filled", what)
        if is_texture and (texture := self.world.textures.get(identifier)) is not None:
            usage = texture.values["usage"]
            referee.require(bool(usage & SHADER_READ), "texture-read", f"{what} has usage {usage}")

    def check_barrier(self, own: int) -> None:
        """The stages of this pass's side."""
        self.encoding().has_barrier = True
        self.world.referee.require(bool(own & STAGE_DISPATCH), "barrier-stage", f"stages {own:#x}")

    def endEncoding(self) -> None:
        self.encoding().encoder = None


def size_of(size: Any) -> Size:  # Any: a Size or a sequence
    """Width, height and depth."""
    return size if isinstance(size, Size) else Size(*size)
