"""What of a program can pass between it and the outside: values that Core ML takes arrays for."""

from __future__ import annotations

import math

from metal4conv.mil.program import TensorType

LARGEST_RANK = 5
"""Core ML takes arrays of so many dimensions."""

LARGEST_LITERAL = 64
"""Elements of a value that may become a constant of a part, where it can be no input."""

FLOAT16_FEATURES = 7
"""The specification version from which on inputs and outputs may be float16."""


def border_dtype(dtype: str, specification_version: int) -> str | None:
    """The element type by which Core ML takes a value from outside; None where it has none.

    >>> border_dtype("float16", 9), border_dtype("bool", 9), border_dtype("string", 9)
    ('float16', 'int32', None)
    """
    match dtype:
        case "float16":
            return "float16" if specification_version >= FLOAT16_FEATURES else "float32"
        case "float32" | "int32":
            return dtype
        case "bool" | "int8" | "uint8" | "int16" | "uint16":
            return "int32"
    return None


def can_be_output(type: TensorType | None, specification_version: int) -> bool:
    """Whether a value of this type can be an output, with a cast where that is needed."""
    if type is None or len(type.shape) > LARGEST_RANK:
        return False
    return border_dtype(type.dtype, specification_version) is not None


def can_be_fed(type: TensorType | None, shape: tuple[int, ...], specification_version: int) -> bool:
    """Whether a value of this type can come from outside: as an input, or as a constant."""
    return can_be_input(type, shape, specification_version) or can_be_literal(type, shape)


def can_be_input(
    type: TensorType | None, shape: tuple[int, ...], specification_version: int
) -> bool:
    """Whether it can be an input: Core ML takes neither single numbers nor empty arrays."""
    return can_be_output(type, specification_version) and bool(shape) and 0 not in shape


def can_be_literal(type: TensorType | None, shape: tuple[int, ...]) -> bool:
    """Whether it can be a constant."""
    kinds = ("bool", "int32", "float16", "float32")
    return type is not None and type.dtype in kinds and math.prod(shape) <= LARGEST_LITERAL
