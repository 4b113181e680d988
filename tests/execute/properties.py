"""One operation with symbolic sizes against the same operation with numbers.

`check` infers its result's shape as formulas, runs it at several sizes, and compares the shapes
with the formulas there, and the values with an oracle in numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from hypothesis import settings
from hypothesis import strategies as st

from metal4conv.execute.plan import make_plan
from metal4conv.execute.symbolic import infer_types
from metal4conv.layout.expression import evaluate
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

QUICK = settings(derandomize=True, max_examples=20, deadline=None, database=None)
"""The same examples in each run, kept nowhere."""

NAMES = ("a", "b", "c", "d")
LARGEST_SIZE = 6

Sizes = dict[str, int]
"""Numbers for named dimensions."""


@dataclass(frozen=True)
class Data:
    """An input of the program; `high` is the limit of random integers in it."""

    shape: Shape
    dtype: str = "float32"
    high: int = 9


@dataclass(frozen=True)
class SizeOf:
    """A size of an input, as a program finds it; a list of them and numbers is a vector."""

    input: str
    axis: int


@dataclass
class Program:
    """Operations in order, and the inputs that they take."""

    inputs: dict[str, TensorType] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)

    def add(self, type: str, inputs: Mapping[str, Any], *results: tuple[str, Shape]) -> list[str]:
        """An operation with results of the given dtypes and shapes; their names."""
        place = len(self.operations)
        values = tuple(
            Value(f"v{place}_{index}", TensorType(dtype, shape))
            for index, (dtype, shape) in enumerate(results)
        )
        bound = {name: self.bound(name, value) for name, value in inputs.items()}
        self.operations.append(Operation(type, f"{type}_{place}", bound, values))
        return [value.name for value in values]

    def bound(self, parameter: str, value: Any) -> tuple[str | Constant, ...]:
        """What a parameter is bound to."""
        if isinstance(value, Data):
            self.inputs[parameter] = TensorType(value.dtype, value.shape)
            return (parameter,)
        if isinstance(value, SizeOf):
            return (self.size(value),)
        if isinstance(value, list) and any(isinstance(item, SizeOf) for item in value):
            items = [
                self.size(item) if isinstance(item, SizeOf) else literal(item) for item in value
            ]
            names = [self.alone(item) if isinstance(item, Constant) else item for item in items]
            return tuple(
                self.add("concat", {"values": Names(names), "axis": 0}, ("int32", (len(names),)))
            )
        if isinstance(value, list) and any(isinstance(item, Data) for item in value):
            return tuple(
                name
                for index, item in enumerate(value)
                for name in self.bound(f"{parameter}{index}", item)
            )
        if isinstance(value, Names):
            return value.names
        if isinstance(value, tuple):
            return tuple(literal(item) for item in value)
        return (literal(value),)

    def size(self, wanted: SizeOf) -> str:
        """One size of an input as a scalar."""
        rank = len(self.inputs[wanted.input].shape)
        (every,) = self.add("shape", {"x": Names([wanted.input])}, ("int32", (rank,)))
        (one,) = self.add("gather", {"x": Names([every]), "indices": wanted.axis}, ("int32", ()))
        return one

    def alone(self, constant: Constant) -> str:
        """A constant with a name."""
        place = len(self.operations)
        value = Value(f"v{place}_0", constant.type)
        operation = Operation("const", f"const_{place}", {}, (value,), (), {"val": constant})
        self.operations.append(operation)
        return value.name


class Names:
    """Names of values that are there already."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)


def literal(value: Any) -> Constant:
    """A constant: a string, a number, or an array."""
    if isinstance(value, str):
        return Constant(TensorType("string", ()), partial(np.array, value, dtype=object))
    array = np.asarray(value)
    held = {"int64": "int32", "float64": "float32"}.get(array.dtype.name, array.dtype.name)
    array = array.astype(held)
    return Constant(TensorType(held, array.shape), array.view)


