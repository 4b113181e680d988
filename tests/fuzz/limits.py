"""Limits for what runs on packages that may ask for anything: memory, and time."""

from __future__ import annotations

import resource
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

SECONDS = 10
"""For one use of a mutated package; a sound one takes a hundredth of a second."""

LOOP_SECONDS = 0.5
"""After which the program's own loop, which may be endless, is left."""

MORE_MEMORY = 2 << 30
"""Address space beyond what the loaded libraries take; a sound package needs a few MB."""


class TooSlow(BaseException):
    """Raised by the timer; no handler of `Exception` may take it for an error of the model."""


class InLoop(BaseException):
    """Raised by the timer while the program itself is in one of its loops."""


@contextmanager
def limited_time() -> Iterator[None]:
    """Everything has to end, but for a loop of the program."""
    started = time.monotonic()

    def look(number: int, frame: FrameType | None) -> None:
        if any(item.f_code.co_name == "while_loop" for item, _ in traceback.walk_stack(frame)):
            raise InLoop
        if time.monotonic() - started > SECONDS:
            raise TooSlow

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, LOOP_SECONDS, LOOP_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory() -> None:
    """An allocation beyond the limit fails here, instead of bringing the machine down.

    Only Linux counts the address space in use, and keeps to a limit of it.
    """
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MORE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
