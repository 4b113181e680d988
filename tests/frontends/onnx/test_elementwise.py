"""Arithmetic of narrow, unsigned and signed integers, bits, and floats at their edges."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metal4conv import load
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened

EDGES = {
    "int8": [-128, -7, -1, 0, 1, 6, 127],
    "uint8": [0, 1, 7, 100, 128, 200, 255],
    "int16": [-32768, -300, -1, 0, 5, 999, 32767],
    "uint16": [0, 1, 9, 300, 32768, 50000, 65535],
    "int32": [-(2**31), -70000, -1, 0, 3, 65536, 2**31 - 1],
}
PAIRS = [(a, b) for a in range(7) for b in range(7)]


def both(dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Each edge with each other."""
    values = np.array(EDGES[dtype], dtype)
    return values[[a for a, _ in PAIRS]], values[[b for _, b in PAIRS]]


def run(
    operator: str, dtype: str, folder: Path, *arrays: np.ndarray, **attributes: object
) -> object:
    """What a package of one node gives, in the dtype of the model."""
    names = ["a", "b"][: len(arrays)]
    inputs = {name: (dtype, list(array.shape)) for name, array in zip(names, arrays, strict=True)}
    made = model([node(operator, names, ["y"], **attributes)], inputs, {"y": dtype}, opset=18)
    package, _ = packaged(opened(made, folder), folder / "out")
    feeds = {name: array.astype(np.int32) for name, array in zip(names, arrays, strict=True)}
    return load(package).predict(feeds)["y"]


ARITHMETIC = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply}
BITWISE = {"BitwiseAnd": np.bitwise_and, "BitwiseOr": np.bitwise_or, "BitwiseXor": np.bitwise_xor}


@pytest.mark.parametrize("dtype", EDGES)
@pytest.mark.parametrize("operator", ARITHMETIC)
def test_integers_wrap(operator: str, dtype: str, tmp_path: Path) -> None:
    a, b = both(dtype)
    with np.errstate(over="ignore"):
        wanted = ARITHMETIC[operator](a, b)
    np.testing.assert_array_equal(run(operator, dtype, tmp_path, a, b), wanted)


@pytest.mark.parametrize("dtype", EDGES)
@pytest.mark.parametrize("operator", BITWISE)
def test_bits(operator: str, dtype: str, tmp_path: Path) -> None:
    a, b = both(dtype)
    wanted = BITWISE[operator](a, b)
    np.testing.assert_array_equal(run(operator, dtype, tmp_path, a, b), wanted)


@pytest.mark.parametrize("dtype", EDGES)
def test_complement(dtype: str, tmp_path: Path) -> None:
    a = np.array(EDGES[dtype], dtype)
    np.testing.assert_array_equal(run("BitwiseNot", dtype, tmp_path, a), ~a)


@pytest.mark.parametrize("dtype", EDGES)
def test_quotients_are_cut_towards_zero(dtype: str, tmp_path: Path) -> None:
    a, b = both(dtype)
    a, b = a[b != 0], b[b != 0]
    keep = ~((b.astype(int) == -1) & (a == np.iinfo(dtype).min))  # the quotient does not fit
    a, b = a[keep], b[keep]
    wanted = np.trunc(a.astype(float) / b.astype(float)).astype(dtype)
    np.testing.assert_array_equal(run("Div", dtype, tmp_path, a, b), wanted)


@pytest.mark.parametrize("fmod", [0, 1])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32"])
def test_signs_of_remainders(dtype: str, fmod: int, tmp_path: Path) -> None:
    a, b = both(dtype)
    a, b = a[b != 0], b[b != 0]
    low = np.iinfo("int32").min
    a, b = a[(a != low) | (b != low)], b[(a != low) | (b != low)]
    if dtype == "int32":
        a, b = a[a != low], b[a != low]
        a, b = a[b != low], b[b != low]
    wanted = np.fmod(a, b) if fmod else np.mod(a, b)
    np.testing.assert_array_equal(run("Mod", dtype, tmp_path, a, b, fmod=fmod), wanted)


@pytest.mark.parametrize("operator", ["Acosh", "Asinh", "Erf", "Log", "Reciprocal", "Sqrt"])
def test_functions_at_both_ends(operator: str, tmp_path: Path) -> None:
    low = 1.0 if operator == "Acosh" else -1e4 if operator == "Asinh" else 1e-20
    x = np.array([low, 1.0, 1.5, 30.0, 1e4], np.float32)
    made = model([node(operator, ["x"], ["y"])], {"x": [5]}, ["y"])
    check(made, tmp_path, {"x": x})


def test_clip_where_the_bounds_cross(tmp_path: Path) -> None:
    """The upper bound wins, also when both are computed."""
    made = model(
        [node("Clip", ["x", "low", "high"], ["y"])], {"x": [6], "low": [], "high": []}, ["y"]
    )
    x = draw(6)
    bounds = ((-0.5, 0.5), (0.7, -0.7))
    cases = [{"x": x, "low": np.float32(a), "high": np.float32(b)} for a, b in bounds]
    check(made, tmp_path, *cases)


def test_broadcasting_over_dynamic_sizes(tmp_path: Path) -> None:
    """Where takes operands of three shapes."""
    made = model(
        [node("Less", ["x", "r"], ["c"]), node("Where", ["c", "r", "s"], ["y"])],
        {"x": [2, "h", 3], "r": ["h", 1], "s": []},
        ["y"],
    )
    cases = [{"x": draw(2, h, 3), "r": draw(h, 1, seed=1), "s": np.float32(9)} for h in (1, 4)]
    check(made, tmp_path, *cases, dims=["h=1..4"])


def test_a_mask_times_the_least_float32_hides_nothing_where_it_is_0(tmp_path):
    """In float16 the factor would be -inf, and 0 * -inf NaN."""
    nodes = [
        node("Sub", ["one", "m"], ["hidden"]),
        node("Mul", ["hidden", "least"], ["mask"]),
        node("Add", ["x", "mask"], ["scores"]),
        node("Softmax", ["scores"], ["y"], axis=-1),
    ]
    constants = {"one": np.float32([1]), "least": np.float32([np.finfo(np.float32).min])}
    made = model(nodes, {"x": (2, 4), "m": (2, 4)}, ["y"], constants)
    feeds = {"x": draw(2, 4), "m": np.float32([[1, 1, 1, 1], [1, 0, 0, 1]])}
    check(made, tmp_path, feeds, precision="float16", tolerance=2e-3)
