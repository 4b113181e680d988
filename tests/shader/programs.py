"""MIL functions written operation by operation, for tests of what no framework makes by itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from metal4conv.execute.plan import make_plan
from metal4conv.execute.symbolic import infer_types
from metal4conv.mil.program import (
    Block,
    Constant,
    Dimension,
    Function,
    Operation,
    Shape,
    TensorType,
    Value,
)
from metal4conv.shader.network import Network
from metal4conv.shader.reading import read_network
from tests.shader.networks import evaluated


class Program:
    """A function that grows by one operation a call.

    >>> program = Program(x=("n", 3))
    >>> program.add("relu", x="x")
    'relu'
    """

    def __init__(self, opset: str = "CoreML8", **inputs: Shape) -> None:
        self.opset = opset
        self.inputs = {
            name: TensorType("int32" if name.startswith("int") else "float32", shape)
            for name, shape in inputs.items()
        }
        self.operations: list[Operation] = []

    def add(
        self,
        type: str,
        *,
        name: str | None = None,
        dtype: str = "float32",
        outputs: int = 1,
        **arguments: Any,  # names of values, constants, or lists of them
    ) -> Any:  # the name of the result, or the names of several
        """An operation; strings are values' names, but for texts, which begin with "="."""
        return self.add_named(type, arguments, name=name, dtype=dtype, outputs=outputs)

    def constant(self, name: str, array: Any) -> str:  # Any: what numpy makes an array of
        """A `const`, for operations that take values and constants in one list."""
        found = argument(np.asarray(array))
        assert isinstance(found, Constant)
        self.operations.append(
            Operation("const", name, {}, (Value(name, found.type),), attributes={"val": found})
        )
        return name

    def add_named(
        self,
        type: str,
        arguments: Mapping[str, Any],  # names of values, constants, or lists of them
        *,
        name: str | None = None,
        dtype: str = "float32",
        outputs: int = 1,
    ) -> Any:  # the name of the result, or the names of several
        """The same, for parameters that have the names of this function's own."""
        name = name or f"{type}_{len(self.operations)}".removesuffix("_0")
        bound = {key: tuple(map(argument, several(item))) for key, item in arguments.items()}
        names = [name] if outputs == 1 else [f"{name}_{number}" for number in range(outputs)]
        values = tuple(Value(found, TensorType(dtype, ())) for found in names)
        self.operations.append(Operation(type, name, bound, values))
        return name if outputs == 1 else names

    def function(self, *outputs: str) -> Function:
        """The function that gives these values, by default the last one, with all types."""
        wanted = outputs or (self.operations[-1].outputs[-1].name,)
        inputs = tuple(Value(name, type) for name, type in self.inputs.items())
        bare = Function("main", self.opset, inputs, Block(inputs, tuple(self.operations), wanted))
        sizes = {s for type in self.inputs.values() for s in type.shape if isinstance(s, str)}
        types = infer_types(bare, self.inputs, {size: Dimension(1, None, 1) for size in sizes})
        operations = tuple(
            replace(
                operation,
                outputs=tuple(
                    Value(value.name, types.get(value.name, value.type))
                    for value in operation.outputs
                ),
            )
            for operation in self.operations
        )
        return replace(bare, block=Block(inputs, operations, wanted))


def several(item: Any) -> list[Any]:
    """The arguments of one parameter: several for a list."""
    return item if isinstance(item, list) else [item]


def argument(item: Any) -> str | Constant:
    """A value's name, or a literal."""
    if isinstance(item, str) and not item.startswith("="):
        return item
    array = np.array(item[1:], object) if isinstance(item, str) else np.asarray(item)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.dtype == np.int64:
        array = array.astype(np.int32)
    dtype = "string" if array.dtype == object else array.dtype.name
    return Constant(TensorType(dtype, array.shape), lambda: array)


def executed(function: Function, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What this project's executor gives for the function."""
    with torch.inference_mode():
        values = [torch.from_numpy(inputs[value.name]) for value in function.inputs]
        results = make_plan(function).run({}, values)
    return {
        name: np.asarray(result)
        for name, result in zip(function.block.outputs, results, strict=True)
    }


def drawn(
    function: Function,
    sizes: Mapping[str, int] | None = None,
    low: float = -2,
    high: float = 2,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Inputs between `low` and `high`; dynamic sizes are 5 where nothing else is said."""
    generator = np.random.default_rng(seed)
    known = sizes or {}
    found = {}
    for value in function.inputs:
        assert isinstance(value.type, TensorType)
        shape = [known.get(s, 5) if isinstance(s, str) else s for s in value.type.shape]
        array = generator.uniform(low, high, shape)
        found[value.name] = array.astype(value.type.dtype)
    return found


def check(
    function: Function,
    inputs: Mapping[str, np.ndarray] | None = None,
    tolerance: float = 2e-6,
    **ranges: float,
) -> Network:
    """The network of a function, after it has given what the executor gives."""
    network = read_network(function, "net")
    given = inputs or drawn(function, **ranges)  # type: ignore[arg-type]  # low and high alone
    assert_same(evaluated(network, given), executed(function, given), tolerance)
    return network


def assert_same(
    found: Mapping[str, np.ndarray], wanted: Mapping[str, np.ndarray], tolerance: float
) -> None:
    """The same outputs in the same shapes, relative to the largest number of each."""
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        assert found[name].shape == array.shape, name
        scale = max(1.0, float(np.nanmax(np.abs(array), initial=0)))
        np.testing.assert_allclose(
            found[name], array.astype(np.float32), rtol=0, atol=tolerance * scale, err_msg=name
        )


def operation_names(network: Network) -> Iterable[str]:
    """The labels of the steps of a network with one pass."""
    return [step.label for step in network.program.steps]
