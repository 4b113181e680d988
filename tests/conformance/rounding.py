"""Comparisons that are finer than float16, told apart from wrong results.

The suite compares with its float32 tolerance whatever a float32 backend gives, also where the
test's program declares weights and results as float16, or where its expectation was computed in
float16. The tolerance is 1e-4 and 1e-5 of the value; neighbouring float16 numbers are up to 1e-3
of the value apart. Where the spacing of float16 numbers is larger than the tolerance, correct
results fail unless they happen to lie on the right side; those are counted apart: results that
went through float16 as long as they are within a few spacings, expectations in float16 as long as
every result, rounded to float16, is the expectation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from metal4conv.execute.interpreter import Executor
from metal4conv.mil.program import Constant, Function, TensorType

halves: list[np.ndarray] = []
"""Predicted arrays of the running test, of programs that declare float16 values."""

excused: list[str] = []
"""One entry for each comparison of the running test that is finer than float16."""

Compare = Callable[..., None]


def note(executor: Executor, outputs: dict[str, Any]) -> None:
    """Remembers the outputs of programs with float16 in them. (Any: whatever is predicted.)"""
    if has_float16(executor.function):
        halves.extend(value for value in outputs.values() if isinstance(value, np.ndarray))


def has_float16(function: Function) -> bool:
    """Whether a value or a constant of the function is declared as float16."""
    types: list[object] = [value.type for value in function.inputs]
    for operation in function.block.walk():
        types += [value.type for value in operation.outputs]
        arguments = (item for bound in operation.inputs.values() for item in bound)
        types += [item.type for item in arguments if isinstance(item, Constant)]
    return any(isinstance(item, TensorType) and item.dtype == "float16" for item in types)


def tolerant(compare: Compare) -> Compare:
    """`np.testing.assert_allclose`, but letting through what only float16's spacing sets apart."""

    def assert_allclose(
        actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **options: Any
    ) -> None:
        try:
            compare(actual, desired, rtol=rtol, atol=atol, **options)
        except AssertionError as error:
            held = any(np.shares_memory(actual, half) for half in halves if half.size)
            is_rounded = held and is_beyond_float16(actual, desired, rtol, atol)
            if not is_rounded and not is_rounded_expectation(actual, desired):
                raise
            excused.append(str(error).splitlines()[-1])

    return assert_allclose


def is_beyond_float16(actual: Any, desired: Any, rtol: float, atol: float) -> bool:
    """Whether the tolerance is finer than float16's spacing, and `actual` within four spacings.

    Spacing at the largest value of the expectation: weights and inputs were rounded to float16 as
    well, so that small elements carry the rounding of large ones.

    >>> is_beyond_float16(np.float16([0.6294]), np.array([0.629623]), 1e-5, 1e-4)
    True
    >>> is_beyond_float16(np.float16([0.6350]), np.array([0.629623]), 1e-5, 1e-4)
    False
    >>> is_beyond_float16(np.float16([0.0630]), np.array([0.062]), 1e-5, 1e-4)
    False
    """
    given, wanted = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
    if given.shape != wanted.shape or not np.isfinite(given).all():
        return False
    largest = np.abs(wanted).max(initial=0)
    spacing = float(np.spacing(np.float16(largest)))
    is_finer = atol + rtol * largest < spacing
    allowed = atol + rtol * np.abs(wanted) + 4 * spacing
    return bool(is_finer and (np.abs(given - wanted) <= allowed).all())


def is_rounded_expectation(actual: Any, desired: Any) -> bool:
    """Whether the expectation is the result, rounded to float16.

    >>> is_rounded_expectation(np.float32([1.497314]), np.float64([1.4970703125]))
    True
    >>> is_rounded_expectation(np.float32([1.497314]), np.float64([1.498046875]))
    False
    """
    given, wanted = np.asarray(actual, np.float64), np.asarray(desired, np.float64)
    with np.errstate(over="ignore"):
        return given.shape == wanted.shape and bool((given.astype(np.float16) == wanted).all())
