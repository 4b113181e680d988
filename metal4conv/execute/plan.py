"""A block of a program, prepared to run: functions found, constants converted, lifetimes known."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import torch

from metal4conv.errors import Metal4ConvError, UnsupportedModel
from metal4conv.execute import families  # fills the tables
from metal4conv.execute.elementwise_unary import converted
from metal4conv.execute.marshal import (
    CONVERT,
    HOST_ELEMENTS,
    TORCH_DTYPES,
    Convert,
    constant_host,
    constant_tensor,
    host_to_dtype,
    is_host,
    parameters,
    to_host,
    to_tensor,
)
from metal4conv.execute.table import EXACT, HOST_OPS, MIL_OPS, Operator
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.program import (
    Block,
    Constant,
    ConstantDictionary,
    ConstantList,
    Function,
    Operation,
    StateType,
    TensorType,
)

families.load_all()

Values = dict[str, Any]
"""Values by name: tensors, host arrays, lists, states. (Any: all of these.)"""

Place = tuple[str, ...]
"""The calls of nested blocks within which an operation runs, such as `("loop body 3",)`."""

HALF = (torch.float16, torch.bfloat16)


class Materialize(Protocol):
    """Makes a tensor of a constant: mapped for a run, a fake one for symbolic shapes."""

    def __call__(self, constant: Constant) -> torch.Tensor: ...


@dataclass(frozen=True)
class Argument:
    """A parameter whose value is known only when the program runs."""

    parameter: str
    names: tuple[str, ...]
    convert: Convert | None
    """None for a tuple parameter: each of `names` becomes an item of the list."""
    raw: bool = False
    """Whether the items of a tuple parameter are handed over as they are, not as tensors."""


@dataclass
class Step:
    """One operation, ready to be called."""

    operation: Operation
    function: Operator | None
    fixed: dict[str, Any]  # arguments that are constants, already converted
    arguments: tuple[Argument, ...]
    outputs: tuple[str, ...]
    dtypes: tuple[torch.dtype | None, ...]
    declared: tuple[str, ...]
    exact: bool
    host: Operator | None = None
    host_fixed: dict[str, Any] = field(default_factory=dict)  # the same for the host operation
    host_constants: dict[str, np.ndarray] = field(default_factory=dict)
    """Small constants among values of a tuple parameter, as host arrays."""
    blocks: tuple[Plan, ...] = ()
    frees: tuple[str, ...] = ()

    def run(self, values: Values, watch: Watch | None = None) -> None:
        """Computes the operation's outputs and puts them among the values."""
        if self.host is not None and self.only_sizes(values):
            results = self.run_on_host(values)
        else:
            results = self.run_on_tensors(values, watch)
        if len(self.outputs) == 1:
            values[self.outputs[0]] = results[0] if isinstance(results, tuple) else results
        else:
            values.update(zip(self.outputs, results, strict=True))

    def only_sizes(self, values: Values) -> bool:
        """Whether the operation's data are host arrays and small constants.

        Sizes as bounds, axes or shapes alone do not count: slicing a table by them is done on
        tensors.
        """
        if self.operation.type == "shape":
            return True
        assert self.host is not None
        kinds = parameters(self.host)
        found = False
        for argument in self.arguments:
            is_data = kinds[argument.parameter][0] not in ("scalar", "tuple")
            for name in argument.names:
                if name in self.host_constants or not is_data:
                    continue
                if not is_host(values[name]):
                    return False
                found = True
        return found

    def host_value(self, name: str, values: Values) -> Any:
        """A value as the host operation takes it: a host array, or shape's tensor."""
        return self.host_constants[name] if name in self.host_constants else values[name]

    def run_on_host(self, values: Values) -> Any:
        """The operation on sizes, in Python numbers."""
        assert self.host is not None
        known = dict(self.host_fixed)
        kinds = parameters(self.host)
        for argument in self.arguments:
            kind = kinds[argument.parameter][0]
            if argument.convert is None:
                known[argument.parameter] = [
                    self.host_value(name, values) for name in argument.names
                ]
            elif kind in ("scalar", "tuple"):
                known[argument.parameter] = CONVERT[kind](values[argument.names[0]])
            else:
                known[argument.parameter] = self.host_value(argument.names[0], values)
        results = self.host(**known)
        if isinstance(results, (tuple, list)):
            return tuple(map(self.settled_host, results, self.declared, self.dtypes))
        return self.settled_host(results, self.declared[0], self.dtypes[0])

    def settled_host(self, value: Any, declared: str, dtype: torch.dtype | None) -> Any:
        """A host result in its declared dtype; a long one comes as a tensor."""
        if isinstance(value, torch.Tensor):
            return settled(value, dtype)
        return host_to_dtype(value, declared)

    def run_on_tensors(self, values: Values, watch: Watch | None = None) -> Any:
        """The operation on tensors; float16 arithmetic is done in float32 and rounded once."""
        assert self.function is not None
        known = dict(self.fixed)
        for argument in self.arguments:
            if argument.convert is None:
                items = [values[name] for name in argument.names]
                known[argument.parameter] = items if argument.raw else list(map(to_tensor, items))
            else:
                known[argument.parameter] = argument.convert(values[argument.names[0]])
        if self.blocks:
            known["blocks"] = self.bound_blocks(values, watch)
        if not self.exact:
            known = {name: widened(value) for name, value in known.items()}
        results = self.function(**known)
        if isinstance(results, tuple) or (isinstance(results, list) and len(self.outputs) > 1):
            return tuple(
                settled(item, dtype) for item, dtype in zip(results, self.dtypes, strict=True)
            )
        return settled(results, self.dtypes[0]) if self.dtypes else ()

    def bound_blocks(self, values: Values, watch: Watch | None) -> tuple[BoundBlock, ...]:
        """The nested blocks, ready to be called."""
        roles = BLOCK_ROLES.get(self.operation.type, ())
        name = self.outputs[0] if self.outputs else self.operation.type
        return tuple(
            BoundBlock(plan, values, f"{name} {role}", watch)
            for plan, role in zip(self.blocks, roles, strict=True)
        )


