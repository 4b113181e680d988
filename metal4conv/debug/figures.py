"""How far two arrays are apart, in units of the first one's magnitude."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT16_NORMAL = float(np.finfo(np.float16).tiny)
"""Below it, numbers of float16 lose digits."""


@dataclass(frozen=True)
class Apart:
    """The error of one array against another.

    `rms` and `peak` are the root mean square and the largest error over the root mean square of
    what was expected; for integers and booleans `rms` is the share of elements that differ. `lost`
    counts elements that are NaN and should not be, or the other way around.
    """

    rms: float
    peak: float
    lost: int = 0

    @property
    def worst(self) -> float:
        """The larger figure; infinite when an element is lost."""
        return float("inf") if self.lost else max(self.rms, self.peak)


def how_far(
    expected: np.ndarray,
    actual: np.ndarray,
    limit: float | None = None,
    unit: np.ndarray | None = None,
) -> Apart:
    """The figures of two arrays of one shape; what is beyond ±`limit` counts as `limit`.

    Sizes of 1 may be left out: a scalar of the source is an array of one in the package. Figures
    are in units of the magnitude of `unit`, by default of what was expected.

    >>> how_far(np.array([3.0, -3.0]), np.array([3.0, -3.3]))
    Apart(rms=0.0707..., peak=0.0999..., lost=0)
    >>> how_far(np.array([1, 2]), np.array([1, 3])).rms
    0.5
    >>> how_far(np.array(2.0), np.array([3.0])).rms
    0.5
    >>> how_far(np.array([2.0, -1e38]), np.array([4.0, -1e38]), limit=65504.0).peak
    1.0
    """
    if not expected.size:
        return Apart(0.0, 0.0)
    bound = FLOAT32_MAX if limit is None else limit
    if expected.dtype.kind != "f" or actual.dtype.kind != "f":
        share = float(
            np.mean(
                expected.astype(np.float64).reshape(-1) != actual.astype(np.float64).reshape(-1)
            )
        )
        return Apart(share, share)
    wide = np.clip(expected.astype(np.float64), -bound, bound).reshape(-1)
    got = np.clip(actual.astype(np.float64), -bound, bound).reshape(-1)
    both = np.isfinite(wide) & np.isfinite(got)
    same = both | (np.isnan(wide) & np.isnan(got))
    lost = int(expected.size - np.count_nonzero(same))
    if not both.any():
        return Apart(0.0, 0.0, lost)
    difference = np.abs(wide[both] - got[both])
    measure = wide if unit is None else np.clip(unit.astype(np.float64), -bound, bound).reshape(-1)
    sizes = measure[both & np.isfinite(measure)]
    if limit is not None and (np.abs(sizes) < bound).any():
        sizes = sizes[np.abs(sizes) < bound]  # beside a mask of finfo.min all else would be nothing
    scale = float(np.sqrt(np.mean(sizes**2))) if sizes.size else 0.0
    scale = scale or float(np.finfo(np.float32).tiny)
    return Apart(
        float(np.sqrt(np.mean(difference**2))) / scale, float(difference.max()) / scale, lost
    )


def range_of(array: np.ndarray) -> tuple[float, float] | None:
    """The least and the largest finite element; None without any."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    return (float(finite.min()), float(finite.max())) if finite.size else None


def not_finite(array: np.ndarray) -> tuple[int, int]:
    """How many elements are NaN, and how many infinite."""
    if array.dtype.kind != "f":
        return 0, 0
    return int(np.isnan(array).sum()), int(np.isinf(array).sum())
