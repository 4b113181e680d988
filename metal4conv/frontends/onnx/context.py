"""What operators are lowered with: shapes, broadcasting and indices on top of the emitter."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from metal4conv.frontends.onnx.emitter import Emitter, Number, Operand
from metal4conv.frontends.onnx.sizes import Decider, Undecided
from metal4conv.frontends.onnx.value import Size, Value, Var, is_static

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


@dataclass(frozen=True)
class FlatSource:
    """What a value of more dimensions than Core ML takes was reshaped from, and to which sizes."""

    value: Value
    source: Value
    rows: tuple[int | Value, ...]


@dataclass
class Context(Emitter):
    """The program under construction, as operators see it."""

    lower_subgraph: Callable[[Any, Sequence[Value]], list[Value]] | None = None
    """Lowers a subgraph with the given inputs into the current block; set by the graph's walker."""
    dimension_names: Mapping[Size, str] = field(default_factory=dict)
    """The names of the dynamic dimensions, by their symbols."""
    flat_sources: dict[int, FlatSource] = field(default_factory=dict)
    """By the identity of variables, which are kept alive with it."""

    def check_size(self, x: Value, axis: int, wanted: Size, what: str) -> None:
        """`UnsupportedModel` for a dynamic dimension that a constant, which `what` names, fixes."""
        name = self.dimension_names.get(x.shape[axis])
        if name is not None and is_static((wanted,)):
            raise self.unsupported(
                f'dimension "{name}" is dynamic, and must be {wanted} for {what}',
                hint=f"give it as a number: --dim {name}={wanted}",
            )

    # indices -------------------------------------------------------------------------------

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
        if is_static(x.shape) and math.prod(x.shape) == 1:
            # coremltools takes the product of no sizes for a float
            numbers = [1 if number == -1 else number for number in numbers]
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
