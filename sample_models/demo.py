"""The tour in one command: convert the upscaler, lay it out, verify it, and look at the result.

    python sample_models/demo.py build/demo

writes the package with its manifest and golden vectors, and `upscaler.png`: the test image by
bicubic interpolation, by the source model, and by the package on the MIL executor.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from training.metrics import psnr
from training.upscaler import bicubic, shrink, tensor
from upscaler import upscaler

from metal4conv import cli, load

HERE = Path(__file__).parent


def main(folder: Path) -> int:
    """Runs the commands that a user would type, then draws the picture."""
    package = folder / "upscaler.mlpackage"
    commands = [
        [
            "convert",
            relative(HERE / "upscaler.py") + ":upscaler",
            *("--weights", relative(HERE / "upscaler.safetensors")),
            *("-i", "color:1x3xhxw", "--dim", "h=16..1080@128", "--dim", "w=16..1920@192"),
            *("--output", "upscaled", "-o", str(folder)),
        ],
        ["layout", str(package), "--dim", "h=720", "--dim", "w=1280"],
        ["verify", str(package)],
    ]
    for command in commands:
        click.secho(f"$ metal4conv {' '.join(command)}", bold=True)
        if code := cli.run(command):
            return code
        click.echo()
    show_picture(package, folder / "upscaler.png")
    return 0


def relative(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    path = path.resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def show_picture(package: Path, path: Path) -> None:
    """Writes the three versions of the test image side by side and prints their PSNR."""
    picture = Image.open(HERE / "upscaler_test.png").convert("RGB")
    truth = tensor(np.asarray(picture, np.float32) / 255)
    small = shrink(truth)
    module, _ = upscaler()
    module.load_state_dict(load_file(HERE / "upscaler.safetensors"))
    with torch.inference_mode():
        source = module(small)
    result = load(package).predict({"color": small.numpy()})["upscaled"]
    versions = {
        "bicubic": bicubic(small),
        "source model": source,
        "package": torch.from_numpy(result).float(),
    }
    for name, image in versions.items():
        click.echo(f"{name:14} PSNR {psnr(image, truth):.2f} dB")
    strip = torch.cat([image.clamp(0, 1)[0] for image in versions.values()], dim=2)
    pixels = (strip * 255 + 0.5).byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(path)
    click.echo(f"picture: {path} ({', '.join(versions)})")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/demo")))
