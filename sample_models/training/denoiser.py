"""Trains the denoiser on generated scenes, and measures it against filters.

The noise is that of a path tracer which follows a few paths a pixel: the light that arrives is off
by a random factor, the more so the fewer paths, most of it in all channels alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from training.denoiser_graph import Denoiser, write_onnx
from training.metrics import psnr
from training.scenes import scene
from training.textures import Generator, Picture

FOLDER = Path(__file__).resolve().parents[1]
SCENES, HEIGHT, WIDTH = 160, 192, 256
HELD_OUT = range(100_000, 100_012)
TEST_SCENE, TEST_HEIGHT, TEST_WIDTH, TEST_PATHS = 200_012, 192, 256, 4.0
PATCH, BATCH, STEPS = 48, 8, 5500
FEWEST_PATHS, MOST_PATHS = 2.0, 16.0
GAMMA = 2.2  # nearly sRGB's encoding


def add_noise(generator: Generator, clean: Picture, paths: float) -> Picture:
    """A picture …×h×w×3 as `paths` random paths a pixel would show it."""
    light = generator.gamma(paths, 1 / paths, (*clean.shape[:-1], 1))
    tint = generator.gamma(4 * paths, 1 / (4 * paths), clean.shape)
    return np.clip(clean**GAMMA * light * tint, 0, 1).astype(np.float32) ** np.float32(1 / GAMMA)


def random_paths(generator: Generator) -> float:
    """A number of paths between the fewest and the most, small ones as often as large ones."""
    return float(np.exp(generator.uniform(np.log(FEWEST_PATHS), np.log(MOST_PATHS))))


def tensor(pictures: Picture) -> Tensor:
    """Pictures n×h×w×3 as n×3×h×w."""
    return torch.from_numpy(np.ascontiguousarray(pictures.transpose(0, 3, 1, 2)))


def patches(generator: Generator, scenes: Picture) -> tuple[Tensor, Tensor]:
    """A batch of square cuts out of random scenes, mirrored and turned: noisy and clean."""
    cuts = []
    for _ in range(BATCH):
        index = generator.integers(len(scenes))
        top = generator.integers(HEIGHT - PATCH + 1)
        left = generator.integers(WIDTH - PATCH + 1)
        cut = scenes[index, top : top + PATCH, left : left + PATCH]
        cut = np.rot90(cut, generator.integers(4))
        cuts.append(cut[:, ::-1] if generator.random() < 0.5 else cut)
    noisy = [add_noise(generator, cut, random_paths(generator)) for cut in cuts]
    return tensor(np.stack(noisy)), tensor(np.stack(cuts))


def fit(scenes: Picture) -> Denoiser:
    """A denoiser trained on scenes n×HEIGHT×WIDTH×3."""
    torch.set_num_threads(1)  # the same sums every time
    torch.manual_seed(21)
    generator = np.random.default_rng(22)
    model = Denoiser().to(memory_format=torch.channels_last)  # a third faster
    optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, STEPS, pct_start=0.1)
    for step in range(STEPS):
        noisy, clean = patches(generator, scenes)
        errors = ((model(noisy) - clean) ** 2).mean((1, 2, 3))
        loss = torch.log(errors + 1e-5).mean()  # else the noisiest cuts alone would count
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(f"step {step:5} loss {loss.item():.3f}", flush=True)
    return model.to(memory_format=torch.contiguous_format).eval()


def train(folder: Path) -> None:
    """Writes the ONNX file and the test picture into `folder`, and prints the quality."""
    model = fit(np.stack([scene(seed, HEIGHT, WIDTH) for seed in range(SCENES)]))
    write_onnx(model, folder / "denoiser.onnx")
    Image.fromarray(test_picture()).save(folder / "denoiser_test.png", optimize=True)
    for name, value in quality(folder).items():
        print(f"{name:28} {value:10.2f}")


def test_picture() -> np.ndarray:
    """The test scene as bytes: noisy on the left, clean on the right."""
    clean = scene(TEST_SCENE, TEST_HEIGHT, TEST_WIDTH)
    noisy = add_noise(np.random.default_rng(TEST_SCENE), clean, TEST_PATHS)
    return np.round(np.concatenate([noisy, clean], axis=1) * 255).astype(np.uint8)


def shipped_picture(folder: Path = FOLDER) -> tuple[Tensor, Tensor]:
    """The test picture in `folder`, noisy and clean."""
    both = np.asarray(Image.open(folder / "denoiser_test.png"), np.float32)[None] / 255
    noisy, clean = np.split(both, 2, axis=2)
    return tensor(noisy), tensor(clean)


def held_out(seeds: Iterable[int], height: int, width: int) -> tuple[Tensor, Tensor]:
    """Scenes of these seeds, noisy and clean, from the fewest paths to the most."""
    clean = [scene(seed, height, width) for seed in seeds]
    noisy = [
        add_noise(np.random.default_rng(index), picture, float(paths))
        for index, (picture, paths) in enumerate(
            zip(clean, np.geomspace(FEWEST_PATHS, MOST_PATHS, len(clean)), strict=True)
        )
    ]
    return tensor(np.stack(noisy)), tensor(np.stack(clean))


def load(folder: Path = FOLDER) -> onnxruntime.InferenceSession:
    """The ONNX file in `folder`, ready to run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(folder / "denoiser.onnx", options, providers)


