from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.execute import elementwise_binary  # noqa: F401 (fills the table)
from metal4conv.execute.table import MIL_OPS


def run(name: str, x: Any, y: Any) -> Any:
    return MIL_OPS.lookup(name, 18)(x, y)


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_division_has_pythons_signs(dtype: torch.dtype) -> None:
    for x, y in itertools.product((-7, -4, 0, 4, 7), (-2, 3)):
        first, second = torch.tensor(x, dtype=dtype), torch.tensor(y, dtype=dtype)
        assert run("floor_div", first, second).item() == x // y
        assert run("mod", first, second).item() == x % y
        assert run("floor_div", first, second).dtype == dtype


def test_real_div_of_integers_keeps_the_fraction() -> None:
    found = run("real_div", torch.tensor([2**31 - 1, -7]), torch.tensor([1, 2]))
    assert found.tolist() == [2**31 - 1, -3.5]


def test_integers_wrap_around() -> None:
    x = torch.tensor([2**31 - 1], dtype=torch.int32)
    assert run("add", x, torch.tensor([1], dtype=torch.int32)).tolist() == [-(2**31)]


def test_comparisons_give_bool() -> None:
    x, y = torch.tensor([1.0, math.nan]), torch.tensor([[1.0], [2.0]])
    for name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
        assert run(name, x, y).dtype == torch.bool
    assert run("not_equal", x, y).tolist() == [[False, True], [True, True]]


def test_maximum_of_nan() -> None:
    assert math.isnan(run("maximum", torch.tensor(math.nan), torch.tensor(1.0)).item())


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


def test_an_integer_divided_by_zero_is_zero_as_numpy_folds_it() -> None:
    x, zero = np.array([5, -5, 0], np.int32), np.zeros(3, np.int32)
    with np.errstate(divide="ignore"):
        expected = {"floor_div": x // zero, "mod": x % zero}
    for name, values in expected.items():
        found = run(name, torch.from_numpy(x), torch.from_numpy(zero))
        assert found.dtype == torch.int32
        assert found.tolist() == values.tolist() == [0, 0, 0]
        assert run(name, ints(7, 9), torch.tensor(0, dtype=torch.int32)).tolist() == [0, 0]


def test_the_smallest_integer_divided_by_minus_one_wraps_around() -> None:
    assert run("floor_div", ints(-(2**31)), ints(-1)).tolist() == [-(2**31)]
    assert run("mod", ints(-(2**31)), ints(-1)).tolist() == [0]


def test_real_division_by_zero() -> None:
    x = torch.tensor([1.0, -1.0, 0.0])
    for name in ("real_div", "floor_div"):
        found = run(name, x, torch.zeros(3)).tolist()
        assert found[:2] == [math.inf, -math.inf]
        assert math.isnan(found[2])
    assert all(map(math.isnan, run("mod", x, torch.zeros(3)).tolist()))


def test_integers_to_a_negative_power_are_cut_to_zero() -> None:
    assert run("pow", ints(2, 1, -1, -1), ints(-1, -3, -3, -2)).tolist() == [0, 1, -1, 1]


ARITHMETIC = {
    "add": np.add,
    "floor_div": np.floor_divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mod": np.mod,
    "mul": np.multiply,
    "sub": np.subtract,
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "not_equal": np.not_equal,
}


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize(
    ("left", "right"),
    [((), ()), ((2, 3), ()), ((3, 1), (1, 4)), ((2, 1, 3), (5, 1)), ((0, 3), (3,)), ((1,), (0,))],
)
def test_broadcasting_is_numpys(
    name: str, dtype: Any, left: tuple[int, ...], right: tuple[int, ...]
) -> None:
    random = np.random.default_rng(0)
    x, y = (np.asarray(random.integers(1, 9, shape), dtype) for shape in (left, right))
    expected = np.asarray(ARITHMETIC[name](x, y))
    found = run(name, torch.from_numpy(x), torch.from_numpy(y)).numpy()
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", ["logical_and", "logical_or", "logical_xor"])
def test_logic_is_numpys(name: str) -> None:
    x, y = np.array([[False], [True]]), np.array([False, True])
    found = run(name, torch.from_numpy(x), torch.from_numpy(y))
    np.testing.assert_array_equal(found.numpy(), getattr(np, name)(x, y))
