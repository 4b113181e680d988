"""Losses, with classes that are ignored and weighted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.frontends.onnx.models import check, draw, model, node


@pytest.mark.parametrize("operator", ["NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"])
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("ignored", [None, 1, -100])
@pytest.mark.parametrize("is_weighted", [True, False])
def test_losses(
    operator: str, reduction: str, ignored: int | None, is_weighted: bool, tmp_path: Path
) -> None:
    attributes: dict[str, Any] = {"reduction": reduction}
    if ignored is not None:
        attributes["ignore_index"] = ignored
    names = ["x", "t", *(["w"] if is_weighted else [])]
    made = model(
        [node(operator, names, ["y"], **attributes)],
        {"x": ["n", 4, 3], "t": ("int64", ["n", 3])},
        ["y"],
        {"w": np.abs(draw(4))} if is_weighted else {},
        opset=13,
    )
    cases = []
    for size in (1, 3):
        target = np.random.default_rng(size).integers(0, 4, (size, 3))
        target[0, :2] = (0, 1 if ignored is None else ignored)
        cases.append({"x": draw(size, 4, 3), "t": target})
    check(made, tmp_path, *cases, dims=["n=1..4"])


def test_logarithms_are_an_output_too(tmp_path: Path) -> None:
    made = model(
        [node("SoftmaxCrossEntropyLoss", ["x", "t"], ["y", "logs"])],
        {"x": [2, "c"], "t": ("int64", [2])},
        ["y", "logs"],
        opset=13,
    )
    cases = [{"x": draw(2, count), "t": np.array([0, 1])} for count in (2, 5)]
    check(made, tmp_path, *cases, dims=["c=2..6"])
