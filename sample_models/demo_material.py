"""A material in a shader, in one command: generate it, verify it, draw it, count its bytes.

    python sample_models/demo_material.py build/material

writes the Metal source, weights and latents of the neural material with their manifest and golden
vectors, and two pictures that the fragment function drew here, compiled as C++ against headers
that stand for Metal's: `neural_material.png` (base colour, normal, lit) and
`neural_material_lit.png` (a corner beside the original and beside textures of as many bytes).
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from training import bc5, bc7, dds
from training.neural_material import SIZE, Material, brick_wall, decode, difference

from metal4conv import cli
from metal4conv.shader.document import SamplerLayout
from metal4conv.shader.host import open_shader
from metal4conv.shader.textures import sample_texels

HERE = Path(__file__).parent
NAME = "neural_material"
SOURCE_FILES = (f"{NAME}.safetensors", f"{NAME}_latents.safetensors")

# tangent space, as the normals: x along the columns, y down the rows, z out of the wall
LIGHT = np.array([-0.55, -0.65, 0.52], np.float32)
AMBIENT, DIRECT = 0.12, 1.48
CROP = 192
ENLARGED = 2

Texels = NDArray[np.float32]


@dataclass(frozen=True)
class Version:
    """The material in some form: what is seen of it at SIZE×SIZE, and the bytes it takes."""

    label: str
    material: Material
    bytes: int


def main(folder: Path) -> int:
    """Runs the commands that a user would type, then draws and compares."""
    commands = [
        [
            "shader",
            relative(HERE / f"{NAME}.py") + f":{NAME}",
            *("--weights", relative(HERE / f"{NAME}.safetensors")),
            *("--latents", f"latents={relative(HERE / f'{NAME}_latents.safetensors')}"),
            *("--output", "base_color", "--output", "normal", "-o", str(folder)),
        ],
        ["verify", str(folder / f"{NAME}.shader.json"), "--on", "host"],
    ]
    for command in commands:
        click.secho(f"$ metal4conv {' '.join(command)}", bold=True)
        if code := cli.run(command):
            return code
        click.echo()
    original = brick_wall()
    versions = versions_of(folder, original)
    show_figures(versions, original)
    draw_maps(versions[0].material, folder / f"{NAME}.png")
    same_bytes = [version for version in versions[2:] if version.bytes <= versions[0].bytes]
    compared = [Version("original", original, 0), versions[0], *same_bytes]
    draw_corners(compared, folder / f"{NAME}_lit.png")
    return 0


def relative(path: Path) -> str:
    """A path as one would type it here."""
    here = Path.cwd()
    path = path.resolve()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def versions_of(folder: Path, original: Material) -> list[Version]:
    """The shader's material, the source model's, and textures with as many bytes and with more."""
    written = [folder / f"{NAME}{suffix}" for suffix in (".latents", ".weights")]
    return [
        Version("shader, stand-in", rendered(folder), sum(path.stat().st_size for path in written)),
        Version(
            "source model, PyTorch",
            decode(HERE),
            sum((HERE / name).stat().st_size for name in SOURCE_FILES),
        ),
        textures(original, "RGBA8", SIZE // 4),
        textures(original, "BC", SIZE // 2),
        textures(original, "BC", SIZE),
        textures(original, "RGBA8", SIZE),
    ]


def rendered(folder: Path) -> Material:
    """The material as the fragment function draws it, a pixel for each texel of the original."""
    with tempfile.TemporaryDirectory() as work:
        shader = open_shader(folder / f"{NAME}.shader.json", Path(work))
        outputs = shader.run(f"{NAME}_fragment", {}, (SIZE, SIZE), use_matmul2d=True)
    shape = (SIZE, SIZE, 3)
    return Material(outputs["base_color"].reshape(shape), outputs["normal"].reshape(shape))


def textures(original: Material, form: str, size: int) -> Version:
    """Two textures of `size`×`size`, seen through a bilinear sampler.

    `form` is RGBA8, or BC for base colour in BC7 and normal in BC5, which take equal bytes.
    """
    base_color, normal = shrunk(original.base_color, size), shrunk(original.normal, size)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    if form == "RGBA8":
        label, map_bytes = f"RGBA8, {size}×{size}", 4 * size * size
        base_color, normal = through_rgba8(base_color), through_rgba8(normal / 2 + 0.5) * 2 - 1
    else:
        label, map_bytes = f"BC7 and BC5, {size}×{size}", dds.size_bytes(size, size)
        base_color, normal = bc7.through_bc7(base_color), bc5.through_bc5(normal)
    normal = seen(normal)
    normal /= np.linalg.norm(normal, axis=2, keepdims=True)
    return Version(label, Material(seen(base_color), normal), 2 * map_bytes)


def shrunk(texels: Texels, size: int) -> Texels:
    """The means of the texels that share one of a smaller texture's."""
    block = SIZE // size
    return texels.reshape(size, block, size, block, 3).mean((1, 3))


