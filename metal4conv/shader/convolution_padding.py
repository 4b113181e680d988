"""Zeros that an operation of its own puts around an image, left to the convolution after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.program import Argument, Constant, Operation, TensorType
from metal4conv.shader.convolution_reading import is_spatial
from metal4conv.shader.limits import ML_PASS

Constants = Mapping[str, np.ndarray]


def with_own_padding(
    operations: Sequence[Operation], constants: Constants, outputs: Iterable[str]
) -> tuple[Operation, ...]:
    """The operations with convolutions that pad their images themselves.

    Before, and after where nothing else reads `p`:

        p = pad(x=x, pad=[0, 0, 0, 0, 1, 1, 1, 1])     y = conv(x=x, pad_type="custom",
        y = conv(x=p, pad_type="valid", ...)                    pad=[1, 1, 1, 1], ...)

    `UnsupportedModel` for a padding of an image with anything but zeros.
    """
    makers = {
        value.name: operation
        for operation in operations
        if operation.type == "pad"
        for value in operation.outputs
    }
    changed = [merged(operation, makers, constants) for operation in operations]
    read = {name for operation in changed for name in operation.value_names} | {*outputs}
    return tuple(
        operation
        for operation in changed
        if operation.type != "pad" or any(value.name in read for value in operation.outputs)
    )


def merged(
    operation: Operation, makers: Mapping[str, Operation], constants: Constants
) -> Operation:
    """A spatial convolution of what a `pad` gives, as one of what that was given."""
    given = operation.inputs.get("x", ())
    if operation.type != "conv" or len(given) != 1 or given[0] not in makers:
        return operation
    weight = found(operation, "weight", constants)
    if weight is None or weight.ndim != 4 or not is_spatial(weight):
        return operation
    padding = makers[str(given[0])]
    check_zeros(padding, operation, constants)
    around = sides(padding, constants)
    own = own_sides(operation, weight, constants)
    if around is None or own is None:
        return operation
    total = np.array([sum(pair) for pair in zip(around, own, strict=True)], np.int32)
    inputs = dict(operation.inputs)
    inputs["x"] = padding.inputs["x"]
    inputs["pad_type"] = (literal("string", np.array("custom", object)),)
    inputs["pad"] = (literal("int32", total),)
    return replace(operation, inputs=inputs)


def check_zeros(padding: Operation, convolution: Operation, constants: Constants) -> None:
    """`UnsupportedModel` unless what is put around an image is zero."""
    mode = text_of(padding, "mode", constants, "constant")
    value = found(padding, "constant_val", constants)
    if mode == "constant" and (value is None or not np.any(value)):
        return
    what = f'in mode "{mode}"' if mode != "constant" or value is None else f"with {value.flat[0]:g}"
    raise UnsupportedModel(
        f"operation {padding} pads the image of {convolution} {what}, and a convolution in a "
        "shader has zeros around its image",
        where=str(padding),
        hint=f'use padding_mode="zeros", or {ML_PASS}',
    )


def sides(padding: Operation, constants: Constants) -> tuple[int, ...] | None:
    """How many zeros a `pad` puts above, below, left and right; None where it pads other axes."""
    pads = found(padding, "pad", constants)
    if pads is None:
        return None
    *others, top, bottom, left, right = [0] * 4 + [int(size) for size in np.ravel(pads)]
    return None if any(others) else (top, bottom, left, right)


def own_sides(
    convolution: Operation, weight: np.ndarray, constants: Constants
) -> tuple[int, ...] | None:
    """The padding of a convolution itself; None where it is none of a fixed size."""
    match text_of(convolution, "pad_type", constants, "valid"):
        case "valid":
            return (0, 0, 0, 0)
        case "custom":
            pads = found(convolution, "pad", constants)
            return None if pads is None else tuple(int(size) for size in np.ravel(pads))
    return None


def found(operation: Operation, name: str, constants: Constants) -> np.ndarray | None:
    """A constant argument of an operation; None where it is not given, or computed."""
    given: tuple[Argument, ...] = operation.inputs.get(name, ())
    if len(given) != 1:
        return None
    if isinstance(given[0], Constant):
        return given[0].value
    return constants.get(given[0]) if isinstance(given[0], str) else None


def text_of(operation: Operation, name: str, constants: Constants, default: str) -> str:
    """A text among the arguments."""
    value = found(operation, name, constants)
    return default if value is None else str(np.ravel(value)[0])


def literal(dtype: str, array: np.ndarray) -> Constant:
    """An array as an argument."""
    return Constant(TensorType(dtype, array.shape), lambda: array)
