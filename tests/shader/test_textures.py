"""Textures: bytes that can be counted by hand, and samples against a sampler written as loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metal4conv.errors import UsageError
from metal4conv.shader.document import SamplerLayout
from metal4conv.shader.latents import Latents
from metal4conv.shader.textures import (
    latents_bytes,
    sample,
    texture_layouts,
)


def drawn(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    random = np.random.default_rng(3)
    if dtype == "uint8":
        return random.integers(0, 256, shape, np.uint8)
    return random.standard_normal(shape).astype(dtype)


def test_bytes_by_hand() -> None:
    array = np.arange(2 * 1 * 5, dtype=np.uint8).reshape(2, 1, 5)
    content = latents_bytes([Latents("x", array)])
    first, second = texture_layouts([Latents("x", array)])
    assert (first.offset, first.bytes_per_row, first.byte_length) == (0, 4, 8)
    assert (second.offset, second.bytes_per_row, second.byte_length) == (256, 4, 8)
    assert list(content[:8]) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert list(content[8:256]) == [0] * 248
    assert list(content[256:]) == [4, 0, 0, 0, 9, 0, 0, 0]


def test_pixel_formats() -> None:
    bytes_, halves = texture_layouts(
        [Latents("a", drawn((8, 16, 4))), Latents("b", drawn((3, 5, 2), "float16"))]
    )
    assert (bytes_.pixel_format, bytes_.raw_pixel_format) == ("rgba8Unorm", 70)
    assert (bytes_.bytes_per_row, bytes_.byte_length) == (64, 512)
    assert (halves.pixel_format, halves.raw_pixel_format) == ("rgba16Float", 115)
    assert (halves.bytes_per_row, halves.byte_length, halves.offset) == (40, 120, 512)
    assert halves.channels == (0, 1, -1, -1)
    assert (halves.width, halves.height) == (5, 3)


@pytest.mark.parametrize("dtype", ["uint8", "float16"])
@pytest.mark.parametrize("channels", [1, 3, 4, 5, 8, 9])
def test_bytes_and_back(channels: int, dtype: str) -> None:
    latents = (Latents("a", drawn((5, 3, channels), dtype)), Latents("b", drawn((2, 2, 6))))
    content, layouts = latents_bytes(latents), texture_layouts(latents)
    assert len(layouts) == math.ceil(channels / 4) + 2
    assert len(content) == layouts[-1].offset + layouts[-1].byte_length
    for item in latents:
        rebuilt = np.zeros_like(item.array)
        for layout in layouts:
            if layout.input != item.input:
                continue
            assert layout.offset % 256 == 0
            for row in range(layout.height):
                start = layout.offset + row * layout.bytes_per_row
                line = content[start : start + layout.bytes_per_row]
                texels = np.frombuffer(line, item.array.dtype).reshape(layout.width, 4)
                for place, channel in enumerate(layout.channels):
                    if channel < 0:
                        assert not texels[:, place].any()
                    else:
                        rebuilt[row, :, channel] = texels[:, place]
        np.testing.assert_array_equal(rebuilt, item.array)


def test_more_textures_than_a_function_takes() -> None:
    assert len(texture_layouts([Latents("a", drawn((1, 1, 512)))])) == 128
    with pytest.raises(UsageError, match="need 129 textures"):
        texture_layouts([Latents("a", drawn((1, 1, 512))), Latents("b", drawn((1, 1, 1)))])


def wrapped(index: int, count: int, address: str) -> int:
    if address == "repeat":
        return index % count
    return min(max(index, 0), count - 1)


def sampled_by_loops(image: np.ndarray, sampler: SamplerLayout, u: float, v: float) -> np.ndarray:
    """One sample with normalised coordinates, as the specification's figures describe it."""
    rows, columns = image.shape[:2]
    x, y = u * columns, v * rows
    if sampler.filter == "nearest":
        row = wrapped(math.floor(y), rows, sampler.address)
        return image[row, wrapped(math.floor(x), columns, sampler.address)]
    i, j = math.floor(x - 0.5), math.floor(y - 0.5)
    a, b = x - 0.5 - i, y - 0.5 - j
    total = np.zeros(image.shape[2])
    for row, row_weight in ((j, 1 - b), (j + 1, b)):
        for column, column_weight in ((i, 1 - a), (i + 1, a)):
            texel = image[
                wrapped(row, rows, sampler.address), wrapped(column, columns, sampler.address)
            ]
            total += row_weight * column_weight * texel
    return total


@pytest.mark.parametrize("address", ["repeat", "clamp_to_edge"])
@pytest.mark.parametrize("filter_", ["linear", "nearest"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (12, 8), (3, 16), (40, 2)])
def test_samples_against_loops(filter_: str, address: str, size: tuple[int, int]) -> None:
    latents = Latents("x", drawn((4, 6, 5)))
    sampler = SamplerLayout(filter_, address)
    width, height = size
    found = sample(latents, sampler, width, height)
    assert found.dtype == np.float32
    assert found.shape == (width * height, 5)
    image = latents.array / 255
    expected = [
        sampled_by_loops(image, sampler, (x + 0.5) / width, (y + 0.5) / height)
        for y in range(height)
        for x in range(width)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_samples_by_hand() -> None:
    latents = Latents("x", np.array([[[0.0], [8.0]]], np.float16))
    assert sample(latents, SamplerLayout(), 4, 1).ravel().tolist() == [2, 2, 6, 6]
    clamped = SamplerLayout("linear", "clamp_to_edge")
    assert sample(latents, clamped, 4, 1).ravel().tolist() == [0, 2, 6, 8]
    nearest = SamplerLayout("nearest")
    assert sample(latents, nearest, 4, 1).ravel().tolist() == [0, 0, 8, 8]


def test_a_texture_of_the_grids_size_is_read_texel_by_texel() -> None:
    latents = Latents("x", drawn((9, 7, 3), "float16"))
    for filter_ in ("linear", "nearest"):
        found = sample(latents, SamplerLayout(filter_), 7, 9)
        np.testing.assert_allclose(found.reshape(9, 7, 3), latents.array, atol=2e-6)


def test_samples_against_torch() -> None:
    """PyTorch's grid_sample has the same sample positions, with its border as clamp_to_edge."""
    latents = Latents("x", drawn((10, 6, 4), "float16"))
    width, height = 17, 23
    found = sample(latents, SamplerLayout("linear", "clamp_to_edge"), width, height)
    image = torch.from_numpy(latents.array.astype(np.float32)).permute(2, 0, 1)[None]
    x = (torch.arange(width) + 0.5) / width * 2 - 1
    y = (torch.arange(height) + 0.5) / height * 2 - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)[None]
    expected = torch.nn.functional.grid_sample(
        image, grid, "bilinear", "border", align_corners=False
    )
    np.testing.assert_allclose(
        found.reshape(height, width, 4), expected[0].permute(1, 2, 0).numpy(), atol=2e-5
    )
