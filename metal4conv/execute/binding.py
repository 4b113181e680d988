"""Arguments of operations: what is constant is converted once, the rest in each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from metal4conv.errors import Metal4ConvError, UnsupportedModel
from metal4conv.execute.marshal import (
    CONVERT,
    HOST_ELEMENTS,
    constant_host,
    parameters,
    to_tensor,
    to_text,
)
from metal4conv.execute.step import Argument, Step, Values
from metal4conv.execute.table import Operator
from metal4conv.mil.program import Constant, ConstantDictionary, ConstantList, Operation


class Materialize(Protocol):
    """Makes a tensor of a constant: mapped for a run, a fake one for symbolic shapes."""

    def __call__(self, constant: Constant) -> torch.Tensor: ...


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
        takes_several = kind in ("tensors", "list", "raw") or (kind == "tuple" and constant)
        if len(given) > 1 and not takes_several:
            raise UnsupportedModel(
                f'input "{parameter}" of operation {operation} takes one value, found {len(given)}'
            )
        if kind == "tuple" and constant and len(given) > 1:
            fixed[parameter] = numbers(constants, parameter)
        elif kind == "tuple" and isinstance(sources[0], ConstantList):
            fixed[parameter] = numbers(sources[0].items, parameter)
        elif kind in ("tensors", "list") or len(given) > 1:
            if constant and kind != "list":
                item_kind = "raw" if kind == "raw" else "tensor"
                fixed[parameter] = [
                    fixed_value(item, item_kind, materialize, parameter) for item in constants
                ]
            else:
                names = tuple(item for item in given if isinstance(item, str))
                if len(names) != len(given):
                    raise UnsupportedModel(f"operation {operation} mixes values and literals")
                arguments.append(Argument(parameter, names, None, kind == "list"))
        elif isinstance(sources[0], (ConstantList, ConstantDictionary)):
            if kind != "raw":
                expected = "a tensor" if kind == "tensor" else "one value"
                raise UnsupportedModel(
                    f'input "{parameter}" of operation {operation} takes {expected}, found a list '
                    "or dictionary of the program"
                )
            fixed[parameter] = sources[0]
        elif constant:
            fixed[parameter] = fixed_value(sources[0], kind, materialize, parameter)
        else:
            arguments.append(Argument(parameter, (str(given[0]),), CONVERT[kind]))
    missing = [name for name, (_, optional) in kinds.items() if not optional and name != "blocks"]
    absent = [name for name in missing if name not in operation.inputs]
    if absent:
        raise UnsupportedModel(f"operation {operation} lacks its input {', '.join(absent)}")
    return fixed, tuple(arguments)


def numbers(constants: Sequence[Constant], parameter: str) -> tuple[Any, ...]:
    """Constants of one element each as Python values. (Any: of any element type.)"""
    for item in constants:
        if item.element_count != 1:
            raise UnsupportedModel(
                f'an item of the input "{parameter}" is {item.type}, expected one number'
            )
    return tuple(item.value.reshape(-1)[0].item() for item in constants)


def fixed_value(constant: Any, kind: str, materialize: Materialize, parameter: str) -> Any:
    """A constant argument as its parameter takes it. (Any: a Constant; whatever the kind is.)"""
    try:
        if kind == "raw" and constant.type.dtype == "string":
            return to_text(constant.value)
        if kind in ("tensor", "raw"):
            return materialize(constant)
        return CONVERT[kind](constant.value)
    except Metal4ConvError as error:
        error.add_note(f'in its input "{parameter}"')
        raise


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
        elif kind in ("scalar", "text", "tuple"):
            fixed[parameter] = CONVERT[kind](constants[0].value)
        elif constants[0].type.dtype == "string":
            fixed[parameter] = str(constants[0].value.reshape(-1)[0])
        else:
            fixed[parameter] = constant_host(constants[0])
    return fixed, named


def bind_folded(step: Step, constants: Values) -> None:
    """Makes the arguments of a step that folding computed constant ones."""
    if step.host is not None or step.blocks:
        return
    left = []
    for argument in step.arguments:
        found = constants.get(argument.names[0])
        if argument.convert is to_tensor and isinstance(found, torch.Tensor):
            step.fixed[argument.parameter] = found
        else:
            left.append(argument)
    step.arguments = tuple(left)
