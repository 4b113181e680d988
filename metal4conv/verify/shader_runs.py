"""In which ways a shader evaluates its network, and the rows that go in and come out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metal4conv.shader.document import EntryPoint, ShaderManifest, ShaderPort
from metal4conv.shader.network import Port, grid_of_points
from metal4conv.verify.golden import GoldenCase

MATMUL2D = "_use_matmul2d"
"""How the name of the function constant ends that chooses the path."""

INLINE_LAYERS = 4
"""How many layers a network is taken for whose weights stand in the source, and not in blocks."""

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ShaderRun:
    """One way to evaluate the network: an entry point, or all passes, on one of the code paths.

    `name` is the entry point's, or the network's where there are passes.
    """

    name: str
    functions: tuple[EntryPoint, ...]
    use_matmul2d: bool

    @property
    def path(self) -> str:
        """The code path in words."""
        return "matmul2d" if self.use_matmul2d else "plain"

    @property
    def label(self) -> str:
        """How the report calls it."""
        return f"{self.name}, {self.path}"

    @property
    def stage(self) -> str:
        """That of its functions."""
        return self.functions[0].stage

    @property
    def samples(self) -> bool:
        """Whether inputs come from textures."""
        return self.functions[0].inputs == "texture"


@dataclass(frozen=True)
class Work:
    """A run of one case: its number, the rows of all inputs, and the grid of points."""

    run: ShaderRun
    number: int
    case: GoldenCase
    rows: Rows
    size: tuple[int, int]

    @property
    def label(self) -> str:
        """How the report calls it."""
        return f"case{self.number} ({self.run.label})"


def runs_of(manifest: ShaderManifest) -> tuple[ShaderRun, ...]:
    """Every entry point on every code path; the passes of a network that has several together."""
    paths = (False, True) if has_matmul2d(manifest) else (False,)
    if manifest.passes:
        whole = tuple(manifest.entry(name) for name in manifest.passes)
        return tuple(ShaderRun(manifest.name, whole, path) for path in paths)
    return tuple(
        ShaderRun(entry.name, (entry,), path) for entry in manifest.entry_points for path in paths
    )


def has_matmul2d(manifest: ShaderManifest) -> bool:
    """Whether a function constant chooses between two paths."""
    return any(constant.name.endswith(MATMUL2D) for constant in manifest.constants)


def layer_count(manifest: ShaderManifest) -> int:
    """How many layers have weights."""
    if manifest.inline_weights:
        return INLINE_LAYERS
    return sum(block.role == "weight" for block in manifest.blocks)


def work_of(manifest: ShaderManifest, cases: Sequence[GoldenCase]) -> Iterator[Work]:
    """All cases of all runs; what samples textures has the one case that they were sampled for."""
    for run in runs_of(manifest):
        for number, case in enumerate(cases):
            sampled = manifest.texture_case
            if run.samples and (sampled is None or sampled.case != number):
                continue
            rows = input_rows(manifest, case)
            size = grid_of(manifest, case)
            if run.samples and sampled is not None:
                size = (sampled.width, sampled.height)
            yield Work(run, number, case, rows, size)


def input_rows(manifest: ShaderManifest, case: GoldenCase) -> dict[str, np.ndarray]:
    """The inputs of a case by port, one row a point."""
    return {port.name: network_port(port).rows(case.inputs[port.name]) for port in manifest.inputs}


def network_port(port: ShaderPort) -> Port:
    """The port as the network has it, which knows how rows become arrays."""
    return Port(port.name, port.dtype, port.shape, port.feature_axes, port.uniform)


def grid_of(manifest: ShaderManifest, case: GoldenCase) -> tuple[int, int]:
    """Width and height of the grid of a case's points.

    Points of a network with passes are pixels, whose last two axes count columns and rows; others
    may lie as they like, and do so in a grid that is no row.
    """
    port = next((port for port in manifest.inputs if not port.uniform), None)
    if port is None:
        return 1, 1
    shape = case.inputs[port.name].shape
    sizes = [shape[axis] for axis in network_port(port).point_axes]
    if manifest.passes:
        height, width = sizes[-2:]
        return width, height
    return grid_of_points(math.prod(sizes))


def output_arrays(manifest: ShaderManifest, work: Work, rows: Rows) -> dict[str, np.ndarray]:
    """The outputs as arrays of the shapes that the source's have."""
    arrays = {}
    for port in manifest.outputs:
        found, expected = rows[port.name], work.case.outputs[port.name]
        arrays[port.name] = network_port(port).array(found, expected.shape)
    return arrays
