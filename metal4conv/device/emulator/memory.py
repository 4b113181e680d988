"""Buffers, tensors, heaps and residency sets: memory of the emulated GPU, poisoned when new."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet, ref

import numpy as np
from numpy.lib.stride_tricks import as_strided

from metal4conv.device.emulator.misbehaviour import World
from metal4conv.device.emulator.objects import (
    HeapDescriptor,
    TensorDescriptor,
    TensorExtents,
    extents_of,
)
from metal4conv.device.emulator.rules import Answer
from metal4conv.layout.rules import DATA_TYPES_BY_RAW, ROW_ALIGNMENT
from metal4conv.mil.dtypes import DTYPES

TENSOR_DOMAIN = "MTLTensorDomain"
INVALID_DESCRIPTOR = 2
POISON = 0xAB
"""What fresh memory holds: a float16 of -0.06, a float32 of -1.2e-12, no plausible result."""

MACHINE_LEARNING = 4
ALL_USAGES = 7
SHARED, PRIVATE = 0, 2


def numpy_type(raw: int) -> np.dtype[Any]:  # Any: whichever the type says
    """The array type of an element; bfloat16 as its bits."""
    return np.dtype(DTYPES[DATA_TYPES_BY_RAW[raw].name].numpy)


def numbers_of(extents: TensorExtents) -> tuple[int, ...]:
    """The numbers of extents, read as an app reads them."""
    return tuple(extents.extentAtDimensionIndex_(index) for index in range(extents.rank()))


@dataclass(frozen=True)
class SizeAndAlign:
    """`MTLSizeAndAlign`, in bytes."""

    size: int
    align: int


@dataclass(frozen=True)
class ResourceID:
    """`MTLResourceID`, which tables hold in place of a resource."""

    _impl: int


class Contents:
    """What `contents` of a buffer gives: PyObjC's `varlist`."""

    def __init__(self, data: np.ndarray) -> None:
        self.data = data

    def as_buffer(self, count: int) -> memoryview:
        """The first bytes, writable."""
        return self.data.data[:count]


class Buffer:
    """`MTLBuffer`. Options are packed: cache mode in bits 0-3, storage in 4-7, hazards in 8-9."""

    def __init__(self, world: World, length: int, options: int) -> None:
        self.world = world
        self.data = np.full(length, POISON, np.uint8)
        self.options = options
        self.in_flight = 0
        self.identifier = world.next_identifier()
        self.address = world.next_address(length)
        world.buffers[self.address] = self

    @property
    def allocation(self) -> Buffer:
        """What has to be resident."""
        return self

    def length(self) -> int:
        return len(self.data)

    def gpuAddress(self) -> int:
        return self.address

    def contents(self) -> Contents:
        self.world.referee.require(
            not self.in_flight, "wait-first", "a submission that uses the buffer is not done"
        )
        return Contents(self.data)

    def cpuCacheMode(self) -> int:
        return self.options & 15

    def storageMode(self) -> int:
        return self.options >> 4 & 15

    def hazardTrackingMode(self) -> int:
        return self.options >> 8 & 3

    def newTensorWithDescriptor_offset_error_(
        self, descriptor: TensorDescriptor, offset: int, error: None
    ) -> Answer:
        """A tensor whose elements are bytes of this buffer, by the descriptor's strides."""
        referee = self.world.referee
        if refused := refusal(self.world, descriptor):
            return refused
        values, raw = descriptor.values, descriptor.values["dataType"]
        size = DATA_TYPES_BY_RAW[raw].bytes
        if values["strides"] is None:
            return invalid(self.world, "buffer-strides", "strides are nil")
        dimensions, strides = numbers_of(values["dimensions"]), numbers_of(values["strides"])
        is_learning = bool(values["usage"] & MACHINE_LEARNING)
        if broken := broken_stride(dimensions, strides, size, is_learning):
            return invalid(self.world, *broken)
        for identifier, name, own in (
            ("storage-mode", "storageMode", self.storageMode()),
            ("cache-mode", "cpuCacheMode", self.cpuCacheMode()),
            ("hazard-mode", "hazardTrackingMode", self.hazardTrackingMode()),
        ):
            is_free = identifier == "hazard-mode" and values[name] == 0
            if values[name] != own and not is_free:
                detail = f"{name} is {values[name]}, the buffer's {own}"
                return invalid(self.world, identifier, detail)
        if is_learning and offset:
            return invalid(self.world, "learning-offset", f"offset {offset}")
        if offset % size:
            return invalid(self.world, "buffer-offset", f"offset {offset}, elements of {size}")
        needed = offset + held_bytes(dimensions, strides, size)
        referee.require(
            needed <= len(self.data),
            "buffer-length",
            f"a tensor of {needed} bytes in a buffer of {len(self.data)}",
        )
        return Tensor(self.world, values, (self, strides, offset)), None


