"""Activations: every attribute, dynamic sizes, what older opsets meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv import load
from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened

CASES = [
    ("LeakyRelu", {"alpha": 0.3}, 16),
    ("Elu", {"alpha": 2.0}, 6),
    ("Selu", {}, 6),
    ("Celu", {"alpha": 0.7}, 12),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}, 6),
    ("HardSwish", {}, 14),
    ("ThresholdedRelu", {"alpha": 0.5}, 10),
    ("Shrink", {"bias": 0.1, "lambd": 0.4}, 9),
    ("Gelu", {}, 20),
    ("Gelu", {"approximate": "tanh"}, 20),
    ("Mish", {}, 18),
    ("Softplus", {}, 7),
    ("Softmax", {"axis": 1}, 13),
    ("Softmax", {"axis": 1}, 11),
    ("Softmax", {"axis": 0}, 7),
    ("LogSoftmax", {"axis": -2}, 13),
    ("LogSoftmax", {}, 11),
]


@pytest.mark.parametrize(("operator", "attributes", "opset"), CASES)
def test_dynamic_sizes(
    operator: str, attributes: dict[str, Any], opset: int, tmp_path: Path
) -> None:
    made = model(
        [node(operator, ["x"], ["y"], **attributes)], {"x": [2, "h", 3]}, ["y"], opset=opset
    )
    cases = [{"x": draw(2, size, 3) * 3} for size in (1, 4)]
    check(made, tmp_path, *cases, dims=["h=1..8"])


@pytest.mark.parametrize("operator", ["Softmax", "LogSoftmax", "Softplus"])
def test_large_numbers_do_not_overflow(operator: str, tmp_path: Path) -> None:
    made = model([node(operator, ["x"], ["y"])], {"x": [1, 3]}, ["y"])
    check(made, tmp_path, {"x": np.array([[200, -200, 199]], np.float32)})


@pytest.mark.parametrize("shape", [(1,), (3, 1, 1), (1, 3, 1, 4), (4,), ()])
@pytest.mark.parametrize("constant", [True, False])
def test_slopes_are_broadcast(shape: tuple[int, ...], constant: bool, tmp_path: Path) -> None:
    slope = np.asarray(draw(*shape, seed=1), np.float32)
    inputs = {"x": [1, 3, "h", 4]} | ({} if constant else {"slope": list(shape)})
    constants = {"slope": slope} if constant else {}
    made = model([node("PRelu", ["x", "slope"], ["y"])], inputs, ["y"], constants)
    feeds = {} if constant else {"slope": slope}
    cases = [{"x": draw(1, 3, size, 4), **feeds} for size in (1, 3)]
    check(made, tmp_path, *cases, dims=["h=1..4"])


def test_relu_and_slopes_of_integers(tmp_path: Path) -> None:
    made = model(
        [node("Relu", ["x"], ["y"]), node("PRelu", ["x", "slope"], ["z"])],
        {"x": ("int32", [2, 3])},
        {"y": "int32", "z": "int32"},
        {"slope": np.array([2, 3, 4], np.int32)},
    )
    x = np.array([[-1, 0, 5], [7, -3, -2]], np.int32)
    package, _ = packaged(opened(made, tmp_path), tmp_path / "out")
    found = load(package).predict({"x": x})
    np.testing.assert_array_equal(found["y"], np.maximum(x, 0))
    np.testing.assert_array_equal(found["z"], np.where(x < 0, x * [2, 3, 4], x))


def test_dropout_keeps_everything(tmp_path: Path) -> None:
    made = model(
        [node("Dropout", ["x", "ratio"], ["y", "mask"])],
        {"x": [2, "w"]},
        {"y": "float32", "mask": "bool"},
        {"ratio": np.float32(0.3)},
    )
    check(made, tmp_path, {"x": draw(2, 3)}, {"x": draw(2, 1)}, dims=["w=1..4"])


def test_dropout_in_training_is_refused(tmp_path: Path) -> None:
    made = model(
        [node("Dropout", ["x", "", "training"], ["y"])],
        {"x": [2]},
        ["y"],
        {"training": np.array(True)},
    )
    with pytest.raises(UnsupportedModel, match="drops elements at random"):
        packaged(opened(made, tmp_path), tmp_path)


def test_dropout_chosen_while_the_model_runs(tmp_path: Path) -> None:
    made = model(
        [node("Dropout", ["x", "", "training"], ["y"], seed=3)],
        {"x": [400], "training": ("bool", [])},
        ["y"],
    )
    package, _ = packaged(opened(made, tmp_path), tmp_path / "out")
    x, executor = np.ones(400, np.float32), load(package)
    dtype = executor.inputs["training"].dtype
    kept = executor.predict({"x": x, "training": np.zeros(1, dtype)})["y"]
    np.testing.assert_array_equal(kept, x)
    dropped = executor.predict({"x": x, "training": np.ones(1, dtype)})["y"]
    assert set(np.unique(dropped)) == {0, 2}
    assert 100 < np.count_nonzero(dropped) < 300
