"""Networks over images drawn from a seed: any graph of convolutions, joins and activations."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

ACTIVATIONS: tuple[Callable[[Tensor], Tensor], ...] = (
    torch.relu,
    torch.tanh,
    torch.sigmoid,
    torch.sin,
    functional.silu,
    functional.gelu,
    lambda x: functional.leaky_relu(x, 0.2),
    lambda x: x.clamp(-0.5, 0.7),
    lambda x: torch.softmax(x, 1),
    lambda x: x,
)

KERNELS = ((3, 3), (3, 3), (5, 5), (1, 3), (3, 5))
WIDTHS = (1, 3, 4, 7, 8, 16, 17, 33)
SIZES = ((9, 7), (5, 17), (20, 1), (17, 9))
"""Widths and heights of the image."""


class Drawn(nn.Module):
    """Each step computes of what an earlier one gave; the last is a convolution."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.draw = random.Random(seed)
        self.layers = nn.ModuleList()
        self.channels = [self.draw.choice((1, 2, 3, 5))]
        self.steps: list[Callable[[list[Tensor]], Tensor]] = []
        for _ in range(self.draw.randint(2, 7)):
            self.step(self.draw.choice(("convolve", "convolve", "convolve", "mix", "other")))
        self.layer(len(self.channels) - 1, (3, 3), self.draw.choice((1, 3, 6)))
        last = len(self.channels) - 1
        self.outputs = sorted({last, self.draw.choice((last, self.draw.randint(1, last)))})

    def step(self, kind: str) -> None:
        """Adds a step of one of the values there are."""
        of = self.draw.randrange(len(self.channels))
        if kind == "other":
            self.other(of)
        else:
            kernel = self.draw.choice(KERNELS) if kind == "convolve" else (1, 1)
            self.layer(of, kernel, self.draw.choice(WIDTHS))

    def layer(self, of: int, kernel: tuple[int, int], outputs: int) -> None:
        """Adds a convolution and its activation."""
        bias = self.draw.random() < 0.8
        made = nn.Conv2d(self.channels[of], outputs, kernel, padding="same", bias=bias)
        activation = self.draw.choice(ACTIVATIONS)
        self.layers.append(made)
        self.steps.append(lambda values: activation(made(values[of])))
        self.channels.append(outputs)

    def other(self, of: int) -> None:
        """Adds what needs no weights: channels joined or cut, sums."""
        width = self.channels[of]
        match self.draw.choice(("join", "add", "cut")):
            case "join":
                other = self.draw.randrange(len(self.channels))
                self.steps.append(lambda values: torch.cat([values[of], values[other]], 1))
                self.channels.append(width + self.channels[other])
            case "add":
                like = [k for k, found in enumerate(self.channels) if found == width]
                other = self.draw.choice(like)
                self.steps.append(lambda values: 0.5 * values[of] + values[other])
                self.channels.append(width)
            case "cut":
                half = max(1, width // 2)
                self.steps.append(lambda values: values[of][:, :half])
                self.channels.append(half)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """One output, or two."""
        values = [image]
        for step in self.steps:
            values.append(step(values))
        return tuple(values[place] for place in self.outputs)


def drawn(seed: int) -> tuple[Drawn, Tensor]:
    """The network of a seed, and an image between -1 and 1."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Drawn(seed).eval()
        width, height = SIZES[seed % len(SIZES)]
        return module, 2 * torch.rand(1, module.channels[0], height, width) - 1
