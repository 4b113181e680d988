"""Arithmetic, comparisons, logic and bits, element by element."""

from __future__ import annotations

from functools import reduce

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.tensors import Tensor, type_name
from metal4conv.frontends.onnx.value import MIL_DTYPE, NARROW, Value

UNARY = {
    "Acos": "acos",
    "Asin": "asin",
    "Atan": "atan",
    "Atanh": "atanh",
    "Cos": "cos",
    "Cosh": "cosh",
    "Erf": "erf",
    "Exp": "exp",
    "Sin": "sin",
    "Sinh": "sinh",
    "Sqrt": "sqrt",
    "Tan": "tan",
    "Tanh": "tanh",
}
"""Functions of floats that MIL has under another name."""

UNSIGNED = ("uint8", "uint16", "uint32", "uint64", "bool")


def register_unary(name: str, operation: str) -> None:
    @ONNX_OPS(name)
    def unary(ctx: Context, x: Value) -> Value:
        return ctx.unary(operation, x)


for onnx_name, mil_name in UNARY.items():
    register_unary(onnx_name, mil_name)


# functions of one tensor ---------------------------------------------------------------------


@ONNX_OPS("Abs")
def absolute(ctx: Context, x: Value) -> Value:
    """The distance from 0; that of the lowest narrow integer wraps to itself."""
    if x.dtype in UNSIGNED:
        return x
    return ctx.wrapped(ctx.unary("abs", x), x.dtype) if x.dtype in NARROW else ctx.unary("abs", x)


@ONNX_OPS("Neg")
def negated(ctx: Context, x: Value) -> Value:
    return integer_result(ctx, ctx.mul(x, -1), x.dtype)


@ONNX_OPS("Sign")
def sign(ctx: Context, x: Value) -> Value:
    return ctx.unary("sign", x)


@ONNX_OPS("Floor")
def floor(ctx: Context, x: Value) -> Value:
    return ctx.unary("floor", x)


@ONNX_OPS("Ceil")
def ceil(ctx: Context, x: Value) -> Value:
    return ctx.unary("ceil", x)


@ONNX_OPS("Round")
def rounded(ctx: Context, x: Value) -> Value:
    """The closest integer; halves go to the even one, in MIL as in ONNX."""
    return ctx.unary("round", x)


@ONNX_OPS("Log")
def logarithm(ctx: Context, x: Value) -> Value:
    """MIL adds an epsilon of 1e-45 if none is given, which is 0 in float16."""
    return ctx.unary("log", x, epsilon=np.float32(0))


@ONNX_OPS("Reciprocal")
def reciprocal(ctx: Context, x: Value) -> Value:
    return ctx.div(1.0, x)


@ONNX_OPS("Acosh")
def acosh(ctx: Context, x: Value) -> Value:
    """log(x + sqrt(x² - 1)), as sqrt(x - 1) * sqrt(x + 1), which does not overflow."""
    root = ctx.mul(ctx.unary("sqrt", ctx.sub(x, 1.0)), ctx.unary("sqrt", ctx.add(x, 1.0)))
    return logarithm(ctx, ctx.add(x, root))


@ONNX_OPS("Asinh")
def asinh(ctx: Context, x: Value) -> Value:
    """sign(x) * log(|x| + sqrt(x² + 1)), which loses nothing for negative numbers."""
    size = ctx.unary("abs", x)
    root = ctx.unary("sqrt", ctx.add(ctx.mul(x, x), 1.0))
    return ctx.mul(ctx.unary("sign", x), logarithm(ctx, ctx.add(size, root)))


@ONNX_OPS("Not")
def logical_not(ctx: Context, x: Value) -> Value:
    return ctx.unary("logical_not", x)


@ONNX_OPS("IsNaN")
def is_nan(ctx: Context, x: Value) -> Value:
    """What does not equal itself."""
    return ctx.binary("not_equal", x, x)


