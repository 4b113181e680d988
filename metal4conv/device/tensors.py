"""Extents and tensors: made, filled from and read into numpy arrays.

Metal and PyObjC check neither the length nor the type of the memory that they are given, and read
or write past its end; so it is all checked here first.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metal4conv.device.api import Api
from metal4conv.device.failures import RunFailed, answer, made
from metal4conv.device.protocol import Backing, TensorPlan
from metal4conv.layout.rules import DATA_TYPES_BY_RAW, ROW_ALIGNMENT, tight_strides
from metal4conv.mil.dtypes import DTYPES

USAGE_MACHINE_LEARNING = 4
"""`MTLTensorUsageMachineLearning`, from MTLTensor.h; the descriptor's default is another."""

STORAGE_SHARED = 0
"""`MTLStorageModeShared`: the CPU copies in and out. The default resource options are this."""

BUFFER_ALIGNMENT = 128
"""What buffers are rounded up to: twice a row's alignment, which Apple calls faster."""

# Ranks 1 to 5 and a size beyond 32 bits: what a bridge that passes one integer, or ints, gets wrong
TRIALS = ((7,), (3, 5), (5, 3, 2**40), (2, 3, 5, 7, 11))


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor with the buffer that holds it, which must live as long; None with a device's own."""

    plan: TensorPlan
    tensor: Any  # an MTLTensor
    buffer: Any  # an MTLBuffer or None

    @property
    def allocation(self) -> Any:  # Any: an object of Metal
        """What has to be resident."""
        return self.tensor if self.buffer is None else self.buffer


def extents(api: Api, values: Sequence[int]) -> Any:  # Any: an MTLTensorExtents
    """Extents that were read back; `RunFailed` when the bridge made others of the numbers.

    PyObjC 12 takes the array for a pointer to one number unless it was told otherwise.
    """
    selector = "initWithRank:values:"
    new = api.metal.MTLTensorExtents.alloc().initWithRank_values_(len(values), list(values))
    found = extents_values(made(new, selector))
    if found != tuple(values):
        raise RunFailed(
            "error",
            f"the bridge to Metal is wrong: {selector} was given {tuple(values)} and holds {found}",
            "install the tested PyObjC: pip install 'pyobjc-framework-Metal>=12.2,<13'",
        )
    return new


def extents_values(made_extents: Any) -> tuple[int, ...]:  # Any: an MTLTensorExtents
    """The numbers of extents, innermost first."""
    count = int(made_extents.rank())
    return tuple(int(made_extents.extentAtDimensionIndex_(index)) for index in range(count))


def check_bridge(api: Api) -> None:
    """Makes extents of several ranks and reads them back; `RunFailed` when they differ."""
    for values in TRIALS:
        extents(api, values)


def numpy_dtype(raw: int) -> np.dtype[Any]:  # Any: whichever the type says
    """The array type for a value of MTLTensorDataType; bfloat16 travels as its 16 bits.

    >>> numpy_dtype(16), numpy_dtype(121)
    (dtype('float16'), dtype('uint16'))
    """
    if raw not in DATA_TYPES_BY_RAW:
        raise RunFailed("refused", f"no array has the type {raw} of MTLTensorDataType")
    return np.dtype(DTYPES[DATA_TYPES_BY_RAW[raw].name].numpy)


def make_tensor(api: Api, device: Any, plan: TensorPlan, backing: Backing) -> DeviceTensor:
    """A tensor for machine learning passes, by the device or in a buffer of its own."""
    descriptor = api.metal.MTLTensorDescriptor.alloc().init()
    descriptor.setDimensions_(extents(api, plan.dimensions))
    descriptor.setDataType_(plan.data_type)
    descriptor.setUsage_(USAGE_MACHINE_LEARNING)
    descriptor.setStorageMode_(STORAGE_SHARED)
    if backing == "device":  # which must have no strides
        result = device.newTensorWithDescriptor_error_(descriptor, None)
        tensor = answer(result, "newTensorWithDescriptor:error:")
        check_tensor(plan, tensor)
        return DeviceTensor(plan, tensor, None)
    check_layout(plan)
    descriptor.setStrides_(extents(api, plan.strides))
    buffer = make_buffer(device, plan)
    result = buffer.newTensorWithDescriptor_offset_error_(descriptor, 0, None)
    tensor = answer(result, "newTensorWithDescriptor:offset:error:")
    check_tensor(plan, tensor)
    return DeviceTensor(plan, tensor, buffer)


