from __future__ import annotations

import math
from typing import Any

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
