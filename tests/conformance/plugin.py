"""A pytest plugin: coremltools' tests take this machine for a Mac, and the executor predicts.

The suite compares predictions on macOS only. The plugin answers "yes" where it asks for macOS,
puts the executor in the place of Core ML, notes for each test whether it reached a prediction, and
writes one line of JSON a test to the file that `CONFORMANCE_LOG` names.

Each test draws its inputs from generators seeded with its own name, so that the result of a test
does not depend on which others run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conformance import rounding
from tests.conformance.keras2 import speak_keras2

SECONDS = 240
"""A test that takes longer has failed."""

NAME = pytest.StashKey[str]()
"""Where a test keeps the name that its result is written under."""

reached: list[bool] = []
"""One entry for each prediction of the running test."""


def hash_of(name: str) -> int:
    """A number for a test's name that is the same everywhere."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")


def short_name(nodeid: str) -> str:
    """A test's name that is the same wherever coremltools is installed, and in each process.

    >>> short_name("../lib/site-packages/coremltools/converters/mil/test_a.py::TestA::test_b[1]")
    'converters/mil/test_a.py::TestA::test_b[1]'
    >>> short_name("test_a.py::test_b[op=<function minimum at 0x7f9238a4bc40>]")
    'test_a.py::test_b[op=<function minimum>]'
    """
    path, separator, rest = nodeid.partition("::")
    return path.rpartition("coremltools/")[2] + separator + re.sub(" at 0x[0-9a-f]+", "", rest)


def names_of(items: list[pytest.Item]) -> list[str]:
    """The short names of all tests; of those that share one, the later ones get a number."""
    seen: Counter[str] = Counter()
    names = []
    for item in items:
        name = short_name(item.nodeid)
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def pytest_configure(config: pytest.Config) -> None:
    """Before any test module is imported: macOS is claimed and the executor put in place."""
    import coremltools
    import coremltools.models.model

    import metal4conv
    from metal4conv.frontends import prediction

    coremltools._logger.setLevel("ERROR")
    claim_macos()
    if "tensorflow" in sys.modules:
        speak_keras2()
    metal4conv.enable_predict()
    is_control = os.environ.get("CONFORMANCE_CONTROL") == "zeros"

    class Noted(coremltools.models.model._MLModelProxy):  # type: ignore[name-defined]
        def predict(self, data: Mapping[str, Any], state: Any = None) -> dict[str, Any]:
            reached.append(True)
            outputs = super().predict(data, state)
            rounding.note(self.executor, outputs)
            return (
                {name: zeros(value) for name, value in outputs.items()} if is_control else outputs
            )

        def newState(self) -> prediction.StateProxy:
            reached.append(True)
            return super().newState()

    coremltools.models.model._MLModelProxy = Noted
    if not is_control:
        np.testing.assert_allclose = rounding.tolerant(np.testing.assert_allclose)


def claim_macos() -> None:
    """Answers the suite's questions after the system, in each module that holds them."""
    answers = {
        "_IS_MACOS": True,
        "_is_macos": lambda: True,
        "_macos_version": lambda: (15, 4),
        "ct_is_macos": lambda: True,
    }
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "coremltools":
            for attribute, answer in answers.items():
                if attribute in vars(module):
                    setattr(module, attribute, answer)


def zeros(value: Any) -> Any:  # Any: whatever a prediction holds
    """The control's answer: of the right kind and shape, and wrong."""
    if isinstance(value, np.ndarray):
        return np.zeros_like(value)
    return type(value)() if isinstance(value, (dict, str, int, float)) else value


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps this shard's part of the sample, without what was run before."""
    one_in = int(os.environ.get("CONFORMANCE_ONE_IN", "1"))
    shard, shards = map(int, os.environ.get("CONFORMANCE_SHARD", "0/1").split("/"))
    log = os.environ.get("CONFORMANCE_LOG")
    known = finished(Path(log)) if log else set()
    kept = []
    for item, name in zip(items, names_of(items), strict=True):
        number = hash_of(name)
        is_sampled = number % one_in == 0 and (number // one_in) % shards == shard
        if is_sampled and name not in known and not is_foreign(name):
            kept.append(item)
            item.stash[NAME] = name
    items[:] = kept


def is_foreign(name: str) -> bool:
    """Whether a test is about the old format for neural networks, which the executor leaves out."""
    return "neuralnetwork" in name


def finished(log: Path) -> set[str]:
    """The tests that a log, or one of the same suite's cut into other shards, has a result of."""
    suite = log.name.partition("-")[0]
    return {
        json.loads(line)["test"]
        for each in log.parent.glob(f"{suite}-*.jsonl")
        for line in each.read_text("utf-8").splitlines()
    }


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """One line of JSON for each file of tests that cannot be read: its tests are missing."""
    log = os.environ.get("CONFORMANCE_LOG")
    if log and report.failed:
        last = [line for line in report.longreprtext.splitlines() if line.startswith("E ")][-1:]
        line = {"file": short_name(report.nodeid), "why": "".join(last).removeprefix("E").strip()}
        with Path(f"{log}.uncollected").open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Seeds the generators, sets the clock, and notes which test is running."""
    for notes in (reached, rounding.halves, rounding.excused):
        notes.clear()
    name = item.stash[NAME]
    number = hash_of(name) % 2**32
    random.seed(number)
    np.random.seed(number)
    for module in ("torch", "tensorflow"):
        if module in sys.modules:
            loaded = sys.modules[module]
            (loaded.manual_seed if module == "torch" else loaded.random.set_seed)(number)
    running = os.environ.get("CONFORMANCE_LOG")
    if running:
        Path(running + ".running").write_text(name, "utf-8")
    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(SECONDS)
    try:
        return (yield)
    finally:
        signal.alarm(0)


def give_up(*_: object) -> None:
    raise TimeoutError(f"not finished after {SECONDS} s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Iterator[pytest.TestReport]:
    """One line of the log for each test that came to its body, or failed before it."""
    report = yield
    log = os.environ.get("CONFORMANCE_LOG")
    if log and (report.when == "call" or (report.when == "setup" and not report.passed)):
        line = {
            "test": item.stash[NAME],
            "outcome": outcome_of(report),
            "reached": bool(reached),
            "seconds": round(report.duration, 2),
            "why": why(report, call),
        }
        with Path(log).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
    return report


def outcome_of(report: pytest.TestReport) -> str:
    """What became of a test.

    passed, failed, skipped, xfailed (coremltools itself expects the failure), or rounded: out of
    a tolerance that is finer than float16, as `rounding` says.
    """
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "passed"
    return "rounded" if report.passed and rounding.excused else report.outcome


def why(report: pytest.TestReport, call: pytest.CallInfo[None]) -> str:
    """What a test failed with, short enough for a table."""
    if call.excinfo is None:
        return "; ".join(rounding.excused[:1])
    text = " ".join(str(call.excinfo.value).split())
    return f"{call.excinfo.typename}: {text[:300]}"