def seen(texels: Texels) -> Texels:
    """A texture, sampled at SIZE×SIZE pixel centres."""
    return sample_texels(texels, SamplerLayout(), SIZE, SIZE).reshape(SIZE, SIZE, 3)


def through_rgba8(texels: Texels) -> Texels:
    """Numbers from 0 to 1 in steps of 1/255."""
    return np.round(np.clip(texels, 0, 1) * 255).astype(np.float32) / 255


def show_figures(versions: list[Version], original: Material) -> None:
    """Prints how near each version is to the original, and its bytes."""
    click.echo(f"{'':24}{'base colour':>13}{'normal':>11}{'angle':>10}{'bytes':>13}")
    for version in versions:
        figures = difference(version.material, original)
        click.echo(
            f"{version.label:24}{figures['base_color_psnr']:10.2f} dB"
            f"{figures['normal_psnr']:8.2f} dB{figures['normal_degrees']:9.2f}°"
            f"{version.bytes:13,}"
        )
    shader, source = versions[0].material, versions[1].material
    apart = max(
        float(np.abs(shader.base_color - source.base_color).max()),
        float(np.abs(shader.normal - source.normal).max()),
    )
    click.echo(
        f"The shader's numbers differ from the source model's by up to {apart:.1e} (float16).\n"
        "Its picture is the fragment function's, compiled as C++ against headers that stand for\n"
        "Metal's. Its bytes are latents and weights; the source model's are its files.\n"
        "Angle is the mean between normals. BC7 is of base colour, in blocks of mode 6 alone: an\n"
        "encoder that tries all modes comes nearer to the original; BC5 is of the normal. Mipmaps\n"
        "add a third to textures and latents alike."
    )


def lit(material: Material) -> Texels:
    """The material under one light from the upper left and a little from everywhere, 0 to 1."""
    light = LIGHT / np.linalg.norm(LIGHT)
    diffuse = np.maximum(material.normal @ light, 0)[..., None]
    return encoded(linear(material.base_color) * (AMBIENT + DIRECT * diffuse))


def linear(color: Texels) -> Texels:
    """Light of an sRGB colour (IEC 61966-2-1)."""
    return np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)


def encoded(light: Texels) -> Texels:
    """The sRGB colour of light, which is cut off at 1."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)


def draw_maps(material: Material, path: Path) -> None:
    """Base colour, normal and both under a light, side by side."""
    maps = [material.base_color, material.normal / 2 + 0.5, lit(material)]
    save_strip(maps, path)
    click.echo(f"picture: {path} (the shader's base colour, normal, and both under a light)")


def draw_corners(versions: list[Version], path: Path) -> None:
    """The same corner of all versions under a light, side by side, twice as large."""
    corners = [lit(version.material)[:CROP, :CROP] for version in versions]
    larger = [corner.repeat(ENLARGED, 0).repeat(ENLARGED, 1) for corner in corners]
    save_strip(larger, path)
    click.echo(f"picture: {path} ({'; '.join(version.label for version in versions)})")


def save_strip(pictures: list[Texels], path: Path) -> None:
    """Pictures of equal height from left to right, as one file."""
    strip = np.concatenate(pictures, axis=1)
    Image.fromarray(np.round(np.clip(strip, 0, 1) * 255).astype(np.uint8)).save(path)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "build/material")))
