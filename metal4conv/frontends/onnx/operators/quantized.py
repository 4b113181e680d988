"""Quantized tensors: to and from floats, and layers whose inputs and outputs are quantized.

Constants stay compressed in the package. A quantized layer is the float layer between
DequantizeLinear and QuantizeLinear, which is what Core ML knows; integers that are results
themselves (`MatMulInteger`) are computed as such.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.operators.conv import conv
from metal4conv.frontends.onnx.operators.linear import matmul
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.tensors import type_name
from metal4conv.frontends.onnx.value import NARROW, Value, Var

LEAST_COMPRESSED = 64
"""Elements from which a constant of several dimensions stays compressed."""


@dataclass(frozen=True)
class Scheme:
    """How integers stand for floats: `(integer - zero_point) * scale`."""

    scale: Value
    zero_point: Value | None = None
    axis: int = 0
    """Counts from the front; the axis along which a vector of scales, or blocks, lie."""
    block: int = 0
    """How many elements along the axis share a scale; 0 where there are no blocks."""

    @property
    def is_single(self) -> bool:
        """Whether all elements share one scale."""
        return all(size == 1 for size in self.scale.shape)

    @property
    def is_constant(self) -> bool:
        """Whether scale and zero point are known."""
        known = self.zero_point is None or self.zero_point.array is not None
        return known and self.scale.array is not None


def limits(dtype: str) -> tuple[int, int]:
    """The lowest and the highest integer of a narrow dtype.

    >>> limits("uint8"), limits("int4")
    ((0, 255), (-8, 7))
    """
    bits, is_signed = NARROW[dtype]
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if is_signed else (0, (1 << bits) - 1)


# the operators -------------------------------------------------------------------------------


@ONNX_OPS("QuantizeLinear", since=10)
def quantize_linear(
    ctx: Context,
    x: Value,
    y_scale: Value,
    y_zero_point: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
    precision: int = 0,
    saturate: int = 1,
) -> Value:
    """Integers for floats: x / scale, rounded, halves to even, plus zero point, limited."""
    dtype = type_name(output_dtype) if output_dtype else "uint8"
    if y_zero_point is not None:
        dtype = y_zero_point.dtype
    return quantized(ctx, x, scheme_of(ctx, x, y_scale, y_zero_point, axis, block_size), dtype)


@ONNX_OPS("DequantizeLinear", since=10)
def dequantize_linear(
    ctx: Context,
    x: Value,
    x_scale: Value,
    x_zero_point: Value | None = None,
    *,
    axis: int = 1,
    block_size: int = 0,
    output_dtype: int = 0,
) -> Value:
    """Floats for integers: (x - zero point) * scale. Large constants stay compressed."""
    scheme = scheme_of(ctx, x, x_scale, x_zero_point, axis, block_size)
    result = dequantized(ctx, x, scheme)
    return ctx.cast(result, type_name(output_dtype) if output_dtype else x_scale.dtype)


@ONNX_OPS("DynamicQuantizeLinear", since=11)
def dynamic_quantize_linear(ctx: Context, x: Value) -> tuple[Value, Value, Value]:
    """uint8 for floats, with a scale and zero point by which their range, and 0, just fits.

    Only zeros have the scale 1, as in onnxruntime; ONNX's formula divides by 0 there.
    """
    axes = list(range(x.rank))
    highest = ctx.emit("reduce_max", x=x, axes=axes, keep_dims=False) if axes else x
    lowest = ctx.emit("reduce_min", x=x, axes=axes, keep_dims=False) if axes else x
    highest, lowest = ctx.maximum(highest, 0.0), ctx.minimum(lowest, 0.0)
    span = ctx.div(ctx.sub(highest, lowest), 255.0)
    scale = ctx.where(ctx.equal(span, 0.0), 1.0, span)
    offset = ctx.unary("round", ctx.div(ctx.sub(0.0, lowest), scale))
    zero_point = ctx.cast(ctx.minimum(ctx.maximum(offset, 0.0), 255.0), "int32").with_dtype("uint8")
    return quantized(ctx, x, Scheme(scale, zero_point), "uint8"), scale, zero_point


@ONNX_OPS("QLinearConv", "com.microsoft.QLinearConv", since=10)
def q_linear_conv(
    ctx: Context,
    x: Value,
    x_scale: Value,
    x_zero_point: Value,
    w: Value,
    w_scale: Value,
    w_zero_point: Value,
    y_scale: Value,
    y_zero_point: Value,
    B: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """The convolution of the floats that are meant; the bias counts in products of the scales."""
    bias = None
    if B is not None:
        bias = dequantized(ctx, B, Scheme(product_of(ctx, x_scale, w_scale)))
    result = conv(
        ctx,
        dequantized(ctx, x, Scheme(x_scale, x_zero_point)),
        dequantized(ctx, w, Scheme(w_scale, w_zero_point)),
        bias,
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return quantized(ctx, result, Scheme(y_scale, y_zero_point), y_zero_point.dtype)


@ONNX_OPS("QLinearMatMul", since=10)
def q_linear_matmul(
    ctx: Context,
    a: Value,
    a_scale: Value,
    a_zero_point: Value,
    b: Value,
    b_scale: Value,
    b_zero_point: Value,
    y_scale: Value,
    y_zero_point: Value,
) -> Value:
    """The product of the floats that are meant; scales are those of rows of a, columns of b."""
    left = dequantized(ctx, a, Scheme(a_scale, a_zero_point, max(a.rank - 2, 0)))
    right = dequantized(ctx, b, Scheme(b_scale, b_zero_point, b.rank - 1))
    result = matmul(ctx, left, right)
    scheme = Scheme(y_scale, y_zero_point, max(result.rank - 2, 0))
    return quantized(ctx, result, scheme, y_zero_point.dtype)


@ONNX_OPS("ConvInteger", since=10)
def conv_integer(
    ctx: Context,
    x: Value,
    w: Value,
    x_zero_point: Value | None = None,
    w_zero_point: Value | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: list[int] | None = None,
    group: int = 1,
    kernel_shape: list[int] | None = None,
    pads: list[int] | None = None,
    strides: list[int] | None = None,
) -> Value:
    """The convolution of integers as floats, which are exact up to sums of 2^24; MIL has no
    convolution of integers.
    """
    one = ctx.value(np.float32(1))
    result = conv(
        ctx,
        dequantized(ctx, x, Scheme(one, x_zero_point)),
        dequantized(ctx, w, Scheme(one, w_zero_point)),
        auto_pad=auto_pad,
        dilations=dilations,
        group=group,
        kernel_shape=kernel_shape,
        pads=pads,
        strides=strides,
    )
    return ctx.cast(result, "int32")


@ONNX_OPS("MatMulInteger", since=10)
def matmul_integer(
    ctx: Context,
    A: Value,
    B: Value,
    a_zero_point: Value | None = None,
    b_zero_point: Value | None = None,
) -> Value:
    """The product of integers without their zero points, computed in int32."""
    left = without_zero_point(ctx, A, a_zero_point, max(A.rank - 2, 0))
    return matmul(ctx, left, without_zero_point(ctx, B, b_zero_point, B.rank - 1))


def without_zero_point(ctx: Context, x: Value, zero_point: Value | None, axis: int) -> Value:
    """Integers less their zero point; a large constant is compressed and made integers again."""
    known = zero_point is None or zero_point.array is not None
    if x.array is not None and known:
        scheme = Scheme(ctx.value(np.float32(1)), zero_point, axis)
        return ctx.cast(dequantized(ctx, x, scheme), "int32")
    whole = x.with_dtype("int32")
    if zero_point is None or is_zero(zero_point):
        return whole
    return ctx.sub(whole, along(ctx, zero_point.with_dtype("int32"), x, axis, 0))


# to and from floats --------------------------------------------------------------------------


def scheme_of(
    ctx: Context, x: Value, scale: Value, zero_point: Value | None, axis: int, block: int
) -> Scheme:
    """The scheme of a node's attributes; the axis matters only for several scales."""
    if all(size == 1 for size in scale.shape) and not block:
        return Scheme(scale, zero_point)
    return Scheme(scale, zero_point, ctx.axis(axis, x.rank), block)


