"""Trains ambient occlusion on ray traced rooms, and measures it against a screen space formula."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from ambient_occlusion import AmbientOcclusion
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from training.frames import NO_SURFACE, RADIUS, Array, Frame, frame
from training.metrics import psnr

FOLDER = Path(__file__).resolve().parents[1]
FRAMES, HEIGHT, WIDTH, RAYS = 240, 96, 128, 6
HELD_OUT, HELD_OUT_RAYS = range(100_000, 100_008), 10
TEST_FRAME, TEST_HEIGHT, TEST_WIDTH, TEST_RAYS = 200_001, 160, 224, 16
CUT_HEIGHT, CUT_WIDTH, BATCH, STEPS = 80, 96, 8, 2600


def tensors(frames: list[Frame]) -> tuple[Tensor, Tensor, Tensor]:
    """Depth, normals and occlusion of n frames, n×c×h×w each."""
    parts = zip(*((item.depth, item.normals, item.occlusion) for item in frames), strict=True)
    depth, normals, occlusion = (torch.from_numpy(np.stack(part)) for part in parts)
    return depth, normals, occlusion


def cuts(frames: tuple[Tensor, ...]) -> list[Tensor]:
    """A batch of depth, normals and occlusion cut out of random frames, mirrored at random."""
    indices = torch.randint(len(frames[0]), (BATCH,))
    top = int(torch.randint(HEIGHT - CUT_HEIGHT + 1, ()))
    left = int(torch.randint(WIDTH - CUT_WIDTH + 1, ()))
    parts = [part[indices, :, top : top + CUT_HEIGHT, left : left + CUT_WIDTH] for part in frames]
    if torch.rand(()) < 0.5:
        parts = [part.flip(3) for part in parts]
        parts[1] = parts[1] * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
    return parts


def initialise(model: AmbientOcclusion) -> None:
    """Weights that keep the size of the signal through all layers, and a mean output of 0.12.

    With PyTorch's own, the signal is lost on the way and training ends in one constant.
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    with torch.no_grad():
        model.last.weight *= 0.1
    nn.init.constant_(model.last.bias, -2.0)


def fit(frames: list[Frame]) -> AmbientOcclusion:
    torch.set_num_threads(1)  # the same sums every time
    torch.manual_seed(5)
    model = AmbientOcclusion().to(memory_format=torch.channels_last)  # a third faster
    initialise(model)
    everything = tensors(frames)
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS, pct_start=0.1)
    for step in range(STEPS):
        depth, normals, occlusion = cuts(everything)
        loss = functional.mse_loss(model(depth, normals), occlusion)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step:5} loss {loss.item():.5f}")
    return model.to(memory_format=torch.contiguous_format).eval()


def train(folder: Path) -> None:
    """Writes weights and the test frame into `folder`, and prints the quality."""
    model = fit([frame(seed, HEIGHT, WIDTH, RAYS) for seed in range(FRAMES)])
    save_file(model.state_dict(), folder / "ambient_occlusion.safetensors")
    test = frame(TEST_FRAME, TEST_HEIGHT, TEST_WIDTH, TEST_RAYS)
    arrays = {name: getattr(test, name)[None] for name in ("depth", "normals", "occlusion")}
    # numbers that float16 can hold: the file is smaller, and both precisions see the same input
    halves = {name: array.astype(np.float16).astype(np.float32) for name, array in arrays.items()}
    np.savez_compressed(
        folder / "ambient_occlusion_test.npz",
        focal_pixels=np.float32(test.focal_pixels),
        **halves,
    )
    for name, value in quality(folder).items():
        print(f"{name:28} {value:10.4f}")


def load(folder: Path = FOLDER) -> AmbientOcclusion:
    """The network with the weights in `folder`."""
    model = AmbientOcclusion().eval()
    model.load_state_dict(load_file(folder / "ambient_occlusion.safetensors"))
    return model


def shipped_frame(folder: Path = FOLDER) -> Frame:
    """The test frame in `folder`."""
    with np.load(folder / "ambient_occlusion_test.npz") as arrays:
        names = ("depth", "normals", "occlusion")
        return Frame(*(arrays[name][0] for name in names), float(arrays["focal_pixels"]))


@torch.no_grad()
def network_occlusion(model: AmbientOcclusion, item: Frame) -> Array:
    depth, normals, _ = tensors([item])
    return model(depth, normals).numpy()[0]


def screen_space_occlusion(item: Frame, samples: int = 64) -> Array:
    """The usual formula: nearby pixels occlude by how far they rise above the tangent plane."""
    height, width = item.depth.shape[1:]
    row, column = np.mgrid[0:height, 0:width]
    x, y = (
        (column + 0.5 - width / 2) / item.focal_pixels,
        (height / 2 - row - 0.5) / item.focal_pixels,
    )
    depth = item.depth[0]
    points = np.stack([x * depth, y * depth, -depth])
    reach = np.minimum(RADIUS * item.focal_pixels / depth, width / 2)
    total = np.zeros_like(depth)
    for index in range(samples):
        # a sunflower: even over the disc
        angle, radius = 2.399963 * index, np.sqrt((index + 0.5) / samples)
        other_row = np.clip(np.rint(row + radius * reach * np.sin(angle)), 0, height - 1)
        other_column = np.clip(np.rint(column + radius * reach * np.cos(angle)), 0, width - 1)
        away = points[:, other_row.astype(int), other_column.astype(int)] - points
        distance = np.sqrt((away**2).sum(0)) + 1e-4
        rise = (away * item.normals).sum(0) / distance
        total += np.clip(rise - 0.05, 0, 1) * np.clip(1 - (distance / RADIUS) ** 2, 0, 1)
    return total[None] / samples


def surfaces(item: Frame, occlusion: Array) -> Array:
    """The values where there is something to see."""
    return occlusion[item.depth < NO_SURFACE]


def compare(model: AmbientOcclusion, frames: list[Frame]) -> dict[str, float]:
    """PSNR (dB) and mean absolute error over the surfaces of `frames`.

    `screen_space_*` is the formula with the factor and offset that suit these frames best,
    `constant_*` their mean.
    """
    truth = np.concatenate([surfaces(item, item.occlusion) for item in frames])
    network = np.concatenate([surfaces(item, network_occlusion(model, item)) for item in frames])
    formula = np.concatenate([surfaces(item, screen_space_occlusion(item)) for item in frames])
    factor, offset = np.polyfit(formula, truth, 1)
    figures = {}
    for prefix, found in (
        ("", network),
        ("screen_space_", np.clip(factor * formula + offset, 0, 1)),
        ("constant_", np.full_like(truth, truth.mean())),
    ):
        figures[f"{prefix}psnr"] = psnr(found, truth)
        figures[f"{prefix}mean_error"] = float(np.abs(found - truth).mean())
    return figures


def quality(folder: Path = FOLDER) -> dict[str, float]:
    """Figures of held-out frames, and of the test frame (`test_frame_*`)."""
    model = load(folder)
    held_out = compare(model, [frame(seed, HEIGHT, WIDTH, HELD_OUT_RAYS) for seed in HELD_OUT])
    test = compare(model, [shipped_frame(folder)])
    return held_out | {
        "test_frame_psnr": test["psnr"],
        "test_frame_screen_space_psnr": test["screen_space_psnr"],
        "kilobytes": (folder / "ambient_occlusion.safetensors").stat().st_size / 1000,
    }