@ONNX_OPS("IsInf")
def is_inf(ctx: Context, x: Value, *, detect_negative: int = 1, detect_positive: int = 1) -> Value:
    tests = []
    if detect_positive:
        tests.append(ctx.equal(x, np.float32(np.inf)))
    if detect_negative:
        tests.append(ctx.equal(x, np.float32(-np.inf)))
    if not tests:
        return ctx.binary("logical_and", is_nan(ctx, x), ctx.equal(x, x))
    return tests[0] if len(tests) == 1 else ctx.binary("logical_or", *tests)


@ONNX_OPS("BitwiseNot")
def bitwise_not(ctx: Context, x: Value) -> Value:
    """-x - 1 in two's complement; of unsigned ones the largest less x."""
    if x.dtype in ("uint32", "uint64"):
        raise ctx.unsupported(f"the complement of {x.dtype} is beyond int32")
    if x.dtype in UNSIGNED:
        return ctx.sub((1 << NARROW[x.dtype][0]) - 1, x)
    return ctx.sub(ctx.mul(x, -1), 1)


# functions of two tensors --------------------------------------------------------------------


def integer_result(ctx: Context, value: Value, dtype: str) -> Value:
    """A result that wraps as arithmetic in a narrow integer dtype does."""
    return ctx.wrapped(value.with_dtype("int32"), dtype) if dtype in NARROW else value


@ONNX_OPS("Add")
def add(ctx: Context, a: Value, b: Value) -> Value:
    return integer_result(ctx, ctx.add(a, b), a.dtype)


@ONNX_OPS("Sub")
def sub(ctx: Context, a: Value, b: Value) -> Value:
    return integer_result(ctx, ctx.sub(a, b), a.dtype)


@ONNX_OPS("Mul")
def mul(ctx: Context, a: Value, b: Value) -> Value:
    return integer_result(ctx, ctx.mul(a, b), a.dtype)


@ONNX_OPS("Div")
def div(ctx: Context, a: Value, b: Value) -> Value:
    """Quotients; those of integers are cut towards 0, where MIL's go towards -∞."""
    if a.is_float:
        return ctx.div(a, b)
    if a.dtype in UNSIGNED or (ctx.is_never_negative(a) and ctx.is_never_negative(b)):
        return ctx.floor_div(a, b)
    quotient = ctx.floor_div(a, b)
    rest = ctx.sub(a, ctx.mul(quotient, b))
    # one too low where a rest is left and the quotient is negative
    is_low = ctx.binary("logical_and", ctx.binary("not_equal", rest, 0), ctx.less(quotient, 0))
    return integer_result(ctx, ctx.add(quotient, ctx.cast(is_low, a.dtype)), a.dtype)


@ONNX_OPS("Mod")
def modulo(ctx: Context, a: Value, b: Value, *, fmod: int = 0) -> Value:
    """Remainders with the sign of the divisor, or with `fmod` that of the dividend."""
    if not fmod:
        return ctx.mod(a, b)
    positive = ctx.mod(ctx.unary("abs", a), ctx.unary("abs", b))
    return ctx.mul(positive, ctx.unary("sign", a))


@ONNX_OPS("Pow")
def power(ctx: Context, x: Value, y: Value) -> Value:
    """Powers in the dtype of the base; those of integers are computed in float32."""
    if x.is_float:
        return ctx.binary("pow", x, ctx.cast(y, "float32").with_dtype(x.dtype))
    if not y.is_float:
        return integer_result(ctx, ctx.binary("pow", x, ctx.cast(y, "int32")), x.dtype)
    return ctx.cast(ctx.binary("pow", ctx.cast(x, "float32"), y), x.dtype)


@ONNX_OPS("Max")
def maximum(ctx: Context, *data_0: Value) -> Value:
    return reduce(ctx.maximum, data_0)


@ONNX_OPS("Min")
def minimum(ctx: Context, *data_0: Value) -> Value:
    return reduce(ctx.minimum, data_0)


@ONNX_OPS("Sum")
def total(ctx: Context, *data_0: Value) -> Value:
    return reduce(ctx.add, data_0)


