"""Images between passes, against torch's convolutions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metal4conv.shader.convolution_reading import passes_of
from metal4conv.shader.evaluation import convolve, evaluate
from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Network,
    Piece,
    Port,
    Vector,
)


def image(channels: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, channels, height, width))


def rows_of(array: np.ndarray) -> np.ndarray:
    return np.transpose(array, (0, 2, 3, 1)).reshape(-1, array.shape[1])


@pytest.mark.parametrize("kernel", [(3, 3), (5, 3), (1, 7), (7, 7)])
@pytest.mark.parametrize("size", [(9, 5), (1, 6), (4, 1), (1, 1)])
def test_as_torch(kernel, size):
    width, height = size
    weight = np.random.default_rng(1).standard_normal((4, 3, *kernel))
    given = image(3, height, width)
    padding = (kernel[0] // 2, kernel[1] // 2)
    made = Convolution(Vector("y", 4), "x", weight, padding, "y")
    expected = torch.conv2d(torch.from_numpy(given), torch.from_numpy(weight), padding=padding)
    found = convolve(made, rows_of(given), size)
    np.testing.assert_allclose(found, rows_of(expected.numpy()), rtol=1e-12, atol=1e-12)


def test_uneven_padding_as_torch():
    weight = np.random.default_rng(2).standard_normal((2, 3, 3, 3))
    given = image(3, 6, 5)
    made = Convolution(Vector("y", 2), "x", weight, (2, 0), "y")
    padded = torch.nn.functional.pad(torch.from_numpy(given), (0, 2, 2, 0))
    expected = torch.conv2d(padded, torch.from_numpy(weight))
    found = convolve(made, rows_of(given), (5, 6))
    np.testing.assert_allclose(found, rows_of(expected.numpy()), rtol=1e-12, atol=1e-12)


def test_passes_hand_their_images_on():
    x, hidden, active, sums, y = (Vector(name, 3) for name in ("x", "h", "a", "s", "y"))
    weights = np.random.default_rng(3).standard_normal((2, 3, 3, 3, 3)).astype(np.float32)

    def assign(result, function, *vectors):
        call = Call(function, tuple(Element(vector) for vector in vectors))
        return Assign(result, (Piece(0, 3, call),), result.name)

    steps = [
        Convolution(hidden, "x", weights[0], (1, 1), "first"),
        assign(active, "relu", hidden),
        Convolution(sums, "a", weights[1], (1, 1), "second"),
        assign(y, "add", sums, x),
    ]
    port = Port("image", "float32", (1, 3, "h", "w"), (1,))
    network = Network(
        "net",
        (port,),
        (Port("denoised", "float32", (1, 3, "h", "w"), (1,)),),
        passes_of({"image": x}, steps, {"denoised": y}),
    )

    given = image(3, 7, 4)
    tensor = torch.from_numpy(given)
    first, second = (torch.from_numpy(weight).double() for weight in weights)
    middle = torch.relu(torch.conv2d(tensor, first, padding=1))
    expected = torch.conv2d(middle, second, padding=1) + tensor
    found = evaluate(network, {"image": rows_of(given)}, size=(4, 7))
    np.testing.assert_allclose(found["denoised"], rows_of(expected.numpy()), rtol=1e-12, atol=1e-12)