def check(
    type: str,
    inputs: Mapping[str, Any],
    sizes: Sequence[Sizes],
    oracle: Callable[..., Any] | None = None,
    *,
    results: Sequence[str] = ("float32",),
    rank: int = 0,
    opset: str = "CoreML8",
    others: Mapping[str, Data] | None = None,
    smallest: Mapping[str, int] | None = None,
    step: Mapping[str, int] | None = None,
) -> None:
    """Fails where formulas, real shapes, dtypes or values differ.

    `oracle` takes the inputs by name and gives arrays, or shapes alone. `smallest` and `step` say
    which sizes a dimension may have at all, `others` are inputs of the program whose sizes alone
    are asked for; `rank` only says how the result is declared.
    """
    program = Program()
    given = {**(others or {}), **inputs}
    data = {name: item for name, item in given.items() if isinstance(item, Data)}
    for name, item in data.items():  # before others ask for their sizes
        program.bound(name, item)
    declared = [(dtype, ("?",) * rank) for dtype in results]
    outputs = program.add(type, inputs, *declared)
    values = tuple(Value(name, type) for name, type in program.inputs.items())
    function = Function("main", opset, values, Block((), tuple(program.operations), tuple(outputs)))
    steps, lowest = step or {}, smallest or {}
    dimensions = {
        name: Dimension(lowest.get(name, steps.get(name, 1)), None, 1, steps.get(name, 1))
        for name in sizes[0]
    }
    inferred = infer_types(function, program.inputs, dimensions)
    plan = make_plan(function)
    high = {name: item.high for name, item in data.items()}
    for numbers in sizes:
        arrays = {
            name: random_array(type, numbers, high.get(name, 9))
            for name, type in program.inputs.items()
        }
        with torch.inference_mode():
            found = plan.run({}, [torch.from_numpy(array) for array in arrays.values()])
        for name, dtype, value in zip(outputs, results, found, strict=True):
            shape = tuple(evaluate(size, numbers) for size in inferred[name].shape)
            assert shape == tuple(value.shape), (inferred[name], numbers)
            assert inferred[name].dtype == dtype
            if isinstance(value, torch.Tensor):
                assert value.dtype == getattr(torch, dtype)
        if oracle is not None:
            compare(found, oracle(**arrays))


def compare(found: Sequence[Any], expected: Any) -> None:
    """The same shapes, and the same values where the oracle has any."""
    every = expected if isinstance(expected, list) else [expected]
    for ours, theirs in zip(found, every, strict=True):
        if isinstance(theirs, tuple):
            assert tuple(ours.shape) == theirs
            continue
        array = ours.numpy() if isinstance(ours, torch.Tensor) else ours.astype(np.int64)
        assert array.shape == np.shape(theirs)
        np.testing.assert_allclose(array, theirs, rtol=2e-5, atol=2e-5)


def random_array(type: TensorType, sizes: Sizes, high: int) -> np.ndarray:
    """Whole numbers from 0 to below `high` in any dtype, the same at each call."""
    shape = [sizes[size] if isinstance(size, str) else size for size in type.shape]
    numbers = np.random.default_rng(len(shape)).integers(0, high, shape)
    return numbers.astype(type.dtype)


@st.composite
def shapes(draw: Any, low: int = 1, high: int = 4, smallest: int = 1) -> tuple[Shape, list[Sizes]]:
    """A shape of numbers and names, and three times numbers for its names."""
    rank = draw(st.integers(low, high))
    numbers = st.integers(smallest, smallest + LARGEST_SIZE - 1)
    shape = tuple(draw(st.one_of(st.just(NAMES[axis]), numbers)) for axis in range(rank))
    return shape, draw(sizes_of([size for size in shape if isinstance(size, str)], smallest))


def sizes_of(names: Sequence[str], smallest: int = 1, step: int = 1) -> st.SearchStrategy[Any]:
    """Three times numbers for names."""
    numbers = st.integers(smallest, smallest + LARGEST_SIZE - 1).map(lambda number: number * step)
    return st.lists(st.fixed_dictionaries(dict.fromkeys(names, numbers)), min_size=3, max_size=3)


def axes_of(shape: Shape, *, negative: bool = True) -> st.SearchStrategy[int]:
    """An axis of a shape, also counted from its end."""
    return st.integers(-len(shape) if negative else 0, len(shape) - 1)
