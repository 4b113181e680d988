"""Networks over images drawn from a seed, through the stand-in, against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.host import open_shader
from metal4conv.shader.options import ShaderOptions
from tests.shader.convolution_drawn import drawn
from tests.shader.error_bounds import error_bound
from tests.shader.handmade import shader_files
from tests.shader.networks import converted

pytestmark = pytest.mark.usefixtures("compiler")

SEEDS = range(9)


@pytest.mark.parametrize("seed", SEEDS)
def test_both_paths_as_torch(seed, tmp_path):
    module, image = drawn(seed)
    network = converted(module, image).network
    options = ShaderOptions("float16" if seed % 3 == 0 else "float32")
    shader = open_shader(shader_files(network, options, tmp_path), tmp_path)
    shader.build = HostBuild(unoptimised=True)
    with torch.no_grad():
        exact = [item.numpy() for item in module.double()(image.double())]
    height, width = image.shape[2:]
    (port,) = network.inputs
    rows = {port.name: port.rows(image.numpy())}
    bound = error_bound(network, rows, options.precision, (width, height))
    for use_matmul2d in (False, True):
        found = shader.run_network(rows, (width, height), use_matmul2d)
        for port, wanted in zip(network.outputs, exact, strict=True):
            error = np.abs(found[port.name] - port.rows(wanted))
            assert np.all(error <= bound[port.name])
            if options.precision == "float32":
                assert error.max() <= 1e-5 * max(1, np.abs(wanted).max())