BLOCK_ROLES = {"cond": ("true", "false"), "while_loop": ("condition", "body")}
"""What the nested blocks of an operation are for."""


def widened(value: Any) -> Any:
    """A float16 tensor as float32, everything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype in HALF else value
    if isinstance(value, list):
        return [widened(item) for item in value]
    return value


def settled(value: Any, dtype: torch.dtype | None) -> Any:
    """A result in the dtype that the program declares."""
    if dtype is None or not isinstance(value, torch.Tensor) or value.dtype == dtype:
        return value
    return converted(value, dtype)


@dataclass(frozen=True)
class Watch:
    """Who sees the outputs of each step before they are freed, also those in nested blocks."""

    see: Callable[[Step, Values, Place], None]
    place: Place = ()


@dataclass
class BoundBlock:
    """A nested block with the values that it sees; called with its inputs, gives its outputs."""

    plan: Plan
    values: Values
    name: str
    watch: Watch | None
    calls: int = 0

    def __call__(self, *inputs: Any) -> tuple[Any, ...]:
        watch = self.watch
        if watch is not None:
            watch = replace(watch, place=(*watch.place, f"{self.name} {self.calls}"))
            self.calls += 1
        return self.plan.run(dict(self.values), inputs, watch)


@dataclass
class Plan:
    """The steps of a block in order, and the values that are constant."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    constants: Values
    steps: list[Step]

    def fold(self) -> None:
        """Runs the steps that depend on constants alone, once and for all.

        Those are mostly compressed weights; what only they needed is dropped.
        """
        remaining = []
        values = dict(self.constants)
        for step in self.steps:
            names = {name for argument in step.arguments for name in argument.names}
            if names <= values.keys() and not step.blocks and is_foldable(step.operation):
                try:
                    step.run(values)
                except Exception as error:
                    raise explained(error, step.operation) from error
            else:
                remaining.append(step)
        used = used_names(remaining, self.outputs)
        self.steps = remaining
        self.constants = {name: value for name, value in values.items() if name in used}

    def run(
        self, values: Values, inputs: Iterable[Any], watch: Watch | None = None
    ) -> tuple[Any, ...]:
        """The block's outputs; `values` holds what is visible in it and is changed."""
        for _ in self.advance(values, inputs, watch):
            pass
        return tuple(values[name] for name in self.outputs)

    def advance(
        self,
        values: Values,
        inputs: Iterable[Any],
        watch: Watch | None = None,
    ) -> Iterator[Step]:
        """Runs step by step; `watch` sees each step's outputs before they are freed."""
        values.update(zip(self.inputs, inputs, strict=True))
        values.update(self.constants)
        for step in self.steps:
            try:
                step.run(values, watch)
            except Exception as error:
                raise explained(error, step.operation) from error
            if watch is not None:
                watch.see(step, values, watch.place)
            for name in step.frees:
                values.pop(name, None)
            yield step


