"""Slice, Split, Pad, CenterCropPad: constant, of sizes, and computed bounds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto

from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened
from tests.frontends.onnx.test_graph import operations
from tests.frontends.onnx.test_shape import DIMS, SIZES, check_sizes, vector

LARGE = np.iinfo(np.int64).max

SLICES = [
    # starts, ends, steps
    (0, 2, 1),
    (1, LARGE, 1),
    (-2, LARGE, 1),
    (0, -1, 1),
    (-3, -1, 1),
    (1, 4, 2),
    (3, 1, 1),
    (-1, -LARGE, -1),
    (LARGE, -LARGE, -2),
    (-2, 0, -1),
    (3, 0, -1),
    (100, 1, -2),
]


@pytest.mark.parametrize(("start", "end", "step"), SLICES)
def test_slice_of_known_sizes(start: int, end: int, step: int, tmp_path: Path) -> None:
    constants = {"b": vector(start), "e": vector(end), "a": vector(-1), "s": vector(step)}
    made = model(
        [
            node("Slice", ["x", "b", "e", "a", "s"], ["z"]),
            # nothing may be left, which no output can be
            node("Concat", ["z", "x"], ["y"], axis=1),
        ],
        {"x": [2, 5]},
        ["y"],
        constants,
    )
    check(made, tmp_path, {"x": draw(2, 5)})


@pytest.mark.parametrize(("start", "end", "step"), SLICES)
def test_slice_of_dynamic_sizes(start: int, end: int, step: int, tmp_path: Path) -> None:
    constants = {"b": vector(start), "e": vector(end), "a": vector(1), "s": vector(step)}
    made = model(
        [
            node("Slice", ["x", "b", "e", "a", "s"], ["z"]),
            node("Concat", ["z", "x"], ["y"], axis=1),
        ],
        {"x": [2, "w"]},
        ["y"],
        constants,
    )
    check(made, tmp_path, *({"x": draw(2, w)} for w in (1, 3, 4, 7)), dims=["w=1..8"])


def test_backwards_from_before_the_beginning(tmp_path: Path) -> None:
    """Of a single element the last but one is that element, as ONNX cuts a start."""
    constants = {"b": vector(-2), "e": vector(-LARGE), "a": vector(0), "s": vector(-1)}
    made = model([node("Slice", ["x", *"beas"], ["y"])], {"x": ["h"]}, ["y"], constants)
    check(made, tmp_path, {"x": draw(1)}, {"x": draw(4)}, dims=["h=1..4"])


def test_slice_by_sizes(tmp_path: Path) -> None:
    """The second half of an axis; that it has w - w // 2 elements is known to what follows."""
    nodes = [
        node("Shape", ["x"], ["w"], start=2),
        node("Div", ["w", "two"], ["half"]),
        node("Slice", ["x", "half", "w", "axis"], ["z"]),
        node("Shape", ["z"], ["s"]),
        node("ConstantOfShape", ["s"], ["o"]),
        node("Add", ["z", "o"], ["y"]),
    ]
    check_sizes(nodes, tmp_path, {"two": vector(2), "axis": vector(2)})


def test_slice_with_everything_computed(tmp_path: Path) -> None:
    made = model(
        [node("Slice", ["x", "b", "e", "a", "s"], ["y"])],
        {"x": [4, "w"], **{name: ("int64", [2]) for name in "beas"}},
        ["y"],
    )
    cases = [
        ((0, 1), (3, 4), (0, 1), (1, 1)),
        ((-1, 0), (-100, 100), (-1, 0), (-1, 2)),
        ((100, -3), (0, -1), (1, 0), (-2, 1)),
    ]
    feeds = [
        {"x": draw(4, 6), **{name: vector(*row) for name, row in zip("beas", case, strict=True)}}
        for case in cases
    ]
    check(made, tmp_path, *feeds, dims=["w=1..6"])


@pytest.mark.parametrize("opset", [9, 10])
def test_slice_in_old_opsets(opset: int, tmp_path: Path) -> None:
    if opset == 9:
        nodes = [node("Slice", ["x"], ["y"], starts=[1, 0], ends=[2, -1], axes=[0, 2])]
    else:
        nodes = [node("Slice", ["x", "b", "e", "a"], ["y"])]
    constants = {"b": vector(1, 0), "e": vector(2, -1), "a": vector(0, 2)}
    made = model(nodes, {"x": [2, 3, 4]}, ["y"], constants if opset == 10 else None, opset=opset)
    package = check(made, tmp_path, {"x": draw(2, 3, 4)})
    assert list(operations(package).values()) == ["slice_by_index"]


