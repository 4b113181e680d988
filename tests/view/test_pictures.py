"""Pixels of tensors, worked out by hand; files decoded again."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
from PIL import Image

from metal4conv.view import pictures
from metal4conv.view.pictures import (
    GAP_COLOR,
    HEAT,
    INF_COLOR,
    NAN_COLOR,
    amplification,
    difference_picture,
    heat,
    is_picture,
    picture_axes,
    picture_of,
    picture_range,
    plane,
    png_bytes,
    shrunk,
)

NAN, INF = math.nan, math.inf

PLANES = {
    (20, 30): (None, 20, 30),
    (1, 20, 30): (0, 20, 30),
    (3, 20, 30): (0, 20, 30),
    (20, 30, 3): (2, 20, 30),
    (4, 6, 3): (2, 4, 6),
    (3, 5, 4): (0, 5, 4),
    (1, 3, 20, 30): (0, 20, 30),
    (1, 20, 30, 4): (2, 20, 30),
    (7, 1, 20, 30): (0, 20, 30),
    (64, 8, 8): (0, 8, 8),
    (8, 8, 64): (2, 8, 8),
    (1, 16, 720, 1280): (0, 720, 1280),
    (1, 720, 1280, 16): (2, 720, 1280),
    (2, 3, 5, 20, 30): (0, 20, 30),
}


@pytest.mark.parametrize("shape", PLANES)
def test_where_rows_and_columns_are(shape: tuple[int, ...]) -> None:
    axes = picture_axes(shape)
    assert axes is not None
    assert (axes.channels, *plane(shape, axes)) == PLANES[shape]
    assert is_picture(shape)


@pytest.mark.parametrize(
    "shape", [(), (7,), (1, 1000), (3, 3), (2, 500), (1, 0, 4, 4), (1, 1000, 1, 1), (4, 300)]
)
def test_what_is_no_picture(shape: tuple[int, ...]) -> None:
    assert not is_picture(shape)
    assert picture_of(np.zeros(shape, np.float32)) is None


def test_grey() -> None:
    array = np.array([[0, 0.25], [0.5, 1]], np.float32).repeat(2, 0).repeat(2, 1)
    pixels = picture_of(array)
    assert pixels is not None
    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, 4, 3)
    assert pixels[::2, ::2, 0].tolist() == [[0, 64], [128, 255]]
    assert (pixels == pixels[..., :1]).all()


@pytest.mark.parametrize("order", ["CHW", "NCHW", "HWC", "NHWC"])
def test_color_in_each_order(order: str) -> None:
    color = np.random.default_rng(0).integers(0, 256, (6, 5, 3)).astype(np.uint8)
    array = np.moveaxis(color, 2, 0) if "CHW" in order else color
    pixels = picture_of(array[None] if order[0] == "N" else array)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, color)


def test_a_fourth_channel_stands_beside_the_colors() -> None:
    array = np.zeros((4, 5, 6), np.float32)
    array[0], array[3] = 1, 0.2
    pixels = picture_of(array)
    assert pixels is not None
    assert pixels.shape == (5, 6 + 1 + 6, 3)
    assert pixels[0, 0].tolist() == [255, 0, 0]
    assert tuple(pixels[0, 6]) == GAP_COLOR
    assert pixels[0, 7].tolist() == [51, 51, 51]


def test_other_channels_are_tiles_of_one_scale() -> None:
    array = np.stack([np.full((6, 7), value) for value in range(5)])
    pixels = picture_of(array)
    assert pixels is not None
    assert pixels.shape == (2 * 6 + 1, 3 * 7 + 2, 3)  # three tiles, then two
    centers = [pixels[3 + 7 * row, 3 + 8 * column, 0] for row in (0, 1) for column in (0, 1, 2)]
    assert centers == [0, 64, 128, 191, 255, GAP_COLOR[0]]


def test_a_slice_is_shown_whatever_its_shape() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    assert picture_of(array) is None
    pixels = picture_of(array, slice=(1, slice(None), slice(0, 2)))
    assert pixels is not None
    assert pixels[..., 0].tolist() == [[0, 28], [113, 142], [227, 255]]
    assert picture_of(array, slice=(1, 0)) is None


def test_given_range() -> None:
    array = np.array([[-1.0, 0, 1, 3]]).repeat(4, 0)
    pixels = picture_of(array, low=0, high=2)
    assert pixels is not None
    assert pixels[0, :, 0].tolist() == [0, 0, 128, 255]


@pytest.mark.parametrize(
    ("values", "dtype", "expected"),
    [
        ([0.2, 0.4], "float32", (0, 1)),
        ([0, 1], "uint8", (0, 1)),
        ([3, 9], "uint8", (0, 255)),
        ([3, 9], "int32", (3, 9)),
        ([True], "bool", (0, 1)),
        ([-1, 0.5, NAN, INF], "float16", (-1, 0.5)),
        ([NAN], "float32", (0, 1)),
        ([], "float32", (0, 1)),
    ],
)
def test_range(values: list[float], dtype: str, expected: tuple[float, float]) -> None:
    assert picture_range(np.array(values, dtype)) == expected


def test_one_range_for_several_tensors() -> None:
    assert picture_range(np.array([0.0, 2.0]), np.array([-1.0, NAN])) == (-1.0, 2.0)


def test_range_of_bfloat16() -> None:
    assert picture_range(np.array([0xBF80, 0x4000], np.uint16), dtype="bfloat16") == (-1.0, 2.0)


def test_nan_and_infinities_stand_out() -> None:
    array = np.zeros((3, 4, 4), np.float32)
    array[1, 0, 0], array[2, 1, 1], array[0, 2, 2] = NAN, INF, -INF
    pixels = picture_of(array)
    assert pixels is not None
    assert tuple(pixels[0, 0]) == NAN_COLOR
    assert tuple(pixels[1, 1]) == tuple(pixels[2, 2]) == INF_COLOR
    assert (pixels.reshape(-1, 3).any(axis=1)).sum() == 3


def test_no_color_of_a_picture_looks_like_nan() -> None:
    array = np.zeros((4, 4, 3), np.uint8)
    array[0, 0], array[1, 1], array[2, 2] = NAN_COLOR, INF_COLOR, 255
    pixels = picture_of(array)
    assert pixels is not None
    assert [tuple(pixels[i, i].tolist()) for i in range(3)] == [
        (255, 1, 255),
        (1, 255, 255),
        (255, 255, 255),
    ]


@pytest.mark.parametrize("value", [NAN, INF, 5.0])
def test_nothing_else_than_one_value(value: float) -> None:
    pixels = picture_of(np.full((4, 4), value))
    assert pixels is not None


def test_the_ends_of_float64() -> None:
    largest = float(np.finfo(np.float64).max)
    array = np.array([[-largest, largest]]).repeat(4, 0).repeat(2, 1)
    pixels = picture_of(array)
    assert pixels is not None
    assert pixels[0, :, 0].tolist() == [0, 0, 255, 255]
    assert difference_picture(array, -array) is not None


def test_colors_of_the_heat_map_are_brighter_the_larger() -> None:
    colors = heat(np.linspace(0, 1, 256)[None])[0].astype(float)
    brightness = colors @ [0.299, 0.587, 0.114]
    assert (np.diff(brightness) >= 0).all()
    assert brightness[-1] - brightness[0] > 200
    assert NAN_COLOR not in HEAT
    assert INF_COLOR not in HEAT


def test_difference() -> None:
    expected = np.zeros((4, 4), np.float32)
    expected[3, 3] = 1
    actual = expected.copy()
    actual[0, 0], actual[1, 1] = 0.01, 0.005
    pixels = difference_picture(expected, actual, 100)
    assert pixels is not None
    assert pixels[0, 0].tolist() == list(HEAT[-1])
    assert pixels[1, 1].tolist() == list(HEAT[2])
    assert not pixels[2:].any()


def test_difference_of_channels_is_the_largest() -> None:
    expected = np.zeros((1, 3, 4, 4))
    actual = expected.copy()
    actual[0, 1, 0, 0], actual[0, 2, 0, 0] = 0.5, 1
    pixels = difference_picture(expected, actual, 1)
    assert pixels is not None
    assert pixels.shape == (4, 4, 3)
    assert pixels[0, 0].tolist() == list(HEAT[-1])


def test_difference_marks_what_only_one_has() -> None:
    expected = np.zeros((4, 4))
    expected[0] = NAN, INF, NAN, 0
    actual = np.zeros((4, 4))
    actual[0] = NAN, INF, 0, -INF
    pixels = difference_picture(expected, actual)
    assert pixels is not None
    assert pixels[0].tolist() == [[0, 0, 0], [0, 0, 0], list(NAN_COLOR), list(INF_COLOR)]


def test_difference_of_different_shapes() -> None:
    assert difference_picture(np.zeros((4, 4)), np.zeros((4, 5))) is None


@pytest.mark.parametrize(
    ("error", "factor"),
    [(0.0, 1), (1.0, 1), (0.4, 2), (0.1, 10), (0.03, 20), (0.004, 200), (4.0, 0.2), (NAN, 1)],
)
def test_amplification(error: float, factor: float) -> None:
    found = amplification(np.array([0.0, 1.0]), np.array([error, 1.0]))
    assert found == pytest.approx(factor)


def test_amplification_of_almost_nothing_is_bounded() -> None:
    assert amplification(np.array([0.0, 1.0]), np.array([5e-324, 1.0])) <= 1e12


def test_made_smaller() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, ::2] = 200
    small = shrunk(pixels, 50, 50)
    assert small.shape == (25, 50, 3)
    assert (small == 100).all()
    assert shrunk(pixels, 200, 100) is pixels


def test_one_nan_and_one_peak_survive() -> None:
    pixels = np.zeros((1000, 1000, 3), np.uint8)
    pixels[500, 500], pixels[10, 10] = HEAT[-1], HEAT[1]
    pixels[999, 999], pixels[0, 999] = NAN_COLOR, INF_COLOR
    small = shrunk(pixels, 10, 10, peaks=True)
    assert small.shape == (10, 10, 3)
    assert tuple(small[5, 5]) == HEAT[-1]
    assert tuple(small[0, 0]) == HEAT[1]
    assert tuple(small[9, 9]) == NAN_COLOR
    assert tuple(small[0, 9]) == INF_COLOR
    mean = shrunk(pixels, 10, 10)
    assert tuple(mean[9, 9]) == NAN_COLOR
    assert tuple(mean[5, 5]) != HEAT[-1]


def test_very_long_pictures_keep_a_pixel() -> None:
    assert shrunk(np.zeros((1, 10_000, 3), np.uint8), 100, 40).shape == (1, 100, 3)


def test_png() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 3)).astype(np.uint8)
    content = png_bytes(pixels)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(content))), pixels)
    assert content == png_bytes(np.asfortranarray(pixels))
    chunks = [content[i : i + 4] for i in range(len(content) - 4)]
    assert b"tIME" not in chunks


@pytest.mark.parametrize("shape", [(40, 30), (3, 40, 30), (4, 40, 30), (40, 30, 7)])
def test_bands_of_rows_make_the_same_picture(
    shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).random(shape)
    values.flat[[3, 500, 901]] = NAN, INF, -INF
    whole = picture_of(values)
    monkeypatch.setattr(pictures, "BAND", 333)
    parts = picture_of(values)
    assert whole is not None
    assert parts is not None
    assert np.array_equal(whole, parts)
