"""Inputs at the ends of their value ranges, which drawn inputs hardly reach."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from metal4conv.frontends.source import SourceInput
from metal4conv.mil.dtypes import DTYPES
from metal4conv.verify.arrays import channel_axis, generator, integer_range, round_to_package
from metal4conv.verify.golden import GoldenCase

KINDS = ("lowest", "highest", "mixed")
"""All elements at the lower end, at the upper end, and each at one of them by chance."""

MOST_ELEMENTS = 1 << 18
"""Of all inputs; larger cases take long, and only sums notice the difference."""


def value_range(item: SourceInput) -> tuple[float, float] | None:
    """The range that golden inputs are drawn from; None for a normal distribution and booleans."""
    kind = np.dtype(DTYPES[item.type.dtype].numpy).kind
    if kind == "f":
        is_picture = channel_axis(item.type.shape) is not None
        return item.value_range or ((0.0, 1.0) if is_picture else None)
    if kind in "iu" and item.value_range is not None:
        low, high = integer_range(item)
        return float(low), float(high)
    return None


def extreme_cases(
    inputs: Sequence[SourceInput],
    cases: Sequence[GoldenCase],
    package_dtypes: Mapping[str, str],
    seed: int,
) -> list[GoldenCase]:
    """Cases without outputs, with the sizes of the largest golden case up to `MOST_ELEMENTS`.

    Inputs without a range keep the numbers of that case; none has one, no cases.
    """
    ranges = {item.name: value_range(item) for item in inputs}
    if not any(ranges.values()) or not cases:
        return []
    sizes = [sum(array.size for array in case.inputs.values()) for case in cases]
    fitting = [size for size in sizes if size <= MOST_ELEMENTS] or [min(sizes)]
    largest = cases[sizes.index(max(fitting))]
    return [
        GoldenCase(
            {
                name: round_to_package(
                    extreme_array(array, ranges.get(name), kind, generator(seed, number, name)),
                    package_dtypes.get(name, array.dtype.name),
                    name,
                )
                for name, array in largest.inputs.items()
            },
            largest.dimensions,
        )
        for number, kind in enumerate(KINDS)
    ]


def extreme_array(
    array: np.ndarray,
    ends: tuple[float, float] | None,
    kind: str,
    random: np.random.Generator,
) -> np.ndarray:
    """An array of the same shape and dtype at the ends of a range.

    >>> extreme_array(np.zeros(2), (-1.0, 3.0), "highest", np.random.default_rng(0))
    array([3., 3.])
    """
    if ends is None:
        return array
    low, high = ends
    if kind == "mixed":
        return np.where(random.integers(0, 2, array.shape) == 1, high, low).astype(array.dtype)
    return np.full(array.shape, low if kind == "lowest" else high, array.dtype)
