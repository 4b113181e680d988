"""A package, an executor and a source model made of plain functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metal4conv.frontends.source import SourceInput
from metal4conv.mil.interface import Feature, Interface
from metal4conv.mil.program import Block, Dimension, Function, Operation, TensorType, Value

Network = Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]
HEIGHT = Dimension(4, 64, 16, step=4)


@dataclass(frozen=True)
class FakePackage:
    """`y = tanh(x)` as far as verify looks into a package."""

    path: Path
    dtype: str = "float16"
    metadata: Mapping[str, str] = field(default_factory=dict)
    default_function: str = "main"
    shape: tuple[int | str, ...] = (1, 3, "h", 8)

    def interface(self, function: str | None = None) -> Interface:
        """One input x, one output y."""
        features = [Feature(name, TensorType(self.dtype, self.shape)) for name in ("x", "y")]
        return Interface((features[0],), (features[1],), (), {"h": HEIGHT})

    def function(self, name: str | None = None) -> Function:
        """A single operation."""
        return function_of([operation("tanh", "y", ["x"], self.dtype)], ["y"], self.dtype)


@dataclass(frozen=True)
class FakeExecutor:
    """Runs `network` with the border dtypes of a package."""

    network: Network
    inputs: Mapping[str, TensorType]
    dtype: str = "float16"

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Checks the dtypes as the real one does."""
        for name, array in inputs.items():
            assert array.dtype.name == self.inputs[name].dtype
        outputs = self.network({name: array.astype(np.float32) for name, array in inputs.items()})
        return {name: array.astype(self.dtype) for name, array in outputs.items()}


@dataclass
class FakeSource:
    """A source model that is a function."""

    network: Network
    inputs: tuple[SourceInput, ...] = (SourceInput("x", TensorType("float32", (1, 3, "h", 8))),)
    outputs: tuple[str, ...] = ("y",)
    framework: str = "pytorch"
    kind: str = "factory"
    name: str = "net"
    files: tuple[Path, ...] = ()

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the function."""
        return self.network(inputs)


def tanh(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The network that the fake package stands for."""
    return {"y": np.tanh(inputs["x"])}


def operation(type: str, output: str, inputs: list[str], dtype: str = "float16") -> Operation:
    """An operation with one output."""
    value = Value(output, TensorType(dtype, (1,)))
    return Operation(type, output, {"x": tuple(inputs)}, (value,))


def function_of(operations: list[Operation], outputs: list[str], dtype: str) -> Function:
    """A function with one input x."""
    block = Block((), tuple(operations), tuple(outputs))
    return Function("main", "CoreML8", (Value("x", TensorType(dtype, (1,))),), block)
