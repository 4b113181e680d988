"""The language of the stand-in: numbers worked out by hand, or with Python's float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from metal4conv.shader.host import HostShader
from tests.shader.pieces import WEIGHTS, buffer, builtin, compute

ARITHMETIC = (
    # half has 11 bits: 2049 lies between two numbers and goes to the even one
    *(2048.0, float(np.float16(1 / 3)), math.inf, 2.0, 1.0, 1.015625),
    *(4321.0, 43.0, 5.0 + 8.0, 5.0, 3.0 + 1.0, 2048.0, 1.0 + 3.0, 4.0, 3.0, 5.5),
    *(127.0, 0x3C00, 2.0),
    *(3.0, 2.0, -3.0, -2.0, -3.0, -2.0, 0.75, -1.0),
    *(2.0, 12.5, 10.0, 1.0, 1.0, -99.0, 3.0, 5.0, 3.0, 10.0),
    *(10.0, math.e, 1024.0, 6.0, math.sqrt(2), 3.5, 0.5, 0.0, 3 * math.pi / 4),
    *(32.0, 5.0, 1.0, 1.0, float(np.float16(math.exp(0.5)))),
    *(1.0, 2.0, 1.0, -7.0),
)

LITTLE_TYPES = """little_types
#include <metal_stdlib>
using namespace metal;
kernel void sizes(device float *y [[buffer(0)]])
{
    y[0] = float(sizeof(half) * 10 + sizeof(bfloat));
    y[1] = float(sizeof(float3) * 100 + sizeof(half3) * 10 + sizeof(float2));
    y[2] = float(sizeof(uchar4) * 10 + sizeof(ushort));
    y[3] = float(char(-3)) + float(int8_t(-4));
    y[4] = numeric_limits<float>::max() - FLT_MAX + float(numeric_limits<half>::max());
}
"""

BUILTINS = """builtins
#include <metal_stdlib>
using namespace metal;
kernel void where(device float4 *y [[buffer(0)]],
                  uint point [[thread_position_in_grid]],
                  uint index [[thread_index_in_threadgroup]],
                  ushort lane [[thread_index_in_simdgroup]],
                  uint simdgroup [[simdgroup_index_in_threadgroup]],
                  uint2 group [[threadgroup_position_in_grid]],
                  uint3 size [[threads_per_threadgroup]])
{
    y[point] = float4(index, lane, simdgroup, group.x * 100 + size.x);
}
"""


def test_arithmetic(shader_of: Callable[..., HostShader]) -> None:
    halves = np.array([[1, 2, 3, 4], [5, 6, 7, 8]], np.float16)
    shader = shader_of(
        "arithmetic.metal",
        compute("arithmetic", WEIGHTS, buffer("output", "y", 1), threads=1),
        outputs={"y": 64},
        weights=halves,
    )
    found = shader.run("arithmetic", {}, (1, 1))["y"][0]
    np.testing.assert_allclose(found[: len(ARITHMETIC)], ARITHMETIC, rtol=3e-7, atol=1e-7)
    assert np.isnan(found[len(ARITHMETIC) :]).all()


def test_sizes_of_types(shader_of: Callable[..., HostShader]) -> None:
    entry = compute("sizes", buffer("output", "y"), threads=1)
    found = shader_of(LITTLE_TYPES, entry, outputs={"y": 5}).run("sizes", {}, (1, 1))["y"][0]
    # three components take the room of four
    assert found.tolist() == [22, 1600 + 80 + 8, 42, -7, 65504]


def test_positions_of_threads(shader_of: Callable[..., HostShader]) -> None:
    attributes = (
        *("thread_position_in_grid", "thread_index_in_threadgroup", "thread_index_in_simdgroup"),
        *("simdgroup_index_in_threadgroup", "threadgroup_position_in_grid"),
        "threads_per_threadgroup",
    )
    entry = compute("where", buffer("output", "y"), *map(builtin, attributes), threads=96)
    shader = shader_of(BUILTINS, entry, outputs={"y": 4})
    found = shader.run("where", {}, (96 * 3, 1))["y"]
    points = np.arange(96 * 3)
    expected = [points % 96, points % 32, points % 96 // 32, points // 96 * 100 + 96]
    np.testing.assert_array_equal(found, np.stack(expected, 1))
