"""Image-like tensors of a report as pictures that stand in the page itself."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from metal4conv.report import Picture
from metal4conv.verify.figures import number
from metal4conv.view.pictures import (
    amplification,
    difference_picture,
    is_picture,
    picture_of,
    picture_range,
    png_bytes,
    shrunk,
)

MOST_TENSORS = 12
"""Of one page; each has up to three pictures."""

MOST_CHARACTERS = 12_000_000
"""Of all pictures in a page, so that it opens at once; noise does not compress."""

LARGEST = 512
"""Pixels of a picture's longer side."""

SMALLEST = 256
"""Pixels that a tiny picture is shown with."""


@dataclass(frozen=True)
class Shown:
    """One picture of the page; `uri` holds its PNG file, the sizes are those on the page."""

    title: str
    uri: str
    width: int
    height: int


@dataclass(frozen=True)
class PictureRow:
    """One tensor of one case: source, package, difference; `scale` says what the shades mean."""

    name: str
    case: str
    scale: str
    pictures: tuple[Shown, ...]


@dataclass(frozen=True)
class Gallery:
    """The pictures of a page, and how many there was no room for."""

    rows: tuple[PictureRow, ...]
    left_out: int


def gallery(pictures: Sequence[Picture], failing: set[tuple[str, str]]) -> Gallery:
    """The pictures of those tensors that look like one, those that differ first.

    `failing` has (case, name) of those.
    """
    likely = [item for item in pictures if is_picture(item.actual.shape)]
    likely.sort(key=lambda item: (item.case, item.name) not in failing)
    rows: list[PictureRow] = []
    room = MOST_CHARACTERS
    for item in likely[:MOST_TENSORS]:
        row = picture_row(item)
        room -= sum(len(picture.uri) for picture in row.pictures)
        if room < 0 and rows:
            break
        rows.append(row)
    return Gallery(tuple(rows), len(likely) - len(rows))


def picture_row(item: Picture) -> PictureRow:
    """A tensor's pictures; all but the difference have the scale of the source's."""
    expected, actual = item.expected, item.actual
    low, high = picture_range(actual if expected is None else expected)
    pixels = []
    if expected is not None and is_picture(expected.shape):
        pixels.append(("source", small(picture_of(expected, low=low, high=high))))
    pixels.append(("package", small(picture_of(actual, low=low, high=high))))
    scale = f"black is {number(low)}, white is {number(high)}"
    if expected is not None and expected.shape == actual.shape:
        factor = amplification(expected, actual)
        heat = difference_picture(expected, actual, factor)
        pixels.append((f"difference × {factor:g}", small(heat, peaks=True)))
        scale += f"; in the difference, white is {number((high - low or 1) / factor)}"
    times = max(1, SMALLEST // max(max(image.shape[:2]) for _, image in pixels))
    shown = tuple(show(title, image, times) for title, image in pixels)
    return PictureRow(item.name, item.case, scale, shown)


def small(pixels: np.ndarray | None, *, peaks: bool = False) -> np.ndarray:
    """A picture that fits on the page."""
    assert pixels is not None, "is_picture said that it is one"
    return shrunk(pixels, LARGEST, LARGEST, peaks=peaks)


def show(title: str, pixels: np.ndarray, times: int) -> Shown:
    """Pixels as a picture of the page, so many times as large."""
    height, width, _ = pixels.shape
    text = base64.b64encode(png_bytes(pixels)).decode()
    return Shown(title, f"data:image/png;base64,{text}", width * times, height * times)
