"""A neural material: a small network that turns texture latents into base colour and normal.

The material's texture holds eight latent channels a texel (`neural_material_latents.safetensors`).
A shader samples it bilinearly and hands the eight numbers of each pixel to the network.
"""

import torch
from torch import Tensor, nn

LATENT_CHANNELS = 8
HIDDEN_CHANNELS = 32
# Not lost in float16, whose normal numbers begin at 6e-5; trained directions are 1 to 9 long.
LENGTH_EPSILON = 1e-3


class NeuralMaterial(nn.Module):
    """Base colour and tangent space normal of n shading points from their n×8 latents."""

    def __init__(self, hidden: int = HIDDEN_CHANNELS) -> None:
        super().__init__()
        self.first = nn.Linear(LATENT_CHANNELS, hidden)
        self.second = nn.Linear(hidden, hidden)
        self.last = nn.Linear(hidden, 6)

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """`base_color` n×3 in 0 to 1 (sRGB encoded) and `normal` n×3 of unit length."""
        hidden = torch.relu(self.first(latents))
        hidden = torch.relu(self.second(hidden))
        channels = self.last(hidden)
        base_color = torch.sigmoid(channels[:, :3])
        direction = channels[:, 3:]
        squared_length = (direction * direction).sum(dim=1, keepdim=True)
        normal = direction * torch.rsqrt(squared_length + LENGTH_EPSILON)
        return base_color, normal


def neural_material() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network with random weights, and latents of 1024 shading points as its example input."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.rand((1024, LATENT_CHANNELS), generator=generator)
    return NeuralMaterial().eval(), (latents,)
