"""A program with its float16 arithmetic done in float32: the same weights, no rounding between.

What a float16 package gives differs from its source by two things: its weights and constants are
rounded, and so is the result of each operation. The widened program keeps the first and drops the
second, so its values say what an operation would give without rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from metal4conv.mil.interface import Feature, Interface
from metal4conv.mil.program import (
    Argument,
    Block,
    Constant,
    ConstantDictionary,
    ConstantList,
    DictionaryType,
    Function,
    ListType,
    Operation,
    StateType,
    TensorType,
    TupleType,
    Value,
    ValueType,
)

if TYPE_CHECKING:
    import numpy as np

Named = Mapping[str, Constant]
"""Constants by the name of the value, as far as they are visible."""


def widened(function: Function) -> Function:
    """The function with all float16 made float32; the very same one where it has none.

    Constants keep the values to which float16 rounded them, and are read when they are used. A
    float16 infinity stays one. Program before and after:

        main(x: fp16) {
            w = const(val=fp16[…]);  h = const(val="fp16");
            a: fp16 = mul(x, w);  b: fp32 = cast(a, "fp32");  y: fp16 = cast(b, h)   }
        main(x: fp32) {
            w = const(val=fp32[…]);  h = const(val="fp16");
            a: fp32 = mul(x, w);  b: fp32 = cast(a, "fp32");  y: fp32 = cast(b, "fp32")   }
    """
    if not holds_float16(function):
        return function
    return replace(
        function,
        inputs=tuple(map(widened_value, function.inputs)),
        block=widened_block(function.block, {}),
    )


def widened_interface(interface: Interface) -> Interface:
    """The interface that fits a widened function: float16 tensors and states are float32.

    Pictures stay what they are.
    """
    return replace(
        interface,
        inputs=tuple(map(widened_feature, interface.inputs)),
        outputs=tuple(map(widened_feature, interface.outputs)),
        states=tuple(map(widened_feature, interface.states)),
    )


def widened_feature(feature: Feature) -> Feature:
    """A float16 tensor as a float32 one."""
    if feature.kind != "tensor":
        return feature
    return replace(feature, type=widened_tensor(feature.type))


def holds_float16(function: Function) -> bool:
    """Whether a value or a literal of the function is float16."""
    blocks = [function.block]
    values = [*function.inputs]
    for operation in function.block.walk():
        values += operation.outputs
        blocks += operation.blocks
        literals = [*operation.attributes.values(), *literals_of(operation)]
        if any(constant.type.dtype == "float16" for constant in literals):
            return True
    values += [value for block in blocks for value in block.inputs]
    return any(widened_type(value.type) != value.type for value in values)


def literals_of(operation: Operation) -> list[Constant]:
    """The constants that stand in an operation's arguments."""
    found: list[Constant] = []
    for argument in (item for group in operation.inputs.values() for item in group):
        match argument:
            case Constant():
                found.append(argument)
            case ConstantList():
                found += argument.items
            case ConstantDictionary():
                found += [*argument.keys, *argument.values]
    return found


def widened_block(block: Block, outer: Named) -> Block:
    """A block with the blocks in it; `outer` are the constants around it."""
    visible = dict(outer)
    operations = []
    for operation in block.operations:
        if operation.type == "const" and "val" in operation.attributes:
            visible[operation.outputs[0].name] = operation.attributes["val"]
        operations.append(widened_operation(operation, visible))
    return replace(
        block, inputs=tuple(map(widened_value, block.inputs)), operations=tuple(operations)
    )


def widened_operation(operation: Operation, visible: Named) -> Operation:
    """An operation with its literals, its results and the blocks in it."""
    return replace(
        operation,
        inputs={
            name: tuple(widened_argument(name, item, visible) for item in group)
            for name, group in operation.inputs.items()
        },
        outputs=tuple(map(widened_value, operation.outputs)),
        blocks=tuple(widened_block(block, visible) for block in operation.blocks),
        attributes={
            name: widened_literal(name, constant) for name, constant in operation.attributes.items()
        },
    )


def widened_argument(parameter: str, argument: Argument, visible: Named) -> Argument:
    """What a parameter is bound to; the name of a text "fp16" gives way to the text "fp32"."""
    match argument:
        case Constant():
            return widened_literal(parameter, argument)
        case ConstantList():
            return ConstantList(tuple(map(widened_constant, argument.items)))
        case ConstantDictionary():
            return ConstantDictionary(
                tuple(map(widened_constant, argument.keys)),
                tuple(map(widened_constant, argument.values)),
            )
    constant = visible.get(argument)
    if constant is not None and names_float16(parameter, constant):
        return FLOAT32_NAME
    return argument


def widened_literal(parameter: str, constant: Constant) -> Constant:
    """A literal argument: a number in float32, or the name of a dtype."""
    return FLOAT32_NAME if names_float16(parameter, constant) else widened_constant(constant)


def names_float16(parameter: str, constant: Constant) -> bool:
    """Whether a parameter such as the `dtype` of `cast` is "fp16"."""
    if not parameter.endswith("dtype") or constant.type.dtype != "string":
        return False
    return constant.element_count == 1 and str(constant.value.reshape(-1)[0]) == "fp16"


def float32_name() -> np.ndarray:
    """The text "fp32" as a constant has it."""
    import numpy as np

    return np.array("fp32", dtype=object)


FLOAT32_NAME = Constant(TensorType("string", ()), float32_name)


def widened_constant(constant: Constant) -> Constant:
    """A float16 constant as a float32 one, read when it is used."""
    if constant.type.dtype != "float16":
        return constant
    return Constant(widened_tensor(constant.type), partial(load_wide, constant))


def load_wide(constant: Constant) -> np.ndarray:
    """The values of a float16 constant in float32."""
    wide = constant.load().astype("float32")
    wide.flags.writeable = False
    return wide


def widened_value(value: Value) -> Value:
    """A value of the type that it has without float16."""
    return Value(value.name, widened_type(value.type))


def widened_type(type: ValueType) -> ValueType:
    """A type in which float16 is float32, also within lists and states.

    >>> str(widened_type(TensorType("float16", (1, "h"))))
    'float32[1, h]'
    """
    match type:
        case TensorType():
            return widened_tensor(type)
        case ListType():
            return replace(type, element=widened_tensor(type.element))
        case StateType():
            return StateType(widened_tensor(type.tensor))
        case DictionaryType():
            return DictionaryType(widened_tensor(type.key), widened_tensor(type.value))
    return TupleType(tuple(map(widened_type, type.members)))


def widened_tensor(type: TensorType) -> TensorType:
    """A tensor's type in which float16 is float32."""
    return replace(type, dtype="float32") if type.dtype == "float16" else type
