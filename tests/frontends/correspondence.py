"""Checks that values of a package hold the values of the source that they are said to hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path

import numpy as np

from metal4conv import load
from metal4conv.frontends.source import ModelSource
from metal4conv.mil.correspondence import Correspondence, make_correspondence
from metal4conv.mil.package import read_package
from metal4conv.mil.program import TensorType
from tests.frontends.helpers import draw, packaged

TOLERANCES = {"float32": 1e-3, "float16": 3e-2}
"""The largest difference in parts of the value's largest magnitude."""

LARGEST = 65504.0
"""The largest number in float16."""

Arrays = Mapping[str, np.ndarray]


def assert_corresponds(
    opened: ModelSource,
    folder: Path,
    precision: str = "float32",
    inputs: Arrays | None = None,
    at_least: float = 0.8,
) -> Correspondence:
    """Every value equals its source's, and as many operations as asked for have such a value."""
    package, lowered = packaged(opened, folder, precision)
    found = make_correspondence(opened.values(), lowered.values)
    assert_values(package, found, opened, inputs or draw(opened), TOLERANCES[precision])
    missing, share = coverage(package, found.values)
    assert share >= at_least, f"{share:.0%} known; not: {missing}"
    return found


def assert_values(
    package: Path, known: Correspondence, opened: ModelSource, inputs: Arrays, tolerance: float
) -> None:
    """What the package computes is what the source computes under the names that it is known by."""
    wanted = opened.trace(inputs, set(known.values.values()))
    assert set(wanted) == set(known.values.values())
    executor = load(package)
    given = {name: inputs[name].astype(item.dtype) for name, item in executor.inputs.items()}
    wrong = []
    for _, arrays in executor.trace(given):
        for name, array in arrays.items():
            origin = known.values.get(name)
            if origin is None:
                continue
            other = wanted[origin]
            if array.dtype == np.float16:  # what it cannot hold is infinite there
                array, other = (np.clip(item, -LARGEST, LARGEST) for item in (array, other))
            if distance(array, other) > tolerance:
                wrong.append(f"{name} is not {origin}: {distance(array, other):.1e}")
    assert not wrong, "\n".join(wrong)


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference in parts of the largest magnitude, the best over all orders of the
    dimensions longer than 1; infinite for other sizes.
    """
    one, other = np.squeeze(one).astype(np.float64), np.squeeze(other).astype(np.float64)
    finite = np.abs(other[np.isfinite(other)])
    magnitude = max(finite.max(initial=0.0), 1e-9)
    best = np.inf
    for order in permutations(range(other.ndim)):
        turned = other.transpose(order)
        if turned.shape != one.shape:
            continue
        equal = (turned == one) | (np.isnan(turned) & np.isnan(one))
        with np.errstate(invalid="ignore"):
            differences = np.where(equal, 0.0, np.abs(turned - one))
        best = min(best, float(np.nan_to_num(differences, nan=np.inf).max(initial=0.0)))
        if best / magnitude < 1e-6:
            break
    return best / magnitude


def coverage(package: Path, names: Iterable[str]) -> tuple[list[str], float]:
    """The operations without a known value, and the share of those with one."""
    known = set(names)
    tensors = [
        (operation.type, [item.name for item in operation.outputs])
        for operation in read_package(package).function().block.operations
        if operation.type != "const"
        and any(isinstance(item.type, TensorType) for item in operation.outputs)
    ]
    missing = [f"{kind} {outputs[0]}" for kind, outputs in tensors if known.isdisjoint(outputs)]
    return missing, 1 - len(missing) / len(tensors)
