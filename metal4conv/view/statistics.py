"""What is in a tensor: range, mean, histogram, and the elements that deserve a look."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.report import as_json
from metal4conv.view.elements import BITS, SMALLEST_NORMAL, decoded, is_number, type_of

BINS = 32
CHUNK = 1 << 14
"""Elements looked at in one go, few enough for a processor's cache."""

FLOAT16_SMALLEST = SMALLEST_NORMAL["float16"]

Number = int | float


@dataclass(frozen=True)
class Histogram:
    """How many finite elements lie between one edge and the next; the last edge belongs to it.

    There are 32 bins from the smallest to the largest; integers within a range below 32 have a bin
    for each, and equal elements one bin without width.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class TensorStatistics:
    """The figures of a tensor; range, mean and deviation are those of its finite elements.

    They are None where there are none. `denormal` counts what its own type holds with fewer digits;
    `beyond_float16` the finite elements above 65504, `below_float16` those but zero under
    float16's smallest normal number: what changes when a float tensor becomes float16.
    """

    dtype: str
    shape: tuple[int, ...]
    min: Number | None
    max: Number | None
    mean: float | None
    std: float | None
    nan: int
    inf: int
    zero: int
    denormal: int
    constant: bool
    """Whether it has several elements, all equal and finite."""
    beyond_float16: int
    below_float16: int
    histogram: Histogram | None

    def to_json(self) -> dict[str, Any]:  # Any: a JSON document
        """The same as JSON types."""
        document: dict[str, Any] = as_json(self)
        return document


@dataclass
class Counts:
    """What one pass over the elements finds."""

    size: int = 0
    nan: int = 0
    inf: int = 0
    zero: int = 0
    denormal: int = 0
    beyond_float16: int = 0
    below_float16: int = 0
    low: Number | None = None
    high: Number | None = None

    @property
    def finite(self) -> int:
        """How many elements are numbers."""
        return self.size - self.nan - self.inf


def statistics(array: np.ndarray, dtype: str | None = None) -> TensorStatistics:
    """The figures of a tensor of numbers.

    `dtype` names a type that numpy lacks, such as bfloat16, whose bits the array has. The array is
    gone through twice in small parts, so that a mapped file need not fit into memory.

    >>> s = statistics(np.array([1, 3, np.inf, 0, 1e-40], np.float32))
    >>> s.min, s.max, s.mean, s.inf, s.zero, s.denormal, s.below_float16
    (0.0, 3.0, 1.0, 1, 1, 1, 1)
    """
    name = dtype or type_of(array)
    if not is_number(array, name):
        raise TypeError(f"an array of {name} has no statistics")
    counts = counted(array, name)
    mean, std, histogram = spread(array, name, counts)
    return TensorStatistics(
        dtype=name,
        shape=tuple(array.shape),
        min=counts.low,
        max=counts.high,
        mean=mean,
        std=std,
        nan=counts.nan,
        inf=counts.inf,
        zero=counts.zero,
        denormal=counts.denormal,
        constant=counts.finite == counts.size > 1 and counts.low == counts.high,
        beyond_float16=counts.beyond_float16,
        below_float16=counts.below_float16,
        histogram=histogram,
    )


def chunks(array: np.ndarray, dtype: str) -> Iterator[np.ndarray]:
    """The elements as numbers, in flat parts; float16 as float32."""
    stored = array.view(BITS[dtype]) if dtype in BITS else array
    parts = np.nditer(
        stored, flags=["external_loop", "buffered", "zerosize_ok"], order="K", buffersize=CHUNK
    )
    for part in parts:
        values = decoded(np.asarray(part).ravel(), dtype)
        # numpy compares float16 by way of float32 each time
        yield (
            values.astype(np.float32) if values.dtype.itemsize == 2 and is_float(values) else values
        )


def is_float(array: np.ndarray) -> bool:
    """Whether the elements are floats."""
    return array.dtype.kind == "f"


def counted(array: np.ndarray, dtype: str) -> Counts:
    """Range and counts, by one pass."""
    counts = Counts()
    for values in chunks(array, dtype):
        counts.size += values.size
        finite = values
        if is_float(values):
            known = np.isfinite(values)
            if not known.all():
                counts.nan += int(np.count_nonzero(np.isnan(values)))
                counts.inf += int(np.count_nonzero(np.isinf(values)))
                finite = values[known]
            count_sizes(np.abs(finite), dtype, counts)
        counts.zero += finite.size - int(np.count_nonzero(finite))
        if finite.size:
            low, high = finite.min().item(), finite.max().item()
            counts.low = low if counts.low is None else min(low, counts.low)
            counts.high = high if counts.high is None else max(high, counts.high)
    if array.dtype.kind == "b" and counts.low is not None and counts.high is not None:
        counts.low, counts.high = int(counts.low), int(counts.high)
    return counts


def count_sizes(sizes: np.ndarray, dtype: str, counts: Counts) -> None:
    """Adds to the counts of elements that are small or large, all finite and without sign."""
    smallest = SMALLEST_NORMAL.get(dtype, SMALLEST_NORMAL["float64"])
    small = sizes[sizes < max(smallest, FLOAT16_SMALLEST)]  # mostly few
    small = small[small != 0]
    counts.below_float16 += int(np.count_nonzero(small < FLOAT16_SMALLEST))
    counts.denormal += int(np.count_nonzero(small < smallest))
    counts.beyond_float16 += int(np.count_nonzero(sizes > FLOAT16_MAX))


def spread(
    array: np.ndarray, dtype: str, counts: Counts
) -> tuple[float | None, float | None, Histogram | None]:
    """Mean, standard deviation and histogram of the finite elements, by a second pass."""
    if counts.low is None or counts.high is None:
        return None, None, None
    low, high = float(counts.low), float(counts.high)
    if counts.low == counts.high:
        return low, 0.0, Histogram((low, high), (counts.finite,))
    edges = bin_edges(counts, array.dtype.kind in "iub" and dtype not in BITS)
    bins = len(edges) - 1
    shift = shift_to_one(low, high)
    first, last = math.ldexp(edges[0], shift), math.ldexp(edges[-1], shift)
    total, squares, found = 0.0, 0.0, np.zeros(bins, np.int64)
    for values in chunks(array, dtype):
        wide = values.astype(np.float64)
        if counts.finite < counts.size:
            wide = wide[np.isfinite(wide)]
        # within 0..1, so that nothing overflows and squares of distances keep their digits
        place = ((np.ldexp(wide, shift) if shift else wide) - first) / (last - first)
        found += np.bincount(np.minimum((place * bins).astype(np.int64), bins - 1), minlength=bins)
        place -= 0.5
        total += float(place.sum())
        squares += float(np.square(place, out=place).sum())  # a dot product would start threads
    mean = total / counts.finite
    deviation = max(squares / counts.finite - mean**2, 0.0) ** 0.5
    return (
        math.ldexp(first + (last - first) * (mean + 0.5), -shift),
        math.ldexp((last - first) * deviation, -shift),
        Histogram(tuple(map(float, edges)), tuple(map(int, found))),
    )


def shift_to_one(low: float, high: float) -> int:
    """The power of two that brings very large or very small numbers near 1; 0 for usual ones.

    >>> shift_to_one(-1.0, 2.0), shift_to_one(0.0, 5e-324)
    (0, 1073)
    """
    exponent = math.frexp(max(abs(low), abs(high)))[1]
    return 0 if abs(exponent) < 500 else -exponent


def bin_edges(counts: Counts, whole: bool) -> np.ndarray:
    """The edges of the bins; between whole numbers where there are few of them."""
    assert counts.low is not None
    assert counts.high is not None
    if whole and counts.high - counts.low < BINS:
        return np.arange(int(counts.low), int(counts.high) + 2) - 0.5
    low, high = float(counts.low), float(counts.high)
    part = np.linspace(0, 1, BINS + 1)
    edges: np.ndarray = low * (1 - part) + high * part
    edges[0], edges[-1] = low, high
    return edges
