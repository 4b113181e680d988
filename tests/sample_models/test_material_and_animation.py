"""The neural material and the animation blend: their files, and how good they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from neural_material import neural_material
from PIL import Image
from safetensors.torch import load_file
from training import neural_material as material_training

FOLDER = Path(material_training.__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def material_quality():
    return material_training.quality()


@pytest.fixture(scope="module")
def animation():
    pytest.importorskip("tensorflow")
    from training import animation_blend

    return animation_blend


@pytest.fixture(scope="module")
def blend(animation):
    return animation.network_blend()


@pytest.fixture(scope="module")
def animation_quality(animation):
    return animation.quality()


@pytest.fixture
def clip():
    with np.load(FOLDER / "animation_blend_test.npz") as arrays:
        return dict(arrays)


def test_files_are_small():
    files = [*FOLDER.glob("neural_material*"), FOLDER / "animation_blend_test.npz"]
    assert all(file.stat().st_size < 200_000 for file in files)
    saved = [file for file in (FOLDER / "animation_blend").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in saved) < 300_000


def test_material_weights_fit_the_factory():
    model, (latents,) = neural_material()
    model.load_state_dict(load_file(FOLDER / "neural_material.safetensors"), strict=True)
    base_color, normal = model(latents)
    assert base_color.shape == normal.shape == (len(latents), 3)
    assert ((base_color >= 0) & (base_color <= 1)).all()
    torch.testing.assert_close(normal.norm(dim=1), torch.ones(len(latents)), atol=0.02, rtol=0)


def test_material_in_float16_stays_close():
    model, (latents,) = neural_material()
    model.load_state_dict(load_file(FOLDER / "neural_material.safetensors"))
    halves = model.half()(latents.half())
    for half, full in zip(halves, model.float()(latents), strict=True):
        torch.testing.assert_close(half.float(), full, atol=0.02, rtol=0)


def test_material_is_close_to_the_wall(material_quality):
    assert material_quality["base_color_psnr"] > 40
    assert material_quality["normal_psnr"] > 36
    assert material_quality["normal_degrees"] < 2.5


def test_material_beats_textures_of_its_resolution(material_quality):
    for name in ("base_color_psnr", "normal_psnr"):
        assert material_quality[name] > material_quality[f"small_{name}"] + 6


def test_material_takes_a_third_of_bc7(material_quality):
    assert 3 * material_quality["neural_kilobytes"] < material_quality["bc7_kilobytes"]


def test_material_test_image_is_the_wall():
    wall = material_training.brick_wall()
    crop = material_training.TEST_CROP
    image = np.asarray(Image.open(FOLDER / "neural_material_test.png"), np.float32) / 255
    assert image.shape == (crop, 2 * crop, 3)
    np.testing.assert_allclose(image[:, :crop], wall.base_color[:crop, :crop], atol=0.01)
    np.testing.assert_allclose(image[:, crop:] * 2 - 1, wall.normal[:crop, :crop], atol=0.02)


def test_wall_repeats_without_seams():
    color = material_training.brick_wall().base_color
    inner = np.abs(color[:, 1:] - color[:, :-1]).mean()
    assert np.abs(color[:, 0] - color[:, -1]).mean() < 2 * inner


@pytest.mark.parametrize(
    ("figure", "factor"),
    [
        ("rotation_degrees", 7),
        ("foot_centimetres", 8),
        ("standing_foot_height_centimetres", 8),
        ("sliding_centimetres_a_second", 2.2),
    ],
)
def test_network_beats_the_plain_blend(animation_quality, figure, factor):
    assert factor * animation_quality[figure] < animation_quality[f"plain_{figure}"]


def test_true_gaits_do_not_slide(animation):
    between = animation.held_out_cycles(8).between
    truth = animation.errors(animation.poses(between), between)
    assert max(truth.values()) < 1e-3


def test_clip_comes_out_close(animation, blend, clip):
    expected = clip.pop("pose")
    found = blend(clip)
    assert found.shape == expected.shape == (64, 16, 4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-3)
    plain = animation.plain_blend(clip)
    assert 4 * np.abs(found - expected).mean() < np.abs(plain - expected).mean()


@pytest.mark.parametrize(("weight", "name"), [(0, "pose_a"), (1, "pose_b")])
def test_ends_come_out_unchanged(blend, clip, weight, name):
    clip = {key: value for key, value in clip.items() if key != "pose"}
    clip["weight"] = np.full_like(clip["weight"], weight)
    np.testing.assert_allclose(blend(clip), clip[name], atol=1e-3)


def test_signature_has_clean_names(blend):
    signature = blend.loaded.signatures["serving_default"]
    assert sorted(signature.structured_input_signature[1]) == [
        "phase",
        "pose_a",
        "pose_b",
        "weight",
    ]
    assert list(signature.structured_outputs) == ["pose"]
