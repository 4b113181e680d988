"""Lines of a model's code in the stack traces that PyTorch's exporters note."""

from __future__ import annotations

import re
from pathlib import Path

FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+), in \S+\n\s*(?P<code>[^\n]*)')

LIBRARIES = ("site-packages", "dist-packages")
"""Folders of code that is not the model's own."""


def line_of_trace(trace: str) -> tuple[str | None, str | None]:
    """The innermost line of a stack trace that is no library's, as `file.py:12`, and its text.

    Without one, None: what happens inside a module of a library is told by the module's name.
    """
    frames = [frame for frame in FRAME.finditer(trace) if not is_library(frame["file"])]
    if not frames:
        return None, None
    last = frames[-1]
    return f"{Path(last['file']).name}:{last['line']}", last["code"].strip()


def is_library(file: str) -> bool:
    """Whether a file is no code of the model's author."""
    return not file or bool(set(Path(file).parts).intersection(LIBRARIES))
