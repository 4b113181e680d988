"""Pictures of tensors: pixels from numbers, and the difference of two tensors as a heat map.

Pixels are uint8 arrays of shape (height, width, 3). A channel shows as grey, three channels as
colour, a fourth one as grey beside them; other numbers of channels are tiles of one picture, all
of the same scale. NaN and infinities stand out, also in a picture made smaller.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from metal4conv.view.elements import decoded, type_of

NAN_COLOR = (255, 0, 255)
INF_COLOR = (0, 255, 255)
"""What NaN and infinities look like; neither is in the heat map's colours."""

HEAT = ((0, 0, 0), (88, 0, 28), (196, 44, 12), (250, 160, 24), (255, 248, 196))
"""The heat map from no difference to the largest; also in grey, more is brighter."""

GAP_COLOR = (40, 40, 48)
LEAST_SIDE = 4
LONGEST_RATIO = 64
MOST_TILES = 64
"""More channels are left out of a picture."""

BAND = 1 << 20
"""Elements that become pixels in one go: a picture takes a fraction of its tensor's memory."""

FLOAT64_MAX = float(np.finfo(np.float64).max)

Slice = tuple[slice | int, ...]


@dataclass(frozen=True)
class Axes:
    """Where a tensor's picture is: what is taken of leading axes, and which of the rest is which.

    `channels` is None, 0 (before the rows) or 2 (after the columns).
    """

    leading: int
    channels: int | None


def is_picture(shape: Sequence[int]) -> bool:
    """Whether a tensor of this shape looks like a picture.

    >>> is_picture((1, 3, 720, 1280)), is_picture((720, 1280)), is_picture((1, 1000))
    (True, True, False)
    """
    axes = picture_axes(shape)
    if axes is None:
        return False
    short, long = sorted(plane(shape, axes))
    return short >= LEAST_SIDE and long <= LONGEST_RATIO * short


def picture_axes(shape: Sequence[int]) -> Axes | None:
    """Which axes are rows, columns and channels; None below rank 2, or without elements.

    Channels come first or last: where there are 1, 3 or 4 of them, else where the other two
    sizes are closer to each other.

    >>> picture_axes((1, 3, 8, 8)), picture_axes((8, 8, 3))
    (Axes(leading=1, channels=0), Axes(leading=0, channels=2))
    """
    if len(shape) < 2 or 0 in shape:
        return None
    if len(shape) == 2:
        return Axes(0, None)
    leading = len(shape) - 3
    first, middle, last = shape[leading:]
    choices = {0: (first, middle, last), 2: (last, first, middle)}

    def order(axis: int) -> tuple[bool, float]:
        count, height, width = choices[axis]
        return count in (1, 3, 4), min(height, width) / max(height, width)

    return Axes(leading, max(choices, key=order))  # the first of equals


def plane(shape: Sequence[int], axes: Axes) -> tuple[int, int]:
    """Height and width of one channel."""
    rest = list(shape[axes.leading :])
    if axes.channels is not None:
        del rest[axes.channels]
    return rest[0], rest[1]


def channels_of(array: np.ndarray, axes: Axes) -> np.ndarray:
    """The channels of the first picture of a tensor: (channels, height, width)."""
    taken: np.ndarray = array[(0,) * axes.leading]
    if axes.channels is None:
        return taken[None]
    return taken if axes.channels == 0 else np.moveaxis(taken, 2, 0)


