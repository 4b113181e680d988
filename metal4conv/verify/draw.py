"""Inputs of golden cases, drawn from a seed.

What an input looks like follows from its type, unless a value range is given:

- floats of rank 4 with 1, 3 or 4 channels (second or last) are pictures in 0..1: a few waves, an
  edge and some noise, in steps of 1/256; within a given range they are scaled to it
- other floats are standard normal; within a given range uniform
- uint8 pictures are drawn from 0..255; other integers are 0 or 1, with a warning, unless a range is
  given; both ends belong to it
- booleans are fair coins

Each array depends on the seed, the case and the input's name only, not on other inputs or their order.
Floats are rounded to what the package's input holds, so that source and package see equal numbers.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.frontends.source import ModelSource, SourceInput
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.program import Dimension, Shape
from metal4conv.report import Finding
from metal4conv.verify.golden import GoldenCase, fits_dtype
from metal4conv.verify.sizes import BytesOf, choose_sizes, sizes_text

DEFAULT_LIMIT_BYTES = 32 * 2**20
HEADER_BYTES = 64 * 2**10
"""Kept free for the file's header."""
PICTURE_CHANNELS = (1, 3, 4)


@dataclass(frozen=True)
class DrawnCases:
    """Cases without outputs, and what the user should know about them."""

    cases: tuple[GoldenCase, ...]
    findings: tuple[Finding, ...] = ()


def draw_cases(
    inputs: Sequence[SourceInput],
    dimensions: Mapping[str, Dimension],
    *,
    seed: int = 0,
    limit_bytes: int = DEFAULT_LIMIT_BYTES,
    count: int = 3,
    input_dtypes: Mapping[str, str] | None = None,
    output_bytes: BytesOf | None = None,
) -> DrawnCases:
    """At least `count` cases: for dynamic sizes the smallest, the default and the largest.

    `input_dtypes` are the package's own, by input. `output_bytes` gives the bytes of a case's float32
    outputs for given sizes, so that they count against the limit; without it only inputs count.
    """

    def bytes_of(sizes: Mapping[str, int]) -> int:
        taken = sum(input_bytes(item, sizes) for item in inputs)
        return taken + (output_bytes(sizes) if output_bytes else 0)

    used = used_dimensions(inputs, dimensions)
    room = max(limit_bytes - HEADER_BYTES, 1)
    chosen, findings = choose_sizes(used, bytes_of, room, count)
    findings += integer_findings(inputs)
    held = input_dtypes or {}
    cases = tuple(
        GoldenCase(
            {
                item.name: round_to_package(
                    draw_array(item, sizes, generator(seed, number, item.name)),
                    held.get(item.name, item.type.dtype),
                    item.name,
                )
                for item in inputs
            },
            sizes,
        )
        for number, sizes in enumerate(chosen)
    )
    return DrawnCases(cases, tuple(findings))


def predict_cases(
    source: ModelSource,
    cases: Sequence[GoldenCase],
    output_names: Mapping[str, str] | None = None,
) -> tuple[GoldenCase, ...]:
    """The same cases with the source's own outputs, floats as float32.

    `output_names` gives the package's name of a source output where it differs.
    """
    return tuple(predict_case(source, number, case, output_names or {}) for number, case in enumerate(cases))


def predict_case(
    source: ModelSource, number: int, case: GoldenCase, output_names: Mapping[str, str]
) -> GoldenCase:
    """One case with its outputs."""
    try:
        outputs = source.predict(case.inputs)
    except Exception as error:
        error.add_note(f"while running the source model on case {number} {case_text(case)}")
        raise
    return replace(
        case, outputs={output_names.get(name, name): as_golden(array) for name, array in outputs.items()}
    )


def case_text(case: GoldenCase) -> str:
    """The sizes of a case in words.

    >>> case_text(GoldenCase({"x": np.zeros((1, 8))}, {"w": 8})), case_text(GoldenCase({}))
    ('(w=8)', '(fixed sizes)')
    """
    return f"({sizes_text(case.dimensions) or 'fixed sizes'})"


def as_golden(array: np.ndarray) -> np.ndarray:
    """An output as golden vectors hold it: floats are float32.

    >>> as_golden(np.array([0.5], np.float64)).dtype
    dtype('float32')
    """
    array = np.asarray(array)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def used_dimensions(
    inputs: Sequence[SourceInput], dimensions: Mapping[str, Dimension]
) -> dict[str, Dimension]:
    """The dimensions that the inputs' shapes name, in order of their first use."""
    names = dict.fromkeys(size for item in inputs for size in item.type.shape if isinstance(size, str))
    return {name: dimensions[name] for name in names}


def concrete_shape(shape: Shape, sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape in numbers.

    >>> concrete_shape((1, "h"), {"h": 8})
    (1, 8)
    """
    return tuple(sizes[size] if isinstance(size, str) else size for size in shape)


def input_bytes(item: SourceInput, sizes: Mapping[str, int]) -> int:
    """Bytes of one input in the file, where int64 is stored as int32."""
    bits = 32 if item.type.dtype == "int64" else DTYPES[item.type.dtype].bits
    return math.prod(concrete_shape(item.type.shape, sizes)) * bits // 8


def generator(seed: int, case: int, name: str) -> np.random.Generator:
    """The random numbers of one array."""
    digest = hashlib.sha256(f"{seed}/{case}/{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "little")))


def draw_array(
    item: SourceInput, sizes: Mapping[str, int], random: np.random.Generator
) -> np.ndarray:
    """One input with the dtype that the source takes."""
    shape = concrete_shape(item.type.shape, sizes)
    dtype = np.dtype(DTYPES[item.type.dtype].numpy)
    axis = channel_axis(item.type.shape)
    if dtype.kind == "b":
        return random.integers(0, 2, shape).astype(dtype)
    if dtype.kind in "iu":
        low, high = integer_range(item)
        return random.integers(low, high, shape, endpoint=True).astype(dtype)
    if axis is not None:
        low, high = item.value_range or (0.0, 1.0)
        return (low + (high - low) * draw_picture(shape, axis, random)).astype(dtype)
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
        picture += 0.1 * np.sign(np.cos(angles[0] / 3)) + 0.05 * random.standard_normal(picture.shape)
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


def integer_findings(inputs: Sequence[SourceInput]) -> list[Finding]:
    """Warns of integer inputs whose range nobody gave."""
    return [
        Finding(
            "warning",
            "golden-integer-range",
            f'golden values of the integer input "{item.name}" are only 0 and 1, as its range is not '
            "known",
            where=item.name,
            hint=f"give the range: -i {item.name}:{shape_option(item.type.shape)}:{item.type.dtype}:0..999",
        )
        for item in inputs
        if item.type.dtype.startswith(("int", "uint"))
        and item.value_range is None
        and not is_byte_picture(item)
    ]


def shape_option(shape: Shape) -> str:
    """A shape as `-i` takes it.

    >>> shape_option((1, "h")), shape_option((1, "max")), shape_option(())
    ('1xh', '1,max', 'scalar')
    """
    named = any(isinstance(size, str) and "x" in size for size in shape)
    return ("," if named else "x").join(map(str, shape)) or "scalar"


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
            f'input "{name}" has values {array.min()}..{array.max()}; the package takes {package_dtype}'
        )
    return array
