"""Whether a program holds together: values that exist, constants that fit what declares them.

A package may come from anywhere, so everything that later parts rely on is looked at once, right
after reading and without loading a weight. Work grows with the number of arguments and no faster.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from metal4conv.errors import DamagedFile, UnsupportedModel, did_you_mean
from metal4conv.mil.interface import Feature, Interface
from metal4conv.mil.program import (
    Block,
    Constant,
    Function,
    Operation,
    StateType,
    TensorType,
    Value,
)

MAXIMUM_RANK = 64
"""More dimensions numpy cannot hold; Core ML itself stops at 5."""

MAXIMUM_BYTES = 2**63 - 1
"""What a size in bytes can be at most wherever tensors are held."""

ELEMENT_KINDS = {
    "floats": "float",
    "doubles": "float",
    "ints": "int",
    "longInts": "int",
    "bools": "bool",
    "strings": "string",
}
"""Fields of `MIL.proto`'s TensorValue, and the family of dtypes that each can hold."""


def check_tensor_type(type: TensorType, rank: int, name: str) -> None:
    """Refuses what no tensor can be; `rank` is the one that the type declares beside its sizes."""
    if rank > 0 and rank != len(type.shape):
        raise DamagedFile(
            f'value "{name}" declares rank {rank}, but has {len(type.shape)} sizes', where=name
        )
    if len(type.shape) > MAXIMUM_RANK:
        raise UnsupportedModel(
            f'value "{name}" has {len(type.shape)} dimensions; {MAXIMUM_RANK} are possible',
            where=name,
        )
    known_bits = max(type.element_bits, 1)
    for size in type.shape:
        if isinstance(size, int):
            known_bits *= size
    if known_bits > 8 * MAXIMUM_BYTES:
        raise DamagedFile(f'value "{name}" is larger than memory can be: {type}', where=name)


def check_literal(tensor: Any, type: TensorType, name: str) -> None:
    """Refuses an immediate value that does not fill its type. (Any: a protobuf message.)"""
    if type.is_dynamic:
        raise DamagedFile(f'constant "{name}" has a size that is not a number: {type}', where=name)
    kind = tensor.WhichOneof("value")
    count = 1
    for size in type.shape:
        count *= int(size)
    if kind is None:
        if count:
            raise DamagedFile(
                f'constant "{name}" has no value, {type} needs {count}', where=f"constant {name}"
            )
        return
    found = len(getattr(tensor, kind).values)
    if kind == "bytes":
        needed = (count * type.element_bits + 7) // 8
        if type.dtype == "string" or found < needed:
            raise DamagedFile(
                f'constant "{name}" is truncated: {type} needs {needed} bytes, found {found}',
                where=f"constant {name}",
            )
        return
    if ELEMENT_KINDS[kind] != family(type.dtype):
        raise DamagedFile(
            f'constant "{name}" is declared {type}, but holds {kind}', where=f"constant {name}"
        )
    if found not in (count, 1):
        raise DamagedFile(
            f'constant "{name}": {type} needs {count} values, found {found}',
            where=f"constant {name}",
        )


def family(dtype: str) -> str:
    """Which of `ELEMENT_KINDS` a dtype belongs to.

    >>> family("uint4"), family("bfloat16"), family("bool")
    ('int', 'float', 'bool')
    """
    if "float" in dtype:
        return "float"
    return "int" if "int" in dtype else dtype


def check_function(function: Function) -> None:
    """`DamagedFile` for a function that reads what is not there, or gives a name twice."""
    number = function.opset.removeprefix("CoreML")
    if number == function.opset or not re.fullmatch("[0-9]{1,3}", number):
        raise UnsupportedModel(
            f'function "{function.name}" is written for "{function.opset}"',
            hint="operation sets are named CoreML5, CoreML6, and so on",
        )
    visible: set[str] = set()
    where = (f"function {function.name}",)
    define(function.inputs, visible, set(), where)
    check_block(function.block, visible, where)


def check_block(block: Block, visible: set[str], where: tuple[str, ...]) -> None:
    """One block; `visible` are the names around it, and are the same again afterwards.

    Its names are added to the set and taken back, so that a nested block costs what is in it, not
    what is around it.
    """
    own: set[str] = set()
    added = define(block.inputs, visible, own, where)
    for operation in block.operations:
        check_operation(operation, block, visible, where)
        for inner in operation.blocks:
            check_block(inner, visible, (*where, f"a block of operation {operation}"))
        added += define(operation.outputs, visible, own, where)
    for name in block.outputs:
        if name not in visible:
            raise DamagedFile(f'no operation gives the block\'s output "{name}"', where=where)
    visible.difference_update(added)


