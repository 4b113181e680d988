"""Which axes of inputs may hold features, and what to say of a function that no choice fits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.program import Shape
from metal4conv.shader.axes import input_points
from metal4conv.shader.convolution_reading import NoImage

MOST_READINGS = 100
"""Of several inputs each has several readings; more combinations than these are not plausible."""

FeatureAxes = tuple[int, ...]


def readings(inputs: Mapping[str, Shape]) -> Iterator[dict[str, FeatureAxes]]:
    """Which axes of each input, of these shapes, may hold features; the most plausible first."""
    shapes = list(inputs.values())
    is_alone = len(shapes) == 1 or all(len(shape) == 1 for shape in shapes)
    choices = [plausible_axes(shape, is_alone=is_alone) for shape in shapes]
    numbers = itertools.product(*(range(len(choice)) for choice in choices))
    ordered = sorted(itertools.islice(numbers, 10 * MOST_READINGS), key=sum)
    for picks in ordered[:MOST_READINGS]:
        axes = (choice[pick] for choice, pick in zip(choices, picks, strict=True))
        yield dict(zip(inputs, axes, strict=True))


def plausible_axes(shape: Shape, *, is_alone: bool = True) -> list[FeatureAxes]:
    """The axes that may hold an input's features: one, the shorter the more plausible; several
    behind the points; none; all where another input may count the points. One axis alone rather
    counts points than not.

    >>> plausible_axes((1, 3, "h", "w"))
    [(1,), ()]
    >>> plausible_axes((3, 3), is_alone=False)
    [(1,), (0,), (0, 1), ()]
    >>> plausible_axes((9,)), plausible_axes((9,), is_alone=False)
    ([(), (0,)], [(0,), ()])
    """
    rank = len(shape)
    fixed = [axis for axis, size in enumerate(shape) if isinstance(size, int)]
    single = [axis for axis in (rank - 1, 1, 0) if axis in fixed and shape[axis] != 1]
    if rank > 2:
        single.sort(key=lambda axis: int(shape[axis]))
    ones = [axis for axis in (rank - 1, 1) if axis in fixed and shape[axis] == 1]
    suffixes = [tuple(range(first, rank)) for first in range(rank - 2, -1, -1)]
    if is_alone and suffixes and shape[0] != 1:
        suffixes.pop()
    wanted: list[FeatureAxes] = [(axis,) for axis in (*single, *ones)]
    wanted += [axes for axes in suffixes if all(axis in fixed for axis in axes)]
    wanted.insert(0 if is_alone and rank == 1 else len(wanted), ())
    found: dict[tuple[bool, ...], FeatureAxes] = {}
    for axes in wanted:
        found.setdefault(input_points(shape, axes), axes)
    return list(found.values())


class OtherPoints(UnsupportedModel):
    """Inputs that count other points, as far as this reading takes their axes for points."""


class UniformOutput(UnsupportedModel):
    """An output that is the same for all points."""


def most_telling(failures: Sequence[tuple[int, UnsupportedModel]]) -> UnsupportedModel:
    """What to say of a function that no reading fits: the error of the reading that came furthest,
    given with the number of operations it had read.

    That inputs have other points is only said where it is plausible, and the way out of it, to take
    all of an input's axes for features, leads to an output without points.
    """
    first = failures[0][1]
    others = [row for row in failures if not isinstance(row[1], (OtherPoints, NoImage))]
    best = max(others or failures, key=lambda failure: failure[0])[1]
    is_mismatch = isinstance(first, OtherPoints) and isinstance(best, UniformOutput)
    return first if is_mismatch else best
