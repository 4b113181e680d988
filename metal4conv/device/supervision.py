"""The parent of a run: a child process in a folder of its own, watched, ended and cleaned up.

An assertion inside Metal ends the process that it happens in, and a compilation may hang; so what
runs a package is never the process that owes the verdict.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, NoReturn

import numpy as np
from safetensors.numpy import load_file, save_file

import metal4conv
from metal4conv.device.compute_protocol import ComputeRequest
from metal4conv.device.failures import hint_for
from metal4conv.device.protocol import (
    STEPS_FILE,
    Failure,
    Outcome,
    Record,
    RunRequest,
    RunResult,
    binding_from_json,
    inputs_file,
    outputs_file,
    read_records,
    write_request,
)
from metal4conv.errors import UsageError, shortened

CHILD = "metal4conv.device.child"
STDERR_FILE = "stderr.txt"

ALLOWANCE = 300.0
"""Seconds that a step may take beside the GPU's time: a first compilation is slow."""

STARTUP = 60.0
"""Seconds that Python and its packages may take to load before the first record, at least."""

GRACE = 5.0
"""Seconds that the child has to end by itself after its last record."""

POLL = 0.05
LAST_LINES = 20


@dataclass(frozen=True)
class Ending:
    """How the child ended: its exit status as `subprocess` has it; how long it had been silent
    when it was ended for that, in seconds."""

    code: int
    silent: float | None = None


def supervise(
    request: RunRequest,
    inputs: Mapping[str, Mapping[str, np.ndarray]],
    *,
    strict: bool = False,
    child_timeout: float | None = None,
) -> Outcome:
    """Runs a request in a child process; `inputs` are arrays by case label and tensor name.

    Whatever happens to the child is a `Failure` of the outcome, and results that were complete
    before it are kept. `strict` turns Metal's own validation on. A child that adds no record for
    `child_timeout` seconds is killed; by default that is the request's timeout for the GPU and five
    minutes. Before its first record it has `STARTUP` at least.

    An interrupt, or SIGTERM in the main thread, ends the child and removes its folder before it
    goes on as `KeyboardInterrupt` or `SystemExit`.
    """
    check_labels([case.label for case in request.cases], inputs)
    patience = request.timeout_ms / 1000 + ALLOWANCE if child_timeout is None else child_timeout
    with terminations_raised(), run_folder() as folder:
        write_inputs(folder, absolute(request), inputs)
        ending = watch(folder, request, strict, patience)
        return outcome_of(folder, request, ending)


