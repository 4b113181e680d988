"""`run`: inputs from files, outputs to files, states, traces that go into loops."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

from metal4conv.execute.tracing import write_npz
from metal4conv.outputs import tree
from tests.conftest import Done, tree_hash
from tests.mil.foreign import save, tensor, toolkit

Run = Callable[..., Done]
X = np.array([1.0, 2.0, 4.0], np.float32)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`y = exp(x)`, `z = 1 - x`."""
    _, mb, _ = toolkit()

    def body(x: Any) -> Any:
        return mb.exp(x=x, name="y"), mb.sub(x=1.0, y=x, name="z")

    return save(tmp_path_factory.mktemp("running"), body, [tensor((3,))])


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`x * x`, then squared three times in a loop, then the root of 1 minus that."""
    _, mb, _ = toolkit()

    def body(x: Any) -> Any:
        _, squared = mb.while_loop(
            _cond=lambda i, v: mb.less(x=i, y=3),
            _body=lambda i, v: (mb.add(x=i, y=1), mb.mul(x=v, y=v, name="squared")),
            loop_vars=(np.int32(0), x),
        )
        return mb.sqrt(x=mb.sub(x=1.0, y=squared, name="rest"), name="root")

    return save(tmp_path_factory.mktemp("looping"), body, [tensor((3,))])


@pytest.fixture(scope="module")
def counting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adds `x` to the state `total`, and gives it."""
    _, mb, _ = toolkit()

    def body(x: Any, total: Any) -> Any:
        return mb.coreml_update_state(
            state=total, value=mb.add(x=mb.read_state(input=total), y=x), name="sum"
        )

    _, mb, types = toolkit()
    state = mb.StateTensorSpec((3,), dtype=types.fp16)
    return save(tmp_path_factory.mktemp("counting"), body, [tensor((3,), "fp16"), state])


@pytest.mark.parametrize("form", ["npz", "safetensors", "npy"])
def test_inputs_come_from_files(form: str, package: Path, tmp_path: Path, metal4conv: Run) -> None:
    file = tmp_path / f"x.{form}"
    match form:
        case "npz":
            np.savez(file, x=X)
        case "safetensors":
            save_file({"x": X}, file)
        case "npy":
            np.save(file, X)
    given = f"x={file}" if form == "npy" else file
    done = metal4conv("run", package, "--input", given, "-o", tmp_path / "out.npz", "-q")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    with np.load(tmp_path / "out.npz") as found:
        assert sorted(found.files) == ["y", "z"]
        np.testing.assert_allclose(found["y"], np.exp(X), rtol=1e-6)
        np.testing.assert_array_equal(found["z"], 1 - X)


def test_outputs_go_to_safetensors(package: Path, tmp_path: Path, metal4conv: Run) -> None:
    np.savez(tmp_path / "x.npz", x=X)
    file = tmp_path / "new" / "out.safetensors"
    assert metal4conv("run", package, "-i", tmp_path / "x.npz", "-o", file).code == 0
    np.testing.assert_array_equal(load_file(file)["z"], 1 - X)


def test_same_outputs_keep_their_time_stamp(package: Path, tmp_path: Path, metal4conv: Run) -> None:
    """Also those of a trace."""
    command = ["run", package, "--random", "-o", tmp_path / "out.npz", "--trace", tmp_path / "t"]
    assert metal4conv(*command).code == 0
    files = [tmp_path / "out.npz", tmp_path / "t" / "index.json"]
    for file in files:
        os.utime(file, (1, 1))
    assert metal4conv(*command).code == 0
    assert [file.stat().st_mtime for file in files] == [1, 1]
    assert metal4conv(*command, "--seed", 1).code == 0
    assert files[0].stat().st_mtime != 1
    assert files[1].stat().st_mtime != 1


def test_a_failure_leaves_what_was_there(package: Path, tmp_path: Path, metal4conv: Run) -> None:
    """Here the outputs cannot be written once everything ran: their folder is a file."""
    assert metal4conv("run", package, "--random", "--trace", tmp_path / "t").code == 0
    (tmp_path / "file").write_text("")
    before = tree_hash(tmp_path)
    again = ["run", package, "--random", "--seed", 1, "--trace", tmp_path / "t"]
    done = metal4conv(*again, "-o", tmp_path / "file" / "out.npz")
    assert done.code == 4, done.stderr
    assert tree_hash(tmp_path) == before


def test_json_has_figures_of_the_outputs(package: Path, tmp_path: Path, metal4conv: Run) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([0, 1, 1000], np.float32))
    done = metal4conv("run", package, "-i", tmp_path / "x.npz", "--json", "--repeat", 3)
    document = json.loads(done.stdout)
    first, second = document["outputs"]
    assert (first["name"], first["inf"], first["nan"], first["min"]) == ("y", 1, 0, 1.0)
    assert (second["min"], second["max"], second["mean"]) == (-999, 1, pytest.approx(-998 / 3))
    assert document["seconds"]["min"] <= document["seconds"]["median"]
    assert [finding["code"] for finding in document["findings"]] == ["output-not-finite"]
    assert done.code == 0


