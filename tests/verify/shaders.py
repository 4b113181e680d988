"""Shaders with golden vectors, written down without any framework: numpy is the source."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from metal4conv.shader.document import (
    GOLDEN_SUFFIX,
    LATENTS_SUFFIX,
    MANIFEST_SUFFIX,
    SamplerLayout,
    TextureCase,
)
from metal4conv.shader.evaluation import evaluate
from metal4conv.shader.latents import Latents
from metal4conv.shader.manifest import manifest_text, read_manifest
from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Network,
    Pass,
    Piece,
    PointProgram,
    Port,
    Vector,
)
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.textures import latents_bytes, sample, texture_layouts
from metal4conv.shading_costs import storage_costs
from metal4conv.verify.golden import GoldenCase, GoldenOrigin, write_golden
from tests.shader.handmade import Hand, shader_files, written

HALF = ShaderOptions()


def golden_case(
    network: Network, rows: Mapping[str, np.ndarray], grid: Sequence[int]
) -> GoldenCase:
    """What numpy gives for rows of inputs; `grid` are the sizes of the axes that count points."""
    size = (grid[-1], grid[-2]) if len(grid) > 1 else None
    found = evaluate(network, rows, size=size)

    def shape(port):  # of an array with those axes and the port's features
        points = iter(grid)
        return tuple(
            int(size) if axis in port.feature_axes or port.uniform else next(points)
            for axis, size in enumerate(port.shape)
        )

    inputs = {port.name: port.array(rows[port.name], shape(port)) for port in network.inputs}
    outputs = {port.name: port.array(found[port.name], shape(port)) for port in network.outputs}
    return GoldenCase(inputs, {}, outputs)


def write_vectors(manifest: Path, cases: Sequence[GoldenCase]) -> Path:
    """The golden vectors beside a manifest."""
    name = manifest.name.removesuffix(MANIFEST_SUFFIX)
    origin = GoldenOrigin(name, read_manifest(manifest).source_sha256, "numpy")
    path = manifest.with_name(f"{name}{GOLDEN_SUFFIX}")
    write_golden(path, cases, origin)
    return path


def shader_with_vectors(
    folder: Path,
    hand: Hand,
    options: ShaderOptions = HALF,
    *,
    points: Sequence[int] = (35, 64),
    changed: tuple[str, str] | None = None,
) -> Path:
    """The files of a network's shader and a case for each number of points; its manifest.

    `changed` replaces a text of the source by another.
    """
    network, text = hand.network(), None
    if changed is not None:
        text = written(network, options).text
        assert changed[0] in text
        text = text.replace(*changed)
    path = shader_files(network, options, folder, text)
    write_vectors(path, [golden_case(network, hand.rows(count), (count,)) for count in points])
    return path


def with_rounding(path: Path, network: Network, cases: Sequence[GoldenCase]) -> None:
    """Adds to a manifest what the storage of weights and operands costs its outputs."""
    manifest = read_manifest(path)
    rows = storage_costs(network, manifest.precision, cases).rounding
    path.write_text(manifest_text(replace(manifest, rounding=rows)))


def textured_shader(folder: Path) -> Path:
    """A shader that samples one of its inputs, with a case of those samples among the others."""
    hand = Hand("wall", seed=5)
    color, view = hand.input("color", 5), hand.input("view", 3)
    joined = hand.assign("joined", (5, Element(color)), (3, Element(view)))
    hand.output("light", hand.layer("light", hand.layer("hidden", joined, 20), 3, "sigmoid"))
    network, size, sampler = hand.network(), (6, 4), SamplerLayout()
    texels = np.random.default_rng(6).integers(0, 256, (6, 10, 5), np.uint8)
    latents = (Latents("color", texels),)
    layouts, content = texture_layouts(latents), latents_bytes(latents)
    path = shader_files(network, HALF, folder, written(network, HALF, layouts, sampler).text)
    (folder / f"wall{LATENTS_SUFFIX}").write_bytes(content)
    source = written(network, HALF, layouts, sampler)
    manifest = read_manifest(path)
    names = tuple(layout.name for layout in layouts)
    manifest = replace(
        manifest,
        inputs=(replace(manifest.inputs[0], textures=names), manifest.inputs[1]),
        entry_points=source.entry_points,
        textures=layouts,
        sampler=sampler,
        texture_case=TextureCase(1, *size),
        latents_sha256=hashlib.sha256(content).hexdigest(),
    )
    path.write_text(manifest_text(manifest))
    rows = hand.rows(size[0] * size[1])
    sampled = {**rows, "color": sample(latents[0], sampler, *size)}
    write_vectors(path, [golden_case(network, each, (24,)) for each in (rows, sampled)])
    return path


def filters() -> Network:
    """Two convolutions of an image, one after the other."""
    draw = np.random.default_rng(4)
    passes, image, width = [], "image", 3
    for number, outputs in enumerate((6, 2)):
        sums, result = Vector(f"sums_{number}", outputs), Vector(f"result_{number}", outputs)
        weight = draw.uniform(-0.3, 0.3, (outputs, width, 3, 3)).astype(np.float32)
        steps = (
            Assign(result, (Piece(0, outputs, Call("tanh", (Element(sums),))),), f"tanh_{number}"),
        )
        written_to = "filtered" if number else "between"
        convolution = Convolution(sums, image, weight, (1, 1), f"conv_{number}")
        program = PointProgram((sums,), steps, (result,))
        passes.append(Pass(program, (), (written_to,), convolution))
        image, width = written_to, outputs
    ports = (
        Port("image", "float32", ("h", "w", 3), (2,)),
        Port("filtered", "float32", ("h", "w", 2), (2,)),
    )
    return Network("filters", ports[:1], ports[1:], tuple(passes))
