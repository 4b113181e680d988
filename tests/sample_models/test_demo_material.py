"""`make demo-material`: the shader's picture is the source network's, and the figures are true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from demo_material import lit, rendered, textures
from PIL import Image
from training.neural_material import SIZE, brick_wall, decode, difference

from metal4conv.errors import Metal4ConvError
from metal4conv.shader.compiler import find_compiler

SAMPLES = Path(__file__).resolve().parents[2] / "sample_models"
ROW = re.compile(r"^(\S.*?) +([\d.]+) dB +([\d.]+) dB +([\d.]+)° +([\d,]+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def original():
    return brick_wall()


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's folder and what it printed."""
    try:
        find_compiler()
    except Metal4ConvError as error:
        pytest.skip(f"no C++ compiler: {error.message}")
    folder = tmp_path_factory.mktemp("material")
    script = [sys.executable, str(SAMPLES / "demo_material.py"), str(folder)]
    done = subprocess.run(script, capture_output=True, text=True, cwd=SAMPLES.parent)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


@pytest.fixture(scope="module")
def drawn(demo):
    """The material as the fragment function draws it."""
    return rendered(demo[0])


def test_commands_and_figures(demo):
    folder, printed = demo
    assert "$ metal4conv shader sample_models/neural_material.py:neural_material" in printed
    assert f"$ metal4conv verify {folder}/neural_material.shader.json --on host" in printed
    rows = {
        row[0]: [float(text.replace(",", "")) for text in row[1:]] for row in ROW.findall(printed)
    }
    assert list(rows) == [
        "shader, stand-in",
        "source model, PyTorch",
        "RGBA8, 128×128",
        "BC7 and BC5, 256×256",
        "BC7 and BC5, 512×512",
        "RGBA8, 512×512",
    ]
    assert rows["shader, stand-in"][:3] == pytest.approx(
        rows["source model, PyTorch"][:3], abs=0.02
    )
    files = [folder / f"neural_material{suffix}" for suffix in (".latents", ".weights")]
    assert rows["shader, stand-in"][3] == sum(path.stat().st_size for path in files)
    assert files[0].stat().st_size == 128 * 128 * 8
    assert [row[3] for row in rows.values()][2:] == [2**17, 2**17, 2**19, 2**21]
    for small in ("RGBA8, 128×128", "BC7 and BC5, 256×256"):
        assert rows["shader, stand-in"][0] > rows[small][0] + 2
        assert rows["shader, stand-in"][1] > rows[small][1] + 4


def test_the_fragment_functions_picture(drawn, original):
    found, expected = drawn, decode(SAMPLES)
    assert found.base_color.shape == found.normal.shape == (SIZE, SIZE, 3)
    # weights and what is multiplied with them are float16: steps of 2^-11
    np.testing.assert_allclose(found.base_color, expected.base_color, atol=0.004)
    np.testing.assert_allclose(found.normal, expected.normal, atol=0.02)
    figures = difference(found, original)
    assert figures["base_color_psnr"] > 41
    assert figures["normal_psnr"] > 37
    assert figures["normal_degrees"] < 2.3


def test_pictures(demo, drawn):
    folder, _ = demo
    with Image.open(folder / "neural_material.png") as picture:
        maps = np.asarray(picture, np.float32) / 255
    assert maps.shape == (SIZE, 3 * SIZE, 3)
    for number, part in enumerate((drawn.base_color, drawn.normal / 2 + 0.5, lit(drawn))):
        found = maps[:, number * SIZE : (number + 1) * SIZE]
        np.testing.assert_allclose(found, part, atol=0.51 / 255)
    with Image.open(folder / "neural_material_lit.png") as picture:
        assert picture.size == (4 * 384, 384)


def test_textures_of_full_size_are_the_original_but_for_rounding(original):
    version = textures(original, "RGBA8", SIZE)
    assert version.bytes == 2 * 4 * SIZE * SIZE
    np.testing.assert_allclose(version.material.base_color, original.base_color, atol=0.51 / 255)
    np.testing.assert_allclose(version.material.normal, original.normal, atol=0.02)


def test_light_from_the_upper_left(original):
    """What leans to the upper left is bright, what leans away only has the ambient light."""
    flat = original.base_color[:1, :2] * 0 + 0.5
    tilted = np.array([[[-0.6, -0.6, 0.53], [0.6, 0.6, 0.53]]], np.float32)
    tilted /= np.linalg.norm(tilted, axis=2, keepdims=True)
    towards, away = lit(type(original)(flat, tilted))[0, :, 0]
    assert away < 0.25 < 0.5 < towards
