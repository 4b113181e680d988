"""What one run of a probing program tells: ranges, and what rounding does at each operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from metal4conv.execute.interpreter import Executor
from metal4conv.execute.tracing import Seen
from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.mil.interface import Interface
from metal4conv.mil.program import Constant, Operation
from metal4conv.precision.eligible import Named, constants_of
from metal4conv.precision.probing import Node, Probe, Probing, inner_of, names_in
from metal4conv.precision.ranges import (
    beyond_range,
    inner_reason,
    is_tiny,
    range_reason,
    tiny_reason,
)

Energies = dict[str, float]
"""Sums of squares by the name of the value."""


@dataclass
class Figures:
    """What is known of one float value in one run."""

    size: int
    energy: float
    rounding: float
    """The sum of squares of what rounding it to float16 changes; infinite beyond the range."""
    typical: float
    """The same for numbers of this size, whatever their last digits."""
    peak: float
    is_beyond: bool
    is_tiny: bool


@dataclass
class Measured:
    """What a run of a probing program told."""

    values: dict[str, Figures] = field(default_factory=dict)
    passed: dict[tuple[int, tuple[str, ...]], Energies] = field(default_factory=dict)
    """How far rounded inputs change the results of a node."""
    weights: dict[int, Energies] = field(default_factory=dict)
    """How far rounded weights change them."""
    harmful: set[tuple[int, str]] = field(default_factory=set)
    """A node and an input for which float16's infinities or zeros break its result."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why float16 cannot do an operation, by its name: its inside, or what it takes and gives."""
    inner: set[str] = field(default_factory=set)
    """Those of them whose inside is the reason."""
    outputs: dict[str, np.ndarray] = field(default_factory=dict)


def measure(probed: Probing, interface: Interface, inputs: Mapping[str, np.ndarray]) -> Measured:
    """Runs a probing program on the inputs of one case."""
    executor = Executor(probed.function, interface)
    collector = Collector(probed, constants_of(probed.function))
    for value in probed.function.inputs:
        if value.name in inputs:
            collector.keep(value.name, np.asarray(inputs[value.name]))
    with np.errstate(all="ignore"):
        outputs = executor.predict_arrays(inputs, see=collector.see)
    collector.found.outputs = outputs
    return collector.found


class Collector:
    """Listens to a run; arrays are dropped when no later operation takes them."""

    def __init__(self, probed: Probing, constants: Named) -> None:
        self.nodes = probed.nodes
        self.named = probed.named
        self.probes: Mapping[str, Probe] = probed.probes
        self.constants = constants
        self.found = Measured()
        self.arrays: dict[str, np.ndarray] = {}
        self.owners = {
            inner.name: number
            for number, node in enumerate(probed.nodes)
            for inner in inner_of(node.operation)
        }
        self.last = last_uses(probed.nodes)
        self.finished = -1

    def keep(self, name: str, array: np.ndarray) -> None:
        """Holds a value, and notes its figures if it is of floats."""
        self.arrays[name] = array
        if array.dtype.kind == "f":
            self.found.values[name] = figures_of(array)

    def see(self, seen: Seen) -> None:
        """Takes in what an operation gave."""
        name = seen.operation.name
        if seen.place:
            self.see_inner(seen)
        elif name in self.probes:
            self.see_probe(self.probes[name], seen.outputs)
        elif name in self.named:
            self.see_node(self.named[name], seen.outputs)

    def see_inner(self, seen: Seen) -> None:
        """An operation within a loop or a branch: only its results are known."""
        number = self.owners.get(seen.operation.name)
        reason = range_reason(seen.operation, {}, seen.outputs)
        if reason and number is not None:
            self.found.reasons.setdefault(
                self.nodes[number].name, f'of "{seen.operation.name}" within it: {reason}'
            )
            self.found.inner.add(self.nodes[number].name)

    def see_node(self, number: int, outputs: Mapping[str, np.ndarray]) -> None:
        """An operation of the program itself."""
        self.drop(number)
        node = self.nodes[number]
        for name, array in outputs.items():
            self.keep(name, array)
        inputs = self.inputs_of(node.operation)
        inside = inner_reason(node.operation, inputs) or epsilon_reason(node.operation, inputs)
        reason = inside or range_reason(node.operation, inputs, outputs)
        reason = reason or tiny_reason(node.operation, inputs)
        if reason and node.eligible:
            self.found.reasons.setdefault(node.name, reason)
            if inside:
                self.found.inner.add(node.name)

    def see_probe(self, probe: Probe, outputs: Mapping[str, np.ndarray]) -> None:
        """A copy of the operation before, with rounded inputs or weights."""
        node = self.nodes[probe.node]
        energies: Energies = {}
        is_broken = False
        for name, copied in zip(node.results, floats_of(outputs), strict=True):
            exact = self.arrays[name]
            some, share = sample(copied)
            energies[name] = share * square_sum(some.astype(np.float64) - sample(exact)[0])
            is_broken |= breaks(exact, copied)
        if not probe.rounded:
            self.found.weights[probe.node] = energies
            return
        self.found.passed[probe.node, probe.rounded] = energies
        if is_broken:
            suspects = [name for name in probe.rounded if self.is_suspect(name)]
            self.found.harmful |= {(probe.node, name) for name in suspects or probe.rounded}

    def is_suspect(self, name: str) -> bool:
        """Whether float16 holds an input badly."""
        figures = self.found.values.get(name)
        return figures is not None and (figures.is_beyond or figures.is_tiny)

    def inputs_of(self, operation: Operation) -> dict[str, np.ndarray]:
        """The arrays that an operation takes, by parameter, as far as they are known."""
        found = {}
        for parameter, group in operation.inputs.items():
            argument = group[0] if len(group) == 1 else None
            if isinstance(argument, str) and argument in self.constants:
                argument = self.constants[argument]
            if isinstance(argument, Constant):
                found[parameter] = argument.value
            elif isinstance(argument, str) and argument in self.arrays:
                found[parameter] = self.arrays[argument]
        return found

    def drop(self, number: int) -> None:
        """Forgets values that no node from `number` on takes."""
        for earlier in range(self.finished + 1, number):
            for name in self.last.get(earlier, ()):
                self.arrays.pop(name, None)
        self.finished = max(self.finished, number - 1)


