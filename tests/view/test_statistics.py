"""Figures of tensors: worked out by hand, and beside numpy's own."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from metal4conv.view.statistics import CHUNK, Histogram, statistics

NAN, INF = math.nan, math.inf


def test_by_hand() -> None:
    # finite: 1, 3, 0, -0, 1e-40 (denormal in float32), 1e-5 (below float16), 70000 (beyond it)
    array = np.array([[1, 3, NAN, INF, -INF], [0, -0.0, 1e-40, 1e-5, 70000]], np.float32)
    found = statistics(array)
    assert (found.dtype, found.shape) == ("float32", (2, 5))
    assert (found.nan, found.inf, found.zero, found.denormal) == (1, 2, 2, 1)
    assert (found.beyond_float16, found.below_float16) == (1, 2)
    assert (found.min, found.max, found.constant) == (0.0, 70000.0, False)
    assert found.mean == pytest.approx(70004.00001 / 7)


@pytest.mark.parametrize(
    ("dtype", "normal", "denormal"),
    [
        ("float16", 2.0**-14, 2.0**-24),
        ("float32", 2.0**-126, 2.0**-149),
        ("float64", 2.0**-1022, 5e-324),
    ],
)
def test_denormal_is_what_the_own_type_says(dtype: str, normal: float, denormal: float) -> None:
    found = statistics(np.array([normal, denormal, -denormal, 0, 1], dtype))
    assert (found.denormal, found.zero) == (2, 1)


def test_denormal_of_types_that_numpy_lacks() -> None:
    # 1, the smallest normal number, the largest denormal one, the smallest one, zero
    brain = np.array([0x3F80, 0x0080, 0x007F, 0x8001, 0], np.uint16)
    assert (statistics(brain, "bfloat16").denormal, statistics(brain, "bfloat16").max) == (2, 1.0)
    small = np.array([0x38, 0x08, 0x07, 0x81, 0], np.uint8)  # float8_e4m3fn
    found = statistics(small, "float8_e4m3fn")
    assert (found.denormal, found.zero, found.max, found.min) == (2, 1, 1.0, -(2.0**-9))


def test_bfloat16_of_a_package_that_gives_numpy_the_type() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="comes with other packages")
    found = statistics(np.array([1.5, NAN, -2.0], ml_dtypes.bfloat16))
    assert (found.dtype, found.min, found.max, found.nan) == ("bfloat16", -2.0, 1.5, 1)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "uint64"])
def test_integers(dtype: str) -> None:
    limits = np.iinfo(dtype)
    found = statistics(np.array([limits.min, 0, limits.max], dtype))
    assert (found.min, found.max) == (limits.min, limits.max)  # exact, also beyond 2**53
    assert isinstance(found.max, int)
    assert (found.nan, found.inf, found.denormal, found.beyond_float16) == (0, 0, 0, 0)


def test_bool() -> None:
    found = statistics(np.array([True, False, True]))
    assert (found.min, found.max, found.zero, found.mean) == (0, 1, 1, pytest.approx(2 / 3))
    assert found.histogram == Histogram((-0.5, 0.5, 1.5), (1, 2))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
def test_beside_numpy(dtype: str) -> None:
    random = np.random.default_rng(0)
    array = (random.standard_normal((5, 300, 400)) * 50 + 7).astype(dtype)
    assert array.size > 2 * CHUNK
    found = statistics(array)
    assert found.min == array.min()
    assert found.max == array.max()
    assert found.mean == pytest.approx(array.mean(dtype=np.float64), rel=1e-12)
    assert found.std == pytest.approx(array.std(dtype=np.float64), rel=1e-12)


def test_histogram_counts_what_lies_between_the_edges() -> None:
    array = np.random.default_rng(1).random(10_000)
    found = statistics(np.append(array, [NAN, INF])).histogram
    assert found is not None
    counts, edges = np.histogram(array, 32)
    np.testing.assert_allclose(found.edges, edges, rtol=1e-12)
    assert found.counts == tuple(counts)
    assert found.edges[0] == array.min()
    assert found.edges[-1] == array.max()


def test_each_integer_of_a_small_range_has_its_bin() -> None:
    found = statistics(np.array([3, 5, 5, -1], np.int8)).histogram
    assert found is not None
    assert found.edges == (-1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5)
    assert found.counts == (1, 0, 0, 0, 1, 0, 2)


@pytest.mark.parametrize(
    ("values", "constant"),
    [([2.5, 2.5], True), ([2.5], False), ([2.5, NAN], False), ([NAN, NAN], False), ([], False)],
)
def test_constant(values: list[float], constant: bool) -> None:
    assert statistics(np.array(values)).constant == constant


def test_constant_has_one_bin() -> None:
    found = statistics(np.full(5, -0.1))
    assert (found.mean, found.std) == (-0.1, 0.0)
    assert found.histogram == Histogram((-0.1, -0.1), (5,))


@pytest.mark.parametrize("array", [np.zeros((0, 3), np.float32), np.full(3, NAN), np.array([])])
def test_nothing_finite(array: np.ndarray) -> None:
    found = statistics(array)
    assert (found.min, found.max, found.mean, found.std, found.histogram) == (None,) * 5


def test_scalar() -> None:
    found = statistics(np.array(3.5))
    assert (found.shape, found.min, found.mean) == ((), 3.5, 3.5)


@pytest.mark.parametrize("scale", [1e308, 5e-324, 1e-310])
def test_the_ends_of_float64(scale: float) -> None:
    found = statistics(np.array([-scale, 0, scale]))
    assert (found.mean, found.min, found.max) == (0.0, -scale, scale)
    assert found.std == pytest.approx(scale * (2 / 3) ** 0.5, rel=0.3 if scale == 5e-324 else 1e-9)
    assert found.histogram is not None
    assert sum(found.histogram.counts) == 3


def test_strides_of_a_view_do_not_matter() -> None:
    whole = np.arange(600, dtype=np.float32).reshape(20, 30)
    found, copied = statistics(whole[::2, 3:20].T), statistics(whole[::2, 3:20].T.copy())
    assert found == copied


def test_json_has_no_nan() -> None:
    document = statistics(np.array([NAN, INF], np.float16)).to_json()
    assert json.loads(json.dumps(document, allow_nan=False))["nan"] == 1


def test_text_has_no_figures() -> None:
    with pytest.raises(TypeError, match="text"):
        statistics(np.array(["cat"]))
