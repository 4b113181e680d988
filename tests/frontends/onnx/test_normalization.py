"""Normalizations: constant and computed parameters, dynamic sizes, all outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv import load
from metal4conv.errors import UnsupportedModel
from metal4conv.mil.package import read_package
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened

Arrays = Mapping[str, np.ndarray]


def normalize(
    operator: str,
    parameters: Arrays,
    attributes: Mapping[str, Any],
    folder: Path,
    *,
    constant: bool,
    shape: tuple[int | str, ...] = (1, 4, "h", 3),
    opset: int = 21,
    tolerance: float = 2e-5,
) -> list[str]:
    """The types of the operations, after comparing two sizes."""
    inputs: dict[str, Any] = {"x": list(shape)}
    if not constant:
        inputs |= {name: list(array.shape) for name, array in parameters.items()}
    made = model(
        [node(operator, ["x", *parameters], ["y"], **attributes)],
        inputs,
        ["y"],
        parameters if constant else {},
        opset=opset,
    )
    given = {} if constant else parameters
    cases = [
        {"x": draw(*(n if size == "h" else int(size) for size in shape)) + 0.5, **given}
        for n in (2, 5)
    ]
    package = check(made, folder, *cases, dims=["h=2..6"], tolerance=tolerance)
    block = read_package(package).program.functions["main"].block
    return [item.type for item in block.operations if item.type != "const"]


CHANNELS = {"s": draw(4, seed=1), "b": draw(4, seed=2)}
STATISTICS = {**CHANNELS, "m": draw(4, seed=3), "v": np.abs(draw(4, seed=4)) + 0.5}


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [("h", 4), ("h", 4, 3), (1, 4, "h", 3), (1, 4, 2, "h", 3)])
@pytest.mark.parametrize("opset", [7, 15])
def test_batches(opset: int, shape: tuple[int | str, ...], constant: bool, tmp_path: Path) -> None:
    attributes = {"epsilon": 1e-3}
    found = normalize(
        "BatchNormalization",
        STATISTICS,
        attributes,
        tmp_path,
        constant=constant,
        shape=shape,
        opset=opset,
    )
    if constant and len(shape) > 2:
        assert found == ["batch_norm"]


def test_batches_in_training(tmp_path: Path) -> None:
    made = model(
        [node("BatchNormalization", ["x", *STATISTICS], ["y", "rm", "rv"], training_mode=1)],
        {"x": ["n", 4, 3]},
        ["y", "rm", "rv"],
        STATISTICS,
        opset=15,
    )
    cases = [{"x": draw(size, 4, 3)} for size in (1, 3)]
    check(made, tmp_path, *cases, dims=["n=1..4"], tolerance=2e-5)


def test_batches_in_training_of_old_opsets(tmp_path: Path) -> None:
    made = model(
        [node("BatchNormalization", ["x", *STATISTICS], ["y", "m1", "v1"])],
        {"x": [2, 4, 3]},
        ["y"],
        STATISTICS,
        opset=9,
    )
    with pytest.raises(UnsupportedModel, match="training"):
        packaged(opened(made, tmp_path), tmp_path)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("shape", [(1, 4, "h"), (1, 4, "h", 3), (1, 4, 2, "h", 3)])
def test_instances(shape: tuple[int | str, ...], constant: bool, tmp_path: Path) -> None:
    normalize("InstanceNormalization", CHANNELS, {}, tmp_path, constant=constant, shape=shape)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("opset", [18, 21])
def test_groups(opset: int, constant: bool, tmp_path: Path) -> None:
    count = 4 if opset == 21 else 2
    parameters = {name: array[:count] for name, array in CHANNELS.items()}
    normalize(
        "GroupNormalization",
        parameters,
        {"num_groups": 2},
        tmp_path,
        constant=constant,
        opset=opset,
    )


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(
    ("axis", "shape"), [(-1, (3,)), (-1, (1,)), (1, (4, 1, 3)), (2, (1, 3)), (-2, (3,))]
)
def test_layers(axis: int, shape: tuple[int, ...], constant: bool, tmp_path: Path) -> None:
    parameters = {"s": draw(*shape, seed=1), "b": draw(*shape, seed=2)}
    attributes = {"axis": axis, "epsilon": 1e-4}
    found = normalize("LayerNormalization", parameters, attributes, tmp_path, constant=constant)
    if constant and axis == -1:
        assert found == ["layer_norm"]


def test_layers_with_statistics(tmp_path: Path) -> None:
    made = model(
        [node("LayerNormalization", ["x", "s"], ["y", "mean", "root"], axis=1)],
        {"x": [2, "h", 3]},
        ["y", "mean", "root"],
        {"s": draw(3)},
    )
    check(made, tmp_path, *({"x": draw(2, n, 3)} for n in (1, 4)), dims=["h=1..4"])


@pytest.mark.parametrize("constant", [True, False])
def test_root_mean_squares(constant: bool, tmp_path: Path) -> None:
    attributes = {"axis": -1, "epsilon": 1e-3}
    parameters = {"s": draw(3)}
    normalize("RMSNormalization", parameters, attributes, tmp_path, constant=constant, opset=23)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_neighbouring_channels(size: int, tmp_path: Path) -> None:
    """Of an even number more lie behind; onnxruntime knows odd ones alone, onnx's own none."""
    attributes = {"size": size, "alpha": 0.3, "beta": 0.6, "bias": 1.5}
    made = model([node("LRN", ["x"], ["y"], **attributes)], {"x": [1, 6, "h", 2]}, ["y"])
    package, _ = packaged(opened(made, tmp_path, dims=["h=1..4"]), tmp_path / "out")
    for height in (1, 3):
        x = draw(1, 6, height, 2)
        around = [(0, 0), ((size - 1) // 2, size // 2), (0, 0), (0, 0)]
        squares = np.pad(x * x, around)
        sums = sum(squares[:, place : place + 6] for place in range(size))
        wanted = x / (1.5 + 0.3 / size * sums) ** 0.6
        np.testing.assert_allclose(load(package).predict({"x": x})["y"], wanted, 1e-5)


@pytest.mark.parametrize("p", [1, 2])
@pytest.mark.parametrize("axis", [-1, 1, 2])
def test_vectors(axis: int, p: int, tmp_path: Path) -> None:
    normalize("LpNormalization", {}, {"axis": axis, "p": p}, tmp_path, constant=True)


def test_vectors_of_zeros(tmp_path: Path) -> None:
    made = model([node("LpNormalization", ["x"], ["y"])], {"x": [2, 3]}, ["y"])
    check(made, tmp_path, {"x": np.array([[0, 0, 0], [3, 0, 4]], np.float32)})


@pytest.mark.parametrize("attributes", [{}, {"axes": [-1]}])
def test_mean_and_variance(attributes: dict[str, Any], tmp_path: Path) -> None:
    normalize("MeanVarianceNormalization", {}, attributes, tmp_path, constant=True)
