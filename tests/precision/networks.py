"""Networks that overflow or drift in float16, each with what is to blame.

Each is a factory of a seeded torch module, with its inputs as `-i` takes them. Their float16
packages miss 50 dB; a few operations in float32 suffice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """A network and its flaw.

    `culprits` are types of operations, one of which at least must be named; `words` one of which
    its reason must hold.
    """

    factory: Callable[[], nn.Module]
    inputs: tuple[str, ...]
    culprits: tuple[str, ...]
    words: tuple[str, ...]


NETWORKS: dict[str, Network] = {}


def network(
    *inputs: str, culprits: tuple[str, ...], words: tuple[str, ...]
) -> Callable[[Callable[[], nn.Module]], Callable[[], nn.Module]]:
    """Adds a factory to the table."""

    def add(factory: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        NETWORKS[factory.__name__] = Network(factory, inputs, culprits, words)
        return factory

    return add


def seeded(module: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module whose parameters are drawn from a seed."""
    state = torch.get_rng_state()
    try:
        torch.manual_seed(seed)
        return module().eval()
    finally:
        torch.set_rng_state(state)


class Body(nn.Module):
    """Harmless layers around a core, so that float16 is right for most of the network."""

    def __init__(self, core: nn.Module, width: int = 32, depth: int = 4) -> None:
        super().__init__()
        self.before = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.core = core
        self.after = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.before:
            x = x + 0.25 * torch.tanh(layer(x))
        x = self.core(x)
        for layer in self.after:
            x = x + 0.25 * torch.tanh(layer(x))
        return x


class MaskedRows(nn.Module):
    """Attention whose mask of finfo.min is added twice, and hides some rows altogether."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        hidden = torch.zeros(16, 16)
        hidden[:, 10:] = 1
        hidden[3] = 1
        self.register_buffer("hidden", hidden)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.query(x), self.key(x), self.value(x)
        scores = q @ k.transpose(-1, -2) / 5.6
        floor = 0.0 * scores.mean() + self.hidden
        scores = scores + floor * torch.finfo(torch.float32).min
        return x + F.softmax(scores, dim=-1) @ v


@network("x:1x16x32", culprits=("mul", "add", "softmax"), words=("beyond float16", "-3.4e+38"))
def large_mask() -> nn.Module:
    """A row that is hidden altogether: equal weights in float32, NaN with infinities."""
    return seeded(lambda: Body(MaskedRows()))


class RawAttention(nn.Module):
    """Attention without the scale: scores of 10^5."""

    def __init__(self, width: int = 32, scale: float = 60.0) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.scale * self.query(x), self.scale * self.key(x), self.value(x)
        scores = (q @ k.transpose(-1, -2)) / (self.scale * self.scale)
        return x + torch.softmax(scores, dim=-1) @ v


@network("x:1x16x32", culprits=("matmul",), words=("beyond float16",))
def unnormalised_attention() -> nn.Module:
    """Scores beyond float16 before they are scaled."""
    return seeded(lambda: Body(RawAttention(scale=400.0)))


class SoftplusChain(nn.Module):
    """softplus and mish as some models write them: by exp and log."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.log(1 + torch.exp(4 * self.layers[0](x) + 8))
        y = self.layers[1](x)
        return x + 0.1 * y * torch.tanh(torch.log(1 + torch.exp(y)))


@network("x:1x16x32", culprits=("exp", "log", "add"), words=("beyond float16",))
def softplus_chain() -> nn.Module:
    """exp of more than 11 in a softplus that is written out."""
    return seeded(lambda: Body(SoftplusChain(), depth=3))


class BigSum(nn.Module):
    """A sum over all tokens, which each channel scales for itself afterwards."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(width) / 1024)

    def forward(self, x: Tensor) -> Tensor:
        total = (x.abs() * 80 + 60).sum(dim=1, keepdim=True)
        return x + total * self.scale


@network("x:1x1024x32", culprits=("reduce_sum",), words=("beyond float16",))
def big_sum() -> nn.Module:
    """A sum of 1024 numbers of about 120."""
    return seeded(lambda: Body(BigSum()))


class Exponentials(nn.Module):
    """Weights by exponentials, normalised by hand."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.score = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.exp(6 * self.score(x) + 9)
        return x + weights / weights.sum(dim=-1, keepdim=True)


