"""Inputs at the ends of their ranges."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.errors import UsageError
from metal4conv.frontends.source import SourceInput
from metal4conv.mil.program import TensorType
from metal4conv.precision.extremes import extreme_cases, value_range
from metal4conv.verify.golden import GoldenCase

FLOATS = SourceInput("x", TensorType("float32", (2, "w")), (-1.0, 0.3))
FREE = SourceInput("y", TensorType("float32", (3,)))
INDEX = SourceInput("i", TensorType("int64", (4,)), (0.0, 9.0))
PICTURE = SourceInput("p", TensorType("float32", (1, 3, 2, 2)))


def case(width: int) -> GoldenCase:
    return GoldenCase(
        {
            "x": np.zeros((2, width), np.float32),
            "y": np.full(3, 0.5, np.float32),
            "i": np.zeros(4, np.int64),
        },
        {"w": width},
    )


def test_ends_at_the_largest_sizes() -> None:
    cases = [case(4), case(64), case(8)]
    low, high, both = extreme_cases([FLOATS, FREE, INDEX], cases, {"x": "float16"}, 0)
    assert low.dimensions == high.dimensions == {"w": 64}
    assert (low.inputs["x"] == -1).all()
    assert (high.inputs["x"] == np.float32(np.float16(0.3))).all()
    assert set(np.unique(both.inputs["x"])) == {-1, np.float32(np.float16(0.3))}
    assert (low.inputs["i"] == 0).all()
    assert (high.inputs["i"] == 9).all()
    assert high.inputs["i"].dtype == np.int64
    for found in (low, high, both):
        np.testing.assert_array_equal(found.inputs["y"], cases[1].inputs["y"])


def test_no_ranges_no_cases() -> None:
    assert extreme_cases([FREE], [case(4)], {}, 0) == []


def test_ranges_that_golden_inputs_are_drawn_from() -> None:
    assert value_range(PICTURE) == (0, 1)
    assert value_range(FREE) is None
    assert value_range(SourceInput("b", TensorType("bool", (2,)))) is None
    assert value_range(SourceInput("n", TensorType("int32", (2,)))) is None


def test_ends_that_the_package_cannot_take() -> None:
    wide = SourceInput("x", TensorType("float32", (2, "w")), (0.0, 1e5))
    with pytest.raises(UsageError, match="the package takes float16"):
        extreme_cases([wide], [case(4)], {"x": "float16"}, 0)
