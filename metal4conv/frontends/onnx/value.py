"""A tensor of an ONNX graph while it is lowered: a MIL variable, or a constant without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Var = Any
"""A coremltools Var; coremltools carries no types."""

Size = Any
"""A size of a shape: an int, or a sympy expression of the dynamic sizes."""

MIL_DTYPE = {
    "float16": "fp32",
    "bfloat16": "fp32",
    "float32": "fp32",
    "float64": "fp32",
    "bool": "bool",
    **dict.fromkeys(
        ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"), "int32"
    ),
    **dict.fromkeys(("int2", "uint2", "int4", "uint4"), "int32"),
}
"""How values of an ONNX dtype are held inside the program; the package's precision comes later."""

ONNX_DTYPE = {"fp32": "float32", "fp16": "float32", "int32": "int32", "bool": "bool"}
"""The ONNX dtype of what a MIL operation gives, where nobody says another."""

NARROW = {
    "int2": (2, True),
    "uint2": (2, False),
    "int4": (4, True),
    "uint4": (4, False),
    "int8": (8, True),
    "uint8": (8, False),
    "int16": (16, True),
    "uint16": (16, False),
}
"""Bits, and whether there is a sign, of integers that are held in more bits than they have."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor with its ONNX dtype (`int64`, `uint8`, …), which MIL may hold in another.

    `known` is a constant in its ONNX dtype. `var` is the MIL variable; a constant gets one, in
    each block that uses it, when an operation needs it.
    """

    dtype: str
    var: Var = None
    known: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray | None:
        """The value, when it is known at conversion, in its ONNX dtype."""
        if self.known is not None:
            return self.known
        found = self.var.val
        return None if found is None else np.asarray(found).astype(numpy_dtype(self.dtype))

    @property
    def is_constant(self) -> bool:
        """Whether the value is known at conversion."""
        return self.known is not None or self.var.val is not None

    @property
    def sizes(self) -> np.ndarray | None:
        """The elements as ints and sympy expressions; None when they are not known as such."""
        if self.known is not None:
            return self.known.astype(object)
        found = self.var.sym_val
        return None if found is None else np.asarray(found, dtype=object)

    @property
    def shape(self) -> tuple[Size, ...]:
        """Sizes, outermost first; dynamic ones are sympy expressions."""
        return tuple(self.var.shape) if self.known is None else self.known.shape

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    @property
    def is_float(self) -> bool:
        """Whether the elements are floats of any width."""
        return "float" in self.dtype

    def with_dtype(self, dtype: str) -> Value:
        """The same elements under another ONNX dtype that MIL holds alike."""
        known = None if self.known is None else self.known.astype(numpy_dtype(dtype))
        return Value(dtype, self.var, known)


@dataclass(frozen=True, eq=False)
class TensorSequence:
    """A sequence of tensors, or of sequences; its length is known at conversion."""

    items: tuple[Any, ...] = ()  # Any: a Value, or what a sequence or an optional may hold


@dataclass(frozen=True, eq=False)
class StackedSequence:
    """A sequence whose length the program computes: tensors of one shape along axis 0 of one."""

    rows: Value


@dataclass(frozen=True)
class Nothing:
    """An optional that holds nothing; one that holds something is that itself."""


def numpy_dtype(dtype: str) -> np.dtype[Any]:
    """The numpy dtype that holds an ONNX dtype's elements.

    >>> numpy_dtype("float16"), numpy_dtype("string")
    (dtype('float16'), dtype('O'))
    """
    if dtype == "string":
        return np.dtype(object)
    if dtype == "bfloat16":
        return np.dtype("float32")
    if dtype in ("int2", "int4", "uint2", "uint4"):
        return np.dtype("uint8" if dtype.startswith("u") else "int8")
    return np.dtype(dtype)


def is_static(shape: tuple[Size, ...]) -> bool:
    """Whether every size is a number."""
    return all(isinstance(size, (int, np.integer)) for size in shape)
