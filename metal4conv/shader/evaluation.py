"""What a network gives, computed with numpy straight from its steps.

Written apart from the generator of Metal source, to be compared with what that computes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from metal4conv.errors import UsageError
from metal4conv.shader.element_functions import ELEMENT_FUNCTIONS, Function
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
from metal4conv.shader.options import Precision

Values = dict[str, np.ndarray]
"""Rows of vectors, points × width, by the vectors' names."""


def evaluate(
    network: Network,
    inputs: Mapping[str, np.ndarray],
    dtype: npt.DTypeLike = np.float64,
    size: tuple[int, int] | None = None,
    precision: Precision | None = None,
) -> dict[str, np.ndarray]:
    """The outputs of a network by port, points × width, for its inputs by port.

    A uniform input has one row. Everything is computed in `dtype`. `size` is the image's width and
    height, which a network with convolutions needs: its points are the pixels, row after row. With
    a `precision`, weights and the operands of layers are rounded as a shader of that precision
    stores them; the rest is not.
    """
    rows = {port.name: np.asarray(inputs[port.name], dtype) for port in network.inputs}
    points = point_count(network, rows)
    images = {
        name: np.broadcast_to(array, (points, array.shape[1])) for name, array in rows.items()
    }
    for one in network.passes:
        given = [images[name] for name in one.reads]
        if one.convolution is not None:
            given.insert(
                0, convolve(one.convolution, images[one.convolution.image], size, precision)
            )
        results = evaluate_program(one.program, given, precision)
        images |= {
            name: np.broadcast_to(rows, (points, rows.shape[1]))  # constants have one row
            for name, rows in zip(one.writes, results, strict=True)
        }
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


def evaluate_program(
    program: PointProgram, inputs: Sequence[np.ndarray], precision: Precision | None = None
) -> list[np.ndarray]:
    """The outputs of a program for its inputs: rows, points × width, in the inputs' dtype."""
    names = [vector.name for vector in program.inputs]
    values: Values = dict(zip(names, inputs, strict=True))
    for step in program.steps:
        values[step.result.name] = step_rows(step, values, precision)
    return [values[vector.name] for vector in program.outputs]


def step_rows(step: Step, values: Values, precision: Precision | None) -> np.ndarray:
    """The result of one step."""
    match step:
        case Linear():
            operand = stored_operand(values[step.operand.name], precision)
            weight = stored_weight(step.weight, precision)
            return np.asarray(operand @ weight.astype(operand.dtype).T)
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


def stored_operand(operand: np.ndarray, precision: Precision | None) -> np.ndarray:
    """What a layer multiplies with its weight: float16 unless all is float32."""
    if precision in (None, "float32"):
        return operand
    with np.errstate(over="ignore"):
        return operand.astype(np.float16).astype(operand.dtype)


def stored_weight(weight: np.ndarray, precision: Precision | None) -> np.ndarray:
    """A weight as it comes back from its storage, float64.

    int8 has for each output a float32 scale that makes its largest weight 127.
    """
    if precision in (None, "float32"):
        return weight.astype(np.float64)
    if precision == "float16":
        with np.errstate(over="ignore"):
            return weight.astype(np.float16).astype(np.float64)
    flat = weight.reshape(len(weight), -1).astype(np.float64)
    scales = np.abs(flat).max(axis=1, keepdims=True, initial=0) / 127
    scales = np.where(scales == 0, 1, scales).astype(np.float32).astype(np.float64)
    return np.asarray((np.clip(np.rint(flat / scales), -127, 127) * scales).reshape(weight.shape))


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
    convolution: Convolution,
    image: np.ndarray,
    size: tuple[int, int] | None,
    precision: Precision | None = None,
) -> np.ndarray:
    """The sums of a convolution: pixels × outputs."""
    weight = stored_weight(convolution.weight, precision).astype(image.dtype)
    return windows(stored_operand(image, precision), weight, convolution.padding, size)


def windows(
    image: np.ndarray, weight: np.ndarray, padding: tuple[int, int], size: tuple[int, int] | None
) -> np.ndarray:
    """Sums of products with an OIHW weight around each pixel, zeros outside: pixels × outputs."""
    if size is None:
        raise UsageError("a network with convolutions takes the width and height of its image")
    width, height = size
    if len(image) == 1:  # constants, the same at each pixel
        image = np.broadcast_to(image, (width * height, image.shape[1]))
    if width * height != len(image):
        raise UsageError(f"an image of {width} × {height} pixels has no {len(image)} rows")
    top, left = padding
    rows, columns = weight.shape[2:]
    pixels = image.reshape(height, width, -1)
    bottom, right = rows - 1 - top, columns - 1 - left
    padded = np.pad(pixels, ((top, bottom), (left, right), (0, 0)))
    total = np.zeros((height, width, len(weight)), image.dtype)
    for y in range(rows):
        for x in range(columns):
            total += padded[y : y + height, x : x + width] @ weight[:, :, y, x].T
    return total.reshape(len(image), len(weight))
