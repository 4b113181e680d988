"""What the values of a package should be: those of float32, of another package, or of a source."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Protocol

import numpy as np

from metal4conv.debug.values import RunValues
from metal4conv.errors import UsageError
from metal4conv.execute.interpreter import Executor
from metal4conv.mil.cutting import Part
from metal4conv.mil.dataflow import dataflow
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.package import Package
from metal4conv.mil.program import TensorType, ValueType
from metal4conv.mil.widening import holds_float16, widened, widened_interface

MakeReference = Callable[[RunValues], "Reference"]


class Reference(Protocol):
    """Says what a part of a package is fed with, and what it should give."""

    text: str
    """What it is, in words."""

    identity: str
    """The same with the hash of what it rests on: a search goes on with the same one only."""

    is_recorded: bool
    """Whether expected values are known by name alone, so that no operation can be left out."""

    def knows(self, value: str) -> bool:
        """Whether a value of the package has a counterpart."""

    def can_feed(self, value: str) -> bool:
        """Whether a part may be fed with it in place of what the rest of the package gave."""

    def feeds(self, values: Collection[str]) -> dict[str, np.ndarray]:
        """What to put in for these values of the package."""

    def expected(self, part: Part, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs of a part, by feature, when it is right."""


class Widened:
    """The package itself, with float16 arithmetic done in float32."""

    text = identity = "the package itself in float32"
    is_recorded = False

    def __init__(self, values: RunValues) -> None:
        self.values = values

    def knows(self, value: str) -> bool:
        return value in self.values

    def can_feed(self, value: str) -> bool:
        return value in self.values

    def feeds(self, values: Collection[str]) -> dict[str, np.ndarray]:
        return self.values.get(values)

    def expected(self, part: Part, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        function, interface = part.package.function(), part.package.interface()
        executor = Executor(widened(function), widened_interface(interface))
        return executor.predict_arrays(inputs)


def check_comparable(reference: Reference, package: Package, function: str | None) -> None:
    """`UsageError` where the package and what it is compared with are the same arithmetic."""
    if isinstance(reference, Widened) and not holds_float16(package.function(function)):
        raise UsageError(
            f"{package.path} has no float16 arithmetic, so in float32 it gives the same",
            hint="name what is right: --against SOURCE or another package; or what decides: "
            "--check COMMAND",
        )


class Recorded:
    """Right values by name, such as those of another package or of the source.

    The function's inputs are the package's own.
    """

    is_recorded = True

    def __init__(
        self,
        values: RunValues,
        right: RunValues | Mapping[str, np.ndarray],
        text: str,
        sha256: str = "",
    ) -> None:
        self.values = values
        self.right = right
        self.text = text
        self.identity = f"{text} {sha256}".strip()
        self.types = dataflow(values.executor.function).types
        self.feedable: dict[str, bool] = {}

    def knows(self, value: str) -> bool:
        if value in self.values.given:
            return True
        if value not in self.right or value not in self.values:
            return False
        shapes = self.right.shapes if isinstance(self.right, RunValues) else None
        shape = shapes[value] if shapes else self.right_values([value])[value].shape
        return tuple(shape) == self.values.shapes[value]

    def can_feed(self, value: str) -> bool:
        """Not what overflows in the package: no operation behind it could be right."""
        if value not in self.feedable:
            self.feedable[value] = self.knows(value) and (
                value in self.values.given or self.fits(value)
            )
        return self.feedable[value]

    def fits(self, value: str) -> bool:
        """Whether the package's type holds all finite elements of the right value."""
        right = self.right_values([value])[value]
        if right.dtype.kind != "f":
            return True
        held = as_declared(right, self.types[value])
        return bool((np.isfinite(held) | ~np.isfinite(right)).all())

    def right_values(self, values: Collection[str]) -> dict[str, np.ndarray]:
        """The right values as they are."""
        if isinstance(self.right, RunValues):
            return self.right.get(values)
        return {name: self.right[name] for name in values}

    def feeds(self, values: Collection[str]) -> dict[str, np.ndarray]:
        own = [name for name in values if name in self.values.given]
        right = self.right_values([name for name in values if name not in self.values.given])
        fed = {name: as_declared(array, self.types[name]) for name, array in right.items()}
        return {**self.values.get(own), **fed}

    def expected(self, part: Part, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The right values, rounded as the package rounds them: its inputs were rounded, too."""
        right = self.right_values(list(part.outputs.values()))
        return {
            feature: rounded(right[value], self.types[value])
            for feature, value in part.outputs.items()
        }


def as_declared(array: np.ndarray, type: ValueType) -> np.ndarray:
    """The array in the element type of a value of the package."""
    if not isinstance(type, TensorType):
        return array
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(DTYPES[type.dtype].numpy)


def rounded(array: np.ndarray, type: ValueType) -> np.ndarray:
    """A float array with the digits that a type has; what is too large for it stays as it is.

    >>> rounded(np.array([0.1, 1e6], np.float32), TensorType("float16", (2,))).tolist()
    [0.0999755859375, 1000000.0]
    """
    held = as_declared(array, type)
    if array.dtype.kind != "f" or held.dtype.kind != "f":
        return held
    wide = held.astype(np.float32)
    return np.where(np.isfinite(wide) | ~np.isfinite(array), wide, array).astype(np.float32)
