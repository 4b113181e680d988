"""What the rounding of its inputs alone does to the outputs of a part.

A part that is fed with the source's values gets them as the package rounds them. Where two large
numbers cancel, that is seen in the output, and no operation of the part is to blame.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from metal4conv.debug.runs import FLOAT16_PART, jittered
from metal4conv.execute.interpreter import Executor
from metal4conv.mil.package import Package
from metal4conv.mil.widening import widened, widened_interface

PARTS = {np.dtype(np.float16): FLOAT16_PART, np.dtype(np.float32): 2.0**-23}
"""By how much of itself rounding changes a number at most."""

EXPLAINED = 4.0
"""Rounding explains an error of up to so many times what it does in one try."""


def explained_by_rounding(
    package: Package,
    inputs: Mapping[str, np.ndarray],
    rounded: Collection[str],
    expected: Mapping[str, np.ndarray],
    actual: Mapping[str, np.ndarray],
) -> frozenset[str]:
    """The outputs whose errors are no larger than what the rounding of some inputs does to them."""
    executor = Executor(widened(package.function()), widened_interface(package.interface()))
    generator = np.random.default_rng(0)
    moved = {
        name: jittered(array.astype(np.float32), PARTS[array.dtype], generator)
        if name in rounded and array.dtype in PARTS
        else array
        for name, array in inputs.items()
    }
    plain, shaken = (executor.predict_arrays(given) for given in (inputs, moved))
    return frozenset(
        name
        for name in expected
        if is_small(expected[name], actual[name], plain[name], shaken[name])
    )


def is_small(
    expected: np.ndarray, actual: np.ndarray, plain: np.ndarray, shaken: np.ndarray
) -> bool:
    """Whether the error of one output is within what rounding does.

    >>> e, a = np.array([1.0, 2.0]), np.array([1.0, 2.1])
    >>> is_small(e, a, e, e + 0.05), is_small(e, a, e, e)
    (True, False)
    """
    wide, got = expected.astype(np.float64), actual.astype(np.float64)
    if wide.shape != got.shape or (np.isfinite(wide) != np.isfinite(got)).any():
        return False
    return root_mean_square(got - wide) <= EXPLAINED * root_mean_square(
        shaken.astype(np.float64) - plain.astype(np.float64)
    )


def root_mean_square(array: np.ndarray) -> float:
    """That of the finite elements, 0 without any."""
    finite = array[np.isfinite(array)]
    return float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