def is_foldable(operation: Operation) -> bool:
    """Whether an operation gives the same each time it runs."""
    return not operation.type.startswith(("random_", "make_list", "list_", "read_state"))


def explained(error: Exception, operation: Operation) -> Exception:
    """The error with the operation in which it happened."""
    note = f"while running {operation}"
    if isinstance(error, Metal4ConvError):
        if not any(line.startswith("while running") for line in getattr(error, "__notes__", ())):
            error.add_note(note)
        return error
    if isinstance(error, (RuntimeError, ValueError, IndexError, TypeError)):
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return UnsupportedModel(f"operation {operation} failed: {first}")
    error.add_note(note)
    return error


def make_plan(function: Function, materialize: Materialize = constant_tensor) -> Plan:
    """The plan of a function; all operations that are not known are named at once."""
    unknown = {
        operation.type: operation
        for operation in function.block.walk()
        if operation.type != "const" and operation.type not in MIL_OPS
    }
    if unknown:
        raise UnsupportedModel(
            f"{len(unknown)} kinds of operations cannot be run here: {', '.join(sorted(unknown))}",
            where=[str(operation) for operation in unknown.values()],
        )
    return plan_block(function.block, function, {}, materialize, is_main=True)


def plan_block(
    block: Block,
    function: Function,
    outer: Mapping[str, Any],
    materialize: Materialize,
    *,
    is_main: bool = False,
) -> Plan:
    """The plan of one block; `outer` are constants visible from around it."""
    constants: Values = {}
    visible: dict[str, Any] = dict(outer)
    steps: list[Step] = []
    for operation in block.operations:
        if operation.type == "const":
            constant = operation.attributes["val"]
            visible[operation.outputs[0].name] = constant
            continue
        steps.append(make_step(operation, function, visible, materialize))
    names = used_names(steps, block.outputs)
    for name, constant in visible.items():
        if name in names and name not in outer and isinstance(constant, Constant):
            constants[name] = materialize(constant)
    inputs = tuple(value.name for value in (function.inputs if is_main else block.inputs))
    mark_frees(steps, block, {*inputs, *constants})
    return Plan(inputs, block.outputs, constants, steps)


def used_names(steps: Sequence[Step], outputs: Sequence[str]) -> set[str]:
    """The names of values that are looked up when the steps run, or are outputs."""
    names = set(outputs)
    for step in steps:
        names.update(name for argument in step.arguments for name in argument.names)
        for plan in step.blocks:
            names |= used_names(plan.steps, plan.outputs)
    return names


def mark_frees(steps: Sequence[Step], block: Block, kept: set[str]) -> None:
    """Notes at each step which values are not needed after it."""
    needed = set(block.outputs) | kept
    for step in reversed(steps):
        touched = used_names([step], ()) | set(step.outputs)
        step.frees = tuple(sorted(touched - needed))
        needed |= touched


def make_step(
    operation: Operation,
    function: Function,
    visible: Mapping[str, Any],
    materialize: Materialize,
) -> Step:
    """An operation with its constant arguments converted."""
    version = function.opset_version
    if operation.attributes:  # before iOS 18 the parameters of constexpr operations stand there
        literals = {name: (constant,) for name, constant in operation.attributes.items()}
        operation = replace(operation, inputs={**literals, **operation.inputs})
    try:
        operator = MIL_OPS.lookup(operation.type, version)
        host = HOST_OPS.lookup(operation.type, version) if operation.type in HOST_OPS else None
        fixed, arguments = bind(operation, operator, visible, materialize)
        host_known = bind_host(operation, host, visible) if host else None
    except Metal4ConvError as error:
        error.add_note(f"in operation {operation}")
        raise
    blocks = tuple(plan_block(block, function, visible, materialize) for block in operation.blocks)
    types = [value.type for value in operation.outputs]
    return Step(
        operation,
        operator,
        fixed,
        arguments,
        tuple(value.name for value in operation.outputs),
        tuple(
            TORCH_DTYPES.get(type.dtype) if isinstance(type, TensorType) else None for type in types
        ),
        tuple(type.dtype if isinstance(type, TensorType) else "" for type in types),
        operator in EXACT,
        host if host_known is not None else None,
        *(host_known or ({}, {})),
        blocks=blocks,
    )