def define(
    values: Iterable[Value], visible: set[str], own: set[str], where: tuple[str, ...]
) -> list[str]:
    """Adds names to those that are visible; gives the ones that were not before."""
    added = []
    for value in values:
        name = value.name
        if name in own:
            raise DamagedFile(f'two values have the name "{name}"', where=where)
        own.add(name)
        if name not in visible:
            visible.add(name)
            added.append(name)
    return added


def check_operation(
    operation: Operation, block: Block, visible: Collection[str], where: tuple[str, ...]
) -> None:
    """Refuses an operation whose inputs are not there, and a constant without its value."""
    if operation.type == "const":
        check_constant(operation, where)
        return
    if operation.type.startswith("constexpr_"):
        for value in operation.outputs:
            if isinstance(value.type, TensorType) and value.type.is_dynamic:
                raise DamagedFile(
                    f"operation {operation} gives a constant, but its output has a size that is "
                    f"not a number: {value.type}",
                    where=where,
                )
    for parameter, arguments in operation.inputs.items():
        if not arguments:
            raise DamagedFile(
                f'input "{parameter}" of operation {operation} is bound to nothing', where=where
            )
        for name in arguments:
            if isinstance(name, str) and name not in visible:
                raise undefined(operation, parameter, name, block, where)


def check_constant(operation: Operation, where: tuple[str, ...]) -> None:
    """Refuses a `const` without value, or with one of another type than it declares."""
    value = operation.attributes.get("val")
    if not isinstance(value, Constant):
        raise DamagedFile(f"operation {operation} has no tensor as its value", where=where)
    declared = [item.type for item in operation.outputs]
    if len(declared) != 1 or (declared[0] is not value.type and declared[0] != value.type):
        raise DamagedFile(
            f"operation {operation} declares {', '.join(map(str, declared)) or 'no output'}, "
            f"its value is {value.type}",
            where=where,
        )


def undefined(
    operation: Operation, parameter: str, name: str, block: Block, where: tuple[str, ...]
) -> DamagedFile:
    """The error for a value that is read where it does not exist."""
    makers = [item for item in block.operations if name in {value.name for value in item.outputs}]
    if makers and makers[0] is operation:
        what = "its own output"
    elif makers:
        what = f"which only {makers[0]} after it gives"
    else:
        what = "which no operation gives"
    return DamagedFile(
        f'input "{parameter}" of operation {operation} reads the value "{name}", {what}',
        where=where,
    )


def check_interface(interface: Interface, function: Function) -> None:
    """`DamagedFile` where the declared features are not those of the function."""
    outputs = function.output_types
    inputs = {value.name: value for value in function.inputs}
    compare_names("input", [*interface.inputs, *interface.states], inputs, function)
    compare_names("output", interface.outputs, outputs, function)
    features = {feature.name: feature for feature in (*interface.inputs, *interface.states)}
    for name, value in inputs.items():
        if name not in features:
            raise DamagedFile(
                f'function "{function.name}" has an input "{name}" that the package does not '
                "declare",
                where=f"function {function.name}",
            )
        check_feature(features[name], value, function)


def compare_names(
    role: str, features: Iterable[Feature], known: Collection[str], function: Function
) -> None:
    """Refuses a declared feature that the function does not have, or one declared twice."""
    seen: set[str] = set()
    for feature in features:
        if feature.name in seen:
            raise DamagedFile(f'the package declares {role} "{feature.name}" twice')
        seen.add(feature.name)
        if feature.name not in known:
            raise DamagedFile(
                f'the package declares {role} "{feature.name}", which function '
                f'"{function.name}" does not have',
                where=f"function {function.name}",
                hint=did_you_mean(feature.name, known),
            )


def check_feature(feature: Feature, value: Value, function: Function) -> None:
    """Refuses a feature of another shape than the function's input; one without shape fits any."""
    type = value.type.tensor if isinstance(value.type, StateType) else value.type
    if not isinstance(type, TensorType):
        raise UnsupportedModel(
            f'input "{value.name}" is no tensor', where=f"function {function.name}"
        )
    if type.dtype == "string":
        raise UnsupportedModel(
            f'input "{value.name}" is a tensor of texts, expected one of numbers',
            where=f"function {function.name}",
        )
    if not feature.type.shape or not type.shape:
        return
    pairs = list(zip_sizes(feature, type))
    if not pairs or any(left != right for left, right in pairs):
        raise DamagedFile(
            f'input "{value.name}" is declared as {feature.type}, but function '
            f'"{function.name}" takes {type}',
            where=f"function {function.name}",
        )


def zip_sizes(feature: Feature, type: TensorType) -> Iterator[tuple[int, int]]:
    """Sizes of both that are plain numbers; of different ranks, one pair that differs."""
    if len(feature.type.shape) != len(type.shape):
        yield len(feature.type.shape), len(type.shape)
        return
    for declared, size in zip(feature.type.shape, type.shape, strict=True):
        both = isinstance(declared, int) and isinstance(size, int)
        yield (int(declared), int(size)) if both else (0, 0)
