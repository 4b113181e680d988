"""Reasons by what one operation takes and gives."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.mil.program import Operation
from metal4conv.precision.ranges import float16_reason, inner_reason

WIDE = np.full((1, 4096), 100, np.float32)
NARROW = np.full((1, 4096), 1, np.float32)
LAST = np.int32([-1])


def operation(type: str) -> Operation:
    return Operation(type, "y", {}, ())


def reason(type: str, x: np.ndarray, y: np.ndarray | None = None, **inputs: np.ndarray) -> str:
    outputs = {} if y is None else {"y": y}
    return float16_reason(operation(type), {"x": x, **inputs}, outputs) or ""


@pytest.mark.parametrize(
    ("type", "words"),
    [
        ("reduce_mean", "sums 4,096 elements to 4.1e+05 before it divides"),
        ("reduce_sum", "sums 4,096 elements to 4.1e+05"),
        ("reduce_sum_square", "sums 4,096 squares to 4.1e+07"),
        ("reduce_l2_norm", "sums 4,096 squares to 4.1e+07"),
        ("layer_norm", "sums 4,096 elements to 4.1e+05, beyond float16's 65,504, for the mean"),
        ("softplus", "exp(100.0)"),
        ("reduce_log_sum_exp", "exp(100.0)"),
    ],
)
def test_what_is_computed_inside(type: str, words: str) -> None:
    assert words in reason(type, WIDE, axes=LAST)
    assert reason(type, NARROW, axes=LAST) == ""


def test_the_variance_of_a_normalization() -> None:
    """Numbers that sum to nothing, whose squares do not."""
    x = np.tile(np.float32([100, -100]), 2048).reshape(1, 1, 4096) / 8
    assert "4,096 squares to 6.4e+05" in reason("layer_norm", x, axes=LAST)
    assert "for the variance" in reason("instance_norm", x)
    assert reason("layer_norm", x / 8, axes=LAST) == ""


def test_only_the_reduced_axes_count() -> None:
    x = np.full((4096, 8), 100, np.float32)
    assert reason("reduce_mean", x, axes=np.int32([1])) == ""
    assert "4,096 elements" in reason("reduce_mean", x, axes=np.int32([0]))
    assert "32,768 elements" in reason("reduce_mean", x)


def test_parts_of_a_sum_count_by_size() -> None:
    x = np.tile(np.float32([100, -100]), 2048).reshape(1, -1)
    assert reason("reduce_sum", x, np.zeros((1, 1), np.float32), axes=LAST)


def test_softplus_by_channel() -> None:
    x = np.full((1, 2, 4), 8, np.float32)
    beta = np.float32([1, 2])
    assert "exp(16.0)" in reason("softplus_parametric", x, beta=beta)
    assert reason("softplus_parametric", x, beta=beta / 2) == ""


def test_what_goes_in_and_comes_out() -> None:
    large = np.float32([1, -70_000])
    assert reason("relu", large) == "its input x reaches -7.0e+04, beyond float16's 65,504"
    assert reason("exp", np.float32([11]), large).startswith("its result reaches -7.0e+04")
    assert reason("relu", np.float32([np.inf, 1]), np.float32([np.inf, 1])) == ""


def test_a_mask_is_harmless_where_a_row_sees_something() -> None:
    lowest = np.finfo(np.float32).min
    assert reason("softmax", np.float32([[0, lowest], [lowest, 3]])) == ""
    assert "-3.4e+38" in reason("softmax", np.float32([[0, lowest], [lowest, lowest]]))
    assert "7.0e+04" in reason("softmax", np.float32([[0, 70_000]]))


def test_divisors_that_vanish() -> None:
    tiny = np.float32([1, 1e-9])
    one = np.float32(1)
    found = float16_reason(operation("real_div"), {"x": one, "y": tiny}, {})
    assert found == "it divides by numbers down to 1.0e-09, which are 0 in float16"
    assert "the inverse root" in reason("rsqrt", tiny)
    assert reason("rsqrt", tiny, epsilon=np.float32(1e-4)) == ""
    assert "the logarithm" in reason("log", tiny)
    assert reason("log", np.float32([0, 1])) == ""


def test_an_epsilon_that_vanishes() -> None:
    found = reason("layer_norm", NARROW, axes=LAST, epsilon=np.float32(1e-12))
    assert found == "its epsilon 1.0e-12 is below float16's smallest number 6e-08"


def test_nothing_is_said_of_what_is_not_known() -> None:
    assert inner_reason(operation("reduce_mean"), {}) is None
    assert inner_reason(operation("reduce_mean"), {"x": np.int32([70_000])}) is None
    assert float16_reason(operation("conv"), {}, {}) is None
    assert inner_reason(operation("reduce_mean"), {"x": np.zeros((0,), np.float32)}) is None
