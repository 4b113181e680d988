"""Each operation of a package beside the source: figures over all cases, worst first."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from metal4conv.debug.figures import (
    FLOAT16_NORMAL,
    FLOAT32_MAX,
    Apart,
    how_far,
    not_finite,
    range_of,
)
from metal4conv.debug.runs import FLOAT16_PART, FLOAT32_PART, Beside, See
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.mil.program import Operation
from metal4conv.verify.golden import GoldenCase

Range = tuple[float, float] | None
SATURATED = 0.99
"""A value has run into its bounds when this part of its elements stands there."""

BOUNDED = frozenset(("sigmoid", "tanh", "clip", "relu6", "sigmoid_hard", "softsign", "erf"))
"""Operations whose values lie between bounds."""


@dataclass
class Row:
    """A value of the package that holds one of the source; the worst figures of all cases.

    `local` is the error of the operation alone, in float32 on the source's inputs, `noise` what
    the rounding of its weights explains of that, `declared` the error of the operation alone in
    the package's precision, `free` that of the package as it runs.
    """

    operation: Operation
    value: str
    source: SourceValue
    local: Apart | None = None
    noise: Apart | None = None
    declared: Apart | None = None
    free: Apart | None = None
    excess: float = 0.0
    """How many times `local` is what is to be expected of it."""
    source_range: Range = None
    package_range: Range = None
    nan: int = 0
    inf: int = 0
    source_nan: int = 0
    source_inf: int = 0
    beyond_float16: int = 0
    """Elements of the source that float16 cannot hold."""
    below_float16: float = 0.0
    """The part of the source's elements that are not 0 and have lost digits in float16."""
    constant_source: bool = True
    at_bounds: float = 0.0
    """The part of the source's elements that stand at the bounds of an operation that has some."""


