"""Constants of a package: blobs of a weight file, mapped into memory, and immediate values.

The weight file's format is that of mlmodel's MILBlob (`MILBlob/Blob/StorageFormat.hpp`): a 64-byte
header with the number of blobs and version 2, then for each blob a 64-byte record (sentinel,
dtype, bytes, offset of the data) and the data, both aligned to 64 bytes. An `offset` in a program
points at the record.
"""

from __future__ import annotations

import mmap
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import DamagedFile
from metal4conv.mil.dtypes import DTYPE_OF_BLOB, DTYPES
from metal4conv.mil.program import TensorType

SENTINEL = 0xDEADBEEF
RECORD = struct.Struct("<IIQQQ")  # sentinel, dtype, size in bytes, data offset, padding in bits
FILE_HEADER = struct.Struct("<II")  # number of blobs, version


class WeightFile:
    """A weight file, mapped read-only; arrays from it share the mapping."""

    def __init__(self, path: Path, shown_as: str) -> None:
        self.path = path
        self.shown_as = shown_as
        try:
            found = path.stat()
            if not stat.S_ISREG(found.st_mode):  # to open a pipe would wait for ever
                raise DamagedFile(
                    f"{shown_as} is not a plain file, but the program reads weights from it",
                    where=str(path),
                )
            self.size_bytes = found.st_size
            if self.size_bytes < 64:
                raise DamagedFile(
                    f"{shown_as} is truncated: {self.size_bytes} bytes, a weight file has at "
                    "least 64",
                    hint="copy or convert the package again",
                )
            with path.open("rb") as file:
                self.mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise DamagedFile(
                f"the package has no file {shown_as}, but its program reads weights from it",
                hint="copy the whole .mlpackage folder, not only parts of it",
            ) from None
        except OSError as error:
            raise DamagedFile(f"{shown_as} cannot be read: {error.strerror}") from None
        _, version = FILE_HEADER.unpack_from(self.mapping, 0)
        if version != 2:
            raise DamagedFile(
                f"{shown_as} is damaged: it has weight file version {version}, expected 2",
                hint="copy or convert the package again",
            )

    def read(self, offset: int, type: TensorType, name: str) -> np.ndarray:
        """The blob at `offset` as an array of `type`; the value's `name` is for errors.

        Whole-byte dtypes share memory with the file; sub-byte ones are unpacked, one a byte.
        """
        if offset % 64 or offset + RECORD.size > self.size_bytes:
            raise self.damaged(
                name, f"its offset {offset} lies outside the {self.size_bytes} bytes"
            )
        sentinel, blob_dtype, size, start, _ = RECORD.unpack_from(self.mapping, offset)
        if sentinel != SENTINEL:
            raise self.damaged(name, f"there is no weight record at offset {offset}")
        found = DTYPE_OF_BLOB.get(blob_dtype)
        if found != type.dtype:
            raise self.damaged(name, f"the program declares {type.dtype}, the file has {found}")
        if start % 64:
            raise self.damaged(name, f"its data at {start} do not start at a multiple of 64")
        if start + size > self.size_bytes:
            raise self.damaged(
                name,
                f"its {size} bytes at {start} end after the file's {self.size_bytes} bytes",
            )
        count = element_count(type)
        bits = DTYPES[type.dtype].bits
        if (count * bits + 7) // 8 != size:
            raise self.damaged(name, f"{type} needs {(count * bits + 7) // 8} bytes, found {size}")
        held = np.dtype(DTYPES[type.dtype].numpy)
        shape = tuple(int(extent) for extent in type.shape)
        if bits >= 8:
            return np.frombuffer(self.mapping, held, count, start).reshape(shape)
        packed = np.frombuffer(self.mapping, np.uint8, size, start)
        array = unpack_bits(packed, bits, count, signed=type.dtype.startswith("int"))
        array.flags.writeable = False
        return array.reshape(shape)

    def damaged(self, name: str, what: str) -> DamagedFile:
        """The error for a blob that does not fit the program."""
        return DamagedFile(
            f'{self.shown_as} is damaged or truncated: constant "{name}": {what}',
            where=f"constant {name}",
            hint="copy or convert the package again",
        )


def release_pages(array: np.ndarray) -> None:
    """Gives the memory of an array that is mapped from a weight file back to the system.

    Whoever reads the array again gets it from the file. Does nothing to other arrays, and where
    the system has no such call.
    """
    base: object = array
    while isinstance(base, (np.ndarray, memoryview)):
        base = base.base if isinstance(base, np.ndarray) else base.obj
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    start = array.ctypes.data - np.frombuffer(base, np.uint8, 1).ctypes.data
    first, last = -(-start // mmap.PAGESIZE), (start + array.nbytes) // mmap.PAGESIZE
    if first < last:
        base.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)


def element_count(type: TensorType) -> int:
    """The number of elements of a type with plain sizes."""
    count = 1
    for size in type.shape:
        count *= int(size)
    return count


def unpack_bits(packed: np.ndarray, bits: int, count: int, *, signed: bool) -> np.ndarray:
    """Elements of `bits` bits, least significant first, as one byte each.

    >>> unpack_bits(np.array([0x2F], np.uint8), 4, 2, signed=True)
    array([-1,  2], dtype=int8)
    """
    stream = np.unpackbits(packed, bitorder="little")[: count * bits].reshape(count, bits)
    values = np.packbits(stream, axis=1, bitorder="little").reshape(count)
    if not signed:
        return values
    shift = 8 - bits
    return (values << shift).view(np.int8) >> shift


def immediate_array(tensor: Any, type: TensorType, name: str) -> np.ndarray:
    """A `TensorValue` message as an array of `type`. (Any: a protobuf message.)"""
    kind = tensor.WhichOneof("value")
    count = element_count(type)
    held = np.dtype(DTYPES[type.dtype].numpy)
    shape = tuple(int(size) for size in type.shape)
    if kind is None:
        if count:
            raise DamagedFile(f'constant "{name}" has no value', where=f"constant {name}")
        return np.empty(shape, held)
    values = getattr(tensor, kind).values
    if kind == "bytes":
        bits = DTYPES[type.dtype].bits
        raw = np.frombuffer(values, np.uint8)
        if len(raw) * 8 < count * bits:
            raise DamagedFile(
                f'constant "{name}" is truncated: {type} needs {(count * bits + 7) // 8} bytes, '
                f"found {len(raw)}"
            )
        if bits < 8:
            array = unpack_bits(raw, bits, count, signed=type.dtype.startswith("int"))
        else:
            array = raw[: count * bits // 8].view(held)
    elif kind == "strings":
        array = np.array(list(values), dtype=object)
    else:
        array = np.array(values).astype(held)
    if array.size == 1 and count > 1:
        array = np.broadcast_to(array, count)
    if array.size != count:
        raise DamagedFile(f'constant "{name}": {type} needs {count} values, found {array.size}')
    array.flags.writeable = False
    return array.reshape(shape)
