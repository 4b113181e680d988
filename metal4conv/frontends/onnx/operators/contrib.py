"""onnxruntime's own operators (com.microsoft) that its optimizers put in place of several others.

Those that are a standard operator and something before or after it are lowered by that one.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value, is_static

NEWEST = 1000
"""Above every opset version: the latest lowering of a standard operator."""

PARAMETERS: dict[str, tuple[str, ...]] = {
    "Elu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "LeakyRelu": ("alpha",),
    "Relu": (),
    "Selu": ("alpha", "gamma"),
    "Sigmoid": (),
    "Softplus": (),
    "Softsign": (),
    "Tanh": (),
    "ThresholdedRelu": ("alpha",),
}
"""Activations that are fused with another operator, and the names of their parameters."""


def standard(ctx: Context, name: str, /, *inputs: Value | None, **attributes: Any) -> Any:
    """What a standard operator gives, in the lowering of the newest opset. (Any: see emit.)"""
    return ONNX_OPS.lookup(name, NEWEST)(ctx, *inputs, **attributes)


# activations ---------------------------------------------------------------------------------


@ONNX_OPS("com.microsoft.Gelu")
def gelu(ctx: Context, X: Value) -> Value:
    return ctx.unary("gelu", X, mode="EXACT")


@ONNX_OPS("com.microsoft.BiasGelu")
def bias_gelu(ctx: Context, A: Value, B: Value) -> Value:
    return gelu(ctx, ctx.add(A, B))


@ONNX_OPS("com.microsoft.FastGelu")
def fast_gelu(ctx: Context, X: Value, bias: Value | None = None) -> Value:
    """Gelu by its approximation with tanh."""
    return ctx.unary("gelu", X if bias is None else ctx.add(X, bias), mode="TANH_APPROXIMATION")


@ONNX_OPS("com.microsoft.QuickGelu")
def quick_gelu(ctx: Context, X: Value, *, alpha: float = 1.702) -> Value:
    """X * sigmoid(alpha * X)."""
    if alpha == 1:
        return ctx.unary("silu", X)
    return ctx.mul(X, ctx.unary("sigmoid", ctx.mul(X, alpha)))


@ONNX_OPS("com.microsoft.BiasSplitGelu")
def bias_split_gelu(ctx: Context, X: Value, bias: Value) -> Value:
    """The first half of the last axis times gelu of the second."""
    total = ctx.add(X, bias)
    half = int(X.shape[-1]) // 2
    gate = gelu(ctx, ctx.slice_axis(total, -1, half))
    return ctx.mul(ctx.slice_axis(total, -1, 0, half), gate)


@ONNX_OPS("com.microsoft.BiasAdd")
def bias_add(ctx: Context, X: Value, bias: Value, skip: Value) -> Value:
    return ctx.add(ctx.add(X, bias), skip)


@ONNX_OPS("com.microsoft.BiasSoftmax")
def bias_softmax(
    ctx: Context, data: Value, bias: Value, *, axis: int = 1, is_inner_broadcast: int
) -> Value:
    """softmax(data + bias) over the axes from `axis` on.

    With an inner broadcast the bias lacks axes in front of `axis`, which is how numpy aligns it;
    else it has size 1 in the last axes before `axis`, or repeats along the outer ones.
    """
    axis = ctx.axis(axis, data.rank)
    if not is_inner_broadcast and bias.rank < data.rank:
        bias = ctx.expand_dims(bias, list(range(data.rank - bias.rank)))
    total = ctx.add(data, bias)
    if axis == data.rank - 1:
        return ctx.unary("softmax", total, axis=-1)
    outer = [ctx.size(total, place) for place in range(axis)]
    rows = ctx.unary("softmax", ctx.reshape(total, [*outer, -1]), axis=-1)
    return ctx.reshape(rows, [ctx.size(total, place) for place in range(total.rank)])


@ONNX_OPS("com.microsoft.BiasDropout")
def bias_dropout(
    ctx: Context,
    data: Value,
    bias: Value,
    residual: Value | None = None,
    ratio: Value | None = None,
    training_mode: Value | None = None,
    *,
    seed: int | None = None,
) -> tuple[Value, Value | None]:
    """data + bias + residual: outside of training nothing is dropped."""
    if training_mode is not None and bool(ctx.constant(training_mode, "training_mode").any()):
        raise ctx.unsupported("training_mode is set", "export the model for inference")
    total = ctx.add(data, bias)
    total = total if residual is None else ctx.add(total, residual)
    if len(ctx.place.outputs) < 2 or not ctx.place.outputs[1]:
        return total, None
    return total, ctx.filled(ctx.shape(total), True, "bool")


def activated(ctx: Context, x: Value, name: str | None, parameters: list[float | None]) -> Value:
    """The activation that an operator is fused with; None for none."""
    if not name:
        return x
    if name not in PARAMETERS:
        raise ctx.unsupported(
            f"the activation {name} is not known; it may be {', '.join(PARAMETERS)}"
        )
    named = zip(PARAMETERS[name], parameters, strict=False)
    given = {key: number for key, number in named if number is not None}
    result: Value = standard(ctx, name, x, **given)
    return result


# products ------------------------------------------------------------------------------------


@ONNX_OPS("com.microsoft.FusedMatMul", "com.microsoft.TransposeMatMul")
def fused_matmul(
    ctx: Context,
    A: Value,
    B: Value,
    *,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Value:
    """alpha * A @ B, with A and B transposed as asked for.

    A transposed batch has its first axis moved behind the other axes of the batch.
    """
    A = batch_transposed(ctx, A) if transBatchA else A
    B = batch_transposed(ctx, B) if transBatchB else B
    if A.rank > 1 and B.rank > 1:
        product: Value = ctx.emit(
            "matmul",
            x=A,
            y=B,
            transpose_x=bool(transA),
            transpose_y=bool(transB),
            dtype=A.dtype,
        )
    else:
        product = standard(ctx, "MatMul", A, B)
    return product if alpha == 1 else ctx.mul(product, alpha)


def batch_transposed(ctx: Context, x: Value) -> Value:
    """(m, batch…, k) as (batch…, m, k)."""
    return ctx.transpose(x, [*range(1, x.rank - 1), 0, x.rank - 1])


@ONNX_OPS("com.microsoft.FusedMatMulActivation")
def fused_matmul_activation(
    ctx: Context,
    A: Value,
    B: Value,
    *,
    activation: str,
    activation_alpha: float | None = None,
    activation_axis: int | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    transA: int = 0,
    transB: int = 0,
    transBatchA: int = 0,
    transBatchB: int = 0,
) -> Value:
    product = fused_matmul(
        ctx,
        A,
        B,
        alpha=alpha,
        transA=transA,
        transB=transB,
        transBatchA=transBatchA,
        transBatchB=transBatchB,
    )
    if activation == "Softmax":
        axis = -1 if activation_axis is None else activation_axis
        return ctx.unary("softmax", product, axis=axis)
    second = activation_gamma if activation == "Selu" else activation_beta
    return activated(ctx, product, activation, [activation_alpha, second])


@ONNX_OPS("com.microsoft.FusedGemm")
def fused_gemm(
    ctx: Context,
    A: Value,
    B: Value,
    C: Value | None = None,
    *,
    activation: str | None = None,
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    activation_gamma: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,
    transB: int = 0,
) -> Value:
    given = {"alpha": alpha, "beta": beta, "transA": transA, "transB": transB}
    product: Value = standard(ctx, "Gemm", A, B, C, **given)
    second = activation_gamma if activation == "Selu" else activation_beta
    return activated(ctx, product, activation, [activation_alpha, second])


@ONNX_OPS("com.microsoft.GemmFastGelu")
def gemm_fast_gelu(ctx: Context, X: Value, W: Value, bias: Value | None = None) -> Value:
    return fast_gelu(ctx, standard(ctx, "MatMul", X, W), bias)


@ONNX_OPS("com.microsoft.ComplexMul")
def complex_mul(ctx: Context, A: Value, B: Value) -> Value:
    """Products of complex numbers, whose parts lie along the last axis."""
    return complex_product(ctx, A, B, 1.0)


@ONNX_OPS("com.microsoft.ComplexMulConj")
def complex_mul_conj(ctx: Context, A: Value, B: Value) -> Value:
    """Products of complex numbers with the conjugates of others."""
    return complex_product(ctx, A, B, -1.0)


def complex_product(ctx: Context, a: Value, b: Value, sign: float) -> Value:
    """(a0 + a1 i) (b0 ± b1 i)."""
    real, imaginary = (ctx.slice_axis(a, -1, place, place + 1) for place in (0, 1))
    other, turned = (ctx.slice_axis(b, -1, place, place + 1) for place in (0, 1))
    turned = turned if sign > 0 else ctx.mul(turned, sign)
    parts = [
        ctx.sub(ctx.mul(real, other), ctx.mul(imaginary, turned)),
        ctx.add(ctx.mul(real, turned), ctx.mul(imaginary, other)),
    ]
    return ctx.concat(parts, parts[0].rank - 1)


# convolutions --------------------------------------------------------------------------------


@ONNX_OPS("com.microsoft.FusedConv")
def fused_conv(
    ctx: Context,
    X: Value,
    W: Value,
    B: Value | None = None,
    Z: Value | None = None,
    *,
    activation: str | None = None,
    activation_params: list[float] | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """activation(conv(X) + Z)."""
    given = {"dilations": dilations, "kernel_shape": kernel_shape, "pads": pads}
    given = {key: item for key, item in {**given, "strides": strides}.items() if item is not None}
    result: Value = standard(ctx, "Conv", X, W, B, auto_pad=auto_pad, group=group, **given)
    result = result if Z is None else ctx.add(result, Z)
    return activated(ctx, result, activation, list(activation_params or []))


@ONNX_OPS("com.microsoft.NhwcFusedConv")
def nhwc_fused_conv(
    ctx: Context,
    X: Value,
    W: Value,
    B: Value | None = None,
    Z: Value | None = None,
    *,
    activation: str | None = None,
    activation_params: list[float] | None = None,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """`FusedConv` of a tensor whose channels come last; the weights are as in Conv."""
    result = fused_conv(
        ctx,
        channels_first(ctx, X),
        W,
        B,
        None if Z is None else channels_first(ctx, Z),
        activation=activation,
        activation_params=activation_params,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return channels_last(ctx, result)


@ONNX_OPS("com.microsoft.NhwcConv")
def nhwc_conv(
    ctx: Context,
    X: Value,
    W: Value,
    B: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """Conv of a tensor whose channels come last, with weights whose input channels come last."""
    return nhwc_fused_conv(
        ctx,
        X,
        channels_first(ctx, W),
        B,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )


def channels_first(ctx: Context, x: Value) -> Value:
    """(n, spatial…, c) as (n, c, spatial…)."""
    array = x.array
    if array is not None:
        return Value(x.dtype, known=np.moveaxis(array, -1, 1))
    return ctx.transpose(x, [0, x.rank - 1, *range(1, x.rank - 1)])


def channels_last(ctx: Context, x: Value) -> Value:
    """(n, c, spatial…) as (n, spatial…, c)."""
    return ctx.transpose(x, [0, *range(2, x.rank), 1])


# others --------------------------------------------------------------------------------------


@ONNX_OPS("com.microsoft.Trilu")
def trilu(ctx: Context, X: Value, k: Value | None = None, *, upper: int = 1) -> Value:
    result: Value = standard(ctx, "Trilu", X, k, upper=upper)
    return result


@ONNX_OPS("com.microsoft.GatherND")
def gather_nd(ctx: Context, data: Value, indices: Value) -> Value:
    result: Value = standard(ctx, "GatherND", data, indices)
    return result


@ONNX_OPS("com.microsoft.Pad")
def pad(
    ctx: Context, data: Value, pads: Value, value: Value | None = None, *, mode: str = "constant"
) -> Value:
    result: Value = standard(ctx, "Pad", data, pads, value, mode=mode)
    return result


@ONNX_OPS("com.microsoft.Range")
def number_range(ctx: Context, start: Value, limit: Value, delta: Value | None = None) -> Value:
    step = ctx.value(1, start.dtype) if delta is None else delta
    result: Value = standard(ctx, "Range", start, limit, step)
    return result


@ONNX_OPS("com.microsoft.ExpandDims")
def expand_dims(ctx: Context, X: Value, axis: Value) -> Value:
    result: Value = standard(ctx, "Unsqueeze", X, ctx.value(np.array(ctx.ints(axis, "axis"))))
    return result


@ONNX_OPS("com.microsoft.Inverse")
def inverse(ctx: Context, X: Value) -> Value:
    """Inverses of matrices of at most 3 × 3, by their cofactors."""
    size = X.shape[-1]
    if not is_static((size,)) or size > 3 or X.shape[-2] != size:
        raise ctx.unsupported(
            f"matrices of {X.shape[-2]} × {size} cannot be inverted; up to 3 × 3 can",
            "move the inversion out of the model into the app",
        )
    cells = {
        (row, column): ctx.slice_axis(ctx.slice_axis(X, -2, row, row + 1), -1, column, column + 1)
        for row in range(size)
        for column in range(size)
    }
    others = [[place for place in range(size) if place != left] for left in range(size)]
    adjugate = [
        [minor(ctx, cells, others[column], others[row], row + column) for column in range(size)]
        for row in range(size)
    ]
    terms = [ctx.mul(cells[(0, place)], adjugate[place][0]) for place in range(size)]
    determinant = terms[0]
    for term in terms[1:]:
        determinant = ctx.add(determinant, term)
    rows = [ctx.concat(row, X.rank - 1) for row in adjugate]
    return ctx.div(ctx.concat(rows, X.rank - 2), determinant)


def minor(
    ctx: Context,
    cells: dict[tuple[int, int], Value],
    rows: list[int],
    columns: list[int],
    place: int,
) -> Value:
    """The signed determinant of what is left of a matrix without one row and one column."""
    if not rows:
        return ctx.add(ctx.mul(cells[(0, 0)], 0.0), 1.0)
    if len(rows) == 1:
        found = cells[(rows[0], columns[0])]
    else:
        down = ctx.mul(cells[(rows[0], columns[0])], cells[(rows[1], columns[1])])
        found = ctx.sub(down, ctx.mul(cells[(rows[0], columns[1])], cells[(rows[1], columns[0])]))
    return ctx.mul(found, -1.0) if place % 2 else found