def dequantized(ctx: Context, x: Value, scheme: Scheme) -> Value:
    """The floats that integers stand for."""
    if x.array is not None and scheme.is_constant:
        return decompressed(ctx, x, scheme)
    if (held := held_quantized(ctx, x, scheme)) is not None:
        return native(ctx, "dequantize", "float32", input=held, **parameters(x.dtype, scheme))
    zero_point = scheme.zero_point
    if "float" in x.dtype:
        raise ctx.unsupported(f"a MIL program cannot hold {x.dtype}, but for constants")
    if zero_point is not None and not is_zero(zero_point):
        zeros = along(ctx, zero_point.with_dtype("int32"), x, scheme.axis, scheme.block)
        x = ctx.sub(x.with_dtype("int32"), zeros)
    floats = ctx.cast(x, "float32")
    scale = ctx.cast(scheme.scale, "float32")
    if scale.array is not None and (scale.array == 1).all():
        return floats
    return ctx.mul(floats, along(ctx, scale, x, scheme.axis, scheme.block))


def quantized(ctx: Context, x: Value, scheme: Scheme, dtype: str) -> Value:
    """The integers that stand for floats, rounded and limited to the dtype."""
    if dtype not in NARROW:
        raise ctx.unsupported(
            f"it quantizes to {dtype}, which a MIL program cannot hold",
            "quantize to int8 or uint8",
        )
    x = ctx.cast(x, "float32")
    if is_native(ctx, x, scheme, dtype):
        made = native(
            ctx, "quantize", dtype, input=x, output_dtype=dtype, **parameters(dtype, scheme)
        )
        return ctx.emit_cast(made, "int32").with_dtype(dtype)
    scale = ctx.cast(scheme.scale, "float32")
    values = ctx.unary("round", ctx.div(x, along(ctx, scale, x, scheme.axis, scheme.block)))
    zero_point = scheme.zero_point
    if zero_point is not None and not is_zero(zero_point):
        zeros = along(ctx, zero_point.with_dtype("int32"), x, scheme.axis, scheme.block)
        values = ctx.add(values, ctx.cast(zeros, "float32"))
    low, high = limits(dtype)
    values = ctx.minimum(ctx.maximum(values, float(low)), float(high))
    return ctx.cast(values, "int32").with_dtype(dtype)


