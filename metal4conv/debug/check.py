"""Who says whether a part of a package is good: a command of the user, or expected values.

A command is run as `git bisect run` runs one: exit status 0 is good, 125 cannot tell, anything
else is bad. 126 and 127, by which a shell says that a command cannot be run, are errors.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, Protocol

from metal4conv.debug.case import Case, failures, inputs_path, outputs_path
from metal4conv.errors import OutputError, UsageError
from metal4conv.verify.tolerance import GivenTolerance

Verdict = Literal["good", "bad", "skip"]

CANNOT_TELL = 125
NOT_RUN = {126: "cannot be executed", 127: "was not found"}
KEPT_OUTPUT = 64 * 2**10
"""Bytes of a command's output that are kept, the last ones."""
GRACE_SECONDS = 2.0
"""What a command has to end in when it is asked to."""


@dataclass(frozen=True)
class Answer:
    """A verdict, and what it rests on in words."""

    verdict: Verdict
    detail: str = ""


class Check(Protocol):
    """Says whether a part of a package is good."""

    @property
    def identity(self) -> str:
        """What it is, in words: a search goes on with the same check only."""

    def __call__(self, case: Case) -> Answer:
        """The verdict about one part."""


@dataclass(frozen=True)
class ExpectationCheck:
    """Good is what gives the expected outputs on this machine, within `verify`'s tolerance."""

    given: GivenTolerance | None = None

    @property
    def identity(self) -> str:
        return tolerance_text(self.given)

    def __call__(self, case: Case) -> Answer:
        found = failures(case, self.given)
        return Answer("bad", found[0].message) if found else Answer("good", "within tolerance")


@dataclass(frozen=True)
class CommandCheck:
    """Good is what the user's command says to be good.

    `{package}`, `{inputs}` and `{outputs}` in the command's words are the case's files; a command
    without any of them gets package and inputs as its last two arguments. The paths are in the
    environment, too: METAL4CONV_PACKAGE, METAL4CONV_INPUTS, METAL4CONV_OUTPUTS. `log` is where the
    end of its output goes.
    """

    command: str
    timeout: float | None = None
    log: Path | None = None

    def __post_init__(self) -> None:
        check_command(split_words(self.command))

    @property
    def identity(self) -> str:
        return self.command

    def words(self, package: Path) -> list[str]:
        """The command's words for the case of a package."""
        files = case_files(package)
        words = split_words(self.command)
        if not any(f"{{{key}}}" in word for word in words for key in files):
            return [*words, files["package"], files["inputs"]]
        for key, path in files.items():
            words = [word.replace(f"{{{key}}}", path) for word in words]
        return words

    def __call__(self, case: Case) -> Answer:
        return self.ask(case.package)

    def ask(self, package: Path) -> Answer:
        """The verdict about the case of a package."""
        words = self.words(package)
        environment = {
            f"METAL4CONV_{key.upper()}": path for key, path in case_files(package).items()
        }
        status, output = run_command(words, environment, self.timeout)
        if self.log is not None:
            try:
                self.log.write_bytes(output)
            except OSError as error:
                raise OutputError(f"cannot write {self.log}: {error.strerror}") from None
        return self.answer(status)

    def answer(self, status: int | None) -> Answer:
        """What an exit status says; None is a command that took too long."""
        if status is None:
            return Answer("skip", f"took longer than {self.timeout:g} s")
        if status in NOT_RUN:
            raise UsageError(
                f"the check command {NOT_RUN[status]}: it ended with exit status {status}",
                where=f"--check {self.command}",
                hint="exit with 1 for bad, 0 for good, 125 for cannot tell",
            )
        if status == CANNOT_TELL:
            return Answer("skip", f"exit status {status}")
        if status < 0:
            return Answer("bad", f"killed by {signal_name(-status)}")
        return Answer("bad" if status else "good", f"exit status {status}")


def tolerance_text(given: GivenTolerance | None) -> str:
    """What the outputs of a part are judged by, in words.

    >>> tolerance_text(GivenTolerance(atol=0.1))
    'the expected outputs, atol 0.1'
    """
    parts = [
        f"{name} {value:g}"
        for name, value in vars(given or GivenTolerance()).items()
        if value is not None
    ]
    return ", ".join(["the expected outputs", *parts])


def case_files(package: Path) -> dict[str, str]:
    """The files of a case by their placeholder, as absolute paths."""
    package = package.resolve()
    return {
        "package": str(package),
        "inputs": str(inputs_path(package)),
        "outputs": str(outputs_path(package)),
    }


def signal_name(number: int) -> str:
    """A signal's name.

    >>> signal_name(9)
    'SIGKILL'
    """
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def split_words(command: str) -> list[str]:
    """The command's words, quoted as in a shell; no shell runs it."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(
            f"the check command cannot be read: {error}", where=f"--check {command}"
        ) from None
    if not words:
        raise UsageError("the check command is empty", where="--check")
    return words


def check_command(words: Sequence[str]) -> None:
    """`UsageError` for a command that cannot be run, before anything is cut."""
    if shutil.which(words[0]):
        return
    exists = Path(words[0]).is_file()
    what = "is not executable" if exists else "was not found"
    raise UsageError(
        f"the check command {words[0]} {what}",
        where="--check",
        hint=f"run: chmod +x {shlex.quote(words[0])}"
        if exists
        else "no shell runs it; for one write: sh -c 'first && second'",
    )


def run_command(
    words: Sequence[str], environment: dict[str, str], timeout: float | None
) -> tuple[int | None, bytes]:
    """Exit status (None after `timeout` seconds) and the end of the output of a command.

    It has a process group of its own, which ends with it, also when this process is interrupted.
    """
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UsageError(
            f"the check command {words[0]} cannot be run: {reason}",
            where="--check",
            hint="a script needs a first line such as #!/bin/sh",
        ) from None
    tail = bytearray()
    assert process.stdout is not None
    reader = threading.Thread(target=keep_end, args=(process.stdout, tail), daemon=True)
    reader.start()
    status: int | None = None
    try:
        with suppress(subprocess.TimeoutExpired):
            status = process.wait(timeout)
    finally:
        end_group(process)
        reader.join(GRACE_SECONDS)
    return status, bytes(tail)


def keep_end(stream: IO[bytes], tail: bytearray) -> None:
    """Reads a stream to its end and keeps the last part of it."""
    with stream:
        while part := os.read(stream.fileno(), KEPT_OUTPUT):
            tail += part
            del tail[:-KEPT_OUTPUT]


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ends a process and what it started: it is asked first, then killed."""
    if process.poll() is None:
        signal_group(process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
    signal_group(process, getattr(signal, "SIGKILL", signal.SIGTERM))
    process.wait()


def signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal to all that is left of a process's group."""
    if not hasattr(os, "killpg"):  # Windows has no process groups
        if process.poll() is None:
            process.kill()
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