def check_labels(labels: Sequence[str], inputs: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Labels name files, and each needs inputs; `UsageError` otherwise."""
    for label in labels:
        is_name = bool(label) and Path(label).name == label
        if not is_name or label not in inputs or labels.count(label) > 1:
            raise UsageError(f"case {label!r} has no inputs, or a name that is not its own")


def absolute(request: RunRequest) -> RunRequest:
    """The request for a process that runs in another folder."""
    package = str(Path(request.package).absolute())
    capture = request.capture and str(Path(request.capture).absolute())
    return replace(request, package=package, capture=capture)


@contextmanager
def terminations_raised() -> Iterator[None]:
    """Turns SIGTERM and SIGHUP into `SystemExit` for the block, so that it can clean up.

    Only where nobody else handles them, and in the main thread, which alone may. Elsewhere the
    child notices that its parent is gone, and cleans up.
    """
    is_main = threading.current_thread() is threading.main_thread()
    signals = [signal.SIGTERM, signal.SIGHUP] if is_main else []
    taken = [number for number in signals if signal.getsignal(number) is signal.SIG_DFL]
    for number in taken:
        signal.signal(number, raise_exit)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def raise_exit(number: int, frame: object) -> NoReturn:
    """Ends the program as the signal would have, after all blocks were left."""
    raise SystemExit(128 + number)


@contextmanager
def run_folder() -> Iterator[Path]:
    """A new folder that is removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="metal4conv-run-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write_inputs(
    folder: Path, request: RunRequest, inputs: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """The request and the arrays of its cases, where the child looks for them."""
    write_request(folder, request)
    for case in request.cases:
        arrays = {name: np.asarray(array, order="C") for name, array in inputs[case.label].items()}
        save_file(arrays, folder / inputs_file(case.label))


def watch(
    folder: Path, request: RunRequest | ComputeRequest, strict: bool, patience: float
) -> Ending:
    """Starts the child and waits until it ends, or was silent for too long; it is gone then."""
    with (folder / STDERR_FILE).open("wb") as stderr:
        process = start_child(folder, request, strict, stderr)
        try:
            return wait_for(process, folder / STEPS_FILE, patience)
        finally:
            end(process)


def start_child(
    folder: Path, request: RunRequest | ComputeRequest, strict: bool, stderr: IO[bytes]
) -> subprocess.Popen[bytes]:
    """The child in a session of its own, so that an interrupt of the terminal is not its affair.

    Its standard input stays open as long as this process lives.
    """
    return subprocess.Popen(
        [sys.executable, "-m", CHILD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=stderr,
        stderr=stderr,
        cwd=folder,
        env=child_environment(request, strict),
        start_new_session=True,
    )


def child_environment(request: RunRequest | ComputeRequest, strict: bool) -> dict[str, str]:
    """This environment, with Metal's switches, and with paths that hold in another folder."""
    environment = dict(os.environ)
    paths = [str(Path(path).absolute()) for path in python_path() if path]
    if paths:
        environment["PYTHONPATH"] = os.pathsep.join(paths)
    if strict:
        environment |= {"MTL_DEBUG_LAYER": "1", "MTL_SHADER_VALIDATION": "1"}
    if request.capture is not None:
        environment["METAL_CAPTURE_ENABLED"] = "1"
    return environment


def python_path() -> list[str]:
    """`PYTHONPATH` for a child that has to find this very package, in a checkout too.

    An installed one is found anyway, and its folder must not come before the standard library.
    """
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    root = str(Path(metal4conv.__file__).absolute().parents[1])
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    return given if root in installed else [root, *given]


def wait_for(process: subprocess.Popen[bytes], steps: Path, patience: float) -> Ending:
    """Waits for the child's end; its time starts anew with each record that it writes."""
    written, since = -1, time.monotonic()
    while True:
        with suppress(subprocess.TimeoutExpired):
            return Ending(process.wait(POLL))
        size = steps.stat().st_size if steps.exists() else 0
        now = time.monotonic()
        if size != written:
            written, since = size, now
        allowed = patience if size else max(patience, STARTUP)
        if now - since > allowed or (now - since > GRACE and has_ended(steps.parent)):
            end(process)
            return Ending(process.returncode, now - since)


def has_ended(folder: Path) -> bool:
    """Whether the child has told that it is done or failed."""
    records = read_records(folder)
    return bool(records) and records[-1].state in ("finished", "failed")


def end(process: subprocess.Popen[bytes]) -> None:
    """Kills the child and what it started, and waits for it, so that no zombie stays."""
    with suppress(ProcessLookupError, PermissionError):  # macOS: for a group of zombies
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert process.stdin is not None
    with suppress(OSError):
        process.stdin.close()


def outcome_of(folder: Path, request: RunRequest, ending: Ending) -> Outcome:
    """What the child left: complete results, and why there are no more of them."""
    records = read_records(folder)
    notes = [record.data for record in records if record.state == "note" and record.data]
    devices = [data["device"] for data in notes if "device" in data]
    library = [data["library_bindings"] for data in notes if "library_bindings" in data]
    return Outcome(
        results=tuple(read_result(folder, record) for record in records if is_result(record)),
        failure=failure_in(records, ending, last_lines(folder / STDERR_FILE)),
        device=devices[0] if devices else None,
        library_bindings=tuple(map(binding_from_json, library[0])) if library else (),
        records=records,
    )


def is_result(record: Record) -> bool:
    """Whether a record says that a case's outputs are complete."""
    return record.state == "done" and record.name == "read the outputs"


def read_result(folder: Path, record: Record) -> RunResult:
    """The outputs and facts of a case."""
    assert record.case is not None, "the step is of a case"
    assert record.backing is not None, "and of a backing"
    assert record.data is not None, "with its facts"
    return RunResult(
        label=record.case,
        backing=record.backing,
        outputs=load_file(folder / outputs_file(record.case, record.backing)),
        bindings=tuple(map(binding_from_json, record.data["bindings"])),
        gpu_seconds=tuple(record.data["gpu_seconds"]),
        heap_bytes=record.data["heap_bytes"],
    )


def failure_in(records: tuple[Record, ...], ending: Ending, stderr: str) -> Failure | None:
    """Why the run ended early: by the child's own words, or by how it ended; None if it did not."""
    last = next((record for record in reversed(records) if record.state != "note"), Record("begin"))
    match last.state:
        case "finished":
            return None
        case "failed":
            return told(last, stderr)
    at = f"at step {last.number}: {last.name}" if last.number else "before the first step"
    place = (last.number, last.name, last.case, last.backing)
    if ending.silent is not None:
        message = f"no sign of life for {ending.silent:.0f} s {at}; the process was ended"
        hint = "compiling a large network may take minutes; allow more time with --timeout"
        return Failure("timeout", message, *place, stderr=stderr, hint=hint)
    message = f"aborted {at} ({manner(ending.code)})"
    return Failure("aborted", message, *place, stderr=stderr, hint=hint_for(stderr))


def told(record: Record, stderr: str) -> Failure:
    """The failure that the child reported."""
    assert record.kind is not None, "a failed record has a kind"
    detail = record.detail or ""
    step = f"step {record.number}, {record.name}: "
    message = detail if record.kind == "missing" else step + detail
    place = (record.number, record.name, record.case, record.backing)
    hint = (record.data or {}).get("hint")
    return Failure(record.kind, message, *place, stderr=stderr, hint=hint)


def manner(code: int) -> str:
    """How a process ended.

    >>> manner(-6), manner(1)
    ('signal SIGABRT', 'exit code 1')
    """
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return f"signal {signal.Signals(-code).name}"
    return f"signal {-code}"


def last_lines(file: Path) -> str:
    """The last lines that the child and Metal printed."""
    text = file.read_bytes()[-(1 << 16) :].decode("utf-8", "replace")
    return "\n".join(map(shortened, text.splitlines()[-LAST_LINES:]))
