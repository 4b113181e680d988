"""Quantized operators of onnxruntime's own domain, com.microsoft."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.operators.activation import sigmoid
from metal4conv.frontends.onnx.operators.linear import matmul
from metal4conv.frontends.onnx.operators.quantized import (
    Scheme,
    dequantize_linear,
    dequantized,
    dynamic_quantize_linear,
    product_of,
    quantize_linear,
    quantized,
)
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value

Quantized = tuple[Value, Value, Value | None]
"""Integers with their scale and zero point."""


def between(
    ctx: Context,
    function: Callable[..., Value],
    inputs: Sequence[Quantized],
    scale: Value,
    zero_point: Value | None,
) -> Value:
    """A function of the floats that inputs stand for, quantized again like the first input."""
    floats = [dequantized(ctx, x, Scheme(own, zero)) for x, own, zero in inputs]
    result = function(*floats)
    dtype = inputs[0][0].dtype if zero_point is None else zero_point.dtype
    return quantized(ctx, result, Scheme(scale, zero_point), dtype)


def register_binary(name: str, operation: str) -> None:
    @ONNX_OPS(f"com.microsoft.{name}")
    def binary(
        ctx: Context,
        A: Value,
        A_scale: Value,
        A_zero_point: Value | None,
        B: Value,
        B_scale: Value,
        B_zero_point: Value | None,
        C_scale: Value,
        C_zero_point: Value | None = None,
    ) -> Value:
        inputs: list[Quantized] = [(A, A_scale, A_zero_point), (B, B_scale, B_zero_point)]
        return between(ctx, lambda a, b: ctx.binary(operation, a, b), inputs, C_scale, C_zero_point)


register_binary("QLinearAdd", "add")
register_binary("QLinearMul", "mul")


@ONNX_OPS("com.microsoft.QLinearSigmoid")
def q_linear_sigmoid(
    ctx: Context,
    X: Value,
    X_scale: Value,
    X_zero_point: Value | None,
    Y_scale: Value,
    Y_zero_point: Value | None = None,
) -> Value:
    inputs: list[Quantized] = [(X, X_scale, X_zero_point)]
    return between(ctx, lambda x: sigmoid(ctx, x), inputs, Y_scale, Y_zero_point)


@ONNX_OPS("com.microsoft.QLinearLeakyRelu")
def q_linear_leaky_relu(
    ctx: Context,
    X: Value,
    X_scale: Value,
    X_zero_point: Value | None,
    Y_scale: Value,
    Y_zero_point: Value | None = None,
    *,
    alpha: float = 0.01,
) -> Value:
    def leaky_relu(x: Value) -> Value:
        return ctx.unary("leaky_relu", x, alpha=np.float32(alpha))

    return between(ctx, leaky_relu, [(X, X_scale, X_zero_point)], Y_scale, Y_zero_point)


@ONNX_OPS("com.microsoft.QLinearSoftmax")
def q_linear_softmax(
    ctx: Context,
    X: Value,
    X_scale: Value,
    x_zero_point: Value | None,
    y_scale: Value,
    y_zero_point: Value | None = None,
    *,
    axis: int = -1,
    opset: int,
) -> Value:
    """Softmax along an axis; `opset` before 13 means over that axis and all behind it."""
    if opset < 13 and ctx.axis(axis, X.rank) != X.rank - 1:
        raise ctx.unsupported(f"softmax over the axes from {axis} on, as before opset 13")
    inputs: list[Quantized] = [(X, X_scale, x_zero_point)]
    return between(ctx, lambda x: ctx.unary("softmax", x, axis=axis), inputs, y_scale, y_zero_point)


@ONNX_OPS("com.microsoft.QLinearGlobalAveragePool")
def q_linear_global_average_pool(
    ctx: Context,
    X: Value,
    x_scale: Value,
    x_zero_point: Value,
    y_scale: Value,
    y_zero_point: Value,
    *,
    channels_last: int = 0,
) -> Value:
    axes = list(range(1, X.rank - 1)) if channels_last else list(range(2, X.rank))

    def mean(x: Value) -> Value:
        return ctx.unary("reduce_mean", x, axes=axes, keep_dims=True)

    return between(ctx, mean, [(X, x_scale, x_zero_point)], y_scale, y_zero_point)


@ONNX_OPS("com.microsoft.QLinearConcat")
def q_linear_concat(
    ctx: Context, Y_scale: Value, Y_zero_point: Value, *inputs: Value, axis: int
) -> Value:
    """Tensors one behind the other, each given with its scale and zero point."""
    rows = [inputs[place : place + 3] for place in range(0, len(inputs), 3)]
    floats = [dequantized(ctx, x, Scheme(x_scale, zero)) for x, x_scale, zero in rows]
    joined = ctx.concat(floats, ctx.axis(axis, floats[0].rank))
    return quantized(ctx, joined, Scheme(Y_scale, Y_zero_point), Y_zero_point.dtype)


@ONNX_OPS("com.microsoft.QuantizeLinear")
def quantize_linear_of_onnxruntime(
    ctx: Context,
    x: Value,
    y_scale: Value,
    y_zero_point: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    saturate: int = 1,
) -> Value:
    """ONNX's operator, which onnxruntime had for 16 bits before ONNX did."""
    return quantize_linear(
        ctx, x, y_scale, y_zero_point, axis=axis, block_size=block_size, output_dtype=output_dtype
    )


