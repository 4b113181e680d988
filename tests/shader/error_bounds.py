"""How far a shader may be off: a sound bound, computed with intervals from a network's steps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metal4conv.shader.evaluation import evaluate, joinable, places, stored_weight, windows
from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Expression,
    Linear,
    Network,
    Number,
    Pass,
    Reduce,
    Step,
    Table,
)
from metal4conv.shader.options import Precision
from tests.shader.intervals import (
    Interval,
    applied,
    as_half,
    as_written,
    exactly,
    matrix_product,
    reduced,
)


def error_bound(
    network: Network,
    inputs: Mapping[str, np.ndarray],
    precision: Precision,
    size: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """The most that a shader of this precision may be off, for each element of each output.

    It is the distance of the exact result from the ends of an interval that holds all that the
    shader may compute: with weights as stored, operands rounded where layers read them, sums in any
    order, functions off by a few units in the last place. Infinite where float16 overflows, or a
    function is close to where it is not defined. Rounding to float16 keeps the order of numbers,
    so an interval that holds one float16 number alone stays as narrow as that.
    """
    exact = evaluate(network, inputs, np.float64, size)
    points = len(next(iter(exact.values())))
    images = {
        port.name: exactly(
            np.broadcast_to(
                np.asarray(inputs[port.name], np.float32).astype(np.float64), (points, port.width)
            )
        )
        for port in network.inputs
    }
    for one in network.passes:
        with np.errstate(all="ignore"):  # what is lost is infinite, which the caller sees
            images |= bounded_pass(one, images, size, precision)
    return {name: distance(exact[name], images[name]) for name in exact}


def bounded_pass(
    one: Pass,
    images: Mapping[str, Interval],
    size: tuple[int, int] | None,
    precision: Precision,
) -> dict[str, Interval]:
    """What the results of a pass may be, by port or image."""
    given = [images[name] for name in one.reads]
    if one.convolution is not None:
        given.insert(0, bounded_sums(one.convolution, images, size, precision))
    values = {vector.name: found for vector, found in zip(one.program.inputs, given, strict=True)}
    for step in one.program.steps:
        values[step.result.name] = bounded_step(step, values, precision)
    results = (values[vector.name] for vector in one.program.outputs)
    return dict(zip(one.writes, results, strict=True))


def distance(exact: np.ndarray, found: Interval) -> np.ndarray:
    """The distance to the farther end of an interval; infinite where there is no number."""
    with np.errstate(invalid="ignore"):
        farthest = np.maximum(found.high - exact, exact - found.low)
    return np.where(np.isnan(farthest), np.inf, farthest)


def bounded_sums(
    convolution: Convolution,
    images: Mapping[str, Interval],
    size: tuple[int, int] | None,
    precision: Precision,
) -> Interval:
    """What the sums of a convolution may be."""
    weight = stored_weight(convolution.weight, precision)
    operand = images[convolution.image]
    return matrix_product(
        lambda image, factors: windows(image, factors, convolution.padding, size),
        operand if precision == "float32" else as_half(operand),
        weight,
        weight[0].size,
    )


def bounded_step(step: Step, values: Mapping[str, Interval], precision: Precision) -> Interval:
    """What the result of a step may be."""
    match step:
        case Linear():
            operand = values[step.operand.name]
            return matrix_product(
                lambda rows, weight: rows @ weight.T,
                operand if precision == "float32" else as_half(operand),
                stored_weight(step.weight, precision),
                step.operand.width,
            )
        case Assign():
            pieces = [
                bounded_expression(piece.expression, piece.width, values) for piece in step.pieces
            ]
            low = np.concatenate(joinable([piece.low for piece in pieces]), axis=1)
            high = np.concatenate(joinable([piece.high for piece in pieces]), axis=1)
            return Interval(low, high)
        case Reduce():
            terms = bounded_expression(step.expression, step.result.width * step.count, values)
            shape = (len(terms.low), step.result.width, step.count)
            return reduced(
                step.operation, Interval(terms.low.reshape(shape), terms.high.reshape(shape))
            )


def bounded_expression(
    expression: Expression, width: int, values: Mapping[str, Interval]
) -> Interval:
    """What an expression may be for i from 0 to `width` - 1."""
    match expression:
        case Element(vector, index):
            return values[vector.name].pick(places(index, width))
        case Number(value):
            return as_written(np.full((1, width), value))
        case Table(table, index):
            return exactly(table[places(index, width)][None].astype(np.float64))
        case Call(function, arguments):
            found = [bounded_expression(argument, width, values) for argument in arguments]
            is_square = function == "multiply" and arguments[0] == arguments[1]
            return applied(function, found, is_square=is_square)