def refusal(world: World, descriptor: TensorDescriptor) -> Answer | None:
    """What is wrong with a descriptor wherever its tensor is made."""
    values = descriptor.values
    if values["dimensions"] is None:
        return invalid(world, "positive-dimensions", "dimensions are nil")
    dimensions = numbers_of(values["dimensions"])
    if any(size <= 0 for size in dimensions):
        return invalid(world, "positive-dimensions", f"found {dimensions}")
    if values["dataType"] not in DATA_TYPES_BY_RAW:
        return invalid(world, "known-type", f"found {values['dataType']}")
    if values["usage"] & ~ALL_USAGES:
        return invalid(world, "usage-bits", f"found {values['usage']:#b}")
    return None


def invalid(world: World, identifier: str, detail: str) -> Answer:
    """The answer to a descriptor that breaks a rule."""
    return world.referee.error(identifier, detail, TENSOR_DOMAIN, INVALID_DESCRIPTOR)


def broken_stride(
    dimensions: Sequence[int], strides: Sequence[int], size: int, is_learning: bool
) -> tuple[str, str] | None:
    """The first rule that strides break, with what was found."""
    found = f"dimensions {tuple(dimensions)}, strides {tuple(strides)}, elements of {size} bytes"
    if len(strides) != len(dimensions):
        return "stride-count", found
    if strides and strides[0] != 1:
        return "first-stride", found
    pairs = list(zip(strides, dimensions, strides[1:], strict=False))
    if any(following < stride * dimension for stride, dimension, following in pairs):
        return "growing-strides", found
    if not is_learning:
        return None
    if len(strides) > 1 and strides[1] * size % ROW_ALIGNMENT:
        return "row-alignment", found
    if any(following != stride * dimension for stride, dimension, following in pairs[1:]):
        return "outer-strides", found
    return None


def held_bytes(dimensions: Sequence[int], strides: Sequence[int], size: int) -> int:
    """Bytes from a tensor's first element to the end of its last row, padding included."""
    return strides[-1] * dimensions[-1] * size if strides else size


