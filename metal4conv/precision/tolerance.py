"""What the user asks for, and how far an output is from it: 1 is just enough, less is better."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.verify.compare import absolute_error
from metal4conv.verify.tolerance import magnitude

DEFAULT_PSNR = 50.0


@dataclass(frozen=True)
class Wanted:
    """The tolerance that each output must hold: PSNR in dB, and errors of single elements."""

    min_psnr: float | None = DEFAULT_PSNR
    atol: float | None = None
    rtol: float | None = None

    def __str__(self) -> str:
        """
        >>> str(Wanted(50.0, atol=0.01))
        'PSNR >= 50 dB, |a-e| <= 0.01 + 0*|e|'
        """
        parts = [] if self.min_psnr is None else [f"PSNR >= {self.min_psnr:g} dB"]
        if self.atol is not None or self.rtol is not None:
            parts.append(f"|a-e| <= {self.atol or 0:g} + {self.rtol or 0:g}*|e|")
        return ", ".join(parts)


def wanted_tolerance(min_psnr: float | None, atol: float | None, rtol: float | None) -> Wanted:
    """The tolerance of the options; 50 dB when there is none of them."""
    for option, value in (("--min-psnr", min_psnr), ("--atol", atol), ("--rtol", rtol)):
        if value is not None and not (value >= 0 and math.isfinite(value)):
            raise UsageError(f"{option} {value:g}: expected a number of at least 0", where=option)
    if min_psnr is None and atol is None and rtol is None:
        return Wanted()
    return Wanted(min_psnr, atol, rtol)


@dataclass(frozen=True)
class Distance:
    """How far the outputs of a run are from what is wanted.

    `ratio` is the mean square error in units of the allowed one (for single elements, the square of
    the worst error in units of its bound); infinite for a NaN or an infinity that should be a
    number. `output` is the one that it belongs to.
    """

    ratio: float
    output: str = ""
    psnr: float = math.inf
    worst_error: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the tolerance holds."""
        return self.ratio <= 1

    def reached(self, wanted: Wanted) -> str:
        """What was reached, in words."""
        if math.isinf(self.ratio):
            return f'NaN or infinities in "{self.output}"'
        if wanted.min_psnr is not None:
            return f'PSNR {self.psnr:.1f} dB in "{self.output}"'
        return f'errors up to {self.worst_error:.3g} in "{self.output}"'


def distance(
    expected: Mapping[str, np.ndarray],
    actual: Mapping[str, np.ndarray],
    wanted: Wanted,
    peaks: Mapping[str, float],
) -> Distance:
    """The output that is farthest from what is wanted.

    `peaks` are the least peaks of the PSNR, for cases whose outputs hardly vary.
    """
    found = [
        output_distance(name, array, actual[name], wanted, peaks.get(name, 0.0))
        for name, array in expected.items()
    ]
    return max(found, key=lambda item: item.ratio, default=Distance(0.0))


def output_distance(
    name: str, expected: np.ndarray, actual: np.ndarray, wanted: Wanted, peak: float
) -> Distance:
    """How far one output is.

    >>> e, a = np.array([0.0, 1.0]), np.array([0.01, 1.0])
    >>> round(output_distance("y", e, a, Wanted(40.0), 0.0).ratio, 3)
    0.5
    """
    expected = np.atleast_1d(expected)
    actual = np.asarray(actual).reshape(expected.shape)
    if expected.dtype.kind != "f":
        same = bool((expected == actual).all())
        return Distance(0.0 if same else math.inf, name)
    wide = np.asarray(expected, np.float64)
    got = np.asarray(actual, np.float64)
    error = absolute_error(wide, got)
    if np.isinf(error).any():
        return Distance(math.inf, name, -math.inf, math.inf)
    finite = np.isfinite(wide)
    if not finite.any():
        return Distance(0.0, name)
    error, wide = error[finite], wide[finite]
    mean_square = float(np.mean(error**2))
    peak = max(peak, magnitude(wide)[1]) or float(np.abs(wide).max())
    psnr = reached_psnr(mean_square, peak)
    ratio = element_ratio(error, wide, wanted)
    if wanted.min_psnr is not None:
        ratio = max(ratio, ratio_of_psnr(psnr, wanted.min_psnr))
    return Distance(ratio, name, psnr, float(error.max()))


def element_ratio(error: np.ndarray, expected: np.ndarray, wanted: Wanted) -> float:
    """The square of the worst error in units of its bound."""
    if wanted.atol is None and wanted.rtol is None:
        return 0.0
    bound = (wanted.atol or 0.0) + (wanted.rtol or 0.0) * np.abs(expected)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(error == 0, 0.0, error / bound)
    return float(excess.max()) ** 2


def reached_psnr(mean_square: float, peak: float) -> float:
    """PSNR in dB; without a peak there is nothing that an error could be measured by."""
    if not mean_square or not peak:
        return math.inf
    return 10 * math.log10(peak**2 / mean_square)


def ratio_of_psnr(psnr: float, min_psnr: float) -> float:
    """The mean square error in units of the allowed one.

    >>> ratio_of_psnr(40.0, 50.0), ratio_of_psnr(float("inf"), 50.0)
    (10.0, 0.0)
    """
    return 0.0 if math.isinf(psnr) else float(10 ** ((min_psnr - psnr) / 10))


def allowed_square(expected: np.ndarray, wanted: Wanted, peak: float) -> float:
    """The mean square error that an output may have, as an estimate for the search."""
    finite = expected[np.isfinite(expected)].astype(np.float64)
    if not finite.size:
        return 1.0
    limits = []
    if wanted.min_psnr is not None:
        peak = max(peak, magnitude(finite)[1]) or float(np.abs(finite).max())
        limits.append(peak**2 * 10 ** (-wanted.min_psnr / 10))
    if wanted.atol is not None or wanted.rtol is not None:
        bound = (wanted.atol or 0.0) + (wanted.rtol or 0.0) * float(np.sqrt(np.mean(finite**2)))
        limits.append((bound / TYPICAL_EXCESS) ** 2)
    return max(min(limits), 1e-30)


TYPICAL_EXCESS = 4.0
"""The largest of many errors is about so many times their root mean square."""