@ONNX_OPS("Mean")
def mean(ctx: Context, *data_0: Value) -> Value:
    return ctx.div(reduce(ctx.add, data_0), float(len(data_0)))


@ONNX_OPS("Clip", since=11)
def clip(ctx: Context, input: Value, min: Value | None = None, max: Value | None = None) -> Value:
    """Elements within bounds; where the upper one lies below the lower one, it wins."""
    low, high = (None if item is None else item.array for item in (min, max))
    if input.is_float and low is not None and high is not None and low <= high:
        return ctx.unary("clip", input, alpha=np.float32(low), beta=np.float32(high))
    result = input if min is None else ctx.maximum(input, min)
    return result if max is None else ctx.minimum(result, max)


@ONNX_OPS("Clip", since=1)
def clip_by_attributes(
    ctx: Context, input: Value, *, max: float | None = None, min: float | None = None
) -> Value:
    low = None if min is None else ctx.value(min, input.dtype)
    return clip(ctx, input, low, None if max is None else ctx.value(max, input.dtype))


def comparable(ctx: Context, a: Value, b: Value) -> tuple[Value, Value]:
    """Operands that MIL compares: bool as integers."""
    return (ctx.cast(a, "int32"), ctx.cast(b, "int32")) if a.dtype == "bool" else (a, b)


def register_comparison(name: str, operation: str) -> None:
    @ONNX_OPS(name, since=7)
    def compare(ctx: Context, a: Value, b: Value) -> Value:
        return ctx.binary(operation, *comparable(ctx, a, b))


for onnx_name, mil_name in {
    "Equal": "equal",
    "Greater": "greater",
    "GreaterOrEqual": "greater_equal",
    "Less": "less",
    "LessOrEqual": "less_equal",
}.items():
    register_comparison(onnx_name, mil_name)


def register_logic(name: str, operation: str) -> None:
    @ONNX_OPS(name, since=7)
    def logic(ctx: Context, a: Value, b: Value) -> Value:
        return ctx.binary(operation, a, b)


for onnx_name, mil_name in {
    "And": "logical_and",
    "Or": "logical_or",
    "Xor": "logical_xor",
}.items():
    register_logic(onnx_name, mil_name)


@ONNX_OPS("Where")
def where(ctx: Context, condition: Value, x: Value, y: Value) -> Value:
    return ctx.where(condition, x, y)


# bits ----------------------------------------------------------------------------------------


@ONNX_OPS("BitShift")
def bit_shift(ctx: Context, x: Value, y: Value, *, direction: str) -> Value:
    """Products and quotients with powers of 2; MIL has no shifts.

    A shift by a negative number, or by as many bits as there are, leaves the sign or 0.
    """
    held, count = x.with_dtype("int32"), ctx.cast(y, "int32")
    bits = NARROW.get(x.dtype, (32, True))[0]
    is_right = direction == "RIGHT"
    most = bits - 1 if is_right and bits == 32 else bits
    too_far = ctx.binary("logical_or", ctx.less(count, 0), ctx.less(most - 1, count))
    near = ctx.minimum(ctx.maximum(count, 0), most - 1)
    factor = ctx.binary("pow", ctx.value(2, "int32"), near)
    shifted = ctx.floor_div(held, factor) if is_right else ctx.mul(held, factor)
    left_over = ctx.mul(ctx.cast(ctx.less(held, 0), "int32"), -1) if is_right else ctx.mul(held, 0)
    return integer_result(ctx, ctx.where(too_far, left_over, shifted), x.dtype)


def bits_of(ctx: Context, x: Value, count: int) -> Value:
    """The bits of integers along a new last axis, the lowest first; those of negative ones are
    the bits of their two's complement.
    """
    places = ctx.value(np.array([1 << bit for bit in range(count - 1)] or [1]), "int32")
    rows = ctx.expand_dims(x.with_dtype("int32"), [x.rank])
    low = ctx.mod(ctx.floor_div(rows, places), 2)
    top = ctx.cast(ctx.less(rows, 0), "int32")
    return ctx.concat([low, top], low.rank - 1) if count == 32 else low


