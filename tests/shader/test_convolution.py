"""Networks with convolutions: their Metal through the stand-in, against torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.host import HostShader, open_shader
from metal4conv.shader.network import Network
from metal4conv.shader.options import ShaderOptions
from tests.shader.convolution_networks import CASES, Case, Parts, conv, module_of, network_of
from tests.shader.error_bounds import error_bound
from tests.shader.handmade import shader_files, written
from tests.shader.networks import converted, seeded

pytestmark = pytest.mark.usefixtures("compiler")

SIZES = ((19, 20), (16, 8), (1, 1), (37, 1), (1, 9), (17, 9))
"""Widths and heights: tiles that are full, that are cut, images smaller than a kernel."""

PATHS = pytest.mark.parametrize("use_matmul2d", [False, True], ids=["plain", "matmul2d"])


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory):
    """The shader of a case, compiled once for each choice of options."""

    @cache
    def make(name: str, options: ShaderOptions) -> HostShader:
        folder = tmp_path_factory.mktemp(name)
        return open_shader(shader_files(network_of(name), options, folder), folder)

    return make


def run(
    shader: HostShader, network: Network, case: Case, size: tuple[int, int], use_matmul2d: bool
) -> list[np.ndarray]:
    """The outputs of a shader as arrays, in order."""
    images = case.images(size)
    rows = {
        port.name: port.rows(image.numpy())
        for port, image in zip(network.inputs, images, strict=True)
    }
    found = shader.run_network(rows, size, use_matmul2d)
    return [
        port.array(found[port.name], (1, port.width, size[1], size[0])) for port in network.outputs
    ]


def expected(module: nn.Module, case: Case, size: tuple[int, int]) -> list[np.ndarray]:
    """What torch computes, in float64."""
    with torch.no_grad():
        results = module.double()(*(image.double() for image in case.images(size)))
    module.float()
    return [item.numpy() for item in (results if isinstance(results, tuple) else (results,))]


@PATHS
@pytest.mark.parametrize("name", CASES)
def test_float32_as_torch(name, use_matmul2d, opened):
    case = CASES[name]
    shader = opened(name, ShaderOptions("float32"))
    for size in SIZES:
        got = run(shader, network_of(name), case, size, use_matmul2d)
        for found, exact in zip(got, expected(module_of(name), case, size), strict=True):
            assert found.shape == exact.shape
            np.testing.assert_allclose(found, exact, rtol=1e-5, atol=1e-5 * np.abs(exact).max())


@PATHS
@pytest.mark.parametrize("name", ["denoiser", "two_outputs", "two_inputs", "wide"])
def test_float16_within_the_bound(name, use_matmul2d, opened):
    case, network, size = CASES[name], network_of(name), SIZES[0]
    got = run(opened(name, ShaderOptions("float16")), network, case, size, use_matmul2d)
    rows = {
        port.name: port.rows(image.numpy())
        for port, image in zip(network.inputs, case.images(size), strict=True)
    }
    bound = error_bound(network, rows, "float16", size)
    exact = expected(module_of(name), case, size)
    for port, found, wanted in zip(network.outputs, got, exact, strict=True):
        error = np.abs(port.rows(found - wanted))
        assert np.all(error <= bound[port.name])
        assert bound[port.name].max() < 0.05 * np.abs(wanted).max()


@contextmanager
def rounded(module: nn.Module) -> Iterator[nn.Module]:
    """The module with float16 weights of convolutions, whose operands are rounded on their way."""
    handles, weights = [], {}
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            weights[layer] = layer.weight.data.clone()
            layer.weight.data = layer.weight.data.half().float()
            hook = layer.register_forward_pre_hook(lambda _, given: (given[0].half().to(given[0]),))
            handles.append(hook)
    try:
        yield module
    finally:
        for handle in handles:
            handle.remove()
        for layer, weight in weights.items():
            layer.weight.data = weight


@PATHS
@pytest.mark.parametrize("name", ["denoiser", "two_outputs"])
def test_float16_as_torch_that_rounds(name, use_matmul2d, opened):
    case = CASES[name]
    size = SIZES[0]
    got = run(opened(name, ShaderOptions("float16")), network_of(name), case, size, use_matmul2d)
    with rounded(module_of(name)) as module:
        exact = expected(module, case, size)
    for found, wanted in zip(got, exact, strict=True):
        # a sum that rounds to the other neighbour moves an operand by 2^-11 of itself: rarely
        error, scale = np.abs(found - wanted), np.abs(wanted).max()
        assert error.max() < 2**-11 * scale
        assert error.mean() < 2e-5 * scale


def test_both_paths_agree_whatever_the_threads(opened):
    shader, case = opened("denoiser", ShaderOptions("float16")), CASES["denoiser"]
    size = (80, 50)
    (image,) = case.images(size)
    (port,) = network_of("denoiser").inputs
    rows = {port.name: port.rows(image.numpy())}
    name = shader.manifest.outputs[0].name
    runs = [
        shader.run_network(rows, size, path, threads)[name]
        for path in (False, True)
        for threads in (1, 3)
    ]
    assert np.array_equal(runs[0], runs[1])
    assert np.array_equal(runs[2], runs[3])
    np.testing.assert_allclose(runs[0], runs[2], rtol=0, atol=1e-3)


def test_int8_weights_have_the_plain_path_alone(opened):
    shader = opened("denoiser", ShaderOptions("int8"))
    assert any("int8 images" in note for note in shader.manifest.notes)
    case, size = CASES["denoiser"], SIZES[0]
    module = module_of("denoiser")
    got = run(shader, network_of("denoiser"), case, size, False)
    with rounded(module), torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                scales = layer.weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
                layer.weight.data = (layer.weight / scales).round() * scales
        exact = expected(module, case, size)
    # the scales above are of rounded weights: half's rounding is what may differ
    np.testing.assert_allclose(got[0], exact[0], rtol=0, atol=4e-3)


def test_weights_in_the_source(opened):
    shader = opened("chain", ShaderOptions("float32", inline_weights=True))
    assert not shader.manifest.blocks
    assert not shader.manifest.constants
    (got,) = run(shader, network_of("chain"), CASES["chain"], (19, 20), False)
    (exact,) = expected(module_of("chain"), CASES["chain"], (19, 20))
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)


def test_tensors_are_made_in_the_buffer_whatever_is_asked_for(opened):
    shader = opened("denoiser", ShaderOptions("float32", "handle"))
    assert any("binds no MTLTensor" in note for note in shader.manifest.notes)
    (got,) = run(shader, network_of("denoiser"), CASES["denoiser"], (9, 9), True)
    (exact,) = expected(module_of("denoiser"), CASES["denoiser"], (9, 9))
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)


def test_what_no_tile_holds_has_the_plain_path_alone(tmp_path):
    module = nn.Sequential(conv(100, 3, 7)).eval()
    network = converted(module, torch.zeros(1, 100, 8, 8)).network
    source = written(network, ShaderOptions("float32"))
    assert "takes more than 32,768 bytes" in source.notes[0]
    assert not source.constants
    shader = open_shader(shader_files(network, ShaderOptions("float32"), tmp_path), tmp_path)
    case = Case(lambda: module, (100,))
    (got,) = run(shader, network, case, (5, 6), False)
    (exact,) = expected(module, case, (5, 6))
    np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)


def test_an_input_that_is_one_row_for_all_pixels(tmp_path):
    def forward(self: Parts, image: Tensor, guide: Tensor) -> Tensor:
        noise = guide.expand(1, 1, image.shape[2], image.shape[3])
        hidden = torch.relu(self.first(torch.cat([image, noise], dim=1)))
        return image + guide * self.last(hidden)

    module = seeded(lambda: Parts(forward, first=conv(3, 6), last=conv(6, 2)))
    images = (torch.rand(1, 2, 9, 18), torch.tensor([[[[0.7]]]]))
    network = converted(module, *images).network
    assert [port.uniform for port in network.inputs] == [False, True]
    shader = open_shader(shader_files(network, ShaderOptions("float32"), tmp_path), tmp_path)
    shader.build = HostBuild(unoptimised=True)
    rows = {
        port.name: port.rows(image.numpy())
        for port, image in zip(network.inputs, images, strict=True)
    }
    with torch.no_grad():
        exact = module(*images).numpy()
    (output,) = network.outputs
    for use_matmul2d in (False, True):
        found = shader.run_network(rows, (18, 9), use_matmul2d)[output.name]
        np.testing.assert_allclose(found, output.rows(exact), rtol=1e-5, atol=1e-5)


def test_without_tensors_there_is_the_plain_path(tmp_path):
    path = shader_files(network_of("denoiser"), ShaderOptions("float32"), tmp_path)
    shader = open_shader(path, tmp_path)
    shader.build = HostBuild(without_tensors=True, unoptimised=True)
    for use_matmul2d in (False, True):
        (got,) = run(shader, network_of("denoiser"), CASES["denoiser"], (18, 9), use_matmul2d)
        (exact,) = expected(module_of("denoiser"), CASES["denoiser"], (18, 9))
        np.testing.assert_allclose(got, exact, rtol=1e-5, atol=1e-5)
