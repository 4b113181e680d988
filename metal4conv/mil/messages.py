"""Filling protobuf messages of programs: types, constants, descriptions. (Any: such messages.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.interface import ARRAY_DTYPES
from metal4conv.mil.program import TensorType

ARRAY_TYPES = {name: number for number, name in ARRAY_DTYPES.items()}


def fill_sizes(message: Any, shape: tuple[int, ...] | None) -> None:
    """Gives a tensor's type the sizes of a run."""
    if shape is None or message.WhichOneof("type") != "tensorType":
        return
    if all(size.WhichOneof("dimension") == "constant" for size in message.tensorType.dimensions):
        return
    del message.tensorType.dimensions[:]
    message.tensorType.rank = len(shape)
    for size in shape:
        message.tensorType.dimensions.add().constant.size = size


def set_type(message: Any, type: TensorType) -> None:
    """Fills a `ValueType` message."""
    message.tensorType.dataType = DTYPES[type.dtype].mil
    message.tensorType.rank = len(type.shape)
    for size in type.shape:
        dimension = message.tensorType.dimensions.add()
        if isinstance(size, int):
            dimension.constant.size = size
        else:
            dimension.unknown.variadic = False


def describe(message: Any, dtype: str, shape: tuple[int, ...]) -> None:
    """Fills the description of an input or output."""
    message.type.multiArrayType.dataType = ARRAY_TYPES[dtype]
    message.type.multiArrayType.shape.extend(shape)


def set_name(message: Any, name: str) -> None:
    """Gives an operation its name."""
    value = message.attributes["name"]
    set_type(value.type, TensorType("string", ()))
    value.immediateValue.tensor.strings.values.append(name)


def add_constant(block: Any, name: str, type: TensorType, array: np.ndarray) -> None:
    """A `const` operation with an immediate value."""
    made = block.operations.add(type="const")
    set_type(made.outputs.add(name=name).type, type)
    set_name(made, name)
    value = made.attributes["val"]
    set_type(value.type, type)
    tensor = value.immediateValue.tensor
    flat = array.reshape(-1).tolist()
    match type.dtype:
        case "string":
            tensor.strings.values.extend(flat)
        case "bool":
            tensor.bools.values.extend(flat)
        case "int32":
            tensor.ints.values.extend(flat)
        case "float32":
            tensor.floats.values.extend(flat)
        case _:
            tensor.bytes.values = np.ascontiguousarray(array, DTYPES[type.dtype].numpy).tobytes()


def literals(message: Any) -> Iterator[Any]:
    """All `Value` messages of an operation, also those in its blocks."""
    for key in sorted(message.attributes):
        yield message.attributes[key]
    for key in sorted(message.inputs):
        for binding in message.inputs[key].arguments:
            if binding.WhichOneof("binding") == "value":
                yield binding.value
    for block in message.blocks:
        for inner in block.operations:
            yield from literals(inner)
