"""The child process by itself: what it makes of errors, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from metal4conv.device import child
from metal4conv.device.failures import RunFailed
from metal4conv.device.protocol import Record, read_records, write_request
from metal4conv.errors import DamagedFile, MissingDependency, MissingDevice
from tests.device.plans import request

ROOT = Path(__file__).parents[2]


class ObjectiveCError(Exception):
    """An exception like PyObjC's `objc.error`."""


@pytest.mark.parametrize(
    ("error", "kind", "message", "hint"),
    [
        (RunFailed("timeout", "slow", "wait"), "timeout", "slow", "wait"),
        (MissingDevice("no Mac", hint="buy one"), "missing", "no Mac", "buy one"),
        (MissingDependency("no PyObjC"), "missing", "no PyObjC", None),
        (DamagedFile("broken"), "refused", "broken", None),
        (ObjectiveCError("bad\nvery"), "error", "ObjectiveCError: bad", None),
        (TypeError("expected 3 arguments"), "error", "TypeError: expected 3 arguments", None),
    ],
)
def test_errors_of_all_kinds(error, kind, message, hint):
    failure = child.failure_of(error)
    assert (failure.kind, failure.message, failure.hint) == (kind, message, hint)


def test_known_texts_have_hints_in_exceptions_too():
    error = ObjectiveCError("strides should be nil")
    assert "layout of its own" in child.failure_of(error).hint


def run_child(folder: Path, *lines: str) -> subprocess.CompletedProcess[str]:
    """The child, with these lines run before it starts."""
    code = textwrap.dedent(
        "\n".join(["import os, sys", "from metal4conv.device import child", *lines])
    )
    code += "\nchild.start(sys.argv[1:])"
    # A pipe that stays open, as the parent's does
    reading, writing = os.pipe()
    try:
        return subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            stdin=reading,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=60,
        )
    finally:
        os.close(reading)
        os.close(writing)


def test_a_request_that_is_done(tmp_path):
    write_request(tmp_path, request())
    done = run_child(
        tmp_path,
        "child.open_requested = lambda request: request.package",
        "child.run = lambda api, request, folder, journal: journal.note(api)",
    )
    assert (done.returncode, done.stderr) == (0, "")
    note, finished = read_records(tmp_path)
    assert (note.detail, finished.state) == ("net.mtlpackage", "finished")


def test_an_exception_is_told_with_its_traceback(tmp_path):
    write_request(tmp_path, request())
    done = run_child(tmp_path, "child.open_requested = lambda request: 1 / 0")
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert read_records(tmp_path) == (
        Record(
            "failed",
            1,
            "find the device",
            kind="error",
            detail="ZeroDivisionError: division by zero",
        ),
    )


@pytest.mark.skipif(sys.platform == "darwin", reason="says what is missing elsewhere")
def test_metal_is_missing(tmp_path):
    write_request(tmp_path, request(api="metal"))
    done = run_child(tmp_path)
    assert done.returncode == 1
    [record] = read_records(tmp_path)
    assert (record.kind, record.number) == ("missing", 1)
    assert "Metal 4 needs macOS 26.0 or newer" in record.detail


def test_the_end_of_standard_input_is_the_parents(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    write_request(folder, request())
    code = "import sys, time\nfrom metal4conv.device import child\n"
    code += "child.run = lambda *arguments: time.sleep(1000)\n"
    code += "child.open_requested = lambda request: None\nchild.start(sys.argv[1:])"
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=60,
    )
    assert done.returncode == 1
    assert list(tmp_path.iterdir()) == []
