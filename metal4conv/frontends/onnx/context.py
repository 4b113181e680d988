"""What operators are lowered with: emitting MIL operations on values, and reading constants."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.names import clean_name
from metal4conv.frontends.onnx.sizes import Decider, Undecided, infer_sizes
from metal4conv.frontends.onnx.value import (
    MIL_DTYPE,
    NARROW,
    ONNX_DTYPE,
    Size,
    Value,
    Var,
    is_static,
)

Number = int | float | bool
Operand = Value | Number | np.generic | np.ndarray

INT32 = np.iinfo(np.int32)
MOVING = frozenset(
    ("gather", "gather_along_axis", "gather_nd", "scatter", "scatter_along_axis", "scatter_nd")
)
"""Operations that move elements and leave out bool, which then travels as int32."""

REARRANGING = frozenset(
    (
        "expand_dims",
        "gather",
        "gather_along_axis",
        "reshape",
        "slice_by_index",
        "squeeze",
        "tile",
        "transpose",
    )
)
"""Operations whose result has no elements but those of `x`."""


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
class Context:
    """The program under construction, as operators see it."""

    target: int
    """The iOS version of the target."""
    place: Place = field(default_factory=Place)
    positive: frozenset[Any] = frozenset()
    """Symbols of sizes that are at least 1: those of the model's inputs."""
    lower_subgraph: Callable[[Any, Sequence[Value]], list[Value]] | None = None
    """Lowers a subgraph with the given inputs into the current block; set by the graph's walker."""
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

    def wrap_indices(self, indices: Value, sizes: Value) -> Value:
        """Indices as MIL takes them: ONNX's negative ones count from the end.

        `sizes` is the size of the axis, or a vector of sizes for the last axis of the indices.
        """
        array, limits = indices.array, sizes.array
        if array is not None and limits is not None:
            outside = (array < -limits) | (array >= limits)
            if outside.any():
                raise self.unsupported(
                    f"index {array[outside][0]} is out of range for {limits} elements"
                )
            wrapped = np.where(array < 0, array + limits, array)
            return Value(indices.dtype, known=wrapped.astype(indices.dtype))
        if self.is_never_negative(indices):
            return indices
        moved = self.add(indices, sizes.with_dtype(indices.dtype))
        return self.where(self.less(indices, 0), moved, indices)

    def is_never_negative(self, value: Value) -> bool:
        """Whether a value is no number below 0: computed from sizes and constants, or a place."""
        if value.sizes is None:
            return holds_places(value.var)
        decide = Decider(self.positive)
        try:
            return all(decide.is_positive(size + 1) for size in value.sizes.reshape(-1))
        except Undecided:
            return False

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

    def where(self, condition: Value, x: Operand, y: Operand) -> Value:
        """`x` where the condition holds, else `y`; all three broadcast.

        MIL's `select` takes equal shapes or scalars, so operands are brought to the result's.
        """
        if not isinstance(x, Value):
            x = self.value(x, y.dtype if isinstance(y, Value) else None)
        y = self.value(y, x.dtype)
        condition, x, y = self.broadcast_together(condition, x, y)
        if condition.rank and not x.rank and not y.rank:
            # coremltools takes the result's shape from `a` and `b` alone
            x = self.filled_like(condition, x)
        result: Value = self.emit("select", cond=condition, a=x, b=y, dtype=x.dtype)
        return result

    def filled_like(self, x: Value, number: Value) -> Value:
        """A tensor of equal elements in the shape of a value."""
        array = self.constant(number, "a number")
        if self.target < 16 or is_static(x.shape):
            return self.filled(self.shape(x), array.item(), number.dtype)
        held = self.held_constant(array, number.dtype)[()]
        result: Value = self.emit("fill_like", ref_tensor=x, value=held, dtype=number.dtype)
        return result

    def unary(self, operation: str, x: Value, **inputs: Any) -> Value:
        """A MIL operation on one tensor that keeps its ONNX dtype. (Any: see emit.)"""
        result: Value = self.emit(operation, x=x, dtype=x.dtype, **inputs)
        return result

    # shapes --------------------------------------------------------------------------------

    def shape(self, x: Value) -> Value:
        """The shape of a value, int64 with one element an axis; constant if every size is."""
        if is_static(x.shape):
            return self.value(np.array(x.shape, np.int64))
        result: Value = self.emit("shape", x=x, dtype="int64")
        return result

    def size(self, x: Value, axis: int) -> Value:
        """One size of a value as an int64 scalar."""
        size = x.shape[axis]
        if isinstance(size, (int, np.integer)):
            return self.value(np.int64(size))
        return self.element(self.shape(x), axis % x.rank)

    def element(self, vector: Value, index: int) -> Value:
        """One element of a vector as a scalar."""
        array = vector.array
        if array is not None:
            return Value(vector.dtype, known=np.asarray(array[index]))
        result: Value = self.emit(
            "slice_by_index",
            x=vector,
            begin=[index],
            end=[index + 1],
            squeeze_mask=[True],
            dtype=vector.dtype,
        )
        return result

    def vector(self, elements: Sequence[int | Value]) -> Value:
        """An int64 vector of numbers and scalars."""
        values = [self.value(item, "int64") for item in elements]
        arrays = [item.array for item in values]
        if all(array is not None for array in arrays):
            return self.value(np.array([int(np.asarray(item).item()) for item in arrays], np.int64))
        rows = [item if item.rank else self.expand_dims(item, [0]) for item in values]
        return self.concat(rows, 0).with_dtype("int64")

    def reshape(self, x: Value, shape: Value | Sequence[int | Value]) -> Value:
        """The elements in another shape; sizes are numbers or int64 scalars, at most one is -1."""
        wanted = shape if isinstance(shape, Value) else self.vector(shape)
        sizes = wanted.sizes
        if sizes is None:
            result: Value = self.emit("reshape", x=x, shape=wanted, dtype=x.dtype)
            return result
        numbers = [int(size) if is_static((size,)) else None for size in sizes.reshape(-1)]
        if numbers.count(None) == 1 and -1 not in numbers and 0 not in numbers:
            numbers[numbers.index(None)] = -1
        if None in numbers:
            result = self.emit("reshape", x=x, shape=wanted, dtype=x.dtype)
        else:
            result = self.emit("reshape", x=x, shape=np.array(numbers, np.int32), dtype=x.dtype)
        keep_shape(result, x, list(sizes.reshape(-1)))
        return result

    def expand_dims(self, x: Value, axes: Sequence[int]) -> Value:
        """The value with axes of size 1 at these places of the result."""
        if x.array is not None:
            return Value(x.dtype, known=np.expand_dims(x.array, tuple(axes)))
        result: Value = self.emit("expand_dims", x=x, axes=list(axes), dtype=x.dtype)
        return result

    def squeeze(self, x: Value, axes: Sequence[int]) -> Value:
        """The value without axes of size 1."""
        if not axes:
            return x
        if x.array is not None:
            return Value(x.dtype, known=np.squeeze(x.array, tuple(axes)))
        result: Value = self.emit("squeeze", x=x, axes=list(axes), dtype=x.dtype)
        return result

    def transpose(self, x: Value, perm: Sequence[int]) -> Value:
        """The value with its axes in another order."""
        if list(perm) == list(range(len(perm))):
            return x
        result: Value = self.emit("transpose", x=x, perm=list(perm), dtype=x.dtype)
        return result

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        """Values one behind the other along an axis."""
        if len(values) == 1:
            return values[0]
        is_bool = values[0].dtype == "bool"
        parts = [self.cast(item, "int32") for item in values] if is_bool else list(values)
        result: Value = self.emit(
            "concat", values=parts, axis=axis, dtype="int32" if is_bool else values[0].dtype
        )
        if not is_static(result.shape):
            set_shape(result, joined_shape([item.shape for item in values], axis))
        return self.cast(result, "bool") if is_bool else result

    def slice_axis(
        self, x: Value, axis: int, begin: int | Value = 0, end: int | Value | None = None
    ) -> Value:
        """The elements from `begin` to before `end` along one axis; both count from the front,
        or from the end when they are negative numbers.
        """
        axis = axis % x.rank
        begins: list[int | Value] = [0] * x.rank
        ends: list[int | Value] = [0] * x.rank
        begins[axis], ends[axis] = begin, 0 if end is None else end
        keep = [place != axis for place in range(x.rank)]
        result: Value = self.emit(
            "slice_by_index",
            x=x,
            begin=self.vector(begins),
            end=self.vector(ends),
            begin_mask=keep,
            end_mask=[kept or (end is None and place == axis) for place, kept in enumerate(keep)],
            dtype=x.dtype,
        )
        return result

    def range(self, start: Operand, end: Operand, step: Operand = 1, dtype: str = "int64") -> Value:
        """Numbers from `start` to before `end`."""
        parts = [self.value(item, dtype) for item in (start, end, step)]
        arrays = [item.array for item in parts]
        if all(array is not None for array in arrays):
            first, last, width = (array.item() for array in arrays if array is not None)
            return Value(dtype, known=np.arange(first, last, width).astype(dtype))
        result: Value = self.emit(
            "range_1d", start=parts[0], end=parts[1], step=parts[2], dtype=dtype
        )
        if arrays[2] is not None and arrays[2] != 1 and not is_static(result.shape):
            # coremltools does not round the quotient up
            import sympy

            set_shape(result, [sympy.ceiling(size) for size in result.shape])
        return result

    def filled(self, shape: Value | Sequence[int | Value], number: Number, dtype: str) -> Value:
        """A tensor of equal elements."""
        wanted = shape if isinstance(shape, Value) else self.vector(shape)
        scalar = self.held_constant(np.asarray(number).astype(dtype), dtype)
        if wanted.array is not None and math.prod(wanted.array.tolist()) < 1024:
            return Value(dtype, known=np.full(wanted.array.tolist(), number).astype(dtype))
        result: Value = self.emit("fill", shape=wanted, value=scalar[()], dtype=dtype)
        return result

    def broadcast_shape(self, *values: Value) -> Value:
        """The shape that the values have together, as an int64 vector."""
        rank = max(item.rank for item in values)
        sizes: list[int | Value] = []
        for axis in range(-rank, 0):
            candidates = [item for item in values if item.rank >= -axis]
            sizes.append(self.broadcast_size(candidates, axis))
        return self.vector(sizes)

    def broadcast_size(self, values: Sequence[Value], axis: int) -> int | Value:
        """The common size along one axis."""
        found = list(dict.fromkeys(item.shape[axis] for item in values))
        others = [size for size in found if size != 1]
        fixed = [size for size in others if is_static((size,))]
        if fixed:
            return int(fixed[0])
        if not others:
            return 1
        dynamic = [next(item for item in values if item.shape[axis] == size) for size in others]
        result = self.size(dynamic[0], axis)
        for item in dynamic[1:]:
            result = self.maximum(result, self.size(item, axis))
        return result

    def broadcast_together(self, *values: Value) -> tuple[Value, ...]:
        """The values, each with the shape that they have together; single numbers stay."""
        shapes = {item.shape for item in values if item.rank}
        if len(shapes) <= 1 and all(item.rank or item.is_constant for item in values):
            return values
        if len(shapes) <= 1 and not shapes:
            return values
        shape = self.broadcast_shape(*values)
        return tuple(self.broadcast(item, shape) for item in values)

    def broadcast(self, x: Value, shape: Value) -> Value:
        """The value repeated along its axes of size 1 until it has `shape` (int64, a vector).

        Where both have a size, that of `shape` may also be 1 (as ONNX's Expand allows).
        """
        sizes = shape.sizes
        rank = int(shape.shape[0])
        if sizes is not None and x.shape == tuple(sizes):
            return x
        if rank < x.rank:
            padded: list[int | Value] = [1] * (x.rank - rank)
            shape = self.vector([*padded, *(self.element(shape, axis) for axis in range(rank))])
            return self.broadcast(x, shape)
        if rank > x.rank:
            x = self.expand_dims(x, list(range(rank - x.rank)))
        repeats = [self.repeats(x, shape, axis) for axis in range(rank)]
        if all(isinstance(count, int) and count == 1 for count in repeats):
            return x
        is_wide = x.dtype != "bool"
        x_ = x if is_wide else self.cast(x, "int32")
        result: Value = self.emit("tile", x=x_, reps=self.vector(repeats), dtype=x_.dtype)
        if sizes is not None:
            known = [size if own == 1 else own for size, own in zip(sizes, x.shape, strict=True)]
            set_shape(result, known)
        return result if is_wide else self.cast(result, "bool")

    def repeats(self, x: Value, shape: Value, axis: int) -> int | Value:
        """How often a value is repeated along an axis to have the size in `shape`."""
        own = x.shape[axis]
        wanted = None if shape.sizes is None else shape.sizes[axis]
        if wanted is not None and (wanted == 1 or wanted == own):
            return 1
        if own == 1:
            if isinstance(wanted, (int, np.integer)):
                return int(wanted)
            return self.element(shape, axis)
        if is_static((own,)):
            return 1
        # a dynamic size may be 1 or already the wanted one
        size = self.element(shape, axis)
        return self.floor_div(self.maximum(size, self.size(x, axis)), self.size(x, axis))


