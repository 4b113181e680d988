"""Prints how good the checked-in sample models are, on data that they were not trained on.

python sample_models/quality.py [NAME ...]
"""

from __future__ import annotations

import importlib
import os
import sys

from training.metrics import psnr as psnr

SAMPLES = {
    "upscaler": "PSNR in dB on 12 held-out scenes and on the test image, beside bicubic",
    "ambient_occlusion": "PSNR in dB and mean error on 8 held-out frames, beside the usual formula",
    "neural_material": "PSNR in dB, degrees and kB, beside plain textures of the latents' size",
    "animation_blend": "errors on 48 held-out gait cycles, beside blending rotations one by one",
    "denoiser": "PSNR in dB on 12 held-out scenes and on the test picture, beside filters",
}


def quality(name: str) -> dict[str, float]:
    """The figures of one sample, by name."""
    module = importlib.import_module(f"training.{name}")
    figures: dict[str, float] = module.quality()
    return figures


def upscaler_quality() -> dict[str, float]:
    """PSNR on held-out scenes and on the test image, and bicubic interpolation's."""
    return quality("upscaler")


def ambient_occlusion_quality() -> dict[str, float]:
    """PSNR and mean error on held-out frames and on the test frame, and the baselines'."""
    return quality("ambient_occlusion")


def main(names: list[str]) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    for name in names or SAMPLES:
        print(f"{name}: {SAMPLES[name]}")
        for figure, value in quality(name).items():
            print(f"  {figure:34}{value:12.4g}")


if __name__ == "__main__":
    main(sys.argv[1:])
