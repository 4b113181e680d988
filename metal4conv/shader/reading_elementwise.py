"""Reading arithmetic of elements: activations, functions of one value, arithmetic of two."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metal4conv.shader.axes import Known
from metal4conv.shader.contents import Applied, Fixed
from metal4conv.shader.reader import READERS, Reader, Reading

UNARY = {
    "abs": "abs", "acos": "acos", "asin": "asin", "atan": "atan", "ceil": "ceil", "cos": "cos",
    "cosh": "cosh", "erf": "erf", "exp": "exp", "exp2": "exp2", "floor": "floor",
    "logical_not": "logical_not", "relu": "relu", "round": "round", "sigmoid": "sigmoid",
    "sign": "sign", "silu": "silu", "sin": "sin", "sinh": "sinh", "softplus": "softplus",
    "softsign": "softsign", "sqrt": "sqrt", "tan": "tan", "tanh": "tanh",
}  # fmt: skip
"""MIL's operations of one value without parameters, and the network's functions."""

BINARY = {
    "add": "add", "sub": "subtract", "mul": "multiply", "maximum": "maximum",
    "minimum": "minimum", "mod": "modulo", "floor_div": "floor_divide", "equal": "equal",
    "not_equal": "not_equal", "less": "less", "less_equal": "less_equal", "greater": "greater",
    "greater_equal": "greater_equal", "logical_and": "logical_and", "logical_or": "logical_or",
    "logical_xor": "logical_xor",
}  # fmt: skip
"""MIL's operations of two values, and the network's functions."""


def unary(function: str) -> Reading:
    """The reading of an operation of one value."""

    def read(reader: Reader, x: Known) -> Known:
        return reader.call(function, x)

    return read


def binary(function: str) -> Reading:
    """The reading of an operation of two values."""

    def read(reader: Reader, x: Known, y: Known) -> Known:
        return reader.call(function, x, y)

    return read


for name, function in UNARY.items():
    READERS.add(name, unary(function))
for name, function in BINARY.items():
    READERS.add(name, binary(function))


@READERS("real_div")
def real_div(reader: Reader, x: Known, y: Known) -> Known:
    """`x / y`; of integers it is cut towards zero."""
    quotient = reader.call("divide", x, y)
    return reader.call("truncate", quotient) if "int" in reader.output_dtype() else quotient


@READERS("square")
def square(reader: Reader, x: Known) -> Known:
    """`x * x`."""
    once = reader.kept(x)
    return reader.call("multiply", once, once)


def cube(reader: Reader, x: Known) -> Known:
    """`x * x * x`."""
    once = reader.kept(x)
    return reader.call("multiply", reader.call("multiply", once, once), once)


POWERS: dict[float, Callable[[Reader, Known], Known]] = {
    -1.0: lambda reader, x: reader.call("reciprocal", x),
    -0.5: lambda reader, x: reader.call("rsqrt", x),
    0.5: lambda reader, x: reader.call("sqrt", x),
    1.0: lambda reader, x: x,
    2.0: square,
    3.0: cube,
}
"""Powers that have a cheaper form than `pow`, which of a negative base costs more besides."""


@READERS("pow")
def power(reader: Reader, x: Known, y: Known) -> Known:
    """`x` to the power of `y`."""
    exponents = y.content.constant
    if exponents is None or len(exponents) != 1 or len(y.shape) > len(x.shape):
        return reader.call("power", x, y)
    cheaper = POWERS.get(float(exponents[0]))
    return cheaper(reader, x) if cheaper else reader.call("power", x, y)


@READERS("inverse")
def inverse(reader: Reader, x: Known, *, epsilon: float = 1e-4) -> Known:
    """`1 / (x + epsilon)`."""
    return reader.call("reciprocal", plus(reader, x, epsilon))


@READERS("log")
def log(reader: Reader, x: Known, *, epsilon: float = 1e-45) -> Known:
    """Natural logarithm of `x + epsilon`."""
    return reader.call("log", plus(reader, x, epsilon))


@READERS("rsqrt")
def rsqrt(reader: Reader, x: Known, *, epsilon: float = 1e-12) -> Known:
    """`1 / sqrt(x + epsilon)`."""
    return reader.call("rsqrt", plus(reader, x, epsilon))


SMALLEST_NORMAL = 1.1754944e-38
"""The smallest float32 with all its bits. Metal may take a smaller one for zero."""


HALF_STEP = 2.0**-25
"""What a float32 sum loses of a summand relative to the other one."""


def plus(reader: Reader, x: Known, epsilon: float) -> Known:
    """`x + epsilon`, without an epsilon that Metal takes for zero, or that is lost in the constant
    that has just been added: frameworks have their own beside MIL's.
    """
    if abs(epsilon) < SMALLEST_NORMAL:
        return x
    formula = x.content.parts[0].formula
    if isinstance(formula, Applied) and formula.function == "add" and len(x.content.parts) == 1:
        for item in formula.arguments:
            if isinstance(item, Fixed) and np.all(abs(epsilon) < HALF_STEP * item.values):
                return x
    return reader.call("add", x, epsilon)


@READERS("atanh")
def atanh(reader: Reader, x: Known) -> Known:
    """`(log(1 + x) - log(1 - x)) / 2`."""
    once = reader.kept(x)
    above = reader.call("log", reader.call("add", once, 1.0))
    below = reader.call("log", reader.call("subtract", 1.0, once))
    return reader.call("multiply", reader.call("subtract", above, below), 0.5)


@READERS("clip")
def clip(reader: Reader, x: Known, *, alpha: float, beta: float) -> Known:
    """Each element within `alpha` and `beta`; `beta` wins where they cross."""
    return reader.call("clamp", x, alpha, beta)


@READERS("threshold")
def threshold(reader: Reader, x: Known, *, alpha: float) -> Known:
    """Each element, or `alpha` where that is larger."""
    return reader.call("maximum", x, alpha)


@READERS("cast")
def cast(reader: Reader, x: Known, *, dtype: str) -> Known:
    """The elements as another type; all are held as float32, where integers are exact to 2^24."""
    source = reader.dtype_of("x")
    if dtype == "bool" and source != "bool":
        return reader.call("not_equal", x, 0.0)
    if dtype.startswith("fp") or source == "bool":
        return x
    if dtype in ("int32", "int64"):
        return x if source.startswith(("int", "uint")) else reader.call("truncate", x)
    raise reader.refused(
        f"operation {reader.operation} makes {dtype}, which shaders do not compute with",
        "cast to int32 or to floats",
    )


@READERS("identity")
def identity(reader: Reader, x: Known) -> Known:
    """The value itself."""
    return x


@READERS("select")
def select(reader: Reader, cond: Known, a: Known, b: Known) -> Known:
    """`a` where the condition holds, else `b`."""
    return reader.call("select", cond, a, b)


@READERS("clamped_relu")
def clamped_relu(reader: Reader, x: Known, *, alpha: float, beta: float) -> Known:
    """`x` where it is not negative, else `alpha * x`; never more than `beta`."""
    return reader.call("minimum", reader.call("leaky_relu", x, alpha), beta)


@READERS("elu")
def elu(reader: Reader, x: Known, *, alpha: float) -> Known:
    """`x` where it is positive, else `alpha * (e^x - 1)`."""
    return reader.call("elu", x, alpha)


GELU = {
    "EXACT": "gelu",
    "TANH_APPROXIMATION": "gelu_tanh",
    "SIGMOID_APPROXIMATION": "gelu_sigmoid",
}


@READERS("gelu")
def gelu(reader: Reader, x: Known, *, mode: str = "EXACT") -> Known:
    """Gaussian error linear unit, exact or by one of two approximations."""
    return reader.call(GELU[mode.upper()], x)


@READERS("leaky_relu")
def leaky_relu(reader: Reader, x: Known, *, alpha: float) -> Known:
    """`x` where it is not negative, else `alpha * x`."""
    return reader.call("leaky_relu", x, alpha)


@READERS("linear_activation")
def linear_activation(reader: Reader, x: Known, *, alpha: float, beta: float) -> Known:
    """`alpha * x + beta`."""
    return reader.call("add", reader.call("multiply", x, alpha), beta)


@READERS("prelu")
def prelu(reader: Reader, x: Known, alpha: Known) -> Known:
    """`x` where it is positive, else `x` times its channel's `alpha`."""
    slopes = reader.constant(alpha, "alpha")
    if np.all(slopes == slopes.flat[0]):
        return reader.call("leaky_relu", x, float(slopes.flat[0]))
    once = reader.kept(x)
    slope = per_channel(slopes, x)
    below = reader.call("multiply", reader.call("minimum", once, 0.0), slope)
    return reader.call("add", reader.call("maximum", once, 0.0), below)


