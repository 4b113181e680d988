"""Two tensors beside each other: by hand, and by `verify`'s figures."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from metal4conv.errors import UsageError
from metal4conv.verify.compare import compare_outputs
from metal4conv.verify.tolerance import Tolerance
from metal4conv.view.differences import compare, matched
from metal4conv.view.statistics import CHUNK

NAN, INF = math.nan, math.inf


def test_by_hand() -> None:
    expected = np.array([[1.0, 2.0], [4.0, -5.0]], np.float32)
    actual = np.array([[1.0, 2.5], [4.0, -4.0]], np.float32)
    found = compare(expected, actual)
    assert (found.elements, found.differing, found.not_finite) == (4, 2, 0)
    assert (found.max_absolute_error, found.max_relative_error) == (1.0, 0.25)
    assert found.rms_error == pytest.approx(math.sqrt(1.25 / 4))
    assert found.psnr == pytest.approx(20 * math.log10(9 / math.sqrt(1.25 / 4)))
    assert (found.worst, found.worst_expected, found.worst_actual) == ((1, 1), -5.0, -4.0)


def test_as_verify_has_it() -> None:
    random = np.random.default_rng(0)
    expected = random.standard_normal((3, 200, 700)).astype(np.float32)
    actual = (expected + random.standard_normal(expected.shape) * 1e-3).astype(np.float16)
    assert expected.size > CHUNK
    found = compare(expected, actual)
    other = compare_outputs("y", expected, actual, Tolerance(0.0, 1e-9))
    for name in ("max_absolute_error", "max_relative_error", "psnr", "rms_error"):
        assert getattr(found, name) == pytest.approx(getattr(other, name), rel=1e-9), name
    error = np.abs(actual.astype(np.float64) - expected)
    assert found.worst == np.unravel_index(int(np.argmax(error)), error.shape)


def test_nan_and_infinities() -> None:
    expected = np.array([NAN, INF, -INF, NAN, 1.0, INF, 0.0])
    actual = np.array([NAN, INF, INF, 1.0, 3.0, 0.0, 0.0])
    found = compare(expected, actual)
    assert (found.differing, found.not_finite, found.worst) == (4, 3, (2,))
    assert found.max_absolute_error == 2.0


def test_equal() -> None:
    found = compare(np.array([NAN, 1.0]), np.array([NAN, 1.0]))
    assert found.equal
    assert (found.worst, found.psnr, found.max_absolute_error) == (None, None, 0.0)


@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_nothing_to_compare(shape: tuple[int, ...]) -> None:
    found = compare(np.zeros(shape), np.ones(shape))
    assert (found.equal, found.max_absolute_error) == (True, None)


def test_types_may_differ() -> None:
    brain = np.array([0x3F80, 0x4000], np.uint16)  # 1 and 2
    found = compare(np.array([1, 3], np.int8), brain, "int8", "bfloat16")
    assert (found.differing, found.worst_expected, found.worst_actual) == (1, 3, 2.0)


def test_order_of_memory_does_not_matter() -> None:
    expected = np.arange(24.0).reshape(4, 6)
    actual = np.asfortranarray(expected.copy())
    actual[2, 5] += 1
    assert compare(expected, actual).worst == (2, 5)
    assert compare(expected.T, actual.T).worst == (5, 2)


def test_json_has_no_nan() -> None:
    document = compare(np.array([1e200, NAN]), np.array([-1e200, 0.0])).to_json()
    again = json.loads(json.dumps(document, allow_nan=False))
    assert (again["worst_expected"], again["rms_error"]) == ("NaN", "Infinity")


def test_leading_ones_do_not_matter() -> None:
    actual = np.zeros((3, 4))
    assert matched(np.zeros((1, 1, 3, 4)), actual, ("a", "b")).shape == (1, 1, 3, 4)
    with pytest.raises(UsageError, match=r"a has shape \(3, 4\), b has \(4, 3\)"):
        matched(np.zeros((4, 3)), actual, ("a", "b"))
