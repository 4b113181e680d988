"""Small networks with convolutions, as people put them into shaders."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from metal4conv.shader.convolution_reading import passes_of
from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Expression,
    Linear,
    Network,
    Piece,
    Port,
    Table,
    Vector,
)
from tests.shader.networks import converted, seeded


class Parts(nn.Module):
    """A module with layers under names, and what it computes of them."""

    def __init__(self, forward: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        self.computed = forward
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, image: Tensor, guide: Tensor | None = None) -> object:
        return self.computed(self, image, *([] if guide is None else [guide]))


def conv(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3) -> nn.Conv2d:
    """A convolution that keeps the image's size."""
    return nn.Conv2d(inputs, outputs, kernel, padding="same")


def chain() -> nn.Module:
    """The smallest: two convolutions and an activation."""
    return nn.Sequential(conv(3, 8), nn.ReLU(), conv(8, 8), nn.ReLU(), conv(8, 3))


def denoiser() -> nn.Module:
    """A residual of the image, one of features, a convolution of single pixels between."""

    def forward(self: Parts, image: Tensor) -> Tensor:
        hidden = torch.relu(self.first(image))
        mixed = self.mix(functional.silu(self.middle(hidden)))
        return image + self.last(hidden + torch.sigmoid(mixed))

    layers = {"first": conv(3, 12), "middle": conv(12, 10), "mix": nn.Conv2d(10, 12, 1)}
    return Parts(forward, **layers, last=conv(12, 3))


def small() -> nn.Module:
    """A pass whose sums are used one by one, and one that needs all of a pixel's."""

    def forward(self: Parts, image: Tensor) -> Tensor:
        hidden = torch.relu(self.first(image))
        return image + torch.tanh(self.mix(self.second(hidden)))

    return Parts(forward, first=conv(3, 5), second=conv(5, 4), mix=nn.Conv2d(4, 3, 1))


def odd() -> nn.Module:
    """Odd numbers of channels, kernels that are not square, one channel at the end."""
    return nn.Sequential(conv(5, 7, (5, 3)), nn.LeakyReLU(0.1), conv(7, 1, (1, 3)), nn.Tanh())


def two_outputs() -> nn.Module:
    """Features that are an output and go on; an output of one channel, and one of all."""

    def forward(self: Parts, image: Tensor) -> tuple[Tensor, Tensor]:
        features = functional.elu(self.first(image))
        return features, torch.sigmoid(self.second(features))

    return Parts(forward, first=conv(2, 6), second=conv(6, 2))


def two_inputs() -> nn.Module:
    """Arithmetic and channels joined before the first convolution; branches joined after."""

    def forward(self: Parts, image: Tensor, guide: Tensor) -> Tensor:
        joined = torch.cat([2 * image - 1, torch.tanh(guide)], dim=1)
        branches = torch.cat([self.wide(joined), torch.relu(self.narrow(joined))], dim=1)
        return self.last(branches) * guide + image

    return Parts(forward, wide=conv(4, 4, 5), narrow=conv(4, 5), last=conv(9, 3))


def normalized() -> nn.Module:
    """A batch normalization that has seen data, and features normalized over channels."""
    layers = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8), nn.GELU(), conv(8, 4), nn.Softmax(1))
    layers[1].running_mean.uniform_(-1, 1)
    layers[1].running_var.uniform_(0.5, 2)
    return layers


def wide() -> nn.Module:
    """As many channels as fit in the largest tile with half operands."""
    return nn.Sequential(conv(4, 64), nn.ReLU(), conv(64, 64), nn.ReLU(), conv(64, 4))


def large_kernel() -> nn.Module:
    """The largest kernel there may be, and enough channels to make the tile small."""
    return nn.Sequential(conv(3, 40, 7), nn.ReLU(), conv(40, 3, 7))


@dataclass(frozen=True)
class Case:
    """How to make a network, and the channels of its inputs."""

    make: Callable[[], nn.Module]
    channels: tuple[int, ...]

    def module(self) -> nn.Module:
        """The network with weights from a seed."""
        return seeded(self.make)

    def images(self, size: tuple[int, int], seed: int = 1) -> tuple[Tensor, ...]:
        """Inputs between -1 and 1 of a (width, height)."""
        generator = torch.Generator().manual_seed(seed)
        shapes = [(1, channels, size[1], size[0]) for channels in self.channels]
        return tuple(2 * torch.rand(shape, generator=generator) - 1 for shape in shapes)


CASES: Mapping[str, Case] = {
    "chain": Case(chain, (3,)),
    "denoiser": Case(denoiser, (3,)),
    "odd": Case(odd, (5,)),
    "two_outputs": Case(two_outputs, (2,)),
    "two_inputs": Case(two_inputs, (3, 1)),
    "normalized": Case(normalized, (3,)),
    "wide": Case(wide, (4,)),
    "large_kernel": Case(large_kernel, (3,)),
}


@cache
def module_of(name: str) -> nn.Module:
    """The module of a case, made once."""
    return CASES[name].module()


@cache
def network_of(name: str) -> Network:
    """The network of a case, read once."""
    found = converted(module_of(name), *CASES[name].images((19, 20))).network
    return replace(found, name=name)


def residual_network() -> Network:
    """A residual of features and one of the image, with a layer of single pixels, by hand."""
    draw = np.random.default_rng(4)

    def convolution(name: str, image: Vector, width: int) -> Convolution:
        weight = draw.standard_normal((width, image.width, 3, 3)).astype(np.float32)
        return Convolution(Vector(name, width), image.name, weight, (1, 1), name)

    def assign(name: str, width: int, expression: Expression) -> Assign:
        return Assign(Vector(name, width), (Piece(0, width, expression),), name)

    def biased(vector: Vector) -> Call:
        bias = Table(draw.standard_normal(vector.width).astype(np.float32))
        return Call("add", (Element(vector), bias))

    image = Vector("image", 3)
    first = convolution("first", image, 12)
    hidden = assign("hidden", 12, Call("relu", (biased(first.result),)))
    second = convolution("second", hidden.result, 8)
    active = assign("active", 8, Call("silu", (biased(second.result),)))
    weight = draw.standard_normal((12, 8)).astype(np.float32)
    mix = Linear(Vector("mix", 12), active.result, weight, "mix")
    features = assign(
        "features",
        12,
        Call("add", (Element(hidden.result), Call("sigmoid", (biased(mix.result),)))),
    )
    last = convolution("last", features.result, 3)
    denoised = assign("denoised", 3, Call("add", (Element(image), biased(last.result))))
    steps = [first, hidden, second, active, mix, features, last, denoised]
    ports = [Port(name, "float32", (1, 3, "h", "w"), (1,)) for name in ("image", "denoised")]
    passes = passes_of({"image": image}, steps, {"denoised": denoised.result})
    return Network("denoiser", (ports[0],), (ports[1],), passes)
