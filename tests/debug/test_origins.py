"""The source's own values, as far as they are known, feed the parts of a package."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.debug.case import judge, write_case
from metal4conv.debug.check import ExpectationCheck
from metal4conv.debug.origins import package_reference, source_reference
from metal4conv.debug.reduction import reduce_package
from metal4conv.debug.reference import Recorded
from metal4conv.debug.search import search
from metal4conv.debug.values import RunValues
from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.execute.interpreter import Executor
from metal4conv.frontends.source import SourceInput
from metal4conv.mil.correspondence import (
    KEY,
    SourceValue,
    correspondence_text,
    make_correspondence,
)
from metal4conv.mil.cutting import Cut
from metal4conv.mil.dataflow import dataflow
from metal4conv.mil.package import Package
from metal4conv.mil.program import TensorType
from metal4conv.report import Report
from metal4conv.verify.verification import verify
from tests.debug.chains import Network

ROWS = [
    SourceValue("Mul_0", "Mul", "net", "net.py:3"),
    SourceValue("Transpose_1", "Transpose", "net", "net.py:4"),
    SourceValue("Tanh_2", "Tanh", "net", "net.py:5"),
    SourceValue("Square_3", "Square", "net", "net.py:6"),
    SourceValue("y", "Add", "net", "net.py:7"),
]
HELD = {"m": "Mul_0", "t": "Tanh_2", "s": "Square_3", "y": "y"}
"""What the package's values hold; nothing holds the transpose."""


@dataclass
class Source:
    """y = square(tanh(factor * x)) + 1 with the channels last, in float32."""

    factor: float = 2.0
    framework: str = "tensorflow"
    kind: str = "graph"
    name: str = "net"
    files: tuple[Path, ...] = ()

    @property
    def inputs(self) -> tuple[SourceInput, ...]:
        return (SourceInput("x", TensorType("float32", (1, 2, 3, 4))),)

    def values(self) -> tuple[SourceValue, ...]:
        return tuple(ROWS)

    def trace(
        self, inputs: Mapping[str, np.ndarray], names: Collection[str]
    ) -> dict[str, np.ndarray]:
        assert inputs["x"].dtype == np.float32
        m = inputs["x"] * self.factor
        t = np.tanh(m)
        found = {"Mul_0": m, "Tanh_2": t, "Square_3": t**2, "y": t**2 + 1}
        return {name: found[name] for name in names}


def package_of(path: Path, factor: float, *, corresponds: bool = True) -> Package:
    """The same with the channels first in the middle, in float16."""
    net = Network("float16")
    x = net.input("x", "float16", (1, 2, 3, 4))
    net.add("mul", "m", (1, 2, 3, 4), x=x, y=2.0)
    net.add("transpose", "first", (1, 4, 2, 3), x="m", perm=np.array([0, 3, 1, 2]))
    net.add("tanh", "t", (1, 4, 2, 3), x="first")
    net.add("pow", "s", (1, 4, 2, 3), x="t", y=factor)
    net.add("transpose", "last", (1, 2, 3, 4), x="s", perm=np.array([0, 2, 3, 1]))
    net.add("add", "y", (1, 2, 3, 4), x="last", y=1.0)
    net.output("y", "float16")
    if corresponds:
        net.metadata(KEY, correspondence_text(make_correspondence(ROWS, HELD)))
    return net.save(path)


X = {"x": np.random.default_rng(0).uniform(0.1, 1, (1, 2, 3, 4)).astype(np.float16)}


def reduced(package: Package, source: Any, folder: Path) -> Report:
    """The report of a reduction. (Any: not all of a source is needed.)"""
    reference = source_reference(package, source, None)
    return reduce_package(package.path, inputs=X, output=folder, reference=reference)


def test_a_part_is_fed_with_the_sources_values(tmp_path: Path) -> None:
    package = package_of(tmp_path / "net.mlpackage", 3.0)
    report = reduced(package, Source(), tmp_path / "case")
    (row,) = report.data["parts"]
    assert row["operation"] == "s"
    assert row["source"] == "Square_3 (Square), in net, net.py:6"
    with np.load(tmp_path / "case" / "net-reduced.inputs.npz") as inputs:
        expected = np.tanh(X["x"].astype(np.float32) * 2).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(inputs["t"], expected.astype(np.float16))
    assert not verify(tmp_path / "case" / "net-reduced.mlpackage").passed
    assert "net.py:6" in (tmp_path / "case" / "README.md").read_text()


def test_a_search_beside_the_source(tmp_path: Path) -> None:
    package = package_of(tmp_path / "net.mlpackage", 3.0)
    source: Any = Source()
    report = search(
        package.path,
        state=tmp_path / "state",
        inputs=X,
        reference=source_reference(package, source, None),
    )
    assert report.data["found"][0]["operation"] == "s"
    assert report.data["judge"] == "the expected outputs: tensorflow graph net"


