"""Convolutions: padding, dilations, groups, weights from outside, dynamic sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.mil.package import read_package
from tests.frontends.onnx.models import check, draw, model, node, opened

CONV = [
    {},
    {"pads": [1, 2, 0, 1]},
    {"auto_pad": "SAME_UPPER", "strides": [2, 3]},
    {"auto_pad": "SAME_LOWER", "strides": [2, 2]},
    {"auto_pad": "SAME_UPPER"},
    {"auto_pad": "VALID", "strides": [2, 1]},
    {"dilations": [2, 1], "strides": [2, 1], "pads": [2, 0, 2, 0]},
]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("attributes", CONV)
def test_dynamic_sizes(attributes: dict[str, Any], constant: bool, tmp_path: Path) -> None:
    arrays = {"w": draw(4, 2, 3, 2, seed=1), "b": draw(4, seed=2)}
    inputs = {"x": [1, 4, "h", "w"]}
    if not constant:
        inputs |= {name: list(array.shape) for name, array in arrays.items()}
    made = model(
        [node("Conv", ["x", "w", "b"], ["y"], group=2, **attributes)],
        inputs,
        ["y"],
        arrays if constant else {},
    )
    sizes = [(5, 3), (7, 8)]
    cases = [{"x": draw(1, 4, *size), **({} if constant else arrays)} for size in sizes]
    check(made, tmp_path, *cases, dims=["h=5..9", "w=3..9"])


@pytest.mark.parametrize("rank", [1, 3])
def test_other_ranks(rank: int, tmp_path: Path) -> None:
    weights = {"w": draw(3, 2, *[2] * rank, seed=1), "v": draw(3, 2, *[3] * rank, seed=2)}
    made = model(
        [node("Conv", ["x", "w"], ["z"]), node("ConvTranspose", ["z", "v"], ["y"])],
        {"x": [1, 2, *["n"] * rank]},
        ["y"],
        weights,
    )
    cases = [{"x": draw(1, 2, *[size] * rank)} for size in (2, 5)]
    check(made, tmp_path, *cases, dims=["n=2..6"])


def test_sizes_are_known_behind_a_convolution(tmp_path: Path) -> None:
    """A reshape by what `Shape` says of the result needs no operation for fixed axes."""
    made = model(
        [
            node("Conv", ["x", "w"], ["z"], pads=[1, 1, 1, 1], strides=[2, 2]),
            node("Conv", ["z", "v"], ["s"], auto_pad="SAME_UPPER"),
            node("Add", ["z", "s"], ["y"]),
        ],
        {"x": [1, 2, "h", 8]},
        ["y"],
        {"w": draw(2, 2, 3, 3), "v": draw(2, 2, 3, 3, seed=1)},
    )
    cases = [{"x": draw(1, 2, size, 8)} for size in (1, 6, 7)]
    package = check(made, tmp_path, *cases, dims=["h=1..8"])
    block = read_package(package).program.functions["main"].block
    found = [item.type for item in block.operations if item.type != "const"]
    assert found == ["conv", "conv", "add"]


TRANSPOSED = [
    {},
    {"strides": [2, 3], "pads": [1, 0, 0, 1]},
    {"strides": [2, 2], "output_padding": [1, 1]},
    {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 0]},
    {"strides": [2, 2], "auto_pad": "SAME_UPPER"},
    {"strides": [2, 1], "auto_pad": "SAME_LOWER"},
    {"dilations": [2, 1], "pads": [1, 0, 1, 0]},
]


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("attributes", TRANSPOSED)
def test_transposed(attributes: dict[str, Any], constant: bool, tmp_path: Path) -> None:
    arrays = {"w": draw(4, 3, 3, 2, seed=1), "b": draw(6, seed=2)}
    inputs = {"x": [1, 4, "h", 3]}
    if not constant:
        inputs |= {name: list(array.shape) for name, array in arrays.items()}
    made = model(
        [node("ConvTranspose", ["x", "w", "b"], ["y"], group=2, **attributes)],
        inputs,
        ["y"],
        arrays if constant else {},
    )
    cases = [{"x": draw(1, 4, size, 3), **({} if constant else arrays)} for size in (2, 5)]
    check(made, tmp_path, *cases, dims=["h=2..6"])


@pytest.mark.parametrize("height", [3, "h"])
def test_transposed_to_a_shape(height: int | str, tmp_path: Path) -> None:
    attributes = {"strides": [2, 2], "output_shape": [8, 7]}
    made = model(
        [node("ConvTranspose", ["x", "w"], ["y"], **attributes)],
        {"x": [1, 2, height, 3]},
        ["y"],
        {"w": draw(2, 2, 3, 3)},
    )
    check(made, tmp_path, {"x": draw(1, 2, 3, 3)}, dims=["h=3..4"] if height == "h" else [])


@pytest.mark.parametrize("target", ["iOS15", "iOS16"])
def test_computed_weights_of_older_targets(target: str, tmp_path: Path) -> None:
    """Before iOS17 the weight of `conv_transpose` is constant, and iOS15 has no "same_lower"."""
    from metal4conv import convert
    from metal4conv.verify.verification import verify

    made = model(
        [
            node("ConvTranspose", ["x", "w"], ["z"], strides=[2, 1], pads=[1, 2, 0, 0], group=2),
            node("Conv", ["z", "v"], ["y"], auto_pad="SAME_LOWER", strides=[2, 2]),
        ],
        {"x": [1, 4, 3, "n"], "w": [4, 2, 3, 2], "v": [2, 4, 3, 3]},
        ["y"],
    )
    source = opened(made, tmp_path, dims=["n=2..6"])
    done = convert(
        source.model.path,
        output=tmp_path / "out",
        precision="float32",
        target=target,
        dims=["n=2..6"],
    )
    assert verify(done.package).passed


@pytest.mark.parametrize("groups", [1, 2])
def test_deformed_windows(groups: int, tmp_path: Path) -> None:
    """torchvision's operator is the oracle; onnxruntime has none for all of it."""
    arrays = {"w": draw(2, 2, 2, 2, seed=1)}
    made = model(
        [
            node(
                "DeformConv",
                ["x", "w", "o", "", "m"],
                ["y"],
                offset_group=groups,
                pads=[1, 1, 1, 1],
                strides=[2, 1],
            )
        ],
        {"x": [1, 2, "h", 4], "o": [1, 8 * groups, "p", 5], "m": [1, 4 * groups, "p", 5]},
        ["y"],
        arrays,
        opset=22,
    )
    feeds = {
        "x": draw(1, 2, 4, 4),
        "o": draw(1, 8 * groups, 3, 5, seed=3),
        "m": draw(1, 4 * groups, 3, 5, seed=4),
    }
    check(made, tmp_path, feeds, dims=["h=4..6", "p=3..4"])


@pytest.mark.parametrize("constant", [True, False])
def test_columns_to_images(constant: bool, tmp_path: Path) -> None:
    shapes = {"image": np.array([5, 4]), "block": np.array([2, 3])}
    given = {} if constant else shapes
    attributes = {"pads": [1, 0, 0, 1], "strides": [2, 1], "dilations": [1, 1]}
    made = model(
        [node("Col2Im", ["x", "image", "block"], ["y"], **attributes)],
        {"x": [2, 18, 9], **{name: ("int64", [2]) for name in given}},
        ["y"],
        shapes if constant else {},
    )
    check(made, tmp_path, {"x": draw(2, 18, 9), **given})


def test_causal_convolution_with_state(tmp_path: Path) -> None:
    made = model(
        [node("CausalConvWithState", ["x", "w", "b", "past"], ["y", "present"])],
        {"x": [1, 2, "t"], "past": [1, 2, 3]},
        ["y", "present"],
        {"w": draw(2, 1, 4), "b": draw(2, seed=1)},
        opset=27,
    )
    cases = [{"x": draw(1, 2, size), "past": draw(1, 2, 3, seed=2)} for size in (1, 5)]
    check(made, tmp_path, *cases, dims=["t=1..8"])