def epsilon_reason(operation: Operation, inputs: Mapping[str, np.ndarray]) -> str | None:
    """An epsilon that float16 cannot hold, where rows of zeros make that matter."""
    x, epsilon = inputs.get("x"), inputs.get("epsilon")
    if x is None or epsilon is None or operation.type not in ("layer_norm", "instance_norm"):
        return None
    return tiny_reason(operation, {"epsilon": epsilon}) if is_tiny(x) else None


def last_uses(nodes: list[Node]) -> dict[int, list[str]]:
    """The values that a node is the last one to take or, where nobody takes them, to give."""
    last: dict[str, int] = {}
    for number, node in enumerate(nodes):
        given = [value.name for value in node.operation.outputs]
        last |= dict.fromkeys([*names_in(node.operation), *given], number)
    found: dict[int, list[str]] = {}
    for name, number in last.items():
        found.setdefault(number, []).append(name)
    return found


def floats_of(outputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The float arrays among an operation's results, in their order."""
    return [array for array in outputs.values() if array.dtype.kind == "f"]


def figures_of(array: np.ndarray) -> Figures:
    """What the search needs to know of a value."""
    wide = array.astype(np.float32, copy=False)
    is_beyond = beyond_range(wide)
    some, share = sample(wide)
    rounded = some.astype(np.float16).astype(np.float32)
    return Figures(
        wide.size,
        share * square_sum(some),
        float("inf") if is_beyond else share * square_sum(rounded - some),
        share * square_sum(np.spacing(np.abs(rounded).astype(np.float16)).astype(np.float32)) / 12,
        finite_peak(wide),
        is_beyond,
        is_tiny(wide),
    )


SAMPLE = 1 << 18
"""Elements of a large array that stand for all of them where only an estimate is wanted."""


def sample(array: np.ndarray) -> tuple[np.ndarray, float]:
    """Some elements of an array, evenly spread, and how many elements each stands for.

    >>> some, share = sample(np.zeros((1024, 1024)))
    >>> some.size <= SAMPLE, round(some.size * share)
    (True, 1048576)
    """
    flat = array.reshape(-1)
    if flat.size <= SAMPLE:
        return flat, 1.0
    step = -(-flat.size // SAMPLE) | 1  # an odd step meets all columns of most arrays
    some = flat[::step]
    return some, flat.size / some.size


def finite_peak(array: np.ndarray) -> float:
    """The finite number farthest from 0."""
    if not array.size:
        return 0.0
    peak = max(float(array.max()), -float(array.min()))
    if np.isfinite(peak):
        return peak
    finite = array[np.isfinite(array)]
    return float(np.abs(finite).max()) if finite.size else 0.0


def square_sum(array: np.ndarray) -> float:
    """The sum of the squares of the finite elements.

    Not by `dot`: its threads wait for those of torch, which takes longer than the sum.
    """
    finite = np.isfinite(array)
    found = array if finite.all() else array[finite]
    return float(np.square(found, dtype=np.float64).sum())


def breaks(exact: np.ndarray, copied: np.ndarray) -> bool:
    """Whether a result is no number in float16 although it should be one.

    >>> breaks(np.float32([1, 1e5]), np.float32([1, np.inf]))
    False
    >>> breaks(np.float32([1, 2]), np.float32([1, np.nan]))
    True
    """
    if copied.size and max(float(copied.max()), -float(copied.min())) <= FLOAT16_MAX:
        return False  # NaN is not at most anything
    with np.errstate(over="ignore"):
        narrow = exact.astype(np.float16)
        found = copied.astype(np.float16)
    broken = np.isfinite(narrow) & ~np.isfinite(found)
    return bool((broken | (np.isnan(found) & ~np.isnan(narrow))).any())
