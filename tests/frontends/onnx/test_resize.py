"""Resizing: MIL's own operations, and the same by elements; sizes from everywhere."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from metal4conv import load
from metal4conv.mil.package import read_package
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened

LINEAR = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]


def types_of(package: Path) -> list[str]:
    block = read_package(package).program.functions["main"].block
    return [item.type for item in block.operations if item.type != "const"]


def scales(*values: float) -> dict[str, np.ndarray]:
    return {"scales": np.array(values, np.float32)}


@pytest.mark.parametrize(
    ("where", "nearest"),
    [
        ("half_pixel", "round_prefer_floor"),
        ("pytorch_half_pixel", "round_prefer_ceil"),
        ("asymmetric", "floor"),
    ],
)
def test_nearest_by_whole_scales_is_one_operation(where: str, nearest: str, tmp_path: Path) -> None:
    attributes = {"coordinate_transformation_mode": where, "nearest_mode": nearest}
    made = model(
        [node("Resize", ["x", "", "scales"], ["y"], mode="nearest", **attributes)],
        {"x": [1, 2, "h", "w"]},
        ["y"],
        scales(1, 1, 2, 3),
    )
    cases = [{"x": draw(1, 2, *size)} for size in ((1, 1), (3, 2))]
    found = types_of(check(made, tmp_path, *cases, dims=["h=1..4", "w=1..4"]))
    assert found == ["upsample_nearest_neighbor"]


@pytest.mark.parametrize("where", LINEAR)
def test_linear_by_whole_scales_is_one_operation(where: str, tmp_path: Path) -> None:
    made = model(
        [
            node(
                "Resize",
                ["x", "", "scales"],
                ["y"],
                mode="linear",
                coordinate_transformation_mode=where,
            )
        ],
        {"x": [1, 2, "h", "w"]},
        ["y"],
        scales(1, 1, 2, 2),
    )
    cases = [{"x": draw(1, 2, *size)} for size in ((1, 1), (3, 2))]
    found = types_of(check(made, tmp_path, *cases, dims=["h=1..4", "w=1..4"]))
    assert found == ["upsample_bilinear"]


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_sizes_computed_from_the_shape(mode: str, tmp_path: Path) -> None:
    """As exporters write a scale of 2: the shape's parts, doubled, and put together again."""
    nodes = [
        node("Shape", ["x"], ["head"], end=2),
        node("Shape", ["x"], ["tail"], start=2),
        node("Mul", ["tail", "two"], ["twice"]),
        node("Concat", ["head", "twice"], ["sizes"], axis=0),
        node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode),
    ]
    made = model(nodes, {"x": [1, 2, "h", "w"]}, ["y"], {"two": np.array([2])})
    cases = [{"x": draw(1, 2, *size)} for size in ((1, 2), (3, 4))]
    found = types_of(check(made, tmp_path, *cases, dims=["h=1..4", "w=1..4"]))
    assert len(found) == 1
    assert found[0].startswith("upsample")


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_to_the_size_of_another_value(mode: str, tmp_path: Path) -> None:
    nodes = [
        node("Shape", ["z"], ["sizes"], start=2),
        node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode, axes=[2, 3]),
        node("Add", ["y", "z"], ["sum"]),
    ]
    made = model(nodes, {"x": [1, 2, "a", "b"], "z": [1, 2, "c", "d"]}, ["sum"])
    cases = [
        {"x": draw(1, 2, *size), "z": draw(1, 2, *other, seed=1)}
        for size, other in (((1, 2), (3, 5)), ((4, 4), (3, 6)))
    ]
    check(made, tmp_path, *cases, dims=["a=1..4", "b=1..4", "c=1..8", "d=1..8"])


FACTORS = [(1.5, 0.6), (0.5, 2.0)]
MODES = [
    *(
        ("nearest", where, how)
        for where, how in product([*LINEAR, "tf_half_pixel_for_nn"], ["floor"])
    ),
    *(
        ("nearest", "asymmetric", how)
        for how in ("ceil", "round_prefer_floor", "round_prefer_ceil")
    ),
    *(("linear", where, "floor") for where in (*LINEAR, "half_pixel_symmetric")),
    *(("cubic", where, "floor") for where in ("half_pixel", "align_corners")),
]


