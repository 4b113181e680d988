"""One output of the package beside the source's: figures, and what is wrong with it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.verify.tolerance import Tolerance, magnitude

NEAR_ZERO = 0.01
"""Relative errors are relative to |e|, at least to this part of the largest |e|."""


@dataclass(frozen=True)
class Problem:
    """Why an output does not pass: a stable code, and a sentence."""

    code: str
    message: str
    hint: str | None = None


@dataclass(frozen=True)
class Values:
    """What is in one array: the range of its finite elements (None without any), NaN and Inf."""

    dtype: str
    shape: tuple[int, ...]
    low: float | None
    high: float | None
    nan: int
    inf: int

    @property
    def is_constant(self) -> bool:
        """Whether it has several elements, all equal and finite."""
        several = math.prod(self.shape) > 1
        return several and not self.nan and not self.inf and self.low == self.high


@dataclass(frozen=True)
class OutputComparison:
    """The figures of one output in one case; None where there is nothing to compute them from.

    Errors are over elements that are finite on both sides. `max_relative_error` divides by |e|, but
    by no less than 1 % of the largest |e|. `psnr` in dB has the range of the source's output as
    peak and is infinite for equal arrays. `out_of_tolerance` counts elements, among them each NaN
    or infinity that the other side does not have in the same place.
    """

    name: str
    expected: Values
    actual: Values
    tolerance: Tolerance
    max_absolute_error: float | None = None
    max_relative_error: float | None = None
    rms_error: float | None = None
    psnr: float | None = None
    cosine: float | None = None
    out_of_tolerance: int = 0
    worst_index: tuple[int, ...] | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def share_out(self) -> float:
        """The part of the elements that is out of tolerance."""
        return self.out_of_tolerance / max(math.prod(self.expected.shape), 1)


def compare_outputs(
    name: str, expected: np.ndarray, actual: np.ndarray, tolerance: Tolerance
) -> OutputComparison:
    """The package's output `actual` beside the source's.

    A rank-0 output of the source is `(1,)` in the package.

    >>> e, a = np.array([1.0, 2.0, 4.0], np.float32), np.array([1.0, 2.5, 4.0], np.float32)
    >>> result = compare_outputs("y", e, a, Tolerance(0.1, 0.1))
    >>> result.max_absolute_error, result.max_relative_error, result.worst_index, result.passed
    (0.5, 0.25, (1,), False)
    """
    if expected.shape == () and actual.shape == (1,):
        expected = expected.reshape(1)
    result = OutputComparison(name, values_of(expected), values_of(actual), tolerance)
    if problem := type_problem(expected, actual):
        return replace(result, problems=(problem,))
    if not expected.size:
        return replace(result, psnr=math.inf)
    wide = np.asarray(expected, np.float64)
    got = np.asarray(actual, np.float64)
    bound = tolerance.atol + tolerance.rtol * np.abs(np.where(np.isfinite(wide), wide, 0))
    error = absolute_error(wide, got)
    with np.errstate(invalid="ignore", divide="ignore"):
        excess = np.where(error <= bound, 0.0, error / bound)
    # of equally bad elements the first; within tolerance the one with the largest error
    worst = int(np.argmax(excess if excess.any() else error))
    result = replace(
        measured(result, wide, got, error),
        out_of_tolerance=int(np.count_nonzero(excess)),
        worst_index=tuple(int(i) for i in np.unravel_index(worst, wide.shape)),
    )
    return replace(result, problems=judge(result, expected, actual, float(excess.max())))


def values_of(array: np.ndarray) -> Values:
    """What is in an array.

    >>> values_of(np.array([1.0, np.nan, 3.0], np.float32))
    Values(dtype='float32', shape=(3,), low=1.0, high=3.0, nan=1, inf=0)
    """
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (None, None)
    nan, inf = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    return Values(array.dtype.name, tuple(array.shape), low, high, nan, inf)


def type_problem(expected: np.ndarray, actual: np.ndarray) -> Problem | None:
    """What is wrong with shape or dtype."""
    if expected.shape != actual.shape:
        return Problem("output-shape", f"expected shape {expected.shape}, got {actual.shape}")
    if expected.dtype.kind == "f" and actual.dtype.kind != "f":
        return Problem("output-dtype", f"expected {expected.dtype}, got {actual.dtype}")
    return None


def absolute_error(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """|actual - expected|; infinite where only one is finite, 0 where both are the same NaN or Inf.

    >>> nan, inf = np.nan, np.inf
    >>> absolute_error(np.array([nan, inf, inf, 1.0]), np.array([nan, inf, -inf, nan]))
    array([ 0.,  0., inf, inf])
    """
    with np.errstate(invalid="ignore"):
        error: np.ndarray = np.abs(actual - expected)
    same = (np.isnan(expected) & np.isnan(actual)) | (expected == actual)
    error[same] = 0.0
    error[np.isnan(error)] = np.inf
    return error


def measured(
    result: OutputComparison, expected: np.ndarray, actual: np.ndarray, error: np.ndarray
) -> OutputComparison:
    """The result with the figures of the elements that are finite on both sides."""
    finite = np.isfinite(expected) & np.isfinite(actual)
    if not finite.any():
        return result
    e, a, difference = expected[finite], actual[finite], error[finite]
    rms_error = float(np.sqrt(np.mean(difference**2)))
    largest = float(np.abs(e).max())
    relative = (
        float((difference / np.maximum(np.abs(e), NEAR_ZERO * largest)).max()) if largest else None
    )
    return replace(
        result,
        max_absolute_error=float(difference.max()),
        max_relative_error=relative,
        rms_error=rms_error,
        psnr=psnr(magnitude(e)[1], rms_error),
        cosine=cosine(e, a),
    )


def psnr(peak: float, rms_error: float) -> float | None:
    """Peak signal-to-noise ratio in dB; None without a peak.

    >>> psnr(1.0, 0.01), psnr(0.0, 0.0), psnr(0.0, 0.1)
    (40.0, inf, None)
    """
    if not rms_error:
        return math.inf
    return 20 * math.log10(peak / rms_error) if peak else None


def cosine(expected: np.ndarray, actual: np.ndarray) -> float:
    """Cosine of the angle between two arrays; 1 for two zeros, 0 for one.

    >>> cosine(np.array([1.0, 0.0]), np.array([0.0, 2.0]))
    0.0
    """
    lengths = float(np.linalg.norm(expected)), float(np.linalg.norm(actual))
    if not all(lengths):
        return 0.0 if any(lengths) else 1.0
    value = float(np.dot(expected.ravel() / lengths[0], actual.ravel() / lengths[1]))
    return max(-1.0, min(1.0, value))


def judge(
    result: OutputComparison, expected: np.ndarray, actual: np.ndarray, excess: float
) -> tuple[Problem, ...]:
    """Everything that is wrong; `excess` is the largest error in units of its bound."""
    problems = []
    if is_stuck(expected, actual):
        problems.append(
            Problem(
                "constant-output",
                f"every element is {actual.flat[0]}; expected values from "
                f"{result.expected.low:g} to {result.expected.high:g}",
                "the network does not reach this output, or its arithmetic overflows",
            )
        )
    if overflow := overflow_problem(result, expected, actual):
        problems.append(overflow)
    tolerance = result.tolerance
    tolerated = result.share_out <= tolerance.outlier_share and excess <= tolerance.outlier_factor
    if result.out_of_tolerance and not tolerated:
        problems.append(out_of_tolerance_problem(result, expected, actual))
    if (
        tolerance.min_psnr is not None
        and result.psnr is not None
        and result.psnr < tolerance.min_psnr
    ):
        problems.append(
            Problem(
                "psnr-too-low",
                f"PSNR is {result.psnr:.1f} dB, expected at least {tolerance.min_psnr:.1f} dB",
            )
        )
    return tuple(problems)


def is_stuck(expected: np.ndarray, actual: np.ndarray) -> bool:
    """Whether all of `actual` is one number while `expected` varies by more than rounding explains.

    >>> is_stuck(np.array([0.1, 0.2]), np.array([0.1, 0.1]))
    True
    """
    found = values_of(actual)
    if not found.is_constant and not (found.nan == actual.size > 1):
        return False
    if actual.dtype.kind != "f":
        return bool((expected != expected.flat[0]).any())
    finite = expected[np.isfinite(expected)].astype(np.float64)
    if finite.size < 2:
        return False
    rounding = 2 * float(np.finfo(actual.dtype).eps) * float(np.abs(finite).max())
    return bool(finite.max() - finite.min() > rounding)


def overflow_problem(
    result: OutputComparison, expected: np.ndarray, actual: np.ndarray
) -> Problem | None:
    """NaN or infinity where the source has a number."""
    broken = np.isfinite(expected) & ~np.isfinite(actual)
    count = int(np.count_nonzero(broken))
    if not count:
        return None
    where = list(map(int, np.argwhere(broken)[0]))
    text = f"{count} of {expected.size} elements are NaN or infinite, the first at {where}"
    largest = max(abs(result.expected.low or 0.0), abs(result.expected.high or 0.0))
    if actual.dtype == np.float16 and largest > FLOAT16_MAX:
        return Problem(
            "float16-overflow",
            f"{text}; the source goes up to {largest:g}, float16 to {FLOAT16_MAX:g}",
            "convert with --io-precision float32",
        )
    hint = "float16 overflows inside the network: try --precision auto"
    return Problem("output-not-finite", text, hint if result.tolerance.outlier_share else None)


def out_of_tolerance_problem(
    result: OutputComparison, expected: np.ndarray, actual: np.ndarray
) -> Problem:
    """How many elements are out, and the worst of them."""
    index = result.worst_index or ()
    e, a = expected[index].item(), actual[index].item()
    bound = result.tolerance.atol
    if math.isfinite(e):
        bound += result.tolerance.rtol * abs(e)
    return Problem(
        "out-of-tolerance",
        f"{result.out_of_tolerance} of {expected.size} elements ({result.share_out:.2%}) are out "
        f"of tolerance; the worst at {list(index)}: expected {e:g}, got {a:g}, "
        f"allowed ±{bound:.3g}",
    )