def test_slice_of_nothing_is_nothing_to_do(tmp_path: Path) -> None:
    constants = {"b": vector(0), "e": vector(LARGE), "a": vector(1)}
    made = model(
        [node("Slice", ["x", "b", "e", "a"], ["z"]), node("Neg", ["z"], ["y"])],
        {"x": [2, "w"]},
        ["y"],
        constants,
    )
    package = check(made, tmp_path, {"x": draw(2, 3)}, dims=["w=1..4"])
    assert list(operations(package).values()) == ["mul"]


def test_step_of_0(tmp_path: Path) -> None:
    constants = {"b": vector(0), "e": vector(1), "a": vector(1), "s": vector(0)}
    made = model([node("Slice", ["x", *"beas"], ["y"])], {"x": [2, 3]}, ["y"], constants)
    with pytest.raises(UnsupportedModel, match="a step of 0 along axis 1"):
        packaged(opened(made, tmp_path), tmp_path / "out")


# Split ---------------------------------------------------------------------------------------


def test_split_of_a_dynamic_size(tmp_path: Path) -> None:
    """In equal parts, or with a last one that is smaller."""
    made = model(
        [
            node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2),
            node("Split", ["x"], ["c", "d"], axis=0, num_outputs=2),
        ],
        {"x": [3, "w"]},
        ["a", "b", "c", "d"],
    )
    check(made, tmp_path, *({"x": draw(3, w)} for w in (2, 3, 6)), dims=["w=2..6"])


def test_split_of_an_even_dynamic_size(tmp_path: Path) -> None:
    made = model([node("Split", ["x"], ["a", "b"], axis=-1)], {"x": [3, "w"]}, ["a", "b"], opset=13)
    package = check(made, tmp_path, *({"x": draw(3, w)} for w in (2, 6)), dims=["w=2..6"])
    assert list(operations(package).values()) == ["split"]


@pytest.mark.parametrize("opset", [11, 13])
def test_split_by_sizes(opset: int, tmp_path: Path) -> None:
    attributes = {"split": [1, 2, 2]} if opset == 11 else {}
    inputs = ["x"] if opset == 11 else ["x", "n"]
    made = model(
        [node("Split", inputs, ["a", "b", "c"], axis=1, **attributes)],
        {"x": ("bool", [2, 5])},
        dict.fromkeys("abc", "bool"),
        {"n": vector(1, 2, 2)} if opset == 13 else None,
        opset=opset,
    )
    check(made, tmp_path, {"x": draw(2, 5) > 0})


def test_split_by_computed_sizes(tmp_path: Path) -> None:
    made = model(
        [node("Split", ["x", "n"], ["a", "b"], axis=0)],
        {"x": ["h", 2], "n": ("int64", [2])},
        ["a", "b"],
    )
    cases = [(2, (1, 1)), (5, (3, 2)), (5, (1, 4))]
    check(made, tmp_path, *({"x": draw(h, 2), "n": vector(*n)} for h, n in cases), dims=["h=2..5"])


# Pad -----------------------------------------------------------------------------------------