@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize(("mode", "where", "nearest"), MODES)
@pytest.mark.parametrize("height", ["h", 6])
def test_modes(
    mode: str,
    where: str,
    nearest: str,
    factors: tuple[float, float],
    height: int | str,
    tmp_path: Path,
) -> None:
    """Sizes are such that scales give whole ones: of others ONNX and onnxruntime differ."""
    if where == "tf_half_pixel_for_nn" or (mode == "linear" and where == "half_pixel_symmetric"):
        opset = 11 if where == "tf_half_pixel_for_nn" else 19
    else:
        opset = 18
    made = model(
        [
            node(
                "Resize",
                ["x", "roi", "scales"],
                ["y"],
                mode=mode,
                coordinate_transformation_mode=where,
                nearest_mode=nearest,
            )
        ],
        {"x": [1, 2, height, 10]},
        ["y"],
        {**scales(1, 1, *factors), "roi": np.zeros(0, np.float32)},
        opset=opset,
    )
    sizes = (2, 6) if height == "h" else (6,)
    cases = [{"x": draw(1, 2, size, 10)} for size in sizes]
    dims = ["h=2..10/2"] if height == "h" else []
    check(made, tmp_path, *cases, dims=dims, tolerance=1e-4)


@pytest.mark.parametrize("operator", ["Upsample-7", "Upsample-9", "Resize-10"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_old_opsets(operator: str, mode: str, tmp_path: Path) -> None:
    name, _, version = operator.partition("-")
    if version == "7":
        made_node = node(name, ["x"], ["y"], mode=mode, scales=[1.0, 1.0, 2.0, 3.0])
    else:
        made_node = node(name, ["x", "scales"], ["y"], mode=mode)
    made = model(
        [made_node],
        {"x": [1, 2, "h", 3]},
        ["y"],
        {} if version == "7" else scales(1, 1, 2, 3),
        opset=int(version),
    )
    check(made, tmp_path, *({"x": draw(1, 2, n, 3)} for n in (1, 4)), dims=["h=1..4"])


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("rank", [1, 2, 3, 5])
def test_other_ranks(mode: str, rank: int, tmp_path: Path) -> None:
    if (mode, rank) in (("cubic", 1), ("cubic", 3), ("cubic", 5), ("linear", 5), ("linear", 1)):
        pytest.skip("onnxruntime has it for images alone")
    shape: list[int | str] = [1] * (rank - 1) + ["w"]
    factors = [1.0] * (rank - 1) + [2.0]
    made = model(
        [node("Resize", ["x", "", "scales"], ["y"], mode=mode)],
        {"x": shape},
        ["y"],
        scales(*factors),
    )
    cases = [{"x": draw(*[1] * (rank - 1), size)} for size in (1, 5)]
    check(made, tmp_path, *cases, dims=["w=1..6"])


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
def test_proportions_are_kept(policy: str, tmp_path: Path) -> None:
    attributes: dict[str, Any] = {"keep_aspect_ratio_policy": policy, "axes": [2, 3]}
    made = model(
        [node("Resize", ["x", "", "", "sizes"], ["y"], mode="linear", **attributes)],
        {"x": [1, 1, "h", 4], "sizes": ("int64", [2])},
        ["y"],
    )
    feeds = {"sizes": np.array([7, 6])}
    cases = [{"x": draw(1, 1, n, 4), **feeds} for n in (2, 5)]
    check(made, tmp_path, *cases, dims=["h=2..6"], tolerance=1e-4)


def test_parts_that_are_cropped(tmp_path: Path) -> None:
    made = model(
        [
            node(
                "Resize",
                ["x", "roi", "", "sizes"],
                ["y"],
                mode="linear",
                coordinate_transformation_mode="tf_crop_and_resize",
                extrapolation_value=7.0,
            )
        ],
        {"x": [1, 1, "h", 4], "roi": [8]},
        ["y"],
        {"sizes": np.array([1, 1, 3, 3])},
    )
    package, _ = packaged(opened(made, tmp_path, dims=["h=2..6"]), tmp_path / "out")
    roi = np.array([0, 0, 0.2, -0.1, 1, 1, 1.2, 0.8], np.float32)
    for height in (3, 5):
        feeds = {"x": draw(1, 1, height, 4), "roi": roi}
        wanted = ReferenceEvaluator(made).run(None, feeds)[0]
        np.testing.assert_allclose(load(package).predict(feeds)["y"], wanted, 1e-4, 1e-5)
