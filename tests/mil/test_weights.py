"""The memory of mapped weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from metal4conv.mil.dtypes import DTYPE_OF_BLOB
from metal4conv.mil.program import TensorType
from metal4conv.mil.weights import FILE_HEADER, RECORD, SENTINEL, WeightFile, release_pages

MEGABYTE = 1 << 20


def weight_file(path: Path) -> np.ndarray:
    """A megabyte of float32 numbers, mapped from a weight file."""
    code = next(code for code, dtype in DTYPE_OF_BLOB.items() if dtype == "float32")
    data = np.arange(MEGABYTE // 4, dtype=np.float32)
    record = RECORD.pack(SENTINEL, code, MEGABYTE, 128, 0)
    header = FILE_HEADER.pack(1, 2)
    path.write_bytes(header.ljust(64, b"\0") + record.ljust(64, b"\0") + data.tobytes())
    type = TensorType("float32", (len(data) // 8, 8))
    return WeightFile(path, path.name).read(64, type, "w")


def resident_bytes(path: Path) -> int:
    """How much of a mapped file is in this process's memory."""
    lines = iter(Path("/proc/self/smaps").read_text().splitlines())
    for line in lines:
        if line.endswith(str(path)):
            return next(int(item.split()[1]) * 1024 for item in lines if item.startswith("Rss"))
    raise AssertionError(f"{path} is not mapped")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/smaps")
def test_released_weights_leave_memory_and_read_as_before(tmp_path):
    path = tmp_path / "weight.bin"
    array = weight_file(path)
    total = array.sum(dtype=np.float64)
    assert resident_bytes(path) >= MEGABYTE
    release_pages(array)
    assert resident_bytes(path) < MEGABYTE // 16
    assert array.sum(dtype=np.float64) == total


def test_only_mapped_arrays_are_released():
    array = np.arange(MEGABYTE)
    release_pages(array)
    release_pages(np.frombuffer(array.tobytes(), np.int64))
    assert array[10] == 10