def picture_of(
    array: np.ndarray,
    *,
    low: float | None = None,
    high: float | None = None,
    slice: Slice | None = None,
    dtype: str | None = None,
) -> np.ndarray | None:
    """The pixels of a tensor's picture; None when it does not look like one.

    `low` is black and `high` white; without them `picture_range` says. Of leading axes the first
    element is shown; `slice` picks others, in numpy's sense, and what it picks is shown as it is
    as long as it has two dimensions.

    >>> picture_of(np.array([[0, 255], [51, 0]], np.uint8), slice=())[..., 0].tolist()
    [[0, 255], [51, 0]]
    """
    name = dtype or type_of(array)
    if slice is None and not is_picture(array.shape):
        return None
    picked = array if slice is None else array[slice]
    axes = picture_axes(picked.shape)
    if axes is None:
        return None
    if low is None or high is None:
        least, most = picture_range(picked, dtype=name)
        low, high = least if low is None else low, most if high is None else high
    channels = channels_of(picked, axes)[:MOST_TILES]
    rows = max(1, BAND // (channels.shape[2] * len(channels)))
    bands = [
        tiles_of(decoded(channels[:, top : top + rows], name), low, high)
        for top in range(0, channels.shape[1], rows)
    ]
    return tiled([np.concatenate(parts) for parts in zip(*bands, strict=True)])


def tiles_of(channels: np.ndarray, low: float, high: float) -> list[np.ndarray]:
    """The tiles of a picture: three channels as colour, others by themselves."""
    shades = [shade(channel, low, high) for channel in channels]
    if len(shades) not in (3, 4):
        return [colored(channel, grey) for channel, grey in zip(channels, shades, strict=True)]
    color = marked(channels[:3], np.stack(shades[:3], axis=-1))
    return [color, *map(colored, channels[3:], shades[3:])]


def picture_range(*arrays: np.ndarray, dtype: str | None = None) -> tuple[float, float]:
    """What is black and what is white, for pictures that are to be compared.

    What is within 0..1 goes from 0 to 1, other bytes from 0 to 255; else it is the range of all
    finite elements.

    >>> picture_range(np.array([0.25, 0.5])), picture_range(np.array([-2.0, 0.5, np.inf]))
    ((0.0, 1.0), (-2.0, 0.5))
    """
    numbers = [decoded(array, dtype or type_of(array)) for array in arrays]
    ranges = [finite_range(array) for array in numbers]
    known = [item for item in ranges if item is not None]
    if not known:
        return 0.0, 1.0
    low, high = min(item[0] for item in known), max(item[1] for item in known)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (0.0, 255.0) if all(array.dtype == np.uint8 for array in numbers) else (low, high)


def finite_range(array: np.ndarray) -> tuple[float, float] | None:
    """The smallest and the largest finite element, None without any."""
    if array.dtype.kind != "f":
        return (float(array.min()), float(array.max())) if array.size else None
    known = np.isfinite(array)
    if not known.any():
        return None
    low = np.min(array, where=known, initial=np.inf)
    high = np.max(array, where=known, initial=-np.inf)
    return float(low), float(high)


def shade(channel: np.ndarray, low: float, high: float) -> np.ndarray:
    """Shades of grey, 0 to 255; a range without width is black, and white above it."""
    width = min(high - low, FLOAT64_MAX)
    with np.errstate(over="ignore"):
        above = channel.astype(np.float64) - low
        scaled = above / width if width > 0 else np.sign(above)
    # NaN has no shade, and is marked later
    shades: np.ndarray = np.rint(np.clip(np.nan_to_num(scaled), 0, 1) * 255)
    return shades.astype(np.uint8)


def colored(channel: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """The pixels of one channel."""
    return marked(channel[None], np.repeat(grey[..., None], 3, axis=-1))


def marked(channels: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """The pixels with NaN and infinities of any channel in their colours, and no others so."""
    for color in (NAN_COLOR, INF_COLOR):
        red, green, blue = (pixels[..., band] == color[band] for band in range(3))
        pixels[red & green & blue] = [max(band, 1) for band in color]
    if channels.dtype.kind == "f":
        pixels[np.isinf(channels).any(axis=0)] = INF_COLOR
        pixels[np.isnan(channels).any(axis=0)] = NAN_COLOR
    return pixels


def tiled(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size as one, in rows of about as many as there are rows, with gaps."""
    if len(tiles) == 1:
        return tiles[0]
    height, width, _ = tiles[0].shape
    across = len(tiles) if len(tiles) < 4 else math.ceil(math.sqrt(len(tiles)))
    down = math.ceil(len(tiles) / across)
    whole = np.empty((down * (height + 1) - 1, across * (width + 1) - 1, 3), np.uint8)
    whole[:] = GAP_COLOR
    for number, tile in enumerate(tiles):
        top, left = (number // across) * (height + 1), (number % across) * (width + 1)
        whole[top : top + height, left : left + width] = tile
    return whole


def difference_picture(
    expected: np.ndarray,
    actual: np.ndarray,
    amplify: float | None = None,
    *,
    slice: Slice | None = None,
    span: float | None = None,
) -> np.ndarray | None:
    """|actual - expected| as a heat map; None when the tensors do not look like pictures.

    The brightest colour is a difference of `span / amplify`; `span` is the width of `expected`'s
    `picture_range`, and the default of `amplify` is `amplification`. Of up to four channels each
    pixel shows the largest difference. NaN and infinities are marked where the two tensors are not
    the same.
    """
    if expected.shape != actual.shape or (slice is None and not is_picture(expected.shape)):
        return None
    if slice is not None:
        expected, actual = expected[slice], actual[slice]
    axes = picture_axes(expected.shape)
    if axes is None:
        return None
    span = picture_span(expected) if span is None else span
    factor = amplification(expected, actual, span) if amplify is None else amplify
    error = difference(
        channels_of(expected, axes)[:MOST_TILES], channels_of(actual, axes)[:MOST_TILES]
    )
    with np.errstate(over="ignore"):
        scaled = error * min(factor / span, FLOAT64_MAX)  # nothing times infinity would be NaN
    if len(scaled) <= 4:
        return heat(np.max(scaled, axis=0))  # NaN is larger than all numbers to numpy
    return tiled([heat(channel) for channel in scaled])


def difference(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """|actual - expected|; 0 where both are the same NaN or infinity, NaN where one is NaN.

    >>> difference(np.array([1.0, np.nan, np.inf]), np.array([1.5, np.nan, 2.0])).tolist()
    [0.5, 0.0, inf]
    """
    e, a = expected.astype(np.float64), actual.astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        error: np.ndarray = np.abs(a - e)
    error[(e == a) | (np.isnan(e) & np.isnan(a))] = 0.0
    return error


def picture_span(expected: np.ndarray) -> float:
    """The width of a tensor's range, to which differences are compared; 1 where it has none."""
    low, high = picture_range(expected)
    return min(high - low, FLOAT64_MAX) if high > low else 1.0


def amplification(expected: np.ndarray, actual: np.ndarray, span: float | None = None) -> float:
    """The factor that makes the largest finite difference bright: 1, 2, 5, 10, … or a half of it.

    >>> amplification(np.array([0.0, 1.0]), np.array([0.0, 0.996]))
    200.0
    """
    span = picture_span(expected) if span is None else span
    largest = finite_range(difference(expected, actual))
    if largest is None or largest[1] == 0:
        return 1.0
    wanted = span / max(largest[1], span * 1e-12)
    ten: float = 10.0 ** math.floor(math.log10(wanted))
    return max(step * ten for step in (1, 2, 5, 10) if step * ten <= wanted * (1 + 1e-9))


def heat(values: np.ndarray) -> np.ndarray:
    """The colours of values within 0..1; what is above is as bright as 1.

    >>> heat(np.array([[0.0, 0.5, 2.0]])).tolist()
    [[[0, 0, 0], [196, 44, 12], [255, 248, 196]]]
    """
    stops = np.linspace(0, 1, len(HEAT))
    known = np.clip(np.nan_to_num(values), 0, 1)
    bands = [np.interp(known, stops, band) for band in zip(*HEAT, strict=True)]
    return marked(values[None], np.rint(np.stack(bands, axis=-1)).astype(np.uint8))


def shrunk(pixels: np.ndarray, width: int, height: int, *, peaks: bool = False) -> np.ndarray:
    """The picture, made smaller to fit where it is too large; NaN and infinities stay visible.

    A pixel is the mean of those that it stands for; with `peaks`, for heat maps, the brightest.
    """
    tall, wide, _ = pixels.shape
    factor = min(1.0, width / wide, height / tall)
    if factor == 1.0:
        return pixels
    across, down = max(1, round(wide * factor)), max(1, round(tall * factor))
    if peaks:
        small = brightest(pixels, across, down)
    else:
        made = Image.fromarray(pixels).resize((across, down), Image.Resampling.BOX)
        small = np.array(made)
    for color in (INF_COLOR, NAN_COLOR):
        found = np.argwhere((pixels == color).all(axis=-1))
        small[found[:, 0] * down // tall, found[:, 1] * across // wide] = color
    return small


def brightest(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """A smaller picture of the brightest pixels."""
    tall, wide, _ = pixels.shape
    rank = pixels.astype(np.uint32) @ np.array([299, 587, 114], np.uint32)
    row, column = np.arange(tall) * height // tall, np.arange(wide) * width // wide
    target = (row[:, None] * width + column[None]).ravel()
    order = np.argsort(rank.ravel(), kind="stable")  # the last one written stays
    small = np.zeros((height * width, 3), np.uint8)
    small[target[order]] = pixels.reshape(-1, 3)[order]
    return small.reshape(height, width, 3)


def png_bytes(pixels: np.ndarray) -> bytes:
    """A PNG file; equal pixels give equal bytes."""
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "PNG")
    return file.getvalue()