@ONNX_OPS("com.microsoft.DequantizeLinear")
def dequantize_linear_of_onnxruntime(
    ctx: Context,
    x: Value,
    x_scale: Value,
    x_zero_point: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
) -> Value:
    """ONNX's operator, which onnxruntime had for 16 bits before ONNX did."""
    return dequantize_linear(ctx, x, x_scale, x_zero_point, axis=axis, block_size=block_size)


@ONNX_OPS("com.microsoft.QGemm")
def q_gemm(
    ctx: Context,
    A: Value,
    a_scale: Value,
    a_zero_point: Value,
    B: Value,
    b_scale: Value,
    b_zero_point: Value,
    C: Value | None = None,
    y_scale: Value | None = None,
    y_zero_point: Value | None = None,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    """alpha * A' * B' + C, where C counts in products of the scales; floats without `y_scale`."""
    left = dequantized(ctx, A, Scheme(a_scale, a_zero_point))
    right = dequantized(ctx, B, Scheme(b_scale, b_zero_point, 0 if transB else 1))
    left = ctx.transpose(left, [1, 0]) if transA else left
    result: Value = ctx.emit("matmul", x=left, y=right, transpose_y=bool(transB))
    if C is not None:
        result = ctx.add(
            result, dequantized(ctx, C, Scheme(product_of(ctx, a_scale, b_scale), None, C.rank - 1))
        )
    result = result if alpha == 1.0 else ctx.mul(result, float(alpha))
    if y_scale is None:
        return result
    assert y_zero_point is not None
    return quantized(ctx, result, Scheme(y_scale, y_zero_point), y_zero_point.dtype)


@ONNX_OPS("com.microsoft.MatMulIntegerToFloat")
def matmul_integer_to_float(
    ctx: Context,
    A: Value,
    B: Value,
    a_scale: Value,
    b_scale: Value,
    a_zero_point: Value | None = None,
    b_zero_point: Value | None = None,
    bias: Value | None = None,
) -> Value:
    """The product of the floats that are meant, and a bias."""
    left = dequantized(ctx, A, Scheme(a_scale, a_zero_point, max(A.rank - 2, 0)))
    right = dequantized(ctx, B, Scheme(b_scale, b_zero_point, B.rank - 1))
    result = matmul(ctx, left, right)
    return result if bias is None else ctx.add(result, bias)


@ONNX_OPS("com.microsoft.DynamicQuantizeMatMul")
def dynamic_quantize_matmul(
    ctx: Context,
    A: Value,
    B: Value,
    b_scale: Value,
    b_zero_point: Value | None = None,
    bias: Value | None = None,
) -> Value:
    """The product of A, rounded as DynamicQuantizeLinear does, and the floats that B means."""
    rounded, scale, zero_point = dynamic_quantize_linear(ctx, A)
    return matmul_integer_to_float(ctx, rounded, B, scale, b_scale, zero_point, b_zero_point, bias)


@ONNX_OPS("com.microsoft.MatMulNBits")
def matmul_n_bits(
    ctx: Context,
    A: Value,
    B: Value,
    scales: Value,
    zero_points: Value | None = None,
    g_idx: Value | None = None,
    bias: Value | None = None,
    *,
    K: int,
    N: int,
    accuracy_level: int = 0,
    bits: int = 4,
    block_size: int,
    weight_prepacked: int = 0,
) -> Value:
    """A times a matrix of 4 or 8 bits, [N, K] in blocks along K, which stays compressed."""
    if bits not in (4, 8):
        raise ctx.unsupported(f"weights of {bits} bits; 4 and 8 are possible")
    if g_idx is not None:
        raise ctx.unsupported("an order of the blocks is given (g_idx); they must be in theirs")
    packed = ctx.constant(B, "B").reshape(N, -1)
    count = -(-K // block_size)
    integers = unpacked(packed, bits)[:, :K]
    scale = ctx.constant(scales, "scales").reshape(N, count)
    middle = Value("uint8", known=np.full((N, count), 1 << (bits - 1), np.uint8))
    if zero_points is not None:
        given = ctx.constant(zero_points, "zero_points")
        if given.dtype.kind == "f":
            raise ctx.unsupported("zero points that are floats; they must be integers")
        middle = Value("uint8", known=unpacked(given.reshape(N, -1), bits)[:, :count])
    weight = Value("uint4" if bits == 4 else "uint8", known=integers)
    scheme = Scheme(Value("float32", known=scale), middle, 1, block_size)
    floats = dequantized(ctx, weight, scheme)
    result: Value = ctx.emit("linear", x=A, weight=floats, dtype=A.dtype)
    return result if bias is None else ctx.add(result, bias)


def unpacked(array: np.ndarray, bits: int) -> np.ndarray:
    """Bytes as integers of 4 bits, the lower half first; those of 8 bits are bytes.

    >>> unpacked(np.array([[0x21, 0x43]], np.uint8), 4)
    array([[1, 2, 3, 4]], dtype=uint8)
    """
    if bits == 8:
        return array
    return np.stack([array & 15, array >> 4], -1).reshape(array.shape[0], -1)