@dataclass
class Comparison:
    """All rows in the order of execution, and the package's own ranges for every operation."""

    beside: Beside
    sources: Mapping[str, SourceValue]
    """The source's value by the package's."""
    order: Sequence[SourceValue] = ()
    """All values of the source."""
    rows: dict[str, Row] = field(default_factory=dict)
    operations: Mapping[str, Operation] = field(init=False)
    """Those of the package by the names of their outputs; the widened program has others."""
    ranges: dict[str, Range] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.operations = {
            value.name: operation
            for operation in self.beside.function.block.operations
            for value in operation.outputs
        }

    @property
    def limit(self) -> float:
        """Beyond it the package's precision has no numbers."""
        return FLOAT16_MAX if self.beside.is_float16 else FLOAT32_MAX

    def add(self, case: GoldenCase, source: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compares one case; gives the package's outputs."""
        local: dict[str, tuple[Apart, np.ndarray]] = {}
        self.beside.run_led(self.beside.wide, case.inputs, source, self.see_local(local))
        self.beside.run_led(
            self.beside.jittered, case.inputs, source, self.see_noise(local), FLOAT32_PART
        )
        if self.beside.is_float16:
            self.beside.run_led(
                self.beside.declared, case.inputs, source, self.see_error("declared")
            )
        self.note_ranges(case.inputs)
        return self.beside.run_freely(case.inputs, source, self.see_freely)

    def row(self, value: str) -> Row:
        """The row of a value, a new one when there is none yet."""
        if value not in self.rows:
            self.rows[value] = Row(self.operations[value], value, self.sources[value])
        return self.rows[value]

    def see_local(self, results: dict[str, tuple[Apart, np.ndarray]]) -> See:
        """Notes each operation's own error, and keeps what it gave for the next run."""

        def see(value: str, found: np.ndarray, expected: np.ndarray) -> None:
            row = self.row(value)
            note_source(row, expected)
            results[value] = (how_far(expected, found, self.limit), found.copy())

        return see

    def see_noise(self, results: Mapping[str, tuple[Apart, np.ndarray]]) -> See:
        """Notes what small changes of weights and inputs make of it."""

        def see(value: str, found: np.ndarray, expected: np.ndarray) -> None:
            local, before = results[value]
            noise = how_far(before, found, self.limit, unit=expected)
            excess = excess_of(local, noise, is_float16=self.beside.is_float16)
            row = self.rows[value]
            if row.local is None or excess > row.excess:
                row.local, row.noise, row.excess = local, noise, excess

        return see

    def see_error(self, name: str) -> See:
        """Notes an error under the name of a field of the row."""

        def see(value: str, found: np.ndarray, expected: np.ndarray) -> None:
            row = self.row(value)
            apart = how_far(expected, found)
            before: Apart | None = getattr(row, name)
            if before is None or apart.worst > before.worst:
                setattr(row, name, apart)

        return see

    def see_freely(self, value: str, found: np.ndarray, expected: np.ndarray) -> None:
        """Notes the error of the package as it runs, and what it gave."""
        self.see_error("free")(value, found, expected)
        row = self.rows[value]
        row.package_range = joined(row.package_range, range_of(found))
        nan, inf = not_finite(found)
        row.nan, row.inf = max(row.nan, nan), max(row.inf, inf)

    def unknown_before(self, operation: Operation) -> list[str]:
        """The operations between an operation and the values before it that were compared.

        They belong to it: what it takes was computed by them from the source's values.
        """
        found: dict[str, None] = {}
        waiting = [operation]
        while waiting:
            for name in waiting.pop().value_names:
                maker = self.operations.get(name)
                if maker is None or maker.type == "const" or self.is_compared(maker):
                    continue
                if maker.outputs[0].name not in found:
                    found[maker.outputs[0].name] = None
                    waiting.append(maker)
        order = list(self.operations)
        return sorted(found, key=order.index)

    def is_compared(self, operation: Operation) -> bool:
        """Whether one of an operation's values has a counterpart."""
        return any(value.name in self.rows for value in operation.outputs)

    def note_ranges(self, inputs: Mapping[str, np.ndarray]) -> None:
        """The ranges of the package's inputs."""
        for name, array in inputs.items():
            self.ranges[name] = joined(self.ranges.get(name), range_of(array))

    def range_of(self, value: str) -> Range:
        """The source's range of a value, where it is known; an input's range."""
        if value in self.rows:
            return self.rows[value].source_range
        return self.ranges.get(value)


def missing_before(
    value: SourceValue, order: Sequence[SourceValue], held: Collection[str]
) -> list[SourceValue]:
    """The source's values directly before one that the package holds none of.

    >>> order = [SourceValue(name, "Mul") for name in "abc"]
    >>> [row.name for row in missing_before(order[2], order, {"a", "c"})]
    ['b']
    """
    names = [row.name for row in order]
    end = names.index(value.name) if value.name in names else 0
    start = end
    while start and names[start - 1] not in held:
        start -= 1
    return list(order[start:end])


def note_source(row: Row, expected: np.ndarray) -> None:
    """What is to be known of the source's value."""
    row.source_range = joined(row.source_range, range_of(expected))
    nan, inf = not_finite(expected)
    row.source_nan, row.source_inf = max(row.source_nan, nan), max(row.source_inf, inf)
    if expected.dtype.kind == "f" and expected.size:
        size = np.abs(expected[np.isfinite(expected)])
        row.beyond_float16 = max(row.beyond_float16, int((size > FLOAT16_MAX).sum()))
        small = float(((size > 0) & (size < FLOAT16_NORMAL)).sum()) / expected.size
        row.below_float16 = max(row.below_float16, small)
    if row.operation.type in BOUNDED and expected.size > 1:
        low, high = expected.min(), expected.max()
        near = (high - low) * 1e-6
        share = float(((expected <= low + near) | (expected >= high - near)).mean())
        row.at_bounds = share if share >= SATURATED and high > low else row.at_bounds
    row.constant_source &= expected.size > 1 and bool((expected == expected.flat[0]).all())


def excess_of(local: Apart, noise: Apart, *, is_float16: bool) -> float:
    """How many times an error is what rounding alone may make of it.

    Constants that are plain numbers of an operation (a slope, a bound) are rounded, too, which
    `noise` does not see; the floor is for them.
    """
    if local.lost:
        return float("inf")
    floor = 1.5 * FLOAT16_PART if is_float16 else 1e-5
    rms = local.rms / (4 * noise.rms + floor)
    peak = local.peak / (6 * noise.peak + 8 * floor)
    return max(rms, peak)


def joined(first: Range, second: Range) -> Range:
    """The range that holds both.

    >>> joined((0.0, 1.0), (-1.0, 0.5)), joined(None, (2.0, 3.0))
    ((-1.0, 1.0), (2.0, 3.0))
    """
    if first is None or second is None:
        return first or second
    return min(first[0], second[0]), max(first[1], second[1])


def ordered(rows: Mapping[str, Row], operations: Sequence[Operation]) -> list[Row]:
    """The rows in the order in which the operations run."""
    return [
        rows[value.name]
        for operation in operations
        for value in operation.outputs
        if value.name in rows
    ]
