"""The triangle of a generated shader covers the picture, with `uv` from 0 to 1 over it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.host import HostShader
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import pack_weights
from metal4conv.shader.source import write_source
from tests.shader.handmade import Hand
from tests.shader.pieces import POINT, buffer, compute

PROBE = """
kernel void probe(device float4 *position [[buffer(0)]], device float2 *uv [[buffer(1)]],
                  uint point [[thread_position_in_grid]])
{
    const small_varyings corner = small_vertex(point);
    position[point] = corner.position;
    uv[point] = corner.uv;
}
"""


def small_source() -> str:
    """The source of a network with one layer."""
    hand = Hand("small")
    hand.output("y", hand.layer("y", hand.input("x", 3), 2))
    network = hand.network()
    packed = pack_weights(network, ShaderOptions())
    return write_source(network, ShaderOptions(), packed).text


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
