"""`python -m tests.fuzz.commands`: runs command lines, each in a process with little memory.

A line of the input is a list of arguments as JSON; the answer, a line too, has the exit code
(negative for a signal), and what was written to stdout and stderr. The libraries are loaded once:
each command runs in a fork, which takes hundredths of a second instead of two.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
from importlib import import_module

from metal4conv import cli
from tests.fuzz.limits import SECONDS, limit_memory

LIBRARIES = [
    "metal4conv.commands.rendering",
    "metal4conv.execute.interpreter",
    "metal4conv.frontends.source",
    "metal4conv.inspection",
    "metal4conv.layout.manifest",
    "metal4conv.reshaping",
    "metal4conv.running",
    "metal4conv.verify.verification",
]
"""What the commands import when they run."""


def run_limited(arguments: list[str]) -> dict[str, int | str]:
    """A command's exit code and what it wrote."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        child = os.fork()
        if child == 0:
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr.fileno(), 2)
            limit_memory()
            signal.alarm(SECONDS)
            try:
                code = cli.run(arguments)
            except BaseException as error:
                code = 70
                sys.excepthook(type(error), error, error.__traceback__)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        status = os.waitpid(child, 0)[1]
        found: dict[str, int | str] = {"code": os.waitstatus_to_exitcode(status)}
        for name, file in (("stdout", stdout), ("stderr", stderr)):
            file.seek(0)
            found[name] = file.read().decode(errors="replace")
    return found


def main() -> None:
    for name in LIBRARIES:
        import_module(name)
    for line in sys.stdin:
        print(json.dumps(run_limited(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
