"""Forty small networks drawn from a seed: what people put into shaders, in all its variety.

Widths from 3 to 256, depths from 1 to 8, each activation, residual and concatenated connections,
positional encodings, one to three outputs, rows of features or pixels of a picture.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

COUNT = 40
POINTS = 77
"""Not a multiple of a simdgroup's 32, so that its last threads have no point."""

WIDTHS = (3, 5, 8, 13, 16, 24, 32, 33, 47, 64, 100, 128, 200, 256)

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": lambda x: functional.leaky_relu(x, 0.1),
    "elu": lambda x: functional.elu(x, 0.7),
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "softplus": functional.softplus,
    "clamp": lambda x: torch.clamp(x, -0.75, 1.25),
    "none": lambda x: x,
}


@dataclass(frozen=True)
class Plan:
    """What a network is made of; `widths` are those of its hidden layers."""

    number: int
    inputs: tuple[int, ...]
    encoding: str
    widths: tuple[int, ...]
    activation: str
    residual: bool
    concatenated: int | None
    """The layer that is given the network's input once more."""
    outputs: tuple[int, ...]
    pixels: bool

    def __str__(self) -> str:
        parts = [str(self.number), self.activation, f"{max(self.widths)}x{len(self.widths)}"]
        parts += [self.encoding] if self.encoding else []
        parts += ["residual"] if self.residual else []
        parts += ["concatenated"] if self.concatenated is not None else []
        return "-".join([*parts, "pixels" if self.pixels else "rows"])


def plan(number: int) -> Plan:
    """The plan of a number; depth and activation go through all there are, the rest is drawn."""
    draw = random.Random(f"shader {number}")
    depth = 1 + number % 8
    residual = draw.random() < 0.35
    width = draw.choice(WIDTHS)
    widths = [width if residual else draw.choice(WIDTHS) for _ in range(depth)]
    pixels = draw.random() < 0.3
    concatenated = depth // 2 if depth > 1 and draw.random() < 0.4 else None
    if residual:
        widths = [widths[(concatenated or 1) - 1]] * depth
    if number in (7, 23):  # as wide and as deep as it gets
        widths, concatenated = [256] * depth, None
    return Plan(
        number=number,
        inputs=tuple(draw.choice((2, 3, 5, 8, 16)) for _ in range(draw.choice((1, 1, 1, 2)))),
        encoding="" if pixels else draw.choice(("", "", "octaves", "gaussian")),
        widths=tuple(widths),
        activation=list(ACTIVATIONS)[number % len(ACTIVATIONS)],
        residual=residual,
        concatenated=concatenated,
        outputs=tuple(draw.choice((1, 2, 3, 4, 7)) for _ in range(draw.choice((1, 1, 2, 3)))),
        pixels=pixels,
    )


class Generated(nn.Module):
    """The network of a plan, with weights that keep the activations near 1."""

    def __init__(self, plan: Plan) -> None:
        super().__init__()
        self.plan = plan
        random = torch.Generator().manual_seed(1000 + plan.number)
        given = sum(plan.inputs)
        encoded = {"": given, "octaves": given * 9, "gaussian": 32}[plan.encoding]
        self.register_buffer("octaves", math.pi * 2.0 ** torch.arange(4))
        self.register_buffer("directions", 2 * torch.randn((given, 16), generator=random))
        layers = []
        width = encoded
        for number, wanted in enumerate(plan.widths):
            width += encoded if number == plan.concatenated else 0
            layers.append(self.layer(width, wanted, random))
            width = wanted
        self.layers = nn.ModuleList(layers)
        self.last = self.layer(width, sum(plan.outputs), random)

    def layer(self, inputs: int, outputs: int, random: torch.Generator) -> nn.Module:
        """A linear layer of features or pixels."""
        made = nn.Conv2d(inputs, outputs, 1) if self.plan.pixels else nn.Linear(inputs, outputs)
        with torch.no_grad():
            # activations halve a signal's variance or so; nothing between layers leaves it
            gain = 1.0 if self.plan.activation == "none" else 1.4
            made.weight.normal_(0, gain / math.sqrt(inputs), generator=random)
            made.bias.normal_(0, 0.3, generator=random)
        return made

    def encode(self, x: Tensor) -> Tensor:
        """The input as the first layer takes it."""
        if self.plan.encoding == "octaves":
            angles = (x[..., None] * self.octaves).flatten(-2)
            return torch.cat([x, angles.sin(), angles.cos()], dim=-1)
        if self.plan.encoding == "gaussian":
            angles = x @ self.directions
            return torch.cat([angles.sin(), angles.cos()], dim=-1)
        return x

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """The outputs; the first of them goes through a sigmoid, the second keeps its sign only
        softly, so that heads are not all alike.
        """
        axis = 1 if self.plan.pixels else -1
        activate = ACTIVATIONS[self.plan.activation]
        first = self.encode(torch.cat(inputs, dim=axis))
        x = first
        for number, layer in enumerate(self.layers):
            before = x
            x = torch.cat([x, first], dim=axis) if number == self.plan.concatenated else x
            x = activate(layer(x))
            if self.plan.residual and before.shape[axis] == x.shape[axis]:
                x = 0.5 * (x + before)
        heads = list(torch.split(self.last(x), self.plan.outputs, dim=axis))
        heads[0] = torch.sigmoid(heads[0])
        if len(heads) > 1:
            heads[1] = heads[1] / (1 + heads[1].abs())
        return tuple(heads)


def example(plan: Plan) -> tuple[Tensor, ...]:
    """Inputs between -1 and 1: rows, or a picture of 7 × 11."""
    random = torch.Generator().manual_seed(2000 + plan.number)
    shapes = [(1, n, 7, 11) if plan.pixels else (POINTS, n) for n in plan.inputs]
    return tuple(2 * torch.rand(shape, generator=random) - 1 for shape in shapes)
