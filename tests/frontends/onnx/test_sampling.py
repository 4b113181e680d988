"""Sampling at the positions of a grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metal4conv.mil.package import read_package
from tests.frontends.onnx.models import check, draw, model, node

PADDING = ["zeros", "border", "reflection"]


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("mode", ["linear", "nearest", "cubic"])
def test_images(mode: str, padding: str, aligned: int, tmp_path: Path) -> None:
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": aligned}
    made = model(
        [node("GridSample", ["x", "g"], ["y"], **attributes)],
        {"x": [2, 3, "h", 5], "g": [2, "p", 4, 2]},
        ["y"],
        opset=20,
    )
    cases = [
        {"x": draw(2, 3, high, 5), "g": draw(2, count, 4, 2, seed=1)}
        for high, count in ((2, 1), (6, 3))
    ]
    check(made, tmp_path, *cases, dims=["h=2..8", "p=1..4"], tolerance=1e-4)


@pytest.mark.parametrize("padding", PADDING)
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_volumes(mode: str, padding: str, tmp_path: Path) -> None:
    made = model(
        [node("GridSample", ["x", "g"], ["y"], mode=mode, padding_mode=padding)],
        {"x": [1, 2, "d", 3, 4], "g": [1, 2, "p", 3, 3]},
        ["y"],
        opset=20,
    )
    cases = [
        {"x": draw(1, 2, deep, 3, 4), "g": draw(1, 2, count, 3, 3, seed=1)}
        for deep, count in ((2, 1), (5, 3))
    ]
    check(made, tmp_path, *cases, dims=["d=2..8", "p=1..4"], tolerance=1e-4)


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
def test_older_names_of_modes(mode: str, tmp_path: Path) -> None:
    made = model(
        [node("GridSample", ["x", "g"], ["y"], mode=mode)],
        {"x": [1, 2, 4, 4], "g": [1, 3, 3, 2]},
        ["y"],
        opset=16,
    )
    package = check(
        made, tmp_path, {"x": draw(1, 2, 4, 4), "g": draw(1, 3, 3, 2, seed=1)}, tolerance=1e-4
    )
    block = read_package(package).program.functions["main"].block
    found = [item.type for item in block.operations if item.type != "const"]
    assert found.count("resample") == 1
    assert mode != "bilinear" or len(found) == 1


@pytest.mark.parametrize("aligned", [0, 1])
@pytest.mark.parametrize("axes", [2, 3])
def test_grids(axes: int, aligned: int, tmp_path: Path) -> None:
    size = np.array([2, 3, 4, 5, 6][: axes + 2])
    made = model(
        [node("AffineGrid", ["theta", "size"], ["y"], align_corners=aligned)],
        {"theta": [2, axes, axes + 1], "size": ("int64", [axes + 2])},
        ["y"],
        opset=20,
    )
    check(made, tmp_path, {"theta": draw(2, axes, axes + 1), "size": size})
