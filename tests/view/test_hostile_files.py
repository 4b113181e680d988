"""What no array can be made of, and what is no file, is told in words."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metal4conv.view.pictures import difference_picture
from tests.conftest import Done

ENDLESS: dict[str, tuple[int, ...]] = {
    "many": (1,) * 65,
    "empty": (0, 2**62, 2**62),
}


def safetensors_file(path: Path, shape: tuple[int, ...]) -> None:
    """One float16 tensor, with as many elements as the shape says, or none."""
    data = bytes(2 * int(0 not in shape))
    row = {"dtype": "F16", "shape": shape, "data_offsets": [0, len(data)]}
    header = json.dumps({"a": row}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + data)


def npy_file(path: Path, shape: tuple[int, ...]) -> None:
    """The same as an array."""
    text = str({"descr": "<f2", "fortran_order": False, "shape": shape}) + "\n"
    header = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()
    path.write_bytes(header + bytes(2 * int(0 not in shape)))


@pytest.mark.parametrize("shape", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize(
    ("suffix", "write"), [("safetensors", safetensors_file), ("npy", npy_file)]
)
def test_shapes_beyond_arrays(
    shape: tuple[int, ...],
    suffix: str,
    write: Callable[[Path, tuple[int, ...]], None],
    metal4conv: Callable[..., Done],
    tmp_path: Path,
) -> None:
    file = tmp_path / f"x.{suffix}"
    write(file, shape)
    done = metal4conv("view", file)
    assert (done.code, done.stdout) == (3, "")
    assert "65 dimensions" in done.stderr or "beyond those of an array" in done.stderr


@pytest.mark.parametrize("shape", ENDLESS.values(), ids=ENDLESS)
def test_shapes_beyond_arrays_of_buffers(
    shape: tuple[int, ...], metal4conv: Callable[..., Done], tmp_path: Path
) -> None:
    file = tmp_path / "x.bin"
    file.write_bytes(b"ab")
    words = "x".join(map(str, shape))
    done = metal4conv("view", file, "--shape", words, "--dtype", "int8")
    assert (done.code, done.stdout) == (2, "")
    assert "at --shape" in done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
@pytest.mark.parametrize("name", ["pipe", "pipe.npy"])
def test_a_pipe_is_not_waited_for(
    name: str, metal4conv: Callable[..., Done], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / name)
    done = metal4conv("view", tmp_path / name, "--shape", "2", "--dtype", "int8")
    assert done.code == 2
    assert "is a pipe or a device" in done.stderr


def test_names_of_files_do_not_colour_the_terminal(
    metal4conv: Callable[..., Done], tmp_path: Path
) -> None:
    file = tmp_path / "a\x1b[31m\n.bin"
    file.write_bytes(bytes(range(4)))
    done = metal4conv("view", file, "--shape", "2x2", "--dtype", "int8")
    assert done.code == 0
    assert "\x1b" not in done.stdout


def test_amplification_is_finite(metal4conv: Callable[..., Done], tmp_path: Path) -> None:
    file = tmp_path / "a.npy"
    np.save(file, np.eye(8), allow_pickle=False)
    for factor in ("inf", "nan"):
        done = metal4conv("view", file, "--against", file, "--amplify", factor)
        assert (done.code, done.stdout) == (2, "")
        assert "is no factor" in done.stderr


def test_no_difference_times_a_vast_factor_is_no_difference() -> None:
    values = np.eye(8) * 5e-324
    picture = difference_picture(values, values, 1e300, span=5e-324)
    assert picture is not None
    assert not picture.any()
