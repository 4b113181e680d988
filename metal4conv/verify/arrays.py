"""One input array, drawn from random numbers.

What an input looks like follows from its type, unless a value range is given:

- floats of rank 4 with 1, 3 or 4 channels (second or last) are pictures in 0..1: a few waves, an
  edge and some noise, in steps of 1/256; within a given range they are scaled to it
- other floats are standard normal; within a given range uniform
- uint8 pictures are drawn from 0..255; other integers are 0 or 1, with a warning, unless a range is
  given; both ends belong to it
- booleans are fair coins

Each array depends on the seed, the case and the input's name, not on other inputs or their order.
Floats are rounded to what the package's input holds, so that source and package see equal numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.frontends.source import SourceInput
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.program import Shape
from metal4conv.verify.golden import fits_dtype

PICTURE_CHANNELS = (1, 3, 4)


def concrete_shape(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape in numbers.

    >>> concrete_shape((1, "h"), {"h": 8})
    (1, 8)
    """
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)


def generator(seed: int, case: int, name: str) -> np.random.Generator:
    """The random numbers of one array."""
    digest = hashlib.sha256(f"{seed}/{case}/{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def draw_array(
    item: SourceInput, sizes: Mapping[str, int], random: np.random.Generator
) -> np.ndarray:
    """One input with the dtype that the source takes."""
    shape = concrete_shape(item.type.shape, sizes)
    try:
        return draw_elements(item, shape, random)
    except (MemoryError, ValueError) as error:  # numpy's own limits are ValueErrors
        raise UnsupportedModel(
            f'input "{item.name}" of shape {shape} cannot be drawn: {error}'
        ) from None


def draw_elements(
    item: SourceInput, shape: tuple[int, ...], random: np.random.Generator
) -> np.ndarray:
    """An array of this shape for an input."""
    dtype = np.dtype(DTYPES[item.type.dtype].numpy)
    axis = channel_axis(item.type.shape)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        low, high = integer_range(item)
        return random.integers(low, high, shape, endpoint=True).astype(dtype)
    if axis is not None:
        darkest, brightest = item.value_range or (0.0, 1.0)
        picture = darkest + (brightest - darkest) * draw_picture(shape, axis, random)
        return picture.astype(dtype)
    if item.value_range:
        return random.uniform(*item.value_range, shape).astype(dtype)
    return random.standard_normal(shape).astype(dtype)


def channel_axis(shape: Shape) -> int | None:
    """Where a picture's channels are, None when the shape is not that of a picture.

    >>> channel_axis((1, 3, "h", "w")), channel_axis((1, "h", "w", 4)), channel_axis((1, 8, 8, 8))
    (1, 3, None)
    """
    if len(shape) != 4:
        return None
    return next((axis for axis in (1, 3) if shape[axis] in PICTURE_CHANNELS), None)


def draw_picture(shape: tuple[int, ...], axis: int, random: np.random.Generator) -> np.ndarray:
    """Pictures in 0..1, each channel of its own: four waves, an edge, and noise.

    Steps of 1/256 are exact in float16, and so coarse that the last bit of a cosine, which differs
    between machines, hardly ever shows.
    """
    planes = shape[0] * shape[axis]
    height, width = (shape[2], shape[3]) if axis == 1 else (shape[1], shape[2])
    row = np.linspace(0, 1, height)[:, None]
    column = np.linspace(0, 1, width)[None, :]
    pictures = np.empty((planes, height, width))
    for picture in pictures:
        waves = random.uniform(-6, 6, (4, 2))
        phases = random.uniform(0, 2 * np.pi, 4)
        angles = [
            2 * np.pi * (down * row + right * column) + phase
            for (down, right), phase in zip(waves, phases, strict=True)
        ]
        picture[:] = 0.5 + 0.1 * np.sum([np.cos(angle) for angle in angles], axis=0)
        picture += 0.1 * np.sign(np.cos(angles[0] / 3)) + 0.05 * random.standard_normal(
            picture.shape
        )
    steps = np.round(np.clip(pictures, 0, 1) * 256) / 256
    stacked = steps.reshape(shape[0], shape[axis], height, width)
    return stacked if axis == 1 else np.moveaxis(stacked, 1, 3)


def integer_range(item: SourceInput) -> tuple[int, int]:
    """The integers that an input may have, both ends included; `UsageError` when there are none."""
    if item.value_range is None:
        return (0, 255) if is_byte_picture(item) else (0, 1)
    low, high = math.ceil(item.value_range[0]), math.floor(item.value_range[1])
    limits = np.iinfo(DTYPES[item.type.dtype].numpy)
    # the package takes int64 inputs as int32
    least, most = max(limits.min, -(2**31)), min(limits.max, 2**31 - 1)
    if low > high or low < least or high > most:
        given = "..".join(f"{end:g}" for end in item.value_range)
        raise UsageError(
            f'input "{item.name}" ({item.type.dtype}) has value range {given}; '
            f"expected whole numbers within {least}..{most}",
            where="--input",
        )
    return low, high


def is_byte_picture(item: SourceInput) -> bool:
    """Whether an input is a picture of 8 bits a channel."""
    return item.type.dtype == "uint8" and channel_axis(item.type.shape) is not None


def round_to_package(array: np.ndarray, package_dtype: str, name: str) -> np.ndarray:
    """The array with its own dtype and only values that the package's input can hold.

    >>> round_to_package(np.array([0.1], np.float32), "float16", "x")
    array([0.09997559], dtype=float32)
    """
    held = np.dtype(DTYPES[package_dtype].numpy)
    if array.dtype.kind == "f" and held.kind == "f":
        with np.errstate(over="ignore"):
            rounded: np.ndarray = array.astype(held).astype(array.dtype)
        if np.isinf(rounded).sum() > np.isinf(array).sum():
            raise UsageError(
                f'input "{name}" has values up to {np.abs(array).max():g}; the package takes '
                f"{package_dtype}, which ends at {np.finfo(held).max:g}",
                hint="convert with --io-precision float32, or give a smaller range with -i",
            )
        return rounded
    if array.dtype.kind in "iu" and held.kind in "iu" and not fits_dtype(array, held):
        raise UsageError(
            f'input "{name}" has values {array.min()}..{array.max()}, the package takes '
            f"{package_dtype}"
        )
    return array