def bind(
    operation: Operation, operator: Operator, visible: Mapping[str, Any], materialize: Materialize
) -> tuple[dict[str, Any], tuple[Argument, ...]]:
    """The arguments of an operation: those that are constant, and those that are not."""
    kinds = parameters(operator)
    fixed: dict[str, Any] = {}
    arguments = []
    for parameter, given in operation.inputs.items():
        if parameter not in kinds:
            raise UnsupportedModel(
                f'operation {operation} has an input "{parameter}" that is not known'
            )
        kind = kinds[parameter][0]
        sources = [visible.get(item) if isinstance(item, str) else item for item in given]
        constants = [item for item in sources if isinstance(item, Constant)]
        constant = len(constants) == len(sources)
        if kind == "tuple" and constant and len(given) > 1:
            fixed[parameter] = tuple(item.value.item() for item in constants)
        elif kind == "tuple" and isinstance(sources[0], ConstantList):
            fixed[parameter] = tuple(item.value.item() for item in sources[0].items)
        elif kind in ("tensors", "list") or len(given) > 1:
            if constant and kind != "list":
                fixed[parameter] = [fixed_value(item, "tensor", materialize) for item in constants]
            else:
                names = tuple(item for item in given if isinstance(item, str))
                if len(names) != len(given):
                    raise UnsupportedModel(f"operation {operation} mixes values and literals")
                arguments.append(Argument(parameter, names, None, kind == "list"))
        elif isinstance(sources[0], (ConstantList, ConstantDictionary)):
            fixed[parameter] = sources[0]
        elif constant:
            fixed[parameter] = fixed_value(sources[0], kind, materialize)
        else:
            arguments.append(Argument(parameter, (str(given[0]),), CONVERT[kind]))
    missing = [name for name, (_, optional) in kinds.items() if not optional and name != "blocks"]
    absent = [name for name in missing if name not in operation.inputs]
    if absent:
        raise UnsupportedModel(f"operation {operation} lacks its input {', '.join(absent)}")
    return fixed, tuple(arguments)


def fixed_value(constant: Any, kind: str, materialize: Materialize) -> Any:
    """A constant argument as its parameter takes it. (Any: a Constant; whatever the kind is.)"""
    if kind in ("tensor", "raw"):
        if constant.type.dtype == "string":
            return str(constant.value.reshape(-1)[0])
        return materialize(constant)
    return CONVERT[kind](constant.value)


def bind_host(
    operation: Operation, host: Operator, visible: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, np.ndarray]] | None:
    """Constants for the host operation, by parameter and (within a list) by name.

    None when one of them is too large to be arithmetic on sizes.
    """
    kinds = parameters(host)
    fixed: dict[str, Any] = {}
    named: dict[str, np.ndarray] = {}
    for parameter, given in operation.inputs.items():
        if parameter not in kinds:
            continue
        sources = [visible.get(item) if isinstance(item, str) else item for item in given]
        constants = [item for item in sources if isinstance(item, Constant)]
        if any(item.element_count > HOST_ELEMENTS for item in constants):
            return None
        kind = kinds[parameter][0]
        if len(constants) < len(sources):
            pairs = zip(given, sources, strict=True)
            named |= {str(name): constant_host(c) for name, c in pairs if isinstance(c, Constant)}
        elif len(given) > 1 or kind == "tensors":
            fixed[parameter] = [constant_host(item) for item in constants]
        elif kind in ("scalar", "tuple"):
            fixed[parameter] = CONVERT[kind](constants[0].value)
        elif constants[0].type.dtype == "string":
            fixed[parameter] = str(constants[0].value.reshape(-1)[0])
        else:
            fixed[parameter] = constant_host(constants[0])
    return fixed, named


def state_names(function: Function) -> tuple[str, ...]:
    """Names of the function's inputs that are states."""
    return tuple(value.name for value in function.inputs if isinstance(value.type, StateType))


def as_numpy(value: Any, dtype: str) -> np.ndarray:
    """A value as an array of the declared dtype, in memory that nobody else has.

    Without its own memory, who writes into an output would write into an input or a weight.
    """
    held = np.dtype(DTYPES[dtype].numpy)
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else to_host(value)
    own = np.ascontiguousarray(array.astype(held, copy=False))
    return own if own.base is None else own.copy()
