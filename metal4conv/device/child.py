"""The child process of a run: `python -m metal4conv.device.child FOLDER`.

It reads `request.json` in the folder, or `compute.json`, runs it, and writes `steps.jsonl` and the
outputs there. Its standard input is a pipe that the parent holds open: its end means that the
parent is gone, and the child then removes the folder and ends.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from metal4conv.device.api import Api
from metal4conv.device.compute import run_compute
from metal4conv.device.compute_protocol import (
    COMPUTE_FILE,
    COMPUTE_STEPS,
    ComputeRequest,
    read_compute_request,
)
from metal4conv.device.failures import RunFailed, hint_for
from metal4conv.device.journal import Journal
from metal4conv.device.protocol import STEPS, RunRequest, read_request
from metal4conv.device.runner import run
from metal4conv.errors import Metal4ConvError, MissingDependency, MissingDevice, first_line

WATCH_SECONDS = 1.0


@dataclass(frozen=True)
class Home:
    """The folder of the run, and the number of the process that owns it."""

    folder: Path
    parent: int
    removal: threading.Lock = field(default_factory=threading.Lock)

    @property
    def is_abandoned(self) -> bool:
        """Whether the parent is gone, after which another process adopts this one."""
        return os.getppid() != self.parent

    def remove(self) -> None:
        """Removes the folder, under another name first, so that nothing new appears in it."""
        with self.removal, suppress(FileNotFoundError):
            self.folder.rename(doomed := self.folder.with_suffix(".gone"))
            shutil.rmtree(doomed, ignore_errors=True)


def main(home: Home) -> NoReturn:
    """Runs the folder's request; the exit status is 0 when all cases have outputs, else 1."""
    is_compute = (home.folder / COMPUTE_FILE).exists()
    journal = Journal(home.folder, COMPUTE_STEPS if is_compute else STEPS)
    try:
        if is_compute:
            asked = read_compute_request(home.folder)
            run_compute(open_requested(asked), asked, home.folder, journal)
        else:
            request = read_request(home.folder)
            run(open_requested(request), request, home.folder, journal)
        journal.finish()
        leave(home, 0)
    except Exception as error:
        failure = failure_of(error)
        if failure is not error:
            traceback.print_exc()  # the parent shows it beside the step
        try:
            journal.fail(failure)
        finally:  # also when the folder is gone, with the parent
            leave(home, 1)


def open_requested(request: RunRequest | ComputeRequest) -> Api:
    """Metal itself, or its emulator."""
    if request.api == "emulator":
        from metal4conv.device.emulator import open_api as open_emulator

        if isinstance(request, ComputeRequest):
            return open_emulator(request.misbehave, stand_in=request.stand_in)
        import_module("metal4conv.execute.interpreter")  # loads torch before a step's time runs
        return open_emulator(request.misbehave)
    from metal4conv.device.metal import open_api as open_metal

    return open_metal()


def failure_of(error: Exception) -> RunFailed:
    """What an exception means; those of PyObjC and of broken rules carry their own text."""
    match error:
        case RunFailed():
            return error
        case MissingDevice() | MissingDependency():
            return RunFailed("missing", error.message, error.hint)
        case Metal4ConvError():
            return RunFailed("refused", error.message, error.hint)
    text = f"{type(error).__name__}: {first_line(error)}"
    return RunFailed("error", text, hint_for(str(error)))


def leave(home: Home, code: int) -> NoReturn:
    """Ends the process at once: the usual end would release objects one by one, and a GPU that did
    not finish may still use them."""
    if home.is_abandoned or not home.folder.exists():
        home.remove()  # or waits until the thread that does it is done
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def watch_parent(home: Home) -> None:
    """Ends the process and removes the folder once the parent is gone.

    A process that the parent forked may hold the pipe open, so the parent's number counts too.
    """
    while not home.is_abandoned:
        ready, _, _ = select.select([sys.stdin], [], [], WATCH_SECONDS)
        if ready and not os.read(sys.stdin.fileno(), 1024):
            break
    home.remove()
    os._exit(1)


def start(arguments: list[str]) -> NoReturn:
    """The command line: one folder."""
    home = Home(Path(arguments[0]).absolute(), os.getppid())
    threading.Thread(target=watch_parent, args=(home,), daemon=True).start()
    main(home)


if __name__ == "__main__":
    start(sys.argv[1:])
