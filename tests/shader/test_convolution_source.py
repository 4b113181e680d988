"""What is written for networks with convolutions: tiles, images, and text that people can read."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metal4conv.shader.options import ShaderOptions
from tests.shader.convolution_networks import CASES, network_of, residual_network
from tests.shader.handmade import written
from tests.shader.test_source_syntax import (  # noqa: F401  run here with the texts below
    test_all_at_file_scope_begins_with_the_name,
    test_every_constant_is_used,
    test_grammar_of_cpp,
    test_indices_of_a_function_are_its_own,
    test_lines_fit,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "shader"

OPTIONS = {
    "half": ShaderOptions(),
    "float": ShaderOptions("float32"),
    "int8": ShaderOptions("int8"),
    "handle": ShaderOptions(tensors="handle"),
}


@pytest.fixture(scope="module", params=[*CASES, *OPTIONS, "inline"])
def text(request: pytest.FixtureRequest) -> str:
    if request.param == "inline":
        return written(network_of("chain"), ShaderOptions(inline_weights=True)).text
    if request.param in OPTIONS:
        return written(residual_network(), OPTIONS[request.param]).text
    return written(network_of(request.param), ShaderOptions()).text


def test_images_that_convolutions_alone_read_are_half():
    half = written(residual_network(), ShaderOptions())
    assert {image.name: image.dtype for image in half.images} == {
        "hidden": "float32",
        "features": "float16",
    }
    exact = written(residual_network(), ShaderOptions("float32"))
    assert {image.dtype for image in exact.images} == {"float32"}


@pytest.mark.parametrize(
    ("name", "precision", "tiles"),
    [
        ("chain", "float16", [(16, 8)] * 3),
        ("wide", "float16", [(16, 8)] * 3),
        ("wide", "float32", [(16, 8), (8, 8), (8, 8)]),
        ("large_kernel", "float32", [(8, 8), (4, 4)]),
    ],
)
def test_tiles_fit_in_threadgroup_memory(name, precision, tiles):
    entries = written(network_of(name), ShaderOptions(precision)).entry_points
    assert [entry.tile for entry in entries] == tiles
    assert all(0 < entry.threadgroup_memory_bytes <= 32768 for entry in entries)


def test_golden_text(request):
    text = written(residual_network(), ShaderOptions()).text
    path = GOLDEN / "denoiser.metal"
    if request.config.getoption("--rewrite-golden"):
        path.write_text(text)
    assert text == path.read_text()


def test_each_pass_says_what_it_is():
    text = written(residual_network(), ShaderOptions()).text
    found = [" ".join(line.split()) for line in re.findall(r"^// Pass \d.*\n//   .*", text, re.M)]
    assert [line.split(":")[1] for line in found] == [
        " convolution 3 x 3, 3 -> 12 channels, relu (first), to hidden",
        " convolution 3 x 3, 12 -> 8 channels, silu (second), to features",
        " convolution 3 x 3, 12 -> 3 channels (last), to denoised",
    ]
