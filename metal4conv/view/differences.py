"""Two tensors of one shape: how far apart they are, and where most."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.report import as_json
from metal4conv.view.elements import BITS, decoded
from metal4conv.view.pictures import difference
from metal4conv.view.statistics import CHUNK, Counts, counted

NEAR_ZERO = 0.01
"""Relative errors are relative to |e|, at least to this part of the largest |e|."""


@dataclass(frozen=True)
class Difference:
    """The figures of a tensor beside the expected one, over elements that are finite in both.

    They are those of `verify`: `max_relative_error` divides by |e|, but by no less than 1 % of the
    largest |e|; `psnr` in dB has the expected range as peak, and is None for equal tensors and for
    those without a range. `not_finite` counts NaN and infinities that the other one does not have
    in the same place. `worst` is the first element of those that differ most, a NaN or infinity of
    only one tensor before all others; None for equal ones.
    """

    elements: int
    differing: int
    not_finite: int
    max_absolute_error: float | None
    max_relative_error: float | None
    rms_error: float | None
    psnr: float | None
    worst: tuple[int, ...] | None
    worst_expected: float | int | None
    worst_actual: float | int | None

    @property
    def equal(self) -> bool:
        """Whether each element is the same in both; NaN counts as equal to NaN."""
        return not self.differing

    def to_json(self) -> dict[str, Any]:  # Any: a JSON document
        """The same as JSON types; NaN and infinities are text."""
        document: dict[str, Any] = {"equal": self.equal, **as_json(self)}
        return {key: json_number(value) for key, value in document.items()}


@dataclass
class Sums:
    """What a pass over both tensors adds up."""

    differing: int = 0
    not_finite: int = 0
    finite: int = 0
    squares: float = 0.0
    largest: float = 0.0
    relative: float = 0.0
    worst: int | None = None
    worst_error: float = 0.0


def compare(
    expected: np.ndarray,
    actual: np.ndarray,
    expected_dtype: str | None = None,
    actual_dtype: str | None = None,
) -> Difference:
    """How far `actual` is from `expected`; a dtype names the type of elements that are bits.

    >>> d = compare(np.array([1.0, 2.0, 4.0]), np.array([1.0, 2.5, 4.0]))
    >>> d.max_absolute_error, d.max_relative_error, d.worst, d.differing
    (0.5, 0.25, (1,), 1)
    """
    assert expected.shape == actual.shape
    types = expected_dtype or expected.dtype.name, actual_dtype or actual.dtype.name
    range_of = counted(expected, types[0])
    floor = NEAR_ZERO * max(abs(range_of.low or 0), abs(range_of.high or 0))
    sums = Sums()
    start = 0
    for e, a in pairs(expected, actual, types):
        add(sums, e, a, floor, start)
        start += e.size
    return finished(sums, range_of, expected, actual, types)


def pairs(
    expected: np.ndarray, actual: np.ndarray, types: tuple[str, str]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The elements of both as float64, in flat parts, in the order of C."""
    stored = [
        array.view(BITS[dtype]) if dtype in BITS else array
        for array, dtype in zip((expected, actual), types, strict=True)
    ]
    parts = np.nditer(
        stored, flags=["external_loop", "buffered", "zerosize_ok"], order="C", buffersize=CHUNK
    )
    for both in parts:
        e, a = (
            decoded(np.asarray(part).ravel(), dtype).astype(np.float64)
            for part, dtype in zip(both, types, strict=True)
        )
        yield e, a


def add(sums: Sums, e: np.ndarray, a: np.ndarray, floor: float, start: int) -> None:
    """Adds a part of both tensors, the first element of which is number `start`."""
    if not e.size:
        return
    error = difference(e, a)
    finite = np.isfinite(e) & np.isfinite(a)
    sums.differing += int(np.count_nonzero(error))
    known, size, ranked = error, np.abs(e), error
    if not finite.all():
        sums.not_finite += int(np.count_nonzero(error[~finite]))
        known, size = error[finite], size[finite]
        ranked = np.where(finite | (error == 0), error, np.inf)
    if known.size:
        sums.finite += known.size
        with np.errstate(over="ignore"):
            sums.squares += float(np.square(known).sum())
        sums.largest = max(sums.largest, float(known.max()))
        if floor:
            sums.relative = max(sums.relative, float((known / np.maximum(size, floor)).max()))
    worst = int(np.argmax(ranked))
    if ranked[worst] > sums.worst_error:
        sums.worst, sums.worst_error = start + worst, float(ranked[worst])


def finished(
    sums: Sums,
    range_of: Counts,
    expected: np.ndarray,
    actual: np.ndarray,
    types: tuple[str, str],
) -> Difference:
    """The figures of what was added up."""
    rms = math.sqrt(sums.squares / sums.finite) if sums.finite else None
    worst = None
    if sums.worst is not None:
        worst = tuple(int(i) for i in np.unravel_index(sums.worst, expected.shape))
    has_range = bool(range_of.high or range_of.low)
    return Difference(
        elements=expected.size,
        differing=sums.differing,
        not_finite=sums.not_finite,
        max_absolute_error=sums.largest if sums.finite else None,
        max_relative_error=sums.relative if sums.finite and has_range else None,
        rms_error=rms,
        psnr=psnr(range_of, rms),
        worst=worst,
        worst_expected=None if worst is None else element(expected, worst, types[0]),
        worst_actual=None if worst is None else element(actual, worst, types[1]),
    )


def psnr(range_of: Counts, rms: float | None) -> float | None:
    """Peak signal-to-noise ratio in dB."""
    if not rms or range_of.low is None or range_of.high is None:
        return None
    peak = float(range_of.high) - float(range_of.low)
    return 20 * math.log10(peak / rms) if peak else None


def element(array: np.ndarray, index: tuple[int, ...], dtype: str) -> float | int:
    """One element as a Python number."""
    value: float | int = decoded(np.asarray(array[index]).reshape(1), dtype)[0].item()
    return value


def json_number(value: Any) -> Any:
    """A number as JSON has it; NaN and infinities as text. (Any: numbers in lists, too.)

    >>> json_number([1.5, float("nan"), float("-inf")])
    [1.5, 'NaN', '-Infinity']
    """
    if isinstance(value, list):
        return [json_number(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def matched(expected: np.ndarray, actual: np.ndarray, names: tuple[str, str]) -> np.ndarray:
    """`actual` in the shape of `expected`, from which only leading dimensions of 1 may differ."""
    if expected.shape == actual.shape:
        return actual
    if without_ones(expected.shape) == without_ones(actual.shape):
        return actual.reshape(expected.shape)
    raise UsageError(
        f"{names[0]} has shape {actual.shape}, {names[1]} has {expected.shape}",
        where="--against",
        hint="only tensors of one shape can be compared; --slice takes the same part of both",
    )


def without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape without its leading dimensions of 1.

    >>> without_ones((1, 1, 3, 1))
    (3, 1)
    """
    position = next((i for i, size in enumerate(shape) if size != 1), len(shape))
    return shape[position:]
