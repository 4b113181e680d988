"""Types of all values under symbolic sizes, by running the same operations on fake tensors.

torch's fake tensors have sizes and dtypes, but no data. One symbol stands for each named dimension;
with a step of 8 it stands for an eighth of the size, so that divisibility is known.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy
import torch
from torch._dispatch.python import enable_python_dispatcher
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import (
    DimDynamic,
    GuardOnDataDependentSymNode,
    ShapeEnv,
    StrictMinMaxConstraint,
)
from torch.utils._sympy.value_ranges import ValueRanges

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.formula import formula
from metal4conv.execute.marshal import NAME_OF_TORCH, TORCH_DTYPES, constant_tensor
from metal4conv.execute.plan import Plan, make_plan
from metal4conv.execute.states import State
from metal4conv.execute.step import Place, Step, Values, Watch
from metal4conv.mil.program import (
    Constant,
    Dimension,
    Function,
    Shape,
    StateType,
    TensorType,
)

TORCH_LOG = "torch._subclasses.fake_tensor"
UNBOUNDED = 2**31 - 1
FROZEN_HINT = (
    "its sizes were fixed when the model was converted; convert the source model again with these "
    "dimensions, or give them as numbers"
)


@dataclass(frozen=True)
class Symbols:
    """The symbolic sizes of a run: by name, and back from sympy's symbols to names and steps."""

    environment: ShapeEnv
    sizes: Mapping[str, Any]  # torch.SymInt, or its multiple
    names: Mapping[sympy.Symbol, tuple[str, int]]
    ranges: Mapping[sympy.Symbol, tuple[int, int]]


def infer_types(
    function: Function, inputs: Mapping[str, TensorType], dimensions: Mapping[str, Dimension]
) -> dict[str, TensorType]:
    """The types of all tensors of a function for inputs with these shapes.

    Sizes that depend on named dimensions come as formulas over their names. `UnsupportedModel`
    names the operation that would fix a dimension to one size.
    """
    symbols = make_symbols(inputs, dimensions)
    mode = FakeTensorMode(shape_env=symbols.environment, allow_non_fake_inputs=True)
    found: dict[str, TensorType] = {}

    def materialize(constant: Constant) -> torch.Tensor:
        if constant.element_count == 1 and constant.type.dtype != "string":
            return constant_tensor(constant)  # some operations look at such a value
        shape = tuple(int(size) for size in constant.type.shape)
        with mode:
            return torch.empty(shape, dtype=TORCH_DTYPES[constant.type.dtype])

    seen = 0

    def see(step: Step, values: Values, place: Place) -> None:
        nonlocal seen
        if place:
            return  # the types of the function's own values are asked for
        seen = check_guards(step, symbols, seen)
        for name, dtype in zip(step.outputs, step.declared, strict=True):
            if name in values and dtype:
                found[name] = type_of(values[name], dtype, symbols)

    plan: Plan = make_plan(function, materialize)
    # without the Python dispatcher, padding and strided convolutions freeze sizes
    with torch.inference_mode(False), mode, enable_python_dispatcher(), silent(TORCH_LOG):
        arguments = [
            fake_argument(value.name, value.type, inputs, symbols) for value in function.inputs
        ]
        try:
            for _ in plan.advance({}, arguments, Watch(see)):
                pass
        except GuardOnDataDependentSymNode as error:
            raise UnsupportedModel(f"a size depends on the data: {error}") from error
        except UnsupportedModel as error:
            raise with_names(error, symbols) from error
    return {**inputs, **found}


@contextmanager
def silent(name: str) -> Iterator[None]:
    """Within it a logger says nothing: torch logs the stack of each error that we raise anew."""
    logger = logging.getLogger(name)
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was_disabled


def with_names(error: UnsupportedModel, symbols: Symbols) -> UnsupportedModel:
    """The error with the dimensions' names in place of torch's symbols."""
    message = error.message
    for symbol, (name, step) in symbols.names.items():
        shown = name if step == 1 else f"({name}//{step})"
        message = re.sub(rf"\b{symbol}\b", shown, message)
    if message == error.message:
        return error
    hint = step_hint(message, [name for name, step in symbols.names.values() if step == 1])
    return UnsupportedModel(message, where=error.where, hint=error.hint or hint or FROZEN_HINT)


def step_hint(message: str, names: Sequence[str]) -> str | None:
    """What to do about sizes that differ only where they are divided with a rest.

    >>> step_hint("Expected 2*((w//4)) but got (w//2)", ["h", "w"])
    'the model divides w by 4; give it in steps that leave no rest: --dim w=MIN..MAX/4'
    >>> step_hint("Expected 7 but got h", ["h", "w"])
    """
    for name in names:
        divisors = [int(number) for number in re.findall(rf"\b{name}//(\d+)", message)]
        if divisors:
            step = math.lcm(*divisors)
            return (
                f"the model divides {name} by {step}; give it in steps that leave no rest: "
                f"--dim {name}=MIN..MAX/{step}"
            )
    return None