def make_buffer(device: Any, plan: TensorPlan) -> Any:  # Any: objects of Metal
    """A buffer with shared storage that is long enough, which nobody else checks."""
    length = math.ceil(plan.byte_length / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT
    buffer = made(device.newBufferWithLength_options_(length, 0), "newBufferWithLength:options:")
    if int(buffer.length()) < plan.byte_length:
        raise RunFailed(
            "error",
            f'the buffer of tensor "{plan.name}" has {buffer.length()} bytes, {length} were asked',
        )
    return buffer


def check_layout(plan: TensorPlan) -> None:
    """The rules of MTLTensor.h for strides with machine learning usage, and the buffer's length."""
    size = DATA_TYPES_BY_RAW[plan.data_type].bytes
    where = f'tensor "{plan.name}" with dimensions {plan.dimensions} and strides {plan.strides}'
    if len(plan.strides) != len(plan.dimensions):
        raise RunFailed("refused", f"{where}: each dimension needs one stride")
    if plan.strides and plan.strides[0] != 1:
        raise RunFailed("refused", f"{where}: the first stride must be 1")
    if len(plan.strides) > 1 and plan.strides[1] * size % ROW_ALIGNMENT:
        raise RunFailed("refused", f"{where}: rows must start at multiples of {ROW_ALIGNMENT}")
    steps = zip(plan.strides, plan.dimensions, plan.strides[1:], strict=False)
    for position, (stride, dimension, following) in enumerate(steps):
        if following < stride * dimension or (position and following != stride * dimension):
            raise RunFailed("refused", f"{where}: stride {position + 1} does not follow the rows")
    needed = plan.strides[-1] * plan.dimensions[-1] * size if plan.strides else size
    if plan.byte_length < needed:
        raise RunFailed("refused", f"{where} needs {needed} bytes, planned are {plan.byte_length}")


def check_tensor(plan: TensorPlan, tensor: Any) -> None:  # Any: an MTLTensor
    """A tensor must be what was asked for; a validation layer would end the process later."""
    found = (extents_values(tensor.dimensions()), int(tensor.dataType()), int(tensor.usage()))
    wanted = (plan.dimensions, plan.data_type, USAGE_MACHINE_LEARNING)
    if found != wanted:
        raise RunFailed(
            "error",
            f'tensor "{plan.name}" has dimensions, type and usage {found}, asked was {wanted}',
        )


def check_array(plan: TensorPlan, array: np.ndarray) -> np.ndarray:
    """The array in C order; `RunFailed` (refused) when its type, shape or length do not fit."""
    wanted = (plan.dimensions[::-1], numpy_dtype(plan.data_type))
    if (array.shape, array.dtype) != wanted:
        raise RunFailed(
            "refused",
            f'{plan.role} "{plan.name}" expects shape {wanted[0]} of {wanted[1]}, '
            f"got {array.shape} of {array.dtype}",
        )
    contiguous = np.asarray(array, order="C")
    size = math.prod(plan.dimensions) * DATA_TYPES_BY_RAW[plan.data_type].bytes
    assert contiguous.nbytes == size, "shape and type say so"
    return contiguous


def fill(api: Api, target: DeviceTensor, array: np.ndarray) -> None:
    """Copies an array into a tensor; the call wants plain bytes of full length, tightly packed."""
    plan = target.plan
    data = check_array(plan, array).tobytes()
    target.tensor.replaceSliceOrigin_sliceDimensions_withBytes_strides_(
        extents(api, (0,) * len(plan.dimensions)),
        extents(api, plan.dimensions),
        data,
        extents(api, tight(plan)),
    )


def read(api: Api, source: DeviceTensor) -> np.ndarray:
    """A copy of a tensor's values. The memory is a bytearray, as the bridge copies into no other
    kind of object with equal certainty: of what it cannot write to, it fills a copy."""
    plan = source.plan
    dtype = numpy_dtype(plan.data_type)
    memory = bytearray(math.prod(plan.dimensions) * dtype.itemsize)
    source.tensor.getBytes_strides_fromSliceOrigin_sliceDimensions_(
        memory,
        extents(api, tight(plan)),
        extents(api, (0,) * len(plan.dimensions)),
        extents(api, plan.dimensions),
    )
    return np.frombuffer(memory, dtype).reshape(plan.dimensions[::-1])


def tight(plan: TensorPlan) -> tuple[int, ...]:
    """The strides of a C-contiguous array."""
    return tuple(int(stride) for stride in tight_strides(plan.dimensions))


def spoil(api: Api, target: DeviceTensor) -> None:
    """Fills an output with NaN (all bits set where there is none), so that memory that the GPU
    never wrote does not look like a result."""
    plan = target.plan
    dtype = numpy_dtype(plan.data_type)
    memory = np.full(math.prod(plan.dimensions) * dtype.itemsize, 0xFF, np.uint8)
    fill(api, target, memory.view(dtype).reshape(plan.dimensions[::-1]))
