"""Quantized operators beside onnxruntime, and the size of what stays compressed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from metal4conv import load
from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.onnx.operators import quantized
from tests.frontends.helpers import packaged, source
from tests.frontends.onnx.models import check, draw, model, node, opened, operations

SMALL = np.float32(0.02173)


def integers(*shape: int, dtype: str = "int8", seed: int = 0) -> np.ndarray:
    """Seeded integers over a dtype's whole range.

    Tests halve those of weights: onnxruntime's products of uint8 and int8 saturate in 16 bits.
    """
    low, high = quantized.limits(dtype)
    held = "uint8" if dtype.startswith("u") else "int8"
    return np.random.default_rng(seed).integers(low, high + 1, shape).astype(held)


def scales(*shape: int) -> np.ndarray:
    return np.linspace(0.01, 0.03, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def weight_bytes(package: Path) -> int:
    return sum(file.stat().st_size for file in package.rglob("weight*") if file.is_file())


# QuantizeLinear and DequantizeLinear ---------------------------------------------------------


def rounding(dtype: str, per_axis: bool, opset: int, **more: Any) -> onnx.ModelProto:
    """Floats to integers and back."""
    scale = scales(3) if per_axis else SMALL
    zero = np.full(np.shape(scale), 3, dtype)
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"], **more),
        node("DequantizeLinear", ["q", "scale", "zero"], ["y"], **more),
    ]
    shapes = {"x": ["n", 3, 5]}
    return model(nodes, shapes, ["y"], {"scale": scale, "zero": zero}, opset=opset)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("per_axis", [False, True])
def test_there_and_back(dtype: str, per_axis: bool, tmp_path: Path) -> None:
    opset = 21 if dtype.endswith("16") else 13
    made = rounding(dtype, per_axis, opset, axis=1)
    cases = [{"x": draw(n, 3, 5) * 4} for n in (1, 3)]
    package = check(made, tmp_path, *cases, dims=["n=1..4"])
    is_native = dtype in ("int8", "uint8")
    assert ("quantize" in operations(package)) == is_native
    assert ("dequantize" in operations(package)) == is_native


@pytest.mark.parametrize("opset", [10, 19, 23])
@pytest.mark.parametrize("target", ["iOS15", "iOS17"])
def test_opsets_and_targets(opset: int, target: str, tmp_path: Path) -> None:
    made = rounding("uint8", False, opset)
    check(made, tmp_path, {"x": draw(2, 3, 5) * 4}, target=target, dims=["n=2"])


@pytest.mark.parametrize("axis", [1, -1])
def test_parameters_that_are_computed(axis: int, tmp_path: Path) -> None:
    made = model(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=axis),
            node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=axis),
        ],
        {"x": [2, 3, "m", 3], "scale": [3], "zero": ("int8", [3])},
        {"q": "int8", "y": "float32"},
    )
    given = {"scale": scales(3), "zero": np.array([1, -2, 0], np.int8)}
    cases = [{"x": draw(2, 3, m, 3), **given} for m in (1, 4)]
    check(made, tmp_path, *cases, dims=["m=1..8"])


def test_blocks_that_are_computed(tmp_path: Path) -> None:
    """The last block need not be a whole one."""
    made = model(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["q"], axis=1, block_size=2),
            node("DequantizeLinear", ["q", "scale", "zero"], ["y"], axis=1, block_size=2),
        ],
        {"x": [2, 5, 3], "scale": [2, 3, 3], "zero": ("uint8", [2, 3, 3])},
        {"q": "uint8", "y": "float32"},
    )
    zero = integers(2, 3, 3, dtype="uint8")
    check(made, tmp_path, {"x": draw(2, 5, 3), "scale": scales(2, 3, 3), "zero": zero})


def test_integers_of_32_bits(tmp_path: Path) -> None:
    made = model(
        [node("DequantizeLinear", ["x", "scale"], ["y"])],
        {"x": ("int32", [4])},
        ["y"],
        {"scale": SMALL},
    )
    check(made, tmp_path, {"x": np.array([-(2**24), -1, 0, 2**20], np.int32)})


def test_float8_is_refused(tmp_path: Path) -> None:
    zero = helper.make_tensor("zero", TensorProto.FLOAT8E4M3FN, [], [0])
    made = model(
        [
            node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
            node("DequantizeLinear", ["q", "scale", "zero"], ["y"]),
        ],
        {"x": [4]},
        ["y"],
        {"scale": SMALL},
    )
    made.graph.initializer.append(zero)
    with pytest.raises(UnsupportedModel, match="quantizes to float8e4m3fn"):
        packaged(opened(made, tmp_path), tmp_path)


# constants -----------------------------------------------------------------------------------


def layer(
    dtype: str, weight: np.ndarray, scale: np.ndarray, zero: np.ndarray | None, **more: Any
) -> onnx.ModelProto:
    """A product with a weight of integers."""
    names = ["w", "scale", "zero"] if zero is not None else ["w", "scale"]
    nodes = [
        node("DequantizeLinear", names, ["floats"], **more),
        node("MatMul", ["x", "floats"], ["y"]),
    ]
    made = model(nodes, {"x": ["n", weight.shape[0]]}, ["y"], {"scale": scale})
    kind = getattr(TensorProto, dtype.upper())
    for name, array in (("w", weight), ("zero", zero)):
        if array is not None:
            made.graph.initializer.append(
                helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())
            )
    return made


@pytest.mark.parametrize(
    ("dtype", "shape", "more", "bits"),
    [
        ("int8", (), {}, 8),
        ("uint8", (64,), {"axis": 1}, 8),
        ("int8", (64,), {"axis": 0}, 8),
        ("uint8", (4, 64), {"axis": 0, "block_size": 16}, 8),
        ("int4", (), {}, 4),
        ("uint4", (64,), {"axis": -1}, 4),
        ("int4", (4, 64), {"axis": 0, "block_size": 16}, 4),
        ("uint4", (64, 8), {"axis": 1, "block_size": 8}, 4),
    ],
)
@pytest.mark.parametrize("has_zero", [False, True])
def test_weights_stay_compressed(
    dtype: str,
    shape: tuple[int, ...],
    more: dict[str, int],
    bits: int,
    has_zero: bool,
    tmp_path: Path,
) -> None:
    weight = integers(64, 64, dtype=dtype)
    zero = np.full(shape, 3) if has_zero else None
    made = layer(dtype, weight, scales(*shape), zero, **more)
    package = check(made, tmp_path, {"x": draw(2, 64)}, dims=["n=1..4"])
    assert [name for name in operations(package) if name.startswith("constexpr")]
    small = 64 * 64 * bits // 8
    assert small <= weight_bytes(package) < small + 64 * 64 // 2 * 4 // 2


def test_weights_at_half_precision(tmp_path: Path) -> None:
    made = layer("int8", integers(64, 64), scales(64), None, axis=1)
    package = check(
        made, tmp_path, {"x": draw(2, 64)}, dims=["n=1..4"], precision="float16", tolerance=2e-2
    )
    assert "constexpr_affine_dequantize" in operations(package)
    assert weight_bytes(package) < 6000


@pytest.mark.parametrize(("target", "operation"), [("iOS15", None), ("iOS16", "affine")])
def test_weights_for_older_systems(target: str, operation: str | None, tmp_path: Path) -> None:
    made = layer("uint4", integers(16, 16, dtype="uint4"), scales(16), None, axis=1)
    package = check(made, tmp_path, {"x": draw(2, 16)}, dims=["n=2"], target=target)
    found = [name for name in operations(package) if name.startswith("constexpr")]
    assert found == ([f"constexpr_{operation}_dequantize"] if operation else [])


@pytest.mark.parametrize("dtype", ["FLOAT8E4M3FN", "FLOAT8E5M2", "FLOAT4E2M1", "INT16"])
def test_constants_that_mil_cannot_compress(dtype: str, tmp_path: Path) -> None:
    kind = getattr(TensorProto, dtype)
    weight = helper.make_tensor("w", kind, [2, 2], [1.0, -2.0, 0.5, 3.0][:4])
    made = model(
        [
            node("DequantizeLinear", ["w", "scale"], ["floats"]),
            node("Mul", ["x", "floats"], ["y"]),
        ],
        {"x": [2, 2]},
        ["y"],
        {"scale": SMALL},
        opset=25,
    )
    made.graph.initializer.append(weight)
    package, _ = packaged(opened(made, tmp_path), tmp_path)
    meant = numpy_helper.to_array(weight).astype(np.float32) * SMALL
    found = load(package).predict({"x": draw(2, 2)})["y"]
    np.testing.assert_allclose(found, draw(2, 2) * meant, rtol=1e-6)


def test_external_integers_of_4_bits(tmp_path: Path) -> None:
    made = layer("int4", integers(64, 64, dtype="int4"), scales(64), None, axis=1)
    expected = opened(made, tmp_path, dims=["n=1..4"]).predict({"x": draw(2, 64)})
    other = tmp_path / "external"
    other.mkdir()
    onnx.save(made, other / "net.onnx", save_as_external_data=True, size_threshold=0)
    package, _ = packaged(source(other / "net.onnx", dims=["n=1..4"]), other)
    found = load(package).predict({"x": draw(2, 64)})
    np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-5, atol=1e-5)


# quantized layers ----------------------------------------------------------------------------


def q_conv(per_channel: bool, has_bias: bool, **more: Any) -> onnx.ModelProto:
    scale = scales(4) if per_channel else SMALL
    constants = {
        "xs": np.float32(0.0317),
        "xz": np.uint8(120),
        "w": integers(4, 2, 3, 3, seed=1) // 2,
        "ws": scale,
        "wz": np.zeros(np.shape(scale), np.int8),
        "ys": np.float32(0.11),
        "yz": np.uint8(99),
    }
    if has_bias:
        constants["b"] = np.array([500, -900, 0, 70], np.int32)
    made = node("QLinearConv", ["x", *constants], ["y"], **more)
    return model([made], {"x": ("uint8", ["n", 2, 7, 6])}, {"y": "uint8"}, constants)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_q_linear_conv(per_channel: bool, has_bias: bool, tmp_path: Path) -> None:
    made = q_conv(per_channel, has_bias, pads=[1, 0, 1, 2], strides=[2, 1])
    cases = [{"x": integers(n, 2, 7, 6, dtype="uint8")} for n in (1, 3)]
    check(made, tmp_path, *cases, dims=["n=1..4"])


@pytest.mark.parametrize("weight", ["int8", "uint8"])
def test_q_linear_matmul(weight: str, tmp_path: Path) -> None:
    constants = {
        "as": np.float32(0.03),
        "az": np.uint8(120),
        "b": integers(16, 8, dtype=weight, seed=1) // 2,
        "bs": scales(8),
        "bz": np.zeros(8, weight) + np.array(3, weight),
        "ys": np.float32(0.3),
        "yz": np.uint8(99),
    }
    made = node("QLinearMatMul", ["a", *constants], ["y"])
    shapes = {"a": ("uint8", ["n", 4, 16])}
    cases = [{"a": integers(n, 4, 16, dtype="uint8")} for n in (1, 3)]
    check(model([made], shapes, {"y": "uint8"}, constants), tmp_path, *cases, dims=["n=1..4"])


@pytest.mark.parametrize("is_constant", [False, True])
def test_matmul_integer(is_constant: bool, tmp_path: Path) -> None:
    zeros = {"az": np.uint8(120), "bz": np.array(4, np.int8)}
    matrix = integers(16, 8, seed=1) // 2
    shapes: dict[str, Any] = {"a": ("uint8", ["n", 16])}
    if not is_constant:
        shapes["b"] = ("int8", [16, 8])
    made = model(
        [node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])],
        shapes,
        {"y": "int32"},
        {**zeros, **({"b": matrix} if is_constant else {})},
    )
    feeds = [{"a": integers(n, 16, dtype="uint8")} for n in (1, 3)]
    cases = feeds if is_constant else [{**item, "b": matrix} for item in feeds]
    check(made, tmp_path, *cases, dims=["n=1..4"])


def test_matmul_integer_with_a_zero_point_for_each_column(tmp_path: Path) -> None:
    constants = {"b": integers(16, 8, seed=1) // 2, "az": np.uint8(9), "bz": integers(8, seed=2)}
    made = model(
        [node("MatMulInteger", ["a", "b", "az", "bz"], ["y"])],
        {"a": ("uint8", [3, 16])},
        {"y": "int32"},
        constants,
    )
    check(made, tmp_path, {"a": integers(3, 16, dtype="uint8")})


def test_conv_integer(tmp_path: Path) -> None:
    constants = {"w": integers(4, 2, 3, 3, dtype="uint8", seed=1), "xz": np.uint8(9)}
    made = model(
        [node("ConvInteger", ["x", "w", "xz"], ["y"], pads=[1, 1, 1, 1])],
        {"x": ("uint8", [1, 2, 5, 5])},
        {"y": "int32"},
        constants,
    )
    check(made, tmp_path, {"x": integers(1, 2, 5, 5, dtype="uint8")})


@pytest.mark.parametrize("shift", [-9, 0, 9])
def test_dynamic_quantize_linear(shift: int, tmp_path: Path) -> None:
    outputs = {"y": "uint8", "scale": "float32", "zero": "uint8"}
    made = model([node("DynamicQuantizeLinear", ["x"], list(outputs))], {"x": ["n", 4]}, outputs)
    cases = [{"x": draw(n, 4) * 3 + shift} for n in (1, 3)]
    check(made, tmp_path, *cases, {"x": np.zeros((2, 4), np.float32)}, dims=["n=1..4"])


def test_a_dynamically_quantized_layer(tmp_path: Path) -> None:
    """As onnxruntime's quantize_dynamic makes it."""
    constants = {
        "w": integers(16, 8, seed=1) // 2,
        "ws": SMALL,
        "wz": np.int8(0),
    }
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z", "wz"], ["whole"]),
        node("Cast", ["whole"], ["floats"], to=TensorProto.FLOAT),
        node("Mul", ["s", "ws"], ["both"]),
        node("Mul", ["floats", "both"], ["y"]),
    ]
    made = model(nodes, {"x": ["n", 16]}, ["y"], constants)
    check(made, tmp_path, *({"x": draw(n, 16)} for n in (1, 3)), dims=["n=1..4"])


