"""What a network gives, computed with numpy straight from its steps.

Written apart from the generator of Metal source, to be compared with what that computes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from metal4conv.errors import UsageError
from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Expression,
    Index,
    Linear,
    Network,
    Number,
    PointProgram,
    Reduce,
    Step,
    Table,
)

Values = dict[str, np.ndarray]
"""Rows of vectors, points × width, by the vectors' names."""

Function = Callable[..., np.ndarray]


def evaluate(
    network: Network,
    inputs: Mapping[str, np.ndarray],
    dtype: npt.DTypeLike = np.float64,
    size: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """The outputs of a network by port, points × width, for its inputs by port.

    A uniform input has one row. Everything is computed in `dtype`. `size` is the image's width and
    height, which a network with convolutions needs: its points are the pixels, row after row.
    """
    rows = {port.name: np.asarray(inputs[port.name], dtype) for port in network.inputs}
    points = point_count(network, rows)
    images = {
        name: np.broadcast_to(array, (points, array.shape[1])) for name, array in rows.items()
    }
    for one in network.passes:
        given = [images[name] for name in one.reads]
        if one.convolution is not None:
            given.insert(0, convolve(one.convolution, images[one.convolution.image], size))
        results = evaluate_program(one.program, given)
        images |= dict(zip(one.writes, results, strict=True))
    return {port.name: images[port.name] for port in network.outputs}


def point_count(network: Network, rows: Mapping[str, np.ndarray]) -> int:
    """The number of points that the inputs have rows for; `UsageError` where they disagree."""
    counts = {}
    for port in network.inputs:
        shape = rows[port.name].shape
        if len(shape) != 2 or shape[1] != port.width:
            raise UsageError(
                f'input "{port.name}" takes rows of {port.width} numbers, got an array {shape}'
            )
        if not port.uniform:
            counts[port.name] = shape[0]
        elif shape[0] != 1:
            raise UsageError(f'input "{port.name}" takes one row for all points, got {shape[0]}')
    if len(set(counts.values())) > 1:
        listed = ", ".join(f'"{name}" {count}' for name, count in counts.items())
        raise UsageError(f"inputs have rows of different numbers of points: {listed}")
    return next(iter(counts.values()), 1)


def evaluate_program(program: PointProgram, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a program for its inputs: rows, points × width, in the inputs' dtype."""
    names = [vector.name for vector in program.inputs]
    values: Values = dict(zip(names, inputs, strict=True))
    for step in program.steps:
        values[step.result.name] = step_rows(step, values)
    return [values[vector.name] for vector in program.outputs]


def step_rows(step: Step, values: Values) -> np.ndarray:
    """The result of one step."""
    match step:
        case Linear():
            operand = values[step.operand.name]
            return np.asarray(operand @ step.weight.astype(operand.dtype).T)
        case Assign():
            pieces = [
                expression_rows(piece.expression, piece.width, values) for piece in step.pieces
            ]
            return np.concatenate(joinable(pieces), axis=1)
        case Reduce():
            count = step.result.width * step.count
            terms = expression_rows(step.expression, count, values)
            grouped = terms.reshape(len(terms), step.result.width, step.count)
            return REDUCTIONS[step.operation](grouped)


def joinable(pieces: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Pieces with as many rows each: one of constants alone has one row."""
    points = max(len(piece) for piece in pieces)
    return [np.broadcast_to(piece, (points, piece.shape[1])) for piece in pieces]


REDUCTIONS: Mapping[str, Function] = {
    "sum": lambda terms: terms.sum(axis=-1),
    "minimum": lambda terms: terms.min(axis=-1),
    "maximum": lambda terms: terms.max(axis=-1),
    "product": lambda terms: terms.prod(axis=-1),
}


def expression_rows(expression: Expression, width: int, values: Values) -> np.ndarray:
    """The expression for i from 0 to `width` - 1: points × width; one row where it is constant."""
    dtype = next(iter(values.values())).dtype if values else np.dtype(np.float64)
    match expression:
        case Element(vector, index):
            return values[vector.name][:, places(index, width)]
        case Number(value):
            return np.full((1, width), value, dtype)
        case Table(table, index):
            return np.asarray(table[places(index, width)][None], dtype)
        case Call(function, arguments):
            rows = [expression_rows(argument, width, values) for argument in arguments]
            with np.errstate(all="ignore"):
                return np.asarray(ELEMENT_FUNCTIONS[function](*rows), dtype)


def places(index: Index, width: int) -> np.ndarray:
    """The elements that an index picks for i from 0 to `width` - 1."""
    return np.array([index.at(i) for i in range(width)], np.intp)


def convolve(
    convolution: Convolution, image: np.ndarray, size: tuple[int, int] | None
) -> np.ndarray:
    """The sums of a convolution: pixels × outputs."""
    if size is None:
        raise UsageError("a network with convolutions takes the width and height of its image")
    width, height = size
    if width * height != len(image):
        raise UsageError(f"an image of {width} × {height} pixels has no {len(image)} rows")
    top, left = convolution.padding
    rows, columns = convolution.weight.shape[2:]
    pixels = image.reshape(height, width, -1)
    bottom, right = rows - 1 - top, columns - 1 - left
    padded = np.pad(pixels, ((top, bottom), (left, right), (0, 0)))
    taps = (
        padded[y : y + height, x : x + width] @ convolution.weight[:, :, y, x].T.astype(image.dtype)
        for y in range(rows)
        for x in range(columns)
    )
    total: np.ndarray = sum(taps, np.zeros((), image.dtype))
    return total.reshape(len(image), convolution.result.width)


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
    """`x` times the share of a normal distribution below it."""
    return np.asarray(0.5 * x * (1 + error_function(x / math.sqrt(2))))


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
