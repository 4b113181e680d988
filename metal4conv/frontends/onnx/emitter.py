"""Emits MIL operations on values: names, constants, dtypes and arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.names import clean_name
from metal4conv.frontends.onnx.sizes import infer_sizes
from metal4conv.frontends.onnx.value import MIL_DTYPE, NARROW, ONNX_DTYPE, Value, Var

Number = int | float | bool
Operand = Value | Number | np.generic | np.ndarray

INT32 = np.iinfo(np.int32)
MOVING = frozenset(
    ("gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd")
)
"""Operations that move elements and leave out bool, which then travels as int32."""


@dataclass
class Place:
    """The node that is being lowered, for names and error messages."""

    operator: str = ""
    name: str = ""
    opset: int = 0
    outputs: tuple[str, ...] = ()

    def __str__(self) -> str:
        """The node as an error names it."""
        given = ", ".join(f'"{name}"' for name in self.outputs if name)
        called = f'node "{self.name}"' if self.name else "node"
        return f"{called} ({self.operator}, opset {self.opset}), output {given or 'none'}"


@dataclass
class Emitter:
    """The program under construction, as what emits operations sees it."""

    target: int
    """The iOS version of the target."""
    place: Place = field(default_factory=Place)
    positive: frozenset[Any] = frozenset()
    """Symbols of sizes that are at least 1: those of the model's inputs."""
    named: dict[int, Var] = field(default_factory=dict)
    """The variables that have a name of the model's, by identity."""
    constants: dict[tuple[int, int], tuple[Value, Any, Var]] = field(default_factory=dict)
    """The variables of constants by block and value; both are kept alive with their ids."""

    taken: dict[str, int] = field(default_factory=dict)
    """Names in the program, with how often each was asked for."""

    # names ---------------------------------------------------------------------------------

    def free_name(self, operation: str) -> str:
        """A name for an operation that the current node needs, after the node's output."""
        base = clean_name(next(filter(None, self.place.outputs), self.place.name or "graph"))
        return self.unique(f"{base}_{operation}")

    def unique(self, name: str) -> str:
        """The name, with a number when it is taken."""
        count = self.taken.get(name, 0)
        self.taken[name] = count + 1
        if not count:
            return name
        return self.unique(f"{name}_{count}")

    def reserve(self, names: Sequence[str]) -> None:
        """Keeps names for inputs and outputs of the package."""
        self.taken.update(dict.fromkeys(names, 1))

    def name_result(self, var: Var, name: str) -> None:
        """Names a variable after the model's value, unless it has one of the model's names."""
        if id(var) in self.named or var.op is None:
            return
        self.named[id(var)] = var
        new = self.unique(name)
        var.name = new
        if len(var.op.outputs) == 1:
            var.op.name = new

    # emitting ------------------------------------------------------------------------------

    def emit(self, operation: str, /, *, dtype: str | None = None, **inputs: Any) -> Any:
        """The output of a new MIL operation, or a tuple of outputs.

        Inputs are values, lists of them, arrays, numbers or texts; None leaves one out. `dtype`
        is the ONNX dtype of the result when it is not what MIL's says. (Any: see Value.)
        """
        from coremltools.converters.mil.mil import Builder

        first = inputs.get("x", inputs.get("data"))
        as_int = operation in MOVING and isinstance(first, Value) and first.dtype == "bool"
        if as_int:
            inputs = {
                name: self.cast(item, "int32")
                if isinstance(item, Value) and item.dtype == "bool"
                else item
                for name, item in inputs.items()
            }
        given = {name: self.argument(item) for name, item in inputs.items() if item is not None}
        results = getattr(Builder, operation)(**given, name=self.free_name(operation))
        infer_sizes(operation, given, results, self.positive)
        if isinstance(results, (tuple, list)):
            return tuple(self.wrap_var(item, dtype) for item in results)
        result = self.wrap_var(results, "int32" if as_int else dtype)
        return self.cast(result, "bool") if as_int else result

    def argument(self, item: Any) -> Any:
        """An input as coremltools' builder takes it. (Any: values, arrays, numbers, texts.)"""
        if isinstance(item, Value):
            return self.var(item)
        if isinstance(item, (list, tuple)) and any(isinstance(part, Value) for part in item):
            return [self.var(self.value(part)) for part in item]
        if isinstance(item, (list, tuple)) and item and isinstance(item[0], (bool, str)):
            return list(item)
        if isinstance(item, (list, tuple)):
            return held_array(np.asarray(item, np.int64 if not item else None))
        if isinstance(item, np.ndarray):
            return held_array(item)
        return item

    def wrap_var(self, var: Var, dtype: str | None = None) -> Value:
        """A value for a MIL variable."""
        from coremltools.converters.mil.mil import types

        found = types.builtin_to_string(var.dtype)
        return Value(dtype or ONNX_DTYPE.get(found, found), var)

    def value(self, item: Operand, dtype: str | None = None) -> Value:
        """A value for a value, number or array; `dtype` is that of a number.

        A number without one is float32, int64 or bool.
        """
        if isinstance(item, Value):
            return item
        array = np.asarray(item)
        if dtype is None:
            dtype = {"f": "float32", "i": "int64", "u": "int64", "b": "bool"}[array.dtype.kind]
        return Value(dtype, known=array.astype(dtype if dtype != "bfloat16" else "float32"))

    def var(self, value: Value) -> Var:
        """The MIL variable of a value; that of a constant is made once in each block."""
        if value.var is not None:
            return value.var
        from coremltools.converters.mil.mil import Builder
        from coremltools.converters.mil.mil.block import curr_block

        block = curr_block()
        key = (id(block), id(value))
        if key not in self.constants:
            assert value.known is not None
            array = self.held_constant(value.known, value.dtype)
            name = self.free_name("const")
            self.constants[key] = (value, block, Builder.const(val=array[()], name=name))
        return self.constants[key][2]

    def held_constant(self, array: np.ndarray, dtype: str) -> np.ndarray:
        """A constant in the dtype that MIL holds it in; one that does not fit is an error."""
        if dtype not in MIL_DTYPE:
            raise self.unsupported(f"a constant is {dtype}, which a MIL program cannot hold")
        if MIL_DTYPE[dtype] == "int32" and array.size:
            low, high = int(array.min()), int(array.max())
            if low < INT32.min or high > INT32.max:
                raise self.unsupported(
                    f"a constant holds {low if low < INT32.min else high}, which int32 cannot "
                    f"(the model says {dtype}, Core ML has no 64-bit integers)"
                )
        return held_array(array)

    def unsupported(self, reason: str, hint: str | None = None) -> UnsupportedModel:
        """The error for a node that cannot be lowered, with its operator and place."""
        return UnsupportedModel(
            f"ONNX operator {self.place.operator}: {reason}", where=str(self.place), hint=hint
        )

    # reading constants ---------------------------------------------------------------------

    def ints(self, value: Value | Sequence[int] | None, what: str) -> list[int]:
        """The elements of an integer constant; an error names `what` it is when it is none."""
        if value is None:
            return []
        if not isinstance(value, Value):
            return [int(item) for item in value]
        return [int(item) for item in np.atleast_1d(self.constant(value, what)).reshape(-1)]

    def constant(self, value: Value, what: str) -> np.ndarray:
        """The array of a constant; an error names `what` it is when it is none."""
        array = value.array
        if array is None:
            raise self.unsupported(f"{what} is computed while the model runs; it must be constant")
        return array

    def axis(self, axis: int, rank: int) -> int:
        """An axis counted from the front; one out of range is an error."""
        if not -rank <= axis < max(rank, 1):
            raise self.unsupported(f"axis {axis} is out of range for {rank} dimensions")
        return axis % max(rank, 1)

    # dtypes --------------------------------------------------------------------------------

    def cast(self, x: Value, dtype: str) -> Value:
        """The value in another dtype as ONNX's Cast says: towards zero, narrow integers wrap."""
        if x.dtype == dtype:
            return x
        held, wanted = MIL_DTYPE[x.dtype], MIL_DTYPE.get(dtype)
        if wanted is None:
            raise self.unsupported(f"a MIL program cannot hold {dtype}")
        if held != wanted:
            x = self.cast_var(x, wanted)
        elif held == "fp32" and dtype in ("float16", "bfloat16"):
            return self.rounded(x, dtype)
        return self.wrapped(x, dtype) if wanted == "int32" else x.with_dtype(dtype)

    def cast_var(self, x: Value, held: str) -> Value:
        """MIL's own cast to a dtype of MIL."""
        if x.known is None:
            return self.emit_cast(x, held)
        dtype = {"fp32": "float32", "int32": "int64", "bool": "bool"}[held]
        return Value(dtype, known=x.known.astype(dtype))

    def emit_cast(self, x: Value, held: str) -> Value:
        """A cast operation; its `dtype` is an input of its own, not the result's ONNX dtype."""
        from coremltools.converters.mil.mil import Builder

        return self.wrap_var(Builder.cast(x=self.var(x), dtype=held, name=self.free_name("cast")))

    def rounded(self, x: Value, dtype: str) -> Value:
        """Floats rounded to what a narrower float dtype holds; MIL goes on in float32."""
        if dtype != "float16" or x.dtype == "bfloat16" or x.known is not None:
            return x.with_dtype(dtype)
        return self.emit_cast(self.emit_cast(x, "fp16"), "fp32").with_dtype(dtype)

    def wrapped(self, x: Value, dtype: str) -> Value:
        """Integers brought into the range of a narrow dtype, as its own arithmetic wraps them."""
        if dtype not in NARROW or (x.dtype in NARROW and fits(x.dtype, dtype)):
            return x.with_dtype(dtype)
        bits, signed = NARROW[dtype]
        half = 1 << (bits - 1) if signed else 0
        x = x.with_dtype("int32")
        moved = self.add(x, half) if half else x
        wrapped = self.emit("mod", x=moved, y=np.int32(1 << bits))
        return (self.sub(wrapped, half) if half else wrapped).with_dtype(dtype)

    # arithmetic ----------------------------------------------------------------------------

    def binary(self, operation: str, x: Operand, y: Operand) -> Value:
        """A MIL operation on two operands; a number takes the dtype of the other operand."""
        if not isinstance(x, Value):
            x = self.value(x, y.dtype if isinstance(y, Value) else None)
        y = self.value(y, x.dtype)
        is_test = operation in ("equal", "not_equal", "less", "less_equal", "greater")
        is_test = is_test or operation.startswith("logical") or operation == "greater_equal"
        result: Value = self.emit(operation, x=x, y=y, dtype="bool" if is_test else x.dtype)
        return result

    def add(self, x: Operand, y: Operand) -> Value:
        return self.binary("add", x, y)

    def sub(self, x: Operand, y: Operand) -> Value:
        return self.binary("sub", x, y)

    def mul(self, x: Operand, y: Operand) -> Value:
        return self.binary("mul", x, y)

    def div(self, x: Operand, y: Operand) -> Value:
        """Quotients of floats."""
        return self.binary("real_div", x, y)

    def floor_div(self, x: Operand, y: Operand) -> Value:
        return self.binary("floor_div", x, y)

    def mod(self, x: Operand, y: Operand) -> Value:
        """Remainders with the sign of the divisor."""
        return self.binary("mod", x, y)

    def maximum(self, x: Operand, y: Operand) -> Value:
        return self.binary("maximum", x, y)

    def minimum(self, x: Operand, y: Operand) -> Value:
        return self.binary("minimum", x, y)

    def equal(self, x: Operand, y: Operand) -> Value:
        return self.binary("equal", x, y)

    def less(self, x: Operand, y: Operand) -> Value:
        return self.binary("less", x, y)

    def unary(self, operation: str, x: Value, **inputs: Any) -> Value:
        """A MIL operation on one tensor that keeps its ONNX dtype. (Any: see emit.)"""
        result: Value = self.emit(operation, x=x, dtype=x.dtype, **inputs)
        return result


def fits(inner: str, outer: str) -> bool:
    """Whether every integer of a narrow dtype is one of the other.

    >>> fits("int8", "int16"), fits("int8", "uint16")
    (True, False)
    """
    (bits, signed), (room, sign) = NARROW[inner], NARROW[outer]
    return (signed == sign and bits <= room) or (not signed and sign and bits < room)


def held_array(array: np.ndarray) -> np.ndarray:
    """An array in a dtype that MIL has: int64 becomes int32, float64 and float16 float32."""
    kind = array.dtype.kind
    if kind in "iu":
        return array.astype(np.int32, copy=False)
    if kind == "b":
        return array
    return array.astype(np.float32, copy=False)
