"""What a shader evaluates: a straight line of operations on one point's vectors of features.

A point is a pixel, a texel, a sample: whatever the network sees many of at once. A vector holds
one point's features, flattened as C does it; all arithmetic between linear layers is float32.
`reading` makes a network of a MIL function, `evaluation` computes it with numpy, `source` writes
it as Metal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from metal4conv.mil.program import Shape


@dataclass(frozen=True)
class Port:
    """An input or output of the network, as the program declares it.

    `feature_axes` are the axes of `shape` (outermost first) that hold one point's features; the
    others count points, may be dynamic, and are the same for all ports but those that are
    `uniform`: one row for all points.
    """

    name: str
    dtype: str
    shape: Shape
    feature_axes: tuple[int, ...]
    uniform: bool = False

    @property
    def width(self) -> int:
        """Features of one point."""
        return math.prod(int(self.shape[axis]) for axis in self.feature_axes)

    @property
    def point_axes(self) -> tuple[int, ...]:
        """The axes that count points."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.feature_axes)

    def rows(self, array: np.ndarray) -> np.ndarray:
        """An array of the port's shape as one row a point: float32, points × width.

        >>> port = Port("x", "float32", (1, 3, "h", "w"), (1,))
        >>> port.rows(np.arange(12).reshape(1, 3, 2, 2))[0].tolist()
        [0.0, 4.0, 8.0]
        """
        moved = np.transpose(array, (*self.point_axes, *self.feature_axes))
        return np.ascontiguousarray(moved.reshape(-1, self.width), np.float32)

    def array(self, rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The reverse: rows as an array of `shape`, float32.

        >>> port = Port("x", "float32", (1, 3, "h", "w"), (1,))
        >>> port.array(np.arange(12).reshape(4, 3), (1, 3, 2, 2))[0, 0].tolist()
        [[0.0, 3.0], [6.0, 9.0]]
        """
        order = (*self.point_axes, *self.feature_axes)
        moved = rows.reshape([shape[axis] for axis in order])
        return np.ascontiguousarray(np.transpose(moved, np.argsort(order)), np.float32)


@dataclass(frozen=True)
class Vector:
    """A named vector of one point: `width` float32 numbers. Names are plain C identifiers."""

    name: str
    width: int


@dataclass(frozen=True)
class Index:
    """Which element of a vector belongs to the i-th one of an assignment.

    `offset + stride * ((i // divisor) % modulus)`, without the remainder where `modulus` is 0; or
    `table[i]` where there is a table, for what no such formula says.
    """

    offset: int = 0
    stride: int = 1
    divisor: int = 1
    modulus: int = 0
    table: tuple[int, ...] = ()

    def at(self, i: int) -> int:
        """The element for one `i`.

        >>> [Index(divisor=2).at(i) for i in range(4)], [Index(1, modulus=2).at(i) for i in (0, 3)]
        ([0, 0, 1, 1], [1, 2])
        """
        if self.table:
            return self.table[i]
        step = i // self.divisor
        return self.offset + self.stride * (step % self.modulus if self.modulus else step)


IDENTITY = Index()


@dataclass(frozen=True)
class Element:
    """An element of a vector."""

    vector: Vector
    index: Index = IDENTITY


@dataclass(frozen=True)
class Number:
    """A constant that is the same for all elements."""

    value: float


@dataclass(frozen=True, eq=False)
class Table:
    """A constant that each element has its own of: float32, one-dimensional."""

    values: np.ndarray
    index: Index = IDENTITY


@dataclass(frozen=True)
class Call:
    """A function of one element each of its arguments; the names are those of `FUNCTIONS`."""

    function: str
    arguments: tuple[Expression, ...]


Expression = Element | Number | Table | Call

FUNCTIONS: Mapping[str, int] = {
    # one argument
    "abs": 1, "acos": 1, "asin": 1, "atan": 1, "ceil": 1, "cos": 1, "cosh": 1, "erf": 1,
    "exp": 1, "exp2": 1, "floor": 1, "log": 1, "negate": 1, "reciprocal": 1, "round": 1,
    "rsqrt": 1, "sign": 1, "sin": 1, "sinh": 1, "sqrt": 1, "tan": 1, "tanh": 1, "truncate": 1,
    "relu": 1, "sigmoid": 1, "silu": 1, "gelu": 1, "gelu_tanh": 1, "gelu_sigmoid": 1,
    "softplus": 1, "softsign": 1,
    # x and a number
    "leaky_relu": 2, "elu": 2,
    # two arguments; `modulo` and `floor_divide` round towards minus infinity
    "add": 2, "subtract": 2, "multiply": 2, "divide": 2, "power": 2, "minimum": 2, "maximum": 2,
    "modulo": 2, "floor_divide": 2,
    # 1 where it holds, 0 elsewhere; the logical ones take what is not 0 as true
    "equal": 2, "not_equal": 2, "less": 2, "less_equal": 2, "greater": 2, "greater_equal": 2,
    "logical_and": 2, "logical_or": 2, "logical_xor": 2, "logical_not": 1,
    # condition, then, else; x, low, high
    "select": 3, "clamp": 3,
}  # fmt: skip
"""All functions of elements, with the number of their arguments."""


@dataclass(frozen=True, eq=False)
class Linear:
    """`result = weight · operand`, weight float32 (result's width) × (operand's width).

    The bias belongs to the assignment after it. `label` is the operation's name in the program.
    """

    result: Vector
    operand: Vector
    weight: np.ndarray
    label: str


@dataclass(frozen=True)
class Piece:
    """`result[offset + i] = expression(i)` for i from 0 to `width` - 1."""

    offset: int
    width: int
    expression: Expression


@dataclass(frozen=True)
class Assign:
    """Elements computed one by one; several pieces that follow one another are a concatenation."""

    result: Vector
    pieces: tuple[Piece, ...]
    label: str


@dataclass(frozen=True)
class Reduce:
    """`result[g]`: the sum, minimum, maximum or product of `expression(g * count + j)` over the j
    from 0 to `count` - 1.
    """

    result: Vector
    operation: str
    count: int
    expression: Expression
    label: str


Step = Linear | Assign | Reduce


@dataclass(frozen=True)
class PointProgram:
    """The steps for one point, in order. `inputs` are given, `outputs` are results of steps or
    inputs; both are in the order of the ports.
    """

    inputs: tuple[Vector, ...]
    steps: tuple[Step, ...]
    outputs: tuple[Vector, ...]

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers in their order."""
        return tuple(step for step in self.steps if isinstance(step, Linear))


@dataclass(frozen=True, eq=False)
class Convolution:
    """What a pass begins with: a convolution of one image around each pixel, stride 1.

    `weight` is float32 OIHW. `image` names an input of the network or an image of an earlier pass;
    pixels outside of it are zero. `padding` is (top, left) and what the bottom and right have is
    what keeps the size. `result` is an input of the pass's program.
    """

    result: Vector
    image: str
    weight: np.ndarray
    padding: tuple[int, int]
    label: str


@dataclass(frozen=True)
class Pass:
    """One dispatch: for each point the program, after the convolution where there is one.

    `reads` names for each input of the program, but for the convolution's result, the image or
    port it comes from; `writes` for each output the port or intermediate image that it goes to.
    """

    program: PointProgram
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    convolution: Convolution | None = None


@dataclass(frozen=True)
class Network:
    """A network that fits in shaders: one pass, or several where it has spatial convolutions."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    passes: tuple[Pass, ...]
    folded: Mapping[str, str] = field(default_factory=dict)
    """What became of operations that left no step, by their names: for `--json`."""

    @property
    def program(self) -> PointProgram:
        """The program of a network that has one pass."""
        (only,) = self.passes
        return only.program

    @property
    def is_pointwise(self) -> bool:
        """Whether each point depends on itself alone, so that any shader can evaluate it."""
        return len(self.passes) == 1 and self.passes[0].convolution is None


def leaves(expression: Expression) -> Iterator[Element | Number | Table]:
    """All that an expression is made of, from left to right."""
    if isinstance(expression, Call):
        for argument in expression.arguments:
            yield from leaves(argument)
    else:
        yield expression


def expressions(step: Step) -> tuple[Expression, ...]:
    """The expressions of a step; a linear layer has none."""
    match step:
        case Assign():
            return tuple(piece.expression for piece in step.pieces)
        case Reduce():
            return (step.expression,)
    return ()


def operands(step: Step) -> tuple[Vector, ...]:
    """The vectors that a step reads, each once."""
    if isinstance(step, Linear):
        return (step.operand,)
    found = [
        leaf.vector
        for expression in expressions(step)
        for leaf in leaves(expression)
        if isinstance(leaf, Element)
    ]
    return tuple(dict.fromkeys(found))


def grid_of_points(count: int) -> tuple[int, int]:
    """Width and height of a grid of so many points that is as little a row as it can be.

    >>> grid_of_points(24), grid_of_points(7)
    ((6, 4), (7, 1))
    """
    height = max(size for size in range(1, math.isqrt(count) + 1) if count % size == 0)
    return count // height, height
