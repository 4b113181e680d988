"""Mutated packages: each is used, or refused with a message; no crash, no endless reading."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
