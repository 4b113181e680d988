"""Fourier transforms and mel weights, beside onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(
    ("parts", "given"),
    [
        (1, {}),
        (2, {}),
        (1, {"onesided": 1}),
        (2, {"inverse": 1}),
    ],
)
@pytest.mark.parametrize("length", [None, 5, 9])
def test_dft(
    length: int | None,
    parts: int,
    given: dict[str, int],
    axis: int,
    opset: int,
    tmp_path: Path,
) -> None:
    constants: dict[str, np.ndarray] = {}
    if length is not None:
        constants["length"] = np.array(length, np.int64)
    names = ["x", "length" if length is not None else ""]
    if opset == 20:
        constants["axis"] = np.array(axis, np.int64)
        names.append("axis")
    else:
        given = {**given, "axis": axis}
    shape = [2, 7, 6, parts]
    made = model([node("DFT", names, ["Y"], **given)], {"x": shape}, ["Y"], constants, opset=opset)
    check(made, tmp_path, {"x": draw(*shape)}, tolerance=1e-4)


@pytest.mark.parametrize("given", [{}, {"onesided": 1}, {"inverse": 1}])
def test_dft_of_a_dynamic_length(given: dict[str, int], tmp_path: Path) -> None:
    parts = 2 if "inverse" in given else 1
    made = model([node("DFT", ["x"], ["Y"], **given)], {"x": [1, "t", parts]}, ["Y"], opset=17)
    cases = [{"x": draw(1, t, parts)} for t in (1, 2, 7, 32)]
    check(made, tmp_path, *cases, dims=["t=1..32@4"], tolerance=1e-4)


@pytest.mark.parametrize("given", [{}, {"onesided": 1}])
def test_dft_along_a_computed_axis(given: dict[str, int], tmp_path: Path) -> None:
    inputs = {"x": [2, 5, 6, 1], "axis": ("int64", [])}
    made = model([node("DFT", ["x", "", "axis"], ["Y"], **given)], inputs, ["Y"], opset=20)
    cases = [{"x": draw(2, 5, 6, 1), "axis": np.array(axis)} for axis in (0, 1, -2)]
    check(made, tmp_path, *cases, tolerance=1e-4)


def test_dft_of_a_computed_length(tmp_path: Path) -> None:
    inputs = {"x": [1, 7, 2], "length": ("int64", [])}
    made = model([node("DFT", ["x", "length"], ["Y"])], inputs, ["Y"], opset=17)
    cases = [{"x": draw(1, 7, 2), "length": np.array(count)} for count in (1, 7, 12)]
    check(made, tmp_path, *cases, tolerance=1e-4)


def test_dft_that_needs_a_huge_matrix_is_refused(tmp_path: Path) -> None:
    made = model([node("DFT", ["x"], ["Y"])], {"x": [1, 20000, 1]}, ["Y"], opset=17)
    with pytest.raises(UnsupportedModel, match="a matrix of 20000 × 20000 numbers"):
        packaged(opened(made, tmp_path), tmp_path)


@pytest.mark.parametrize("onesided", [0, 1])
@pytest.mark.parametrize("window", ["none", "constant", "computed"])
@pytest.mark.parametrize("step", ["constant", "computed"])
def test_stft(step: str, window: str, onesided: int, tmp_path: Path) -> None:
    inputs: dict[str, Any] = {"x": [1, "t", 1]}
    constants = {"length": np.array(8, np.int64)}
    feeds: dict[str, np.ndarray] = {}
    for name, kind, array in (
        ("step", step, np.array(3, np.int64)),
        ("window", window, draw(8, seed=1)),
    ):
        if kind == "constant":
            constants[name] = array
        elif kind == "computed":
            inputs[name] = (array.dtype.name, list(array.shape))
            feeds[name] = array
    names = ["x", "step", "" if window == "none" else "window", "length"]
    made = model([node("STFT", names, ["Y"], onesided=onesided)], inputs, ["Y"], constants)
    cases = [{"x": draw(1, t, 1), **feeds} for t in (8, 9, 30)]
    check(made, tmp_path, *cases, dims=["t=8..64@16"], tolerance=1e-4)


def test_mel_weights_of_computed_sizes(tmp_path: Path) -> None:
    names = ["bins", "length", "rate"]
    inputs: dict[str, Any] = {name: ("int64", []) for name in names}
    inputs |= {"low": ("float32", []), "high": ("float32", [])}
    made = model([node("MelWeightMatrix", list(inputs), ["Y"])], inputs, ["Y"])
    cases = [
        {
            "bins": np.array(bins),
            "length": np.array(length),
            "rate": np.array(16000),
            "low": np.array(125, np.float32),
            "high": np.array(7500, np.float32),
        }
        for bins, length in ((8, 64), (20, 512), (12, 32))
    ]
    check(made, tmp_path, *cases)
