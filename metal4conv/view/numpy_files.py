"""`.npy` and `.npz` files. Arrays are mapped where they stand in the file as they are.

Objects are kept as pickles there, which run code when they are read: such a file is refused.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
from numpy.lib import format as npy

from metal4conv.errors import DamagedFile, UntrustedFile, first_line
from metal4conv.report import Finding
from metal4conv.view.contents import Contents, Entry, check_file
from metal4conv.view.elements import shape_problem, type_of

# numpy's functions for headers have no types
READ_MAGIC: Callable[[IO[bytes]], tuple[int, int]] = npy.read_magic
READ_HEADER: dict[tuple[int, int], Callable[[IO[bytes]], Any]] = {
    (1, 0): npy.read_array_header_1_0,
    (2, 0): npy.read_array_header_2_0,
}

LOCAL_HEADER = 30
"""Bytes of a zip member's own header, before its name: APPNOTE.TXT, 4.3.7."""


@dataclass(frozen=True)
class Header:
    """What an array in a file is, and how many bytes stand before its elements."""

    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    length: int

    @property
    def data_bytes(self) -> int:
        """The size of the elements."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_npy(path: Path) -> Contents:
    """The one array of an `.npy` file, mapped."""
    check_file(path)
    with path.open("rb") as file:
        header = read_header(file, str(path))
    size = path.stat().st_size
    check_length(header, size - header.length, str(path))
    entry = entry_of("", header, lambda: mapped(path, header, header.length))
    return Contents(path, "numpy array", (entry,), named=False)


def read_npz(path: Path) -> Contents:
    """The arrays of an `.npz` file; compressed ones are read when they are looked at."""
    check_file(path)
    entries: list[Entry] = []
    others: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    entries.append(member(path, archive, info))
                else:
                    others.append(info.filename)
    except DAMAGES as error:
        raise DamagedFile(f"{path} is no readable .npz file: {first_line(error)}") from None
    if not entries:
        raise DamagedFile(f"{path} holds no arrays, expected members named NAME.npy")
    text = f"{path} also holds {len(others)} members that are no arrays, such as {others[:1]}"
    findings = (Finding("info", "not-an-array", text),) if others else ()
    return Contents(path, "numpy archive", tuple(entries), findings=findings)


DAMAGES = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError)
"""What Python's zip reader raises for files that are not in order."""


def member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    """One array of an archive."""
    name = info.filename.removesuffix(".npy")
    where = f'array "{name}" of {path}'
    if info.flag_bits & 1:
        raise DamagedFile(f"{where} is encrypted, which .npz files are not")
    with archive.open(info) as file:
        header = read_header(file, where)
    check_length(header, info.file_size - header.length, where)
    if info.compress_type == zipfile.ZIP_STORED:
        start = data_offset(path, info) + header.length
        return entry_of(name, header, lambda: mapped(path, header, start))
    return entry_of(name, header, lambda: unpacked(path, info.filename, header, where))


def read_header(file: IO[bytes], where: str) -> Header:
    """The header at a stream's position; `UntrustedFile` when pickled objects follow it."""
    try:
        version = READ_MAGIC(file)
        if version not in READ_HEADER:
            raise DamagedFile(f"{where} has version {version} of the .npy format, expected 1 or 2")
        shape, fortran, dtype = READ_HEADER[version](file)
        length = file.tell()
    except (ValueError, EOFError, OSError, SyntaxError, TypeError, zlib.error) as error:
        raise DamagedFile(f"{where} is no readable .npy file: {first_line(error)}") from None
    if dtype.hasobject:
        raise UntrustedFile(
            f"{where} holds pickled objects, which run code when they are read",
            hint="save an array of numbers: np.save(file, array, allow_pickle=False)",
        )
    if min((0, *shape)) < 0:
        raise DamagedFile(f"{where} has the shape {shape}")
    if problem := shape_problem(shape, dtype.itemsize):
        raise DamagedFile(f"{where} has {problem}")
    return Header(dtype, tuple(shape), "F" if fortran else "C", length)


def check_length(header: Header, found: int, where: str) -> None:
    """`DamagedFile` when fewer bytes follow the header than the array has."""
    if found < header.data_bytes:
        raise DamagedFile(
            f"{where} is truncated: {header.dtype} of shape {header.shape} takes "
            f"{header.data_bytes} bytes, found {found}"
        )


def entry_of(name: str, header: Header, load: Callable[[], np.ndarray]) -> Entry:
    """The entry of an array; types without an order have their elements shown, and no figures."""
    dtype = type_of(np.empty(0, header.dtype))
    return Entry(name, dtype, header.shape, load)


def mapped(path: Path, header: Header, start: int) -> np.ndarray:
    """An array that stands in a file from byte `start` on."""
    if not header.data_bytes:  # nothing can be mapped
        return np.ndarray(header.shape, header.dtype)
    whole = np.memmap(path, np.uint8, "r", offset=start, shape=(header.data_bytes,))
    return np.ndarray(header.shape, header.dtype, whole, order=header.order)


def data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where the bytes of a stored member begin; its own header may differ from the directory's."""
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
    name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
    return info.header_offset + LOCAL_HEADER + name + extra


def unpacked(path: Path, filename: str, header: Header, where: str) -> np.ndarray:
    """An array that was compressed."""
    try:
        with zipfile.ZipFile(path) as archive:
            content = archive.read(filename)
    except DAMAGES as error:
        raise DamagedFile(f"{where} cannot be read: {first_line(error)}") from None
    check_length(header, len(content) - header.length, where)
    return np.ndarray(header.shape, header.dtype, content, header.length, order=header.order)
