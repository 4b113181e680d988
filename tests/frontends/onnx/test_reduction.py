"""Reductions and running sums: axes as attributes, constants and inputs, dtypes, empty sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metal4conv import load
from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened
from tests.frontends.onnx.test_graph import operations
from tests.frontends.onnx.test_shape import DIMS, SIZES, check_sizes, vector

NAMES = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("opset", [11, 18])
def test_reduce(name: str, opset: int, tmp_path: Path) -> None:
    """Each is one operation, whether the axes are an attribute or an input."""
    is_input = opset == 18
    made = model(
        [
            node("Abs", ["x"], ["a"]),
            node(name, ["a", "axes"], ["y"], keepdims=0)
            if is_input
            else node(name, ["a"], ["y"], axes=[0, -1], keepdims=0),
        ],
        {"x": [2, "h", "w"]},
        ["y"],
        {"axes": vector(0, -1)} if is_input else None,
        opset=opset,
    )
    package = check(made, tmp_path, *({"x": draw(2, h, w)} for h, w in SIZES), dims=DIMS)
    assert len(operations(package)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_computed_axes(name: str, tmp_path: Path) -> None:
    """Every element is scattered to the place in the result that it falls on."""
    made = model(
        [
            node("Abs", ["x"], ["a"]),
            node(name, ["a", "i"], ["y"]),
            node(name, ["a", "i"], ["z"], keepdims=0),
        ],
        {"x": [2, "h", "w"], "i": ("int64", [2])},
        ["y", "z"],
        opset=18,
    )
    cases = zip(SIZES, [(0, 1), (-1, 0), (2, 1)], strict=True)
    feeds = [{"x": draw(2, h, w), "i": vector(*axes)} for (h, w), axes in cases]
    check(made, tmp_path, *feeds, dims=DIMS)


@pytest.mark.parametrize("name", ["ReduceMax", "ReduceMean", "ReduceProd", "ReduceSum"])
def test_integers_with_computed_axes(name: str, tmp_path: Path) -> None:
    made = model(
        [node(name, ["x", "i"], ["y"])],
        {"x": ("int32", [2, 3]), "i": ("int64", [1])},
        {"y": "int32"},
        opset=18,
    )
    x = np.array([[1, -2, 9], [4, 5, -3]], np.int32)
    check(made, tmp_path, {"x": x, "i": vector(1)}, {"x": x, "i": vector(0)})


@pytest.mark.parametrize("name", ["ReduceMax", "ReduceMin"])
def test_extremes_of_bool(name: str, tmp_path: Path) -> None:
    """From opset 20 on; onnx's own evaluator is the oracle."""
    made = model(
        [node(name, ["x", "axes"], ["y"], keepdims=0)],
        {"x": ("bool", [3, "w"])},
        {"y": "bool"},
        {"axes": vector(1)},
        opset=20,
    )
    package, _ = packaged(opened(made, tmp_path, dims=["w=1..3"]), tmp_path / "out")
    x = np.array([[1, 0, 1], [0, 0, 0], [1, 1, 1]])
    wanted = x.max(1) if name == "ReduceMax" else x.min(1)
    found = load(package).predict({"x": x.astype(load(package).inputs["x"].dtype)})["y"]
    np.testing.assert_array_equal(found.astype(int), wanted)


@pytest.mark.parametrize("noop", [0, 1])
@pytest.mark.parametrize("name", ["ReduceSum", "ReduceSumSquare", "ReduceL2"])
def test_no_axes(name: str, noop: int, tmp_path: Path) -> None:
    """All axes, or none: then each element is reduced alone."""
    nodes = [node(name, ["x"], ["y"], noop_with_empty_axes=noop)]
    made = model(nodes, {"x": [2, "h"]}, ["y"], opset=18)
    package, _ = packaged(opened(made, tmp_path, dims=["h=1..3"]), tmp_path / "out")
    x = draw(2, 3)
    each = {"ReduceSum": x, "ReduceSumSquare": x * x, "ReduceL2": abs(x)}[name]
    whole = {
        "ReduceSum": x.sum(),
        "ReduceSumSquare": (x * x).sum(),
        "ReduceL2": (x * x).sum() ** 0.5,
    }
    wanted = each if noop else np.full((1, 1), whole[name])
    np.testing.assert_allclose(load(package).predict({"x": x})["y"], wanted, rtol=1e-5)


