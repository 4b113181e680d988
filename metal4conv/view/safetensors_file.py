"""`.safetensors` files, golden vectors among them: a JSON header, then all tensors, mapped."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import DamagedFile
from metal4conv.view.contents import Contents, Entry, check_file
from metal4conv.view.elements import shape_problem, storage

DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "U16": "uint16",
    "I16": "int16",
    "F16": "float16",
    "BF16": "bfloat16",
    "U32": "uint32",
    "I32": "int32",
    "F32": "float32",
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
}
"""Element types by the spelling of safetensors."""

GOLDEN = "metal4conv.golden/"


def read_safetensors(path: Path) -> Contents:
    """The tensors of a file; `DamagedFile` when its header and its data do not add up."""
    check_file(path)
    size = path.stat().st_size
    header, start = read_header(path, size)
    metadata = header.pop("__metadata__", None)
    is_golden = isinstance(metadata, dict) and str(metadata.get("format")).startswith(GOLDEN)
    whole = np.memmap(path, np.uint8, "r") if size > start else np.empty(start, np.uint8)
    try:
        entries = tuple(entry_of(name, row, whole, start) for name, row in header.items())
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFile(f"the header of {path} is damaged: {error!r}") from None
    except DamagedFile as error:
        raise DamagedFile(f"{path}: {error.message}", hint=error.hint) from None
    return Contents(path, "golden vectors" if is_golden else "safetensors", entries)


def read_header(path: Path, size: int) -> tuple[dict[str, Any], int]:
    """The JSON header, and where the data begins. (Any: a JSON object.)"""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise DamagedFile(
                f"{path} is no .safetensors file, or truncated: its header would take "
                f"{length} bytes, the file has {size}"
            )
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError) as error:
            raise DamagedFile(f"the header of {path} is no JSON: {error}") from None
    if not isinstance(header, dict):
        raise DamagedFile(f"the header of {path} is no JSON object")
    return header, 8 + length


def entry_of(name: str, row: dict[str, Any], whole: np.ndarray, start: int) -> Entry:
    """One tensor, its place and size checked. (Any: a JSON object.)"""
    spelling, shape = str(row["dtype"]), tuple(map(int, row["shape"]))
    first, end = map(int, row["data_offsets"])
    if spelling not in DTYPES:
        problem = f"the type {spelling} is not known here"
        return Entry(name, spelling, shape, None, problem)
    dtype = storage(DTYPES[spelling])
    wanted = math.prod(shape) * dtype.itemsize
    if min((0, *shape)) < 0 or end - first != wanted or first < 0:
        raise DamagedFile(
            f'tensor "{name}", {spelling} of shape {shape}, takes {wanted} bytes; '
            f"the header gives it {end - first}"
        )
    if beyond := shape_problem(shape, dtype.itemsize):
        raise DamagedFile(f'tensor "{name}" has {beyond}')
    if end > len(whole) - start:
        raise DamagedFile(
            f'tensor "{name}" ends at byte {end} of the data, which has {len(whole) - start}: '
            "the file is truncated"
        )

    def load() -> np.ndarray:
        if not wanted:
            return np.empty(shape, dtype)
        return np.ndarray(shape, dtype, whole, start + first)

    return Entry(name, DTYPES[spelling], shape, load)
