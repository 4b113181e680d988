"""The reader: turns operations of a MIL function one by one into steps for one point.

What an operation does stands in the families (`reading_…`), as functions in the table `READERS`.
Their positional parameters are values (`Known`, several as a list), what is keyword-only is a
constant as a Python value: a number, a text, or a tuple of numbers.
"""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.program import Constant, Operation, Shape, TensorType
from metal4conv.registry import OpTable
from metal4conv.shader.axes import (
    Known,
    MixedPoints,
    broadcast,
    constant_known,
    reshaped_points,
    transposed_points,
    without_points,
)
from metal4conv.shader.contents import (
    Content,
    Draft,
    DraftAssign,
    DraftConvolution,
    DraftLinear,
    DraftReduce,
    Formula,
    applied,
    joined,
    label_of,
    operations_in,
    vector_content,
)
from metal4conv.shader.limits import ML_PASS, check_layer, check_multiply_adds, check_width
from metal4conv.shader.naming import Names, layer_name
from metal4conv.shader.network import Convolution, Vector

Reading = Callable[..., Any]
"""A function that reads an operation; it gives a `Known`, or a list of them. (Any: see above.)"""

READERS: OpTable[Reading] = OpTable("operation in a shader")

Operand = Known | float | np.ndarray
"""What element-wise arithmetic takes: a value or a constant."""

SIZES = ("shape", "reps", "begin", "end", "size")
"""Parameters that may come of the sizes of values: what they give is known from the types."""

MOST_FUSED = 12
"""Functions in one expression. The compiler joins them all the same, but who reads the source
wants names between them."""

MOST_RUNS = 8
"""Of more stretches in an output it is cheaper to compute them in any order and copy them."""


