"""Shape arithmetic stays symbolic and right over the whole range: one package, several sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import sympy
from onnx import TensorProto

from metal4conv import convert
from metal4conv.frontends.onnx.sizes import Decider, Undecided
from metal4conv.verify.verification import verify
from tests.frontends.onnx.models import Node, check, draw, model, node

INT = np.int64


def constant(name: str, *numbers: int) -> tuple[str, np.ndarray]:
    return name, np.array(numbers, INT)


SIZES = [(1, 1), (2, 3), (7, 5), (8, 16)]
"""h and w: the smallest, odd ones, and the largest."""


def image_model(nodes: list[Node], **constants: np.ndarray) -> object:
    return model(nodes, {"x": [1, 4, "h", "w"]}, ["y"], constants)


def check_sizes(nodes: list[Node], folder: Path, **constants: np.ndarray) -> None:
    made = model(nodes, {"x": [1, 4, "h", "w"]}, ["y"], constants)
    cases = [{"x": draw(1, 4, h, w)} for h, w in SIZES]
    check(made, folder, *cases, dims=["h=1..8", "w=1..16"])


def test_flatten_by_computed_shape(tmp_path: Path) -> None:
    """Shape → Gather → Mul → Concat → Reshape, as exporters write x.reshape(1, 4, h * w)."""
    check_sizes(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "two"], ["h"]),
            node("Gather", ["s", "three"], ["w"]),
            node("Mul", ["h", "w"], ["hw"]),
            node("Unsqueeze", ["hw", "zeros"], ["hw1"]),
            node("Concat", ["lead", "hw1"], ["shape"], axis=0),
            node("Reshape", ["x", "shape"], ["flat"]),
            node("Transpose", ["flat"], ["y"], perm=[0, 2, 1]),
        ],
        tmp_path,
        two=np.array(2),
        three=np.array(3),
        zeros=np.array([0]),
        lead=np.array([1, 4]),
    )


def test_expand_with_minus_one_masks(tmp_path: Path) -> None:
    """torch's older exporter: Where(Equal(shape, -1), 1, shape) before Expand."""
    check_sizes(
        [
            node("Shape", ["x"], ["s"]),
            node("Slice", ["s", "one", "four"], ["chw"]),
            node("Concat", ["minus", "chw"], ["wanted"], axis=0),
            node("Expand", ["one", "length"], ["ones"]),
            node("Equal", ["wanted", "minus"], ["is_free"]),
            node("Where", ["is_free", "ones", "wanted"], ["shape"]),
            node("Expand", ["row", "shape"], ["spread"]),
            node("Add", ["x", "spread"], ["y"]),
        ],
        tmp_path,
        one=np.array([1]),
        four=np.array([4]),
        minus=np.array([-1]),
        length=np.array([4]),
        row=draw(1, 4, 1, 1, seed=3),
    )


def test_halves_and_back(tmp_path: Path) -> None:
    """Window partition: sizes divided, multiplied and padded to a multiple of 4."""
    check_sizes(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "two"], ["h"]),
            node("Mod", ["h", "four"], ["over"]),
            node("Sub", ["four", "over"], ["short"]),
            node("Mod", ["short", "four"], ["extra"]),
            node("Concat", ["zeros6", "extra", "zero"], ["pads"], axis=0),
            node("Pad", ["x", "pads"], ["padded"]),
            node("Shape", ["padded"], ["t"]),
            node("Gather", ["t", "two"], ["tall"]),
            node("Div", ["tall", "four"], ["rows"]),
            node("Gather", ["t", "three"], ["wide"]),
            node("Concat", ["lead", "rows", "four", "wide"], ["shape"], axis=0),
            node("Reshape", ["padded", "shape"], ["windows"]),
            node("ReduceMean", ["windows", "axes"], ["y"], keepdims=0),
        ],
        tmp_path,
        two=np.array([2]),
        three=np.array([3]),
        four=np.array([4]),
        zero=np.array([0]),
        zeros6=np.zeros(6, INT),
        lead=np.array([1, 4]),
        axes=np.array([3]),
    )


def test_range_and_coordinates(tmp_path: Path) -> None:
    """A grid of pixel coordinates made of Range, as positional encodings are."""
    check_sizes(
        [
            node("Shape", ["x"], ["s"]),
            node("Gather", ["s", "three"], ["w"]),
            node("Range", ["zero", "w", "one"], ["columns"]),
            node("Cast", ["columns"], ["places"], to=TensorProto.FLOAT),
            node("Add", ["x", "places"], ["y"]),
        ],
        tmp_path,
        three=np.array(3),
        zero=np.array(0),
        one=np.array(1),
    )


def test_resize_to_another_tensors_size(tmp_path: Path) -> None:
    """A decoder that resizes its coarse level to the size of the fine one."""
    check_sizes(
        [
            node(
                "AveragePool", ["x"], ["coarse"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1
            ),
            node("Shape", ["x"], ["s"]),
            node("Slice", ["s", "two", "four"], ["hw"]),
            node("Concat", ["lead", "hw"], ["sizes"], axis=0),
            node(
                "Resize",
                ["coarse", "", "", "sizes"],
                ["large"],
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            ),
            node("Concat", ["x", "large"], ["y"], axis=1),
        ],
        tmp_path,
        two=np.array([2]),
        four=np.array([4]),
        lead=np.array([1, 4]),
    )


def test_split_in_halves_of_a_dynamic_axis(tmp_path: Path) -> None:
    made = model(
        [node("Split", ["x"], ["a", "b"], axis=1, num_outputs=2), node("Mul", ["a", "b"], ["y"])],
        {"x": [1, "n"]},
        ["y"],
    )
    check(made, tmp_path, *({"x": draw(1, n)} for n in (2, 4, 10)), dims=["n=2..10/2"])


def test_related_dimensions_stay_related(tmp_path: Path) -> None:
    """Two inputs share a dimension's name: golden inputs have one size for both."""
    made = model([node("MatMul", ["a", "b"], ["y"])], {"a": [2, "k"], "b": ["k", "n"]}, ["y"])
    onnx.save_model(made, tmp_path / "net.onnx")
    done = convert(tmp_path / "net.onnx", dims=["k=1..9", "n=2..5"], output=tmp_path / "out")
    assert verify(done.package).passed


H, W = sympy.symbols("h w")


@pytest.mark.parametrize(
    ("expression", "is_positive"),
    [(H, True), (H + W - 2, None), (-H, False), (2 * H * W - 1, True), (H - W, None), (3, True)],
)
def test_comparisons_hold_for_every_size(expression: object, is_positive: bool | None) -> None:
    decider = Decider(frozenset((H, W)))
    if is_positive is None:
        with pytest.raises(Undecided):
            decider.is_positive(expression)
    else:
        assert decider.is_positive(expression) is is_positive


def test_unknown_symbols_are_undecided() -> None:
    """A size that depends on data may be 0."""
    with pytest.raises(Undecided):
        Decider(frozenset((H,))).is_positive(W + 1)
