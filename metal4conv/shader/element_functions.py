"""The functions of elements in numpy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

Function = Callable[..., np.ndarray]


def error_function(x: np.ndarray) -> np.ndarray:
    """erf of each element."""
    return np.array([math.erf(value) for value in x.ravel().tolist()], x.dtype).reshape(x.shape)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """`1 / (1 + exp(-x))`, without overflow."""
    half = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1, half) / (1 + half))


def softplus(x: np.ndarray) -> np.ndarray:
    """`log(1 + exp(x))`, without overflow."""
    return np.asarray(np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))


def gelu(x: np.ndarray) -> np.ndarray:
    """`x` times the share of a normal distribution below it, which is small but not lost far below
    zero.
    """
    shares = [math.erfc(value) for value in (-x / math.sqrt(2)).ravel().tolist()]
    return np.asarray(0.5 * x * np.array(shares, x.dtype).reshape(x.shape))


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    """What MIL calls gelu's TANH_APPROXIMATION."""
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def gelu_sigmoid(x: np.ndarray) -> np.ndarray:
    """What MIL calls gelu's SIGMOID_APPROXIMATION."""
    return np.asarray(x * sigmoid(1.702 * x))


ELEMENT_FUNCTIONS: Mapping[str, Function] = {
    "abs": np.abs,
    "acos": np.arccos,
    "asin": np.arcsin,
    "atan": np.arctan,
    "ceil": np.ceil,
    "cos": np.cos,
    "cosh": np.cosh,
    "erf": error_function,
    "exp": np.exp,
    "exp2": np.exp2,
    "floor": np.floor,
    "log": np.log,
    "negate": np.negative,
    "reciprocal": lambda x: 1 / x,
    "round": np.round,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sign": np.sign,
    "sin": np.sin,
    "sinh": np.sinh,
    "sqrt": np.sqrt,
    "tan": np.tan,
    "tanh": np.tanh,
    "truncate": np.trunc,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "gelu": gelu,
    "gelu_tanh": gelu_tanh,
    "gelu_sigmoid": gelu_sigmoid,
    "softplus": softplus,
    "softsign": lambda x: x / (1 + np.abs(x)),
    "leaky_relu": lambda x, slope: np.where(x >= 0, x, slope * x),
    "elu": lambda x, scale: np.where(x > 0, x, scale * np.expm1(np.minimum(x, 0))),
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "power": np.power,
    "minimum": np.minimum,
    "maximum": np.maximum,
    "modulo": np.mod,
    "floor_divide": np.floor_divide,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_xor": np.logical_xor,
    "logical_not": np.logical_not,
    "select": lambda condition, then, otherwise: np.where(condition != 0, then, otherwise),
    "clamp": lambda x, low, high: np.minimum(np.maximum(x, low), high),
}
"""The functions of `network.FUNCTIONS` on arrays."""
