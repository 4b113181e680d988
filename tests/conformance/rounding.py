"""Comparisons that are finer than float16, told apart from wrong results.

The suite compares with its float32 tolerance whatever a float32 backend gives, also where the
test's program declares weights and results as float16. The tolerance is 1e-4 and 1e-5 of the
value; neighbouring float16 numbers are up to 1e-3 of the value apart. Where the spacing of float16
numbers is larger than the tolerance, correct results fail unless they happen to lie on the right
side; those are counted apart, as long as they are within a few spacings.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from metal4conv.execute.interpreter import Executor
from metal4conv.mil.program import TensorType

halves: list[np.ndarray] = []
"""Predicted arrays of the running test whose values went through float16 last."""

excused: list[str] = []
"""One entry for each comparison of the running test that is finer than float16."""

Compare = Callable[..., None]


def note(executor: Executor, outputs: dict[str, Any]) -> None:
    """Remembers which outputs hold float16 values. (Any: arrays, and what else is predicted.)"""
    for name, value in outputs.items():
        if isinstance(value, np.ndarray) and is_half(executor, name):
            halves.append(value)


def is_half(executor: Executor, name: str) -> bool:
    """Whether an output is float16, or a float16 value cast to the declared dtype."""
    producers = {
        value.name: operation
        for operation in executor.function.block.operations
        for value in operation.outputs
    }
    types = {value.name: value.type for value in executor.function.inputs}
    for operation in executor.function.block.operations:
        types.update({value.name: value.type for value in operation.outputs})
    while name in producers and producers[name].type in ("cast", "identity"):
        name = str(producers[name].inputs["x"][0])
        if is_float16(types.get(name)):
            return True
    return is_float16(types.get(name))


def is_float16(type: object) -> bool:
    return isinstance(type, TensorType) and type.dtype == "float16"


def tolerant(compare: Compare) -> Compare:
    """`np.testing.assert_allclose` that lets through what only float16's spacing put out of tolerance."""

    def assert_allclose(
        actual: Any, desired: Any, rtol: float = 1e-7, atol: float = 0, **options: Any
    ) -> None:
        try:
            compare(actual, desired, rtol=rtol, atol=atol, **options)
        except AssertionError as error:
            held = any(np.shares_memory(actual, half) for half in halves if half.size)
            if not held or not is_beyond_float16(actual, desired, rtol, atol):
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