# onnxruntime's own ---------------------------------------------------------------------------

MICROSOFT = {"com.microsoft": 1}
SCHEME = {"s": np.float32(0.03), "z": np.uint8(120)}
RESULT = {"ys": np.float32(0.05), "yz": np.uint8(99)}


@pytest.mark.parametrize(
    ("operator", "names", "more"),
    [
        ("QLinearAdd", ["x", "s", "z", "w", "s", "z", "ys", "yz"], {}),
        ("QLinearMul", ["x", "s", "z", "w", "s", "z", "ys", "yz"], {}),
        ("QLinearConcat", ["ys", "yz", "x", "s", "z", "w", "s", "z"], {"axis": 1}),
        ("QLinearSigmoid", ["x", "s", "z", "ys", "yz"], {}),
        ("QLinearLeakyRelu", ["x", "s", "z", "ys", "yz"], {"alpha": 0.2}),
        ("QLinearSoftmax", ["x", "s", "z", "ys", "yz"], {"axis": -1, "opset": 13}),
        ("QLinearGlobalAveragePool", ["x", "s", "z", "ys", "yz"], {"channels_last": 0}),
    ],
)
def test_layers_of_onnxruntime(
    operator: str, names: list[str], more: dict[str, Any], tmp_path: Path
) -> None:
    constants = {**SCHEME, **RESULT, "w": integers(1, 3, 4, 5, dtype="uint8", seed=1)}
    if operator == "QLinearSoftmax":
        constants |= {"ys": np.float32(1 / 256), "yz": np.uint8(0)}
    used = {name: array for name, array in constants.items() if name in names}
    made = model(
        [node(operator, names, ["y"], domain="com.microsoft", **more)],
        {"x": ("uint8", [1, 3, 4, 5])},
        {"y": "uint8"},
        used,
        domains=MICROSOFT,
    )
    # onnxruntime's tables and integer arithmetic round otherwise near halves
    check(made, tmp_path, {"x": integers(1, 3, 4, 5, dtype="uint8")}, tolerance=1.01 / 99)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("has_zero", [False, True])
def test_matmul_n_bits(bits: int, has_zero: bool, tmp_path: Path) -> None:
    k, n, block = 64, 32, 32
    constants = {
        "b": integers(n, k // block, block * bits // 8, dtype="uint8"),
        "scales": scales(n * k // block),
    }
    if has_zero:
        constants["zero"] = integers(n * (k // block) * bits // 8, dtype="uint8", seed=1)
    attributes = {"K": k, "N": n, "bits": bits, "block_size": block}
    made = model(
        [node("MatMulNBits", ["a", *constants], ["y"], domain="com.microsoft", **attributes)],
        {"a": ["m", k]},
        ["y"],
        constants,
        domains=MICROSOFT,
    )
    package = check(
        made, tmp_path, *({"a": draw(m, k)} for m in (1, 3)), dims=["m=1..4"], tolerance=1e-4
    )
    assert weight_bytes(package) < k * n * bits // 8 + 2000
