"""Pooling: every kind of window over dynamic sizes, indices, regions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv import load
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened

WINDOWS = [
    {"kernel_shape": [3, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [2, 2], "strides": [3, 2], "pads": [0, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "auto_pad": "SAME_UPPER", "strides": [2, 1]},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER", "strides": [1, 2]},
    {"kernel_shape": [2, 3], "dilations": [2, 1], "strides": [2, 1]},
    {"kernel_shape": [2, 2], "dilations": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
]


@pytest.mark.parametrize("attributes", WINDOWS)
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "AveragePool+", "LpPool"])
def test_windows_over_dynamic_sizes(
    operator: str, attributes: dict[str, Any], tmp_path: Path
) -> None:
    if operator.endswith("+"):
        attributes = {**attributes, "count_include_pad": 1}
    made = model(
        [node(operator.rstrip("+"), ["x"], ["y"], **attributes)],
        {"x": [1, 2, "h", 6]},
        ["y"],
        opset=21,
    )
    cases = [{"x": draw(1, 2, size, 6)} for size in (3, 4, 6)]
    check(made, tmp_path, *cases, dims=["h=3..8"])


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("operator", ["MaxPool", "AveragePool", "LpPool"])
def test_other_ranks(operator: str, rank: int, tmp_path: Path) -> None:
    attributes = {"kernel_shape": [2] * rank, "strides": [2] * rank, "ceil_mode": 1}
    made = model([node(operator, ["x"], ["y"], **attributes)], {"x": [1, 2, *["n"] * rank]}, ["y"])
    check(made, tmp_path, *({"x": draw(1, 2, *[n] * rank)} for n in (2, 3)), dims=["n=2..4"])


@pytest.mark.parametrize("power", [1, 3])
def test_powers(power: int, tmp_path: Path) -> None:
    made = model(
        [
            node("LpPool", ["x"], ["z"], kernel_shape=[2, 2], p=power, pads=[1, 0, 0, 1]),
            node("GlobalLpPool", ["z"], ["y"], p=power),
        ],
        {"x": [1, 2, 4, 4]},
        ["z", "y"],
    )
    check(made, tmp_path, {"x": draw(1, 2, 4, 4)})


@pytest.mark.parametrize("order", [0, 1])
@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [2, 2], "strides": [2, 2]},
        {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1], "ceil_mode": 1},
        {"kernel_shape": [2, 2], "dilations": [1, 2]},
    ],
)
def test_places_of_maxima(attributes: dict[str, Any], order: int, tmp_path: Path) -> None:
    made = model(
        [node("MaxPool", ["x"], ["y", "i"], storage_order=order, **attributes)],
        {"x": [2, 2, "h", 5]},
        {"y": "float32", "i": "int64"},
    )
    check(made, tmp_path, *({"x": draw(2, 2, n, 5)} for n in (3, 4)), dims=["h=3..6"])


def test_pooled_and_back(tmp_path: Path) -> None:
    made = model(
        [
            node("MaxPool", ["x"], ["p", "i"], kernel_shape=[2, 2], strides=[2, 2]),
            node("MaxUnpool", ["p", "i"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        ],
        {"x": [1, 2, "h", 4]},
        ["y"],
    )
    check(made, tmp_path, *({"x": draw(1, 2, n, 4)} for n in (2, 6)), dims=["h=2..6"])


def test_whole_images(tmp_path: Path) -> None:
    names = ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
    made = model([node(name, ["x"], [name]) for name in names], {"x": [1, 2, "h", 3]}, names)
    check(made, tmp_path, *({"x": draw(1, 2, n, 3)} for n in (1, 4)), dims=["h=1..4"])


def test_bytes_are_pooled(tmp_path: Path) -> None:
    made = model(
        [node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2])],
        {"x": ("uint8", [1, 1, 3, 3])},
        {"y": "uint8"},
    )
    x = np.random.default_rng(0).integers(0, 256, (1, 1, 3, 3)).astype(np.uint8)
    source = opened(made, tmp_path)
    package, _ = packaged(source, tmp_path / "out")
    executor = load(package)
    found = executor.predict({"x": x.astype(executor.inputs["x"].dtype)})
    np.testing.assert_array_equal(found["y"], source.predict({"x": x})["y"])


ROIS = np.array([[0, 0, 4, 4], [1, 2, 5.5, 6], [2, 2, 2.2, 2.1], [-1, 3, 9, 7]], np.float32)


@pytest.mark.parametrize("opset", [10, 16])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 2])
def test_aligned_regions(opset: int, mode: str, ratio: int, tmp_path: Path) -> None:
    attributes = {"output_height": 2, "output_width": 3, "spatial_scale": 0.8}
    made = model(
        [
            node(
                "RoiAlign",
                ["x", "r", "i"],
                ["y"],
                mode=mode,
                sampling_ratio=ratio,
                **attributes,
            )
        ],
        {"x": [2, 3, 6, "w"], "r": ["n", 4], "i": ("int64", ["n"])},
        ["y"],
        opset=opset,
    )
    cases = [
        {"x": draw(2, 3, 6, wide), "r": ROIS[:count], "i": np.arange(count) % 2}
        for wide, count in ((7, 1), (5, 4), (4, 2), (8, 3), (6, 4))
    ]
    check(made, tmp_path, *cases, dims=["n=1..4", "w=4..8"], is_free=False)


def test_pooled_regions(tmp_path: Path) -> None:
    rois = np.array([[0, 0, 0, 3, 3], [1, 1, 2, 5, 4], [0, 4, 4, 4, 4]], np.float32)
    made = model(
        [node("MaxRoiPool", ["x", "r"], ["y"], pooled_shape=[2, 3], spatial_scale=0.9)],
        {"x": [2, 2, 6, "w"], "r": ["n", 5]},
        ["y"],
    )
    cases = [{"x": draw(2, 2, 6, wide), "r": rois[:count]} for wide, count in ((6, 3), (7, 1))]
    check(made, tmp_path, *cases, dims=["n=1..4", "w=4..8"])
