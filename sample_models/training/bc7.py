"""BC7 textures, to compare a neural material with: blocks of 4×4 texels in 16 bytes.

The encoder knows one of the format's eight modes, number 6: a line in RGBA whose ends have 7 bits
a channel and a shared lowest bit, and a place on it of 4 bits for each texel. Encoders that try
all modes get further, above all in blocks with two materials. Pillow is the decoder.
"""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import NDArray

from training import dds

WEIGHTS = np.array([0, 4, 9, 13, 17, 21, 26, 30, 34, 38, 43, 47, 51, 55, 60, 64], np.float32)
REFINEMENTS = 4

Floats = NDArray[np.float32]
Integers = NDArray[np.int64]


def through_bc7(texels: Floats) -> Floats:
    """What is left of H×W×3 numbers from 0 to 1 when a texture stores them as BC7."""
    pixels = np.round(np.clip(texels, 0, 1) * 255).astype(np.uint8)
    opaque = np.concatenate([pixels, np.full((*pixels.shape[:2], 1), 255, np.uint8)], axis=2)
    height, width = pixels.shape[:2]
    return dds.decoded(dds.dds_file("BC7", encoded(opaque), width, height))[:, :, :3] / 255


def encoded(pixels: NDArray[np.uint8]) -> bytes:
    """The blocks of H×W×4 pixels, row by row; both sizes are multiples of 4."""
    return packed(*fitted(dds.blocks_of(pixels.astype(np.float32))))


def fitted(texels: Floats) -> tuple[Integers, Integers, Integers]:
    """For n blocks of 16×4: ends (n×2×4, 8 bits), their lowest bits (n×2), places (n×16).

    Begins at the ends of the block's principal axis; then ends and places take turns, the ends by
    least squares, as long as it helps.
    """
    count = len(texels)
    best_error = np.full(count, np.inf, np.float32)
    best_ends = np.zeros((count, 2, 4), np.int64)
    best_bits = np.zeros((count, 2), np.int64)
    best_places = np.zeros((count, 16), np.int64)
    ends = ends_of_axis(texels)
    for _ in range(REFINEMENTS):
        for bits in itertools.product((0, 1), repeat=2):
            lowest = np.array(bits, np.float32)[None, :, None]
            rounded = np.clip(np.round((ends - lowest) / 2), 0, 127) * 2 + lowest
            places, error = nearest_places(texels, rounded)
            better = error < best_error
            best_error[better] = error[better]
            best_ends[better] = rounded[better].astype(np.int64)
            best_bits[better] = bits
            best_places[better] = places[better]
        ends = least_squares_ends(texels, best_places, best_ends)
    return best_ends, best_bits, best_places


def ends_of_axis(texels: Floats) -> Floats:
    """The texels' extent along their principal axis, n×2×4."""
    mean = texels.mean(axis=1, keepdims=True)
    centred = texels - mean
    _, axes = np.linalg.eigh(centred.transpose(0, 2, 1) @ centred)
    axis = axes[:, :, -1:]  # of the largest eigenvalue
    along = (centred @ axis)[:, :, 0]
    extent = np.stack([along.min(axis=1), along.max(axis=1)], axis=1)
    return mean + extent[:, :, None] * axis.transpose(0, 2, 1)


def palettes(ends: Floats) -> Floats:
    """The 16 colours between two ends, n×16×4, rounded as the format says."""
    weight = WEIGHTS[None, :, None]
    return np.floor(((64 - weight) * ends[:, :1] + weight * ends[:, 1:] + 32) / 64)


def nearest_places(texels: Floats, ends: Floats) -> tuple[Integers, Floats]:
    """Each texel's nearest colour (n×16), and the squared error of the blocks' RGB and alpha."""
    palette = palettes(ends)
    products = texels @ palette.transpose(0, 2, 1)
    squares = (palette * palette).sum(axis=2)[:, None, :] - 2 * products
    places = squares.argmin(axis=2)
    least = np.take_along_axis(squares, places[:, :, None], axis=2)[:, :, 0]
    return places, (least + (texels * texels).sum(axis=2)).sum(axis=1)


def least_squares_ends(texels: Floats, places: Integers, ends: Integers) -> Floats:
    """The ends that fit the texels best at their places; those given where all are at one place."""
    second = WEIGHTS[places] / 64
    first = 1 - second
    a, b, d = (first * first).sum(1), (first * second).sum(1), (second * second).sum(1)
    determinant = a * d - b * b
    solvable = determinant > 1e-3
    scale = np.where(solvable, determinant, 1)[:, None]
    left = (first[:, :, None] * texels).sum(axis=1)
    right = (second[:, :, None] * texels).sum(axis=1)
    start = (d[:, None] * left - b[:, None] * right) / scale
    stop = (a[:, None] * right - b[:, None] * left) / scale
    found = np.stack([start, stop], axis=1)
    return np.where(solvable[:, None, None], found, ends).astype(np.float32)


def packed(ends: Integers, lowest: Integers, places: Integers) -> bytes:
    """The bits of blocks of mode 6, from the lowest of the first byte on."""
    # the first texel's place has no highest bit: it has to be in the lower half
    turned = places[:, 0] >= 8
    ends = np.where(turned[:, None, None], ends[:, ::-1], ends)
    lowest = np.where(turned[:, None], lowest[:, ::-1], lowest)
    places = np.where(turned[:, None], 15 - places, places)
    mode = np.zeros((len(ends), 7), np.uint8)
    mode[:, 6] = 1
    sevens = (ends >> 1).transpose(0, 2, 1).reshape(-1, 8)  # r0 r1 g0 g1 b0 b1 a0 a1
    bits = np.concatenate(
        [
            mode,
            bits_of(sevens, 7),
            lowest.astype(np.uint8),
            bits_of(places[:, :1], 3),
            bits_of(places[:, 1:], 4),
        ],
        axis=1,
    )
    return np.packbits(bits, axis=1, bitorder="little").tobytes()


def bits_of(numbers: Integers, count: int) -> NDArray[np.uint8]:
    """The bits of n×m numbers, lowest first, n×(m * count).

    >>> bits_of(np.array([[6, 1]]), 3).tolist()
    [[0, 1, 1, 1, 0, 0]]
    """
    bits = (numbers[:, :, None] >> np.arange(count)) & 1
    return bits.reshape(len(numbers), -1).astype(np.uint8)
