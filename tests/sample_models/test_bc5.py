"""BC5 blocks, against bits counted by hand and against Pillow's decoder."""

from __future__ import annotations

import numpy as np
import pytest
from training import bc5, dds


def test_bits_by_hand():
    """x from 10 to 80 in sevenths, y the same everywhere."""
    pixels = np.zeros((4, 4, 2), np.float32)
    pixels[:, :, 0] = [10, 20, 40, 80]
    pixels[:, :, 1] = 33
    block = bc5.encoded(pixels)
    assert len(block) == dds.size_bytes(4, 4) == 16
    assert list(block[:2]) == [80, 10]
    places = int.from_bytes(block[2:8], "little")
    # 80 is choice 0, 10 is choice 1, then from 70 down to 20: 2 to 7
    assert [(places >> (3 * number)) & 7 for number in range(16)] == [1, 7, 5, 0] * 4
    high, low = block[8:10]
    assert high > low
    assert 33 in (high, low)


@pytest.mark.parametrize("size", [(4, 4), (8, 12), (64, 32)])
def test_pillow_decodes_the_numbers_that_were_chosen(size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 2)).astype(np.float32)
    height, width = size
    found = dds.decoded(dds.dds_file("BC5", bc5.encoded(pixels), width, height))[:, :, :2]
    blocks = dds.blocks_of(pixels)
    channels = [bc5.chosen_numbers(*bc5.fitted(blocks[:, :, channel])) for channel in (0, 1)]
    chosen = dds.texels_of(np.stack(channels, axis=2), width)
    assert np.abs(found - chosen).max() < 1  # Pillow drops fractions


def test_equal_numbers_are_kept():
    for number in (0, 1, 128, 254, 255):
        blocks = np.full((1, 16), number, np.float32)
        np.testing.assert_array_equal(bc5.chosen_numbers(*bc5.fitted(blocks)), blocks)


def test_refinement_helps():
    """Ends by least squares are never worse than the extremes."""
    numbers = np.random.default_rng(1).integers(0, 256, (64, 16)).astype(np.float32)
    extremes = np.stack([numbers.max(axis=1), numbers.min(axis=1)], axis=1)
    _, first = bc5.nearest_choices(numbers, extremes)
    error = ((bc5.chosen_numbers(*bc5.fitted(numbers)) - numbers) ** 2).sum(axis=1)
    assert (error <= first + 0.1).all()
    assert error.mean() < first.mean()


def test_normals_stay_unit_vectors():
    random = np.random.default_rng(2)
    normals = random.standard_normal((16, 8, 3)).astype(np.float32) * 0.1 + [0, 0, 1]
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    found = bc5.through_bc5(normals.astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-6)
    assert np.abs(found - normals).max() < 0.1
