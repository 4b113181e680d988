from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.errors import UnsupportedModel
from metal4conv.execute import elementwise_unary  # noqa: F401 (fills the table)
from metal4conv.execute.table import MIL_OPS


def run(name: str, *arguments: Any) -> Any:
    return MIL_OPS.lookup(name, 18)(*arguments)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        ("int32", [-3, 2, 2**31 - 1, -(2**31), 0]),
        ("int8", [-3, 2, 127, -128, 0]),
        ("uint16", [0, 2, 65535, 0, 0]),
    ],
)
def test_cast_from_float_saturates(dtype: str, expected: list[int]) -> None:
    x = torch.tensor([-3.9, 2.9, 1e20, -math.inf, math.nan])
    assert run("cast", x, dtype).to(torch.int64).tolist() == expected


def test_cast_of_large_integers_is_exact() -> None:
    x = torch.tensor([2**31 - 1, -(2**31)], dtype=torch.int32)
    assert run("cast", x, "int32").tolist() == x.tolist()


def test_cast_to_half_overflows() -> None:
    assert run("cast", torch.tensor([1e5]), "fp16").tolist() == [math.inf]


def test_cast_to_unknown() -> None:
    with pytest.raises(UnsupportedModel, match="fp13"):
        run("cast", torch.zeros(1), "fp13")


def test_sign_of_nan() -> None:
    found = run("sign", torch.tensor([math.nan, -0.0, -2.0]))
    assert math.isnan(found[0])
    assert found[1:].tolist() == [0, -1]


def test_clip_of_nan() -> None:
    assert math.isnan(run("clip", torch.tensor(math.nan), 0.0, 1.0).item())


def test_log_of_zero_is_finite() -> None:
    # 1e-45 is rounded to the smallest float32, 2 ** -149
    found = run("log", torch.zeros(1)).item()
    assert found == pytest.approx(-149 * math.log(2), rel=1e-6)


def test_inverse_adds_epsilon() -> None:
    assert run("inverse", torch.zeros(1)).item() == pytest.approx(1e4)
    assert run("rsqrt", torch.zeros(1)).item() == pytest.approx(1e6)


def test_exp2_of_integers_is_exact() -> None:
    x = torch.tensor([0, 3, 24, 30, -1, -40], dtype=torch.int32)
    assert run("exp2", x).tolist() == [1, 8, 2**24, 2**30, 0, 0]


@pytest.mark.parametrize(
    ("source", "target"),
    [("int32", "int8"), ("int32", "uint16"), ("uint16", "int16"), ("int16", "uint8")],
)
def test_cast_between_integers_wraps_around(source: str, target: str) -> None:
    x = np.array([0, 1, 127, 128, 255, 256, 32767], source)
    found = run("cast", torch.from_numpy(x), target).numpy()
    assert found.dtype == target
    np.testing.assert_array_equal(found, x.astype(target))


def test_cast_to_bool_is_not_zero() -> None:
    x = torch.tensor([0.0, -0.0, 0.25, math.nan, -math.inf])
    assert run("cast", x, "bool").tolist() == [False, False, True, True, True]


def test_cast_to_int64_stays_within_its_limits() -> None:
    found = run("cast", torch.tensor([math.inf, -math.inf, math.nan, 5.9]), "int64").tolist()
    assert found[0] > 2**62
    assert found[1] < -(2**62)
    assert found[2:] == [0, 5]


NUMPYS = {
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "atanh": np.arctanh,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "round": np.round,
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "square": np.square,
    "tan": np.tan,
    "tanh": np.tanh,
    "abs": np.abs,
}


@pytest.mark.parametrize("shape", [(), (0,), (1, 1), (2, 0, 3), (4, 5)])
@pytest.mark.parametrize("name", NUMPYS)
def test_functions_are_numpys(name: str, shape: tuple[int, ...]) -> None:
    x = np.asarray(np.random.default_rng(1).uniform(0, 0.9, shape), np.float32)
    expected = np.asarray(NUMPYS[name](x))
    found = run(name, torch.from_numpy(x)).numpy()
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(found, expected, rtol=2e-6)


def test_functions_outside_of_their_domain_are_nan() -> None:
    for name in ("acos", "asin", "atanh", "sqrt", "log"):
        assert math.isnan(run(name, torch.tensor(-2.0)).item()), name


def test_threshold_of_integers() -> None:
    x = torch.tensor([-3, 2, 9], dtype=torch.int32)
    found = MIL_OPS.lookup("threshold", 18)(x, 2)
    assert (found.tolist(), found.dtype) == ([2, 2, 9], torch.int32)
