"""The upscaler and the ambient occlusion: how good they are, and what every sample promises."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ambient_occlusion import ambient_occlusion
from neural_material import neural_material
from PIL import Image
from safetensors.torch import load_file
from training import ambient_occlusion as occlusion_training
from training import upscaler as upscaler_training
from training.frames import frame
from training.metrics import psnr
from training.rooms import MISSED, Ball, box
from training.scenes import scene
from upscaler import upscaler

FOLDER = Path(upscaler_training.__file__).resolve().parents[1]
FACTORIES = {
    "upscaler": upscaler,
    "ambient_occlusion": ambient_occlusion,
    "neural_material": neural_material,
}


@pytest.fixture(scope="module")
def occlusion():
    return occlusion_training.load()


@pytest.fixture(scope="module")
def test_picture():
    picture = np.asarray(Image.open(FOLDER / "upscaler_test.png"), np.float32) / 255
    return upscaler_training.tensor(picture)


@pytest.mark.parametrize("name", FACTORIES)
def test_weights_fit_the_factory(name):
    model, _ = FACTORIES[name]()
    assert not model.training
    model.load_state_dict(load_file(FOLDER / f"{name}.safetensors"), strict=True)


def test_every_file_is_small():
    files = [file for file in FOLDER.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    assert {file.name: size for file in files if (size := file.stat().st_size) >= 500_000} == {}


def test_all_files_together_are_small():
    files = [file for file in FOLDER.rglob("*") if file.is_file() and file.suffix != ".pyc"]
    assert sum(file.stat().st_size for file in files) < 3_000_000


def test_networks_need_torch_alone():
    names = ", ".join(FACTORIES)
    code = f"import sys, {names}; print(*{{m.split('.')[0] for m in sys.modules}})"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, check=True)
    assert not {"training", "PIL", "safetensors", "tensorflow"} & set(found.stdout.split())


@pytest.mark.filterwarnings("ignore:`torch.jit.trace(_method)?` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", FACTORIES)
def test_exported_and_traced_networks_agree(name):
    model, inputs = FACTORIES[name]()
    expected = model(*inputs)
    exported = torch.export.export(model, inputs).module()(*inputs)
    torch.testing.assert_close(exported, expected)
    with torch.no_grad():
        traced = torch.jit.trace(model, inputs)(*inputs)
    torch.testing.assert_close(traced, expected)


@pytest.mark.parametrize(
    ("name", "step", "least", "sizes"),
    [("upscaler", 1, 8, [(8, 8), (9, 31)]), ("ambient_occlusion", 8, 32, [(32, 64), (72, 40)])],
)
def test_sizes_stay_dynamic(name, step, least, sizes):
    """Exported for one size and for all: the same operations, and the right answer elsewhere."""
    model, inputs = FACTORIES[name]()
    h, w = (torch.export.Dim(axis, min=least // step, max=2048 // step) for axis in "hw")
    # torch has no 1 * h
    axes = {2: h, 3: w} if step == 1 else {2: step * h, 3: step * w}
    dynamic = torch.export.export(model, inputs, dynamic_shapes=(axes,) * len(inputs))
    fixed = torch.export.export(model, inputs)
    assert operations(dynamic) == operations(fixed)
    for height, width in sizes:
        smaller = [item[..., :height, :width].contiguous() for item in inputs]
        torch.testing.assert_close(dynamic.module()(*smaller), model(*smaller))


def operations(program: torch.export.ExportedProgram) -> list[str]:
    return [str(node.target) for node in program.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 10), (33, 57)])
def test_upscaler_takes_any_size(height, width):
    upscaled = upscaler_training.load()(torch.rand(1, 3, height, width))
    assert upscaled.shape == (1, 3, 2 * height, 2 * width)
    assert ((upscaled >= 0) & (upscaled <= 1)).all()


def test_upscaler_beats_bicubic_on_the_test_image(test_picture):
    ours, bicubic = upscaler_training.compare(upscaler_training.load(), test_picture)
    assert ours > bicubic + 1


def test_upscaler_beats_bicubic_on_new_scenes():
    """On each of them, and by half a decibel on average."""
    pictures = [upscaler_training.tensor(scene(seed, 96, 128)) for seed in range(300_000, 300_008)]
    model = upscaler_training.load()
    gains = [np.subtract(*upscaler_training.compare(model, picture)) for picture in pictures]
    assert np.mean(gains) > 0.5
    assert min(gains) > 0


def test_upscaler_in_float16_stays_close(test_picture):
    model, small = upscaler_training.load(), upscaler_training.shrink(test_picture)[..., :64, :96]
    with torch.no_grad():
        full, half = model(small), model.half()(small.half()).float()
    torch.testing.assert_close(half, full, atol=0.01, rtol=0)


def test_test_picture_is_its_scene(test_picture):
    height, width = test_picture.shape[2:]
    expected = upscaler_training.tensor(scene(upscaler_training.TEST_SCENE, height, width))
    assert (expected.shape[2], expected.shape[3]) == (256, 384)
    assert psnr(test_picture, expected) > 50


def test_occlusion_beats_the_formula_on_the_test_frame(occlusion):
    figures = occlusion_training.compare(occlusion, [occlusion_training.shipped_frame()])
    assert figures["psnr"] > figures["screen_space_psnr"] + 2
    assert figures["psnr"] > figures["constant_psnr"] + 6


def test_occlusion_beats_the_formula_on_new_frames(occlusion):
    frames = [frame(seed, 64, 96, 5) for seed in range(300_000, 300_004)]
    figures = occlusion_training.compare(occlusion, frames)
    assert figures["psnr"] > figures["screen_space_psnr"] + 2
    assert figures["psnr"] > figures["constant_psnr"] + 4


def test_occlusion_in_float16_stays_close(occlusion):
    depth, normals, _ = occlusion_training.tensors([occlusion_training.shipped_frame()])
    model = occlusion_training.load().half()
    with torch.no_grad():
        half = model(depth.half(), normals.half()).float()
        torch.testing.assert_close(half, occlusion(depth, normals), atol=0.02, rtol=0)


@pytest.mark.parametrize("thing", [Ball(np.zeros(3, np.float32), 1.0), box([0, 0, 0], [2, 2, 2])])
def test_rays_end_on_surfaces(thing):
    origins = np.array([[0, 0, 5], [0, 5, 5], [0, 0, -5]], np.float32)
    directions = np.array([[0, 0, -2], [0, 0, -2], [0, 0, -2]], np.float32)
    assert thing.hit(origins, directions).tolist() == [2, MISSED, MISSED]
    np.testing.assert_allclose(thing.normal(np.array([[0, 0, 1]], np.float32)), [[0, 0, 1]])
    assert thing.distance(origins)[[0, 2]].tolist() == [4, 4]
