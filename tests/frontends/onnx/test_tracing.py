"""Values of ONNX graphs, beside those of their packages."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest

from metal4conv.frontends.onnx import reference
from metal4conv.frontends.onnx.source import OnnxSource
from tests.frontends.correspondence import assert_corresponds
from tests.frontends.helpers import draw, source
from tests.frontends.onnx.models import model, node


def opened(made: onnx.ModelProto, folder: Path, **options: bool) -> OnnxSource:
    """The model from its file; its weights are in a file of their own when the options say so."""
    onnx.save(made, folder / "net.onnx", **options)
    found = source(folder / "net.onnx")
    assert isinstance(found, OnnxSource)
    return found


def layers() -> onnx.ModelProto:
    weights = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    nodes = [
        node("MatMul", ["x", "w"], ["first"]),
        node("Tanh", ["first"], ["second"]),
        node("ArgMax", ["second"], ["places"], axis=1, keepdims=1),
        node("Greater", ["second", "first"], ["larger"]),
        node("Where", ["larger", "second", "first"], ["third"]),
        node("Cast", ["places"], ["numbers"], to=onnx.TensorProto.FLOAT),
        node("Add", ["third", "numbers"], ["y"]),
    ]
    return model(nodes, {"x": (2, 64)}, ["y"], {"w": weights})


def test_numbers_truths_and_weights_in_another_file(tmp_path: Path) -> None:
    made = opened(layers(), tmp_path, save_as_external_data=True)
    assert made.files[1:], "the weights are in another file"
    found = assert_corresponds(made, tmp_path, at_least=1.0)
    assert [row.name for row in found.sources] == [
        *("first", "second", "places", "larger", "third", "numbers", "y")
    ]
    traced = made.trace(draw(made), {"places", "larger", "y"})
    assert traced["places"].dtype.kind == "i"
    assert traced["larger"].dtype == np.bool_
    np.testing.assert_array_equal(traced["y"], made.predict(draw(made))["y"])


def test_without_onnxruntime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = opened(layers(), tmp_path)
    names = {"first", "larger"}
    with_it = made.trace(draw(made), names)
    monkeypatch.setattr(reference, "is_installed", lambda name: False)
    without = made.trace(draw(made), names)
    assert set(with_it) == set(without) == names
    for name in names:
        np.testing.assert_allclose(without[name], with_it[name], rtol=1e-4, atol=1e-4)


def test_branches_and_functions_keep_their_values_to_themselves(tmp_path: Path) -> None:
    """Values within are called like those of the graph around them, behind a path at most."""
    made = onnx.parser.parse_model("""
        <ir_version: 10, opset_import: ["" : 21, "own" : 1]>
        net (float[2, 3] x) => (float[2, 3] y) {
            inner = Exp(x)
            outer = own.scaled(inner)
            total = ReduceSum <keepdims = 0>(x)
            limit = Constant <value = float {2.0}>()
            more = Greater(total, limit)
            chosen = If(more) <
                then_branch = yes () => (float[2, 3] a) { step = Tanh(outer)  a = Neg(step) },
                else_branch = no () => (float[2, 3] b) { step = Sin(outer)  b = Abs(step) }
            >
            y = Add(chosen, inner)
        }
        <domain: "own", opset_import: ["" : 21]>
        scaled (inner) => (outer) {
            half = Constant <value = float {0.5}>()
            step = Mul(inner, half)
            outer = Sqrt(step)
        }
    """)
    found = assert_corresponds(opened(made, tmp_path), tmp_path)
    names = ["inner", "outer", "total", "more", "chosen", "y"]
    assert [row.name for row in found.sources] == names
    assert set(found.values.values()) <= set(names)


def test_what_an_exporter_notes(tmp_path: Path) -> None:
    noted = {
        "pkg.torch.onnx.name_scopes": "['', 'down', 'down.1', 'relu']",
        "pkg.torch.onnx.stack_trace": 'File "/me/net.py", line 12, in forward\n    return f(x)\n'
        '  File "/usr/lib/site-packages/torch/f.py", line 3, in f\n    return relu(x)',
    }
    relu = node("Relu", ["x"], ["a"])
    for key, value in noted.items():
        relu.metadata_props.add(key=key, value=value)
    other = node("Exp", ["a"], ["y"])
    other.name = "/up/act/Exp"
    rows = opened(model([relu, other], {"x": (2, 3)}, ["y"]), tmp_path).values()
    assert str(rows[0]) == "a (Relu), in down.1, net.py:12"
    assert rows[0].code == "return f(x)"
    assert str(rows[1]) == "y (Exp), in up/act"
