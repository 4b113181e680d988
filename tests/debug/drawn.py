"""Faults drawn from a seed, for any package: nobody has chosen their places."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from metal4conv.mil.package import read_package
from metal4conv.mil.program import Constant, Operation
from tests.debug.faults import PackageFault, becomes, joins, swapped, takes, weight

WEIGHTS = ("weight", "gamma", "beta", "bias", "mean", "variance", "weight_ih", "weight_hh")
OTHERS = {
    "relu": "abs",
    "sigmoid": "tanh",
    "tanh": "sigmoid",
    "silu": "relu",
    "gelu": "relu",
    "softmax": "sigmoid",
    "rsqrt": "sqrt",
    "maximum": "minimum",
    "minimum": "maximum",
    "add": "sub",
    "sub": "add",
    "mul": "add",
    "exp": "abs",
    "reduce_mean": "reduce_max",
    "reduce_sum": "reduce_max",
}
"""Operations that take the same inputs and give the same shape."""

KEPT = {
    "softmax": ("x",),
    "rsqrt": ("x",),
    "reduce_mean": ("x", "axes", "keep_dims"),
    "reduce_sum": ("x", "axes", "keep_dims"),
}
BINARY = ("maximum", "minimum", "add", "sub", "mul")


def drawn_faults(package: Path, seed: int) -> Iterator[tuple[str, PackageFault]]:
    """Faults with their kinds, without an end; some change nothing that matters."""
    draw = random.Random(seed)
    function = read_package(package).function()
    operations = function.block.operations
    constants = {
        row.outputs[0].name: row.attributes["val"] for row in operations if row.type == "const"
    }
    computing = [row for row in operations if row.type not in ("const", "cast")]
    while True:
        at = draw.randrange(len(computing))
        operation = computing[at]
        known = [value for row in computing[:at] for value in row.outputs]
        choices = list(faults_of(operation, constants, [*function.inputs, *known], draw))
        if choices:
            yield draw.choice(choices)


def faults_of(
    operation: Operation, constants: dict[str, Constant], known: Sequence, draw: random.Random
) -> Iterator[tuple[str, PackageFault]]:
    """What can be wrong about an operation."""
    name = operation.outputs[0].name
    for parameter, [first, *rest] in operation.inputs.items():
        held = constants.get(first) if isinstance(first, str) else None
        if parameter in WEIGHTS and isinstance(held, Constant) and held.value.ndim:
            yield "weight", weight(name, weight_change(held.value, draw), parameter)
        elif parameter in ("x", "y") and held is None:
            mine = next((v.type for v in known if v.name == first), None)
            others = [v.name for v in known if v.type == mine and v.name != first]
            if others:
                yield "operand", takes(name, parameter, draw.choice(others))
        elif parameter == "values" and len(rest) == 1 and first != rest[0]:
            yield "operand", joins(name, 1, 0)
    if operation.type in ("sub", "real_div") and same_shapes(operation, known):
        yield "operand", swapped(name)
    if operation.type in OTHERS:
        keep = ("x", "y") if operation.type in BINARY else KEPT.get(operation.type, ("x",))
        yield "operator", becomes(name, OTHERS[operation.type], *keep)


def weight_change(array: np.ndarray, draw: random.Random) -> Callable[[np.ndarray], np.ndarray]:
    """One element, one channel, or all of a weight changed."""
    size = float(np.abs(array.astype(np.float64)).max()) or 1.0
    place = draw.randrange(array.size)
    row = draw.randrange(len(array))
    way = draw.choice(["element", "channel", "scaled", "zero", "rolled", "transposed"])

    def change(old: np.ndarray) -> np.ndarray:
        match way:
            case "element":
                old.reshape(-1)[place] += size
            case "channel":
                old[row] *= 1.5
            case "scaled":
                old = old * 1.1
            case "zero":
                old[row] = 0
            case "rolled":
                old = np.roll(old, 1, 0)
            case "transposed":
                square = old.ndim == 2 and old.shape[0] == old.shape[1]
                old = old.T if square else old[::-1]
        return old

    return change


def type_of(name: object, known: Sequence) -> object:
    """The type of a value."""
    return next((value.type for value in known if value.name == name), None)


def same_shapes(operation: Operation, known: Sequence) -> bool:
    """Whether both operands can stand in each other's place."""
    x, y = (type_of(operation.inputs[key][0], known) for key in ("x", "y"))
    return x is not None and x == y
