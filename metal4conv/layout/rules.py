"""What Metal asks of a tensor: element types, strides, alignment, and the systems that have them.

Sources are Apple's headers of the macOS 26 SDK, chiefly `MTLTensor.h` and `MTLDataType.h`. Metal
counts dimensions from the innermost one, the reverse of Core ML's and numpy's order; strides are
counted in elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metal4conv.layout.sizes import Size, align_size, product

ROW_ALIGNMENT = 64
"""`MTLTensor.h`: with machine learning usage, rows start at multiples of 64 bytes."""

MAXIMUM_RANK = 16
"""`MTL_TENSOR_MAX_RANK`."""

USUAL_RANK = 5
"""Core ML's own limit; of tensors with more dimensions no package is known to have run."""

MACHINE_LEARNING = "machineLearning"
"""`MTLTensorUsageMachineLearning`, which a tensor bound to a machine learning pass must have."""


@dataclass(frozen=True)
class TensorDataType:
    """An element type: our name, the constant of `MTLTensorDataType`, and its size."""

    name: str
    constant: str
    raw: int
    bytes: int


@dataclass(frozen=True)
class Access:
    """How a pass uses a binding: `MTLBindingAccess`."""

    name: str
    raw: int


# MTLDataType.h. There is no bool, no 64-bit type and no double; the sub-byte and float8 types of
# later systems have no counterpart in machine learning passes.
DATA_TYPES = {
    row.name: row
    for row in (
        TensorDataType("float32", "MTLTensorDataTypeFloat32", 3, 4),
        TensorDataType("float16", "MTLTensorDataTypeFloat16", 16, 2),
        TensorDataType("bfloat16", "MTLTensorDataTypeBFloat16", 121, 2),
        TensorDataType("int8", "MTLTensorDataTypeInt8", 45, 1),
        TensorDataType("uint8", "MTLTensorDataTypeUInt8", 49, 1),
        TensorDataType("int16", "MTLTensorDataTypeInt16", 37, 2),
        TensorDataType("uint16", "MTLTensorDataTypeUInt16", 41, 2),
        TensorDataType("int32", "MTLTensorDataTypeInt32", 29, 4),
        TensorDataType("uint32", "MTLTensorDataTypeUInt32", 33, 4),
    )
}

DATA_TYPES_BY_RAW = {row.raw: row for row in DATA_TYPES.values()}


def type_name(raw: int) -> str:
    """A value of MTLTensorDataType in words.

    >>> type_name(16), type_name(141)
    ('float16', 'type 141')
    """
    return DATA_TYPES_BY_RAW[raw].name if raw in DATA_TYPES_BY_RAW else f"type {raw}"


READ = Access("read", 0)
WRITE = Access("write", 2)

# The oldest systems that load a specification version, from coremltools' `_deprecated_targets` and
# Core ML's format documentation
SYSTEMS_OF_SPECIFICATION = {
    6: {"iOS": "15.0", "macOS": "12.0"},
    7: {"iOS": "16.0", "macOS": "13.0"},
    8: {"iOS": "17.0", "macOS": "14.0"},
    9: {"iOS": "18.0", "macOS": "15.0"},
    10: {"iOS": "26.0", "macOS": "26.0"},
}
SYSTEMS_OF_METAL_4 = {"iOS": "26.0", "macOS": "26.0"}


def buffer_strides(dimensions: Sequence[Size], element_bytes: int) -> tuple[Size, ...]:
    """Strides of a machine learning tensor in a buffer: only its rows may be padded.

    `MTLTensor.h`: the first stride is 1, the second a multiple of 64 bytes, each further one
    exactly the product of the stride and the dimension before it.

    >>> buffer_strides((518, 518, 3, 1), 2)
    (1, 544, 281792, 845376)
    >>> buffer_strides(("w", "h", 3), 4)
    (1, 'align(w, 16)', 'h*align(w, 16)')
    """
    strides: list[Size] = []
    strides += [1] if dimensions else []
    for position, dimension in enumerate(dimensions[:-1]):
        step = product([strides[-1], dimension])
        padded = align_size(step, ROW_ALIGNMENT // element_bytes)
        strides.append(step if position else padded)
    return tuple(strides)


def buffer_bytes(dimensions: Sequence[Size], element_bytes: int) -> Size:
    """Bytes of a buffer that holds such a tensor from offset 0 on.

    >>> buffer_bytes((10, 1), 4), buffer_bytes((10,), 4), buffer_bytes((), 4)
    (64, 40, 4)
    """
    if not dimensions:
        return element_bytes
    strides = buffer_strides(dimensions, element_bytes)
    return product([strides[-1], dimensions[-1], element_bytes])


def tight_strides(dimensions: Sequence[Size]) -> tuple[Size, ...]:
    """Strides of a C-contiguous CPU array, as `replaceSlice` and `getBytes` take them.

    >>> tight_strides((518, "h", 3))
    (1, 518, '518*h')
    """
    return tuple(product(dimensions[:position]) for position in range(len(dimensions)))
