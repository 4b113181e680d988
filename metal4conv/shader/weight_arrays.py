"""Weights as matmul2d and convolution2d want them, and what smaller types make of them."""

from __future__ import annotations

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.layout.expression import align
from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.report import Finding
from metal4conv.shader.weight_names import Weighted

INPUT_MULTIPLE = 32
"""What a static inner extent of matmul2d has to be a multiple of."""

OUTPUT_MULTIPLE = 16
"""What one of the outer extents has to be a multiple of in cooperative scopes."""

INT8_LARGEST = 127


def linear_array(weight: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """A weight (outputs, inputs) with both padded, and its dimensions before, innermost first.

    >>> array, used = linear_array(np.ones((3, 40), np.float32))
    >>> array.shape, used
    ((16, 64), (40, 3))
    """
    outputs, inputs = weight.shape
    padding = (
        (0, align(outputs, OUTPUT_MULTIPLE) - outputs),
        (0, align(inputs, INPUT_MULTIPLE) - inputs),
    )
    return np.pad(weight, padding), (inputs, outputs)


def convolution_array(weight: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """A weight OIHW as HWIO with channels padded, and its dimensions before, innermost first.

    HWIO is the order that `MPPTensorOpsConvolution2d.h` names. It does not say whether a static
    number of channels loses its remainder as that of matmul2d does, so they are padded likewise.

    >>> array, used = convolution_array(np.ones((3, 40, 3, 5), np.float32))
    >>> array.shape, used
    ((3, 5, 64, 16), (3, 40, 5, 3))
    """
    outputs, inputs, height, width = weight.shape
    padding = (
        (0, 0),
        (0, 0),
        (0, align(inputs, INPUT_MULTIPLE) - inputs),
        (0, align(outputs, OUTPUT_MULTIPLE) - outputs),
    )
    array = np.pad(np.transpose(weight, (2, 3, 1, 0)), padding)
    return np.ascontiguousarray(array), (outputs, inputs, width, height)


def quantized(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -127 to 127 and a float32 scale for each output, the first dimension.

    The scale is the largest magnitude over 127, 1 for an output without weights; halves round to
    even.

    >>> numbers, scales = quantized(np.array([[1.27, -0.635], [0, 0]], np.float32))
    >>> numbers.tolist(), scales.round(4).tolist()
    ([[127.0, -64.0], [0.0, 0.0]], [0.009999999776482582, 1.0])
    """
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    scales = (np.abs(rows).max(axis=1, initial=0.0) / INT8_LARGEST).astype(np.float32)
    scales[scales == 0] = 1
    numbers = np.clip(np.rint(rows / scales[:, None]), -INT8_LARGEST, INT8_LARGEST)
    return numbers.reshape(weight.shape).astype(np.float32), scales


def check_finite(step: Weighted) -> None:
    """Weights that are no numbers give outputs that are none."""
    count = int(np.count_nonzero(~np.isfinite(step.weight)))
    if count:
        raise UnsupportedModel(
            f"{count:,} of {step.weight.size:,} weights of {step.label} are infinite or NaN",
            where=step.label,
            hint="load a checkpoint whose weights are finite",
        )


def float16_finding(step: Weighted) -> Finding | None:
    """What float16 loses of a weight; `UnsupportedModel` where a value becomes infinite."""
    weight = np.asarray(step.weight, np.float32)
    with np.errstate(over="ignore"):
        halves = weight.astype(np.float16)
    if np.isinf(halves).any():
        largest = float(np.abs(weight).max())
        raise UnsupportedModel(
            f"the weight of {step.label} holds {largest:g}, and float16 ends at {FLOAT16_MAX:g}",
            where=step.label,
            hint="use --precision float32, or scale the layer down",
        )
    lost = int(np.count_nonzero((halves == 0) & (weight != 0)))
    if not lost:
        return None
    return Finding(
        "warning",
        "float16-underflow",
        f"{lost:,} of {weight.size:,} weights of {step.label} are too small for float16 and "
        "become zero",
        where=step.label,
        hint="compare with --precision float32, or scale the layer up",
    )
