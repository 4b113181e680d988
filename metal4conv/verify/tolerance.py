"""How far a package's output may be from the source's: by dtype and depth of float16 arithmetic.

An element e of the source's output and a of the package's agree when

    |a - e| <= atol + rtol * |e|,    atol = rtol * RMS(output), never below the floor of its dtype

- float32 arithmetic: rtol = 1e-4, for every element.
- float16 arithmetic, d rounding operations deep: rtol = 6 * eps * sqrt(d), eps = 2**-10. Rounding
  errors of single operations are independent, so they add up with the root of their number. One
  element in 10000 may be out, by no more than four times: near an edge (a maximum, a threshold) a
  rounding error can grow. So that many small errors do not hide below a bound made for the largest
  one, the root mean square of the error must be below 1.5 * eps * sqrt(d) * RMS(output). It is
  stated as the least PSNR, with the range of the source's output as peak.
- integers and booleans: equal.

Simulated float16 (one rounding an operation, weights rounded too) gives for the RMS of the error,
in units of eps * sqrt(d) * RMS(output): ViT with 12 layers 0.1, 3 to 20 plain convolutions 0.3 to
1.2, residual ones 0.1, perceptrons 0.1 to 0.2. For the largest element, in units of
eps * sqrt(d) * (RMS(output) + |e|): 0.5, 0.9 to 5.0, 0.2, and 0.5.

Tolerances that the user gives hold for every element: `rtol` replaces the one above (and with it
atol), `atol` the absolute part alone; the default PSNR is then not asked for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

FLOAT32_RTOL = 1e-4
FLOAT16_EPS = 2.0**-10
FLOAT16_ELEMENT = 6.0
FLOAT16_RMS = 1.5
FLOAT16_OUTLIER_SHARE = 1e-4
FLOAT16_OUTLIER_FACTOR = 4.0
FLOORS = {"float16": 2.0**-24, "float32": 1e-8}
"""Least atol: float16's smallest number; for float32 what is left when equal numbers cancel."""


@dataclass(frozen=True)
class Tolerance:
    """Numbers that one output of one case is judged by; `basis` says in words where they are from.

    Up to `outlier_share` of the elements may be out, by at most `outlier_factor` times the bound.
    `min_psnr` is in dB; None asks for none.
    """

    atol: float
    rtol: float
    min_psnr: float | None = None
    outlier_share: float = 0.0
    outlier_factor: float = 1.0
    basis: str = "given"

    def __str__(self) -> str:
        """In words, as the verdict prints it.

        >>> str(Tolerance(0.01, 0.02, 40.0, basis="float16, 12 operations deep"))
        '|a-e| <= 0.01 + 0.02*|e|, PSNR >= 40.0 dB (float16, 12 operations deep)'
        """
        psnr = "" if self.min_psnr is None else f", PSNR >= {self.min_psnr:.1f} dB"
        outliers = (
            f" but for {self.outlier_share:.2%} within {self.outlier_factor:g} times"
            if self.outlier_share
            else ""
        )
        return f"|a-e| <= {self.atol:.3g} + {self.rtol:.3g}*|e|{outliers}{psnr} ({self.basis})"


@dataclass(frozen=True)
class GivenTolerance:
    """What the user asks for with `--atol --rtol --min-psnr`; None leaves it to the rules."""

    atol: float | None = None
    rtol: float | None = None
    min_psnr: float | None = None


def choose_tolerance(
    expected: np.ndarray, dtype: str, depth: int, given: GivenTolerance | None = None
) -> Tolerance:
    """The tolerance for a package's output of `dtype`, `depth` float16 operations deep.

    >>> ramp = np.linspace(-1, 1, 101, dtype=np.float32)
    >>> tolerance = choose_tolerance(ramp, "float16", 4)
    >>> round(tolerance.rtol, 5), round(tolerance.atol, 5), round(tolerance.min_psnr, 1)
    (0.01172, 0.00683, 61.4)
    """
    given = given or GivenTolerance()
    if expected.dtype.kind != "f":
        exact = given.atol is None
        return Tolerance(given.atol or 0.0, 0.0, basis="integers" if exact else "given")
    rms, peak = magnitude(expected)
    floor = FLOORS["float16" if depth else "float32"]
    unit = FLOAT16_EPS * math.sqrt(depth)
    rtol = FLOAT16_ELEMENT * unit if depth else FLOAT32_RTOL
    if given.rtol is not None:
        rtol, floor = given.rtol, 0.0
    atol = max(rtol * rms, floor) if given.atol is None else given.atol
    if given.atol is not None or given.rtol is not None:
        return Tolerance(atol, rtol, given.min_psnr)
    if not depth:
        return Tolerance(atol, rtol, given.min_psnr, basis=f"{dtype}, no float16 arithmetic")
    allowed_rms = max(FLOAT16_RMS * unit * rms, floor)
    min_psnr = given.min_psnr
    if min_psnr is None and peak:
        min_psnr = 20 * math.log10(peak / allowed_rms)
    return Tolerance(
        atol,
        rtol,
        min_psnr,
        FLOAT16_OUTLIER_SHARE,
        FLOAT16_OUTLIER_FACTOR,
        f"{dtype}, {depth} float16 operations deep",
    )


def magnitude(expected: np.ndarray) -> tuple[float, float]:
    """Root mean square and range of the finite elements.

    >>> magnitude(np.array([3.0, -3.0, np.inf]))
    (3.0, 6.0)
    """
    finite = expected[np.isfinite(expected)].astype(np.float64)
    if not finite.size:
        return 0.0, 0.0
    return float(np.sqrt(np.mean(finite**2))), float(finite.max() - finite.min())
