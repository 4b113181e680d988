"""Tensors of an ONNX file as arrays: inline, or mapped from an external data file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from metal4conv.errors import DamagedFile
from metal4conv.frontends.onnx.value import numpy_dtype

ONNX_NAMES: dict[int, str] = {
    TensorProto.FLOAT: "float32",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
    TensorProto.DOUBLE: "float64",
    TensorProto.BOOL: "bool",
    TensorProto.STRING: "string",
    TensorProto.INT2: "int2",
    TensorProto.UINT2: "uint2",
    TensorProto.INT4: "int4",
    TensorProto.UINT4: "uint4",
    TensorProto.INT8: "int8",
    TensorProto.UINT8: "uint8",
    TensorProto.INT16: "int16",
    TensorProto.UINT16: "uint16",
    TensorProto.INT32: "int32",
    TensorProto.UINT32: "uint32",
    TensorProto.INT64: "int64",
    TensorProto.UINT64: "uint64",
}
"""Our names of the element types that a program can hold in some way, and of strings."""


PACKED = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4}
"""Bits of the element types that are several in a byte; arrays hold each in a byte of its own."""


def type_name(element_type: int) -> str:
    """An element type's name: ours, or ONNX's in lower case where a program has no such type.

    >>> type_name(TensorProto.INT64), type_name(TensorProto.FLOAT8E5M2)
    ('int64', 'float8e5m2')
    """
    if element_type in ONNX_NAMES:
        return ONNX_NAMES[element_type]
    return TensorProto.DataType.Name(element_type).lower()


@dataclass(frozen=True, eq=False)
class Tensor:
    """An array with the name of its ONNX element type, which numpy may not have."""

    array: np.ndarray
    dtype: str


def array_of(tensor: onnx.TensorProto, folder: Path | None = None) -> Tensor:
    """A tensor of the model; external data is mapped from its file within `folder`."""
    dtype = type_name(tensor.data_type)
    if tensor.data_location == TensorProto.EXTERNAL:
        return Tensor(mapped_array(tensor, dtype, folder), dtype)
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise DamagedFile(
            f'tensor "{tensor.name}" does not hold what it declares: {error}',
            hint="export the model again",
        ) from error
    if dtype == "bfloat16" or dtype in PACKED:
        array = array.astype(numpy_dtype(dtype))
    return Tensor(array, dtype)


def mapped_array(tensor: onnx.TensorProto, dtype: str, folder: Path | None) -> np.ndarray:
    """External data as a read-only map of its file, which must lie within the model's folder."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    place = f'tensor "{tensor.name}"'
    file = external_file(entries.get("location", ""), folder, place)
    shape = tuple(tensor.dims)
    stored = np.dtype("uint16") if dtype == "bfloat16" else np.dtype(numpy_dtype(dtype))
    bits = PACKED.get(dtype, 8 * stored.itemsize)
    needed = (math.prod(shape) * bits + 7) // 8
    try:
        offset = int(entries.get("offset", "0") or 0)
        length = int(entries.get("length", "0") or 0) or needed
    except ValueError:
        raise DamagedFile(f"{place}: the place of its external data is no number") from None
    present = file.stat().st_size
    if offset < 0 or min(shape, default=1) < 0 or length != needed or offset + needed > present:
        raise DamagedFile(
            f"{place} needs {needed} bytes from {offset} on in {file.name}, which has {present}",
            hint="copy the external data file again beside the model",
        )
    if not needed:
        return np.zeros(shape, stored)
    if dtype in PACKED:
        copy = onnx.TensorProto(data_type=tensor.data_type, dims=shape)
        copy.raw_data = np.memmap(file, np.uint8, "r", offset, (needed,)).tobytes()
        return numpy_helper.to_array(copy).astype(stored)
    array = np.memmap(file, stored, "r", offset, shape or (1,)).reshape(shape)
    if dtype == "bfloat16":
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array


def external_file(location: str, folder: Path | None, place: str) -> Path:
    """The external data file that a tensor names; one outside the model's folder is refused."""
    if folder is None:
        raise DamagedFile(f"{place} has external data, but the model is in no folder")
    home = folder.resolve()
    file = (home / location).resolve()
    if not location or home not in file.parents:
        raise DamagedFile(
            f'{place} has its data in "{location}", which is not in the folder of the model',
            hint="keep external data beside the model",
        )
    if not file.is_file():
        raise DamagedFile(
            f'{place}: the file of its data, "{location}", is missing',
            hint=f"copy it to {folder}",
        )
    return file


def external_files(model: onnx.ModelProto, folder: Path) -> list[Path]:
    """The external data files of a model's initializers, in order of their first use."""
    found = [
        {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
        for tensor in model.graph.initializer
        if tensor.data_location == TensorProto.EXTERNAL
    ]
    return [folder / location for location in dict.fromkeys(found)]