def is_zero(zero_point: Value) -> bool:
    """Whether a zero point is known to be 0."""
    array = zero_point.array
    return array is not None and not array.any()


def along(ctx: Context, parameter: Value, x: Value, axis: int, block: int) -> Value:
    """A scale or zero point in a shape that broadcasts with `x`."""
    if block:
        places = ctx.floor_div(ctx.range(0, ctx.size(x, axis)), block)
        result: Value = ctx.emit(
            "gather", x=parameter, indices=places, axis=axis, dtype=parameter.dtype
        )
        return result
    if all(size == 1 for size in parameter.shape):
        return ctx.reshape(parameter, []) if parameter.array is None else first(parameter)
    if parameter.rank != 1:
        return parameter
    return ctx.expand_dims(parameter, [place for place in range(x.rank) if place != axis])


def first(parameter: Value) -> Value:
    """The only element of a constant."""
    assert parameter.array is not None
    return Value(parameter.dtype, known=parameter.array.reshape(()))


def product_of(ctx: Context, x: Value, y: Value) -> Value:
    """The product of scales."""
    if x.array is not None and y.array is not None:
        return Value("float32", known=x.array.reshape(-1) * y.array)
    return ctx.mul(x, y)


# constants -----------------------------------------------------------------------------------


def decompressed(ctx: Context, x: Value, scheme: Scheme) -> Value:
    """A constant of floats; a large one of 4 or 8 bits is compressed in the package."""
    array, scale, zero_point = arrays_of(x, scheme)
    bits = NARROW.get(x.dtype, (32, True))[0]
    if x.rank > 1 and array.size >= LEAST_COMPRESSED and bits <= 8:
        in_blocks = bits == 4 or bool(scheme.block)
        if in_blocks and ctx.target >= 18 and fits_blocks(array, scale):
            dtype = x.dtype if bits == 4 else eight_bits(x.dtype)
            return blockwise(ctx, dtype, array, scale, zero_point)
        is_vector = scale.size in (1, scale.shape[scheme.axis])
        if ctx.target >= 16 and not scheme.block and is_vector:
            return affine(ctx, eight_bits(x.dtype), array, scale, zero_point, scheme.axis)
    scale, zero_point = (expanded(item, array.shape) for item in (scale, zero_point))
    floats = (array.astype(np.float64) - zero_point) * scale
    return Value("float32", known=floats.astype(np.float32))


def eight_bits(dtype: str) -> str:
    """The dtype of 8 bits that holds one of at most 8."""
    return "int8" if NARROW[dtype][1] else "uint8"


