"""Which axes of a value count points and which hold a point's features, and how they move.

An axis of size 1 is no axis of points: whatever it is taken for, nothing changes. The points of a
value are in the order of its axes of points, outermost first, and that order never changes: what
would change it, or mix points, is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metal4conv.mil.program import Shape
from metal4conv.shader.contents import Content, constant_content


class MixedPoints(Exception):
    """What would make a point depend on another one; the text continues "operation X …".

    `way_out` is what helps against just this.
    """

    def __init__(self, message: str, way_out: str = "") -> None:
        super().__init__(message)
        self.way_out = way_out


@dataclass(frozen=True, eq=False)
class Known:
    """A value of the program as seen from one point.

    `points` says of each axis of `shape` whether it counts points; the features, flattened over the
    other axes as C does it, are `content`. `name` is that of the program's value, `layer` that of
    the layer whose result it is but for constants and functions, as the model's author has it.
    """

    shape: Shape
    points: tuple[bool, ...]
    content: Content
    name: str = ""
    layer: str = ""

    @property
    def grid_shape(self) -> tuple[int, ...]:
        """The shape in which axes of points have size 1: that of one point's features."""
        return tuple(
            1 if is_point else int(size)
            for size, is_point in zip(self.shape, self.points, strict=True)
        )

    @property
    def grid(self) -> np.ndarray:
        """The place of each feature in `content`, shaped as `grid_shape`."""
        return np.arange(self.content.width).reshape(self.grid_shape)

    @property
    def is_uniform(self) -> bool:
        """Whether it is the same for all points."""
        return not any(self.points)

    def axis(self, axis: int) -> int:
        """An axis, counted from the front."""
        return axis % len(self.shape) if self.shape else 0


def constant_known(array: np.ndarray, name: str = "") -> Known:
    """A constant of the program."""
    return Known(array.shape, (False,) * array.ndim, constant_content(array), name)


def input_points(shape: Shape, feature_axes: Sequence[int]) -> tuple[bool, ...]:
    """Which axes of an input count points when these hold its features.

    >>> input_points((1, 3, "h", 8), (1,))
    (False, False, True, True)
    """
    return tuple(size != 1 and axis not in feature_axes for axis, size in enumerate(shape))


def reshaped_points(shape: Shape, points: Sequence[bool], wanted: Shape) -> tuple[bool, ...]:
    """Which axes count points after a reshape; `MixedPoints` where one is of points and features.

    >>> reshaped_points((1, "h", "w", 8), (False, True, True, False), ("h*w", 2, 4))
    (True, False, False)
    >>> reshaped_points((5, 8), (True, False), (40,))
    Traceback (most recent call last):
    metal4conv.shader.axes.MixedPoints: joins points with features: (5, 8) to (40,)
    """
    old = [(size, kind) for size, kind in zip(shape, points, strict=True) if size != 1]
    new = [(axis, size) for axis, size in enumerate(wanted) if size != 1]
    if not any(points):
        return (False,) * len(wanted)
    is_dynamic = any(isinstance(size, str) for size, _ in old) or any(
        isinstance(size, str) for _, size in new
    )
    kinds = dynamic_kinds(old, new) if is_dynamic else static_kinds(old, new)
    if kinds is None:
        raise MixedPoints(f"joins points with features: {as_text(shape)} to {as_text(wanted)}")
    return tuple(kinds.get(axis, False) for axis in range(len(wanted)))


def static_kinds(
    old: Sequence[tuple[int | str, bool]], new: Sequence[tuple[int, int | str]]
) -> dict[int, bool] | None:
    """Whether each new axis counts points, where all sizes are numbers; None where one mixes."""
    found: dict[int, bool] = {}
    left, right = list(old), list(new)
    while left and right:
        size, kind = left.pop(0)
        axis, other = right.pop(0)
        kinds, axes = {kind}, [axis]
        before, after = int(size), int(other)
        while before != after:
            if before < after:
                size, kind = left.pop(0)
                before *= int(size)
                kinds.add(kind)
            else:
                axis, other = right.pop(0)
                after *= int(other)
                axes.append(axis)
        if len(kinds) > 1:
            return None
        found |= dict.fromkeys(axes, kinds.pop())
    return found


