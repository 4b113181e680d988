"""Converted networks for the tests: from a model to the function of its program and its network.

The oracle of a network is the source model in its own framework, or this project's executor on
the same program.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from metal4conv.assembly import make_package
from metal4conv.execute.interpreter import Executor
from metal4conv.frontends.source import LoweringRequest, ModelSource, SourceOptions, open_source
from metal4conv.frontends.spec import parse_dimension, parse_input
from metal4conv.frontends.toolkit import quiet
from metal4conv.mil.package import Package
from metal4conv.mil.program import Function
from metal4conv.shader.evaluation import evaluate
from metal4conv.shader.network import Network
from metal4conv.shader.reading import read_network

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Converted:
    """A source model and the package that it became."""

    source: ModelSource
    package: Package

    @property
    def function(self) -> Function:
        """The function of the program."""
        return self.package.function(None)

    @cached_property
    def network(self) -> Network:
        """What the reader makes of it."""
        return read_network(self.function, "net", self.package.interface(None))

    def draw(self, sizes: Mapping[str, int] | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """Inputs between -1 and 1, of the default sizes or of chosen ones."""
        generator = np.random.default_rng(seed)
        known = {name: row.default for name, row in self.source.dimensions.items()}
        known |= sizes or {}
        return {
            item.name: generator.uniform(
                -1, 1, [known[size] if isinstance(size, str) else size for size in item.type.shape]
            ).astype(np.float32)
            for item in self.source.inputs
        }

    def executed(self, inputs: Arrays) -> dict[str, Any]:  # Any: what `predict` gives
        """The outputs of the program in this project's executor."""
        return Executor.from_package(self.package).predict(inputs)

    def evaluated(self, inputs: Arrays) -> dict[str, np.ndarray]:
        """The outputs of the network in float64, in the shapes of the ports."""
        return evaluated(self.network, inputs)


def evaluated(network: Network, inputs: Arrays) -> dict[str, np.ndarray]:
    """The outputs of a network for arrays in the shapes of its ports."""
    rows = {port.name: port.rows(inputs[port.name]) for port in network.inputs}
    size = next((array.shape[:-3:-1] for array in inputs.values() if array.ndim == 4), None)
    results = evaluate(network, rows, size=size)
    sizes = {
        size: found
        for port in network.inputs
        for size, found in zip(port.shape, inputs[port.name].shape, strict=True)
        if isinstance(size, str)
    }
    return {
        port.name: port.array(results[port.name], shape_with(port.shape, sizes))
        for port in network.outputs
    }


def shape_with(shape: Iterable[int | str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """A shape with its formulas computed."""
    return tuple(
        size if isinstance(size, int) else int(eval(size, {}, dict(sizes))) for size in shape
    )


def converted(
    module: nn.Module,
    *examples: Tensor,
    inputs: Iterable[str] = (),
    dims: Iterable[str] = (),
    precision: str = "float32",
    dynamic: Any = None,  # what torch.export.export takes
) -> Converted:
    """A torch module through torch.export; dynamic where `dynamic` and `dims` say so."""
    folder = Path(tempfile.mkdtemp())
    with torch.no_grad(), quiet():
        program = torch.export.export(module.eval(), examples, strict=False, dynamic_shapes=dynamic)
    torch.export.save(program, folder / "net.pt2")
    return converted_file(folder / "net.pt2", inputs, dims, precision)


def converted_file(
    path: Path | str,
    inputs: Iterable[str] = (),
    dims: Iterable[str] = (),
    precision: str = "float32",
) -> Converted:
    """A model in a file."""
    options = SourceOptions(
        tuple(map(parse_input, inputs)), dict(map(parse_dimension, dims)), trust=True
    )
    source = open_source(str(path), options)
    folder = Path(tempfile.mkdtemp())
    request = LoweringRequest(precision=precision, io_precision="float32")
    made = make_package(source, request, folder / "net.mlpackage", folder / "work")
    return Converted(source, made.package)


def program_of(module: nn.Module, *examples: Tensor) -> tuple[Function, ModelSource]:
    """The function of a module's program, and the source it was made of."""
    found = converted(module, *examples)
    return found.function, found.source


class Net(nn.Module):
    """A module with the given parts, whose forward is a function."""

    def __init__(self, function: Callable[..., Any], **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def seeded(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """A module with weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make().eval()


def small_mlp(inputs: int = 3, hidden: int = 16, outputs: int = 4) -> nn.Module:
    """Two linear layers with a relu between them."""
    return seeded(
        lambda: nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))
    )
