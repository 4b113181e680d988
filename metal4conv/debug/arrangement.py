"""How a value of the source lies in the package: its dimensions may be in another order there."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metal4conv.debug.figures import how_far


@dataclass(frozen=True)
class Arrangement:
    """What makes an array of the source one of the package: an order of dimensions, then a shape.

    Shapes differ only in dimensions of size 1.
    """

    order: tuple[int, ...]

    def apply(self, array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The source's array as the package has it."""
        return np.ascontiguousarray(array.transpose(self.order)).reshape(shape)


def arrangements(
    source: tuple[int, ...], package: tuple[int, ...], *, moves_channels: bool
) -> list[Arrangement]:
    """The arrangements that are possible between two shapes, the plain one first.

    A network of TensorFlow has its channels last, a convolution of a package first; with
    `moves_channels`, orders in which one dimension moves are tried although the plain one fits.

    >>> [found.order for found in arrangements((1, 8, 8, 3), (1, 3, 8, 8), moves_channels=True)]
    [(3, 0, 1, 2)]
    >>> arrangements((2, 3), (3, 3), moves_channels=True)
    []
    """
    plain = tuple(range(len(source)))
    fits = squeezed(source) == squeezed(package)
    if fits and not moves_channels:
        return [Arrangement(plain)]
    found: dict[tuple[int, ...], Arrangement] = {}
    for order in (plain, *moves_of_one(len(source))):
        if squeezed(tuple(source[axis] for axis in order)) == squeezed(package):
            # where only a size of 1 has moved, the elements stay where they are
            large = tuple(axis for axis in order if source[axis] != 1)
            found.setdefault(large, Arrangement(order))
    return list(found.values())


def closest_arrangement(
    source: np.ndarray, found: np.ndarray, *, moves_channels: bool
) -> Arrangement | None:
    """Of the arrangements that are possible, the one in which the values agree best."""
    possible = arrangements(source.shape, found.shape, moves_channels=moves_channels)
    if len(possible) < 2:
        return possible[0] if possible else None
    return min(possible, key=lambda place: how_far(place.apply(source, found.shape), found).rms)


def squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without sizes of 1."""
    return tuple(size for size in shape if size != 1)


def moves_of_one(rank: int) -> Iterator[tuple[int, ...]]:
    """The orders of dimensions in which one has moved, but for the plain one.

    >>> list(moves_of_one(3))
    [(1, 0, 2), (1, 2, 0), (0, 2, 1), (2, 0, 1)]
    """
    seen = {tuple(range(rank))}
    for start, end in itertools.permutations(range(rank), 2):
        order = [axis for axis in range(rank) if axis != start]
        order.insert(end, start)
        if tuple(order) not in seen:
            seen.add(tuple(order))
            yield tuple(order)
