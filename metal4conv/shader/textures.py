"""Latents as Metal textures: their layout in a file, their bytes, and what a sampler makes of them.

Four features share a texture. The file `NAME.latents` holds the textures one after the other, each
from an offset that is a multiple of 256 bytes, rows from the top without gaps: what
`replaceRegion:mipmapLevel:withBytes:bytesPerRow:` takes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from metal4conv.errors import DamagedFile, UsageError
from metal4conv.shader.document import (
    LATENTS_SUFFIX,
    SamplerLayout,
    ShaderManifest,
    TextureLayout,
)
from metal4conv.shader.latents import Latents

OFFSET_ALIGNMENT = 256
"""Enough for a blit from a buffer, whatever the device's minimum linear alignment."""

MOST_TEXTURES = 128
"""Textures of a function: Metal feature set tables, from family Apple6 on."""

PIXEL_FORMATS = {"uint8": ("rgba8Unorm", 70), "float16": ("rgba16Float", 115)}
"""By the element's type: Swift's name and the number of MTLPixelFormat.h."""

TEXEL_DTYPES = {name: np.dtype(dtype) for dtype, (name, _) in PIXEL_FORMATS.items()}
"""The type of a channel by the pixel format's name."""


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


def textures_from_file(manifest: ShaderManifest, folder: Path) -> dict[str, np.ndarray]:
    """The textures of the latents' file beside a manifest, by name: H×W×4, uint8 or float16.

    `DamagedFile` when the file is not the one that the manifest was written with.
    """
    if not manifest.textures:
        return {}
    path = folder / f"{manifest.name}{LATENTS_SUFFIX}"
    if not path.is_file():
        raise UsageError(
            f"no such file: {path}",
            where=f"the textures of {manifest.name}",
            hint="it is written together with the shader; keep the files in one folder",
        )
    content = path.read_bytes()
    needed = max(layout.offset + layout.byte_length for layout in manifest.textures)
    if len(content) != needed:
        raise DamagedFile(
            f"{path} has {len(content)} bytes, its manifest says {needed}",
            hint="write the shader again",
        )
    found = hashlib.sha256(content).hexdigest()
    if manifest.latents_sha256 not in (None, found):
        raise DamagedFile(
            f"{path} is not the file that the manifest was written with: SHA-256 {found}, "
            f"expected {manifest.latents_sha256}",
            hint="write the shader again",
        )
    return {layout.name: texture_from_bytes(content, layout) for layout in manifest.textures}


def texture_from_bytes(content: bytes, layout: TextureLayout) -> np.ndarray:
    """One texture of the latents' file, H×W×4, uint8 or float16."""
    dtype = TEXEL_DTYPES[layout.pixel_format]
    count = layout.byte_length // dtype.itemsize
    flat: np.ndarray = np.frombuffer(content, dtype, count, layout.offset)
    return flat.reshape(layout.height, layout.width, 4)


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


def sample_textures(
    textures: Mapping[str, np.ndarray],
    layouts: Iterable[TextureLayout],
    sampler: SamplerLayout,
    size: tuple[int, int],
) -> dict[str, np.ndarray]:
    """The same for each input that has textures, out of the textures by their names.

    `size` is the grid's (width, height).
    """
    columns: dict[str, dict[int, np.ndarray]] = {}
    for layout in layouts:
        values = sample_texels(texel_values(textures[layout.name]), sampler, *size)
        for place, channel in enumerate(layout.channels):
            if channel >= 0:
                columns.setdefault(layout.input, {})[channel] = values[:, place]
    return {
        name: np.stack([features[channel] for channel in sorted(features)], axis=1)
        for name, features in columns.items()
    }


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
