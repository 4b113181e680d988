"""Pictures, histograms and numbers in characters."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

from metal4conv.view.pictures import INF_COLOR, NAN_COLOR, shrunk
from metal4conv.view.statistics import Histogram

RAMP = " .:-=+*#%@"
"""From black to white, where there is no colour."""

NAN_MARK, INF_MARK = "N", "I"

EIGHTHS = " ▁▂▃▄▅▆▇█"
SHADES_OF_ASCII = " .:-=+*#@"
"""A column's top in characters of one byte, where the terminal has no others."""

MOST_LINES = 40
SMALL_SIDE = 32
"""A picture with fewer columns is enlarged."""

MOST_NUMBERS = 4096

Color = tuple[int, int, int]


def fitted(pixels: np.ndarray, columns: int, *, peaks: bool = False) -> np.ndarray:
    """The picture for so many columns and lines of two pixels: smaller, or whole times larger."""
    height, width, _ = pixels.shape
    factor = min(columns // width, SMALL_SIDE // width, 2 * MOST_LINES // height)
    if factor > 1:
        return pixels.repeat(factor, axis=0).repeat(factor, axis=1)
    return shrunk(pixels, columns, 2 * MOST_LINES, peaks=peaks)


def half_blocks(pixels: np.ndarray) -> list[list[tuple[int, Color, Color | None]]]:
    """Lines of runs: how many characters ▀, their colour, and that of the half below.

    There is no half below in the last line of a picture with an odd height.

    >>> half_blocks(np.array([[[1, 2, 3], [1, 2, 3]]], np.uint8))
    [[(2, (1, 2, 3), None)]]
    """
    lines = []
    for top in range(0, len(pixels), 2):
        upper = [rgb(pixel) for pixel in pixels[top]]
        below = [rgb(pixel) for pixel in pixels[top + 1]] if top + 1 < len(pixels) else None
        cells = [(color, below[i] if below else None) for i, color in enumerate(upper)]
        lines.append([(len(list(run)), *cell) for cell, run in groupby(cells)])
    return lines


def rgb(pixel: np.ndarray) -> Color:
    """A pixel as three numbers."""
    red, green, blue = (int(band) for band in pixel)
    return red, green, blue


def ramp_lines(pixels: np.ndarray) -> list[str]:
    """The picture in characters that are darker or brighter, one for two pixels above each other.

    >>> ramp_lines(np.array([[[0] * 3, [255] * 3, NAN_COLOR]], np.uint8))
    [' @N']
    """
    if len(pixels) % 2:
        pixels = np.concatenate([pixels, pixels[-1:]])
    grey = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    mean = (grey[::2] + grey[1::2]) / 2
    characters = np.array(list(RAMP))[np.minimum(mean * len(RAMP) / 255, len(RAMP) - 1).astype(int)]
    for color, mark in ((INF_COLOR, INF_MARK), (NAN_COLOR, NAN_MARK)):
        found = (pixels == color).all(axis=-1)
        characters[found[::2] | found[1::2]] = mark
    return ["".join(line) for line in characters]


def marks_in(pixels: np.ndarray) -> list[str]:
    """Which of NaN and infinities a picture shows."""
    names = (("NaN", NAN_COLOR), ("infinity", INF_COLOR))
    return [name for name, color in names if (pixels == color).all(axis=-1).any()]


def histogram_lines(
    histogram: Histogram, *, width: int = 64, height: int = 6, ascii_only: bool = False
) -> list[str]:
    """Columns as high as the counts, over the ends of the range; a bin with any element shows.

    >>> histogram_lines(Histogram((0.0, 1.0, 2.0), (1, 2)), width=8, height=1)
    ['▄▄▄▄████  2', '0      2']
    """
    most = max(histogram.counts)
    each = max(1, width // len(histogram.counts))
    tops = SHADES_OF_ASCII if ascii_only else EIGHTHS
    steps = len(tops) - 1
    heights = [
        max(round(count / most * height * steps), 1) if count else 0 for count in histogram.counts
    ]
    lines = []
    for level in reversed(range(height)):
        filled = (min(max(value - level * steps, 0), steps) for value in heights)
        lines.append("".join(tops[part] * each for part in filled).rstrip())
    wide = each * len(heights)
    lines[0] = f"{lines[0]:<{wide}}  {most:,}"
    low, high = (f"{edge:.6g}" for edge in (histogram.edges[0], histogram.edges[-1]))
    lines.append(f"{low}{high:>{max(wide - len(low), len(high) + 1)}}")
    return lines


def numbers_text(values: np.ndarray, width: int = 100) -> str:
    """The elements as numpy prints them; of many, the first and last of each dimension."""
    return np.array2string(
        values, max_line_width=width, threshold=MOST_NUMBERS, edgeitems=4, separator=" "
    )


def visible(text: str) -> str:
    """A name as it can be printed: what would move the cursor or colour the rest is spelled out.

    >>> visible("a\\x1b[31mb"), visible("größe")
    ('a\\\\x1b[31mb', 'größe')
    """
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


def side_by_side(blocks: Sequence[Sequence[str]], gap: str = "  ") -> list[str]:
    """Blocks of lines beside each other.

    >>> side_by_side([["ab", "c"], ["d"]])
    ['ab  d', 'c']
    """
    widths = [max(map(len, block), default=0) for block in blocks]
    count = max(map(len, blocks), default=0)
    rows = []
    for number in range(count):
        cells = [block[number] if number < len(block) else "" for block in blocks]
        row = gap.join(f"{cell:<{wide}}" for cell, wide in zip(cells, widths, strict=True))
        rows.append(row.rstrip())
    return rows
