"""A source whose values, one by one, lead to something else than it gives as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.debug.debugging import debug
from metal4conv.mil.correspondence import SourceValue
from metal4conv.report import Report
from tests.debug.test_origins import ROWS, Source, X, package_of


@dataclass
class Whole(Source):
    """As a whole it gives `change` times what its values say."""

    change: float = 1.0
    more: bool = False
    """Whether a last operation takes the sine."""
    last: str = "y"
    outputs: tuple[str, ...] = ("y",)

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        last = "sin" if self.more else self.last
        return {"y": self.trace(inputs, {last})[last] * np.float32(self.change)}

    def values(self) -> tuple[SourceValue, ...]:
        return (*ROWS, SourceValue("sin", "Sin", "net", "net.py:8")) if self.more else tuple(ROWS)

    def trace(self, inputs: Any, names: Any) -> dict[str, np.ndarray]:
        wide = {name: array.astype(np.float32) for name, array in inputs.items()}
        found = super().trace(wide, {"y", *names} - {"sin", "Transpose_1"})
        return {**found, "sin": np.sin(found["y"])} if "sin" in names else found


class Scaled(Whole):
    """Its transpose scales, too, and nothing in the package holds what that gives."""

    def trace(self, inputs: Any, names: Any) -> dict[str, np.ndarray]:
        found = super().trace(inputs, {"Mul_0", *names})
        t = np.tanh(0.5 * found["Mul_0"])
        return {**found, "Tanh_2": t, "Square_3": t**2, "y": t**2 + 1}


def debugged(folder: Path, factor: float, change: float, *, more: bool = False) -> Report:
    """What `debug` says; the source squares, the package takes a power of `factor`."""
    np.savez(folder / "x.npz", **X)
    source: Any = Whole(change=change, more=more)
    package = package_of(folder / "net.mlpackage", factor)
    return debug(package.path, source, inputs_npz=folder / "x.npz")


def codes(report: Report) -> list[tuple[str, str | None]]:
    return [(item.code, item.where) for item in report.findings if item.severity == "failure"]


@pytest.mark.parametrize("change", [1.5, np.nan])
def test_float16_is_not_blamed_for_a_wrong_decomposition(tmp_path: Path, change: float) -> None:
    report = debugged(tmp_path, 2.0, change)
    assert codes(report) == [("source-differs", "y")]
    assert report.exit_code == 1
    assert report.data["verdict"] == "differs"


def test_a_wrong_operation_is_named_beside_it(tmp_path: Path) -> None:
    found = codes(debugged(tmp_path, 3.0, 1.5))
    assert found == [("operation-differs", "s"), ("source-differs", "y")]


def test_a_source_that_is_one_with_itself(tmp_path: Path) -> None:
    assert codes(debugged(tmp_path, 3.0, 1.0)) == [("operation-differs", "s")]
    (tmp_path / "right").mkdir()
    assert codes(debugged(tmp_path / "right", 2.0, 1.0)) == []


def test_an_operation_of_the_source_that_the_package_has_not_at_its_end(tmp_path: Path) -> None:
    report = debugged(tmp_path, 2.0, 1.0, more=True)
    assert codes(report) == [("output-differs", "y")]
    assert "output is sin (Sin), in net, net.py:8" in report.findings[0].message


def test_an_output_that_is_another_value_of_the_package(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **X)
    source: Any = Whole(last="Mul_0")
    package = package_of(tmp_path / "net.mlpackage", 2.0)
    report = debug(package.path, source, inputs_npz=tmp_path / "x.npz")
    assert codes(report) == [("output-differs", "y")]
    assert "the package has that as m" in report.findings[0].message


def test_what_the_source_has_before_a_cause_and_the_package_has_not(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", **X)
    source: Any = Scaled()
    package = package_of(tmp_path / "net.mlpackage", 2.0)
    report = debug(package.path, source, inputs_npz=tmp_path / "x.npz")
    first = next(item for item in report.findings if item.code == "operation-differs")
    assert "has no value of what comes before it there: Transpose_1 (Transpose)" in first.message
