"""Libraries, their reflection, and pipelines that are compiled from them."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from metal4conv.device.emulator.compute import compile_function
from metal4conv.device.emulator.compute_objects import ComputePipelineDescriptor
from metal4conv.device.emulator.memory import numbers_of
from metal4conv.device.emulator.misbehaviour import World
from metal4conv.device.emulator.objects import (
    FileURL,
    MachineLearningPipelineDescriptor,
    TensorExtents,
    extents_of,
)
from metal4conv.device.emulator.package import EmulatedPackage, read_emulated_package
from metal4conv.device.emulator.rules import Answer, EmulatedError
from metal4conv.device.mtlpackage import SUFFIX
from metal4conv.device.reflection import MPS_DATA_TYPES, ReflectedTensor
from metal4conv.errors import UsageError
from metal4conv.layout.document import LayoutManifest, TensorLayout
from metal4conv.layout.rules import DATA_TYPES, MAXIMUM_RANK, READ, WRITE

if TYPE_CHECKING:
    from metal4conv.execute.interpreter import Executor
    from metal4conv.execute.pipeline import Pipeline

LIBRARY_DOMAIN = "MTLLibraryErrorDomain"
UNSUPPORTED, COMPILE_FAILURE, FUNCTION_NOT_FOUND = 1, 3, 5
UNSUPPORTED_OPS = "Unsupported Ops or shapes for MLEncoder"
TENSOR_BINDING = 37
INDEX_TYPE = 33
OPEN = -1
LARGEST = 2**64 - 1
LEAST_HEAP = 4096
UNKNOWN_HEAP = 65536
"""Bytes of the heap where the manifest has no estimate."""

MTL_TYPES = {MPS_DATA_TYPES[name]: row.raw for name, row in DATA_TYPES.items()}
"""MTLTensorDataType by the type that reflection.fb has."""


class TensorBinding:
    """`MTLTensorBinding`: a plain tensor of a function."""

    def __init__(
        self, world: World, tensor: ReflectedTensor, index: int, access: int, sizes: Sequence[int]
    ) -> None:
        self.world = world
        self.tensor = tensor
        self.place = index
        self.use = access
        self.sizes = tuple(sizes)

    def __repr__(self) -> str:
        self.world.referee.fault("binding-description", f'the binding "{self.tensor.name}"')

    def name(self) -> str:
        return "" if self.world.misbehave == "empty-names" else self.tensor.name

    def type(self) -> int:
        return TENSOR_BINDING

    def access(self) -> int:
        return self.use

    def index(self) -> int:
        return self.place

    def isUsed(self) -> bool:
        return True

    def isArgument(self) -> bool:
        return True

    def tensorDataType(self) -> int:
        return MTL_TYPES[self.tensor.mps_data_type]

    def indexType(self) -> int:
        return INDEX_TYPE

    def dimensions(self) -> TensorExtents | None:
        if self.world.misbehave == "nil-dimensions":
            return None
        is_huge = self.world.misbehave == "huge-dimensions"
        sizes = [LARGEST if is_huge and size == OPEN else size for size in self.sizes]
        return extents_of(self.world, sizes)


class Reflection:
    """`MTLFunctionReflection` and `MTL4MachineLearningPipelineReflection`."""

    def __init__(self, bindings: Sequence[TensorBinding]) -> None:
        self.shown = tuple(bindings)

    def bindings(self) -> tuple[TensorBinding, ...]:
        return self.shown


class Library:
    """`MTLLibrary` of an emulated package."""

    def __init__(self, world: World, content: EmulatedPackage) -> None:
        self.world = world
        self.content = content

    @cached_property
    def network(self) -> Executor | Pipeline:
        """What runs the function at all sizes, with its weights once. Only this needs torch."""
        from metal4conv.execute.interpreter import load

        package = self.content.package
        return load(package.path, self.content.manifest.package.function)

    def functionNames(self) -> tuple[str, ...]:
        return (self.content.function.name,)

    def reflectionForFunctionWithName_(self, name: str) -> Reflection | None:
        if name != self.content.function.name:
            self.world.referee.note("function-name")
            return None
        return Reflection(self.bindings())

    def bindings(self, sizes: Mapping[str, Sequence[int]] | None = None) -> list[TensorBinding]:
        """All tensors with their indices; `sizes` by name, or else those of the file."""
        function = self.content.function
        listed = [(tensor, READ.raw) for tensor in function.inputs]
        outputs = [(tensor, WRITE.raw) for tensor in function.outputs]
        listed = outputs + listed if self.world.misbehave == "other-order" else listed + outputs
        return [
            TensorBinding(
                self.world,
                tensor,
                index,
                access,
                tensor.shape[::-1] if sizes is None else sizes[tensor.name],
            )
            for index, (tensor, access) in enumerate(listed)
        ]


def open_library(world: World, url: FileURL) -> Answer:
    """The library of the package that a URL names."""
    path = Path(url.path())
    if not path.is_dir() or path.suffix != SUFFIX:
        detail = f"Invalid metal package {path}"
        return world.referee.error("package-path", detail, LIBRARY_DOMAIN, UNSUPPORTED)
    try:
        content = read_emulated_package(path)
    except ValueError as error:
        detail = f"Invalid metal package {path}: {error}"
        return world.referee.error("package-manifest", detail, LIBRARY_DOMAIN, UNSUPPORTED)
    return Library(world, content), None


class PipelineState:
    """`MTL4MachineLearningPipelineState`: a network for one set of sizes.

    `sized` is the manifest with plain numbers for the dimensions of all tensors.
    """

    def __init__(self, library: Library, sized: LayoutManifest, is_reflected: bool) -> None:
        self.world = library.world
        self.library = library
        self.sizes = {tensor.name: plain_sizes(tensor) for tensor in sized.tensors}
        self.heap_bytes = sized.estimated_bytes
        self.is_reflected = is_reflected
        self.network = library.network

    def reflection(self) -> Reflection | None:
        if not self.is_reflected:
            self.world.referee.note("reflection-option")
            return None
        if self.world.misbehave == "nil-reflection":
            return None
        is_open = self.world.misbehave in ("dynamic-dimensions", "huge-dimensions")
        return Reflection(self.library.bindings(None if is_open else self.sizes))

    def intermediatesHeapSize(self) -> int:
        found = self.heap_bytes
        return max(found, LEAST_HEAP) if isinstance(found, int) else UNKNOWN_HEAP

    @property
    def bindings(self) -> list[TensorBinding]:
        """What the graph itself expects, whatever reflection shows."""
        return self.library.bindings(self.sizes)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs, by the executor; misbehaving, others."""
        outputs = self.network.predict(inputs)
        match self.world.misbehave:
            case "constant-output":
                return {name: np.full_like(array, 0.5) for name, array in outputs.items()}
            case "nan-output":
                return {name: np.full_like(array, broken(array)) for name, array in outputs.items()}
        return outputs


