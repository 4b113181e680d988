"""Buffers, tensors, textures and argument tables of compute passes, checked before Metal sees them.

Metal and PyObjC check neither lengths nor what lies at an index; so it is all checked here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.device.api import Api
from metal4conv.device.compute_protocol import (
    ArgumentPlan,
    BufferPlan,
    ComputeCase,
    DispatchPlan,
    TexturePlan,
    ViewPlan,
)
from metal4conv.device.failures import RunFailed, answer, made
from metal4conv.device.tensors import STORAGE_SHARED, extents, extents_values
from metal4conv.errors import did_you_mean
from metal4conv.layout.rules import DATA_TYPES_BY_RAW

GUARD_BYTES = 256
"""What is added to buffers that the GPU writes: when it has changed, something wrote too far."""

UNWRITTEN = 0xFF
"""What buffers that the GPU writes hold before: NaN, so that what it leaves out is seen."""

MOST_BUFFERS = 31
MOST_TEXTURES = 128
"""MTL4ArgumentTable.h: the largest `maxBufferBindCount` and `maxTextureBindCount`."""

USAGE_SHADER_READ = 1
"""`MTLTextureUsageShaderRead`."""

MEMORY_STEP = 16
"""MTL4ComputeCommandEncoder.h: threadgroup memory comes in multiples of 16 bytes."""


@dataclass(frozen=True)
class Resources:
    """The buffers, tensors and textures of a case by name, and its sampler; they live as long as
    this."""

    buffers: Mapping[str, Any]  # MTLBuffer
    textures: Mapping[str, Any] = field(default_factory=dict)  # MTLTexture
    sampler: Any = None  # an MTLSamplerState or None
    tensors: dict[str, Any] = field(default_factory=dict)  # MTLTensor

    @property
    def allocations(self) -> list[Any]:  # Any: objects of Metal
        """What has to be resident: tensors are in buffers here."""
        return [*self.buffers.values(), *self.textures.values()]

    def of_kind(self, kind: str) -> Mapping[str, Any]:  # Any: as above
        """The resources that an argument of a kind may be."""
        samplers = {} if self.sampler is None else {"": self.sampler}
        return {
            "buffer": self.buffers,
            "tensor": self.tensors,
            "texture": self.textures,
            "sampler": samplers,
        }[kind]


def make_buffers(
    device: Any, case: ComputeCase, inputs: Mapping[str, np.ndarray]
) -> dict[str, Any]:  # Any: objects of Metal
    """The buffers of a case by name, inputs filled and the rest spoilt."""
    made_buffers = {}
    for plan in case.buffers:
        guard = 0 if plan.role == "input" else GUARD_BYTES
        buffer = made(
            device.newBufferWithLength_options_(plan.byte_length + guard, 0),
            "newBufferWithLength:options:",
        )
        memory = memory_of(plan, buffer, plan.byte_length + guard)
        if plan.role == "input":
            memory[:] = input_bytes(case, plan, inputs)
        else:
            memory[:] = bytes([UNWRITTEN]) * len(memory)
        made_buffers[plan.name] = buffer
    return made_buffers


def memory_of(plan: BufferPlan, buffer: Any, length: int) -> memoryview:  # Any: an MTLBuffer
    """A buffer's bytes, as the CPU sees and changes them."""
    found = int(buffer.length())
    if found < length:
        raise RunFailed(
            "error", f'the buffer "{plan.name}" has {found} bytes, {length} were asked for'
        )
    memory = memoryview(buffer.contents().as_buffer(length)).cast("B")
    if len(memory) != length or memory.readonly:
        raise RunFailed(
            "error",
            f'the bridge shows {len(memory)} bytes of the buffer "{plan.name}", not {length}',
            "install the tested PyObjC: pip install 'pyobjc-framework-Metal>=12.2,<13'",
        )
    return memory


def input_bytes(case: ComputeCase, plan: BufferPlan, inputs: Mapping[str, np.ndarray]) -> bytes:
    """What an input buffer is filled with; `RunFailed` (refused) when its length is another."""
    if plan.file is not None:
        data, origin = Path(plan.file).read_bytes(), plan.file
    elif plan.name in inputs:
        data, origin = np.ascontiguousarray(inputs[plan.name]).tobytes(), f"{case.label}'s array"
    else:
        raise RunFailed(
            "refused", f'{case.label} has no "{plan.name}": {did_you_mean(plan.name, inputs)}'
        )
    if len(data) != plan.byte_length:
        raise RunFailed(
            "refused",
            f'the buffer "{plan.name}" expects {plan.byte_length} bytes, {origin} has {len(data)}',
        )
    return data


