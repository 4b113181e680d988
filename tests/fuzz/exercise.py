"""What is done with a mutated package: every way in which the library reads one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from metal4conv.execute.interpreter import Executor, load
from metal4conv.execute.pipeline import Pipeline
from metal4conv.inspection import inspect_package
from metal4conv.layout.manifest import layout
from metal4conv.mil.package import read_package
from tests.fuzz.mutations import Files

LARGEST_INPUT = 1 << 16
"""Elements of an input up to which the package is run: its sizes are asked for by the caller."""


def read_files(package: Path) -> Files:
    """The files of a package."""
    found = [path for path in sorted(package.rglob("*")) if path.is_file()]
    return {str(path.relative_to(package)): path.read_bytes() for path in found}


def write_files(package: Path, files: Files) -> None:
    """A package of these files in place of what is there."""
    shutil.rmtree(package, ignore_errors=True)
    for name, content in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def read_only(package: Path) -> None:
    read_package(package).interface()


def inspect(package: Path) -> None:
    inspect_package(str(package))


def lay_out(package: Path) -> None:
    layout(package)


def run(package: Path) -> None:
    """Two predictions that share the states."""
    executor = load(package)
    inputs = example_inputs(executor)
    if inputs is not None:
        state = executor.make_state() if executor.states else None
        for _ in range(2):
            executor.predict(inputs, state)


def example_inputs(executor: Executor | Pipeline) -> dict[str, np.ndarray] | None:
    """Small numbers for every input, in default sizes; None if those are large."""
    interface, draw = executor.interface, np.random.default_rng(0)
    inputs = {}
    for item in interface.inputs:
        shape = [
            interface.dimensions[size].default if isinstance(size, str) else size
            for size in item.type.shape
        ]
        if np.prod(shape, dtype=float) > LARGEST_INPUT or min(shape, default=0) < 0:
            return None
        inputs[item.name] = draw.integers(0, 4, shape).astype(np.float32)
        if "int" in item.type.dtype:
            inputs[item.name] = inputs[item.name].astype(np.int32)
    return inputs
