"""One operation of a program, prepared to run: its function, its arguments, its weights."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.weak import WeakTensorKeyDictionary

from metal4conv.execute.elementwise_unary import converted
from metal4conv.execute.marshal import (
    CONVERT,
    Convert,
    host_to_dtype,
    is_host,
    parameters,
    release,
    to_tensor,
)
from metal4conv.execute.table import SPECIALIZED, Arithmetic, Operator
from metal4conv.mil.program import Operation

if TYPE_CHECKING:
    from metal4conv.execute.plan import Plan

Values = MutableMapping[str, Any]
"""Values by name: tensors, host arrays, lists, states. (Any: all of these.)"""

Place = tuple[str, ...]
"""The calls of nested blocks within which an operation runs, such as `("loop body 3",)`."""

HALF = (torch.float16, torch.bfloat16)


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
    arithmetic: Arithmetic
    host: Operator | None = None
    host_fixed: dict[str, Any] = field(default_factory=dict)  # the same for the host operation
    host_constants: dict[str, np.ndarray] = field(default_factory=dict)
    """Small constants among values of a tuple parameter, as host arrays."""
    blocks: tuple[Plan, ...] = ()
    frees: tuple[str, ...] = ()
    prepared: bool = False
    """Whether `fixed` holds weights as the operation computes with them."""

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
            is_data = kinds[argument.parameter][0] not in ("scalar", "text", "tuple")
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
            elif kind in ("scalar", "text", "tuple"):
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
        if not self.prepared:
            self.prepare()
        known = dict(self.fixed)
        for argument in self.arguments:
            if argument.convert is None:
                items = [values[name] for name in argument.names]
                known[argument.parameter] = items if argument.raw else list(map(to_tensor, items))
            else:
                known[argument.parameter] = argument.convert(values[argument.names[0]])
        if self.blocks:
            known["blocks"] = self.bound_blocks(values, watch)
        if self.arithmetic == "wide" or (
            self.arithmetic == "rounded" and not self.is_half(known.values())
        ):
            known = {name: widened(value) for name, value in known.items()}
        results = self.function(**known)
        if isinstance(results, tuple) or (isinstance(results, list) and len(self.outputs) > 1):
            return tuple(
                settled(item, dtype) for item, dtype in zip(results, self.dtypes, strict=True)
            )
        return settled(results, self.dtypes[0]) if self.dtypes else ()

    def prepare(self) -> None:
        """Widens float16 weights once, when the step first runs, and orders them as it likes.

        Steps that share a weight share the wide one; a weight that is no longer needed as it was
        is dropped.
        """
        found = self.fixed
        if self.arithmetic == "wide":
            self.fixed = {name: widened_weight(item) for name, item in found.items()}
        specialize = SPECIALIZED.get(self.function) if self.function else None
        varying = {argument.parameter for argument in self.arguments}
        if specialize and (special := specialize(self.fixed, varying)):
            self.function, self.fixed = special
        release(item for name, item in found.items() if self.fixed.get(name) is not item)
        self.prepared = True

    def is_half(self, arguments: Iterable[Any]) -> bool:
        """Whether tensors among the arguments, and the result, have the same half dtype."""
        found = {item.dtype for item in arguments if isinstance(item, torch.Tensor)}
        return found == {self.dtypes[0]} and self.dtypes[0] in HALF

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


WIDE_WEIGHTS = WeakTensorKeyDictionary()
"""Weights in float32 by what they were made of, for as long as somebody needs that."""


def widened_weight(value: Any) -> Any:
    """What `widened` gives, and the same tensor each time. (Any: a constant argument.)"""
    if isinstance(value, list):
        return [widened_weight(item) for item in value]
    if not isinstance(value, torch.Tensor) or value.dtype not in HALF:
        return value
    if value not in WIDE_WEIGHTS:
        WIDE_WEIGHTS[value] = value.float()
    return WIDE_WEIGHTS[value]


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
        return self.plan.run(ChainMap({}, self.values), inputs, watch)
