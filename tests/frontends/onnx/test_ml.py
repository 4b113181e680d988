"""Classic models on numbers beside onnxruntime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened

DOMAIN = "ai.onnx.ml"


def single(
    operator: str,
    outputs: dict[str, str] | None = None,
    *,
    dtype: str = "float32",
    features: int = 4,
    version: int = 3,
    **attributes: Any,  # the node's
) -> onnx.ModelProto:
    """A model of one operator on rows of features."""
    results = outputs or {"y": "float32"}
    made = node(operator, ["x"], list(results), domain=DOMAIN, **attributes)
    shapes = {"x": (dtype, ["n", features])}
    return model([made], shapes, results, domains={DOMAIN: version}, opset=17)


def verify(made: onnx.ModelProto, folder: Path, *arrays: np.ndarray) -> None:
    check(made, folder, *({"x": array} for array in arrays), dims=["n=1..8"])


ROWS = (draw(1, 4), draw(5, 4))


@pytest.mark.parametrize(
    ("operator", "more"),
    [
        ("Binarizer", {"threshold": 0.3}),
        ("Scaler", {"offset": [0.5], "scale": [2.0]}),
        ("Scaler", {"offset": [0.5, 1.0, -1.0, 0.0], "scale": [2.0, 1.0, 0.5, -1.0]}),
        ("Normalizer", {"norm": "L1"}),
        ("Normalizer", {"norm": "L2"}),
        ("LinearRegressor", {"coefficients": [0.5, -1.0, 2.0, 0.1], "intercepts": [0.3]}),
        ("LinearRegressor", {"coefficients": draw(8).tolist(), "targets": 2}),
        (
            "SVMRegressor",
            {"coefficients": [0.5, -1.0, 2.0, 0.1], "rho": [0.2], "kernel_params": [0.0, 0.0, 3.0]},
        ),
    ],
)
def test_features(operator: str, more: dict[str, Any], tmp_path: Path) -> None:
    verify(single(operator, **more), tmp_path, *ROWS)


def test_largest_elements_divide(tmp_path: Path) -> None:
    verify(single("Normalizer", norm="MAX"), tmp_path, np.abs(draw(3, 4)))


@pytest.mark.parametrize("kernel", ["LINEAR", "POLY", "RBF", "SIGMOID"])
def test_support_vectors(kernel: str, tmp_path: Path) -> None:
    made = single(
        "SVMRegressor",
        kernel_type=kernel,
        kernel_params=[0.3, 0.5, 2.0],
        n_supports=3,
        support_vectors=draw(12, seed=1).tolist(),
        coefficients=[0.5, -1.0, 0.7],
        rho=[0.2],
    )
    verify(made, tmp_path, *ROWS)


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_linear_classifier(post: str, tmp_path: Path) -> None:
    made = single(
        "LinearClassifier",
        {"label": "int64", "scores": "float32"},
        coefficients=draw(12, seed=1).tolist(),
        intercepts=[0.1, 0.2, -0.3],
        classlabels_ints=[7, 3, 5],
        post_transform=post,
    )
    verify(made, tmp_path, *ROWS)


@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_imputer(dtype: str, tmp_path: Path) -> None:
    if dtype == "float32":
        array = draw(3, 4)
        array[1, 2] = np.nan
        values = {"imputed_value_floats": [1.0, 2.0, 3.0, 4.0]}
        made = single("Imputer", replaced_value_float=float("nan"), **values)
    else:
        array = np.array([[1, 7, 2, 7]])
        made = single(
            "Imputer",
            {"y": dtype},
            dtype=dtype,
            replaced_value_int64=7,
            imputed_value_int64s=[9],
        )
    verify(made, tmp_path, array)


@pytest.mark.parametrize("version", [2, 4])
def test_label_encoder(version: int, tmp_path: Path) -> None:
    made = single(
        "LabelEncoder",
        {"y": "float32"},
        dtype="int64",
        version=version,
        keys_int64s=[3, 1, 8],
        values_floats=[0.5, 1.5, 2.5],
        default_float=-7.0,
    )
    verify(made, tmp_path, np.array([[1, 3, 8, 2]]))


def test_label_encoder_with_nan(tmp_path: Path) -> None:
    made = single(
        "LabelEncoder",
        {"y": "int64"},
        version=4,
        keys_floats=[0.5, float("nan")],
        values_int64s=[4, 5],
        default_int64=9,
    )
    verify(made, tmp_path, np.array([[0.5, np.nan, 1.0, 0.0]], np.float32))


def test_one_hot_encoder(tmp_path: Path) -> None:
    made = single("OneHotEncoder", dtype="int64", cats_int64s=[3, 1, 8])
    verify(made, tmp_path, np.array([[1, 3, 8, 2]]))


def test_features_side_by_side(tmp_path: Path) -> None:
    nodes = [
        node("ArrayFeatureExtractor", ["x", "places"], ["some"], domain=DOMAIN),
        node("FeatureVectorizer", ["some", "w"], ["y"], domain=DOMAIN, inputdimensions=[2, 3]),
    ]
    made = model(
        nodes,
        {"x": ["n", 4], "w": ["n", 3]},
        ["y"],
        {"places": np.array([[2, 0]])},
        domains={DOMAIN: 3},
        opset=17,
    )
    cases = [{"x": draw(n, 4), "w": draw(n, 3, seed=1)} for n in (1, 3)]
    check(made, tmp_path, *cases, dims=["n=1..8"])


def test_strings_are_refused(tmp_path: Path) -> None:
    made = single("OneHotEncoder", dtype="int64", cats_strings=["a", "b"])
    with pytest.raises(UnsupportedModel, match="the categories are strings"):
        packaged(opened(made, tmp_path, dims=["n=1..8"]), tmp_path)


# trees ---------------------------------------------------------------------------------------


def grown(mode: str = "BRANCH_LEQ", trees: int = 3, seed: int = 0) -> dict[str, list[Any]]:
    """Trees of different depth with seeded tests: node 0, its children 1 and 2, those of 1."""
    generator = np.random.default_rng(seed)
    keys = ["treeids", "nodeids", "modes", "featureids", "values", "truenodeids", "falsenodeids"]
    found: dict[str, list[Any]] = {
        f"nodes_{key}": [] for key in (*keys, "missing_value_tracks_true")
    }
    for tree in range(trees):
        deep = tree % 2 == 0
        for number in range(5 if deep else 3):
            is_leaf = number > (1 if deep else 0)
            found["nodes_treeids"].append(tree)
            found["nodes_nodeids"].append(number)
            found["nodes_modes"].append("LEAF" if is_leaf else mode)
            found["nodes_featureids"].append(0 if is_leaf else int(generator.integers(4)))
            found["nodes_values"].append(0.0 if is_leaf else float(generator.normal() * 0.5))
            children = (0, 0) if is_leaf else ((1, 2) if number == 0 else (3, 4))
            found["nodes_truenodeids"].append(children[0])
            found["nodes_falsenodeids"].append(children[1])
            found["nodes_missing_value_tracks_true"].append(int(not is_leaf and number == 0))
    return found


def leaves_of(nodes: dict[str, list[Any]], prefix: str, targets: list[int]) -> dict[str, Any]:
    """Each leaf gives a seeded weight to each of some targets."""
    generator = np.random.default_rng(1)
    rows = [
        (tree, number, target)
        for tree, number, mode in zip(
            nodes["nodes_treeids"], nodes["nodes_nodeids"], nodes["nodes_modes"], strict=True
        )
        if mode == "LEAF"
        for target in targets
    ]
    return {
        f"{prefix}_treeids": [row[0] for row in rows],
        f"{prefix}_nodeids": [row[1] for row in rows],
        f"{prefix}_ids": [row[2] for row in rows],
        f"{prefix}_weights": generator.random(len(rows)).tolist(),
    }


SAMPLES = draw(8, 4, seed=3)


@pytest.mark.parametrize("mode", ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"])
def test_modes(mode: str, tmp_path: Path) -> None:
    nodes = grown(f"BRANCH_{mode}")
    made = single("TreeEnsembleRegressor", n_targets=1, **nodes, **leaves_of(nodes, "target", [0]))
    missing = SAMPLES.copy()
    missing[::2, 1] = np.nan
    verify(made, tmp_path, SAMPLES, SAMPLES[:1], missing)


def test_modes_together(tmp_path: Path) -> None:
    nodes = grown()
    nodes["nodes_modes"][0], nodes["nodes_modes"][1] = "BRANCH_GT", "BRANCH_LT"
    made = single("TreeEnsembleRegressor", n_targets=1, **nodes, **leaves_of(nodes, "target", [0]))
    verify(made, tmp_path, SAMPLES)


@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
def test_aggregates(aggregate: str, tmp_path: Path) -> None:
    nodes = grown()
    made = single(
        "TreeEnsembleRegressor",
        n_targets=2,
        aggregate_function=aggregate,
        base_values=[0.5, -1.0],
        **nodes,
        **leaves_of(nodes, "target", [0, 1]),
    )
    verify(made, tmp_path, SAMPLES)


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX"])
def test_classes(post: str, tmp_path: Path) -> None:
    nodes = grown()
    made = single(
        "TreeEnsembleClassifier",
        {"label": "int64", "scores": "float32"},
        classlabels_int64s=[7, 3, 5],
        post_transform=post,
        **nodes,
        **leaves_of(nodes, "class", [0, 1, 2]),
    )
    verify(made, tmp_path, SAMPLES)


@pytest.mark.parametrize("shift", [0.0, -0.4])
def test_two_classes_with_one_score(shift: float, tmp_path: Path) -> None:
    nodes = grown(trees=1)
    given = leaves_of(nodes, "class", [0])
    given["class_weights"] = [weight + shift for weight in given["class_weights"]]
    made = single(
        "TreeEnsembleClassifier",
        {"label": "int64", "scores": "float32"},
        classlabels_int64s=[7, 3],
        **nodes,
        **given,
    )
    verify(made, tmp_path, SAMPLES)