def make_symbols(inputs: Mapping[str, TensorType], dimensions: Mapping[str, Dimension]) -> Symbols:
    """One symbol for each dimension that the inputs name, within its range."""
    environment = ShapeEnv(specialize_zero_one=False, duck_shape=False)
    used = dict.fromkeys(
        size for type in inputs.values() for size in type.shape if isinstance(size, str)
    )
    sizes: dict[str, Any] = {}
    names: dict[sympy.Symbol, tuple[str, int]] = {}
    ranges: dict[sympy.Symbol, tuple[int, int]] = {}
    for index, name in enumerate(used):
        row = dimensions[name]
        step = row.step
        low = max(1, row.minimum // step)
        high = UNBOUNDED if row.maximum is None else row.maximum // step
        source = ConstantSource(name)
        symbol = environment.create_symbol(
            hint_size(low, high, index),
            source=source,
            dynamic_dim=DimDynamic.DYNAMIC,
            constraint_dim=StrictMinMaxConstraint(warn_only=False, vr=ValueRanges(low, high)),
        )
        size = environment.create_symintnode(
            symbol, hint=hint_size(low, high, index), source=source
        )
        if isinstance(symbol, sympy.Symbol):
            names[symbol] = (name, step)
            ranges[symbol] = (low, high)
        sizes[name] = size if step == 1 else step * size
    return Symbols(environment, sizes, names, ranges)


def hint_size(low: int, high: int, index: int) -> int:
    """A size within a range that differs from those of other dimensions, and from 1.

    >>> hint_size(1, 100, 0), hint_size(1, 100, 1), hint_size(4, 5, 3)
    (37, 42, 5)
    """
    return min(high, max(low, 37 + 5 * index))


def fake_argument(
    name: str, declared: Any, inputs: Mapping[str, TensorType], symbols: Symbols
) -> Any:
    """A function's argument without data. (Any: a value type; a tensor or a state.)"""
    if isinstance(declared, StateType):
        return State(fake_tensor(declared.tensor.shape, declared.tensor.dtype, symbols))
    if name not in inputs or not isinstance(declared, TensorType):
        raise UnsupportedModel(f'the type of input "{name}" is not known')
    return fake_tensor(inputs[name].shape, declared.dtype, symbols)


def fake_tensor(shape: Shape, dtype: str, symbols: Symbols) -> torch.Tensor:
    """A tensor without data."""
    sizes = [symbols.sizes[size] if isinstance(size, str) else size for size in shape]
    return torch.empty(sizes, dtype=TORCH_DTYPES[dtype])


def check_guards(step: Step, symbols: Symbols, seen: int) -> int:
    """`UnsupportedModel` when an operation works only with certain sizes.

    `seen` is the number of guards before it; the new number is returned. A guard that two sizes
    differ does no harm, one that demands equality freezes a size.
    """
    guards = symbols.environment.guards
    for guard in guards[seen:]:
        if isinstance(guard.expr, sympy.Eq) and not always_true(guard.expr, symbols):
            raise UnsupportedModel(
                f"operation {step.operation} works only if {equality(guard.expr, symbols)}",
                hint=FROZEN_HINT,
            )
    return len(guards)


def always_true(expression: sympy.Eq, symbols: Symbols) -> bool:
    """Whether an equation holds for the smallest sizes, the largest, and some between."""
    free = sorted(expression.free_symbols, key=str)
    for part in (0, 0.37, 0.73, 1):
        sizes = {}
        for symbol in free:
            low, high = symbols.ranges.get(symbol, (1, 64))
            sizes[symbol] = low + int(part * (min(high, low + 4096) - low))
        if expression.subs(sizes) != sympy.true:
            return False
    return True


def equality(expression: sympy.Eq, symbols: Symbols) -> str:
    """An equation between sizes in the user's names."""
    try:
        left, right = (formula(side, symbols.names) for side in expression.args)
    except UnsupportedModel:
        return str(expression)
    return f"{left} = {right}"


def type_of(value: Any, dtype: str, symbols: Symbols) -> TensorType:
    """A value's type with formulas. (Any: a tensor, a host array, or a list.)"""
    if isinstance(value, np.ndarray):
        return TensorType(dtype, value.shape)
    if not isinstance(value, torch.Tensor):
        return TensorType(dtype, ())
    sizes = tuple(
        size if isinstance(size, int) else formula(size.node.expr, symbols.names)
        for size in value.shape
    )
    held = NAME_OF_TORCH.get(value.dtype, dtype)
    return TensorType(dtype or held, sizes)
