"""Operators of com.microsoft that onnxruntime computes on GPUs only, beside numpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from metal4conv import load
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import draw, opened
from tests.frontends.onnx.test_contrib import single

Arrays = Mapping[str, np.ndarray]


def check_numbers(made: onnx.ModelProto, folder: Path, feeds: Arrays, *wanted: np.ndarray) -> None:
    """A package gives these arrays, in the order of the model's outputs."""
    package, _ = packaged(opened(made, folder), folder / "out")
    found = load(package).predict(dict(feeds))
    assert len(found) == len(wanted)
    for array, expected in zip(found.values(), wanted, strict=True):
        assert array.shape == expected.shape
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5)


def gelu(x: np.ndarray) -> np.ndarray:
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def fast_gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def softmax(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    powers = np.exp(x - x.max(axes, keepdims=True))
    return powers / powers.sum(axes, keepdims=True)


def test_bias_split_gelu(tmp_path: Path) -> None:
    x, bias = draw(2, 3, 8), draw(8, seed=1)
    made = single("BiasSplitGelu", {"X": [2, 3, 8]}, {"bias": bias})
    total = x + bias
    check_numbers(made, tmp_path, {"X": x}, total[..., :4] * gelu(total[..., 4:]))


def test_bias_add(tmp_path: Path) -> None:
    x, bias, skip = draw(2, 3, 4), draw(4, seed=1), draw(2, 3, 4, seed=2)
    made = single("BiasAdd", {"X": [2, 3, 4]}, {"bias": bias, "skip": skip})
    check_numbers(made, tmp_path, {"X": x}, x + bias + skip)


@pytest.mark.parametrize("axis", [1, 2, -1])
def test_bias_softmax(axis: int, tmp_path: Path) -> None:
    x, bias = draw(2, 3, 4), draw(3, 4, seed=1)
    made = single("BiasSoftmax", {"X": [2, 3, 4]}, {"bias": bias}, axis=axis, is_inner_broadcast=0)
    axes = tuple(range(axis % 3, 3))
    check_numbers(made, tmp_path, {"X": x}, softmax(x + bias, axes))


def test_bias_dropout(tmp_path: Path) -> None:
    """The mask has the shape of the data, and keeps everything."""
    x, bias, residual = draw(2, 4), draw(4, seed=1), draw(2, 4, seed=2)
    constants = {"bias": bias, "residual": residual}
    made = single("BiasDropout", {"X": [2, 4]}, constants, ("Y", "mask"))
    made.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.BOOL
    check_numbers(made, tmp_path, {"X": x}, x + bias + residual, np.ones((2, 4)))


@pytest.mark.parametrize("operator", ["ComplexMul", "ComplexMulConj"])
def test_complex_products(operator: str, tmp_path: Path) -> None:
    a, b = draw(3, 4, 2), draw(3, 4, 2, seed=1)
    made = single(operator, {"A": [3, 4, 2]}, {"B": b})
    left, right = a[..., 0] + 1j * a[..., 1], b[..., 0] + 1j * b[..., 1]
    product = left * (right if operator == "ComplexMul" else right.conj())
    check_numbers(made, tmp_path, {"A": a}, np.stack((product.real, product.imag), -1))


def test_gemm_fast_gelu(tmp_path: Path) -> None:
    x, weight, bias = draw(2, 3, 4), draw(4, 5, seed=1), draw(5, seed=2)
    made = single("GemmFastGelu", {"X": [2, 3, 4]}, {"W": weight, "bias": bias})
    check_numbers(made, tmp_path, {"X": x}, fast_gelu(x @ weight + bias))


def test_fused_matmul_activation(tmp_path: Path) -> None:
    x, weight = draw(2, 3, 4), draw(2, 5, 4, seed=1)
    given = {"activation": "LeakyRelu", "activation_alpha": 0.2, "alpha": 0.5, "transB": 1}
    made = single("FusedMatMulActivation", {"A": [2, 3, 4]}, {"B": weight}, **given)
    product = 0.5 * x @ weight.swapaxes(1, 2)
    check_numbers(made, tmp_path, {"A": x}, np.where(product < 0, 0.2 * product, product))


def test_channels_last_convolution(tmp_path: Path) -> None:
    """A kernel of one pixel is a product with each pixel's channels."""
    x, weight, bias = draw(1, 5, 6, 3), draw(4, 1, 1, 3, seed=1), draw(4, seed=2)
    made = single("NhwcConv", {"X": [1, 5, 6, 3]}, {"W": weight, "B": bias}, kernel_shape=[1, 1])
    check_numbers(made, tmp_path, {"X": x}, x @ weight[:, 0, 0].T + bias)


def grouped(x: np.ndarray, groups: int, gamma: np.ndarray, beta: np.ndarray) -> np.ndarray:
    """Each group of the last axis' channels normalized over all pixels."""
    rows = x.reshape(x.shape[0], -1, groups, x.shape[-1] // groups)
    centered = rows - rows.mean((1, 3), keepdims=True)
    normalized = centered / np.sqrt((centered**2).mean((1, 3), keepdims=True) + 1e-5)
    return normalized.reshape(x.shape) * gamma + beta


@pytest.mark.parametrize("activation", [0, 1])
def test_group_norm(activation: int, tmp_path: Path) -> None:
    x, gamma, beta = draw(2, 3, 4, 6), draw(6, seed=1), draw(6, seed=2)
    constants = {"gamma": gamma, "beta": beta}
    made = single("GroupNorm", {"X": [2, 3, 4, 6]}, constants, activation=activation, groups=3)
    wanted = grouped(x, 3, gamma, beta)
    check_numbers(
        made, tmp_path, {"X": x}, wanted / (1 + np.exp(-wanted)) if activation else wanted
    )


def test_skip_group_norm(tmp_path: Path) -> None:
    x, skip = draw(2, 3, 4, 6), draw(2, 6, seed=3)
    gamma, beta, bias = (draw(6, seed=seed) for seed in (1, 2, 4))
    constants = {"gamma": gamma, "beta": beta, "skip": skip, "bias": bias}
    made = single(
        "SkipGroupNorm", {"X": [2, 3, 4, 6]}, constants, ("Y", "S"), activation=0, groups=2
    )
    total = x + skip[:, None, None] + bias
    check_numbers(made, tmp_path, {"X": x}, grouped(total, 2, gamma, beta), total)


X = draw(3, 3)
PLACES = np.array([[0, 1], [2, 2]])
WRAPPERS: dict[str, tuple[Arrays, np.ndarray]] = {
    "Trilu": ({}, np.triu(X)),
    "GatherND": ({"places": PLACES}, X[PLACES[:, 0], PLACES[:, 1]]),
    "ExpandDims": ({"axis": np.array(1, np.int32)}, X[:, None]),
    "Pad": ({"pads": np.array([1, 0, 0, 2])}, np.pad(X, ((1, 0), (0, 2)))),
}


@pytest.mark.parametrize("operator", WRAPPERS)
def test_operators_that_the_standard_has_too(operator: str, tmp_path: Path) -> None:
    constants, wanted = WRAPPERS[operator]
    check_numbers(single(operator, {"X": [3, 3]}, constants), tmp_path, {"X": X}, wanted)
