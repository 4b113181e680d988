"""Random numbers have the distribution that the model says, and repeat with a seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from metal4conv import load
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import model, node, opened


def drawn(made: onnx.ModelProto, folder: Path, feeds: dict[str, np.ndarray]) -> np.ndarray:
    """The output of a package, which is the same for a seed."""
    package, _ = packaged(opened(made, folder), folder / "package")
    results = [load(package).predict(feeds)["Y"] for _ in range(2)]
    np.testing.assert_array_equal(results[0], results[1])
    return results[0]


@pytest.mark.parametrize(
    ("operator", "given", "mean", "deviation"),
    [
        ("RandomNormalLike", {"mean": 2.0, "scale": 3.0}, 2, 3),
        ("RandomUniformLike", {"low": -1.0, "high": 3.0}, 1, 4 / 12**0.5),
        ("RandomNormal", {"shape": [200, 50]}, 0, 1),
        ("RandomUniform", {"shape": [200, 50]}, 0.5, 1 / 12**0.5),
    ],
)
def test_moments(
    operator: str, given: dict[str, Any], mean: float, deviation: float, tmp_path: Path
) -> None:
    inputs = ["x"] if "shape" not in given else []
    nodes = [
        node(operator, inputs, ["noise"], seed=1.5, **given),
        node("Add", ["noise", "x"], ["Y"]),
    ]
    made = model(nodes, {"x": [200, 50]}, ["Y"])
    found = drawn(made, tmp_path, {"x": np.zeros((200, 50), np.float32)})
    assert found.mean() == pytest.approx(mean, abs=0.1)
    assert found.std() == pytest.approx(deviation, abs=0.1)


def test_bernoulli(tmp_path: Path) -> None:
    made = model([node("Bernoulli", ["p"], ["Y"], seed=2.0)], {"p": [2, 5000]}, ["Y"], opset=22)
    chances = np.repeat(np.array([[0.2], [0.9]], np.float32), 5000, 1)
    found = drawn(made, tmp_path, {"p": chances})
    assert set(np.unique(found)) == {0, 1}
    np.testing.assert_allclose(found.mean(axis=1), [0.2, 0.9], atol=0.05)


def test_multinomial(tmp_path: Path) -> None:
    chances = np.array([[0.1, 0.6, 0.3], [0.5, 0.0, 0.5]], np.float32)
    nodes = [node("Log", ["p"], ["x"])]
    nodes.append(node("Multinomial", ["x"], ["Y"], sample_size=5000, seed=3.0))
    made = model(nodes, {"p": [2, 3]}, {"Y": "int32"}, opset=22)
    found = drawn(made, tmp_path, {"p": chances})
    assert found.shape == (2, 5000)
    shares = [[(row == place).mean() for place in range(3)] for row in found]
    np.testing.assert_allclose(shares, chances, atol=0.05)