class Tensor:
    """`MTLTensor`: in a buffer by its strides, or by the device in memory of its own.

    Whether Metal's tensors keep their buffer alive is not known; these do not.
    """

    def __init__(
        self, world: World, values: dict[str, Any], place: tuple[Buffer, Sequence[int], int] | None
    ) -> None:
        self.world = world
        self.values = dict(values)
        self.numbers = numbers_of(values["dimensions"])
        self.type = numpy_type(values["dataType"])
        self.place = None if place is None else (ref(place[0]), *place[1:])
        self.in_flight = 0
        self.identifier = world.next_identifier()
        world.tensors[self.identifier] = self
        count = math.prod(self.numbers) * self.type.itemsize
        self.memory = np.full(count, POISON, np.uint8) if place is None else place[0].data

    @property
    def elements(self) -> np.ndarray:
        """The elements as an array, outermost dimension first, that shares the memory."""
        shape = self.numbers[::-1]
        if self.place is None:
            return self.memory.view(self.type).reshape(shape)
        _, strides, offset = self.place
        flat = self.memory[offset:]
        count = len(flat) // self.type.itemsize * self.type.itemsize
        steps = [stride * self.type.itemsize for stride in reversed(strides)]
        return as_strided(flat[:count].view(self.type), shape, steps)

    @property
    def allocation(self) -> Buffer | Tensor | None:
        """What has to be resident; None if it is a buffer that is gone."""
        return self if self.place is None else self.place[0]()

    def gpuResourceID(self) -> ResourceID:
        return ResourceID(self.identifier)

    def buffer(self) -> Buffer | None:
        return None if self.place is None else self.place[0]()

    def bufferOffset(self) -> int:
        return 0 if self.place is None else self.place[2]

    def strides(self) -> TensorExtents | None:
        return None if self.place is None else extents_of(self.world, self.place[1])

    def dimensions(self) -> TensorExtents:
        return extents_of(self.world, self.numbers)

    def dataType(self) -> int:
        return int(self.values["dataType"])

    def usage(self) -> int:
        return int(self.values["usage"])

    def storageMode(self) -> int:
        return int(self.values["storageMode"])

    def replaceSliceOrigin_sliceDimensions_withBytes_strides_(
        self, origin: TensorExtents, size: TensorExtents, data: Any, strides: TensorExtents
    ) -> None:  # Any: bytes, or an object with a buffer
        """Copies CPU memory into a slice."""
        target = self.slice_of(origin, size)
        memory = np.frombuffer(memoryview(data).cast("B"), np.uint8)
        target[...] = self.cpu_array(memory, numbers_of(size), numbers_of(strides))

    def getBytes_strides_fromSliceOrigin_sliceDimensions_(
        self, data: Any, strides: TensorExtents, origin: TensorExtents, size: TensorExtents
    ) -> None:  # Any: an object with a writable buffer
        """Copies a slice into CPU memory."""
        source = self.slice_of(origin, size)
        view = memoryview(data).cast("B")
        self.world.referee.require(not view.readonly, "cpu-writable", type(data).__name__)
        memory = np.frombuffer(view, np.uint8)
        self.cpu_array(memory, numbers_of(size), numbers_of(strides))[...] = source

    def slice_of(self, origin: TensorExtents, size: TensorExtents) -> np.ndarray:
        """The elements of a slice, which the CPU may touch now."""
        referee = self.world.referee
        referee.require(
            self.storageMode() == SHARED, "shared-storage", f"storage mode {self.storageMode()}"
        )
        referee.require(not self.in_flight, "wait-first", "a submission that uses it is not done")
        first, extent = numbers_of(origin), numbers_of(size)
        fits = len(first) == len(extent) == len(self.numbers) and all(
            low >= 0 and count > 0 and low + count <= limit
            for low, count, limit in zip(first, extent, self.numbers, strict=True)
        )
        detail = f"origin {first} and dimensions {extent} of a tensor {self.numbers}"
        referee.require(fits, "slice-bounds", detail)
        ranges = [slice(low, low + count) for low, count in zip(first, extent, strict=True)]
        return self.elements[tuple(reversed(ranges))] if ranges else self.elements

    def cpu_array(
        self, memory: np.ndarray, size: Sequence[int], strides: Sequence[int]
    ) -> np.ndarray:
        """CPU memory as an array of a slice, outermost dimension first."""
        referee = self.world.referee
        broken = broken_stride(size, strides, self.type.itemsize, is_learning=False)
        referee.require(not broken, "cpu-strides", broken[1] if broken else "")
        last = sum((count - 1) * stride for count, stride in zip(size, strides, strict=True))
        needed = (last + 1) * self.type.itemsize
        referee.require(
            len(memory) >= needed, "cpu-length", f"{len(memory)} bytes, {needed} are copied"
        )
        count = len(memory) // self.type.itemsize * self.type.itemsize
        steps = [stride * self.type.itemsize for stride in reversed(strides)]
        return as_strided(memory[:count].view(self.type), tuple(size)[::-1], steps)


def device_tensor(world: World, descriptor: TensorDescriptor) -> Answer:
    """A tensor in memory of the device's own."""
    if refused := refusal(world, descriptor):
        return refused
    if descriptor.values["strides"] is not None:
        strides = numbers_of(descriptor.values["strides"])
        detail = f"strides should be nil for newTensorWithDescriptor:error:, found {strides}"
        return invalid(world, "device-strides", detail)
    return Tensor(world, descriptor.values, None), None


