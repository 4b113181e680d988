"""Networks written down step by step, and the files that a shader of one consists of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metal4conv.shader.document import (
    MANIFEST_SUFFIX,
    SOURCE_SUFFIX,
    WEIGHTS_SUFFIX,
    SamplerLayout,
    ShaderManifest,
    TextureLayout,
)
from metal4conv.shader.manifest import check_shader_manifest, manifest_json, manifest_text
from metal4conv.shader.network import (
    Assign,
    Call,
    Element,
    Expression,
    Index,
    Linear,
    Network,
    Number,
    Pass,
    Piece,
    PointProgram,
    Port,
    Reduce,
    Step,
    Table,
    Vector,
)
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.packing import pack_weights
from metal4conv.shader.source import ShaderSource, write_source
from metal4conv.shading import shader_port


@dataclass
class Hand:
    """Puts a network together; weights come from a seed."""

    name: str
    seed: int = 7
    inputs: dict[str, Vector] = field(default_factory=dict)
    uniform: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)
    outputs: dict[str, Vector] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = np.random.default_rng(self.seed)

    def input(self, name: str, width: int, uniform: bool = False) -> Vector:
        self.inputs[name] = Vector(name, width)
        self.uniform |= {name} if uniform else set()
        return self.inputs[name]

    def table(self, *shape: int, scale: float = 1.0) -> Table:
        return Table((scale * self.draw.standard_normal(shape)).astype(np.float32))

    def linear(self, name: str, operand: Vector, width: int, label: str = "") -> Vector:
        bound = (6 / operand.width) ** 0.5
        weight = self.draw.uniform(-bound, bound, (width, operand.width)).astype(np.float32)
        result = Vector(name, width)
        self.steps.append(Linear(result, operand, weight, label or name))
        return result

    def assign(self, name: str, *pieces: tuple[int, Expression], label: str = "") -> Vector:
        offset, made = 0, []
        for width, expression in pieces:
            made.append(Piece(offset, width, expression))
            offset += width
        result = Vector(name, offset)
        self.steps.append(Assign(result, tuple(made), label or name))
        return result

    def reduce(
        self, name: str, operation: str, width: int, count: int, expression: Expression
    ) -> Vector:
        result = Vector(name, width)
        self.steps.append(Reduce(result, operation, count, expression, name))
        return result

    def layer(
        self, name: str, operand: Vector, width: int, function: str = "relu", bias: bool = True
    ) -> Vector:
        """A linear layer, its bias and a function of one argument (none: `identity`)."""
        sums: Expression = Element(self.linear(f"{name}_sums", operand, width, name))
        if bias:
            sums = Call("add", (sums, self.table(width, scale=0.2)))
        made = sums if function == "identity" else Call(function, (sums,))
        return self.assign(name, (width, made))

    def output(self, name: str, vector: Vector) -> None:
        self.outputs[name] = vector

    def network(self) -> Network:
        program = PointProgram(
            tuple(self.inputs.values()), tuple(self.steps), tuple(self.outputs.values())
        )
        inputs = tuple(
            Port(name, "float32", (1 if name in self.uniform else "n", vector.width), (1,),
                 name in self.uniform)
            for name, vector in self.inputs.items()
        )  # fmt: skip
        outputs = tuple(
            Port(name, "float32", ("n", vector.width), (1,))
            for name, vector in self.outputs.items()
        )
        one = Pass(program, tuple(self.inputs), tuple(self.outputs))
        return Network(self.name, inputs, outputs, (one,))

    def rows(self, points: int) -> dict[str, np.ndarray]:
        """Inputs for some points."""
        return {
            name: self.draw.standard_normal(
                (1 if name in self.uniform else points, vector.width)
            ).astype(np.float32)
            for name, vector in self.inputs.items()
        }


def call(function: str, *arguments: Expression | float) -> Call:
    """A call; plain numbers stand for constants."""
    return Call(
        function,
        tuple(Number(a) if isinstance(a, float | int) else a for a in arguments),
    )


def neural_material() -> Hand:
    """The sample model: base colour and unit normal of eight latents."""
    hand = Hand("neural_material")
    latents = hand.input("latents", 8)
    hidden = hand.layer("first", latents, 32)
    hidden = hand.layer("second", hidden, 32)
    channels = hand.layer("last", hidden, 6, "identity")
    base_color = hand.assign(
        "base_color", (3, call("sigmoid", Element(channels))), label="base_color"
    )
    direction = Element(channels, Index(3))
    squared = hand.reduce("squared_length", "sum", 1, 3, call("multiply", direction, direction))
    length = call("rsqrt", call("add", Element(squared, Index(0, 0)), 1e-3))
    normal = hand.assign("normal", (3, call("multiply", direction, length)))
    hand.output("base_color", base_color)
    hand.output("normal", normal)
    return hand


def encoded_siren() -> Hand:
    """A Fourier encoding of a position, sines, a connection past a layer, one number out."""
    hand = Hand("siren", seed=11)
    position = hand.input("position", 3)
    frequencies = Table(np.array([1, 2, 4, 8], np.float32), Index(0, 1, 1, 4))
    phase = call("multiply", Element(position, Index(0, 1, 4)), frequencies)
    encoded = hand.assign(
        "encoded", (3, Element(position)), (12, call("sin", phase)), (12, call("cos", phase))
    )
    sums = hand.linear("first_sums", encoded, 40, "first")
    wave = call("sin", call("multiply", 3.0, call("add", Element(sums), hand.table(40))))
    first = hand.assign("first", (40, wave))
    second = hand.layer("second", first, 40, "sin")
    joined = hand.assign(
        "joined", (40, call("add", Element(first), Element(second))), (3, Element(position))
    )
    hand.output("distance", hand.layer("distance", joined, 1, "identity"))
    return hand


def radiance_cache() -> Hand:
    """Several inputs, one of them the same for all points, and outputs of which one is wide."""
    hand = Hand("radiance_cache", seed=13)
    position = hand.input("position", 3)
    roughness = hand.input("roughness", 1)
    light = hand.input("light", 5, uniform=True)
    joined = hand.assign(
        "joined", (3, Element(position)), (1, Element(roughness)), (5, Element(light))
    )
    hidden = hand.layer("hidden", joined, 24, "silu")
    features = hand.layer("features", hidden, 24, "gelu")
    radiance = hand.layer("radiance", features, 3, "softplus")
    hand.output("radiance", radiance)
    hand.output("features", features)
    hand.output("weight", hand.layer("weight", features, 1, "sigmoid"))
    return hand


def tiny() -> Hand:
    """Few enough numbers to stand in the source."""
    hand = Hand("tiny", seed=17)
    hidden = hand.layer("hidden", hand.input("x", 2), 4, "tanh")
    hand.output("y", hand.layer("y", hidden, 1, "identity"))
    return hand


def manifest_of(
    network: Network,
    options: ShaderOptions,
    source: ShaderSource,
    weights: bytes,
    textures: Sequence[TextureLayout] = (),
    sampler: SamplerLayout | None = None,
) -> ShaderManifest:
    """The manifest of a written source."""
    packed = pack_weights(network, options)
    return ShaderManifest(
        name=network.name,
        source={"framework": "none"},
        precision=options.precision,
        tensors=options.tensors,
        inline_weights=options.inline_weights,
        system=options.system,
        evaluate=source.evaluate,
        inputs=tuple(shader_port(one, textures) for one in network.inputs),
        outputs=tuple(shader_port(one, ()) for one in network.outputs),
        entry_points=source.entry_points,
        constants=source.constants,
        blocks=() if options.inline_weights else packed.blocks,
        weights_bytes=len(weights),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        source_sha256=hashlib.sha256(source.text.encode()).hexdigest(),
        estimates=source.estimates,
        passes=source.passes,
        images=source.images,
        textures=tuple(textures),
        sampler=sampler,
        latents_sha256=hashlib.sha256(b"").hexdigest() if textures else None,
        notes=source.notes,
    )


def written(
    network: Network,
    options: ShaderOptions,
    textures: tuple[TextureLayout, ...] = (),
    sampler: SamplerLayout | None = None,
) -> ShaderSource:
    """The source of a network."""
    return write_source(network, options, pack_weights(network, options), textures, sampler)


def shader_files(
    network: Network, options: ShaderOptions, folder: Path, text: str | None = None
) -> Path:
    """Writes the files of a shader, `text` instead of its source if given; gives the manifest."""
    source = written(network, options)
    if text is not None:
        source = ShaderSource(**{**vars(source), "text": text})
    weights = b"" if options.inline_weights else pack_weights(network, options).data
    manifest = manifest_of(network, options, source, weights)
    check_shader_manifest(manifest_json(manifest))
    stem = folder / network.name
    stem.with_suffix(SOURCE_SUFFIX).write_text(source.text)
    if weights:
        stem.with_suffix(WEIGHTS_SUFFIX).write_bytes(weights)
    path = folder / f"{network.name}{MANIFEST_SUFFIX}"
    path.write_text(manifest_text(manifest))
    return path
