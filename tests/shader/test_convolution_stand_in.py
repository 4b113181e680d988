"""convolution2d of the stand-in: numbers worked out by hand, and the rules of its header."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from metal4conv.errors import RejectedShader
from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.host import HostShader
from tests.shader.pieces import WEIGHTS, buffer, builtin, compute

X, Y = buffer("input", "x"), buffer("output", "y")
INDEX = builtin("thread_index_in_threadgroup")

QUICK = HostBuild(unoptimised=True)

SHADER = """
#include <metal_stdlib>
#include <metal_tensor>
#include <MetalPerformancePrimitives/MetalPerformancePrimitives.h>
using namespace metal;
using namespace mpp::tensor_ops;

// x is an image of 5 x 4 pixels of 2 channels, y its convolution with 3 x 3 taps to 3 channels
kernel void convolve(
    const device float *x [[buffer(0)]],
    const device uchar *weights [[buffer(1)]],
    device float *y [[buffer(2)]],
    uint index [[thread_index_in_threadgroup]])
{
    constexpr auto descriptor = convolution2d_descriptor(
        int4(3, 5, 4, 1), int4(2, 5, 4, 1), int2(3, 3),
        convolution2d_activation_layout::nhwc, convolution2d_weights_layout::hwio,
        int2(1, 1), int2(1, 1), 1, false, convolution2d_descriptor::mode::multiply);
    convolution2d<descriptor, execution_simdgroups<2>> operation;
    operation.set_offsets(int2(0, 0));
    tensor<device float, dextents<int, 4>, tensor_inline> activation(
        (device float *)x, dextents<int, 4>(2, 5, 4, 1));
    tensor<device float, extents<int, 3, 2, 3, 3>, tensor_inline> taps(
        (device float *)weights, extents<int, 3, 2, 3, 3>());
    auto sums = operation.get_destination_cooperative_tensor<
        decltype(activation), decltype(taps), float>();
    // before
    operation.run(activation, taps, sums);
    tensor<device float, extents<int, 3, 5, 4, 1>, tensor_inline> result(
        y, extents<int, 3, 5, 4, 1>());
    // after
    sums.store(result);
}
"""

ENTRY = compute("convolve", X, WEIGHTS, Y, INDEX, threads=64)
PORTS = {"inputs": {"x": 2}, "outputs": {"y": 3}}


def hwio() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((3, 3, 2, 3)).astype(np.float32)


def image() -> np.ndarray:
    return np.random.default_rng(2).standard_normal((20, 2)).astype(np.float32)


def text(*edits: tuple[str, str]) -> str:
    """The shader with some words replaced, each of which has to be there."""
    changed = SHADER
    for before, after in edits:
        assert before in changed
        changed = changed.replace(before, after)
    return f"convolve{abs(hash(edits))}\n{changed}"


Make = Callable[..., HostShader]


def result(shader_of: Make, *edits: tuple[str, str]) -> np.ndarray:
    """What the shader gives, height × width × channels."""
    shader = shader_of(text(*edits), ENTRY, build=QUICK, weights=hwio(), **PORTS)
    return shader.run("convolve", {"x": image()}, (5, 4))["y"].reshape(4, 5, 3)


def torch_result(padding: tuple[int, int, int, int], stride: int = 1) -> np.ndarray:
    """The same by torch: left, right, top and bottom zeros around the image."""
    pixels = torch.from_numpy(image().reshape(1, 4, 5, 2)).permute(0, 3, 1, 2)
    weight = torch.from_numpy(hwio()).permute(3, 2, 0, 1)
    padded = torch.nn.functional.pad(pixels, padding)
    return torch.conv2d(padded, weight, stride=stride)[0].permute(1, 2, 0).numpy()


def test_the_window_is_centred_and_zero_outside(shader_of: Make) -> None:
    np.testing.assert_allclose(result(shader_of), torch_result((1, 1, 1, 1)), atol=1e-5)


def test_offsets_move_the_window(shader_of: Make) -> None:
    found = result(shader_of, ("set_offsets(int2(0, 0))", "set_offsets(int2(1, -1))"))
    np.testing.assert_allclose(found, torch_result((0, 2, 2, 0)), atol=1e-5)


def test_offsets_are_zero_unless_set(shader_of: Make) -> None:
    found = result(shader_of, ("operation.set_offsets", "// operation.set_offsets"))
    np.testing.assert_allclose(found, torch_result((1, 1, 1, 1)), atol=1e-5)


def test_one_tap_by_hand(shader_of: Make) -> None:
    weights = np.zeros((3, 3, 2, 3), np.float32)
    weights[0, 2, 1, 0] = 10  # one row up, one column to the right, second channel to first output
    shader = shader_of(text(), ENTRY, build=QUICK, weights=weights, **PORTS)
    pixels = np.arange(40, dtype=np.float32).reshape(20, 2)
    found = shader.run("convolve", {"x": pixels}, (5, 4))["y"].reshape(4, 5, 3)
    assert found[2, 1].tolist() == [10 * pixels[1 * 5 + 2, 1], 0, 0]
    assert not found[0].any()  # above is nothing
    assert not found[:, 4].any()  # nor to the right


def test_accumulates_on_what_is_there(shader_of: Make) -> None:
    found = result(
        shader_of,
        ("mode::multiply)", "mode::multiply_accumulate)"),
        (
            "// before",
            "for (ushort e = 0; e < sums.get_capacity(); ++e) {\n"
            "        if (sums.is_valid_element(e)) {\n"
            "            sums[e] = float(sums.get_multidimensional_index(e)[1]);\n"
            "        }\n    }",
        ),
    )
    exact = torch_result((1, 1, 1, 1)) + np.arange(5)[:, None]
    np.testing.assert_allclose(found, exact, atol=1e-5)


def test_elements_have_coordinates_of_channel_x_y(shader_of: Make) -> None:
    found = result(
        shader_of,
        (
            "sums.store(result);",
            "for (ushort e = 0; e < sums.get_capacity(); ++e) {\n"
            "        if (sums.is_valid_element(e)) {\n"
            "            const auto at = sums.get_multidimensional_index(e);\n"
            "            y[(at[2] * 5 + at[1]) * 3 + at[0]] = 100 * at[2] + 10 * at[1] + at[0];\n"
            "        }\n    }",
        ),
    )
    rows, columns, channels = np.indices((4, 5, 3))
    assert np.array_equal(found, 100 * rows + 10 * columns + channels)


def test_elements_that_do_not_exist_are_no_numbers(shader_of: Make) -> None:
    found = result(
        shader_of,
        (
            "sums.store(result);",
            "float total = 0;\n"
            "    for (ushort e = 0; e < sums.get_capacity(); ++e) { total += sums[e]; }\n"
            "    if (index < 60) { y[index] = total; }",
        ),
    )
    assert np.isnan(found).any()


HALF_IMAGE = (
    ("tensor<device float, dextents<int, 4>", "tensor<device half, dextents<int, 4>"),
    ("(device float *)x", "(device half *)x"),
)
BFLOAT_TAPS = (
    ("device float, extents<int, 3, 2, 3, 3>", "device bfloat, extents<int, 3, 2, 3, 3>"),
    ("(device float *)weights", "(device bfloat *)weights"),
)
ANOTHER_TENSOR = """
    tensor<device float, dextents<int, 4>, tensor_inline> direct(
        y, dextents<int, 4>(3, 5, 4, 1));
