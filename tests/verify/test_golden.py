import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from metal4conv.errors import DamagedFile, OutputError, UsageError
from metal4conv.verify.golden import (
    GoldenCase,
    GoldenOrigin,
    golden_bytes,
    read_golden,
    source_sha256,
    write_golden,
)

ORIGIN = GoldenOrigin("net", "ab" * 32, "pytorch factory", "cd" * 32, {"torch": "2.13.0"}, 7)


def some_cases() -> list[GoldenCase]:
    first = GoldenCase(
        {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "ids": np.array([1, 2])},
        {"h": 2},
        {"y": np.array([0.5, np.nan], np.float32), "s": np.float32(3).reshape(())},
    )
    second = GoldenCase(
        {"x": np.ones((4, 3), np.float32), "ids": np.array([0, 9])},
        {"h": 4},
        {"y": np.array([True, False]), "s": np.array(2**40)},
    )
    return [first, second]


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "net.golden.safetensors"
    write_golden(path, some_cases(), ORIGIN)
    golden = read_golden(path)
    assert golden.origin == ORIGIN
    for case, expected in zip(golden.cases, some_cases(), strict=True):
        assert case.dimensions == expected.dimensions
        for group, wanted in ((case.inputs, expected.inputs), (case.outputs, expected.outputs)):
            assert list(group) == list(wanted)
            for name, array in group.items():
                assert array.shape == wanted[name].shape
                np.testing.assert_array_equal(array, wanted[name])


def test_int64_is_stored_as_int32_where_it_fits(tmp_path):
    path = tmp_path / "net.golden.safetensors"
    write_golden(path, some_cases(), ORIGIN)
    cases = read_golden(path).cases
    assert cases[0].inputs["ids"].dtype == np.int32
    assert cases[1].outputs["s"].dtype == np.int64
    assert cases[1].outputs["y"].dtype == np.bool_


def test_safetensors_reads_the_file(tmp_path):
    path = tmp_path / "net.golden.safetensors"
    write_golden(path, some_cases(), ORIGIN)
    with safe_open(path, framework="numpy") as file:
        assert file.metadata()["package_sha256"] == ORIGIN.package_sha256
        np.testing.assert_array_equal(file.get_tensor("case1/input/x"), np.ones((4, 3)))
        assert file.get_tensor("case0/output/s").shape == ()


def test_bytes_do_not_depend_on_the_hash_seed():
    code = (
        "import hashlib; from tests.verify.test_golden import *;"
        "print(hashlib.sha256(golden_bytes(some_cases(), ORIGIN)).hexdigest())"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


@pytest.mark.parametrize("kept", [0, 4, 8, 100, -1])
def test_a_truncated_file_is_damaged(tmp_path, kept):
    path = tmp_path / "net.golden.safetensors"
    path.write_bytes(golden_bytes(some_cases(), ORIGIN)[:kept])
    with pytest.raises(DamagedFile, match=r"net\.golden"):
        read_golden(path)


@pytest.mark.parametrize("content", [os.urandom(200), b"\x02" + b"\0" * 7 + b"[]", b"\0" * 64])
def test_random_bytes_are_damaged(tmp_path, content):
    path = tmp_path / "net.golden.safetensors"
    path.write_bytes(content)
    with pytest.raises(DamagedFile):
        read_golden(path)


def test_weights_are_no_golden_vectors(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"\x02" + b"\0" * 7 + b"{}")
    with pytest.raises(DamagedFile, match=r"metal4conv.golden/1"):
        read_golden(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_golden(tmp_path / "none")
    with pytest.raises(OutputError, match="cannot write"):
        write_golden(tmp_path / "no" / "where", some_cases(), ORIGIN)


def test_source_hash_is_of_the_content(tmp_path):
    one, two = tmp_path / "a", tmp_path / "b"
    one.write_text("ab")
    two.write_text("c")
    before = source_sha256([one, two])
    one.write_text("a")
    two.write_text("bc")
    assert source_sha256([one, two]) != before