def dynamic_kinds(
    old: Sequence[tuple[int | str, bool]], new: Sequence[tuple[int, int | str]]
) -> dict[int, bool] | None:
    """The same where sizes have names: features have numbers and lie before or after the points."""
    left, right = list(old), list(new)
    found: dict[int, bool] = {}
    for end in (0, -1):
        features = 1
        while left and not left[end][1]:
            features *= int(left.pop(end)[0])
        while features > 1:
            if not right or isinstance(right[end][1], str) or features % int(right[end][1]):
                return None
            axis, size = right.pop(end)
            features //= int(size)
            found[axis] = False
    if all(kind for _, kind in left):
        return found | dict.fromkeys((axis for axis, _ in right), True)
    if [size for size, _ in left] == [size for _, size in right]:
        pairs = zip(left, right, strict=True)
        return found | {axis: kind for (_, kind), (axis, _) in pairs}
    return None


def transposed_points(points: Sequence[bool], order: Sequence[int]) -> tuple[bool, ...]:
    """Which axes count points after a transpose; `MixedPoints` where points change their order.

    >>> transposed_points((False, True, True, False), (0, 3, 1, 2))
    (False, False, True, True)
    """
    moved = [axis for axis in order if points[axis]]
    if moved != sorted(moved):
        raise MixedPoints(f"puts the points into another order, {list(order)}")
    return tuple(points[axis] for axis in order)


def broadcast(values: Sequence[Known]) -> tuple[Shape, tuple[bool, ...], list[Known]]:
    """The shape of values combined element by element, its axes of points, and the values with as
    many axes; what does not vary by points has one element on those axes.

    `MixedPoints` where a point would meet another one.
    """
    rank = max(len(value.shape) for value in values)
    padded = [with_rank(value, rank) for value in values]
    points = tuple(any(value.points[axis] for value in padded) for axis in range(rank))
    for value in padded:
        if not value.is_uniform and value.points != points:
            shapes = " and ".join(as_text(item.shape) for item in values)
            raise MixedPoints(f"pairs points with other points, or with features: {shapes}")
    aligned = [without_points(value, points) for value in padded]
    shape = tuple(
        point_size([value.shape[axis] for value in padded])
        if points[axis]
        else max(int(value.shape[axis]) for value in aligned)
        for axis in range(rank)
    )
    return shape, points, aligned


def point_size(sizes: Sequence[int | str]) -> int | str:
    """The one size among those that are not 1; `MixedPoints` where there are several."""
    found = list(dict.fromkeys(size for size in sizes if size != 1))
    if len(found) > 1:
        raise MixedPoints(f"combines values of {found[0]} points and {found[1]} points")
    return found[0]


def with_rank(value: Known, rank: int) -> Known:
    """The same value with axes of size 1 in front."""
    more = rank - len(value.shape)
    shape, points = (1,) * more + value.shape, (False,) * more + value.points
    return Known(shape, points, value.content, value.name, value.layer)


def without_points(value: Known, points: Sequence[bool]) -> Known:
    """A value with one element on the axes that count points elsewhere.

    It is as it is where it counts them, too. A constant that is the same for all points loses
    those axes; `MixedPoints` where it, or something computed, is not.
    """
    if not value.is_uniform:
        return value
    axes = [
        axis for axis, is_point in enumerate(points) if is_point and value.shape[axis] not in (1,)
    ]
    if not axes:
        return value
    constant = value.content.constant
    if constant is None:
        raise MixedPoints("pairs the features of one value with the points of another")
    array = constant.reshape(value.grid_shape)
    first = array
    for axis in axes:
        first = np.take(first, [0], axis)
    if not np.array_equal(np.broadcast_to(first, array.shape), array):
        raise MixedPoints(
            f"takes a constant of shape {as_text(value.shape)} that has other numbers for each "
            "point",
            "make the constant an input of the model",
        )
    return constant_known(first)


def feature_axes_of(known: Known) -> tuple[int, ...]:
    """The axes of an output that hold its features; the last of size 1 where it has one feature.

    >>> from metal4conv.shader.contents import constant_content
    >>> feature_axes_of(Known(("n", 1), (True, False), constant_content(np.zeros(1))))
    (1,)
    """
    kept = [axis for axis, is_point in enumerate(known.points) if not is_point]
    wide = [axis for axis in kept if known.shape[axis] != 1]
    return tuple(wide or kept[-1:])


def same_points(first: Sequence[int | str], second: Sequence[int | str]) -> bool:
    """Whether two values have as many points, as far as that can be known.

    >>> same_points([4, 6], [24]), same_points(["n"], ["m"])
    (True, False)
    """
    if list(first) == list(second):
        return True
    if any(isinstance(size, str) for size in (*first, *second)):
        return False
    return math.prod(map(int, first)) == math.prod(map(int, second))


def as_text(shape: Shape) -> str:
    """A shape as errors show it.

    >>> as_text((1, "h")), as_text((3,))
    ('(1, h)', '(3,)')
    """
    inner = ", ".join(map(str, shape))
    return f"({inner},)" if len(shape) == 1 else f"({inner})"
