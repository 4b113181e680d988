"""Latents as Metal textures: their layout in a file, their bytes, and what a sampler makes of them.

Four features share a texture. The file `NAME.latents` holds the textures one after the other, each
from an offset that is a multiple of 256 bytes, rows from the top without gaps: what
`replaceRegion:mipmapLevel:withBytes:bytesPerRow:` takes.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.shader.document import SamplerLayout, TextureLayout
from metal4conv.shader.latents import Latents

OFFSET_ALIGNMENT = 256
"""Enough for a blit from a buffer, whatever the device's minimum linear alignment."""

MOST_TEXTURES = 128
"""Textures of a function: Metal feature set tables, from family Apple6 on."""

PIXEL_FORMATS = {"uint8": ("rgba8Unorm", 70), "float16": ("rgba16Float", 115)}
"""By the element's type: Swift's name and the number of MTLPixelFormat.h."""


def texture_layouts(latents: Iterable[Latents]) -> tuple[TextureLayout, ...]:
    """Where the textures of all latents lie in the file, in the order of the inputs given.

    >>> layouts = texture_layouts([Latents("x", np.zeros((3, 5, 6), np.uint8))])
    >>> [(row.name, row.channels, row.offset, row.byte_length) for row in layouts]
    [('x_texture0', (0, 1, 2, 3), 0, 60), ('x_texture1', (4, 5, -1, -1), 256, 60)]
    """
    layouts: list[TextureLayout] = []
    end = 0
    for item in latents:
        name, raw = PIXEL_FORMATS[item.array.dtype.name]
        bytes_per_row = 4 * item.array.itemsize * item.width
        for number, first in enumerate(range(0, item.channels, 4)):
            offset = -(-end // OFFSET_ALIGNMENT) * OFFSET_ALIGNMENT
            end = offset + bytes_per_row * item.height
            red, green, blue, alpha = (
                channel if channel < item.channels else -1 for channel in range(first, first + 4)
            )
            layouts.append(
                TextureLayout(
                    name=f"{item.input}_texture{number}",
                    input=item.input,
                    channels=(red, green, blue, alpha),
                    pixel_format=name,
                    raw_pixel_format=raw,
                    width=item.width,
                    height=item.height,
                    offset=offset,
                    bytes_per_row=bytes_per_row,
                    byte_length=bytes_per_row * item.height,
                )
            )
    if len(layouts) > MOST_TEXTURES:
        raise UsageError(
            f"the latents need {len(layouts)} textures of four features; a function takes "
            f"{MOST_TEXTURES}",
            where="--latents",
            hint="leave an input's latents out, so that it is read from a buffer",
        )
    return tuple(layouts)


def latents_bytes(latents: Iterable[Latents]) -> bytes:
    """The content of the latents' file; channels without a feature are zero."""
    items = {item.input: item for item in latents}
    content = bytearray()
    for layout in texture_layouts(items.values()):
        content += bytes(layout.offset - len(content))
        content += texels_of(items[layout.input].array, layout).tobytes()
    return bytes(content)


def texels_of(array: np.ndarray, layout: TextureLayout) -> np.ndarray:
    """One texture's H×W×4 of latents of H×W×C."""
    texels = np.zeros((layout.height, layout.width, 4), array.dtype)
    for place, channel in enumerate(layout.channels):
        if channel >= 0:
            texels[:, :, place] = array[:, :, channel]
    return texels


def texel_values(texels: np.ndarray) -> np.ndarray:
    """What a shader reads, float32: value/255 of uint8, the value itself of float16.

    >>> texel_values(np.array([0, 51, 255], np.uint8)).tolist()
    [0.0, 0.20000000298023224, 1.0]
    """
    values = texels.astype(np.float32)
    if texels.dtype == np.uint8:
        values /= np.float32(255)
    return values


def sample(latents: Latents, sampler: SamplerLayout, width: int, height: int) -> np.ndarray:
    """The features at the pixel centres of a grid of `width` × `height`: float32 rows × channels.

    Row y * width + x is the sample at ((x + 0.5) / width, (y + 0.5) / height); (0, 0) is the
    texture's upper left corner. As the Metal Shading Language Specification's samplers with
    normalised coordinates do it, with exact weights; a GPU's filter may round its weights.
    """
    return sample_texels(texel_values(latents.array), sampler, width, height)


def sample_texels(
    values: np.ndarray, sampler: SamplerLayout, width: int, height: int
) -> np.ndarray:
    """Samples of an image of numbers, H×W×C, at pixel centres: float32 (width * height)×C."""
    rows, columns = values.shape[:2]
    upper, lower, down = neighbours(height, rows, sampler)
    left, right, across = neighbours(width, columns, sampler)
    wide = values.astype(np.float64)
    lines = wide[upper] + (wide[lower] - wide[upper]) * down[:, None, None]
    pixels = lines[:, left] + (lines[:, right] - lines[:, left]) * across[:, None]
    sampled: np.ndarray = pixels.reshape(width * height, -1).astype(np.float32)
    return sampled


def neighbours(
    pixels: int, texels: int, sampler: SamplerLayout
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each pixel along an axis the two texels beside its centre, and the second's weight.

    Coordinates are float32, as in the shader, so that a centre on a texel's edge goes the same way.

    >>> [part.tolist() for part in neighbours(4, 2, SamplerLayout())]
    [[1, 0, 0, 1], [0, 1, 1, 0], [0.75, 0.25, 0.75, 0.25]]
    """
    coordinates = (np.arange(pixels, dtype=np.float32) + np.float32(0.5)) / np.float32(pixels)
    places = coordinates * np.float32(texels)
    if sampler.filter == "linear":
        places = places - np.float32(0.5)
    first = np.floor(places).astype(np.int64)
    weight = places.astype(np.float64) - first
    second = first + 1
    if sampler.filter == "nearest":
        weight = np.zeros_like(weight)
    if sampler.address == "repeat":
        return first % texels, second % texels, weight
    last = texels - 1
    return np.clip(first, 0, last), np.clip(second, 0, last), weight