def read_output(plan: BufferPlan, buffer: Any) -> np.ndarray:  # Any: an MTLBuffer
    """A copy of an output's float32 values; `RunFailed` when the GPU wrote beyond its end."""
    memory = memory_of(plan, buffer, plan.byte_length + GUARD_BYTES)
    data = bytes(memory)
    if any(byte != UNWRITTEN for byte in data[plan.byte_length :]):
        raise RunFailed(
            "error", f'the GPU wrote beyond the {plan.byte_length} bytes of output "{plan.name}"'
        )
    return np.frombuffer(data[: plan.byte_length], np.float32)


def make_textures(api: Api, device: Any, case: ComputeCase) -> dict[str, Any]:
    """The textures of a case by name, filled. (Any: objects of Metal.)"""
    made_textures = {}
    for plan in case.textures:
        descriptor = api.metal.MTLTextureDescriptor
        asked = descriptor.texture2DDescriptorWithPixelFormat_width_height_mipmapped_(
            plan.pixel_format, plan.width, plan.height, False
        )
        asked.setUsage_(USAGE_SHADER_READ)
        asked.setStorageMode_(STORAGE_SHARED)
        texture = made(device.newTextureWithDescriptor_(asked), "newTextureWithDescriptor:")
        region = api.metal.MTLRegionMake2D(0, 0, plan.width, plan.height)
        data = texture_bytes(plan)
        texture.replaceRegion_mipmapLevel_withBytes_bytesPerRow_(
            region, 0, data, plan.bytes_per_row
        )
        made_textures[plan.name] = texture
    return made_textures


def texture_bytes(plan: TexturePlan) -> bytes:
    """The rows of a texture; `RunFailed` (refused) when its file ends before them."""
    needed = plan.bytes_per_row * plan.height
    data = Path(plan.file).read_bytes()[plan.offset : plan.offset + needed]
    if len(data) != needed:
        raise RunFailed(
            "refused",
            f'the texture "{plan.name}" expects {needed} bytes at {plan.offset} of {plan.file}, '
            f"there are {len(data)}",
        )
    return data


def make_sampler(api: Api, device: Any, case: ComputeCase) -> Any:
    """The sampler of a case, None for one that has none. (Any: objects of Metal.)

    That an argument table takes only what argument buffers may hold is not written down; asking
    for it does no harm.
    """
    if case.sampler is None:
        return None
    descriptor = api.metal.MTLSamplerDescriptor.alloc().init()
    descriptor.setMinFilter_(case.sampler.filter)
    descriptor.setMagFilter_(case.sampler.filter)
    descriptor.setSAddressMode_(case.sampler.address)
    descriptor.setTAddressMode_(case.sampler.address)
    descriptor.setSupportArgumentBuffers_(True)
    return made(device.newSamplerStateWithDescriptor_(descriptor), "newSamplerStateWithDescriptor:")


def make_views(api: Api, case: ComputeCase, resources: Resources) -> None:
    """Adds the tensors that are views of buffers."""
    lengths = {plan.name: plan.byte_length for plan in case.buffers}
    for plan in case.tensors:
        check_view(plan, lengths)
        descriptor = api.metal.MTLTensorDescriptor.alloc().init()
        descriptor.setDimensions_(extents(api, plan.dimensions))
        descriptor.setStrides_(extents(api, plan.strides))
        descriptor.setDataType_(plan.data_type)
        descriptor.setUsage_(plan.usage)
        descriptor.setStorageMode_(STORAGE_SHARED)
        result = resources.buffers[plan.buffer].newTensorWithDescriptor_offset_error_(
            descriptor, plan.offset, None
        )
        tensor = answer(result, "newTensorWithDescriptor:offset:error:")
        found = (extents_values(tensor.dimensions()), int(tensor.dataType()), int(tensor.usage()))
        wanted = (plan.dimensions, plan.data_type, plan.usage)
        if found != wanted:
            raise RunFailed(
                "error",
                f'tensor "{plan.name}" has dimensions, type and usage {found}, asked was {wanted}',
            )
        resources.tensors[plan.name] = tensor