@READERS("relu6")
def relu6(reader: Reader, x: Known) -> Known:
    """`x` limited to 0..6."""
    return reader.call("clamp", x, 0.0, 6.0)


@READERS("scaled_tanh")
def scaled_tanh(reader: Reader, x: Known, *, alpha: float, beta: float) -> Known:
    """`alpha * tanh(beta * x)`."""
    inner = reader.call("tanh", reader.call("multiply", x, beta))
    return reader.call("multiply", inner, alpha)


@READERS("sigmoid_hard")
def sigmoid_hard(reader: Reader, x: Known, *, alpha: float, beta: float) -> Known:
    """`alpha * x + beta` limited to 0..1."""
    return reader.call("clamp", linear_activation(reader, x, alpha=alpha, beta=beta), 0.0, 1.0)


@READERS("softplus_parametric")
def softplus_parametric(reader: Reader, x: Known, alpha: Known, beta: Known) -> Known:
    """`alpha * log(1 + e^(beta * x))` with parameters by channel."""
    outer = per_channel(reader.constant(alpha, "alpha"), x)
    inner = per_channel(reader.constant(beta, "beta"), x)
    found = reader.call("softplus", reader.call("multiply", x, inner))
    return reader.call("multiply", found, outer)


@READERS("thresholded_relu")
def thresholded_relu(reader: Reader, x: Known, *, alpha: float) -> Known:
    """`x` where it is at least `alpha`, else 0."""
    once = reader.kept(x)
    return reader.call("select", reader.call("greater_equal", once, alpha), once, 0.0)


def per_channel(parameter: np.ndarray, x: Known) -> np.ndarray:
    """A parameter of shape [C], shaped to be broadcast over axis 1 of `x`."""
    return parameter.reshape(-1, *[1] * (len(x.shape) - 2))
