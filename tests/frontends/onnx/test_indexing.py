"""Picking and placing by index and by value: negative indices, dtypes, dynamic sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv import load
from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened
from tests.frontends.onnx.test_graph import operations
from tests.frontends.onnx.test_shape import check_sizes, vector

DTYPES = ["float32", "int64", "bool"]


def typed(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    """Seeded elements of a dtype, integers from -9 to 9."""
    array = draw(*shape, seed=seed)
    return array > 0 if dtype == "bool" else (array * 4).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather(dtype: str, tmp_path: Path) -> None:
    made = model(
        [node("Gather", ["x", "i"], ["y"], axis=-1)],
        {"x": (dtype, [2, "w"]), "i": ("int64", [2, "n"])},
        {"y": dtype},
    )
    cases = [(1, [[0], [-1]]), (4, [[-4, 3, -1], [1, 0, -2]])]
    feeds = [{"x": typed(dtype, 2, w), "i": np.array(i)} for w, i in cases]
    check(made, tmp_path, *feeds, dims=["w=1..4", "n=1..3"])


def test_gather_with_constants(tmp_path: Path) -> None:
    """Indices that are known to be in range are no work; a scalar takes the axis away."""
    nodes = [node("Gather", ["x", "i"], ["z"]), node("Gather", ["z", "j"], ["y"], axis=1)]
    made = model(
        nodes, {"x": [3, 4, 5]}, ["y"], {"i": np.array([-1, 0]), "j": np.array(-2, np.int32)}
    )
    package = check(made, tmp_path, {"x": draw(3, 4, 5)})
    assert list(operations(package).values()) == ["gather", "gather"]


def test_gather_out_of_range(tmp_path: Path) -> None:
    made = model([node("Gather", ["x", "i"], ["y"])], {"x": [3]}, ["y"], {"i": vector(0, 3)})
    with pytest.raises(UnsupportedModel, match="index 3 is out of range for 3 elements"):
        packaged(opened(made, tmp_path), tmp_path / "out")


def test_sizes_are_gathered(tmp_path: Path) -> None:
    """x with its two last axes as one: the arithmetic of sizes stays known."""
    nodes = [
        node("Shape", ["x"], ["s"]),
        node("Gather", ["s", "last"], ["w"]),
        node("Gather", ["s", "middle"], ["h"]),
        node("Mul", ["h", "w"], ["hw"]),
        node("Unsqueeze", ["hw", "zero"], ["hw1"]),
        node("Concat", ["two", "hw1"], ["shape"], axis=0),
        node("Reshape", ["x", "shape"], ["y"]),
    ]
    constants = {
        "last": np.int64(-1),
        "middle": np.int64(1),
        "zero": vector(0),
        "two": vector(2),
    }
    package = check_sizes(nodes, tmp_path, constants)
    assert list(operations(package).values()) == ["reshape"]


@pytest.mark.parametrize("dtype", DTYPES)
def test_gather_elements_of_fewer(dtype: str, tmp_path: Path) -> None:
    """The indices may have smaller sizes than the data along the other axes."""
    made = model(
        [node("GatherElements", ["x", "i"], ["y"], axis=1)],
        {"x": (dtype, ["h", 4]), "i": ("int64", ["n", 3])},
        {"y": dtype},
    )
    feeds = [
        {"x": typed(dtype, h, 4), "i": np.tile([[0, -1, 2]], (n, 1))}
        for h, n in ((1, 1), (3, 2), (3, 3))
    ]
    check(made, tmp_path, *feeds, dims=["h=1..3", "n=1..3"])


@pytest.mark.parametrize("target", ["iOS15", "iOS18"])
def test_gather_nd_in_batches(target: str, tmp_path: Path) -> None:
    """iOS15 has no batches; the index of the batch is one more there."""
    made = model(
        [node("GatherND", ["x", "i"], ["y"], batch_dims=1)],
        {"x": [2, 3, 4], "i": ("int64", [2, 3, 1])},
        ["y"],
    )
    feeds = {"x": draw(2, 3, 4), "i": np.array([[[0], [-1], [1]]] * 2)}
    check(made, tmp_path, feeds, target=target)


REDUCTIONS = ["none", "add", "mul", "max", "min"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_scatter_elements(reduction: str, dtype: str, tmp_path: Path) -> None:
    indices = [[0, -1], [1, 2]] if reduction == "none" else [[0, 0], [-1, 2]]
    made = model(
        [node("ScatterElements", ["x", "i", "u"], ["y"], axis=1, reduction=reduction)],
        {"x": (dtype, [2, 3]), "i": ("int64", [2, 2]), "u": (dtype, [2, 2])},
        {"y": dtype},
    )
    feeds = {"x": typed(dtype, 2, 3), "i": np.array(indices), "u": typed(dtype, 2, 2, seed=1)}
    check(made, tmp_path, feeds)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_scatter_of_fewer(reduction: str, tmp_path: Path) -> None:
    """Updates that are fewer than the data along another axis."""
    made = model(
        [node("ScatterElements", ["x", "i", "u"], ["y"], axis=0, reduction=reduction)],
        {"x": [3, "w"], "i": ("int64", [1, "n"]), "u": [1, "n"]},
        ["y"],
    )
    feeds = [
        {"x": draw(3, w), "i": np.array([i]), "u": draw(1, len(i), seed=1)}
        for w, i in ((1, [0]), (4, [-1, 1]), (4, [2, 0, -3, 1]))
    ]
    check(made, tmp_path, *feeds, dims=["w=1..4", "n=1..4"])


@pytest.mark.parametrize(
    ("operator", "opset"), [("Scatter", 9), ("ScatterElements", 11), ("ScatterElements", 16)]
)
def test_scatter_in_old_opsets(operator: str, opset: int, tmp_path: Path) -> None:
    made = model(
        [node(operator, ["x", "i", "u"], ["y"], axis=1)],
        {"x": ("bool", [1, 5]), "u": ("bool", [1, 2])},
        {"y": "bool"},
        {"i": np.array([[1, 3]])},
        opset=opset,
    )
    check(made, tmp_path, {"x": typed("bool", 1, 5), "u": typed("bool", 1, 2, seed=1)})


def test_narrow_sums_wrap(tmp_path: Path) -> None:
    made = model(
        [node("ScatterND", ["x", "i", "u"], ["y"], reduction="add")],
        {"x": ("int8", [3]), "i": ("int64", [2, 1]), "u": ("int8", [2])},
        {"y": "int32"},
    )
    made.graph.node[0].output[0] = "z"
    made.graph.node.append(node("Cast", ["z"], ["y"], to=6))
    feeds = {"x": np.int8([100, 1, -100]), "i": np.array([[0], [-1]]), "u": np.int8([100, -100])}
    package, _ = packaged(opened(made, tmp_path), tmp_path / "out")
    executor = load(package)
    held = {name: array.astype(executor.inputs[name].dtype) for name, array in feeds.items()}
    np.testing.assert_array_equal(executor.predict(held)["y"], [-56, 1, 56])


def test_scatter_nd_of_slices(tmp_path: Path) -> None:
    made = model(
        [node("ScatterND", ["x", "i", "u"], ["y"], reduction="max")],
        {"x": [3, "h", 2], "i": ("int64", [2, 1, 1]), "u": [2, 1, "h", 2]},
        ["y"],
    )
    feeds = [
        {"x": draw(3, h, 2), "i": np.array([[[-1]], [[0]]]), "u": draw(2, 1, h, 2, seed=1)}
        for h in (1, 3)
    ]
    check(made, tmp_path, *feeds, dims=["h=1..3"])


def test_unknown_reduction(tmp_path: Path) -> None:
    made = model(
        [node("ScatterND", ["x", "i", "u"], ["y"], reduction="odd")],
        {"x": [3], "i": ("int64", [1, 1]), "u": [1]},
        ["y"],
    )
    with pytest.raises(UnsupportedModel, match='reduction "odd" is none of none, add'):
        packaged(opened(made, tmp_path), tmp_path / "out")


@pytest.mark.parametrize("mode", ["linear", "circular"])
def test_tensor_scatter(mode: str, tmp_path: Path) -> None:
    """The oracle is a loop: onnxruntime has no such operator yet."""
    made = model(
        [node("TensorScatter", ["c", "u", "i"], ["y"], mode=mode, axis=1)],
        {"c": [2, 5, "d"], "u": [2, "t", "d"], "i": ("int64", [2])},
        ["y"],
        opset=24,
    )
    package, _ = packaged(opened(made, tmp_path, dims=["d=1..3", "t=1..3"]), tmp_path / "out")
    executor = load(package)
    for t, first in ((1, [0, 4]), (3, [2, 1] if mode == "linear" else [3, 4])):
        cache, update = draw(2, 5, 3), draw(2, t, 3, seed=1)
        wanted = cache.copy()
        for batch, place in np.ndindex(2, t):
            wanted[batch, (first[batch] + place) % 5] = update[batch, place]
        feeds = {"c": cache, "u": update, "i": np.array(first, np.int32)}
        np.testing.assert_array_equal(executor.predict(feeds)["y"], wanted)


# by value ------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_non_zero(dtype: str, tmp_path: Path) -> None:
    """How many there are is known when the model runs; what follows goes by that."""
    made = model(
        [
            node("NonZero", ["x"], ["i"]),
            node("Transpose", ["i"], ["t"]),
            node("GatherND", ["x", "t"], ["v"]),
        ],
        {"x": (dtype, ["h", 3])},
        {"i": "int64", "v": dtype},
    )
    feeds = [
        {"x": np.maximum(typed(dtype, h, 3), 0) if dtype != "bool" else x}
        for h, x in ((2, typed("bool", 2, 3)), (5, typed("bool", 5, 3)))
    ]
    check(made, tmp_path, *feeds, dims=["h=1..5"])


@pytest.mark.parametrize("axis", [None, 0, -1])
def test_compress(axis: int | None, tmp_path: Path) -> None:
    """The condition may be shorter than the axis."""
    attributes = {} if axis is None else {"axis": axis}
    made = model(
        [node("Compress", ["x", "c"], ["y"], **attributes)],
        {"x": ["h", 3], "c": ("bool", [2])},
        ["y"],
    )
    feeds = [{"x": draw(h, 3), "c": np.array(c)} for h, c in ((2, [0, 1]), (4, [True, True]))]
    check(made, tmp_path, *feeds, dims=["h=2..4"])


@pytest.mark.parametrize("axis", [-1, 0, 1])
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_one_hot(axis: int, dtype: str, tmp_path: Path) -> None:
    made = model(
        [node("OneHot", ["i", "n", "v"], ["y"], axis=axis)],
        {"i": ("int64", [2, "t"])},
        {"y": dtype},
        {"n": np.int64(4), "v": np.array([0, 3], dtype)},
    )
    made.opset_import[0].version = 11
    package, _ = packaged(opened(made, tmp_path, dims=["t=1..3"]), tmp_path / "out")
    for indices in ([[0], [-1]], [[1, -4, 7], [3, 2, -5]]):
        i = np.array(indices)
        on = np.expand_dims(np.where(i < 0, i + 4, i), axis) == np.arange(4).reshape(
            [4 if place == axis % 3 else 1 for place in range(3)]
        )
        wanted = np.where(on, *np.array([3, 0], dtype))
        found = load(package).predict({"i": i.astype(np.int32)})["y"]
        np.testing.assert_array_equal(found.astype(dtype), wanted)


def test_one_hot_with_everything_computed(tmp_path: Path) -> None:
    made = model(
        [node("OneHot", ["i", "n", "v"], ["y"])],
        {"i": [3], "n": ("int64", []), "v": ("int32", [2])},
        {"y": "int32"},
        opset=11,
    )
    cases = [([0, 1, -1], 2, [5, 7]), ([4, 0, 2], 5, [-1, 1])]
    feeds = [
        {"i": np.float32(i), "n": np.int64(n), "v": np.array(v, np.int32)} for i, n, v in cases
    ]
    check(made, tmp_path, *feeds)


@pytest.mark.parametrize(("axis", "largest"), [(-1, 1), (0, 0)])
@pytest.mark.parametrize("dtype", ["float32", "int64"])
def test_top_k(axis: int, largest: int, dtype: str, tmp_path: Path) -> None:
    """Of equal elements the first comes first."""
    made = model(
        [node("TopK", ["x", "k"], ["v", "i"], axis=axis, largest=largest)],
        {"x": (dtype, ["h", 5])},
        {"v": dtype, "i": "int64"},
        {"k": vector(2)},
    )
    feeds = [{"x": typed(dtype, h, 5)} for h in (2, 7)]
    check(made, tmp_path, *feeds, dims=["h=2..7"])


def test_top_k_of_a_size(tmp_path: Path) -> None:
    """Half of the elements, as many as there are."""
    nodes = [
        node("Shape", ["x"], ["n"], start=2),
        node("Div", ["n", "two"], ["half"]),
        node("Add", ["half", "one"], ["k"]),
        node("TopK", ["x", "k"], ["y", "i"]),
    ]
    check_sizes(nodes, tmp_path, {"two": vector(2), "one": vector(1)})


@pytest.mark.parametrize(("opset", "inputs"), [(9, ["x"]), (10, ["x", "k"])])
def test_top_k_in_old_opsets(opset: int, inputs: list[str], tmp_path: Path) -> None:
    attributes: dict[str, Any] = {"k": 2} if opset == 9 else {}
    made = model(
        [node("TopK", inputs, ["v", "i"], axis=1, **attributes)],
        {"x": [2, 4]},
        {"v": "float32", "i": "int64"},
        {"k": vector(2)} if opset == 10 else None,
        opset=opset,
    )
    check(made, tmp_path, {"x": draw(2, 4)})


@pytest.mark.parametrize("is_sorted", [0, 1])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_unique(axis: int | None, is_sorted: int, tmp_path: Path) -> None:
    attributes = {} if axis is None else {"axis": axis}
    made = model(
        [node("Unique", ["x"], ["y", "i", "v", "c"], sorted=is_sorted, **attributes)],
        {"x": ["h", 3]},
        {"y": "float32", "i": "int64", "v": "int64", "c": "int64"},
    )
    cases = [
        [[1, 1, 1]],
        [[2, 0, 2], [1, 0, 1], [2, 0, 2], [-1, 5, -1]],
    ]
    check(made, tmp_path, *({"x": np.float32(x)} for x in cases), dims=["h=1..4"])


@pytest.mark.parametrize("operator", ["ArgMax", "Range", "TopK"])
def test_places_are_not_wrapped(operator: str, tmp_path: Path) -> None:
    """What finds places, or counts from 0, gives no negative indices."""
    first = {
        "ArgMax": [node("ArgMax", ["x"], ["i"], axis=1, keepdims=0)],
        "Range": [
            node("Shape", ["x"], ["s"], end=1),
            node("Squeeze", ["s", "zero"], ["n"]),
            node("Range", ["start", "n", "step"], ["i"]),
        ],
        "TopK": [node("TopK", ["x", "one"], ["v", "t"]), node("Squeeze", ["t", "one"], ["i"])],
    }[operator]
    constants = {
        "zero": vector(0),
        "one": vector(1),
        "start": np.int64(0),
        "step": np.int64(1),
        "w": draw(5, 2),
    }
    made = model([*first, node("Gather", ["w", "i"], ["y"])], {"x": ["h", 4]}, ["y"], constants)
    package = check(made, tmp_path, {"x": draw(1, 4)}, {"x": draw(5, 4)}, dims=["h=1..5"])
    assert "select" not in operations(package).values()
