"""A block of a program, prepared to run: functions found, constants folded, lifetimes known."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from metal4conv.errors import Metal4ConvError, UnsupportedModel, first_line
from metal4conv.execute import families  # fills the tables
from metal4conv.execute.binding import Materialize, bind, bind_folded, bind_host
from metal4conv.execute.marshal import TORCH_DTYPES, constant_tensor, release
from metal4conv.execute.step import Step, Values, Watch
from metal4conv.execute.table import HOST_OPS, MIL_OPS, arithmetic_of
from metal4conv.mil.program import Block, Constant, Function, Operation, TensorType

families.load_all()


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
                release(step.fixed.values())
            else:
                remaining.append(step)
        for step in remaining:
            bind_folded(step, values)
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
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return UnsupportedModel(
            f"operation {operation} needs more memory than there is here",
            where=[f'output "{value.name}", {value.type}' for value in operation.outputs],
        )
    if isinstance(error, (RuntimeError, ValueError, IndexError, TypeError)):
        return UnsupportedModel(f"operation {operation} failed: {first_line(error)}")
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
    made: dict[Constant, torch.Tensor] = {}

    def once(constant: Constant) -> torch.Tensor:
        if constant.type.dtype not in TORCH_DTYPES:
            raise UnsupportedModel(f"a tensor was expected, found a constant {constant.type}")
        if constant not in made:
            try:
                made[constant] = materialize(constant)
            except MemoryError:
                raise UnsupportedModel(
                    f"a constant {constant.type} needs more memory than there is here"
                ) from None
        return made[constant]

    return plan_block(function.block, function, {}, once, is_main=True)


def plan_block(
    block: Block,
    function: Function,
    outer: MutableMapping[str, Any],
    materialize: Materialize,
    *,
    is_main: bool = False,
) -> Plan:
    """The plan of one block; `outer` are constants visible from around it."""
    constants: Values = {}
    own: dict[str, Any] = {}
    visible = ChainMap(own, outer)
    steps: list[Step] = []
    for operation in block.operations:
        if operation.type == "const":
            constant = operation.attributes["val"]
            own[operation.outputs[0].name] = constant
            continue
        steps.append(make_step(operation, function, visible, materialize))
    names = used_names(steps, block.outputs)
    for name, constant in own.items():
        if name in names:
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
    visible: MutableMapping[str, Any],
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
        arithmetic_of(operator),
        host if host_known is not None else None,
        *(host_known or ({}, {})),
        blocks=blocks,
    )
