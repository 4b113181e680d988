"""Element types: MIL's names for them, their widths, and how numpy holds them."""

from __future__ import annotations

from dataclasses import dataclass

FLOAT16_MAX = 65504.0
"""The largest finite number of float16."""


@dataclass(frozen=True)
class DType:
    """One element type.

    `mil` is the value in `MIL.proto`'s DataType, `cast` the spelling in MIL's `cast` operation,
    `blob` the value in a weight file's blob header, `numpy` the array dtype that holds it.
    """

    name: str
    mil: int
    bits: int
    numpy: str
    blob: int | None = None
    cast: str | None = None


# MIL.proto, enum DataType, and mlmodel's MILBlob/Blob/BlobDataType.hpp
DTYPES = {
    row.name: row
    for row in (
        DType("bool", 1, 8, "bool", None, "bool"),
        DType("string", 2, 0, "object"),
        DType("float8_e4m3fn", 40, 8, "uint8", 16),
        DType("float8_e5m2", 41, 8, "uint8", 17),
        DType("float16", 10, 16, "float16", 1, "fp16"),
        DType("float32", 11, 32, "float32", 2, "fp32"),
        DType("float64", 12, 64, "float64", None, "fp64"),
        DType("bfloat16", 13, 16, "uint16", 5),
        DType("int8", 21, 8, "int8", 4, "int8"),
        DType("int16", 22, 16, "int16", 6, "int16"),
        DType("int32", 23, 32, "int32", 14, "int32"),
        DType("int64", 24, 64, "int64", None, "int64"),
        DType("int4", 25, 4, "int8", 8),
        DType("uint8", 31, 8, "uint8", 3, "uint8"),
        DType("uint16", 32, 16, "uint16", 7, "uint16"),
        DType("uint32", 33, 32, "uint32", 15, "uint32"),
        DType("uint64", 34, 64, "uint64", None, "uint64"),
        DType("uint4", 35, 4, "uint8", 11),
        DType("uint2", 36, 2, "uint8", 10),
        DType("uint1", 37, 1, "uint8", 9),
        DType("uint6", 38, 6, "uint8", 13),
        DType("uint3", 39, 3, "uint8", 12),
    )
}
DTYPE_OF_MIL = {row.mil: row.name for row in DTYPES.values()}
DTYPE_OF_BLOB = {row.blob: row.name for row in DTYPES.values() if row.blob is not None}
DTYPE_OF_CAST = {row.cast: row.name for row in DTYPES.values() if row.cast is not None}