def holds_places(var: Var) -> bool:
    """Whether a variable holds places that an operation has found, or some of a range from 0."""
    while var.op is not None and var.op.op_type in REARRANGING:
        var = var.op.x
    if var.op is None:
        return False
    if var.op.op_type == "range_1d":
        start, step = var.op.start.val, var.op.step.val
        return start is not None and step is not None and bool(start >= 0 and step > 0)
    if var.op.op_type == "topk":
        return bool(var is var.op.outputs[-1])
    return var.op.op_type in ("argsort", "non_zero", "reduce_argmax", "reduce_argmin", "shape")


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


def set_shape(value: Value, sizes: Sequence[Size]) -> None:
    """Tells coremltools the sizes of a variable that its own inference does not find."""
    from coremltools.converters.mil.mil import types

    if value.var is not None and types.is_tensor(value.var.sym_type):
        value.var._sym_type = types.tensor(value.var.dtype, tuple(sizes))


def joined_shape(shapes: Sequence[tuple[Size, ...]], axis: int) -> list[Size]:
    """The shape of tensors one behind the other; where one of them has a number, it counts.

    >>> joined_shape([(2, 3), (2, 4)], -1)
    [2, 7]
    """
    columns = [
        next((size for size in sizes if is_static((size,))), sizes[0])
        for sizes in zip(*shapes, strict=True)
    ]
    columns[axis] = sum(shape[axis] for shape in shapes)
    return columns


def keep_shape(result: Value, x: Value, sizes: list[Size]) -> None:
    """Tells coremltools the sizes of a reshaped value, the one that is -1 among them."""
    if is_static(result.shape):
        return
    if sizes.count(-1) == 1:
        others = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = math.prod(x.shape) / others
    if len(sizes) == result.rank and -1 not in sizes and 0 not in sizes:
        set_shape(result, sizes)
