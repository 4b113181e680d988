"""Values of a package and those of its source: what passes rename, and names that collide."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from metal4conv.frontends.onnx.source import OnnxSource
from metal4conv.frontends.provenance import Origins, followed, recorded_values
from metal4conv.frontends.toolkit import coremltools_with, quiet
from metal4conv.mil.correspondence import correspondence_of
from metal4conv.mil.package import read_package
from metal4conv.reshaping import reshape
from tests.conftest import SAMPLES
from tests.frontends.correspondence import TOLERANCES, assert_corresponds, assert_values
from tests.frontends.helpers import draw, source
from tests.frontends.onnx.models import model, node

Program = tuple[Any, Any, Any]  # coremltools carries no types


def small_program() -> Program:
    """A function that squares and negates its input, and both variables."""
    with quiet():
        coremltools_with("none")
        from coremltools.converters.mil.mil import Builder, Function

        with Function({"x": Builder.placeholder((2, 3))}) as function:
            square = Builder.square(x=function.inputs["x"], name="square")
            result = Builder.mul(x=square, y=-1.0, name="result")
            function.set_outputs([result])
    return function, square, result


def test_what_replaces_a_known_variable_is_known() -> None:
    from coremltools.converters.mil.mil import Builder

    function, square, _ = small_program()
    origins = Origins()
    origins.set(square, "the square")
    with followed(origins), function:
        x = function.inputs["x"]
        product = Builder.mul(x=x, y=x, before_op=square.op)
        function.replace_uses_of_var_after_op(square.op, square, product)
    assert origins.of(product) == "the square"


def test_what_has_another_shape_is_not_known() -> None:
    from coremltools.converters.mil.mil import Builder

    function, square, _ = small_program()
    origins = Origins()
    origins.set(square, "the square")
    with followed(origins), function:
        turned = Builder.transpose(x=square, perm=[1, 0], before_op=None)
        function.replace_uses_of_var_after_op(
            turned.op, square, turned, force_replace=True, no_check_var_types=True
        )
    assert origins.of(turned) is None


def test_what_is_known_keeps_no_operation_alive() -> None:
    function, square, _ = small_program()
    origins = Origins()
    origins.set(square, "the square")
    assert len(origins.by_operation) == 1
    replaced = square.op
    with function:
        function.replace_uses_of_var_after_op(replaced, square, function.inputs["x"])
        function.remove_ops([replaced])
    del square, replaced
    gc.collect()
    assert not origins.by_operation


def test_patches_are_undone_after_an_error() -> None:
    coremltools_with("pytorch")
    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext
    from coremltools.converters.mil.mil import Block

    before = Block.replace_uses_of_var_after_op, TranscriptionContext.add
    with pytest.raises(RuntimeError, match="stop"), followed(Origins()), recorded_values():
        raise RuntimeError("stop")
    after = Block.replace_uses_of_var_after_op, TranscriptionContext.add
    assert after == before


# names that collide --------------------------------------------------------------------------


def opened_onnx(nodes: list[onnx.NodeProto], folder: Path, **more: Any) -> OnnxSource:
    """A model of these nodes whose last output is the model's."""
    made = model(nodes, {"x": (1, 4, 6, 6)}, [nodes[-1].output[0]], **more)
    onnx.save(made, folder / "net.onnx")
    opened = source(folder / "net.onnx")
    assert isinstance(opened, OnnxSource)
    return opened


@pytest.mark.parametrize("precision", TOLERANCES)
def test_names_like_those_of_passes(precision: str, tmp_path: Path) -> None:
    """coremltools numbers what it inserts, and names casts and products after what they replace."""
    nodes = [
        node("Exp", ["x"], ["mul_0"]),
        node("Div", ["mul_0", "seven"], ["transpose_0"]),
        node("Sqrt", ["transpose_0"], ["_inversed_mul_0"]),
        node("Transpose", ["_inversed_mul_0"], ["cast_0"], perm=[0, 2, 3, 1]),
        node("Sin", ["cast_0"], ["sum"]),
        node("Relu", ["sum"], ["sum_cast_fp16"]),
        node("Sub", ["sum_cast_fp16", "seven"], ["SUM"]),
        node("Div", ["SUM", "seven"], ["sum/mul"]),
        node("Transpose", ["sum/mul"], ["sum:mul"], perm=[0, 3, 1, 2]),
        node("Add", ["sum:mul", "mul_0"], ["y"]),
    ]
    opened = opened_onnx(nodes, tmp_path, constants={"seven": np.array(7, np.float32)})
    found = assert_corresponds(opened, tmp_path, precision, at_least=0.9)
    assert {"mul_0", "transpose_0", "sum", "sum_cast_fp16", "SUM", "sum/mul"} <= set(
        found.values.values()
    )


@pytest.mark.parametrize("precision", TOLERANCES)
def test_fused_operations_hold_the_last_value(precision: str, tmp_path: Path) -> None:
    weights = np.random.default_rng(0).standard_normal
    constants = {
        "w": weights((4, 4, 3, 3)).astype(np.float32),
        "scale": np.array([1, 2, 3, 4], np.float32),
        "shift": np.array([1, 0, -1, 2], np.float32),
        "mean": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        "variance": np.array([1, 2, 0.5, 4], np.float32),
        "half": np.array(0.5, np.float32),
        "root": np.array(np.sqrt(2), np.float32),
        "one": np.array(1, np.float32),
    }
    nodes = [
        node("Conv", ["x", "w"], ["conv"], pads=[1, 1, 1, 1]),
        node("BatchNormalization", ["conv", "scale", "shift", "mean", "variance"], ["norm"]),
        node("Div", ["norm", "root"], ["scaled"]),
        node("Erf", ["scaled"], ["erf"]),
        node("Add", ["erf", "one"], ["raised"]),
        node("Mul", ["norm", "raised"], ["product"]),
        node("Mul", ["product", "half"], ["gelu"]),
        node("Sigmoid", ["gelu"], ["gate"]),
        node("Mul", ["gelu", "gate"], ["silu"]),
        node("Identity", ["silu"], ["same"]),
        node("Softmax", ["same"], ["y"], axis=1),
    ]
    found = assert_corresponds(
        opened_onnx(nodes, tmp_path, constants=constants), tmp_path, precision, at_least=1.0
    )
    assert set(found.values.values()) == {"norm", "gelu", "silu", "y"}


# after reshape -------------------------------------------------------------------------------


def test_reshaped_packages_keep_it(tmp_path: Path) -> None:
    from metal4conv import convert

    file = SAMPLES / "denoiser.onnx"
    dims = ["h=16..32/4@20", "w=16..32/4@24"]
    made = convert(file, dims=dims, output=tmp_path, precision="float32")
    small = reshape(made.package, dims=["h=16", "w=28"], output=tmp_path / "fixed")
    known = correspondence_of(read_package(small.package))
    assert known is not None
    assert known == correspondence_of(read_package(made.package))
    opened = source(file, dims=["h=16", "w=28"])
    assert_values(small.package, known, opened, draw(opened), TOLERANCES["float32"])