def arrays_of(x: Value, scheme: Scheme) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The integers, and scale and zero point with as many dimensions."""
    assert x.array is not None
    assert scheme.scale.array is not None
    scale = scheme.scale.array.astype(np.float32)
    zero_point = np.zeros(scale.shape, np.int64)
    if scheme.zero_point is not None and scheme.zero_point.array is not None:
        zero_point = scheme.zero_point.array.astype(np.float32).astype(np.int64)
        if zero_point.size > scale.size:
            scale = np.broadcast_to(scale.reshape(-1)[0], zero_point.shape)
        zero_point = np.broadcast_to(zero_point, scale.shape)
    shape = [1] * x.rank
    if scale.size > 1 and scale.ndim == 1:
        shape[scheme.axis] = scale.size
    elif scale.size > 1:
        shape = list(scale.shape)
    return x.array, scale.reshape(shape), zero_point.reshape(shape)


def fits_blocks(array: np.ndarray, scale: np.ndarray) -> bool:
    """Whether each axis has a whole number of elements for each scale."""
    return all(size % count == 0 for size, count in zip(array.shape, scale.shape, strict=True))


def expanded(parameter: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter repeated along blocks, cut to a shape; axes of size 1 stay."""
    for axis, (count, size) in enumerate(zip(parameter.shape, shape, strict=True)):
        if count > 1 and count != size:
            repeated = np.repeat(parameter, -(-size // count), axis)
            parameter = np.take(repeated, range(size), axis)
    return parameter


def affine(
    ctx: Context,
    dtype: str,
    array: np.ndarray,
    scale: np.ndarray,
    zero_point: np.ndarray,
    axis: int,
) -> Value:
    """A constant with one scale, or one for each place of an axis."""
    is_single = scale.size == 1
    return native(
        ctx,
        "constexpr_affine_dequantize",
        "float32",
        quantized_data=array.astype(dtype),
        zero_point=zero_point.reshape(-1)[0 if is_single else slice(None)].astype(dtype),
        scale=scale.reshape(-1)[0 if is_single else slice(None)],
        axis=np.int32(axis),
    )


def blockwise(
    ctx: Context, dtype: str, array: np.ndarray, scale: np.ndarray, zero_point: np.ndarray
) -> Value:
    """A constant with a scale for each block."""
    from coremltools.converters.mil.mil import types

    stored = {"int4": types.np_int4_dtype, "uint4": types.np_uint4_dtype}.get(dtype)
    held = stored if stored is not None else np.dtype(dtype)
    offset = zero_point.astype(held.base) if zero_point.any() else None
    return native(
        ctx,
        "constexpr_blockwise_shift_scale",
        "float32",
        data=np.asarray(array.astype(held.base), held),
        scale=np.ascontiguousarray(scale),
        offset=None if offset is None else np.asarray(offset, held),
    )


# MIL's own quantized tensors -----------------------------------------------------------------


def native(ctx: Context, operation: str, dtype: str, **inputs: Any) -> Value:
    """A MIL operation with inputs in their own dtypes. (Any: values, arrays, texts.)"""
    from coremltools.converters.mil.mil import Builder

    given = {
        name: ctx.var(item) if isinstance(item, Value) else item
        for name, item in inputs.items()
        if item is not None
    }
    return ctx.wrap_var(getattr(Builder, operation)(**given, name=ctx.free_name(operation)), dtype)


def is_native(ctx: Context, x: Value, scheme: Scheme, dtype: str) -> bool:
    """Whether MIL's `quantize` says the same: constant parameters, for all or along an axis."""
    if ctx.target < 17 or dtype not in ("int8", "uint8") or scheme.block or not x.rank:
        return False
    return scheme.is_constant and (scheme.is_single or scheme.scale.rank == 1)


def parameters(dtype: str, scheme: Scheme) -> dict[str, Any]:  # Any: arrays
    """The inputs of MIL's `quantize` and `dequantize` that tell a scheme."""
    assert scheme.scale.array is not None
    place: Any = 0 if scheme.is_single else slice(None)
    found = {"scale": scheme.scale.array.reshape(-1)[place].astype(np.float32)}
    if scheme.zero_point is not None and scheme.zero_point.array is not None:
        found["zero_point"] = scheme.zero_point.array.reshape(-1)[place].astype(dtype)
    return found if scheme.is_single else {**found, "axis": np.int32(scheme.axis)}


def held_quantized(ctx: Context, x: Value, scheme: Scheme) -> Var | None:
    """The variable that MIL's `quantize` gave, if that is what the integers come from."""
    operation = None if x.var is None else x.var.op
    if operation is None or operation.op_type != "cast" or operation.x.op is None:
        return None
    if operation.x.op.op_type != "quantize" or not is_native(ctx, x, scheme, x.dtype):
        return None
    return operation.x
