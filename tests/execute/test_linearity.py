"""Loading and running take time in proportion to the number of operations."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.execute.interpreter import load
from tests.bench.programs import long_program

KINDS = ("chain", "blocks", "loop")
X = {"x": np.zeros(4, np.float32)}


def calls(work: Callable[[], Any]) -> int:
    """How many functions, Python's and C's, are called while `work` runs."""
    count = 0

    def see(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(see)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def cpu_seconds(work: Callable[[], Any]) -> float:
    """The least processor time of three runs."""
    times = []
    for _ in range(3):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


@pytest.mark.parametrize("kind", KINDS)
def test_every_addition_of_a_long_program_counts(kind: str, tmp_path: Path) -> None:
    net = load(long_program(tmp_path / "net.mlpackage", 500, kind))
    assert net.predict(X)["y"].tolist() == [500.0] * 4


@pytest.mark.parametrize("kind", KINDS)
def test_calls_grow_with_the_number_of_operations(kind: str, tmp_path: Path) -> None:
    found = []
    for count in (20, 200, 800):
        path = long_program(tmp_path / f"{count}.mlpackage", count, kind)
        net = load(path)
        net.predict(X)  # what happens once has happened
        found.append((calls(lambda path=path: load(path)), calls(lambda net=net: net.predict(X))))
    few, some, many = found
    for name, a, b, c in zip(("load", "predict"), few, some, many, strict=True):
        # from 200 to 800 operations should add 600 / 180 of what 20 to 200 added
        growth = (c - b) / (b - a)
        assert growth < 600 / 180 * 1.2, f"{name}: {a}, {b}, {c} calls for 20, 200, 800 operations"


@pytest.mark.parametrize("kind", KINDS)
def test_time_grows_with_the_number_of_operations(kind: str, tmp_path: Path) -> None:
    # one call in C, such as copying all names, counts once however long it takes
    times = []
    for count in (500, 8000):
        path = long_program(tmp_path / f"{count}.mlpackage", count, kind)
        net = load(path)
        net.predict(X)
        load_time = cpu_seconds(lambda path=path: load(path))
        times.append((load_time, cpu_seconds(lambda net=net: net.predict(X))))
    for name, short, long in zip(("load", "predict"), *times, strict=True):
        assert long < 16 * 3 * short, f"{name}: {short:.3f} s for 500, {long:.3f} s for 8,000"
