"""Products of matrices and by equations, determinants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.package import read_package
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened


def types_of(package: Path) -> list[str]:
    block = read_package(package).program.functions["main"].block
    return [item.type for item in block.operations if item.type != "const"]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((4,), (4,)),
        ((4,), (2, 4, 3)),
        ((2, 3, 4), (4,)),
        ((2, 1, 3, 4), (5, 4, 2)),
        ((3, 4), (4, 1)),
    ],
)
def test_products_broadcast(left: tuple[int, ...], right: tuple[int, ...], tmp_path: Path) -> None:
    made = model([node("MatMul", ["a", "b"], ["y"])], {"a": left, "b": right}, ["y"])
    check(made, tmp_path, {"a": draw(*left), "b": draw(*right, seed=1)})


def test_constant_matrix_is_a_linear_operation(tmp_path: Path) -> None:
    made = model(
        [node("MatMul", ["x", "w"], ["z"]), node("Add", ["z", "b"], ["y"])],
        {"x": [1, "t", 4]},
        ["y"],
        {"w": draw(4, 3, seed=1), "b": draw(3, seed=2)},
    )
    cases = [{"x": draw(1, size, 4)} for size in (1, 5)]
    assert types_of(check(made, tmp_path, *cases, dims=["t=1..8"])) == ["linear"]


@pytest.mark.parametrize("attributes", [{"alpha": 0.5, "beta": 2.0}, {"transA": 1, "transB": 1}])
@pytest.mark.parametrize("bias", [None, (), (1,), (3,), (1, 3), (2, 1), (2, 3)])
@pytest.mark.parametrize("constant", [True, False])
def test_gemm(
    attributes: dict[str, Any], bias: tuple[int, ...] | None, constant: bool, tmp_path: Path
) -> None:
    a = draw(4, 2) if attributes.get("transA") else draw(2, 4)
    b = draw(3, 4, seed=1) if attributes.get("transB") else draw(4, 3, seed=1)
    arrays = {"a": a, "b": b}
    if bias is not None:
        arrays["c"] = np.asarray(draw(*bias, seed=2), np.float32)
    constants = {name: item for name, item in arrays.items() if constant and name != "a"}
    feeds = {name: item for name, item in arrays.items() if name not in constants}
    inputs = {name: list(item.shape) for name, item in feeds.items()}
    made = model([node("Gemm", list(arrays), ["y"], **attributes)], inputs, ["y"], constants)
    found = types_of(check(made, tmp_path, feeds))
    if constant and bias in (None, (), (1,), (3,), (1, 3)) and not attributes.get("transA"):
        assert found == ["linear"]


EQUATIONS = [
    ("ij,jk->ik", [(2, "n"), ("n", 4)]),
    ("bhid,bhjd->bhij", [(1, 2, "n", 4), (1, 2, 3, 4)]),
    ("...ij,...jk->...ik", [("n", 1, 2, 3), (1, 2, 3, 4)]),
    ("ii->i", [("n", "n")]),
    ("iij->j", [("n", "n", 2)]),
    ("ij->", [("n", 3)]),
    ("i,j->ij", [("n",), (3,)]),
    ("ij,kl", [(2, "n"), (2, 2)]),
    ("abc,cd,de->abe", [(2, "n", 3), (3, 4), (4, 2)]),
    ("bcij,ck->bkij", [(1, 3, "n", 2), (3, 4)]),
    ("ab,abc->c", [(2, "n"), (2, "n", 3)]),
    ("i...->...", [(2, "n")]),
    (" ij , ij -> i ", [(2, "n"), (2, "n")]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
def test_equations(equation: str, shapes: list[tuple[int | str, ...]], tmp_path: Path) -> None:
    names = [f"x{place}" for place in range(len(shapes))]
    made = model(
        [node("Einsum", names, ["y"], equation=equation)],
        dict(zip(names, map(list, shapes), strict=True)),
        ["y"],
    )
    cases = [
        {
            name: draw(*(size if item == "n" else int(item) for item in shape), seed=place)
            for place, (name, shape) in enumerate(zip(names, shapes, strict=True))
        }
        for size in (1, 3)
    ]
    check(made, tmp_path, *cases, dims=["n=1..4"])


def test_equation_for_other_inputs(tmp_path: Path) -> None:
    made = model([node("Einsum", ["x"], ["y"], equation="ijk->i")], {"x": [2, 3]}, ["y"])
    with pytest.raises(UnsupportedModel, match="axes"):
        packaged(opened(made, tmp_path), tmp_path)


@pytest.mark.parametrize("shape", [(1, 1), (2, 2), ("n", 3, 3), (2, 2, 4, 4), (1, 7, 7)])
def test_determinants(shape: tuple[int | str, ...], tmp_path: Path) -> None:
    made = model([node("Det", ["x"], ["y"])], {"x": list(shape)}, ["y"])
    sizes = [2 if size == "n" else int(size) for size in shape]
    matrices = draw(*sizes)
    matrices[..., 0, 0] = 0  # needs a pivot
    check(made, tmp_path, {"x": matrices}, dims=["n=1..4"] if "n" in shape else [])


def test_singular_matrices(tmp_path: Path) -> None:
    made = model([node("Det", ["x"], ["y"])], {"x": [2, 3, 3]}, ["y"])
    rows = np.stack([np.zeros((3, 3)), np.ones((3, 3))]).astype(np.float32)
    check(made, tmp_path, {"x": rows})