class Reader:
    """The state of reading one function: what its values are, and the steps that make them."""

    def __init__(
        self,
        types: Mapping[str, TensorType],
        constants: Mapping[str, np.ndarray],
        uses: Mapping[str, int],
        version: int,
        points: Sequence[int | str] = (),
    ) -> None:
        self.types = types
        self.constants = constants
        self.uses = uses
        self.version = version
        self.points = list(points)
        self.values: dict[str, Known] = {}
        self.sizes: set[str] = set()
        self.steps: list[Draft] = []
        self.folded: dict[str, str] = {}
        self.names = Names()
        self.operation: Operation | None = None
        self.read = 0

    # what operations are

    def read_operation(self, operation: Operation) -> None:
        """Reads one operation, whose values have been read; errors name it."""
        self.operation = operation
        if self.is_size(operation):
            self.sizes |= {value.name for value in operation.outputs}
            self.folded[operation.name] = "sizes of values, which are known"
            self.read += 1
            return
        before = len(self.steps)
        try:
            function = self.reading(operation)
            results = function(self, **self.arguments(operation, function))
        except MixedPoints as error:
            raise self.refused(
                f"operation {operation} {error}; in a shader each point is on its own",
                f"{error.way_out}, or {ML_PASS}" if error.way_out else ML_PASS,
            ) from None
        self.bind(operation, results if isinstance(results, list) else [results])
        known = self.values[operation.outputs[0].name]
        if len(self.steps) == before and known.content.is_plain:
            self.folded[operation.name] = "an order of elements, not a step"
        self.read += 1

    def reading(self, operation: Operation) -> Reading:
        """The function that reads an operation; `UnsupportedModel` where there is none."""
        if operation.type not in READERS:
            raise self.refused(f"operation {operation} is none that a shader can do", ML_PASS)
        return READERS.lookup(operation.type, self.version)

    def is_size(self, operation: Operation) -> bool:
        """Whether an operation gives sizes of values, or computes with such alone."""
        if operation.type == "shape":
            return True
        if operation.type == "fill":
            return False
        names = [name for name in operation.value_names if name not in self.constants]
        return bool(names) and all(name in self.sizes for name in names)

    def arguments(self, operation: Operation, function: Reading) -> dict[str, Any]:
        """The arguments of an operation as its function takes them. (Any: see the module.)"""
        parameters = dict(inspect.signature(function).parameters)
        parameters.pop(next(iter(parameters)))
        found = {}
        for name, given in operation.inputs.items():
            if name not in parameters:
                raise self.refused(
                    f'operation {operation} has an input "{name}" that is not known here', ML_PASS
                )
            is_value = parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
            if is_value:
                values = [self.known(item) for item in given]
                found[name] = values if name == "values" else values[0]
            else:
                found[name] = self.python_value(name, given)
        absent = [
            name
            for name, parameter in parameters.items()
            if parameter.default is parameter.empty and name not in found
        ]
        if absent:
            raise self.refused(f"operation {operation} lacks its input {', '.join(absent)}", None)
        return found

    def known(self, argument: object) -> Known:
        """The value that an input of an operation is bound to."""
        if isinstance(argument, Constant):
            return constant_known(constant_array(argument))
        assert isinstance(argument, str)
        if argument in self.constants:
            return constant_known(self.constants[argument], argument)
        if argument in self.sizes:
            raise self.refused(
                f"operation {self.operation} computes with the size of a value, which a shader "
                "does not know",
                "export the model with fixed sizes, or with the number as a constant",
            )
        return self.values[argument]

    def python_value(self, name: str, given: Sequence[object]) -> Any:
        """A constant parameter. (Any: a number, a text, a tuple; None for sizes of values.)"""
        items = [self.constant_of(name, item) for item in given]
        if any(item is None for item in items):
            return None
        if len(items) > 1:
            return tuple(item.reshape(-1)[0].item() for item in items if item is not None)
        (array,) = items
        assert array is not None
        if array.dtype == object:
            return str(array.reshape(-1)[0])
        return tuple(array.reshape(-1).tolist()) if array.ndim else array.item()

    def constant_of(self, name: str, argument: object) -> np.ndarray | None:
        """A constant argument; None for sizes of values that are known from the types."""
        if isinstance(argument, Constant):
            return constant_array(argument)
        assert isinstance(argument, str)
        if argument in self.constants:
            return self.constants[argument]
        if argument in self.sizes and name in SIZES:
            return None
        raise self.refused(
            f'operation {self.operation} computes its "{name}", which has to be a constant in a '
            "shader",
            ML_PASS,
        )

    def bind(self, operation: Operation, results: Sequence[Known]) -> None:
        """Keeps the results; what is computed and used several times becomes a vector."""
        for value, known in zip(operation.outputs, results, strict=True):
            self.check_shape(operation, value.name, known)
            named = replace(known, name=self.names.telling(value.name, known.layer, tuple(READERS)))
            if self.uses.get(value.name, 0) > 1 or functions_in(named.content) > MOST_FUSED:
                named = self.kept(named)
            self.values[value.name] = named

    def check_shape(self, operation: Operation, name: str, known: Known) -> None:
        """`UnsupportedModel` where a result has not the shape that the program declares."""
        declared = self.types[name].shape
        if len(declared) != len(known.shape) or any(
            isinstance(size, int) and isinstance(other, int) and size != other
            for size, other in zip(declared, known.shape, strict=True)
        ):
            raise self.refused(
                f"operation {operation} gives {list(known.shape)} here, the program declares "
                f"{list(declared)}",
                ML_PASS,
            )

    def output_shape(self, number: int = 0) -> Shape:
        """The shape of a result of the operation that is read."""
        assert self.operation is not None
        return self.types[self.operation.outputs[number].name].shape

    def output_dtype(self) -> str:
        """The element type of the result of the operation that is read."""
        assert self.operation is not None
        return self.types[self.operation.outputs[0].name].dtype

    def where(self, operation: Operation | None) -> str:
        """How errors name an operation and what it gives."""
        if operation is None:
            return "the network"
        return f'operation {operation}, output "{operation.outputs[0].name}"'

    def refused(self, message: str, hint: str | None) -> UnsupportedModel:
        """The error that an operation cannot become part of a shader."""
        return UnsupportedModel(message, where=self.where(self.operation), hint=hint)

    @property
    def label(self) -> str:
        """The name of the operation that is read."""
        return "" if self.operation is None else self.operation.name

    def dtype_of(self, parameter: str) -> str:
        """The element type of what an input of the operation that is read is bound to."""
        assert self.operation is not None
        (argument,) = self.operation.inputs[parameter]
        if isinstance(argument, Constant):
            return argument.type.dtype
        assert isinstance(argument, str)
        return self.types[argument].dtype

    def constant(self, value: Known, parameter: str) -> np.ndarray:
        """A value that has to be constant, in its shape."""
        found = value.content.constant
        if found is None:
            raise self.refused(
                f"operation {self.operation} has a computed {parameter}; a shader takes it from "
                "its weights, so it has to be a constant",
                f"make it a parameter of the model, or {ML_PASS}",
            )
        return found.reshape(value.grid_shape)

    # arithmetic

    def call(self, function: str, *operands: Operand) -> Known:
        """A function of elements, with broadcasting."""
        values = [self.as_known(operand) for operand in operands]
        shape, points, aligned = broadcast(values)
        grid = np.broadcast_shapes(*(value.grid_shape for value in aligned))
        contents = [
            self.spread(value, np.broadcast_to(value.grid, grid)).content for value in aligned
        ]
        computed = [value for value in values if value.content.constant is None]
        layer = computed[0].layer if len(computed) == 1 else ""
        return Known(shape, points, applied(function, contents, self.label), layer=layer)

    def as_known(self, operand: Operand) -> Known:
        """An operand as a value."""
        if isinstance(operand, Known):
            return operand
        return constant_known(np.asarray(operand, np.float64))

    def spread(self, value: Known, grid: np.ndarray) -> Known:
        """A value's elements at the places of a grid; what repeats is computed once."""
        chosen = grid.reshape(-1)
        if len(chosen) == value.content.width and np.array_equal(chosen, np.arange(len(chosen))):
            return value
        if not value.content.is_plain and len(np.unique(chosen)) < len(chosen):
            value = self.kept(value)
        return replace(value, content=value.content.gather(chosen))

    def moved(self, value: Known, grid: np.ndarray, shape: Shape, points: Sequence[bool]) -> Known:
        """A value of another shape, whose features are those at the places of a grid."""
        found = self.spread(value, grid)
        return Known(shape, tuple(points), found.content, value.name)

    def reshaped(self, value: Known, shape: Shape) -> Known:
        """The same elements in another shape."""
        points = reshaped_points(value.shape, value.points, shape)
        return replace(value, shape=shape, points=points)

    def transposed(self, value: Known, order: Sequence[int]) -> Known:
        """The axes in another order."""
        axes = [value.axis(axis) for axis in order]
        points = transposed_points(value.points, axes)
        shape = tuple(value.shape[axis] for axis in axes)
        return self.moved(value, value.grid.transpose(axes), shape, points)

    def concatenated(self, values: Sequence[Known], axis: int) -> Known:
        """Values one after the other along an axis of features."""
        axis = values[0].axis(axis)
        if any(value.points[axis] for value in values):
            raise MixedPoints("joins points of several values")
        points = tuple(
            any(value.points[k] for value in values) for k in range(len(values[0].shape))
        )
        contents, grids, start = [], [], 0
        for value in values:
            if not value.is_uniform and value.points != points:
                raise MixedPoints("joins points with features of another value")
            part = without_points(value, points)
            contents.append(part.content)
            grids.append(part.grid + start)
            start += part.content.width
        grid = np.concatenate(grids, axis)
        shape = tuple(
            grid.shape[k] if not points[k] else next(v.shape[k] for v in values if v.points[k])
            for k in range(len(points))
        )
        return Known(shape, points, joined(contents).gather(grid))

    def reduced(
        self, operation: str, value: Known, axes: Sequence[int], keep: bool = True
    ) -> Known:
        """The sum, minimum, maximum or product over axes of features."""
        over = sorted({value.axis(axis) for axis in axes})
        for axis in over:
            if value.points[axis]:
                size = value.shape[axis]
                reason = f", as its size {size} is dynamic" if isinstance(size, str) else ""
                raise MixedPoints(
                    f"reduces axis {axis} of its input, which counts points{reason}",
                    "compute it before the shader and make it an input of one row",
                )
        kept = [axis for axis in range(len(value.shape)) if axis not in over]
        count = math.prod(value.grid_shape[axis] for axis in over)
        shape = tuple(1 if axis in over else size for axis, size in enumerate(value.shape))
        points = value.points
        if not keep:
            shape = tuple(value.shape[axis] for axis in kept)
            points = tuple(value.points[axis] for axis in kept)
        ordered = value.content.gather(value.grid.transpose([*kept, *over]))
        if count == 1:
            return Known(shape, points, ordered, value.name)
        if len(ordered.parts) > 1:
            ordered = self.settled(ordered, value.name)
        result = self.vector(f"{value.name or self.label}_{operation}", ordered.width // count)
        self.steps.append(
            DraftReduce(result, operation, count, ordered.parts[0].formula, self.label)
        )
        return Known(shape, points, vector_content(result))

    def contracted(
        self, value: Known, axis: int, matrix: np.ndarray, bias: np.ndarray | None = None
    ) -> Known:
        """`matrix · value` along an axis of features, with bias; the matrix is outputs × inputs.

        What stands beside the axis has the same matrix each: a block-diagonal one for all.
        """
        axis = value.axis(axis)
        if value.points[axis]:
            raise MixedPoints(f"multiplies axis {axis} of its input, which counts points")
        grid = value.grid_shape
        before, after = math.prod(grid[:axis]), math.prod(grid[axis + 1 :])
        outputs, inputs = matrix.shape
        check_width(before * inputs * after, self.where(self.operation))
        check_layer(before * outputs * after, self.where(self.operation))
        check_multiply_adds(
            before * inputs * after * before * outputs * after, self.where(self.operation)
        )
        full = np.kron(np.eye(before), np.kron(matrix, np.eye(after)))
        shape = (*value.shape[:axis], outputs, *value.shape[axis + 1 :])
        layer = "" if self.operation is None else layer_name(self.operation)
        found = Known(shape, value.points, self.linear(value, full, layer), layer=layer)
        if bias is None or not bias.any():
            return found
        return self.call("add", found, bias.reshape(-1, *[1] * (len(shape) - axis - 1)))

    def linear(self, value: Known, weight: np.ndarray, layer: str = "") -> Content:
        """The result of a linear layer; its operand becomes a vector where it is none."""
        operand, permuted = self.operand_of(value, weight)
        name = f"{layer}_product" if layer else self.result_name("product")
        result = self.vector(name, len(weight))
        self.steps.append(DraftLinear(result, operand, permuted, self.label))
        return vector_content(result)

    def operand_of(self, value: Known, weight: np.ndarray) -> tuple[Vector, np.ndarray]:
        """A value as one vector, and the weight with its inputs (axis 1) in that one's order."""
        content = value.content
        if not is_permutation(content):
            content = self.settled(content, value.name)
        only = content.only
        assert only is not None
        return only.vector, np.take(weight, np.argsort(only.places), axis=1)

    def convolved(self, value: Known, weight: np.ndarray, template: Convolution) -> Content:
        """The result of a spatial convolution of an image whose pixels hold the value."""
        operand, permuted = self.operand_of(value, weight)
        self.steps.append(
            DraftConvolution(template.result, operand, permuted, self.label, template)
        )
        return vector_content(template.result)

    # vectors

    def kept(self, value: Known, suffix: str = "") -> Known:
        """A value whose arithmetic is done: elements of a vector and constants. A suffix names it
        after the operation that is read, where it has no name of its own.
        """
        if value.content.is_plain:
            return value
        name = value.name or self.result_name(suffix or "inner")
        return replace(value, content=self.settled(value.content, name))

    def settled(self, content: Content, name: str) -> Content:
        """A content as elements of one vector, which holds its parts one after the other."""
        result = self.vector(name or self.result_name("inner"), content.width)
        formulas = tuple(part.formula for part in content.parts)
        label = label_of(formulas[-1], name or self.label) if len(formulas) == 1 else name
        self.steps.append(DraftAssign(result, formulas, label or self.label))
        places = np.empty(content.width, np.intp)
        start = 0
        for part in content.parts:
            places[part.places] = start + np.arange(len(part.places))
            start += len(part.places)
        return Content(content.width, vector_content(result).gather(places).parts)

    def exact_vector(self, content: Content, name: str) -> Vector:
        """A vector that holds a content in its order."""
        only = content.only
        if only is not None and content.is_whole(only.vector):
            return only.vector
        runs = runs_of(content)
        if len(runs) > MOST_RUNS and not content.is_plain:
            runs = runs_of(self.settled(content, f"{name}_parts"))
        result = self.vector(name, content.width)
        label = label_of(runs[0], name) if len(runs) == 1 else name
        self.steps.append(DraftAssign(result, tuple(runs), label))
        return result

    def vector(self, name: str, width: int) -> Vector:
        """A new vector, named as close to this as there is a free name in C for it."""
        check_width(width, self.where(self.operation))
        return Vector(self.names.take(name), width)

    def result_name(self, suffix: str = "") -> str:
        """A name after the first result of the operation that is read."""
        if self.operation is None:
            return suffix or "value"
        name = self.operation.outputs[0].name
        return f"{name}_{suffix}" if suffix else name


def constant_array(constant: Constant) -> np.ndarray:
    """A constant of the program as numpy has it; bfloat16, which it has not, as float32."""
    if constant.type.dtype == "bfloat16":
        return (constant.value.astype(np.uint32) << 16).view(np.float32)
    return constant.value


def functions_in(content: Content) -> int:
    """The number of functions in the longest formula of a content."""
    return max(sum(1 for _ in operations_in(part.formula)) for part in content.parts)


def is_permutation(content: Content) -> bool:
    """Whether a content is one vector, all of it, in whatever order."""
    only = content.only
    return only is not None and np.array_equal(np.sort(only.places), np.arange(only.vector.width))


def runs_of(content: Content) -> list[Formula]:
    """The formulas of a content in the order of its elements, each for a stretch of them."""
    owner, local = content.owners()
    borders = [0, *(np.flatnonzero(np.diff(owner)) + 1).tolist(), content.width]
    return [
        content.parts[int(owner[start])].formula.take(local[start:end])
        for start, end in itertools.pairwise(borders)
    ]
