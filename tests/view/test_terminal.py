"""Characters for pictures and histograms."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.view.pictures import INF_COLOR, NAN_COLOR
from metal4conv.view.statistics import Histogram, statistics
from metal4conv.view.terminal import (
    fitted,
    half_blocks,
    histogram_lines,
    marks_in,
    numbers_text,
    ramp_lines,
    side_by_side,
)


def grey(rows: list[list[int]]) -> np.ndarray:
    """A grey picture."""
    return np.array(rows, np.uint8)[..., None].repeat(3, axis=2)


def test_half_blocks_have_two_pixels_each() -> None:
    a, b, c = (1, 2, 3), (4, 5, 6), (7, 8, 9)
    pixels = np.array([[a, a, b], [c, c, c], [b, b, b]], np.uint8)
    assert half_blocks(pixels) == [[(2, a, c), (1, b, c)], [(3, b, None)]]


def test_ramp_goes_from_dark_to_bright() -> None:
    (line,) = ramp_lines(grey([list(range(0, 256, 15))]))
    order = [" .:-=+*#%@".index(character) for character in line]
    assert order == sorted(order)
    assert (order[0], order[-1]) == (0, 9)


def test_ramp_takes_the_mean_of_two_rows_and_keeps_marks() -> None:
    pixels = grey([[0, 255, 0, 0], [255, 255, 0, 0]])
    pixels[1, 2], pixels[0, 3] = NAN_COLOR, INF_COLOR
    assert ramp_lines(pixels) == ["+@NI"]
    assert marks_in(pixels) == ["NaN", "infinity"]


@pytest.mark.parametrize(
    ("shape", "columns", "expected"),
    [
        ((4, 6), 100, (20, 30)),  # five times, up to 32 columns
        ((40, 33), 100, (40, 33)),
        ((720, 1280), 100, (56, 100)),
        ((1000, 10), 100, (80, 1)),
        ((4, 6), 5, (3, 5)),
    ],
)
def test_fitted(shape: tuple[int, int], columns: int, expected: tuple[int, int]) -> None:
    assert fitted(np.zeros((*shape, 3), np.uint8), columns).shape[:2] == expected


def test_enlarged_pixels_stay_squares() -> None:
    pixels = fitted(grey([[0, 50], [100, 150]]), 100)
    assert pixels.shape == (32, 32, 3)
    assert pixels[::16, ::16, 0].tolist() == [[0, 50], [100, 150]]


def test_histogram_shows_each_bin_that_is_not_empty() -> None:
    lines = histogram_lines(Histogram((0.0, 1.0, 2.0, 3.0), (1, 0, 1_000_000)), width=6, height=2)
    assert lines == ["    ██  1,000,000", "▁▁  ██", "0    3"]


def test_histogram_in_ascii() -> None:
    lines = histogram_lines(
        Histogram((0.0, 1.0, 2.0, 3.0), (2, 1, 4)), width=6, height=1, ascii_only=True
    )
    assert lines == ["==::@@  4", "0    3"]
    assert all(line.isascii() for line in lines)


def test_long_ends_of_a_histogram_keep_apart() -> None:
    found = statistics(np.array([-1.234567e-30, 9.87654e30])).histogram
    assert found is not None
    assert histogram_lines(found, width=32)[-1] == "-1.23457e-30         9.87654e+30"
    narrow = Histogram((-1.234567e-30, 0.0, 9.87654e30), (1, 1))
    assert histogram_lines(narrow, width=2)[-1] == "-1.23457e-30 9.87654e+30"


def test_numbers_of_many_elements_are_summed_up() -> None:
    assert numbers_text(np.array([[1.5, np.nan], [np.inf, -2]])) == "[[ 1.5  nan]\n [ inf -2. ]]"
    text = numbers_text(np.zeros((1000, 1000), np.int8))
    assert "..." in text
    assert len(text.splitlines()) == 9


def test_side_by_side() -> None:
    assert side_by_side([["a"], ["bb", "c"], []]) == ["a  bb", "   c"]
