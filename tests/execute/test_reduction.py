from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.execute import reduction  # noqa: F401 (fills the table)
from metal4conv.execute.table import MIL_OPS
from tests.execute.symbols import symbolic

X = torch.arange(24.0).reshape(2, 3, 4)


def run(name: str, *arguments: Any, opset: int = 18) -> Any:
    return MIL_OPS.lookup(name, opset)(*arguments)


def test_no_axes_reduce_nothing() -> None:
    assert torch.equal(run("reduce_sum", X, ()), X)
    assert torch.equal(run("reduce_prod", X, ()), X)


def test_integers_stay_integers() -> None:
    x = torch.tensor([1, 2, 4], dtype=torch.int32)
    for name, expected in (("mean", 2), ("sum", 7), ("l2_norm", 4), ("log_sum", 1), ("prod", 8)):
        found = run(f"reduce_{name}", x)
        assert (found.item(), found.dtype) == (expected, torch.int32)


def test_product_over_two_axes() -> None:
    found = run("reduce_prod", X + 1, (-1, 0))
    expected = [math.prod(range(1 + 4 * r, 5 + 4 * r)) * math.prod(range(13 + 4 * r, 17 + 4 * r))
                for r in range(3)]  # fmt: skip
    assert found.tolist() == [float(torch.tensor(float(number))) for number in expected]
    assert run("reduce_prod", X, (-1, 0), True).shape == (1, 3, 1)


def test_log_sum_exp_of_large_numbers() -> None:
    x = torch.tensor([1000.0, 1000.0])
    assert math.isclose(run("reduce_log_sum_exp", x).item(), 1000 + math.log(2), rel_tol=1e-6)


def test_first_of_equal_ones() -> None:
    x = torch.tensor([[1.0, 3.0, 3.0], [0.0, 0.0, -0.0]])
    assert run("reduce_argmax", x, -1).tolist() == [1, 0]
    assert run("reduce_argmin", x, 1, True).tolist() == [[0], [0]]
    assert run("reduce_argmax", x, 0, False, "uint16").dtype == torch.uint16
    assert run("reduce_argmax", x, 0, opset=15).dtype == torch.int32


def test_sizes_stay_symbolic() -> None:
    with symbolic() as symbols:
        x = torch.empty(1, 4, symbols.h, symbols.w)
        shapes = {"sum": (1, 4, 1, 8), "max": (1, 4, 1, 8), "prod": (1, 4, 1, 8)}
        for name, shape in shapes.items():
            found = run(f"reduce_{name}", x, (2,), True)
            assert symbols.shape_at(found, 5, 8) == shape
        assert symbols.shape_at(run("reduce_argmax", x, 2), 5, 8) == (1, 4, 8)


NUMPYS: dict[str, Callable[..., Any]] = {
    "l1_norm": lambda x, **at: np.sum(np.abs(x), **at),
    "l2_norm": lambda x, **at: np.sqrt(np.sum(np.square(x), **at)),
    "log_sum": lambda x, **at: np.log(np.sum(x, **at)),
    "log_sum_exp": lambda x, **at: np.log(np.sum(np.exp(x), **at)),
    "max": np.max,
    "mean": np.mean,
    "min": np.min,
    "prod": np.prod,
    "sum": np.sum,
    "sum_square": lambda x, **at: np.sum(np.square(x), **at),
}


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("shape", [(3,), (1, 4), (2, 3, 4), (2, 1, 3, 1, 2)])
@pytest.mark.parametrize("name", NUMPYS)
def test_reductions_are_numpys(name: str, shape: tuple[int, ...], dtype: Any) -> None:
    x = np.random.default_rng(0).integers(1, 5, shape).astype(dtype)
    for axes in [(0,), (-1,), tuple(range(x.ndim)), (0, -1) if x.ndim > 1 else (0,)]:
        for keep in (False, True):
            expected = NUMPYS[name](x.astype(np.float64), axis=axes, keepdims=keep)
            found = run(f"reduce_{name}", torch.from_numpy(x), axes, keep).numpy()
            assert (found.shape, found.dtype) == (expected.shape, dtype)
            cut = np.trunc(expected) if dtype == np.int32 else expected
            np.testing.assert_allclose(found, cut, rtol=3e-6)


@pytest.mark.parametrize(("name", "expected"), [("sum", 0), ("prod", 1), ("l1_norm", 0)])
def test_reductions_of_nothing(name: str, expected: int) -> None:
    found = run(f"reduce_{name}", torch.zeros(2, 0), (1,))
    assert found.tolist() == [expected, expected]


def test_a_logarithm_of_nothing_is_the_smallest_integer() -> None:
    """-inf, which no integer can be; a plain conversion would leave it undefined."""
    found = run("reduce_log_sum", torch.zeros(2, dtype=torch.int32))
    assert (found.item(), found.dtype) == (-(2**31), torch.int32)
