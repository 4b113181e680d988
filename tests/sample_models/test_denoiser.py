"""The denoiser: its ONNX file, and how good it is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from training import denoiser as training
from training.denoiser_graph import Denoiser, onnx_model, write_onnx
from training.metrics import psnr
from training.scenes import scene

FILE = training.FOLDER / "denoiser.onnx"
FILTERS = ("gaussian", "median", "bilateral")


@pytest.fixture(scope="module")
def session():
    return training.load()


@pytest.fixture
def weights():
    graph = onnx.load(FILE).graph
    arrays = {item.name: onnx.numpy_helper.to_array(item) for item in graph.initializer}
    return {name: torch.tensor(array) for name, array in arrays.items() if "." in name}


def test_file_is_small():
    assert FILE.stat().st_size < 150_000


def test_file_is_what_its_weights_give(weights, tmp_path):
    model = Denoiser().eval()
    model.load_state_dict(weights, strict=True)
    write_onnx(model, tmp_path / "denoiser.onnx")
    assert (tmp_path / "denoiser.onnx").read_bytes() == FILE.read_bytes()


def test_inputs_and_outputs_have_named_sizes():
    graph = onnx.load(FILE).graph
    shapes = {
        item.name: [size.dim_param or size.dim_value for size in item.type.tensor_type.shape.dim]
        for item in (*graph.input, *graph.output)
    }
    assert shapes == {"noisy": [1, 3, "h", "w"], "denoised": [1, 3, "h", "w"]}


def test_nodes_are_called_what_they_give():
    made = onnx_model(Denoiser())
    assert [node.name for node in made.graph.node] == [node.output[0] for node in made.graph.node]
    assert made.producer_name == ""
    assert [(item.domain, item.version) for item in made.opset_import] == [("", 17)]


@pytest.mark.parametrize(("height", "width"), [(4, 4), (16, 64), (100, 60)])
def test_graph_gives_what_the_trained_network_gives(session, weights, height, width):
    model = Denoiser().eval()
    model.load_state_dict(weights)
    noisy = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(training.denoise(session, noisy), model(noisy))


def test_denoiser_beats_filters_on_the_test_picture():
    (figures,) = training.compare_all(training.FOLDER, *training.shipped_picture())
    assert figures["psnr"] > figures["noisy_psnr"] + 6
    assert figures["psnr"] > figures["bilateral_psnr"] + 1


def test_denoiser_beats_filters_on_new_scenes():
    """On each of them, by a decibel and a half on average."""
    pictures = training.held_out(range(300_000, 300_006), 96, 128)
    figures = training.compare_all(training.FOLDER, *pictures)
    best = [max(item[f"{kind}_psnr"] for kind in FILTERS) for item in figures]
    gains = [item["psnr"] - other for item, other in zip(figures, best, strict=True)]
    assert np.mean(gains) > 1.5
    assert min(gains) > 0


def test_denoiser_in_float16_stays_close(weights):
    model = Denoiser().eval()
    model.load_state_dict(weights)
    noisy = training.shipped_picture()[0][..., :64, :96]
    with torch.no_grad():
        full, half = model(noisy), model.half()(noisy.half()).float()
    torch.testing.assert_close(half, full, atol=0.01, rtol=0)


def test_test_picture_is_its_scene():
    noisy, clean = training.shipped_picture()
    expected = scene(training.TEST_SCENE, training.TEST_HEIGHT, training.TEST_WIDTH)
    assert psnr(clean, training.tensor(expected[None])) > 50
    assert noisy.shape == clean.shape == (1, 3, 192, 256)


def test_noise_fades_with_the_number_of_paths():
    """Many paths show the picture itself, few of them its mean light."""
    clean = np.full((64, 64, 3), 0.5, np.float32)
    errors = [
        np.abs(training.add_noise(np.random.default_rng(1), clean, paths) - clean).mean()
        for paths in (2.0, 16.0, 1e6)
    ]
    assert errors[0] > 2 * errors[1] > 0
    assert errors[2] < 1e-3
    noisy = training.add_noise(np.random.default_rng(1), clean, 16.0)
    light = (noisy**training.GAMMA).mean()
    assert light == pytest.approx(0.5**training.GAMMA, rel=0.02)


def test_filters_leave_an_even_picture_alone():
    even = torch.full((1, 3, 12, 16), 0.25)
    for pictures in training.filtered(even).values():
        for picture in pictures:
            torch.testing.assert_close(picture, even)


def test_median_is_the_middle():
    picture = torch.rand(1, 3, 9, 11, generator=torch.Generator().manual_seed(2))
    expected = np.median(picture[0, 1, 3:6, 4:7].numpy())
    assert training.median(picture, 3)[0, 1, 4, 5].item() == pytest.approx(expected)
