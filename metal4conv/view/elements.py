"""Element types of tensors in files, with those that numpy lacks: bfloat16 and the float8 types.

Their elements are kept as their bits, and become float32, which holds each of them exactly, where
somebody looks at them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from metal4conv.errors import UsageError, did_you_mean

BITS = {"bfloat16": "uint16", "float8_e4m3fn": "uint8", "float8_e5m2": "uint8"}
"""Types that numpy lacks, and the arrays that hold their bits."""

SMALLEST_NORMAL = {
    "float8_e4m3fn": 2.0**-6,
    "float8_e5m2": 2.0**-14,
    "float16": 2.0**-14,
    "bfloat16": 2.0**-126,
    "float32": 2.0**-126,
    "float64": 2.0**-1022,
}
"""The smallest positive number of each float type that has all its digits."""

NUMPY = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)
TYPES = (*NUMPY, *BITS)
"""Element types that a buffer can be said to hold."""

MOST_DIMENSIONS = 64
"""Dimensions of an array: numpy's limit."""


def shape_problem(shape: Sequence[int], element_bytes: int) -> str | None:
    """Why numpy makes no array of a shape; an empty one has to have a size without its zeros, too.

    >>> shape_problem((0, 2**62), 4)
    'sizes beyond those of an array'
    """
    if len(shape) > MOST_DIMENSIONS:
        return f"{len(shape)} dimensions, and arrays have at most {MOST_DIMENSIONS}"
    whole = math.prod(size for size in shape if size) * element_bytes
    return "sizes beyond those of an array" if whole >= 2**63 else None


def storage(dtype: str) -> np.dtype[np.generic]:
    """The array type, little endian, that holds elements of a type.

    >>> storage("bfloat16").str, storage("int8").str
    ('<u2', '|i1')
    """
    if dtype not in TYPES:
        raise UsageError(f'there is no element type "{dtype}"', hint=did_you_mean(dtype, TYPES))
    return np.dtype(BITS.get(dtype, dtype)).newbyteorder("<")


def decoded(array: np.ndarray, dtype: str) -> np.ndarray:
    """The numbers of an array; it is itself where numpy has the type.

    >>> decoded(np.array([0x3F80, 0xFF80], np.uint16), "bfloat16")
    array([  1., -inf], dtype=float32)
    >>> decoded(np.array([0x38, 0x01, 0x7F], np.uint8), "float8_e4m3fn").tolist()
    [1.0, 0.001953125, nan]
    """
    if dtype not in BITS:
        return array
    bits = array.view(BITS[dtype])
    if dtype == "bfloat16":
        return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
    table = E4M3 if dtype == "float8_e4m3fn" else E5M2
    return np.asarray(table[bits])


def e4m3_values() -> np.ndarray:
    """What each byte means as float8_e4m3fn, which has no infinities and one NaN of each sign."""
    byte = np.arange(256)
    exponent, fraction = (byte >> 3) & 15, byte & 7
    normal = np.ldexp(8.0 + fraction, exponent - 10)
    value = np.where(exponent == 0, np.ldexp(fraction.astype(float), -9), normal)
    value[(byte & 127) == 127] = np.nan
    return np.where(byte < 128, value, -value).astype(np.float32)


E4M3 = e4m3_values()
# float8_e5m2 is the upper half of a float16
E5M2 = (np.arange(256, dtype=np.uint16) << np.uint16(8)).view(np.float16).astype(np.float32)


def type_of(array: np.ndarray) -> str:
    """The name of an array's element type.

    >>> type_of(np.zeros(2, np.float16)), type_of(np.array(["cat"]))
    ('float16', 'text')
    """
    return "text" if array.dtype.kind in "US" else array.dtype.name


def is_number(array: np.ndarray, dtype: str) -> bool:
    """Whether the elements are real numbers, which have a range."""
    return dtype in BITS or array.dtype.kind in "fiub"
