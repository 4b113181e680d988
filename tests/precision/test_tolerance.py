"""Distances from what is wanted, beside the figures that `verify` gives."""

from __future__ import annotations

import math

import numpy as np
import pytest

from metal4conv.errors import UsageError
from metal4conv.precision.tolerance import Distance, Wanted, distance, wanted_tolerance
from metal4conv.verify.compare import compare_outputs
from metal4conv.verify.tolerance import Tolerance


def test_psnr_as_verify_has_it() -> None:
    random = np.random.default_rng(0)
    expected = random.standard_normal((3, 5)).astype(np.float32)
    actual = expected + 0.01 * random.standard_normal((3, 5)).astype(np.float32)
    found = distance({"y": expected}, {"y": actual}, Wanted(50.0), {})
    compared = compare_outputs("y", expected, actual, Tolerance(1, 1))
    assert compared.psnr is not None
    assert found.psnr == pytest.approx(compared.psnr)
    assert found.ratio == pytest.approx(10 ** ((50 - compared.psnr) / 10))
    assert found.worst_error == compared.max_absolute_error


def test_the_worst_output_counts() -> None:
    one = np.float32([0, 1])
    found = distance({"a": one, "b": one}, {"a": one, "b": one + 0.1}, Wanted(), {})
    assert found.output == "b"
    assert not found.holds


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_never_near(broken: float) -> None:
    found = distance({"y": np.float32([0, 1])}, {"y": np.float32([broken, 1])}, Wanted(), {})
    assert math.isinf(found.ratio)
    assert found.reached(Wanted()) == 'NaN or infinities in "y"'


def test_the_same_infinity_is_no_error() -> None:
    both = {"y": np.float32([np.inf, 1, 2])}
    assert distance(both, both, Wanted(), {}).ratio == 0


def test_single_elements() -> None:
    expected, actual = {"y": np.float32([0, 100])}, {"y": np.float32([0.5, 101])}
    assert distance(expected, actual, Wanted(None, atol=0.5, rtol=0.01), {}).ratio == 1
    assert not distance(expected, actual, Wanted(None, atol=0.4, rtol=0.01), {}).holds
    assert not distance(expected, actual, Wanted(None, atol=0.0), {}).holds


def test_integers_are_equal_or_not() -> None:
    one = {"y": np.int32([1, 2])}
    assert distance(one, one, Wanted(), {}).holds
    assert not distance(one, {"y": np.int32([1, 3])}, Wanted(), {}).holds


def test_a_number_as_an_array_of_one() -> None:
    assert distance({"y": np.float32(3)}, {"y": np.float32([3])}, Wanted(), {}).holds


def test_a_constant_output_is_measured_by_the_golden_ones() -> None:
    expected, actual = {"y": np.full(4, 0.5, np.float32)}, {"y": np.full(4, 0.501, np.float32)}
    assert distance(expected, actual, Wanted(50.0), {"y": 1.0}).psnr == pytest.approx(60, abs=0.1)


def test_50_dB_unless_something_is_asked_for() -> None:
    assert wanted_tolerance(None, None, None) == Wanted(50.0)
    assert wanted_tolerance(None, 0.1, None) == Wanted(None, 0.1)
    with pytest.raises(UsageError, match="--atol -1: expected a number of at least 0"):
        wanted_tolerance(None, -1.0, None)


def test_what_was_reached_in_words() -> None:
    found = Distance(2.0, "y", 47.0, 0.25)
    assert found.reached(Wanted(50.0)) == 'PSNR 47.0 dB in "y"'
    assert found.reached(Wanted(None, atol=0.1)) == 'errors up to 0.25 in "y"'
