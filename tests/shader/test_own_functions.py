"""Functions of one's own beside the generated ones: they call `NAME_evaluate`, and see the triangle
that covers the picture.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import pytest

from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.document import Attachment
from metal4conv.shader.evaluation import evaluate
from metal4conv.shader.host import HostShader
from metal4conv.shader.network import Network
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import pack_weights
from metal4conv.shader.source import write_source
from tests.shader.handmade import Hand
from tests.shader.pieces import POINT, STAGE_IN, WEIGHTS, buffer, compute, fragment

PROBE = """
kernel void probe(device float4 *position [[buffer(0)]], device float2 *uv [[buffer(1)]],
                  uint point [[thread_position_in_grid]])
{
    const small_varyings corner = small_vertex(point);
    position[point] = corner.position;
    uv[point] = corner.uv;
}
"""


MINE = """
// a colour of one's own: the network of the place in the picture, brightened
fragment float4 mine(small_varyings varyings [[stage_in]],
                     const device uchar *weights [[buffer(3)]])
{
    const small_inputs inputs = {float3(varyings.uv, 0.5f)};
    const small_outputs outputs = small_evaluate(inputs, weights);
    return float4(outputs.y * 2.0f, 0.0f, 1.0f);
}
"""


@functools.cache
def small() -> Network:
    """A network with one layer."""
    hand = Hand("small")
    hand.output("y", hand.layer("y", hand.input("x", 3), 2))
    return hand.network()


def small_source() -> str:
    """Its source."""
    options = ShaderOptions("float32")
    return write_source(small(), options, pack_weights(small(), options)).text


@pytest.mark.parametrize("use_matmul2d", [False, True])
def test_a_function_calls_the_network(
    use_matmul2d: bool, shader_of: Callable[..., HostShader]
) -> None:
    colour = (Attachment(0, "", "c", 0, 4),)
    shader = shader_of(
        *(f"mine\n{small_source()}{MINE}", fragment("mine", STAGE_IN, WEIGHTS, colours=colour)),
        build=HostBuild(unoptimised=True),
        outputs={"c": 4},
        weights=np.frombuffer(pack_weights(small(), ShaderOptions("float32")).data, np.uint8),
        constants=("small_use_matmul2d",),
    )
    found = shader.run("mine", {}, (4, 3), use_matmul2d)["c"]
    x, y = (axis.ravel() + 0.5 for axis in np.meshgrid(np.arange(4), np.arange(3)))
    rows = np.stack([x / 4, y / 3, np.full(12, 0.5)], 1).astype(np.float32)
    np.testing.assert_allclose(found[:, :2], 2 * evaluate(small(), {"x": rows})["y"], rtol=1e-5)
    assert found[:, 2:].tolist() == [[0, 1]] * 12


def test_the_triangle_covers_the_picture(shader_of: Callable[..., HostShader]) -> None:
    entry = compute(
        "probe", buffer("output", "position"), buffer("output", "uv", 1), POINT, threads=3
    )
    shader = shader_of(
        *(f"small\n{small_source()}{PROBE}", entry),
        build=HostBuild(unoptimised=True),
        outputs={"position": 4, "uv": 2},
        constants=("small_use_matmul2d",),
    )
    corners = shader.run("probe", {}, (3, 1))
    assert corners["position"][:, 2:].tolist() == [[0, 1]] * 3
    width, height = 5, 3
    x, y = (axis.ravel() + 0.5 for axis in np.meshgrid(np.arange(width), np.arange(height)))
    # normalised device coordinates: y points up, and the picture's rows go down
    places = np.stack([2 * x / width - 1, 1 - 2 * y / height, np.ones_like(x)])
    shares = np.linalg.solve(np.vstack([corners["position"][:, :2].T, np.ones(3)]), places)
    assert (shares > 0).all()
    expected = np.stack([x / width, y / height], 1)
    np.testing.assert_allclose(shares.T @ corners["uv"], expected, atol=1e-6)
