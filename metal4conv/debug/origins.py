"""References that the command line names: another package, or the source model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import numpy as np

from metal4conv.debug.alignment import corresponding_values
from metal4conv.debug.arrangement import closest_arrangement
from metal4conv.debug.reference import MakeReference, Recorded, Reference
from metal4conv.debug.values import RunValues
from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.execute.interpreter import Executor
from metal4conv.frontends.source import ModelSource
from metal4conv.layout.manifest import content_sha256
from metal4conv.mil.correspondence import correspondence_of
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.package import Package, read_package
from metal4conv.verify.golden import source_sha256


def package_reference(path: str | Path, function: str | None = None) -> MakeReference:
    """The values of another package with the same names, on the same inputs.

    They are those of the function of that name, or else of its default function.
    """
    return partial(values_of_package, read_package(path), function)


def values_of_package(right: Package, function: str | None, values: RunValues) -> Reference:
    """The reference for the values of a run."""
    executor = Executor.from_package(
        right, function if function in right.program.functions else None
    )
    taken = {name: values.inputs[name] for name in executor.inputs if name in values.inputs}
    missing = executor.inputs.keys() - taken.keys()
    if missing:
        raise UsageError(
            f"{right.path} takes an input {sorted(missing)[0]}, which the package has not",
            where="--against",
            hint="name a package with the same inputs and names",
        )
    found = Recorded(values, RunValues(executor, taken), str(right.path), content_sha256(right))
    outputs = values.executor.function.block.outputs
    if not any(found.knows(name) for name in outputs):
        raise UsageError(
            f"{right.path} has no value with the name and shape of an output "
            f"({', '.join(outputs)})",
            where="--against",
            hint="name a package that was made of the same program",
        )
    return found


def source_reference(package: Package, source: ModelSource, function: str | None) -> MakeReference:
    """The source's own values, as far as `convert` wrote down which ones the package holds."""
    return partial(values_of_source, package, source, function)


def values_of_source(
    package: Package, source: ModelSource, function: str | None, values: RunValues
) -> Reference:
    """The reference for the values of a run."""
    known = corresponding_values(
        package.function(function), correspondence_of(package), source.values()
    )
    traced = source.trace(source_inputs(source, values), {row.name for row in known.values()})
    moves = source.framework == "tensorflow"
    right: dict[str, np.ndarray] = {}
    for value, row in known.items():
        if row.name in traced and value in values:
            placed = place(traced[row.name], values.get([value])[value], moves_channels=moves)
            if placed is not None:
                right[value] = placed
    if not right:
        raise UnsupportedModel(
            f"no value of {package.path} is known to correspond to one of {source.name}",
            hint="convert the model again with this version of metal4conv, or leave --against out",
        )
    text = f"{source.framework} {source.kind} {source.name}"
    return Recorded(values, right, text, source_sha256(source.files))


def source_inputs(source: ModelSource, values: RunValues) -> dict[str, np.ndarray]:
    """The inputs of a run as the source takes them."""
    found = {}
    given: Mapping[str, np.ndarray] = values.inputs
    for item in source.inputs:
        if item.name not in given:
            raise UsageError(
                f'the source {source.name} has an input "{item.name}", which the package has not',
                where="--against",
                hint="name the model that the package was converted from",
            )
        array = np.asarray(given[item.name])
        if item.type.shape == () and array.size == 1:
            array = array.reshape(())
        found[item.name] = array.astype(DTYPES[item.type.dtype].numpy)
    return found


def place(source: np.ndarray, found: np.ndarray, *, moves_channels: bool) -> np.ndarray | None:
    """A source's array as it lies in the package; None where no order of dimensions fits."""
    way = closest_arrangement(source, found, moves_channels=moves_channels)
    return None if way is None else way.apply(source, found.shape)