def test_a_factor_of_the_source_that_the_package_has_not(tmp_path: Path) -> None:
    package = package_of(tmp_path / "net.mlpackage", 2.0)
    report = reduced(package, Source(factor=2.5), tmp_path / "case")
    assert [row["operation"] for row in report.data["parts"]] == ["m"]


def test_a_package_that_gives_what_its_source_gives(tmp_path: Path) -> None:
    package = package_of(tmp_path / "net.mlpackage", 2.0)
    report = reduced(package, Source(), tmp_path / "case")
    assert report.data["verdict"] == "does not fail"
    assert report.exit_code == 1


def test_without_correspondence_there_is_nothing_to_feed(tmp_path: Path) -> None:
    package = package_of(tmp_path / "net.mlpackage", 3.0, corresponds=False)
    source: Any = Source()
    source.values = tuple
    with pytest.raises(UnsupportedModel, match=r"no value of .* is known to correspond"):
        reduced(package, source, tmp_path / "case")


def values_of(package: Package) -> RunValues:
    return RunValues(Executor.from_package(package), X)


def test_what_overflows_in_the_package_is_not_fed(tmp_path: Path) -> None:
    values = values_of(package_of(tmp_path / "net.mlpackage", 2.0))
    right = {"t": np.full((1, 4, 2, 3), 1e6, np.float32), "m": np.ones((1, 2, 3, 4), np.float32)}
    reference = Recorded(values, right, "right")
    assert reference.knows("t")
    assert not reference.can_feed("t")
    assert reference.can_feed("m")
    assert reference.can_feed("x")
    assert not reference.knows("s")


def test_a_value_of_another_shape_is_not_known(tmp_path: Path) -> None:
    values = values_of(package_of(tmp_path / "net.mlpackage", 2.0))
    reference = Recorded(values, {"t": np.ones((1, 2, 3, 4), np.float32)}, "right")
    assert not reference.knows("t")


def test_a_package_without_such_an_output_is_no_reference(tmp_path: Path) -> None:
    values = values_of(package_of(tmp_path / "net.mlpackage", 2.0))
    net = Network("float16")
    net.output(
        net.add("relu", "z", (1, 2, 3, 4), x=net.input("x", "float16", (1, 2, 3, 4))), "float16"
    )
    other = net.save(tmp_path / "other.mlpackage")
    with pytest.raises(UsageError, match="has no value with the name and shape of an output"):
        package_reference(other.path)(values)


def test_values_that_memory_has_no_room_for_are_computed_again(tmp_path: Path) -> None:
    package = package_of(tmp_path / "net.mlpackage", 2.0)
    executor = Executor.from_package(package)
    roomy, narrow = RunValues(executor, X), RunValues(executor, X, kept_bytes=60)
    assert {"m", "first", "y"} <= roomy.kept.keys()
    assert narrow.kept.keys() == {"x", "m"}
    names = ["x", "m", "t", "y"]
    for name, array in narrow.get(names).items():
        np.testing.assert_array_equal(array, roomy.get([name])[name])
    assert narrow.shapes == roomy.shapes


def cancelling(path: Path, subtrahend: str) -> Package:
    """y = b - a (or b - x) where b is a little more than a, in float16."""
    net = Network("float16")
    x = net.input("x", "float16", (1, 2, 3, 4))
    net.add("mul", "a", (1, 2, 3, 4), x=x, y=3.0)
    net.add("mul", "b", (1, 2, 3, 4), x=x, y=3.001953125)
    net.add("sub", "y", (1, 2, 3, 4), x="b", y=subtrahend)
    net.output("y", "float16")
    return net.save(path)


@pytest.mark.parametrize(("subtrahend", "verdict"), [("a", "good"), ("x", "bad")])
def test_what_the_rounding_of_inputs_does_is_no_fault(
    subtrahend: str, verdict: str, tmp_path: Path
) -> None:
    package = cancelling(tmp_path / "net.mlpackage", subtrahend)
    values, flow = values_of(package), dataflow(package.function())
    wide = {"x": X["x"].astype(np.float32)}
    right = {"a": wide["x"] * 3, "b": wide["x"] * np.float32(3.001953125)}
    right["y"] = right["b"] - right["a"]
    cut = Cut(frozenset([flow.makers["y"]]), ("y",))
    case = write_case(
        tmp_path, "part", package, flow, cut, Recorded(values, right, ""), values.shapes
    )
    assert [item.severity for item in judge(case).findings][:1] == ["failure"]
    assert ExpectationCheck()(case).verdict == verdict