MODES = ["constant", "reflect", "edge", "wrap"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_pad(mode: str, dtype: str, tmp_path: Path) -> None:
    made = model(
        [node("Pad", ["x", "p", "v"], ["y"], mode=mode)],
        {"x": (dtype, [3, 4, 5])},
        {"y": dtype},
        {"p": vector(0, 2, 1, 0, 1, 3), "v": np.array(7, dtype)},
    )
    package = check(made, tmp_path, {"x": (draw(3, 4, 5) * 9).astype(dtype)})
    is_native = dtype == "float32" and mode != "wrap"
    assert (list(operations(package).values()) == ["pad"]) == is_native


@pytest.mark.parametrize("mode", MODES)
def test_pad_with_computed_numbers(mode: str, tmp_path: Path) -> None:
    made = model(
        [node("Pad", ["x", "p", "v", "a"], ["y"], mode=mode)],
        {"x": [2, "w"], "p": ("int64", [4]), "v": [], "a": ("int64", [2])},
        ["y"],
    )
    cases = [(3, (0, 0, 0, 0), (0, 1)), (3, (2, 1, 1, 0), (1, 0)), (4, (0, 3, 1, 3), (0, -1))]
    feeds = [
        {"x": draw(2, w), "p": vector(*p), "v": np.float32(5), "a": vector(*a)} for w, p, a in cases
    ]
    check(made, tmp_path, *feeds, dims=["w=1..4"])


def test_pad_beyond_the_size(tmp_path: Path) -> None:
    """As numpy: mirrored, and wrapped, as often as needed."""
    from metal4conv import load

    for mode in ("reflect", "wrap", "edge"):
        made = model(
            [node("Pad", ["x", "p"], ["y"], mode=mode)],
            {"x": [1, 3]},
            ["y"],
            {"p": vector(0, 7, 0, 5)},
        )
        package, _ = packaged(opened(made, tmp_path), tmp_path / mode)
        x = draw(1, 3)
        found = load(package).predict({"x": x})["y"]
        np.testing.assert_array_equal(found, np.pad(x, [(0, 0), (7, 5)], mode))


def test_negative_pads_cut(tmp_path: Path) -> None:
    made = model(
        [node("Pad", ["x", "p", "v"], ["y"])],
        {"x": ["h", 5]},
        ["y"],
        {"p": vector(-1, 2, 1, -3), "v": np.float32(3)},
    )
    check(made, tmp_path, {"x": draw(2, 5)}, {"x": draw(4, 5)}, dims=["h=2..4"])


def test_pad_to_a_multiple(tmp_path: Path) -> None:
    """Numbers that come from sizes are MIL's own operation."""
    nodes = [
        node("Shape", ["x"], ["w"], start=2),
        node("Mod", ["w", "four"], ["rest"]),
        node("Concat", ["zeros", "rest"], ["p"], axis=0),
        node("Pad", ["x", "p"], ["y"]),
    ]
    check_sizes(nodes, tmp_path, {"four": vector(4), "zeros": vector(0, 0, 0, 0, 0)})


@pytest.mark.parametrize("opset", [2, 11, 18])
def test_pad_in_old_opsets(opset: int, tmp_path: Path) -> None:
    constants = {"p": vector(0, 1, 0, 2), "v": np.float32(1.5)}
    attributes = {"pads": [0, 1, 0, 2], "value": 1.5} if opset == 2 else {}
    made = model(
        [node("Pad", ["x"] if opset == 2 else ["x", "p", "v"], ["y"], **attributes)],
        {"x": [2, 3]},
        ["y"],
        constants if opset > 2 else None,
        opset=max(opset, 7),
    )
    check(made, tmp_path, {"x": draw(2, 3)})


def test_unknown_mode(tmp_path: Path) -> None:
    made = model(
        [node("Pad", ["x", "p"], ["y"], mode="odd")], {"x": [3]}, ["y"], {"p": vector(1, 1)}
    )
    with pytest.raises(UnsupportedModel, match='mode "odd" is none of'):
        packaged(opened(made, tmp_path), tmp_path / "out")


@pytest.mark.parametrize("wanted", [(3, 4), (6, 2), (1, 7)])
def test_center_crop_pad(wanted: tuple[int, int], tmp_path: Path) -> None:
    nodes = [node("CenterCropPad", ["x", "s"], ["y"], axes=[-1, 1])]
    check_sizes(nodes, tmp_path, {"s": vector(*wanted)})


def test_center_crop_pad_to_a_computed_size(tmp_path: Path) -> None:
    made = model(
        [
            node("Cast", ["x"], ["c"], to=TensorProto.INT32),
            node("CenterCropPad", ["c", "s"], ["y"]),
        ],
        {"x": ["h", "w"], "s": ("int64", [2])},
        {"y": "int32"},
    )
    feeds = [
        {"x": draw(h, w) * 9, "s": vector(*s)}
        for (h, w), s in zip(SIZES, [(2, 2), (4, 1), (2, 5)], strict=True)
    ]
    check(made, tmp_path, *feeds, dims=DIMS)
