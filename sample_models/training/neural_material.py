"""Trains the neural material on a brick wall that is generated here, and measures it.

Latent texture and network are fitted together: every step takes one texel out of each 4×4 of the
wall, samples the latents where a shader would, and compares base colour and normal with the wall's.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from neural_material import LATENT_CHANNELS, NeuralMaterial
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.metrics import psnr

FOLDER = Path(__file__).resolve().parents[1]
SIZE = 512
LATENT_SIZE = 128
BLOCK = SIZE // LATENT_SIZE
BRICK_ROWS, BRICK_COLUMNS = 8, 4
TEST_CROP = 192
STEPS = 4000
DIRECTION_SCALE = 8.0

Texels = NDArray[np.float32]


@dataclass(frozen=True)
class Material:
    """Textures of SIZE×SIZE×3: `base_color` 0 to 1 (sRGB encoded), `normal` of unit length.

    A normal's x points along the columns, y down the rows, z out of the wall.
    """

    base_color: Texels
    normal: Texels


def smooth_step(low: float, high: float, x: Texels) -> Texels:
    """0 below `low`, 1 above `high`, a cubic in between."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def tiling_noise(seed: int, frequency: float, falloff: float) -> Texels:
    """Noise of mean 0 and variance 1 that repeats at the borders.

    Amplitudes are flat up to `frequency` cycles a texture and drop with its power `falloff` above.
    """
    white = np.random.default_rng(seed).standard_normal((SIZE, SIZE))
    cycles = np.fft.fftfreq(SIZE, 1 / SIZE)
    radius = np.hypot(cycles[:, None], cycles[None, :])
    spectrum = np.fft.fft2(white) / (1 + (radius / frequency) ** falloff)
    spectrum[0, 0] = 0
    noise = np.fft.ifft2(spectrum).real
    return (noise / noise.std()).astype(np.float32)


def brick_wall() -> Material:
    """Bricks in running bond with worn edges, mortar between them and dirt in the recesses."""
    row = (np.arange(SIZE, dtype=np.float32)[:, None] + 0.5) / SIZE * BRICK_ROWS
    column = (np.arange(SIZE, dtype=np.float32)[None, :] + 0.5) / SIZE * BRICK_COLUMNS
    row = row + 0.030 * tiling_noise(1, 10, 3)
    column = column + 0.015 * tiling_noise(2, 10, 3)
    column = column + 0.5 * (np.floor(row) % 2)
    brick = (np.floor(row).astype(int) % BRICK_ROWS) * BRICK_COLUMNS
    brick = brick + np.floor(column).astype(int) % BRICK_COLUMNS

    # distance to the brick's edge, in rows
    across = 0.5 - np.abs(row % 1 - 0.5)
    along = (0.5 - np.abs(column % 1 - 0.5)) * BRICK_ROWS / BRICK_COLUMNS
    edge = np.minimum(across, along) + 0.012 * tiling_noise(3, 24, 3)
    inside = smooth_step(0.05, 0.11, edge)

    kinds = np.random.default_rng(4).random((BRICK_ROWS * BRICK_COLUMNS, 3)).astype(np.float32)
    bumps = 0.6 * tiling_noise(5, 12, 2.5) + 0.4 * tiling_noise(6, 40, 4)
    grit = tiling_noise(7, 60, 4)
    rise = 0.5 + 0.5 * smooth_step(0.05, 0.25, edge)
    height = inside * (6.0 * rise + 1.2 * kinds[brick, 0] + 0.7 * bumps) + (1 - inside) * 0.4 * grit
    normal = normal_of_height(height)

    red = np.array([0.58, 0.27, 0.20], np.float32)
    ochre = np.array([0.66, 0.44, 0.28], np.float32)
    gray = np.array([0.62, 0.60, 0.56], np.float32)
    soil = np.array([0.24, 0.20, 0.15], np.float32)
    tint = kinds[brick, 1][..., None]
    shade = (0.75 + 0.4 * kinds[brick, 2] + 0.05 * bumps)[..., None]
    clay = (red + (ochre - red) * tint**2) * shade
    mortar = gray * (1 + 0.06 * grit[..., None])
    color = mortar + (clay - mortar) * inside[..., None]
    dirt = smooth_step(0.2, 1.6, tiling_noise(8, 4, 2.2) + 0.9 * (1 - rise * inside))
    color = color + (soil - color) * (0.75 * dirt)[..., None]
    return Material(np.clip(color, 0, 1).astype(np.float32), normal)


def normal_of_height(height: Texels) -> Texels:
    """Tangent space normals of a repeating height field measured in texels."""
    slope_x = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) / 2
    slope_y = (np.roll(height, -1, 0) - np.roll(height, 1, 0)) / 2
    normal = np.stack([-slope_x, -slope_y, np.ones_like(height)], axis=-1)
    return (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)


def sample(texture: Tensor, row: int, column: int) -> Tensor:
    """Bilinear samples of `texture` at one texel of the material for each of its own texels.

    That texel is `row`, `column` in the block of texels that share a texel of the smaller texture.
    Same as a sampler with linear filter and repeat addressing.
    """
    for axis, texel in ((0, row), (1, column)):
        offset = (texel + 0.5) / BLOCK - 0.5
        neighbour = torch.roll(texture, 1 if offset < 0 else -1, axis)
        texture = texture + (neighbour - texture) * abs(offset)
    return texture