@network("x:1x16x32", culprits=("exp", "reduce_sum"), words=("beyond float16",))
def exponentials() -> nn.Module:
    """A softmax without its maximum subtracted."""
    return seeded(lambda: Body(Exponentials()))


class RootMeanSquare(nn.Module):
    """A norm of squares, written out, of large activations."""

    def forward(self, x: Tensor) -> Tensor:
        large = 300 * x
        return large * torch.rsqrt(large.pow(2).mean(dim=-1, keepdim=True) + 1e-6)


@network("x:1x16x32", culprits=("pow", "mul", "reduce_mean", "square"), words=("beyond float16",))
def sum_of_squares() -> nn.Module:
    """Squares of activations of 1000."""
    return seeded(lambda: Body(RootMeanSquare()))


class Variance(nn.Module):
    """Deviations from a large mean."""

    def forward(self, x: Tensor) -> Tensor:
        lifted = x + 1000
        centred = lifted - lifted.mean(dim=-1, keepdim=True)
        return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-3).sqrt()


@network("x:1x16x32", culprits=("sub", "reduce_mean", "add"), words=("cancels", "steps of"))
def large_mean() -> nn.Module:
    """The digits that matter lie below float16's steps of 0.5 at 1000."""
    return seeded(lambda: Body(Variance()))


class Residuals(nn.Module):
    """A large stream to which many small steps are added."""

    def __init__(self, steps: int = 16, width: int = 32) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(steps))

    def forward(self, x: Tensor) -> Tensor:
        stream = 64 * x
        for layer in self.layers:
            y = torch.tanh(layer(stream / 64))
            stream = stream + y * torch.sigmoid(y)
        return stream - 64 * x


@network("x:1x16x32", culprits=("add",), words=("steps of", "cancels"))
def long_residuals() -> nn.Module:
    """16 steps of 0.1 on a stream of 200: float16 has steps of 0.125 there."""
    return seeded(Residuals)


class TinyDivision(nn.Module):
    """A quotient of two tiny numbers."""

    def forward(self, x: Tensor) -> Tensor:
        energy = (1e-5 * x).square()
        return x + energy / (energy.mean(dim=-1, keepdim=True) + 1e-14)


@network(
    "x:1x16x32", culprits=("real_div", "mul", "square", "reduce_mean"), words=("0 in", "digits")
)
def tiny_division() -> nn.Module:
    """Squares of 1e-5 are 0 in float16."""
    return seeded(lambda: Body(TinyDivision()))


class Product(nn.Module):
    """A product of many factors, scaled back at its end."""

    def __init__(self, factors: int = 10) -> None:
        super().__init__()
        self.factors = factors

    def forward(self, x: Tensor) -> Tensor:
        product = 2 + x[..., :1].tanh()
        for index in range(1, self.factors):
            product = product * (4 + x[..., index : index + 1].tanh())
        return x + product / 4.0**self.factors


@network("x:1x16x32", culprits=("mul",), words=("beyond float16",))
def many_factors() -> nn.Module:
    """Ten factors of about 4."""
    return seeded(lambda: Body(Product()))


class Block(nn.Module):
    """A transformer's block: a norm, attention over few tokens, and a layer of neurons."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        weights = torch.softmax(self.query(y) @ self.key(y).transpose(-1, -2) / 4, dim=-1)
        x = x + 0.5 * self.out(weights @ self.value(y))
        y = self.up(self.norm2(x))
        y = F.gelu(y) * torch.sigmoid(y)
        return x + 0.5 * self.down(y)


class Deep(nn.Module):
    """Blocks, with flaws of three kinds among them."""

    def __init__(self, blocks: int = 26, width: int = 16) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.flaws = nn.ModuleDict(
            {"5": RootMeanSquare(), "12": Variance(), "19": Exponentials(width)}
        )

    def forward(self, x: Tensor) -> Tensor:
        for index, block in enumerate(self.blocks):
            x = block(x)
            if str(index) in self.flaws:
                x = self.flaws[str(index)](x)
        return x


@network(
    "x:1x8x16",
    culprits=("pow", "mul", "reduce_mean", "exp", "reduce_sum", "sub", "square"),
    words=("beyond float16", "cancels"),
)
def five_hundred() -> nn.Module:
    """500 operations of 26 blocks; three of them have a flaw."""
    return seeded(Deep)
