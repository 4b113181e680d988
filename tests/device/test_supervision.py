"""The parent of a run, with children that are written here and do one thing each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from metal4conv.device import supervision
from metal4conv.device.protocol import Outcome, RunCase
from metal4conv.device.supervision import child_environment, supervise
from metal4conv.errors import UsageError
from tests.device.plans import CASE, X, Y, request

ROOT = Path(__file__).parents[2]
INPUTS = {"case0": {"x": np.arange(40, dtype=np.float32).reshape(4, 10)}}

PREAMBLE = """
import json, os, signal, sys, time
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file, save_file
from metal4conv.device.failures import RunFailed
from metal4conv.device.journal import Journal
from metal4conv.device.protocol import outputs_file, read_request
folder = Path(sys.argv[1])
journal = Journal(folder)
def give(label, backing="device"):
    with journal.step("read the outputs", label, backing) as data:
        save_file({"y": np.full((4, 7), 2, np.float32)}, folder / outputs_file(label, backing))
        data |= {"bindings": [], "gpu_seconds": [0.5], "heap_bytes": 64}
"""


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Folders for temporary files and for the child's module, which is found in no other way."""
    temporary, modules = tmp_path / "temporary", tmp_path / "modules"
    temporary.mkdir()
    modules.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(modules))
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(supervision, "CHILD", "child_of_test")
    return temporary, modules


@pytest.fixture
def run(places):
    """Runs a child with these lines; nothing of it may be left."""
    temporary, modules = places

    def run_child(lines: str, *, child_timeout: float = 30.0, **changes) -> Outcome:
        write_child(modules, lines)
        cases = changes.pop("cases", (CASE,))
        inputs = {case.label: INPUTS["case0"] for case in cases}
        asked = request(cases=cases, **changes)
        before = children()
        outcome = supervise(asked, inputs, child_timeout=child_timeout)
        assert list(temporary.iterdir()) == []
        assert children() == before
        return outcome

    return run_child


def write_child(modules: Path, lines: str) -> None:
    (modules / "child_of_test.py").write_text(PREAMBLE + textwrap.dedent(lines))


