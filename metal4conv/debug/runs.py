"""A package run beside its source, value by value.

Three runs tell apart what one cannot:

- *freely*: the package as it is. Errors grow along the graph.
- *led*, in float32: each value that has a counterpart is replaced by the source's own once it was
  compared, so each operation works on the source's inputs and shows its own error alone.
- *led* in the package's own precision: the same, with the rounding of float16.

A fourth one, led in float32 with constants and inputs a little off, tells how much of an error the
rounding of weights explains.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from metal4conv.debug.arrangement import Arrangement, closest_arrangement
from metal4conv.execute.interpreter import Executor
from metal4conv.execute.jitter import JitteredExecutor
from metal4conv.mil.interface import Interface
from metal4conv.mil.program import Function, Operation
from metal4conv.mil.widening import holds_float16, widened, widened_interface
from metal4conv.verify.verification import package_input

See = Callable[[str, np.ndarray, np.ndarray], None]
"""Takes the name of a value, what the package has there, and what the source has."""

FLOAT16_PART = 2.0**-11
"""Rounding to float16 changes a number by at most this part of it."""

FLOAT16_STEP = 2.0**-24
"""The smallest number of float16, and the least that rounding may add to what is not 0."""

FLOAT32_PART = 2.0**-22
"""Twice what rounding to float32 does: both sides round."""


@dataclass
class Beside:
    """A function of a package, prepared to run beside the source's values."""

    function: Function
    interface: Interface
    moves_channels: bool
    """Whether the source's values can have their channels elsewhere than the package's."""
    places: dict[str, Arrangement | None] = field(default_factory=dict)
    """How the source's values lie in the package; None where that cannot be."""

    def __post_init__(self) -> None:
        self.is_float16 = holds_float16(self.function)
        self.declared = Executor(self.function, self.interface)
        wide = widened(self.function), widened_interface(self.interface)
        self.wide = Executor(*wide) if self.is_float16 else self.declared
        part = FLOAT16_PART if self.is_float16 else FLOAT32_PART
        self.jittered = JitteredExecutor(*wide, part, FLOAT16_STEP if self.is_float16 else 0.0)

    def run_freely(
        self, inputs: Mapping[str, np.ndarray], source: Mapping[str, np.ndarray], see: See
    ) -> dict[str, np.ndarray]:
        """The package as it is; `see` gets each value that has a counterpart."""
        return self.run(self.declared, inputs, source, see, led=())

    def run_led(
        self,
        executor: Executor,
        inputs: Mapping[str, np.ndarray],
        source: Mapping[str, np.ndarray],
        see: See,
        jitter: float = 0.0,
    ) -> None:
        """Each operation on the source's own values, changed by a random part up to `jitter`."""
        self.run(executor, inputs, source, see, led=source.keys(), jitter=jitter)

    def run(
        self,
        executor: Executor,
        inputs: Mapping[str, np.ndarray],
        source: Mapping[str, np.ndarray],
        see: See,
        *,
        led: Collection[str],
        jitter: float = 0.0,
    ) -> dict[str, np.ndarray]:
        """The outputs, when the values in `led` are the source's."""
        generator = np.random.default_rng(0)

        def adjust(
            operation: Operation, outputs: Mapping[str, np.ndarray]
        ) -> Mapping[str, np.ndarray]:
            replaced = {}
            for name, found in outputs.items():
                expected = self.placed(name, source.get(name), found)
                if expected is None:
                    continue
                see(name, found, expected)
                if name in led:
                    replaced[name] = cast(jittered(expected, jitter, generator), found.dtype)
            return replaced

        feed = {
            name: package_input(jittered(array, jitter, generator), executor.inputs[name])
            for name, array in inputs.items()
        }
        return executor.predict_adjusting(feed, adjust)

    def placed(self, name: str, source: np.ndarray | None, found: np.ndarray) -> np.ndarray | None:
        """The source's value as it lies in the package; None where it has none that fits."""
        if source is None:
            return None
        if name not in self.places:
            self.places[name] = closest_arrangement(
                source, found, moves_channels=self.moves_channels
            )
        place = self.places[name]
        if place is None or source.size != found.size:
            return None
        return place.apply(source, found.shape)


def jittered(array: np.ndarray, amount: float, generator: np.random.Generator) -> np.ndarray:
    """Floats, each changed by a random part up to `amount`; what is finite stays so."""
    if not amount or array.dtype.kind != "f":
        return array
    parts = generator.uniform(-amount, amount, array.shape)
    largest = np.finfo(array.dtype).max
    changed = np.where(np.isfinite(array), np.clip(array * (1 + parts), -largest, largest), array)
    found: np.ndarray = changed.astype(array.dtype)
    return found


def cast(array: np.ndarray, dtype: np.dtype[np.generic]) -> np.ndarray:
    """The array in another dtype; what float16 cannot hold is infinite there."""
    with np.errstate(over="ignore", invalid="ignore"):
        return array.astype(dtype)
