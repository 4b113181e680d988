"""Shapes, repetition, order, tensors made of a shape: at several sizes, in old opsets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import Node, check, draw, model, node, opened
from tests.frontends.onnx.test_graph import operations

DIMS = ["h=1..6", "w=1..6"]
SIZES = [(1, 1), (2, 3), (5, 4)]


def vector(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


def check_sizes(
    nodes: list[Node],
    folder: Path,
    constants: dict[str, np.ndarray] | None = None,
    dtype: str = "float32",
    **more: Any,  # opset and the like
) -> Path:
    """One package for x of 2 × h × w, at three sizes."""
    made = model(nodes, {"x": ("float32", [2, "h", "w"])}, {"y": dtype}, constants, **more)
    return check(made, folder, *({"x": draw(2, h, w)} for h, w in SIZES), dims=DIMS)


@pytest.mark.parametrize("axis", [0, 1, 2, 3, -1, -2, -3])
def test_flatten(axis: int, tmp_path: Path) -> None:
    check_sizes([node("Flatten", ["x"], ["y"], axis=axis)], tmp_path)


@pytest.mark.parametrize("opset", [11, 21])
def test_axes_of_size_1(opset: int, tmp_path: Path) -> None:
    """Axes were an attribute until opset 12."""
    constants = {"new": vector(0, -1), "old": vector(-1, 0)}
    if opset == 11:
        nodes = [
            node("Unsqueeze", ["x"], ["z"], axes=[0, 4]),
            node("Squeeze", ["z"], ["y"], axes=[-1, 0]),
        ]
        constants = {}
    else:
        nodes = [node("Unsqueeze", ["x", "new"], ["z"]), node("Squeeze", ["z", "old"], ["y"])]
    check_sizes(nodes, tmp_path, constants, opset=opset)


def test_computed_axes(tmp_path: Path) -> None:
    made = model(
        [node("Unsqueeze", ["x", "a"], ["z"]), node("Squeeze", ["z", "b"], ["y"])],
        {"x": [2, "h"], "a": ("int64", [2]), "b": ("int64", [1])},
        ["z", "y"],
    )
    cases = [((0, 1), (-4,)), ((3, 1), (1,)), ((-2, -1), (3,))]
    feeds = [{"x": draw(2, 3), "a": vector(*a), "b": vector(*b)} for a, b in cases]
    check(made, tmp_path, *feeds, dims=["h=1..4"])


def test_squeeze_without_axes_needs_sizes(tmp_path: Path) -> None:
    made = model([node("Squeeze", ["x"], ["y"])], {"x": [1, "h"]}, ["y"])
    with pytest.raises(UnsupportedModel, match="without axes, the rank of the result depends"):
        packaged(opened(made, tmp_path, dims=["h=1..4"]), tmp_path / "out")


def test_squeeze_of_more_than_1(tmp_path: Path) -> None:
    made = model([node("Squeeze", ["x", "a"], ["y"])], {"x": [1, 3]}, ["y"], {"a": vector(1)})
    with pytest.raises(UnsupportedModel, match="axis 1 has 3 elements, not 1"):
        packaged(opened(made, tmp_path), tmp_path / "out")


def test_concat_of_dynamic_sizes(tmp_path: Path) -> None:
    """The sum of the sizes is known, so what follows may ask for it."""
    nodes = [
        node("Concat", ["x", "x", "none"], ["z"], axis=-2),
        node("Shape", ["z"], ["s"]),
        node("ConstantOfShape", ["s"], ["o"]),
        node("Add", ["z", "o"], ["y"]),
    ]
    made = model(nodes, {"x": ["h", 3]}, ["y"], {"none": np.zeros((0, 3), np.float32)})
    check(made, tmp_path, {"x": draw(1, 3)}, {"x": draw(4, 3)}, dims=["h=1..4"])


@pytest.mark.parametrize("dtype", ["bool", "int64", "uint8", "float16"])
def test_dtypes_travel(dtype: str, tmp_path: Path) -> None:
    """What only moves elements takes every dtype."""
    nodes = [
        node("Cast", ["x"], ["c"], to=getattr(TensorProto, dtype.upper())),
        node("Concat", ["c", "c"], ["d"], axis=0),
        node("Tile", ["d", "two"], ["t"]),
        node("Transpose", ["t"], ["p"], perm=[2, 0, 1]),
        node("Expand", ["p", "wide"], ["e"]),
        node("Unsqueeze", ["e", "one"], ["u"]),
        node("Squeeze", ["u", "one"], ["s"]),
        node("Flatten", ["s"], ["f"]),
        node("Cast", ["f"], ["y"], to=TensorProto.FLOAT),
    ]
    constants = {"two": vector(1, 2, 1), "wide": vector(4, 1, 1, 1), "one": vector(1)}
    check_sizes(nodes, tmp_path, constants)


def test_expand_to_a_shape_of_the_model(tmp_path: Path) -> None:
    made = model(
        [node("Shape", ["x"], ["s"]), node("Expand", ["v", "s"], ["y"])],
        {"x": [2, "h", "w"], "v": ["h", 1]},
        ["y"],
    )
    feeds = [{"x": draw(2, h, w), "v": draw(h, 1)} for h, w in SIZES]
    check(made, tmp_path, *feeds, dims=DIMS)


def test_expand_to_a_computed_shape(tmp_path: Path) -> None:
    made = model([node("Expand", ["x", "s"], ["y"])], {"x": ["h", 1], "s": ("int64", [3])}, ["y"])
    cases = [(1, (2, 3, 4)), (3, (1, 1, 5)), (3, (2, 3, 1))]
    feeds = [{"x": draw(h, 1), "s": vector(*s)} for h, s in cases]
    check(made, tmp_path, *feeds, dims=["h=1..4"])


def test_tile_by_sizes(tmp_path: Path) -> None:
    """x is repeated as often as it has elements along each axis."""
    check_sizes([node("Shape", ["x"], ["s"]), node("Tile", ["x", "s"], ["y"])], tmp_path)


def test_size(tmp_path: Path) -> None:
    check_sizes([node("Size", ["x"], ["y"])], tmp_path, dtype="int64")


@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_range_of_a_size(step: int, tmp_path: Path) -> None:
    nodes = [
        node("Size", ["x"], ["n"]),
        node("Range", ["n" if step < 0 else "zero", "zero" if step < 0 else "n", "step"], ["y"]),
    ]
    constants = {"zero": np.int64(0), "step": np.int64(step)}
    check_sizes(nodes, tmp_path, constants, "int64")


def test_range_of_floats(tmp_path: Path) -> None:
    made = model([node("Range", ["a", "b", "c"], ["y"])], {"a": [], "b": [], "c": []}, ["y"])
    cases = [(0, 1, 0.25), (1, -1.1, -0.5), (2, 2.1, 1)]
    feeds = [dict(zip("abc", map(np.float32, case), strict=True)) for case in cases]
    check(made, tmp_path, *feeds)


@pytest.mark.parametrize("k", [-2, 0, 1])
def test_eye_like(k: int, tmp_path: Path) -> None:
    made = model([node("EyeLike", ["x"], ["y"], k=k)], {"x": ["h", "w"]}, ["y"])
    check(made, tmp_path, *({"x": draw(h, w)} for h, w in SIZES), dims=DIMS)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [-1, 0, 2])
def test_triangle(upper: int, k: int, tmp_path: Path) -> None:
    nodes = [node("Trilu", ["x", "k"], ["y"], upper=upper)]
    package = check_sizes(nodes, tmp_path, {"k": np.int64(k)})
    is_band = k <= 0 if upper else k >= 0
    assert ("band_part" in operations(package).values()) == is_band


def test_triangle_of_a_computed_diagonal(tmp_path: Path) -> None:
    made = model(
        [node("Trilu", ["x", "k"], ["y"], upper=0)],
        {"x": ("bool", [3, 4]), "k": ("int64", [])},
        {"y": "bool"},
    )
    x = np.ones((3, 4), bool)
    check(made, tmp_path, *({"x": x, "k": np.int64(k)} for k in (-3, 0, 1, 4)))


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_and_space(dtype: str, mode: str, tmp_path: Path) -> None:
    """Integers take reshapes and transposes, as MIL has these operations for floats."""
    made = model(
        [
            node("DepthToSpace", ["x"], ["z"], blocksize=2, mode=mode),
            node("SpaceToDepth", ["z"], ["y"], blocksize=2),
        ],
        {"x": (dtype, [2, 12, "h", "w"])},
        {"z": dtype, "y": dtype},
    )
    arrays = [np.arange(24 * h * w).reshape(2, 12, h, w).astype(dtype) for h, w in SIZES]
    check(made, tmp_path, *({"x": x} for x in arrays), dims=DIMS)


def test_space_to_depth_with_a_mode(tmp_path: Path) -> None:
    """From opset 28 on; the inverse of DepthToSpace in either mode."""
    for dtype in ("float32", "int32"):
        made = model(
            [
                node("DepthToSpace", ["x"], ["z"], blocksize=2, mode="CRD"),
                node("SpaceToDepth", ["z"], ["y"], blocksize=2, mode="CRD"),
            ],
            {"x": (dtype, [1, 8, 2, 3])},
            {"y": dtype},
            opset=28,
        )
        source = opened(made, tmp_path)
        package, _ = packaged(source, tmp_path / dtype)
        from metal4conv import load

        x = np.arange(48).reshape(1, 8, 2, 3).astype(dtype)
        np.testing.assert_array_equal(load(package).predict({"x": x})["y"], x)


def test_reverse_sequence(tmp_path: Path) -> None:
    made = model(
        [node("ReverseSequence", ["x", "n"], ["y"], batch_axis=0, time_axis=1)],
        {"x": [2, "t", 3], "n": ("int64", [2])},
        ["y"],
    )
    feeds = [{"x": draw(2, t, 3), "n": vector(*n)} for t, n in [(1, (1, 1)), (5, (3, 5))]]
    check(made, tmp_path, *feeds, dims=["t=1..5"])


@pytest.mark.parametrize("value", [None, np.array([7], np.int64), np.array([True])])
def test_constant_of_a_computed_shape(value: np.ndarray | None, tmp_path: Path) -> None:
    given = {} if value is None else {"value": helper.make_tensor("v", *tensor_parts(value))}
    dtype = "float32" if value is None else str(value.dtype)
    made = model(
        [node("ConstantOfShape", ["s"], ["y"], **given)], {"s": ("int64", [2])}, {"y": dtype}
    )
    check(made, tmp_path, {"s": vector(2, 3)}, {"s": vector(1, 1)})


def tensor_parts(array: np.ndarray) -> tuple[int, list[int], list[Any]]:
    """Element type, shape and elements. (Any: numbers.)"""
    return helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape), array.tolist()


@pytest.mark.parametrize("shape", [(0, -1), (2, 0, -1), (-1, 1, 2), (3, 0, 0)])
def test_reshape_by_a_computed_shape(shape: tuple[int, ...], tmp_path: Path) -> None:
    """A 0 keeps the size at its place, counted from the left."""
    made = model(
        [node("Reshape", ["x", "s"], ["y"])],
        {"x": [len(shape), 2, "w"], "s": ("int64", [len(shape)])},
        ["y"],
    )
    x = draw(len(shape), 2, 4)
    wanted = [size if place == 0 else place for size, place in zip(x.shape, shape, strict=False)]
    if np.prod(np.maximum(wanted, 1)) != x.size and -1 not in shape:
        pytest.skip("does not fit")
    check(made, tmp_path, {"x": x, "s": vector(*shape)}, dims=["w=1..4"])


def test_dynamic_windows_of_six_dimensions(tmp_path: Path) -> None:
    """Windows of an image and back, as window attention takes them: Core ML takes 5 dimensions."""
    nodes = [
        node("Shape", ["x"], ["sizes"], start=1, end=3),
        node("Div", ["sizes", "four"], ["counts"]),
        node("Split", ["counts"], ["rows", "columns"], axis=0, num_outputs=2),
        node("Concat", ["one", "rows", "four", "columns", "four", "width"], ["wide"], axis=0),
        node("Reshape", ["x", "wide"], ["six"]),
        node("Transpose", ["six"], ["grouped"], perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", ["grouped", "windows"], ["flat"]),
        node("Softmax", ["flat"], ["soft"], axis=1),
        node("Concat", ["one", "rows", "columns", "four", "four", "open"], ["back"], axis=0),
        node("Reshape", ["soft", "back"], ["apart"]),
        node("Transpose", ["apart"], ["joined"], perm=[0, 1, 3, 2, 4, 5]),
        node("Shape", ["x"], ["whole"]),
        node("Reshape", ["joined", "whole"], ["Y"]),
    ]
    constants = {
        "one": np.array([1]),
        "four": np.array([4]),
        "width": np.array([3]),
        "open": np.array([-1]),
        "windows": np.array([-1, 16, 3]),
    }
    made = model(nodes, {"x": [1, "h", "w", 3]}, ["Y"], constants)
    cases = [{"x": draw(1, h, w, 3)} for h, w in ((4, 4), (8, 12), (16, 4))]
    check(made, tmp_path, *cases, dims=["h=4..64/4@8", "w=4..64/4@8"])
