"""Graphs: names, constants, functions of the model, bodies of the standard, external data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from metal4conv import load
from metal4conv.mil.package import read_package
from metal4conv.verify.verification import verify
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, model, node, opened


def operations(package: Path) -> dict[str, str]:
    """The names of a package's operations, by that of their first output."""
    function = read_package(package).program.functions["main"]
    operations = [item for item in function.block.operations if item.type != "const"]
    return {item.outputs[0].name: item.type for item in operations}


def test_names_of_values_survive(tmp_path: Path) -> None:
    made = model(
        [
            node("Add", ["x", "x"], ["twice"]),
            node("Tanh", ["twice"], ["soft/value:0"]),
            node("Mul", ["soft/value:0", "twice"], ["y"]),
        ],
        {"x": [2, 3]},
        ["y"],
    )
    found = operations(check(made, tmp_path, {"x": draw(2, 3)}))
    assert found == {"twice": "add", "soft_value_0": "tanh", "y": "mul"}


def test_constants_are_folded_in_their_own_dtypes(tmp_path: Path) -> None:
    """int64 arithmetic beyond int32 takes place at conversion, where it has 64 bits."""
    made = model(
        [
            node("Mul", ["big", "big"], ["square"]),
            node("Div", ["square", "big"], ["back"]),
            node("Sub", ["back", "less"], ["one"]),
            node("Cast", ["one"], ["factor"], to=TensorProto.FLOAT),
            node("Mul", ["x", "factor"], ["y"]),
        ],
        {"x": [3]},
        ["y"],
        {"big": np.array([3_000_000_000]), "less": np.array([2_999_999_998])},
    )
    assert operations(check(made, tmp_path, {"x": draw(3)})) == {"y": "mul"}


def scaled(overload: str = "", factor: float = 2.0) -> onnx.FunctionProto:
    """A function of the model with an attribute: x * by + factor."""
    nodes = [
        helper.make_node("Constant", [], ["by"]),
        helper.make_node("Constant", [], ["more"], value_float=factor),
        helper.make_node("Mul", ["a", "by"], ["scaled"]),
        helper.make_node("Add", ["scaled", "more"], ["b"]),
    ]
    nodes[0].attribute.add(name="value_float", ref_attr_name="by", type=onnx.AttributeProto.FLOAT)
    return helper.make_function(
        "my.own",
        "Scaled",
        ["a"],
        ["b"],
        nodes,
        [helper.make_opsetid("", 18)],
        ["by"],
        overload=overload,
    )


def test_functions_of_the_model(tmp_path: Path) -> None:
    made = model(
        [
            helper.make_node("Scaled", ["x"], ["z"], domain="my.own", by=3.0),
            helper.make_node("Scaled", ["z"], ["y"], domain="my.own", by=-0.5, overload="far"),
        ],
        {"x": [4]},
        ["y"],
        domains={"my.own": 1},
        functions=[scaled(), scaled("far", 100.0)],
    )
    source = opened(made, tmp_path)
    package, _ = packaged(source, tmp_path / "out")
    x = np.array([0, 1, 2, 3], np.float32)
    expected = (x * 3 + 2) * -0.5 + 100
    np.testing.assert_allclose(load(package).predict({"x": x})["y"], expected)


def test_operators_without_lowering_are_expanded(tmp_path: Path) -> None:
    """MeanVarianceNormalization may have a lowering one day; Celu is a body all the same."""
    from metal4conv.frontends.onnx.table import ONNX_OPS

    made = model([node("Celu", ["x"], ["y"], alpha=1.5)], {"x": [2, "h"]}, ["y"])
    kept = ONNX_OPS.handlers.pop("Celu", None)
    try:
        check(made, tmp_path, {"x": draw(2, 5)}, {"x": draw(2, 1)}, dims=["h=1..8"])
    finally:
        if kept is not None:
            ONNX_OPS.handlers["Celu"] = kept


def test_initializers_that_are_inputs_too(tmp_path: Path) -> None:
    """Until IR version 3 every initializer was an input; it is a constant here."""
    made = model(
        [node("Add", ["x", "w"], ["y"])], {"x": [3], "w": [3]}, ["y"], {"w": draw(3, seed=1)}
    )
    source = opened(made, tmp_path)
    assert [item.name for item in source.inputs] == ["x"]
    check(made, tmp_path, {"x": draw(3)})


