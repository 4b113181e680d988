"""What each of the generated networks has to show: the numbers of its PyTorch source, everywhere.

Both precisions, both kinds of tensors, both code paths, compute and fragment functions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from metal4conv.shader.compiler import HostBuild
from metal4conv.shader.document import EntryPoint
from metal4conv.shader.evaluation import evaluate
from metal4conv.shader.host import HostShader
from metal4conv.shader.network import Network, Port
from metal4conv.shader.options import Precision, ShaderOptions, TensorKind
from metal4conv.shader.packing import pack_weights
from metal4conv.shader.reading import read_network
from metal4conv.shader.source import write_source
from tests.shader.error_bounds import error_bound
from tests.shader.generated import Generated, Plan, example, plan
from tests.shader.handmade import manifest_of
from tests.shader.networks import program_of

RELATIVE = 1e-5
"""Of the largest number of an output, for float32."""

QUICK = HostBuild(unoptimised=True)
"""Compiling takes longer than running 77 points."""

Rows = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Sample:
    """A network with inputs, and the outputs of its source in float64; all of them as rows."""

    plan: Plan
    network: Network
    inputs: Rows
    expected: Rows

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the grid of points."""
        points = len(next(iter(self.inputs.values())))
        return (11, points // 11)


def sample(number: int) -> Sample:
    """The network of a number, converted."""
    found = plan(number)
    module = Generated(found).eval()
    given = example(found)
    function, _ = program_of(module, *given)
    network = read_network(function, "net")
    with torch.no_grad():
        results = module.double()(*(item.double() for item in given))
    inputs = {
        port.name: port.rows(item.numpy()) for port, item in zip(network.inputs, given, strict=True)
    }
    expected = {
        port.name: wide_rows(port, item.numpy())
        for port, item in zip(network.outputs, results, strict=True)
    }
    return Sample(found, network, inputs, expected)


def wide_rows(port: Port, array: np.ndarray) -> np.ndarray:
    """Rows that keep float64."""
    moved = np.transpose(array, (*port.point_axes, *port.feature_axes))
    return moved.reshape(-1, port.width)


def runner(network: Network, precision: Precision, tensors: TensorKind, folder: Path) -> HostShader:
    """The shader of a network, in a folder of its own."""
    options = ShaderOptions(precision, tensors, system=(26, 4))
    packed = pack_weights(network, options)
    written = write_source(network, options, packed)
    folder = folder / f"{precision}-{tensors}"
    folder.mkdir()
    source = folder / "net.metal"
    source.write_text(written.text)
    manifest = manifest_of(network, options, written, packed.data)
    return HostShader(manifest, source, packed.data, folder=folder, build=QUICK)


def entries(shader: HostShader) -> Iterator[EntryPoint]:
    """The fragment function and the compute function."""
    found = {entry.stage: entry for entry in shader.manifest.entry_points}
    assert set(found) == {"fragment", "compute"}
    yield from found.values()


def check(number: int, folder: Path) -> None:
    """All forms of one network against its source."""
    given = sample(number)
    bounds = {
        precision: error_bound(given.network, given.inputs, precision)
        for precision in ("float32", "float16")
    }
    stored = evaluate(given.network, given.inputs, precision="float16")
    for precision in ("float32", "float16"):
        for tensors in ("inline", "handle"):
            shader = runner(given.network, precision, tensors, folder)
            for entry in entries(shader):
                for use_matmul2d in (False, True):
                    found = shader.run(entry.name, given.inputs, given.size, use_matmul2d)
                    place = f"{given.plan}: {precision}, {tensors}, {entry.name}, {use_matmul2d}"
                    assert set(found) == set(given.expected), place
                    for name, rows in found.items():
                        error = np.abs(rows - given.expected[name])
                        assert (error <= bounds[precision][name] * 1.0000001).all(), place
                        allowed = RELATIVE * np.abs(given.expected[name]).max()
                        if precision == "float16":  # sums in another order may round otherwise
                            allowed += 2 * np.abs(stored[name] - given.expected[name]).max()
                        assert error.max() <= allowed, (place, name)
