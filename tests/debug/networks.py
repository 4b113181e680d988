"""Small networks with seeded weights, in which faults are seeded; each line does one thing.

A fault in the code is one edit of this text, so every expression that a case replaces stands once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


def signed_smoothstep(x: Tensor) -> Tensor:
    """From -1 to 1, flat at both ends and steepest at 0."""
    magnitude = torch.clamp(x.abs(), 0.0, 1.0)
    inner = 3.0 - 2.0 * magnitude
    return torch.sign(x) * magnitude * magnitude * inner


class Shading(nn.Module):
    """Light that a small network and a few formulas find for points of a surface."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 32)
        self.second = nn.Linear(32, 32)
        self.last = nn.Linear(32, 3, bias=False)

    def forward(self, position: Tensor, normal: Tensor) -> tuple[Tensor, Tensor]:
        length = torch.sqrt((normal * normal).sum(dim=1, keepdim=True) + 1e-3)
        unit = normal / length
        towards = 2.0 * position - unit
        cosine = (unit * towards).sum(dim=1, keepdim=True)
        lit = signed_smoothstep(cosine)
        fog = torch.exp(-0.5 * position[:, 2:3])
        hidden = functional.silu(self.first(torch.cat([position, unit], dim=1)))
        hidden = signed_smoothstep(self.second(hidden) - 0.1) + hidden
        color = torch.sigmoid(self.last(hidden))
        weights = torch.softmax(hidden[:, :8], dim=1)
        shade = torch.where(cosine > 0.25, lit, 0.5 * lit)
        return color * fog + shade, (weights * hidden[:, 8:16]).mean(dim=1)


def shading() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(2)
    return Shading().eval(), (torch.rand(48, 3), torch.randn(48, 3))


class Pyramid(nn.Module):
    """Down and up again, joined at each size."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.InstanceNorm2d(8, affine=True, eps=1e-3)
        self.down = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.wide = nn.Conv2d(12, 12, 3, padding=2, dilation=2, groups=3)
        self.groups = nn.GroupNorm(4, 12)
        self.up = nn.ConvTranspose2d(12, 8, 2, stride=2)
        self.joined = nn.Conv2d(16, 8, 3, padding=1, padding_mode="reflect")
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        full = functional.leaky_relu(self.norm(self.first(image)), 0.1)
        half = functional.gelu(self.down(full))
        smooth = functional.avg_pool2d(half, 3, 1, 1, count_include_pad=True)
        half = half + self.groups(self.wide(smooth))
        quarter = functional.max_pool2d(half, 2, 2)
        larger = functional.interpolate(
            quarter, scale_factor=2.0, mode="bilinear", align_corners=False
        )
        mixed = torch.cat([full, self.up(half - larger)], dim=1)
        found = functional.elu(self.joined(mixed))
        share = torch.softmax(self.last(found), dim=1)
        return share, torch.amax(found, dim=(2, 3))


def pyramid() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(3)
    return lively(Pyramid()), (torch.rand(1, 3, 16, 24),)


class Attention(nn.Module):
    """Attention written out, which looks back only."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def split(self, x: Tensor) -> Tensor:
        return x.reshape(1, x.shape[1], self.heads, -1).permute(0, 2, 1, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        query = self.split(self.query(x)) * 0.5
        scores = torch.matmul(query, self.split(self.key(x)).transpose(2, 3))
        share = torch.softmax(scores + mask, dim=-1)
        found = torch.matmul(share, self.split(self.value(x)))
        return self.out(found.permute(0, 2, 1, 3).reshape(1, x.shape[1], -1))


class Layer(nn.Module):
    """Attention and a perceptron, each with a way around it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.before = nn.LayerNorm(width)
        self.attention = Attention(width, 4)
        self.after = nn.LayerNorm(width)
        self.wide = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = x + self.attention(self.before(x), mask)
        return x + self.narrow(functional.gelu(self.wide(self.after(x))))


class Language(nn.Module):
    """Words, positions, two layers, and what the last word says."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.words = nn.Embedding(40, width)
        self.positions = nn.Parameter(torch.randn(1, 32, width))
        self.layers = nn.ModuleList([Layer(width), Layer(width)])
        self.norm = nn.LayerNorm(width, eps=1e-5)
        self.head = nn.Linear(width, 10)

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        length = ids.shape[1]
        x = self.words(ids) + self.positions[:, 1 : length + 1]
        mask = torch.triu(torch.full((length, length), -100.0), diagonal=1)
        for layer in self.layers:
            x = layer(x, mask)
        x = self.norm(x)
        last = torch.tanh(x[:, -1])
        return torch.log_softmax(self.head(x), dim=-1), last - x.mean(dim=1)


def language() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(4)
    return lively(Language()), ((torch.arange(9) * 7 % 40)[None],)


class Tables(nn.Module):
    """Moves, picks and sums: what keeps values and gets their places wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(8, 8)
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.register_buffer("order", torch.tensor([3, 0, 5, 1, 4, 2, 7, 6]))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        picked = torch.index_select(self.project(x), 2, self.order)
        turned = picked.transpose(1, 2) + x
        shuffled = turned.reshape(2, 2, 4, 8).permute(0, 2, 1, 3).reshape(2, 8, 8)
        product = torch.einsum("bij,jk->bik", shuffled, self.weight)
        first, second = torch.split(product, [3, 5], dim=1)
        middle = second[:, 1:4]
        rolled = torch.roll(middle, 1, dims=2)
        joined = torch.cat([first, rolled], dim=1)
        totals = torch.cumsum(joined, dim=1)
        turned_back = torch.flip(totals, dims=[2])
        norm = torch.linalg.vector_norm(turned_back, dim=2, keepdim=True)
        scaled = turned_back / (norm + 0.01)
        best = torch.maximum(scaled, joined * 0.25)
        spread = torch.var(best, dim=1, unbiased=False)
        return {"best": best.clamp(-0.75, 0.75), "spread": torch.log(spread + 1.0)}


def tables() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(5)
    return Tables().eval(), (torch.randn(2, 8, 8),)


def lively(model: nn.Module) -> nn.Module:
    """Random biases and scales, such that none of them is what it is by default."""
    for module in model.modules():
        if isinstance(module, (nn.LayerNorm, nn.GroupNorm, nn.InstanceNorm2d)):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return model.eval()
