"""What the tests of all frontends share: opening, seeded inputs, package against source."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv import load
from metal4conv.frontends.source import (
    Lowered,
    LoweringRequest,
    ModelSource,
    SourceOptions,
    open_source,
)
from metal4conv.frontends.spec import parse_dimension, parse_input
from metal4conv.mil.schema import new_model
from metal4conv.mil.writer import write_package

TOLERANCES = {"float32": 1e-5, "float16": 1e-2}
Arrays = Mapping[str, np.ndarray]


def source(
    path: Path | str,
    inputs: Iterable[str] = (),
    dims: Iterable[str] = (),
    **more: Any,  # further fields of SourceOptions
) -> ModelSource:
    """The opened source, as the command line asks for it."""
    options = SourceOptions(
        tuple(map(parse_input, inputs)), dict(map(parse_dimension, dims)), **more
    )
    return open_source(str(path), options)


def draw(opened: ModelSource, chosen: Mapping[str, int] | None = None) -> dict[str, np.ndarray]:
    """Seeded inputs of the default sizes, or of chosen ones; integers are below 10."""
    generator = np.random.default_rng(0)
    defaults = {name: row.default for name, row in opened.dimensions.items()} | {**(chosen or {})}
    drawn = {}
    for item in opened.inputs:
        shape = [size if isinstance(size, int) else defaults[size] for size in item.type.shape]
        largest = 1 if item.type.dtype.startswith(("float", "bfloat")) else 10
        array = generator.random(shape) * largest
        if item.type.dtype == "bool":
            array = array > 5
        # numpy has no bfloat16
        dtype = "float32" if item.type.dtype == "bfloat16" else item.type.dtype
        drawn[item.name] = np.asarray(array).astype(dtype)
    return drawn


def packaged(
    opened: ModelSource, folder: Path, precision: str = "float32", target: str = "iOS18"
) -> tuple[Path, Lowered]:
    """A package of the source in `folder`, and what it was written from."""
    lowered = opened.lower(LoweringRequest(target=target, precision=precision), folder)
    model = new_model()
    model.ParseFromString(lowered.spec)
    write_package(folder / "net.mlpackage", model, lowered.weights_folder)
    return folder / "net.mlpackage", lowered


def assert_verified(
    opened: ModelSource,
    folder: Path,
    sizes: Mapping[str, int] | None = None,
    precision: str = "float32",
) -> None:
    """The package gives what the source's framework gives."""
    package, _ = packaged(opened, folder, precision)
    inputs = draw(opened, sizes)
    assert_outputs(load(package).predict(inputs), opened.predict(inputs), TOLERANCES[precision])


def assert_outputs(found: Arrays, wanted: Arrays, tolerance: float = 1e-5) -> None:
    """Equal names in equal order, shapes, and values within the tolerance."""
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].shape == array.shape
        np.testing.assert_allclose(found[name], array, rtol=tolerance, atol=tolerance)
