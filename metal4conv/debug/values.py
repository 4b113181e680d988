"""Values of a run by name, kept as far as memory allows and computed again beyond that."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.interpreter import Executor
from metal4conv.execute.marshal import as_numpy
from metal4conv.execute.tracing import Seen
from metal4conv.mil.package import Package
from metal4conv.mil.program import TensorType

KEPT_BYTES = 512 * 2**20
"""What is kept of a run; what else is asked for is computed anew."""


class RunValues:
    """The values of a function's own block when it runs on given inputs.

    (Any: inputs as `Executor.predict` takes them.)
    """

    def __init__(
        self, executor: Executor, inputs: Mapping[str, Any], kept_bytes: int = KEPT_BYTES
    ) -> None:
        self.executor = executor
        self.inputs = inputs
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.numbers = frozenset(single_numbers(executor))
        self.kept: dict[str, np.ndarray] = function_inputs(executor, inputs)
        self.room = kept_bytes
        self.given = frozenset(self.kept)
        self.run(())

    def run(self, wanted: Collection[str]) -> dict[str, np.ndarray]:
        """Runs once more: all of `wanted`, and what else there is room for."""
        found: dict[str, np.ndarray] = {}

        def see(seen: Seen) -> None:
            if seen.place:
                return
            for name, given in seen.outputs.items():
                array = given.reshape(()) if name in self.numbers else given
                self.shapes[name] = tuple(array.shape)
                if name in wanted:
                    found[name] = array
                if name not in self.kept and array.nbytes <= self.room:
                    self.kept[name] = array
                    self.room -= array.nbytes

        self.executor.predict_arrays(self.inputs, see=see)
        self.shapes |= {name: tuple(self.kept[name].shape) for name in self.given}
        return found

    def get(self, names: Collection[str]) -> dict[str, np.ndarray]:
        """These values; all must be `in` the run."""
        missing = [name for name in names if name not in self.kept]
        again = self.run(missing) if missing else {}
        return {name: again[name] if name in again else self.kept[name] for name in names}

    def __contains__(self, name: str) -> bool:
        return name in self.shapes


def single_numbers(executor: Executor) -> Iterator[str]:
    """The values of rank 0; a run gives them as arrays of one."""
    for operation in executor.function.block.operations:
        for value in operation.outputs:
            if isinstance(value.type, TensorType) and not value.type.shape:
                yield value.name


def function_inputs(executor: Executor, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The function's arguments as arrays of the types that the program declares."""
    arguments, _ = executor.bind(inputs, None)
    return {
        value.name: as_numpy(argument, value.type.dtype)
        for value, argument in zip(executor.function.inputs, arguments, strict=True)
        if isinstance(value.type, TensorType)
    }


def check_cuttable(package: Package, function: str | None) -> None:
    """`UnsupportedModel` for a program with states: a part would need what ran before it."""
    states = package.interface(function).states
    if states:
        raise UnsupportedModel(
            f'{package.path} has a state "{states[0].name}", so its program cannot be cut: a part '
            "would need the states of earlier predictions",
            hint="debug it with --against SOURCE",
        )