def size_and_align(world: World, descriptor: TensorDescriptor) -> SizeAndAlign:
    """What a tensor takes in a buffer."""
    strides = descriptor.values["strides"]
    world.referee.require(strides is not None, "size-strides", "strides are nil")
    size = DATA_TYPES_BY_RAW[descriptor.values["dataType"]].bytes
    numbers = numbers_of(descriptor.values["dimensions"])
    return SizeAndAlign(held_bytes(numbers, numbers_of(strides), size), 128)


PIXEL_BYTES = {70: 4, 115: 8}
"""Bytes of a pixel of MTLPixelFormatRGBA8Unorm and RGBA16Float."""


class Texture:
    """`MTLTexture`, two-dimensional, without mipmaps; rows follow one another."""

    def __init__(self, world: World, values: dict[str, Any]) -> None:
        self.world = world
        self.values = dict(values)
        self.in_flight = 0
        self.identifier = world.next_identifier()
        world.textures[self.identifier] = self
        self.bytes_per_row = self.values["width"] * PIXEL_BYTES[self.values["pixelFormat"]]
        self.data = np.full(self.bytes_per_row * self.values["height"], POISON, np.uint8)

    @property
    def allocation(self) -> Texture:
        """What has to be resident."""
        return self

    def gpuResourceID(self) -> ResourceID:
        return ResourceID(self.identifier)

    def replaceRegion_mipmapLevel_withBytes_bytesPerRow_(
        self, region: Any, level: int, data: Any, bytes_per_row: int
    ) -> None:
        """Copies rows. (Any: a Region, and an object with a buffer.)"""
        referee = self.world.referee
        referee.require(not self.in_flight, "wait-first", "a submission that uses it is not done")
        whole = (0, 0, self.values["width"], self.values["height"])
        found = (region.x, region.y, region.width, region.height)
        assert (found, level) == (whole, 0), "the emulator fills whole textures"
        memory = np.frombuffer(memoryview(data).cast("B"), np.uint8)
        needed = bytes_per_row * (region.height - 1) + self.bytes_per_row
        fits = bytes_per_row >= self.bytes_per_row and len(memory) >= needed
        detail = f"{len(memory)} bytes in rows of {bytes_per_row}, {needed} are copied"
        referee.require(fits, "texture-bytes", detail)
        rows = as_strided(memory, (region.height, self.bytes_per_row), (bytes_per_row, 1))
        self.data[:] = rows.reshape(-1)


class SamplerState:
    """`MTLSamplerState`."""

    def __init__(self, world: World, values: dict[str, Any]) -> None:
        self.values = dict(values)
        self.identifier = world.next_identifier()
        world.samplers[self.identifier] = self

    @property
    def allocation(self) -> SamplerState:
        """Itself: a sampler is no memory, and need not be resident."""
        return self

    def gpuResourceID(self) -> ResourceID:
        return ResourceID(self.identifier)


class Heap:
    """`MTLHeap`: only its size counts here."""

    def __init__(self, world: World, descriptor: HeapDescriptor) -> None:
        self.values = dict(descriptor.values)
        world.referee.require(self.values["size"] > 0, "heap-bytes", f"{self.values['size']} bytes")

    def type(self) -> int:
        return int(self.values["type"])

    def size(self) -> int:
        return int(self.values["size"])

    def usedSize(self) -> int:
        return 0

    def storageMode(self) -> int:
        return int(self.values["storageMode"])


class ResidencySet:
    """`MTLResidencySet`: what is added counts once it is committed."""

    def __init__(self) -> None:
        self.added: WeakSet[Any] = WeakSet()  # Any: tensors, buffers and heaps
        self.resident: WeakSet[Any] = WeakSet()
        self.requested = False

    def addAllocation_(self, allocation: Any) -> None:
        self.added.add(allocation)

    def commit(self) -> None:
        self.resident |= self.added

    def requestResidency(self) -> None:
        self.requested = True

    def endResidency(self) -> None:
        self.requested = False

    def containsAllocation_(self, allocation: Any) -> bool:
        return allocation in self.added
