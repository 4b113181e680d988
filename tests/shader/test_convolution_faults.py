"""A generator of convolutions that is wrong in one place: who notices, and how."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metal4conv.errors import RejectedShader
from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.host import open_shader
from metal4conv.shader.network import Network
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.weight_arrays import convolution_array
from tests.shader.convolution_networks import small
from tests.shader.handmade import shader_files, written
from tests.shader.networks import converted, seeded

pytestmark = pytest.mark.usefixtures("compiler")

SIZE = (19, 9)
OPTIONS = ShaderOptions("float32")

FAULTS = {
    # what is broken: (text, what it becomes, who notices)
    "channels exchanged": (
        "extents<int, W::outputs, W::inputs, W::kernel_width",
        "extents<int, W::inputs, W::outputs, W::kernel_width",
        "the weights of convolution2d are HWIO",
    ),
    "window too narrow": (
        "int4(W::inputs, W::window_width, W::window_height, 1)",
        "int4(W::inputs, W::tile_width, W::window_height, 1)",
        "the activation of convolution2d is NHWC",
    ),
    "one simdgroup alone": (
        "execution_simdgroups<small_simdgroups>",
        "execution_simdgroup",
        "it has to be all of them",
    ),
    "one thread alone": (
        "execution_simdgroups<small_simdgroups>",
        "execution_thread",
        "its scope is execution_simdgroups<N>",
    ),
    "offset forgotten": ("convolve.set_offsets", "// convolve.set_offsets", None),
    "offset of the corner": ("W::kernel_width / 2, W::kernel_height", "0, W::kernel_height", None),
    "window not moved": ("origin - int2(W::left, W::above)", "origin", None),
    "edge one pixel late": ("from.x < size.x", "from.x <= size.x", None),
    "weights of another layer": (
        "weights + small_w1_offset",
        "weights + small_w0_offset",
        None,
    ),
    "window not awaited": (
        "threadgroup_barrier(mem_flags::mem_threadgroup); // the window is filled",
        "// the window is filled",
        "written while other threads still read it",
    ),
    "sums over the window": (
        "threadgroup_barrier(mem_flags::mem_threadgroup); // the window is read",
        "// the window is read",
        "written while other threads still read it",
    ),
    "sums not awaited": (
        "threadgroup_barrier(mem_flags::mem_threadgroup); // all sums are written",
        "// all sums are written",
        None,
    ),
    "some threads gone": (
        "const device float *b1 =",
        "if (thread_index > 63) { return; }\n    const device float *b1 =",
        "wait for one another forever",
    ),
    "rows of the wrong pixel": ("uint(at.y * size.x + at.x)", "uint(at.x * size.y + at.y)", None),
}


MODULE = seeded(small)


@pytest.fixture(scope="module")
def network() -> Network:
    found = converted(MODULE, torch.zeros(1, 3, SIZE[1], SIZE[0])).network
    return replace(found, name="small")


def greatest_error(network: Network, path: Path) -> float:
    """How far the shader of a manifest is from torch, infinite where it gives no numbers."""
    image = torch.rand((1, 3, SIZE[1], SIZE[0]), generator=torch.Generator().manual_seed(3))
    shader = open_shader(path, path.parent)
    shader.build = HostBuild(unoptimised=True)
    (given,), (port,) = network.inputs, network.outputs
    found = shader.run_network({given.name: given.rows(image.numpy())}, SIZE, True)
    with torch.no_grad():
        exact = port.rows(MODULE(image).numpy())
    return float(np.nan_to_num(np.abs(found[port.name] - exact), nan=np.inf).max())


def test_as_it_is(network, tmp_path):
    assert greatest_error(network, shader_files(network, OPTIONS, tmp_path)) < 1e-6


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_noticed(fault, network, tmp_path):
    before, after, message = FAULTS[fault]
    text = written(network, OPTIONS).text
    assert before in text
    path = shader_files(network, OPTIONS, tmp_path, text.replace(before, after))
    if message is None:
        assert greatest_error(network, path) > 1e-2
        return
    with pytest.raises(RejectedShader, match=message):
        greatest_error(network, path)


ORDERS = {
    "rows and columns exchanged": lambda weight: weight.transpose(0, 1, 3, 2),
    "turned around": lambda weight: weight[:, :, ::-1, ::-1],
}


@pytest.mark.parametrize("order", ORDERS)
def test_weights_in_another_order(order, network, tmp_path, monkeypatch):
    def wrong(weight):
        return convolution_array(np.ascontiguousarray(ORDERS[order](weight)))

    monkeypatch.setattr("metal4conv.shader.packing.convolution_array", wrong)
    assert greatest_error(network, shader_files(network, OPTIONS, tmp_path)) > 1e-2
