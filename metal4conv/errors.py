"""All errors that a user can cause, each with the exit code that it ends the command with.

An error has a message, the place in the user's model where it happened, and a hint what to do.
A doubtful but usable result is not an error: that is a `report.Finding`. "The outputs differ" is
an answer, not an error: the `report.Report` that says so owns exit code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import ClassVar

EXIT_CODES = {
    0: "fine",
    1: "the answer is no: the results differ, or are out of tolerance",
    2: "wrong usage: an option, a name or a file that does not fit",
    3: "this model cannot be converted, or the file is damaged",
    4: "something is missing here: a package, macOS, a device, Xcode, space to write",
    70: "a bug in metal4conv, with its traceback",
    130: "interrupted",
}

MOST_NAMES = 100
"""More of them in a message hide what it says."""


LONGEST_LINE = 2000
"""Characters of a line of a message; a name in a file may have a million."""


class Metal4ConvError(Exception):
    """What went wrong, where in the user's model, and what to do about it."""

    exit_code: ClassVar[int] = 70

    def __init__(
        self, message: str, *, where: str | Iterable[str] | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where: tuple[str, ...] = (
            () if where is None else (where,) if isinstance(where, str) else tuple(where)
        )
        self.hint = hint

    def __str__(self) -> str:
        """The message as it is shown to the user, without the word "error".

        >>> print(UsageError("no file net.pt2", where="--weights", hint="check the path"))
        no file net.pt2
          at --weights
          hint: check the path
        """
        lines = [self.message, *(f"  at {place}" for place in self.where)]
        lines += [f"  {note}" for note in getattr(self, "__notes__", ())]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(map(shortened, lines))


def shortened(line: str, longest: int = LONGEST_LINE) -> str:
    """A line without its middle when it is longer than somebody reads.

    >>> shortened("a value named aaaaaaaaaaaaaaaaaaaa is missing", 30)
    'a value named a … aaaa is missing'
    """
    half = longest // 2
    return line if len(line) <= longest else f"{line[:half]} … {line[-half:]}"


def first_line(error: BaseException) -> str:
    """The first line of another package's message, without the rest of a long dump.

    >>> first_line(ValueError("no such axis\\nin a graph")), first_line(KeyError())
    ('no such axis', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def last_line(error: BaseException) -> str:
    """The last line of another package's message, where TorchScript says what went wrong.

    >>> last_line(ValueError("no such axis\\nin a graph")), last_line(KeyError())
    ('in a graph', 'KeyError')
    """
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]


class UsageError(Metal4ConvError):
    """An option, a name or a file that does not fit (exit code 2)."""

    exit_code = 2


class UnsupportedModel(Metal4ConvError):
    """The model is sound, but cannot be converted or run (exit code 3)."""

    exit_code = 3


class DamagedFile(Metal4ConvError):
    """A file that is empty, truncated, or not what its name says (exit code 3)."""

    exit_code = 3


class RejectedShader(Metal4ConvError):
    """Shader source that a compiler refuses, or that breaks a rule when it runs (exit code 3).

    `output` is all that the compiler printed.
    """

    exit_code = 3
    output: str = ""


class UntrustedFile(Metal4ConvError):
    """A file whose reading would run code that comes with it (exit code 3)."""

    exit_code = 3


class MissingDependency(Metal4ConvError):
    """A Python package that is not installed (exit code 4)."""

    exit_code = 4


class MissingDevice(Metal4ConvError):
    """A machine, device or tool that is not here (exit code 4)."""

    exit_code = 4


class OutputError(Metal4ConvError):
    """An output that could not be written: no space, no permission (exit code 4)."""

    exit_code = 4


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the closest one, or all there are.

    >>> did_you_mean("imgae", ["image", "mask"])
    'did you mean "image"? (known: image, mask)'
    """
    names = list(known)
    if not names:
        return "there are none"
    close = difflib.get_close_matches(name[:200], names[:1000], n=1)
    more = f", and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    listed = f"known: {', '.join(names[:MOST_NAMES])}{more}"
    return f'did you mean "{close[0]}"? ({listed})' if close else listed
