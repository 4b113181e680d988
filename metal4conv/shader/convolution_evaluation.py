"""Networks with convolutions, computed with numpy over whole images.

What a pass computes at a pixel is `evaluation`'s; here are the images between passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from metal4conv.shader.network import Convolution, Network, PointProgram

Rows = Mapping[str, np.ndarray]
ProgramValues = Callable[[PointProgram, Rows], Rows]
"""Rows of a program's outputs by their vectors' names, of the rows of its inputs."""


def convolved(
    rows: np.ndarray, size: tuple[int, int], convolution: Convolution, dtype: Any = np.float64
) -> np.ndarray:
    """The convolution of an image of `size` (width, height), rows of pixels in and out.

    >>> from metal4conv.shader.network import Vector
    >>> sums = Convolution(Vector("y", 1), "x", np.ones((1, 1, 3, 3)), (1, 1), "sums")
    >>> convolved(np.array([[1.0], [2.0], [4.0]]), (3, 1), sums)[:, 0].tolist()
    [3.0, 7.0, 6.0]
    """
    width, height = size
    outputs, inputs, kernel_height, kernel_width = convolution.weight.shape
    top, left = convolution.padding
    bottom, right = kernel_height - 1 - top, kernel_width - 1 - left
    image = np.asarray(rows, dtype).reshape(height, width, inputs)
    padded = np.pad(image, ((top, bottom), (left, right), (0, 0)))
    result = np.zeros((height, width, outputs), dtype)
    for y in range(kernel_height):
        for x in range(kernel_width):
            tap = np.asarray(convolution.weight[:, :, y, x], dtype)
            result += padded[y : y + height, x : x + width] @ tap.T
    return result.reshape(-1, outputs)


def evaluate_passes(
    network: Network,
    inputs: Rows,
    size: tuple[int, int],
    program_values: ProgramValues,
    dtype: Any = np.float64,
) -> dict[str, np.ndarray]:
    """The outputs of a network of passes, rows by port; `size` is (width, height) of the images."""
    images = {name: np.asarray(rows, dtype) for name, rows in inputs.items()}
    for step in network.passes:
        given = list(step.program.inputs)
        values: dict[str, np.ndarray] = {}
        if step.convolution is not None:
            image = images[step.convolution.image]
            values[given.pop(0).name] = convolved(image, size, step.convolution, dtype)
        values |= {
            vector.name: images[name] for vector, name in zip(given, step.reads, strict=True)
        }
        results = program_values(step.program, values)
        images |= {
            name: results[vector.name]
            for vector, name in zip(step.program.outputs, step.writes, strict=True)
        }
    return {port.name: images[port.name] for port in network.outputs}
