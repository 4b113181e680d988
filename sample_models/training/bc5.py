"""BC5 textures, what normals are usually stored in: x and y of 4×4 texels in 16 bytes.

Each channel of a block has two ends of 8 bits, six numbers between them, and a choice of these
eight for each texel. z is what makes the length 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training import dds

REFINEMENTS = 4
SHARES = np.array([0, 7, 1, 2, 3, 4, 5, 6], np.float32) / 7
"""How much of the second end each choice has, in the format's order."""

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


def through_bc5(normals: Floats) -> Floats:
    """What is left of H×W×3 normals of unit length when a texture stores them as BC5.

    Not decoded by Pillow, which drops fractions that a GPU keeps.
    """
    blocks = dds.blocks_of((normals[:, :, :2] / 2 + 0.5) * 255)
    channels = [chosen_numbers(*fitted(blocks[:, :, channel])) for channel in (0, 1)]
    x, y = np.moveaxis(dds.texels_of(np.stack(channels, 2), normals.shape[1]), 2, 0) / 255 * 2 - 1
    z = np.sqrt(np.maximum(1 - x * x - y * y, 0))
    return np.stack([x, y, z], axis=2)


def encoded(pixels: Floats) -> bytes:
    """The blocks of H×W×2 numbers from 0 to 255, row by row; both sizes are multiples of 4."""
    blocks = dds.blocks_of(pixels)
    halves = [packed(*fitted(blocks[:, :, channel])) for channel in (0, 1)]
    return np.concatenate(halves, axis=1).tobytes()


def fitted(numbers: Floats) -> tuple[Integers, Integers]:
    """For n blocks of 16 numbers: ends (n×2, the first the larger) and choices (n×16).

    Begins at the extremes; then ends and choices take turns, the ends by least squares.
    """
    best_error = np.full(len(numbers), np.inf, np.float32)
    best_ends = np.zeros((len(numbers), 2), np.int64)
    best_choices = np.zeros((len(numbers), 16), np.int64)
    ends = np.stack([numbers.max(axis=1), numbers.min(axis=1)], axis=1)
    for _ in range(REFINEMENTS):
        rounded = in_order(np.clip(np.round(ends), 0, 255))
        choices, error = nearest_choices(numbers, rounded)
        better = error < best_error
        best_error[better] = error[better]
        best_ends[better] = rounded[better].astype(np.int64)
        best_choices[better] = choices[better]
        ends = least_squares_ends(numbers, best_choices, best_ends)
    return best_ends, best_choices


def in_order(ends: Floats) -> Floats:
    """Ends of which the first is larger: equal or turned ones would have other choices."""
    high, low = ends.max(axis=1), ends.min(axis=1)
    high = np.where(high == low, np.minimum(high + 1, 255), high)
    return np.stack([high, np.minimum(low, high - 1)], axis=1)


def palettes(ends: Floats) -> Floats:
    """The eight numbers that a block's texels choose from, n×8."""
    return ends[:, :1] + (ends[:, 1:] - ends[:, :1]) * SHARES


def nearest_choices(numbers: Floats, ends: Floats) -> tuple[Integers, Floats]:
    """Each texel's nearest number (n×16), and the blocks' squared errors."""
    squares = (numbers[:, :, None] - palettes(ends)[:, None, :]) ** 2
    choices = squares.argmin(axis=2)
    return choices, np.take_along_axis(squares, choices[:, :, None], axis=2).sum(axis=(1, 2))


def least_squares_ends(numbers: Floats, choices: Integers, ends: Integers) -> Floats:
    """The ends that fit the numbers best with their choices; those given where all are equal."""
    second = SHARES[choices]
    first = 1 - second
    a, b, d = (first * first).sum(1), (first * second).sum(1), (second * second).sum(1)
    determinant = a * d - b * b
    solvable = determinant > 1e-3
    scale = np.where(solvable, determinant, 1)
    left, right = (first * numbers).sum(axis=1), (second * numbers).sum(axis=1)
    found = np.stack([d * left - b * right, a * right - b * left], axis=1) / scale[:, None]
    return np.where(solvable[:, None], found, ends).astype(np.float32)


def chosen_numbers(ends: Integers, choices: Integers) -> Floats:
    """What the texels are decoded to, n×16."""
    return np.take_along_axis(palettes(ends.astype(np.float32)), choices, axis=1)


def packed(ends: Integers, choices: Integers) -> NDArray[np.uint8]:
    """The eight bytes of each block's channel: two ends, then 3 bits a texel, lowest first."""
    bits = ((choices[:, :, None] >> np.arange(3)) & 1).reshape(len(ends), -1).astype(np.uint8)
    places = np.packbits(bits, axis=1, bitorder="little")
    return np.concatenate([ends.astype(np.uint8), places], axis=1)