def processes() -> dict[int, tuple[int, str]]:
    """The number of the parent and the state of each process."""
    command = ["ps", "-A", "-o", "pid=,ppid=,stat=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 3) for line in listed.splitlines() if "ps -A" not in line]
    return {int(pid): (int(parent), state) for pid, parent, state, *_ in rows}


def children() -> list[int]:
    """The processes that this one started and that are there, zombies too."""
    return [pid for pid, (parent, _) in processes().items() if parent == os.getpid()]


def test_a_run_that_ends_well(run):
    outcome = run(
        """
        with journal.step("find the device"):
            journal.note(data={"device": "GPU of the test"})
        with journal.step("read the library's reflection"):
            row = {"name": "x", "index": 0, "access": 0, "data_type": 3, "dimensions": [-1, 4]}
            journal.note(data={"library_bindings": [row]})
        assert load_file(folder / "case0.inputs.safetensors")["x"][3, 9] == 39
        give("case0")
        journal.finish()
        """
    )
    assert outcome.failure is None
    assert outcome.device == "GPU of the test"
    assert outcome.library_bindings[0].dimensions == (-1, 4)
    [result] = outcome.results
    assert (result.label, result.backing, result.gpu_seconds) == ("case0", "device", (0.5,))
    np.testing.assert_array_equal(result.outputs["y"], np.full((4, 7), 2, np.float32))


def test_inputs_of_any_order_arrive(places):
    _, modules = places
    write_child(
        modules,
        """
        found = load_file(folder / "case0.inputs.safetensors")["x"]
        journal.note("ok" if found.tolist() == [[0, 2], [1, 3]] else repr(found))
        journal.finish()
        """,
    )
    turned = np.arange(4, dtype=np.float32).reshape(2, 2).T
    outcome = supervise(request(), {"case0": {"x": turned}})
    assert [record.detail for record in outcome.records if record.state == "note"] == ["ok"]


def test_abort_keeps_what_was_complete(run):
    cases = (CASE, RunCase("case1", (X, Y)))
    outcome = run(
        """
        give("case0")
        with journal.step("compile the pipeline", "case1"):
            print("expected element type f32 but received f16", file=sys.stderr, flush=True)
            os.abort()
        """,
        cases=cases,
    )
    assert [result.label for result in outcome.results] == ["case0"]
    failure = outcome.failure
    assert failure.kind == "aborted"
    assert failure.message == "aborted at step 5: compile the pipeline (signal SIGABRT)"
    assert (failure.number, failure.case) == (5, "case1")
    assert "received f16" in failure.stderr
    assert "not of this Core ML package" in failure.hint


def test_outputs_of_a_child_that_died_while_writing_do_not_count(run):
    outcome = run(
        """
        with journal.step("read the outputs", "case0", "device"):
            (folder / outputs_file("case0", "device")).write_bytes(b"half")
            with journal.file.open("a") as file:
                file.write('{"state": "do')
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert outcome.results == ()
    assert outcome.failure.message == "aborted at step 13: read the outputs (signal SIGKILL)"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("raise SystemExit(7)", "aborted before the first step (exit code 7)"),
        ("with journal.step('find the device'): raise SystemExit(0)", "find the device (exit"),
    ],
)
def test_a_child_that_leaves_without_a_word(run, lines, message):
    assert message in run(lines).failure.message


def test_a_failure_that_the_child_tells(run):
    outcome = run(
        """
        try:
            with journal.step("load the library"):
                raise RunFailed("error", "newLibraryWithURL:error: failed: bad", "build it again")
        except RunFailed as error:
            journal.fail(error)
        sys.stderr.write("line\\n" * 30 + "the last word\\n")
        """
    )
    failure = outcome.failure
    assert failure.kind == "error"
    assert failure.message.startswith("step 3, load the library: newLibraryWithURL:error: failed")
    assert failure.hint == "build it again"
    assert failure.stderr.endswith("the last word")
    assert failure.stderr.count("\n") == supervision.LAST_LINES - 1


def test_a_child_that_hangs_is_ended_with_what_it_started(run, tmp_path):
    outcome = run(
        f"""
        import subprocess
        started = subprocess.Popen(["sleep", "1000"])
        Path({str(tmp_path / "pid")!r}).write_text(str(started.pid))
        with journal.step("compile the pipeline", "case0"):
            time.sleep(1000)
        """,
        child_timeout=1.5,
    )
    assert outcome.failure.kind == "timeout"
    assert outcome.failure.message.startswith("no sign of life for 2 s at step 5: compile the")
    assert ended(int((tmp_path / "pid").read_text()))


def test_each_record_gives_the_child_new_time(run):
    outcome = run(
        """
        for _ in range(6):
            with journal.step("commit and wait", "case0", "device"):
                time.sleep(0.7)
        journal.finish()
        """,
        child_timeout=2.5,
    )
    assert outcome.failure is None


def test_a_child_that_is_done_but_stays_is_not_waited_for(run, monkeypatch):
    monkeypatch.setattr(supervision, "GRACE", 0.5)
    start = time.monotonic()
    outcome = run("give('case0')\njournal.finish()\ntime.sleep(1000)")
    assert outcome.failure is None
    assert len(outcome.results) == 1
    assert time.monotonic() - start < 20


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGKILL])
def test_a_parent_that_is_ended_leaves_nothing(places, tmp_path, sent):
    """Also with SIGKILL: the child's own module notices it. The child here hangs in the emulator's
    place, which is imported by the real child."""
    temporary, modules = places
    (modules / "hanging_child.py").write_text(
        textwrap.dedent(
            """
            import os, sys, time
            from pathlib import Path
            from metal4conv.device import child
            def run(api, request, folder, journal):
                (folder.parent.parent / "pid").write_text(str(os.getpid()))
                time.sleep(1000)
            child.open_requested = lambda request: None
            child.run = run
            child.start(sys.argv[1:])
            """
        )
    )
    (modules / "parent.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            from metal4conv.device import supervision
            from tests.device.plans import request
            supervision.CHILD = "hanging_child"
            supervision.supervise(request(), {"case0": {"x": np.zeros((4, 10), np.float32)}})
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": f"{modules}{os.pathsep}{ROOT}"}
    parent = subprocess.Popen(
        [sys.executable, "-m", "parent"],
        env=environment,
        stderr=subprocess.DEVNULL,
        # under nohup this process ignores the signal, and so would the parent
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )
    try:
        eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        child = int((tmp_path / "pid").read_text())
        assert len(list(temporary.iterdir())) == 1
        parent.send_signal(sent)
        code = parent.wait(20)
    finally:
        parent.kill()
        parent.wait()
    # SystemExit of 128 and the signal; Python ends itself with the signal after an interrupt
    expected = 128 + sent if sent in (signal.SIGTERM, signal.SIGHUP) else -sent
    assert code == expected
    eventually(lambda: ended(child))
    eventually(lambda: list(temporary.iterdir()) == [])


def ended(pid: int) -> bool:
    """Whether a process is gone; a zombie that is waiting for another parent counts as gone."""
    return processes().get(pid, (0, "Z"))[1].startswith("Z")


def eventually(holds) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.05)


def test_handlers_of_others_stay(run):
    def mine(number, frame):
        raise AssertionError("not sent here")

    before = signal.signal(signal.SIGTERM, mine)
    try:
        seen = run("journal.finish()").failure
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen is None


def test_signals_are_as_before(run):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    run("journal.finish()")
    assert before == [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]


def test_metal_is_told_through_the_environment(monkeypatch):
    monkeypatch.delenv("MTL_DEBUG_LAYER", raising=False)
    plain = child_environment(request(), strict=False)
    assert "MTL_DEBUG_LAYER" not in plain
    assert "METAL_CAPTURE_ENABLED" not in plain
    strict = child_environment(request(capture="a.gputrace"), strict=True)
    assert strict["MTL_DEBUG_LAYER"] == strict["MTL_SHADER_VALIDATION"] == "1"
    assert strict["METAL_CAPTURE_ENABLED"] == "1"


def test_paths_hold_in_the_childs_folder(run, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{Path('modules')}{os.pathsep}")
    outcome = run("journal.note(read_request(folder).package)\njournal.finish()")
    assert outcome.failure is None
    assert str(tmp_path / "net.mtlpackage") in [record.detail for record in outcome.records]


@pytest.mark.parametrize("label", ["../case0", "", "a/b"])
def test_labels_are_names(label):
    with pytest.raises(UsageError):
        supervise(request(cases=(RunCase(label, (X, Y)),)), {label: INPUTS["case0"]})


def test_a_case_without_inputs():
    with pytest.raises(UsageError, match="case0"):
        supervise(request(), {})