def check_view(plan: ViewPlan, lengths: Mapping[str, int]) -> None:
    """The rules of MTLTensor.h and MTLBuffer.h for a tensor in a buffer without machine learning
    usage, and the buffer's length, which Metal does not check."""
    where = f'tensor "{plan.name}" with dimensions {plan.dimensions} and strides {plan.strides}'
    if plan.buffer not in lengths:
        raise RunFailed("refused", f'{where}: there is no buffer "{plan.buffer}"')
    if plan.data_type not in DATA_TYPES_BY_RAW:
        raise RunFailed("refused", f"{where}: {plan.data_type} is no known MTLTensorDataType")
    if len(plan.strides) != len(plan.dimensions) or not plan.strides or plan.strides[0] != 1:
        raise RunFailed("refused", f"{where}: each dimension needs a stride, the first of them 1")
    steps = zip(plan.strides, plan.dimensions, plan.strides[1:], strict=False)
    if any(following < stride * size for stride, size, following in steps):
        raise RunFailed("refused", f"{where}: rows overlap")
    size = DATA_TYPES_BY_RAW[plan.data_type].bytes
    if plan.offset % size:
        raise RunFailed("refused", f"{where}: offset {plan.offset} is no multiple of {size}")
    needed = plan.offset + plan.strides[-1] * plan.dimensions[-1] * size
    if needed > lengths[plan.buffer]:
        raise RunFailed(
            "refused",
            f'{where} ends at byte {needed} of the buffer "{plan.buffer}", '
            f"which has {lengths[plan.buffer]}",
        )


def make_table(api: Api, device: Any, dispatch: DispatchPlan, resources: Resources) -> Any:
    """An argument table with what a dispatch is bound to. (Any: objects of Metal.)"""
    bound = [plan for plan in dispatch.arguments if plan.kind != "threadgroup"]
    buffers = [plan.index for plan in bound if plan.kind in ("buffer", "tensor")]
    textures = [plan.index for plan in bound if plan.kind == "texture"]
    samplers = [plan.index for plan in bound if plan.kind == "sampler"]
    for indices, most in ((buffers, MOST_BUFFERS), (textures, MOST_TEXTURES), (samplers, 1)):
        check_indices(dispatch, indices, most)
    descriptor = api.metal.MTL4ArgumentTableDescriptor.alloc().init()
    descriptor.setMaxBufferBindCount_(max(buffers, default=-1) + 1)
    descriptor.setMaxTextureBindCount_(max(textures, default=-1) + 1)
    descriptor.setMaxSamplerStateBindCount_(max(samplers, default=-1) + 1)
    result = device.newArgumentTableWithDescriptor_error_(descriptor, None)
    table = answer(result, "newArgumentTableWithDescriptor:error:")
    for plan in bound:
        known = resources.of_kind(plan.kind)
        if plan.resource not in known:
            raise RunFailed(
                "refused",
                f'function "{dispatch.function}" is bound to the {plan.kind} "{plan.resource}" '
                f"at index {plan.index}: " + did_you_mean(plan.resource, known),
            )
        bind(table, plan, known[plan.resource])
    return table


def bind(table: Any, plan: ArgumentPlan, resource: Any) -> None:  # Any: objects of Metal
    """Puts a resource into a table.

    PyObjC's metadata has an object for the texture and the sampler, as other protocols do. The
    table's own methods take an MTLResourceID, and where the types do not fit, the bridge keeps
    those of the method.
    """
    if plan.kind == "buffer":
        table.setAddress_atIndex_(address_of(plan.resource, resource), plan.index)
        return
    identifier = made(resource.gpuResourceID(), "gpuResourceID")
    match plan.kind:
        case "tensor":
            table.setResource_atBufferIndex_(identifier, plan.index)
        case "texture":
            table.setTexture_atIndex_(identifier, plan.index)
        case "sampler":
            table.setSamplerState_atIndex_(identifier, plan.index)


def address_of(name: str, buffer: Any) -> int:  # Any: an MTLBuffer
    """The buffer's address on the GPU; `RunFailed` where it has none."""
    address = int(buffer.gpuAddress())
    if not address:
        raise RunFailed("error", f'the buffer "{name}" has no address on the GPU')
    return address


def check_indices(dispatch: DispatchPlan, indices: Sequence[int], most: int) -> None:
    """Each index holds one resource, and the table takes them."""
    if len(set(indices)) != len(indices):
        raise RunFailed(
            "refused", f'function "{dispatch.function}": two resources share one of {indices}'
        )
    if any(not 0 <= index < most for index in indices):
        raise RunFailed(
            "refused",
            f'function "{dispatch.function}" is bound at index {max(indices)}; the largest that an '
            f"argument table has is {most - 1}",
        )
