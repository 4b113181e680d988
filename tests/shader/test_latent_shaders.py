"""Shaders that sample their inputs, against the same network on rows that numpy sampled."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from metal4conv.errors import Metal4ConvError
from metal4conv.shader.compiler import find_compiler
from metal4conv.shader.document import SamplerLayout
from metal4conv.shader.host import HostShader, open_shader
from metal4conv.shader.latents import Latents
from metal4conv.shader.manifest import manifest_text
from metal4conv.shader.network import Element
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import pack_weights
from metal4conv.shader.textures import (
    latents_bytes,
    sample,
    texture_layouts,
)
from tests.shader.handmade import Hand, manifest_of, written

SAMPLERS = [
    SamplerLayout(filter_, address)
    for filter_ in ("linear", "nearest")
    for address in ("repeat", "clamp_to_edge")
]


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where libraries are compiled; equal sources are compiled once."""
    try:
        find_compiler()
    except Metal4ConvError as error:
        pytest.skip(f"no C++ compiler: {error.message}")
    return tmp_path_factory.mktemp("build")


def material() -> tuple[Hand, tuple[Latents, ...]]:
    """Two inputs from textures of different sizes and formats, one from a buffer, one uniform."""
    hand = Hand("material", seed=5)
    color = hand.input("color", 5)
    height = hand.input("height", 1)
    view = hand.input("view", 3)
    light = hand.input("light", 2, uniform=True)
    joined = hand.assign(
        "joined", (5, Element(color)), (1, Element(height)), (3, Element(view)), (2, Element(light))
    )
    hidden = hand.layer("hidden", joined, 24, "relu")
    hand.output("radiance", hand.layer("radiance", hidden, 3, "sigmoid"))
    hand.output("gloss", hand.layer("gloss", hidden, 1, "identity"))
    random = np.random.default_rng(6)
    return hand, (
        Latents("color", random.integers(0, 256, (6, 10, 5), np.uint8)),
        Latents("height", random.standard_normal((16, 4, 1)).astype(np.float16)),
    )


def files(
    folder: Path,
    hand: Hand,
    latents: tuple[Latents, ...],
    sampler: SamplerLayout,
    build: Path,
) -> HostShader:
    """The shader's files in `folder`, opened."""
    network, options = hand.network(), ShaderOptions("float32")
    layouts, content = texture_layouts(latents), latents_bytes(latents)
    source = written(network, options, layouts, sampler)
    weights = pack_weights(network, options).data
    manifest = manifest_of(network, options, source, weights, layouts, sampler)
    manifest = replace(manifest, latents_sha256=hashlib.sha256(content).hexdigest())
    (folder / f"{network.name}.metal").write_text(source.text)
    (folder / f"{network.name}.weights").write_bytes(weights)
    (folder / f"{network.name}.latents").write_bytes(content)
    path = folder / f"{network.name}.shader.json"
    path.write_text(manifest_text(manifest))
    return open_shader(path, build)


@pytest.mark.parametrize(
    "sampler", SAMPLERS, ids=[f"{one.filter} {one.address}" for one in SAMPLERS]
)
def test_sampled_in_the_shader_or_before(
    tmp_path: Path, build: Path, sampler: SamplerLayout
) -> None:
    hand, latents = material()
    shader = files(tmp_path, hand, latents, sampler, build)
    width, height = 13, 9
    rows = hand.rows(width * height)
    bound = {name: rows[name] for name in ("view", "light")}
    rows |= {item.input: sample(item, sampler, width, height) for item in latents}
    expected = shader.run("material_compute", rows, (width, height))
    for entry in ("material_texture_compute", "material_fragment"):
        for use_matmul2d in (False, True):
            found = shader.run(entry, bound, (width, height), use_matmul2d)
            assert list(found) == ["radiance", "gloss"]
            for name, values in found.items():
                np.testing.assert_allclose(values, expected[name], atol=2e-5)


@pytest.mark.parametrize("fault", ["rows upside down", "channels in another order", "half a texel"])
def test_a_wrong_picture_is_seen(tmp_path: Path, build: Path, fault: str) -> None:
    """The comparison is no comparison with itself: other samples give other outputs."""
    hand, latents = material()
    sampler = SamplerLayout()
    shader = files(tmp_path, hand, latents, sampler, build)
    width, height = 12, 8
    rows = hand.rows(width * height)
    bound = {name: rows[name] for name in ("view", "light")}
    color, relief = latents
    match fault:
        case "rows upside down":
            color = Latents("color", color.array[::-1].copy())
        case "channels in another order":
            color = Latents("color", color.array[:, :, [2, 1, 0, 3, 4]].copy())
        case "half a texel":
            sampler = SamplerLayout("nearest")
    rows |= {item.input: sample(item, sampler, width, height) for item in (color, relief)}
    expected = shader.run("material_compute", rows, (width, height))
    found = shader.run("material_fragment", bound, (width, height))
    assert np.abs(found["radiance"] - expected["radiance"]).max() > 0.05
