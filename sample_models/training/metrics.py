"""How near a result is to what it should be."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def psnr(found: ArrayLike, expected: ArrayLike, span: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB; `span` is the distance from least to largest value.

    >>> round(psnr([0.5, 0.5], [0.4, 0.6]), 3)
    20.0
    """
    difference = np.asarray(found, np.float64) - np.asarray(expected, np.float64)
    return float(10 * np.log10(span**2 / np.mean(difference**2)))