"""

RULES = {
    "weights not HWIO": ([("extents<int, 3, 2, 3, 3>", "extents<int, 2, 3, 3, 3>")], "are HWIO"),
    "weights of another kernel": ([("int2(3, 3),", "int2(3, 1),")], "are HWIO"),
    "groups": ([("int2(1, 1), 1, false", "int2(1, 1), 2, false")], "takes one group"),
    "one thread": (
        [("execution_simdgroups<2>", "execution_thread")],
        "works in the whole threadgroup",
    ),
    "half with float": (HALF_IMAGE, "half with half"),
    "bfloat with float": (BFLOAT_TAPS, "bfloat from macOS 26.1"),
    "index": ([("dextents<int, 4>", "dextents<uint, 4>")], "index type of tensors"),
    "rank": ([("extents<int, 3, 2, 3, 3>", "extents<int, 3, 2, 9>")], "have rank 4"),
    "a tensor as destination": (
        [("// before", ANOTHER_TENSOR), ("taps, sums)", "taps, direct)")],
        "is a cooperative tensor here",
    ),
    "half destination of float": (
        [("decltype(taps), float>", "decltype(taps), half>")],
        "float with",
    ),
}


@pytest.mark.parametrize("rule", RULES)
def test_rules_at_compile_time(rule: str, shader_of: Make) -> None:
    edits, message = RULES[rule]
    with pytest.raises(RejectedShader, match=message):
        shader_of(text(*edits), ENTRY, build=QUICK, weights=hwio(), **PORTS).compile()


FAILURES = {
    "not all simdgroups": (
        ("execution_simdgroups<2>", "execution_simdgroups<1>"),
        "has 2: it has to be",
    ),
    "too many simdgroups": (
        ("execution_simdgroups<2>", "execution_simdgroups<4>"),
        "has 2: it has to be",
    ),
    "another size": (
        ("dextents<int, 4>(2, 5, 4, 1)", "dextents<int, 4>(2, 4, 5, 1)"),
        "dimension 1 of the activation",
    ),
    "not all threads": (
        ("// before", "if (index > 40) { return; }"),
        "wait for one another forever",
    ),
    "memory": (("int4(2, 5, 4, 1)", "int4(2, 5, 8, 1)"), "dimension 2 of the activation"),
    "written too early": (
        ("// after", "((device float *)x)[0] = 3;"),
        "written while other threads still read it",
    ),
}


@pytest.mark.parametrize("failure", FAILURES)
def test_failures_at_run_time(failure: str, shader_of: Make) -> None:
    edit, message = FAILURES[failure]
    with pytest.raises(RejectedShader, match=message):
        result(shader_of, edit)


def test_a_fragment_function_cannot_convolve(shader_of: Make) -> None:
    changed = text(
        ("kernel void convolve(", "void convolve("),
        ("[[thread_index_in_threadgroup]]", ""),
        ("[[buffer(0)]]", ""),
        ("[[buffer(1)]]", ""),
        ("[[buffer(2)]]", ""),
        ("    sums.store(result);\n}", "    sums.store(result);\n}\n" + FRAGMENT),
    )
    with pytest.raises(RejectedShader, match="fragment"):
        shader_of(changed, build=QUICK, weights=hwio(), **PORTS).compile()


FRAGMENT = """
fragment float4 colour(
    float4 position [[position]],
    const device float *x [[buffer(0)]],
    const device uchar *weights [[buffer(1)]],
    device float *y [[buffer(2)]])
{
    convolve(x, weights, y, 0);
    return float4(0.0f);
}
"""
