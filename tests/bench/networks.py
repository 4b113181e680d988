"""A ResNet-50, a ViT, an upscaler and an LSTM, in plain torch, with random weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class Bottleneck(nn.Module):
    """Three convolutions and a way around them."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            *(nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, width, 3, stride, 1, bias=False),
            *(nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs)),
        )
        self.around: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            around = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.around = nn.Sequential(around, nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.around(x))


class ResNet50(nn.Sequential):
    """Stages of 3, 4, 6 and 3 bottlenecks."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64)]
        layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        inputs = 64
        for stage, count in enumerate((3, 4, 6, 3)):
            for index in range(count):
                stride = 2 if stage and not index else 1
                layers.append(Bottleneck(inputs, 64 << stage, stride))
                inputs = 256 << stage
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2048, 1000)]
        super().__init__(*layers, *head)


class Layer(nn.Module):
    """Self-attention and a perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.project = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)
        self.after = nn.LayerNorm(width)
        self.mix = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        parts = self.project(self.before(x)).reshape(batch, tokens, 3, self.heads, -1)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.merge(mixed.transpose(1, 2).reshape(batch, tokens, width))
        return x + self.mix(self.after(x))


class ViT(nn.Module):
    """Patches of 16×16 pixels, some layers, and a class."""

    def __init__(self, width: int = 768, layers: int = 12, heads: int = 12) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 16, 16)
        self.position = nn.Parameter(torch.randn(1, 196, width) * 0.02)
        self.layers = nn.Sequential(*(Layer(width, heads) for _ in range(layers)))
        self.head = nn.Linear(width, 1000)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.layers(tokens).mean(1))


def twice(inputs: int, outputs: int) -> nn.Sequential:
    """Two convolutions that keep the size."""
    first, second = nn.Conv2d(inputs, outputs, 3, 1, 1), nn.Conv2d(outputs, outputs, 3, 1, 1)
    return nn.Sequential(first, nn.ReLU(), second, nn.ReLU())


class Upscaler(nn.Module):
    """A U-Net of 16, 32 and 64 channels; its last pixels are shuffled to twice the size."""

    def __init__(self) -> None:
        super().__init__()
        # `half` would hide a method of the module
        self.fine, self.middle, self.coarse = twice(3, 16), twice(16, 32), twice(32, 64)
        self.to_half, self.to_full = (
            nn.ConvTranspose2d(64, 32, 2, 2),
            nn.ConvTranspose2d(32, 16, 2, 2),
        )
        self.merge_half, self.merge_full = twice(64, 32), twice(32, 16)
        self.last = nn.Conv2d(16, 12, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        full = self.fine(x)
        half = self.middle(functional.max_pool2d(full, 2))
        quarter = self.coarse(functional.max_pool2d(half, 2))
        half = self.merge_half(torch.cat((self.to_half(quarter), half), 1))
        full = self.merge_full(torch.cat((self.to_full(half), full), 1))
        large = functional.interpolate(x, scale_factor=2.0, mode="bilinear")
        return large + functional.pixel_shuffle(self.last(full), 2)


class Recurrent(nn.Module):
    """Two layers of LSTM, 256 wide."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.LSTM(256, 256, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.cells(x)[0]


SHAPES = {"upscaler": (1, 3, 360, 640), "lstm": (4, 96, 256)}
"""Of the inputs that are no picture of 224×224; the upscaler's output has 720 lines."""

NETWORKS = {
    "resnet50": ResNet50,
    "vit_b": ViT,
    "vit_l": lambda: ViT(1024, 24, 16),
    "upscaler": Upscaler,
    "lstm": Recurrent,
}


def network(name: str) -> nn.Module:
    """A network by name, ready to run; the same each time."""
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def example(name: str) -> Tensor:
    """What the network of that name takes."""
    generator = torch.Generator().manual_seed(1)
    return torch.rand(SHAPES.get(name, (1, 3, 224, 224)), generator=generator)


def exported(name: str) -> torch.export.ExportedProgram:
    """A network by name, as an exported program."""
    return torch.export.export(network(name), (example(name),))