def denoise(session: onnxruntime.InferenceSession, noisy: Tensor) -> Tensor:
    """Pictures n×3×h×w, one by one through the network."""
    found = [session.run(["denoised"], {"noisy": part.numpy()})[0] for part in noisy.split(1)]
    return torch.from_numpy(np.concatenate(found))


def bilateral(noisy: Tensor, sigma: float, similar: float) -> Tensor:
    """The mean of the pixels around each, the near and the similar ones counting more.

    With `similar` infinite it is a Gaussian blur.
    """
    reach = min(round(2 * sigma), 5)
    height, width = noisy.shape[2:]
    padded = functional.pad(noisy, (reach,) * 4, mode="reflect")
    total, weights = torch.zeros_like(noisy), torch.zeros_like(noisy[:, :1])
    for down in range(2 * reach + 1):
        for right in range(2 * reach + 1):
            other = padded[:, :, down : down + height, right : right + width]
            distance = ((down - reach) ** 2 + (right - reach) ** 2) / (2 * sigma**2)
            difference = ((other - noisy) ** 2).mean(1, keepdim=True) / (2 * similar**2)
            weight = torch.exp(-distance - difference)
            total += weight * other
            weights += weight
    return total / weights


def median(noisy: Tensor, size: int) -> Tensor:
    """The middle of `size`×`size` pixels, each channel by itself."""
    padded = functional.pad(noisy, (size // 2,) * 4, mode="reflect")
    windows = padded.unfold(2, size, 1).unfold(3, size, 1)
    return windows.flatten(-2).median(-1).values


def filtered(noisy: Tensor) -> dict[str, list[Tensor]]:
    """What each kind of filter makes of one picture, with a choice of strengths."""
    nothing = float("inf")
    return {
        "gaussian": [bilateral(noisy, sigma, nothing) for sigma in (0.5, 0.7, 1.0, 1.4, 2.0)],
        "median": [median(noisy, size) for size in (3, 5, 7)],
        "bilateral": [
            bilateral(noisy, sigma, similar)
            for sigma in (1.0, 1.5, 2.0)
            for similar in (0.07, 0.1, 0.15, 0.2, 0.3)
        ],
    }


def compare(noisy: Tensor, clean: Tensor, denoised: Tensor) -> dict[str, float]:
    """PSNR in dB of one picture, and of each filter at the strength that suits the picture best."""
    return {
        "psnr": psnr(denoised, clean),
        "noisy_psnr": psnr(noisy, clean),
        **{
            f"{kind}_psnr": max(psnr(picture, clean) for picture in pictures)
            for kind, pictures in filtered(noisy).items()
        },
    }


def compare_all(folder: Path, noisy: Tensor, clean: Tensor) -> list[dict[str, float]]:
    """The figures of each picture."""
    denoised = denoise(load(folder), noisy)
    pictures = zip(noisy.split(1), clean.split(1), denoised.split(1), strict=True)
    return [compare(*picture) for picture in pictures]


def quality(folder: Path = FOLDER) -> dict[str, float]:
    """PSNR in dB on held-out scenes (means over the pictures) and on the test picture."""
    figures = compare_all(folder, *held_out(HELD_OUT, HEIGHT, WIDTH))
    (test,) = compare_all(folder, *shipped_picture(folder))
    return {
        **{name: float(np.mean([item[name] for item in figures])) for name in test},
        "least_gain": min(item["psnr"] - item["bilateral_psnr"] for item in figures),
        **{f"test_picture_{name}": value for name, value in test.items()},
        "kilobytes": (folder / "denoiser.onnx").stat().st_size / 1000,
    }
