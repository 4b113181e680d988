"""Copying blobs between weight files; `weights.py` describes the format and reads it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from metal4conv.errors import DamagedFile
from metal4conv.mil.weights import FILE_HEADER, RECORD, SENTINEL, WeightFile

ALIGNMENT = 64
VERSION = 2

Blob = tuple[str, int]
"""A weight file as a program names it, and the offset of a record in it."""


def copy_blobs(model_folder: Path, blobs: Iterable[Blob], target: Path) -> dict[Blob, int]:
    """Writes a weight file of these blobs alone, each once; gives their offsets in it."""
    files: dict[str, WeightFile] = {}
    offsets: dict[Blob, int] = {}
    with target.open("wb") as written:
        written.write(bytes(ALIGNMENT))
        for file, offset in blobs:
            if (file, offset) in offsets:
                continue
            if file not in files:
                files[file] = open_weights(model_folder, file)
            kind, start, size, padding = read_record(files[file], offset)
            place = written.tell()
            offsets[file, offset] = place
            record = RECORD.pack(SENTINEL, kind, size, place + ALIGNMENT, padding)
            written.write(record.ljust(ALIGNMENT, b"\0"))
            with memoryview(files[file].mapping) as mapped, mapped[start : start + size] as part:
                written.write(part)
            written.write(bytes(-written.tell() % ALIGNMENT))
        written.seek(0)
        written.write(FILE_HEADER.pack(len(offsets), VERSION))
    return offsets


def open_weights(model_folder: Path, file: str) -> WeightFile:
    """A weight file that a program names; `DamagedFile` for one outside the package."""
    relative = file.removeprefix("@model_path/")
    path = model_folder / relative
    try:
        is_inside = path.resolve().is_relative_to(model_folder.resolve())
    except (OSError, ValueError, RuntimeError):  # a null byte, a loop of symlinks
        is_inside = False
    if not is_inside:
        raise DamagedFile(f"the program reads a file outside the package: {file!r}")
    return WeightFile(path, relative)


def read_record(file: WeightFile, offset: int) -> tuple[int, int, int, int]:
    """Element type, start, size in bytes, and bits of padding of the blob at `offset`."""
    if offset % ALIGNMENT or offset + RECORD.size > file.size_bytes:
        raise damaged(file, offset, f"lies outside the file's {file.size_bytes} bytes")
    sentinel, kind, size, start, padding = RECORD.unpack_from(file.mapping, offset)
    if sentinel != SENTINEL:
        raise damaged(file, offset, "does not begin with a weight record")
    if start + size > file.size_bytes:
        raise damaged(file, offset, f"ends after the file's {file.size_bytes} bytes")
    return kind, start, size, padding


def damaged(file: WeightFile, offset: int, what: str) -> DamagedFile:
    """The error for a blob that is not where the program says."""
    return DamagedFile(
        f"{file.shown_as} is damaged or truncated: the blob at offset {offset} {what}",
        hint="copy or convert the package again",
    )
