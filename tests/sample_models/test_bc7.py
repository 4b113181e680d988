"""BC7 blocks, against bits counted by hand and against Pillow's decoder."""

from __future__ import annotations

import numpy as np
import pytest
from training import bc7, dds
from training.metrics import psnr


def through(pixels):
    height, width = pixels.shape[:2]
    return dds.decoded(dds.dds_file("BC7", bc7.encoded(pixels), width, height))


def test_bits_by_hand():
    """Black and transparent to white and opaque, the texels from one to the other in turn."""
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, 1::2] = 255
    block = int.from_bytes(bc7.encoded(pixels), "little")
    assert block & 0x7F == 1 << 6  # mode 6
    ends = [(block >> (7 + 7 * number)) & 0x7F for number in range(8)]
    assert ends == [0, 127] * 4  # r0 r1 g0 g1 b0 b1 a0 a1
    assert (block >> 63) & 1 == 0
    assert (block >> 64) & 1 == 1
    places = [(block >> 65) & 7] + [(block >> (68 + 4 * number)) & 15 for number in range(15)]
    assert places == [0, 15] * 8


def test_first_place_has_three_bits():
    """Where the first texel is at the upper end, the ends change places."""
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:, ::2] = 255
    np.testing.assert_array_equal(through(pixels), pixels)


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (64, 32)])
def test_pillow_decodes_the_colours_that_were_chosen(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 4), np.uint8)
    texels = dds.blocks_of(pixels.astype(np.float32))
    ends, _, places = bc7.fitted(texels)
    chosen = np.take_along_axis(bc7.palettes(ends.astype(np.float32)), places[:, :, None], 1)
    np.testing.assert_array_equal(through(pixels), dds.texels_of(chosen, size[1]))


def test_one_colour_and_a_line_of_colours():
    colour = np.array([10, 21, 200, 255], np.uint8)
    assert np.abs(through(np.tile(colour, (8, 8, 1))) - colour).max() <= 1
    steps = np.linspace(0, 1, 16)[:, None]
    line = np.round([20, 40, 90, 255] + steps * [180, 60, -70, 0]).astype(np.uint8)
    assert np.abs(through(line.reshape(4, 4, 4)) - line.reshape(4, 4, 4)).max() <= 6


def test_refinement_helps():
    """Ends by least squares are never worse than those of the axis alone."""
    texels = np.random.default_rng(1).integers(0, 256, (64, 16, 4)).astype(np.float32)
    ends = bc7.ends_of_axis(texels)
    _, first = bc7.nearest_places(texels, np.clip(np.round(ends), 0, 255))
    best, _, places = bc7.fitted(texels)
    chosen = np.take_along_axis(bc7.palettes(best.astype(np.float32)), places[:, :, None], 1)
    error = ((chosen - texels) ** 2).sum((1, 2))
    assert error.mean() < first.mean()


def test_a_smooth_picture_stays_near():
    y, x = np.mgrid[0:32, 0:64] / 64
    picture = np.stack([0.3 + 0.4 * x, 0.7 - 0.5 * y, 0.5 + 0.3 * x * y], axis=2)
    found = bc7.through_bc7(picture.astype(np.float32))
    assert found.shape == picture.shape
    assert psnr(found, picture) > 45


def test_sizes():
    assert dds.size_bytes(512, 512) == 512 * 512
    assert len(bc7.encoded(np.zeros((8, 16, 4), np.uint8))) == dds.size_bytes(16, 8)
