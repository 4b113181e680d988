from __future__ import annotations

import math
from typing import Any

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
