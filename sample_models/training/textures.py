"""Patterns that the scenes of the upscaler are painted with; pictures are h×w×3 within 0 to 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.float32]
Generator = np.random.Generator


def noise(generator: Generator, height: int, width: int, falloff: float) -> Picture:
    """h×w values of mean 0 and variance 1, amplitudes dropping with that power of frequency."""
    white = generator.standard_normal((height, width))
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    spectrum = np.fft.rfft2(white) / frequency**falloff
    spectrum[0, 0] = 0
    values = np.fft.irfft2(spectrum, (height, width))
    return (values / values.std()).astype(np.float32)


def two_colors(generator: Generator, contrast: float = 0.5) -> tuple[Picture, Picture]:
    """Two colours that differ by about `contrast`."""
    first = generator.uniform(0.05, 0.95, 3)
    change = contrast * generator.choice([-1, 1]) * generator.uniform(0.6, 1.2, 3)
    return first.astype(np.float32), np.clip(first + change, 0, 1).astype(np.float32)


def mix(generator: Generator, share: Picture, contrast: float) -> Picture:
    """`share` h×w within 0 to 1 as a picture of two colours."""
    first, second = two_colors(generator, contrast)
    return first + (second - first) * share[..., None]


def grain(generator: Generator, x: Picture, _: Picture) -> Picture:
    """Stone or cloud, depending on how fast its details fade."""
    values = noise(generator, *x.shape, generator.uniform(0.8, 2.2))
    return mix(generator, np.clip(0.5 + 0.25 * values, 0, 1), 0.4)


def checks(generator: Generator, x: Picture, y: Picture) -> Picture:
    return mix(generator, ((np.floor(x) + np.floor(y)) % 2).astype(np.float32), 0.6)


def stripes(generator: Generator, x: Picture, y: Picture) -> Picture:
    """Bars with sharp or soft edges."""
    sharpness = generator.uniform(0.6, 12)
    wave = np.sin(2 * np.pi * (x + 0.3 * np.sin(y * generator.uniform(0, 2))))
    return mix(generator, 0.5 + 0.5 * np.clip(sharpness * wave, -1, 1), 0.5)


def bricks(generator: Generator, x: Picture, y: Picture) -> Picture:
    """A wall in running bond whose bricks differ in brightness."""
    row = np.floor(y)
    column = x / 2 + 0.5 * (row % 2)
    inside = ((y % 1 > 0.12) & (column % 1 > 0.06)).astype(np.float32)
    shades = generator.uniform(0.6, 1.1, (61, 67)).astype(np.float32)
    shade = shades[row.astype(int) % 61, np.floor(column).astype(int) % 67]
    roughness = 1 + 0.08 * noise(generator, *x.shape, 0.7)
    return np.clip(mix(generator, inside, 0.4) * (shade * roughness)[..., None], 0, 1)


def rings(generator: Generator, x: Picture, y: Picture) -> Picture:
    """Wood: rings around a centre outside of the picture, bent by noise."""
    radius = np.hypot(x + 9, 0.35 * y) + 0.25 * noise(generator, *x.shape, 1.9)
    return mix(generator, (radius % 1).astype(np.float32) ** 2, 0.3)


def dots(generator: Generator, x: Picture, y: Picture) -> Picture:
    radius = generator.uniform(0.15, 0.45)
    return mix(generator, (np.hypot(x % 1 - 0.5, y % 1 - 0.5) < radius).astype(np.float32), 0.6)


PATTERNS = (grain, grain, checks, stripes, bricks, rings, dots)


def pattern(generator: Generator, height: int, width: int, pixels: float) -> Picture:
    """A pattern with a period of about `pixels`, turned, or seen in perspective as a floor is."""
    row, column = np.mgrid[0:height, 0:width].astype(np.float32)
    paint = PATTERNS[generator.integers(len(PATTERNS))]
    if generator.random() < 0.4:
        distance = height / (row + 0.15 * height)
        x, y = (column / width - 0.5) * distance * width / pixels, 4 * distance * height / pixels
    else:
        angle = generator.uniform(0, np.pi)
        x = (np.cos(angle) * column + np.sin(angle) * row) / pixels
        y = (np.cos(angle) * row - np.sin(angle) * column) / pixels
    return paint(generator, x + 40, y + 40).astype(np.float32)
