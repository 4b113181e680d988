"""Running entry points: what is bound to them, and what is said of inputs that do not fit."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metal4conv.errors import RejectedShader, UsageError
from metal4conv.shader import host
from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.document import (
    Argument,
    IntermediateImage,
    TextureLayout,
    WeightBlock,
)
from metal4conv.shader.host import HostShader, guarded
from tests.shader.pieces import (
    PARAMETERS,
    POINT,
    STAGE_IN,
    WEIGHTS,
    buffer,
    builtin,
    compute,
    fragment,
)

QUICK = HostBuild(unoptimised=True)

AFFINE = """affine
#include <metal_stdlib>
#if defined(__HAVE_TENSOR__)
#include <metal_tensor>
#endif
using namespace metal;
struct grid { uint width; uint height; };
kernel void affine(const device float2 *x [[buffer(0)]], const device float *offset [[buffer(1)]],
                   const device float *weights [[buffer(2)]], device float *y [[buffer(3)]],
                   constant grid &parameters [[buffer(4)]],
#if defined(__HAVE_TENSOR__)
                   tensor<const device half, dextents<int, 2>> w [[buffer(5)]],
#endif
                   uint point [[thread_position_in_grid]])
{
    if (point >= parameters.width * parameters.height) return;
#if defined(__HAVE_TENSOR__)
    float more = w[3, 1] + float(w.get_extent(0));
#else
    float more = 0.0f;
#endif
    y[point] = x[point].x * weights[0] + x[point].y * weights[1] + offset[0] + more;
}
"""

BLOCK = WeightBlock(
    *("w", "layer", "weight", "float16", 16, 128, 16, (4, 2), (1, 4), (4, 2)), index=5
)
AFFINE_ENTRY = compute(
    "affine",
    *(buffer("input", "x"), buffer("input", "o"), WEIGHTS, buffer("output", "y"), PARAMETERS),
    *(Argument("w", "tensor", 5, "", "weight", "w"), POINT),
    threads=16,
)

PASSES = """passes
#include <metal_stdlib>
using namespace metal;
struct grid { uint width; uint height; };
kernel void first(const device float *x [[buffer(0)]], device half *middle [[buffer(1)]],
                  uint point [[thread_position_in_grid]])
{
    middle[point] = half(x[point] * 2.0f);
}
kernel void second(const device half *middle [[buffer(0)]], device float *y [[buffer(1)]],
                   constant grid &size [[buffer(2)]],
                   uint2 tile [[threadgroup_position_in_grid]],
                   uint index [[thread_index_in_threadgroup]])
{
    uint2 at = tile * uint2(4, 2) + uint2(index % 4, index / 4);
    if (at.x >= size.width || at.y >= size.height) return;
    uint left = at.x ? at.x - 1 : 0;
    y[at.y * size.width + at.x] = float(middle[at.y * size.width + left]);
}
"""


@pytest.fixture(scope="module")
def affine(shader_of: Callable[..., HostShader]) -> HostShader:
    """A function with one argument of each kind."""
    weights = np.zeros(72, np.float16)
    weights[:4] = np.array([3, 5], np.float32).view(np.float16)
    weights[64:] = np.arange(8)
    return shader_of(
        AFFINE,
        AFFINE_ENTRY,
        build=QUICK,
        inputs={"x": 2, "o": 1},
        uniform=("o",),
        outputs={"y": 1},
        weights=weights,
        blocks=(BLOCK,),
    )


def given(points: int = 6) -> dict[str, np.ndarray]:
    """Inputs for some points."""
    return {"x": np.arange(2 * points).reshape(points, 2), "o": np.array([[100]])}


def test_all_that_is_bound(affine: HostShader) -> None:
    found = affine.run("affine", given(), (3, 2))["y"]
    x = given()["x"]
    expected = 3 * x[:, :1] + 5 * x[:, 1:] + 100 + 7 + 4
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.float32


def test_a_compiler_without_tensors(affine: HostShader) -> None:
    build = HostBuild(unoptimised=True, without_tensors=True)
    plain = replace(affine, build=build, library=None)
    expected = affine.run("affine", given(), (3, 2))["y"] - 11
    np.testing.assert_array_equal(plain.run("affine", given(), (3, 2))["y"], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((5, 2))}, r"\"x\" has the shape \(5, 2\), expected \(6, 2\)"),
        ({"o": np.zeros((6, 1))}, r"\"o\" has the shape \(6, 1\), expected \(1, 1\)"),
        ({"x": None}, 'input "x" is missing'),
    ],
)
def test_inputs_that_do_not_fit(
    changes: dict[str, np.ndarray | None], message: str, affine: HostShader
) -> None:
    inputs = {name: rows for name, rows in (given() | changes).items() if rows is not None}
    with pytest.raises(UsageError, match=message):
        affine.run("affine", inputs, (3, 2))


def test_an_unknown_entry_point(affine: HostShader) -> None:
    with pytest.raises(UsageError, match='no entry point "afine": did you mean "affine"'):
        affine.run("afine", given(), (3, 2))


def test_a_grid_without_points(affine: HostShader) -> None:
    with pytest.raises(UsageError, match="0 × 2 points has none"):
        affine.run("affine", given(0), (0, 2))


def test_a_texture_of_another_size(shader_of: Callable[..., HostShader]) -> None:
    layout = TextureLayout(
        *("t", "x", (0, 1, 2, 3), "rgba8Unorm", 70, 2, 2, 0), bytes_per_row=8, byte_length=16
    )
    text = "textured\nfragment float4 draw() { return float4(0.0f); }\n"
    texture = Argument("t", "texture", 0, "", "latents", "t")
    shader = shader_of(text, fragment("draw", texture, colours=()), textures=(layout,), build=QUICK)
    with pytest.raises(UsageError, match='texture "t" has 8 bytes, expected 16'):
        shader.run("draw", {}, (1, 1), textures={"t": bytes(8)})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((POINT,), "another number of arguments"),
        ((POINT, POINT), '"thread_position_in_grid" is a buffer in the source'),
        ((buffer("output", "y"), STAGE_IN), '"in" is a builtin in the source'),
        ((buffer("output", "y"), builtin("position")), "does not know attribute"),
    ],
)
def test_a_manifest_of_another_source(
    arguments: tuple[Argument, ...], message: str, shader_of: Callable[..., HostShader]
) -> None:
    text = "other\nkernel void other(device float *y [[buffer(0)]], uint p) { y[p] = 1.0f; }\n"
    shader = shader_of(text, compute("other", *arguments, threads=1), outputs={"y": 1}, build=QUICK)
    with pytest.raises(RejectedShader, match=message):
        shader.run("other", {}, (1, 1))


def test_a_threadgroup_that_is_too_large(shader_of: Callable[..., HostShader]) -> None:
    text = "wide\nkernel void wide(device float *y [[buffer(0)]]) { y[0] = 1.0f; }\n"
    entry = compute("wide", buffer("output", "y"), threads=2048)
    with pytest.raises(RejectedShader, match="1024 threads at most"):
        shader_of(text, entry, outputs={"y": 1}, build=QUICK).run("wide", {}, (1, 1))


def test_passes_with_an_image_between(shader_of: Callable[..., HostShader]) -> None:
    first = compute("first", buffer("input", "x"), buffer("image", "m"), POINT, threads=1)
    second = compute(
        "second",
        *(buffer("image", "m"), buffer("output", "y"), PARAMETERS),
        *(builtin("threadgroup_position_in_grid"), builtin("thread_index_in_threadgroup")),
        threads=8,
    )
    image = IntermediateImage("m", 1, "float16")
    shader = shader_of(
        *(PASSES, first, replace(second, tile=(4, 2))),
        build=QUICK,
        inputs={"x": 1},
        outputs={"y": 1},
        images=(image,),
        passes=("first", "second"),
    )
    x = np.arange(15, dtype=np.float32).reshape(3, 5)
    found = shader.run_network({"x": x.reshape(-1, 1)}, (5, 3))["y"].reshape(3, 5)
    assert found.tolist() == (2 * np.concatenate([x[:, :1], x[:, :-1]], 1)).tolist()


def test_structures_are_those_of_the_driver(shader_of: Callable[..., HostShader]) -> None:
    pairs = {"binding": host.Binding, "target": host.Target, "dispatch": host.Dispatch}
    text = "".join(
        f"static_assert(sizeof(::metal4conv_stand_in::{name}) == {ctypes.sizeof(kind)});\n"
        for name, kind in pairs.items()
    )
    shader_of(f"sizes\n{text}", build=QUICK).opened()


def test_function_constants_are_no_constant_expressions(
    shader_of: Callable[..., HostShader],
) -> None:
    text = "folded\nconstant bool on [[function_constant(0)]];\nvoid f() { if constexpr (on) {} }\n"
    with pytest.raises(RejectedShader, match="constant expression"):
        shader_of(text, constants=("on",), build=QUICK).opened()


def test_a_guard_tells_where_something_was_written() -> None:
    memory = guarded(bytes(10))
    memory.check_guards("b")
    assert memory.address % 256 == 0
    memory.whole[-1] = 0
    with pytest.raises(RejectedShader, match='beyond the end of buffer "b"'):
        memory.check_guards("b")


def test_a_library_leaves_no_file(
    shader_of: Callable[..., HostShader], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    text = "gone\nkernel void gone(device float *y [[buffer(0)]]) { y[0] = 1.0f; }\n"
    shader = shader_of(text, compute("gone", buffer("output", "y"), threads=1), outputs={"y": 1})
    shader = replace(shader, folder=None, build=QUICK)
    assert shader.run("gone", {}, (1, 1))["y"] == 1
    assert list(tmp_path.iterdir()) == []
