"""Wall time and memory of processes, as ratios to a peer measured in the same run."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

PASS = [sys.executable, "-c", "pass"]
CLI = [sys.executable, "-m", "metal4conv"]
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
"""An installed package has its byte code; without it every start compiles the sources anew."""


@dataclass(frozen=True)
class Row:
    """A figure, its peer and the budget, all as text, and whether the budget holds."""

    name: str
    figure: str
    budget: str
    holds: bool


def seconds(command: Sequence[str]) -> float:
    """Wall time of one run of a command."""
    start = time.perf_counter()
    null = subprocess.DEVNULL
    subprocess.run(command, check=True, stdout=null, stderr=null, env=ENVIRONMENT)
    return time.perf_counter() - start


def interleaved(commands: Sequence[Sequence[str]], repeats: int) -> list[float]:
    """The median time of each command; they take turns, so that noise hits all of them."""
    times = [[seconds(command) for command in commands] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def peak_megabytes(command: Sequence[str]) -> float:
    """Peak resident memory of a command."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command],
        check=True,
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout) * unit / 1e6


def show(rows: Sequence[Row]) -> bool:
    """Prints the rows; whether all budgets hold."""
    for row in rows:
        mark = "ok  " if row.holds else "MISS"
        print(f"{mark} {row.name:52} {row.figure:44} budget {row.budget}", flush=True)
    return all(row.holds for row in rows)


Subject = Callable[[], list[Row]]
