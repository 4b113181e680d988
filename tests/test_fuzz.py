"""Mutated packages: each is used, or refused with a message; no crash, no endless reading."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from metal4conv.errors import OutputError
from tests.fuzz import exercise
from tests.fuzz.__main__ import fault, faults

COUNT = 300
"""Seeds of a normal run. `python -m tests.fuzz FOLDER --count 10000` tries more."""


def test_mutated_packages(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", str(tmp_path / "sound"), "--count", str(COUNT)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        pytest.fail(
            f"{done.stdout}{done.stderr}\nto see one again:\n"
            "  python -m tests.fuzz build/fuzz --first SEED --count 1 --keep build/fuzzed",
            pytrace=False,
        )
    assert done.stdout == f"{COUNT} mutated packages, 0 faults\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (OutputError("not of a package"), "exit code 4: 'not of a package'"),
    ],
)
def test_faults_are_seen(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def use(package: Path) -> None:
        raise error

    monkeypatch.setattr(exercise, "read_only", use)
    assert said in fault(Path("net.mlpackage"), random.Random(0))


def test_ends_of_the_process_are_seen(tmp_path: Path) -> None:
    (tmp_path / "net.mlpackage").mkdir()  # with nothing to mutate, the child's own code fails
    ((seed, what),) = faults(tmp_path, 5, 1)
    assert seed == 5
    assert "the process ended with 1\n" in what
    assert "KeyError" in what