def test_scalars_in_and_out(tmp_path: Path) -> None:
    made = model(
        [node("Mul", ["x", "s"], ["z"]), node("Mul", ["s", "s"], ["y"])],
        {"x": [2], "s": []},
        ["z", "y"],
    )
    check(made, tmp_path, {"x": draw(2), "s": np.float32(3)})


def test_external_data_is_mapped(tmp_path: Path) -> None:
    weight = draw(64, 32)
    made = model([node("MatMul", ["x", "w"], ["y"])], {"x": [1, 64]}, ["y"], {"w": weight})
    file = tmp_path / "net.onnx"
    onnx.save_model(made, file, save_as_external_data=True, location="net.bin", size_threshold=0)
    assert (tmp_path / "net.bin").stat().st_size >= weight.nbytes
    from metal4conv import convert

    done = convert(file, output=tmp_path / "out", precision="float32", depfile=tmp_path / "d")
    assert verify(done.package).passed
    assert "net.bin" in (tmp_path / "d").read_text()


@pytest.mark.parametrize(
    ("dtype", "array"),
    [
        ("float16", np.array([0.5, -2, 1e-4])),
        ("float64", np.array([0.5, -2, 1e-7])),
        ("bfloat16", np.array([0.5, -2, 1.0])),
        ("int64", np.array([1, -2, 3])),
        ("uint8", np.array([1, 200, 255])),
        ("int8", np.array([1, -128, 127])),
        ("bool", np.array([True, False, True])),
    ],
)
def test_dtypes_at_the_border(dtype: str, array: np.ndarray, tmp_path: Path) -> None:
    """Each dtype goes in and comes out as what a tensor holds; the identity shows the values."""
    made = model([node("Identity", ["x"], ["y"])], {"x": (dtype, [3])}, {"y": dtype})
    package, lowered = packaged(opened(made, tmp_path), tmp_path / "out")
    executor = load(package)
    held = executor.inputs["x"].dtype
    found = executor.predict({"x": array.astype(held)})["y"]
    np.testing.assert_allclose(found.astype(float), array.astype(float), rtol=1e-6)
    wide = {"float64", "int64", "bool"}
    assert any("input-cast" in item.code for item in lowered.findings) == (dtype in wide)


def test_sparse_initializer(tmp_path: Path) -> None:
    made = model([node("Add", ["x", "w"], ["y"])], {"x": [2, 2]}, ["y"])
    values = helper.make_tensor("w", TensorProto.FLOAT, [2], [3.0, 5.0])
    places = helper.make_tensor("places", TensorProto.INT64, [2], [0, 3])
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [2, 2]))
    package, _ = packaged(opened(made, tmp_path), tmp_path / "out")
    x = draw(2, 2)
    found = load(package).predict({"x": x})["y"]
    np.testing.assert_allclose(found, x + np.array([[3, 0], [0, 5]]))


def test_inputs_without_elements_are_left_out(tmp_path: Path) -> None:
    """They have one value only, which is a constant of the package."""
    made = model(
        [node("Add", ["e", "e"], ["twice"]), node("Concat", ["x", "twice"], ["y"], axis=0)],
        {"x": [2, 3], "e": [0, 3]},
        ["y"],
    )
    source = opened(made, tmp_path)
    assert [item.code for item in source.findings] == ["empty-input"]
    check(made, tmp_path, {"x": draw(2, 3)})


def test_words_of_mil_are_no_names(tmp_path: Path) -> None:
    """coremltools would call this input state_workaround, and nothing else would know."""
    made = model([node("Relu", ["state"], ["list"])], {"state": [2]}, ["list"])
    source = opened(made, tmp_path)
    assert [item.name for item in source.inputs] == ["state_"]
    assert [item.code for item in source.findings] == ["feature-renamed"] * 2
    package, _ = packaged(source, tmp_path / "out")
    x = draw(2)
    np.testing.assert_allclose(load(package).predict({"state_": x})["list_"], np.maximum(x, 0))