def test_states_are_read_and_written(counting: Path, tmp_path: Path, metal4conv: Run) -> None:
    """The same file may hold the states before and after; repeats do not count."""
    np.savez(tmp_path / "x.npz", x=X)
    state = tmp_path / "state.npz"
    command = ["run", counting, "-i", tmp_path / "x.npz", "--state-out", state]
    assert metal4conv(*command, "--repeat", 3).code == 0
    done = metal4conv(*command, "--state", state)
    assert done.code == 0, done.stderr
    with np.load(state) as found:
        np.testing.assert_array_equal(found["total"], 2 * X)
    bad = tmp_path / "bad.npz"
    np.savez(bad, total=np.zeros(2, np.float16))
    assert metal4conv(*command, "--state", bad).code == 2


def test_a_trace_has_every_operation_of_every_iteration(
    looping: Path, tmp_path: Path, metal4conv: Run
) -> None:
    """4 squared three times is 65536, more than float16 holds; 1 less that has no root."""
    np.savez(tmp_path / "x.npz", x=X)
    folder = tmp_path / "trace"
    done = metal4conv("run", looping, "-i", tmp_path / "x.npz", "--trace", folder, "--json")
    document = json.loads(done.stdout)
    index = json.loads((folder / "index.json").read_text())
    assert index["operations"] == document["trace"]
    rows = [row for row in document["trace"] if row["operation"] == "squared"]
    iterations = [row["place"][0].rsplit(" ", 2)[1:] for row in rows]
    assert iterations == [["body", "0"], ["body", "1"], ["body", "2"]]
    for power, row in enumerate(rows, 1):
        with np.load(folder / row["file"]) as arrays:
            np.testing.assert_array_equal(arrays["squared"], X ** (2**power))
    assert [row["outputs"][0]["float16_overflow"] for row in rows] == [0, 0, 1]
    conditions = [row for row in document["trace"] if "condition" in "".join(row["place"])]
    assert [row["place"][0][-1] for row in conditions] == ["0", "1", "2", "3"]
    assert {file for file in tree(folder) if file != "index.json"} == {
        row["file"] for row in document["trace"]
    }
    found = {finding["code"]: finding for finding in document["findings"]}
    assert found["first-overflow"]["where"] == "squared"
    assert "body 2" in found["first-overflow"]["message"]
    assert found["first-nan"]["where"] == "root"
    assert "first-infinity" not in found


def test_infinities_of_float16_are_overflow_where_they_begin(
    tmp_path: Path, metal4conv: Run
) -> None:
    """Operations that only hand infinities on are not pointed out."""
    _, mb, _ = toolkit()

    def body(x: Any) -> Any:
        return mb.relu(x=mb.mul(x=x, y=np.float16(300), name="large"), name="y")

    package = save(tmp_path, body, [tensor((2,), "fp16")])
    np.savez(tmp_path / "x.npz", x=np.array([1, 300], np.float16))
    done = metal4conv("run", package, "-i", tmp_path / "x.npz", "--trace", tmp_path / "t", "--json")
    document = json.loads(done.stdout)
    large, relu = (row["outputs"][0] for row in document["trace"])
    assert (large["inf"], large["float16_overflow"]) == (1, 1)
    assert (relu["inf"], relu["float16_overflow"]) == (1, 0)
    found = {finding["code"]: finding["where"] for finding in document["findings"]}
    assert (found["first-infinity"], found["first-overflow"]) == ("large", "large")


def test_a_picture_is_an_input(tmp_path: Path, metal4conv: Run) -> None:
    ct, mb, _ = toolkit()
    package = save(
        tmp_path,
        lambda x: mb.add(x=x, y=1.0, name="y"),
        [tensor((1, 3, 2, 2))],
        inputs=[ct.ImageType("x", (1, 3, 2, 2))],
    )
    pixels = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "x.png")
    output = tmp_path / "y.npz"
    done = metal4conv("run", package, "-i", f"x={tmp_path / 'x.png'}", "-o", output)
    assert done.code == 0, done.stderr
    with np.load(output) as found:
        np.testing.assert_array_equal(found["y"], pixels.transpose(2, 0, 1)[None] + 1.0)
    assert metal4conv("run", package, "--random").code == 0


def test_npz_files_have_no_times(tmp_path: Path) -> None:
    write_npz(tmp_path / "a.npz", {"file": X, "a/b": X})
    first = (tmp_path / "a.npz").read_bytes()
    write_npz(tmp_path / "a.npz", {"file": X, "a/b": X})
    assert (tmp_path / "a.npz").read_bytes() == first
    with np.load(tmp_path / "a.npz") as found:
        assert found.files == ["file", "a/b"]
