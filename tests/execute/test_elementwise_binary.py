from __future__ import annotations

import itertools
import math
from typing import Any

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
