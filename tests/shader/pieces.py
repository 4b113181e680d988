"""Small pieces of Metal with the least manifest that a runner needs; see `conftest.shader_of`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metal4conv.shader.document import (
    Argument,
    Attachment,
    EntryPoint,
    Estimates,
    FunctionConstant,
    IntermediateImage,
    SamplerLayout,
    ShaderManifest,
    ShaderPort,
    TextureLayout,
    WeightBlock,
)

MSL = Path(__file__).with_name("msl")


def compute(name: str, *arguments: Argument, threads: int = 32, tile_bytes: int = 0) -> EntryPoint:
    """A compute function of one point a thread."""
    return EntryPoint(
        name,
        "compute",
        arguments,
        threads_per_threadgroup=threads,
        points_per_threadgroup=threads,
        threadgroup_memory_bytes=tile_bytes,
    )


def fragment(name: str, *arguments: Argument, colours: tuple[Attachment, ...]) -> EntryPoint:
    """A fragment function."""
    return EntryPoint(name, "fragment", arguments, attachments=colours)


def buffer(role: str, port: str, index: int = 0) -> Argument:
    """A buffer of rows (`input`, `output`, `image`), of weights or of parameters."""
    return Argument(port, "buffer", index, "", role, port)


def builtin(attribute: str) -> Argument:
    """A parameter that the system fills in."""
    return Argument(attribute, "builtin", None, "", attribute)


WEIGHTS = buffer("weights", "weights")
PARAMETERS = buffer("parameters", "parameters")
TILE = Argument("tile", "threadgroup", 0, "", "tile")
STAGE_IN = Argument("in", "stage_in", None, "", "stage_in")
POINT = builtin("thread_position_in_grid")


@dataclass
class Piece:
    """A piece of Metal and what its functions are given."""

    source: Path
    entries: tuple[EntryPoint, ...]
    inputs: Mapping[str, int] = field(default_factory=dict)
    """Widths, by name."""
    outputs: Mapping[str, int] = field(default_factory=dict)
    weights: np.ndarray | None = None
    constants: tuple[str, ...] = ()
    blocks: tuple[WeightBlock, ...] = ()
    textures: tuple[TextureLayout, ...] = ()
    sampler: SamplerLayout | None = None
    images: tuple[IntermediateImage, ...] = ()
    passes: tuple[str, ...] = ()
    uniform: tuple[str, ...] = ()

    def manifest(self) -> ShaderManifest:
        """The least manifest that a runner needs."""
        weights = b"" if self.weights is None else self.weights.tobytes()
        return ShaderManifest(
            name=self.source.stem,
            source={},
            precision="float16",
            tensors="handle" if self.blocks else "inline",
            inline_weights=False,
            system=(26, 0),
            evaluate=None,
            inputs=tuple(self.port(*one) for one in self.inputs.items()),
            outputs=tuple(self.port(*one) for one in self.outputs.items()),
            entry_points=self.entries,
            constants=tuple(
                FunctionConstant(name, index, "bool", "")
                for index, name in enumerate(self.constants)
            ),
            blocks=self.blocks,
            weights_bytes=len(weights),
            weights_sha256="",
            source_sha256="",
            estimates=Estimates(0, 0, 0, 0),
            passes=self.passes,
            images=self.images,
            textures=self.textures,
            sampler=self.sampler,
        )

    def port(self, name: str, width: int) -> ShaderPort:
        """A port with one axis of points."""
        return ShaderPort(name, "float32", ("n", width), (1,), width, name in self.uniform)
