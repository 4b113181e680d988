"""`.dds` files of block-compressed textures, which others can read, Pillow among them."""

from __future__ import annotations

import io
import struct

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BLOCK = 4
BLOCK_BYTES = 16
FORMATS = {"BC5": 83, "BC7": 98}
"""DXGI_FORMAT_BC5_UNORM and DXGI_FORMAT_BC7_UNORM."""

# names and flags of the DirectDraw surface's documentation
HEADER_FLAGS = 0x1 | 0x2 | 0x4 | 0x1000 | 0x80000  # caps, height, width, pixel format, size
FOUR_CC = 0x4
CAPS_TEXTURE = 0x1000
TEXTURE_2D = 3


def size_bytes(width: int, height: int) -> int:
    """Bytes of a BC5 or BC7 texture without mipmaps.

    >>> size_bytes(512, 512), size_bytes(5, 4)
    (262144, 32)
    """
    return -(-width // BLOCK) * -(-height // BLOCK) * BLOCK_BYTES


def blocks_of(texels: NDArray[np.float32]) -> NDArray[np.float32]:
    """H×W×C texels as n×16×C, blocks row by row, and the texels of a block as well."""
    height, width, channels = texels.shape
    tiles = texels.reshape(height // BLOCK, BLOCK, width // BLOCK, BLOCK, channels)
    return tiles.transpose(0, 2, 1, 3, 4).reshape(-1, BLOCK * BLOCK, channels)


def texels_of(blocks: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """The reverse."""
    tiles = blocks.reshape(-1, width // BLOCK, BLOCK, BLOCK, blocks.shape[-1])
    return tiles.transpose(0, 2, 1, 3, 4).reshape(-1, width, blocks.shape[-1])


def dds_file(form: str, blocks: bytes, width: int, height: int) -> bytes:
    """A file of one texture in BC5 or BC7."""
    pixel_format = struct.pack("<2I4s5I", 32, FOUR_CC, b"DX10", 0, 0, 0, 0, 0)
    sizes = struct.pack("<7I", 124, HEADER_FLAGS, height, width, len(blocks), 0, 0)
    header = sizes + bytes(44) + pixel_format + struct.pack("<5I", CAPS_TEXTURE, 0, 0, 0, 0)
    extension = struct.pack("<5I", FORMATS[form], TEXTURE_2D, 0, 1, 0)
    return b"DDS " + header + extension + blocks


def decoded(file: bytes) -> NDArray[np.float32]:
    """The texels of a file, 0 to 255, as Pillow decodes them."""
    with Image.open(io.BytesIO(file), formats=["DDS"]) as picture:
        return np.asarray(picture, np.float32)
