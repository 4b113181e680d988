"""Trains the upscaler on generated scenes, and measures it against bicubic interpolation.

Small images are made from large ones by averaging 2×2 pixels, as a frame rendered at half the
resolution with ideal antialiasing would be.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from upscaler import Upscaler

from training.metrics import psnr
from training.scenes import scene

FOLDER = Path(__file__).resolve().parents[1]
SCENES, HEIGHT, WIDTH = 240, 192, 256
HELD_OUT = range(100_000, 100_012)
TEST_SCENE, TEST_HEIGHT, TEST_WIDTH = 200_006, 256, 384
PATCH, BATCH, STEPS = 64, 16, 4000


def tensor(picture: np.ndarray) -> Tensor:
    """A picture h×w×3 as 1×3×h×w."""
    return torch.from_numpy(np.ascontiguousarray(picture.transpose(2, 0, 1)))[None]


def shrink(large: Tensor) -> Tensor:
    """Half the height and width, by averaging 2×2 pixels."""
    return functional.avg_pool2d(large, 2)


def bicubic(color: Tensor) -> Tensor:
    """Twice the height and width by bicubic interpolation."""
    large = functional.interpolate(color, scale_factor=2, mode="bicubic", align_corners=False)
    return large.clamp(0, 1)


def soften(picture: Tensor, sigma: float) -> Tensor:
    """3×h×w out of focus: blurred by a Gaussian of `sigma` pixels."""
    taps = torch.exp(-((torch.arange(9) - 4) ** 2) / (2 * sigma**2))
    taps = (taps / taps.sum()).repeat(3, 1, 1, 1)
    padded = functional.pad(picture[None], (4, 4, 4, 4), mode="replicate")
    return functional.conv2d(
        functional.conv2d(padded, taps, groups=3), taps.transpose(2, 3), groups=3
    )[0]


def patches(scenes: Tensor, generator: torch.Generator) -> Tensor:
    """A batch of square cuts out of random scenes, mirrored and turned, some of them soft or pale.

    Without the soft ones the network sharpens what is out of focus.
    """
    cuts = []
    for _ in range(BATCH):
        index = int(torch.randint(len(scenes), (), generator=generator))
        top = int(torch.randint(HEIGHT - PATCH + 1, (), generator=generator))
        left = int(torch.randint(WIDTH - PATCH + 1, (), generator=generator))
        cut = scenes[index, :, top : top + PATCH, left : left + PATCH].float() / 255
        soft, pale, share = torch.rand(3, generator=generator).tolist()
        if soft < 0.35:
            cut = soften(cut, 0.4 + 4 * soft)
        if pale < 0.3:
            cut = cut.mean((1, 2), keepdim=True).lerp(cut, share)
        turns = int(torch.randint(8, (), generator=generator))
        cut = torch.rot90(cut, turns % 4, (1, 2))
        cuts.append(cut.flip(2) if turns >= 4 else cut)
    return torch.stack(cuts)


def fit(scenes: Tensor) -> Upscaler:
    """An upscaler trained on scenes n×3×HEIGHT×WIDTH of bytes."""
    torch.set_num_threads(1)  # the same sums every time
    torch.manual_seed(3)
    generator = torch.Generator().manual_seed(4)
    model = Upscaler()
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS, pct_start=0.1)
    for step in range(STEPS):
        large = patches(scenes, generator)
        loss = functional.mse_loss(model(shrink(large)), large)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step:5} loss {loss.item():.5f}")
    return model.eval()


def train(folder: Path) -> None:
    """Writes weights and the test image into `folder`, and prints the quality."""
    scenes = torch.cat([tensor(scene(seed, HEIGHT, WIDTH)) for seed in range(SCENES)])
    model = fit((scenes * 255).round().to(torch.uint8))
    save_file(model.state_dict(), folder / "upscaler.safetensors")
    picture = np.round(scene(TEST_SCENE, TEST_HEIGHT, TEST_WIDTH) * 255).astype(np.uint8)
    Image.fromarray(picture).save(folder / "upscaler_test.png", optimize=True)
    for name, value in quality(folder).items():
        print(f"{name:28} {value:10.2f}")


def load(folder: Path = FOLDER) -> Upscaler:
    """The upscaler with the weights in `folder`."""
    model = Upscaler().eval()
    model.load_state_dict(load_file(folder / "upscaler.safetensors"))
    return model


@torch.no_grad()
def compare(model: Upscaler, large: Tensor) -> tuple[float, float]:
    """PSNR of the network and of bicubic interpolation on one image that it gives back."""
    small = shrink(large)
    return psnr(model(small), large), psnr(bicubic(small), large)


def quality(folder: Path = FOLDER) -> dict[str, float]:
    """PSNR in dB on held-out scenes (means over the images) and on the test image."""
    model = load(folder)
    held_out = [compare(model, tensor(scene(seed, HEIGHT, WIDTH))) for seed in HELD_OUT]
    ours, theirs = np.mean(held_out, axis=0).tolist()
    picture = np.asarray(Image.open(folder / "upscaler_test.png"), np.float32) / 255
    test_ours, test_theirs = compare(model, tensor(picture))
    return {
        "psnr": ours,
        "bicubic_psnr": theirs,
        "least_gain": min(network - plain for network, plain in held_out),
        "test_image_psnr": test_ours,
        "test_image_bicubic_psnr": test_theirs,
        "kilobytes": (folder / "upscaler.safetensors").stat().st_size / 1000,
    }
