"""Pictures of what is looked at, each with its title, and as a PNG file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.outputs import staged
from metal4conv.view.elements import decoded
from metal4conv.view.parts import Part, ViewOptions
from metal4conv.view.pictures import (
    GAP_COLOR,
    MOST_TILES,
    amplification,
    difference_picture,
    is_picture,
    picture_axes,
    picture_of,
    picture_range,
    picture_span,
    png_bytes,
)

PANEL_GAP = 8


@dataclass(frozen=True)
class Panel:
    """A picture with what is in it; `heat` for a map of differences, whose peaks matter."""

    title: str
    pixels: np.ndarray
    heat: bool = False


def makes_picture(part: Part) -> bool:
    """Whether a part is shown as a picture: what a slice picks is, from two dimensions on."""
    if not part.entry.has_numbers():
        return False
    if part.index is None:
        return is_picture(part.stored.shape)
    return picture_axes(part.stored.shape) is not None


def limits(options: ViewOptions, values: np.ndarray) -> tuple[float, float]:
    """What is black and what is white."""
    if options.value_range is None:
        return picture_range(values)
    low, separator, high = options.value_range.partition("..")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = (0.0, 0.0)
    if not separator or not -math.inf < ends[0] < ends[1] < math.inf:
        raise UsageError(
            f'range "{options.value_range}" cannot be read',
            where="--range",
            hint="write two numbers, the smaller one first: --range 0..1",
        )
    return ends


def shown_values(part: Part) -> np.ndarray:
    """The elements that make the picture: of leading dimensions the first."""
    axes = picture_axes(part.stored.shape)
    assert axes is not None
    return decoded(part.stored[(0,) * axes.leading], part.entry.dtype)


def shown_text(part: Part) -> str:
    """Which elements those are, where they are not all."""
    axes = picture_axes(part.stored.shape)
    assert axes is not None
    leading = part.stored.shape[: axes.leading]
    text = f"[{', '.join('0' * len(leading))}]" if math.prod(leading) > 1 else ""
    rest = part.stored.shape[axes.leading :]
    if axes.channels is None or rest[axes.channels] <= MOST_TILES:
        return text
    return f"{text}, {MOST_TILES} of {rest[axes.channels]} channels"


def panels_of(part: Part, options: ViewOptions) -> tuple[Panel, ...]:
    """The picture of a part, if it makes one."""
    if not makes_picture(part):
        return ()
    return (panel_of(part, part.title, limits(options, shown_values(part))),)


def panel_of(part: Part, title: str, low_high: tuple[float, float]) -> Panel:
    """The picture of a part in a range."""
    low, high = low_high
    pixels = picture_of(shown_values(part), low=low, high=high, slice=())
    assert pixels is not None
    return Panel(f"{title}{shown_text(part)}, black {low:g}, white {high:g}", pixels)


def check_picture(panels: Sequence[Panel], part: Part, options: ViewOptions) -> None:
    """`UsageError` when a picture is to be written and there is none."""
    if options.png is not None and not panels:
        raise UsageError(
            f"{part.title} of shape {part.stored.shape} does not look like a picture",
            where="--png",
            hint="pick a part with two dimensions: --slice 0,:,:,1",
        )


def pair_panels(part: Part, other: Part, options: ViewOptions) -> tuple[Panel, ...]:
    """Pictures of both in one scale, that of the expected tensor, and of their difference."""
    if not makes_picture(other):
        return ()
    expected, actual = shown_values(other), shown_values(part)
    low_high = limits(options, expected)
    span = low_high[1] - low_high[0] if options.value_range else picture_span(expected)
    factor = options.amplify or amplification(expected, actual, span)
    heat = difference_picture(expected, actual, factor, slice=(), span=span)
    assert heat is not None
    title = f"difference × {factor:g}{shown_text(part)}, black 0, brightest {span / factor:.3g}"
    return (
        panel_of(part, part.full_title, low_high),
        panel_of(other, other.full_title, low_high),
        Panel(title, heat, heat=True),
    )


def write_png(path: str | None, panels: Sequence[Panel]) -> tuple[str, ...]:
    """Writes the pictures side by side."""
    if path is None:
        return ()
    target = Path(path)
    with staged(target.parent) as stage:
        stage.path(target.name).write_bytes(png_bytes(beside([panel.pixels for panel in panels])))
    return (path,)


def beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures in one row, from the left to the right."""
    if len(pictures) == 1:
        return pictures[0]
    height = max(len(picture) for picture in pictures)
    width = sum(picture.shape[1] for picture in pictures) + PANEL_GAP * (len(pictures) - 1)
    whole = np.empty((height, width, 3), np.uint8)
    whole[:] = GAP_COLOR
    left = 0
    for picture in pictures:
        whole[: len(picture), left : left + picture.shape[1]] = picture
        left += picture.shape[1] + PANEL_GAP
    return whole