def from_bits(ctx: Context, bits: Value, count: int) -> Value:
    """Integers from their bits along the last axis."""
    places = [1 << bit for bit in range(count)]
    if count == 32:
        places[-1] = -(1 << 31)
    weighted = ctx.mul(bits, ctx.value(np.array(places), "int32"))
    result: Value = ctx.emit("reduce_sum", x=weighted, axes=[bits.rank - 1], keep_dims=False)
    return result


def bitwise(ctx: Context, a: Value, b: Value, operation: str) -> Value:
    """A logical operation on each pair of bits."""
    bits, signed = NARROW.get(a.dtype, (32, True))
    count = bits + 1 if a.dtype in NARROW else 32
    x, y = (bits_of(ctx, item, count if count == 32 else bits + 1) for item in (a, b))
    if operation == "and":
        result = ctx.mul(x, y)
    elif operation == "or":
        result = ctx.maximum(x, y)
    else:
        result = ctx.cast(ctx.binary("not_equal", x, y), "int32")
    width = 32 if count == 32 else bits
    found = from_bits(ctx, result, width)
    return ctx.wrapped(found, a.dtype) if signed and a.dtype in NARROW else found


@ONNX_OPS("BitwiseAnd")
def bitwise_and(ctx: Context, a: Value, b: Value) -> Value:
    return bitwise(ctx, a, b, "and")


@ONNX_OPS("BitwiseOr")
def bitwise_or(ctx: Context, a: Value, b: Value) -> Value:
    return bitwise(ctx, a, b, "or")


@ONNX_OPS("BitwiseXor")
def bitwise_xor(ctx: Context, a: Value, b: Value) -> Value:
    return bitwise(ctx, a, b, "xor")


# dtypes --------------------------------------------------------------------------------------


@ONNX_OPS("Cast")
def cast(
    ctx: Context, input: Value, *, saturate: int = 1, to: int, round_mode: str = "up"
) -> Value:
    """The elements in another dtype, floats cut towards 0."""
    return ctx.cast(input, type_name(to))


@ONNX_OPS("CastLike")
def cast_like(
    ctx: Context, input: Value, target_type: Value, *, saturate: int = 1, round_mode: str = "up"
) -> Value:
    return ctx.cast(input, target_type.dtype)


@ONNX_OPS("BitCast")
def bit_cast(ctx: Context, input: Value, *, to: int) -> Value:
    """The bits of integers, or of bool, as those of others of the same width."""
    dtype = type_name(to)
    is_bits = not input.is_float and "float" not in dtype and dtype in MIL_DTYPE
    if input.dtype != dtype and not is_bits:
        raise ctx.unsupported(
            f"the bits of {input.dtype} as {dtype}: MIL cannot see the bits of a number",
            "move the cast out of the model into the app",
        )
    return ctx.cast(input, dtype)


@ONNX_OPS("Identity")
def identity(ctx: Context, input: Value) -> Value:
    return input


@ONNX_OPS("Constant")
def constant(
    ctx: Context,
    *,
    sparse_value: object = None,
    value: Tensor | None = None,
    value_float: float | None = None,
    value_floats: list[float] | None = None,
    value_int: int | None = None,
    value_ints: list[int] | None = None,
    value_string: str | None = None,
    value_strings: list[str] | None = None,
) -> Value:
    """A constant given as one of the attributes."""
    if value is not None:
        return Value(value.dtype, known=value.array)
    if value_float is not None or value_floats is not None:
        given = value_floats if value_float is None else value_float
        return Value("float32", known=np.asarray(given, np.float32))
    if value_int is not None or value_ints is not None:
        given_int = value_ints if value_int is None else value_int
        return Value("int64", known=np.asarray(given_int, np.int64))
    if value_string is not None or value_strings is not None:
        text = value_strings if value_string is None else value_string
        return Value("string", known=np.asarray(text, object))
    raise ctx.unsupported("a constant in none of the forms that are known here")