def broken(array: np.ndarray) -> float:
    """What a failed network leaves in an output."""
    return float("nan") if array.dtype.kind == "f" else float(np.iinfo(array.dtype).max)


def named_sizes(manifest: LayoutManifest, sizes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """The size of each dynamic dimension, from the dimensions of the inputs."""
    found: dict[str, int] = {}
    for tensor in manifest.inputs:
        for declared, size in zip(tensor.dimensions, sizes[tensor.name], strict=True):
            if isinstance(declared, str) and declared in manifest.dimensions:
                found.setdefault(declared, size)
    return found


class Refused(Exception):
    """Why a pipeline cannot be compiled: the rule that is broken, and how."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(detail)
        self.rule = rule


def sized_manifest(
    manifest: LayoutManifest, sizes: Mapping[str, tuple[int, ...]]
) -> LayoutManifest:
    """The manifest at the dimensions of the inputs; `Refused` when the package does not take
    them, or does not say how large an output becomes."""
    try:
        sized = manifest.at(named_sizes(manifest, sizes))
    except UsageError as error:
        raise Refused("fixed-dimensions", error.message) from None
    for tensor in sized.inputs:
        if tensor.dimensions != sizes[tensor.name]:
            raise Refused(
                "fixed-dimensions",
                f'input "{tensor.name}" has dimensions {tensor.dimensions} beside the others, '
                f"was given {sizes[tensor.name]}",
            )
    for tensor in sized.outputs:
        if plain_sizes(tensor) != tensor.dimensions:
            detail = f'output "{tensor.name}" has dimensions {tensor.dimensions}'
            raise Refused("fixed-dimensions", detail)
    return sized


def plain_sizes(tensor: TensorLayout) -> tuple[int, ...]:
    """The dimensions of a tensor that are numbers."""
    return tuple(size for size in tensor.dimensions if isinstance(size, int))


def input_sizes(
    library: Library, descriptor: MachineLearningPipelineDescriptor
) -> dict[str, tuple[int, ...]]:
    """The dimensions of the inputs: those given, or else those of the file; `Refused` when some
    are open, or are not what the file fixes."""
    sizes = {}
    for binding in library.bindings():
        if binding.use != READ.raw:
            continue
        given = descriptor.given.get(binding.place)
        chosen = binding.sizes if given is None else numbers_of(given)
        tensor = f'input "{binding.tensor.name}" has dimensions {binding.sizes}'
        if any(size == OPEN for size in chosen):
            raise Refused("input-dimensions", f"{tensor}, was given none")
        if not agree(chosen, binding.sizes):
            raise Refused("fixed-dimensions", f"{tensor}, was given {chosen}")
        sizes[binding.tensor.name] = tuple(chosen)
    return sizes


def check_types(library: Library) -> None:
    """`Refused` for types with which no pipeline was seen."""
    if names := [
        binding.tensor.name
        for binding in library.bindings()
        if binding.tensorDataType() == DATA_TYPES["bfloat16"].raw
    ]:
        raise Refused("binding-type", ", ".join(names))


class Compiler:
    """`MTL4Compiler`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.busy = world.compiling

    def newMachineLearningPipelineStateWithDescriptor_error_(
        self, descriptor: MachineLearningPipelineDescriptor, error: None
    ) -> Answer:
        """A pipeline state for the sizes that the descriptor gives."""
        with self.alone():
            return self.compiled(descriptor)

    def newComputePipelineStateWithDescriptor_compilerTaskOptions_error_(
        self, descriptor: ComputePipelineDescriptor, options: None, error: None
    ) -> Answer:
        """A pipeline state for a compute function."""
        with self.alone():
            misbehave(self.world)
            return compile_function(self.world, descriptor)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A block that compiles, and that no other runs beside."""
        if not self.busy.acquire(blocking=False):
            self.world.referee.fault("compile-alone", "another compilation is going on")
        try:
            yield
        finally:
            self.busy.release()

    def compiled(self, descriptor: MachineLearningPipelineDescriptor) -> Answer:
        """The same, alone."""
        misbehave(self.world)
        if self.world.misbehave == "compile-error":
            return None, EmulatedError(UNSUPPORTED_OPS, LIBRARY_DOMAIN, COMPILE_FAILURE)
        referee = self.world.referee
        function = descriptor.values["machineLearningFunctionDescriptor"]
        library = function and function.values["library"]
        if not isinstance(library, Library):
            referee.fault("function-descriptor", "there is no function of a Metal package")
        name = function.values["name"]
        if name not in library.functionNames():
            detail = f"Function {name} not found"
            return referee.error("function-name", detail, LIBRARY_DOMAIN, FUNCTION_NOT_FOUND)
        try:
            check_types(library)
            sized = sized_manifest(library.content.manifest, input_sizes(library, descriptor))
        except Refused as refusal:
            detail = f"{UNSUPPORTED_OPS}: {refusal}"
            return referee.error(refusal.rule, detail, LIBRARY_DOMAIN, COMPILE_FAILURE)
        options = descriptor.values["options"]
        is_reflected = options is not None and bool(options.values["shaderReflection"] & 1)
        return PipelineState(library, sized, is_reflected), None


def agree(given: Sequence[int], declared: Sequence[int]) -> bool:
    """Whether sizes are those that are fixed, and of the same rank."""
    return len(given) == len(declared) <= MAXIMUM_RANK and all(
        fixed in (OPEN, size) for size, fixed in zip(given, declared, strict=True)
    )


def misbehave(world: World) -> None:
    """Ends the process or never ends, where that is asked for."""
    if world.misbehave == "abort-at-compile":
        abort("MPSGraphExecutable.mm: failed assertion `Error: MLIR pass manager failed'")
    while world.misbehave == "hang":
        time.sleep(1)


def abort(text: str) -> NoReturn:
    """Ends the process as an assertion in a system library does."""
    print(text, file=sys.stderr, flush=True)
    os.abort()