def enlarge(texture: Tensor) -> Tensor:
    """Bilinear samples of `texture` at all texels of the material, SIZE×SIZE×channels."""
    rows = [
        torch.stack([sample(texture, row, column) for column in range(BLOCK)], 2)
        for row in range(BLOCK)
    ]
    return torch.stack(rows, 1).reshape(SIZE, SIZE, -1)


def fit(material: Material) -> tuple[NeuralMaterial, Tensor]:
    """Network and 8 bit latents. Noise as large as a rounding step stands in for the rounding."""
    torch.set_num_threads(1)  # batches are small; the same sums every time
    torch.manual_seed(7)
    model = NeuralMaterial()
    shape = (LATENT_SIZE, LATENT_SIZE, LATENT_CHANNELS)
    texture = (0.5 + 0.1 * torch.randn(shape)).requires_grad_()
    colors, normals = torch.from_numpy(material.base_color), torch.from_numpy(material.normal)
    groups = [{"params": [texture], "lr": 0.02}, {"params": model.parameters(), "lr": 0.005}]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.02, 0.005], STEPS, pct_start=0.05)
    for _ in range(STEPS):
        row, column = torch.randint(BLOCK, (2,)).tolist()
        texels = (slice(row, None, BLOCK), slice(column, None, BLOCK))
        latents = sample(texture, row, column).reshape(-1, LATENT_CHANNELS)
        latents = latents + (torch.rand_like(latents) - 0.5) / 255
        base_color, normal = model(latents)
        loss = torch.nn.functional.mse_loss(base_color, colors[texels].reshape(-1, 3))
        # normals span -1 to 1, so their squared errors count a quarter
        loss = loss + 0.25 * torch.nn.functional.mse_loss(normal, normals[texels].reshape(-1, 3))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            texture.clamp_(0, 1)
    with torch.no_grad():
        # a direction may have any length, and a long one notices the epsilon less
        model.last.weight[3:] *= DIRECTION_SCALE
        model.last.bias[3:] *= DIRECTION_SCALE
    return model.eval(), (texture.detach() * 255).round().to(torch.uint8)


def train(folder: Path) -> None:
    """Writes weights, latents and the test image into `folder`, and prints the quality."""
    material = brick_wall()
    model, latents = fit(material)
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "neural_material.safetensors",
    )
    save_file({"latents": latents}, folder / "neural_material_latents.safetensors")
    halves = [material.base_color, material.normal / 2 + 0.5]
    crops = np.concatenate([half[:TEST_CROP, :TEST_CROP] for half in halves], axis=1)
    Image.fromarray(np.round(crops * 255).astype(np.uint8)).save(
        folder / "neural_material_test.png", optimize=True
    )
    for name, value in quality(folder).items():
        print(f"{name:28} {value:10.2f}")


@torch.no_grad()
def decode(folder: Path = FOLDER) -> Material:
    """The whole material as the network gives it, from the files in `folder`."""
    model = NeuralMaterial().eval()
    model.load_state_dict(load_file(folder / "neural_material.safetensors"))
    latents = load_file(folder / "neural_material_latents.safetensors")["latents"]
    texture = enlarge(latents.float() / 255)
    base_color, normal = model(texture.reshape(-1, LATENT_CHANNELS))
    shape = (SIZE, SIZE, 3)
    return Material(base_color.numpy().reshape(shape), normal.numpy().reshape(shape))


def small_textures(material: Material) -> Material:
    """What plain textures of the latents' resolution give, with the same bilinear filter."""
    maps = []
    for texels in (material.base_color, material.normal):
        means = texels.reshape(LATENT_SIZE, BLOCK, LATENT_SIZE, BLOCK, 3).mean((1, 3))
        maps.append(enlarge(torch.from_numpy(means)).numpy())
    length = np.linalg.norm(maps[1], axis=-1, keepdims=True)
    return Material(maps[0], maps[1] / length)


def difference(found: Material, expected: Material) -> dict[str, float]:
    """PSNR (dB) of both maps, and the mean angle between normals (degrees)."""
    unit = found.normal / np.linalg.norm(found.normal, axis=-1, keepdims=True)
    cosine = np.clip((unit * expected.normal).sum(-1), -1, 1)
    return {
        "base_color_psnr": psnr(found.base_color, expected.base_color, 1),
        "normal_psnr": psnr(found.normal, expected.normal, 2),
        "normal_degrees": float(np.degrees(np.arccos(cosine)).mean()),
    }


def quality(folder: Path = FOLDER) -> dict[str, float]:
    """PSNR (dB), mean angle between normals (degrees) and sizes (kB), over all texels.

    `small_*` are plain textures of the latents' resolution.
    """
    expected = brick_wall()
    figures = {
        f"{prefix}{name}": value
        for prefix, found in (("", decode(folder)), ("small_", small_textures(expected)))
        for name, value in difference(found, expected).items()
    }
    names = ("neural_material.safetensors", "neural_material_latents.safetensors")
    ours = sum((folder / name).stat().st_size for name in names)
    texels = SIZE * SIZE
    return figures | {
        "rgb8_kilobytes": 2 * 3 * texels / 1000,
        "bc7_kilobytes": 2 * texels / 1000,
        "neural_kilobytes": ours / 1000,
    }