def test_narrow_sums_wrap(tmp_path: Path) -> None:
    made = model(
        [node("Cast", ["x"], ["c"], to=3), node("CumSum", ["x", "zero"], ["y"])],
        {"x": ("int32", [3])},
        {"y": "int32"},
        {"zero": np.int64(0)},
    )
    check(made, tmp_path, {"x": np.array([100, 100, -7], np.int32)})


def test_number_of_axes_unknown(tmp_path: Path) -> None:
    made = model(
        [node("ReduceSum", ["x", "i"], ["y"], keepdims=0)],
        {"x": [2, 3], "i": ("int64", ["n"])},
        ["y"],
    )
    with pytest.raises(UnsupportedModel, match="the number of axes is not known"):
        packaged(opened(made, tmp_path, dims=["n=1..2"]), tmp_path / "out")


# positions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_position(name: str, last: int, keepdims: int, tmp_path: Path) -> None:
    """Of equal elements the first, or the last."""
    made = model(
        [node(name, ["x"], ["y"], axis=-1, keepdims=keepdims, select_last_index=last)],
        {"x": ("int32", [2, "w"])},
        {"y": "int64"},
    )
    feeds = [{"x": np.array(x, np.int32)} for x in ([[3], [4]], [[5, 1, 5, 1], [0, 0, 0, 0]])]
    check(made, tmp_path, *feeds, dims=["w=1..4"])


@pytest.mark.parametrize(("opset", "axis"), [(11, 1), (11, -1), (13, 1)])
def test_hardmax(opset: int, axis: int, tmp_path: Path) -> None:
    """Until opset 12 all axes from `axis` on count as one."""
    check_sizes([node("Hardmax", ["x"], ["y"], axis=axis)], tmp_path, opset=opset)


# running sums and products -------------------------------------------------------------------


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_sum(exclusive: int, reverse: int, tmp_path: Path) -> None:
    nodes = [node("CumSum", ["x", "axis"], ["y"], exclusive=exclusive, reverse=reverse)]
    check_sizes(nodes, tmp_path, {"axis": np.int64(-2)})


def test_running_sum_along_a_computed_axis(tmp_path: Path) -> None:
    made = model([node("CumSum", ["x", "a"], ["y"])], {"x": [2, "h", 3], "a": ("int64", [])}, ["y"])
    feeds = [{"x": draw(2, 4, 3), "a": np.int64(axis)} for axis in (0, -2, 2, -1)]
    check(made, tmp_path, *feeds, dims=["h=1..4"])


@pytest.mark.parametrize("exclusive", [0, 1])
@pytest.mark.parametrize("reverse", [0, 1])
def test_running_product(exclusive: int, reverse: int, tmp_path: Path) -> None:
    """Five axes, since none may be added; the oracle is numpy's."""
    made = model(
        [node("CumProd", ["x", "axis"], ["y"], exclusive=exclusive, reverse=reverse)],
        {"x": [1, 2, "h", 2, 2]},
        ["y"],
        {"axis": np.int64(2)},
        opset=26,
    )
    package, _ = packaged(opened(made, tmp_path, dims=["h=1..5"]), tmp_path / "out")
    for h in (1, 4):
        x = draw(1, 2, h, 2, 2)
        ordered = np.flip(x, 2) if reverse else x
        found = np.cumprod(ordered, 2)
        if exclusive:
            found = np.concatenate([np.ones_like(found[:, :, :1]), found[:, :, :-1]], 2)
        wanted = np.flip(found, 2) if reverse else found
        np.testing.assert_allclose(load(package).predict({"x": x})["y"], wanted, rtol=1e-5)
