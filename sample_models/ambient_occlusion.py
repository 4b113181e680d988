"""Ambient occlusion: how dark corners and crevices are, from the depth and normals of a frame.

A small U-Net. It is trained on distances up to some 25 m, on occluders within 0.6 m, and for
frames whose focal length is 100 to 200 pixels.
"""

import torch
from torch import Tensor, nn

CHANNELS = (8, 16, 32, 48)
RADIUS = 0.6  # metres within which occluders count
NEAREST, FURTHEST = 0.25, 25.0
NEIGHBOURHOODS = (5, 11, 23)  # pixels


def pair(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    """Two convolutions; the first one may halve height and width."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1),
        nn.ReLU(),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.ReLU(),
    )


def neighbourhood_mean(values: Tensor, size: int) -> Tensor:
    """The mean over `size`×`size` pixels around each pixel."""
    return nn.functional.avg_pool2d(values, size, 1, size // 2, count_include_pad=False)


class AmbientOcclusion(nn.Module):
    """Three strided convolutions down, three nearest neighbour upsamplings back."""

    def __init__(self, channels: tuple[int, int, int, int] = CHANNELS) -> None:
        super().__init__()
        first, second, third, last = channels
        self.down_1 = pair(4 + len(NEIGHBOURHOODS), first)
        self.down_2 = pair(first, second, stride=2)
        self.down_4 = pair(second, third, stride=2)
        self.down_8 = pair(third, last, stride=2)
        self.up_8 = pair(last, third)
        self.up_4 = pair(third, second)
        self.up_2 = pair(second, first)
        self.up_1 = pair(first, first)
        self.last = nn.Conv2d(first, 1, 1)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")

    def forward(self, depth: Tensor, normals: Tensor) -> Tensor:
        """`occlusion` 1×1×h×w from `depth` 1×1×h×w and `normals` 1×3×h×w, h and w in steps of 8.

        Depth is the distance along the view axis in metres; what has no surface has 60. Normals
        are in view space, x right, y up, z towards the camera, and zero where there is no surface.
        Occlusion is the share of the light from above a surface that is kept off: 0 in the open,
        up to 1. The nearer an occluder, the more it counts, from 1 where it touches to 0 at RADIUS.
        """
        depth = torch.clamp(depth, NEAREST, FURTHEST)
        # how far a pixel lies behind its neighbourhoods, in radii: centimetres count, metres do not
        behind = [
            torch.clamp((depth - neighbourhood_mean(depth, size)) / RADIUS, -1.0, 1.0)
            for size in NEIGHBOURHOODS
        ]
        down_1 = self.down_1(torch.cat([1.0 / depth, normals, *behind], dim=1))
        down_2 = self.down_2(down_1)
        down_4 = self.down_4(down_2)
        found = self.up_8(self.down_8(down_4))
        found = self.up_4(down_4 + self.up(found))
        found = self.up_2(down_2 + self.up(found))
        found = self.up_1(down_1 + self.up(found))
        return torch.sigmoid(self.last(found))


def ambient_occlusion() -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network with random weights, and the depth and normals of a slope as example inputs."""
    depth = torch.linspace(8.0, 2.0, 96)[:, None].expand(96, 128)[None, None].contiguous()
    normals = torch.tensor([0.0, 0.8, 0.6])[None, :, None, None].repeat(1, 1, 96, 128)
    return AmbientOcclusion().eval(), (depth, normals)
