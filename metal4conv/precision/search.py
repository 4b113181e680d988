"""The search for the operations to keep in float32: estimate, then runs of mixed programs."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.interpreter import Executor
from metal4conv.frontends.source import CastOperation
from metal4conv.mil.interface import Interface
from metal4conv.mil.package import Package
from metal4conv.mil.program import Function, Operation
from metal4conv.precision.eligible import inner_operations
from metal4conv.precision.forced import constant_reasons, forced_operations
from metal4conv.precision.measuring import Measured, measure
from metal4conv.precision.mixing import Narrowing, mixed
from metal4conv.precision.model import ErrorModel, error_model
from metal4conv.precision.origins import Origins, origins_of
from metal4conv.precision.probing import Node, Probing, probing
from metal4conv.precision.ranking import Move, rank, shares
from metal4conv.precision.reasons import searched_reason
from metal4conv.precision.tolerance import Distance, Wanted, allowed_square, distance
from metal4conv.report import Finding
from metal4conv.verify.tolerance import magnitude

MOST_RUNS = 30
"""Runs of programs on one case each, the measuring and the last ones included.

A converted package that misses the tolerance, against the estimate, earns `MORE_RUNS`.
"""

MORE_RUNS = 10
MOST_MEASURED = 3
"""Golden cases that are measured before the search; the last round runs all of them."""

CLOSE = 0.3
"""From this part of the allowed error on, an estimate needs a run."""

NEGLIGIBLE = 0.02
"""Up to this part, it needs none before the last round."""

MOST_CLIMBING = 9
"""Runs that look for how far to go along the ranking."""

MOST_SHRINKING = 4
"""Runs that try to do with fewer operations."""


@dataclass(frozen=True)
class Trial:
    """A case as the package takes it, and what the source gave for it."""

    label: str
    inputs: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    peaks: Mapping[str, float] = field(default_factory=dict)
    """The least peak of each output's PSNR; at the ends of a range outputs may hardly vary."""


@dataclass
class Search:
    """The state of a search: what was measured, and which operations are in float32."""

    function: Function
    interface: Interface
    trials: Sequence[Trial]
    wanted: Wanted
    probed: Probing
    measured: dict[int, Measured] = field(default_factory=dict)
    """What a run told, by trial."""
    kept: set[int] = field(default_factory=set)
    reasons: dict[str, str] = field(default_factory=dict)
    """Why an operation is in float32, by its name."""
    found: list[Distance] = field(default_factory=list)
    """How far the last full round was from what is wanted, by trial."""
    runs: int = 0
    most_runs: int = MOST_RUNS
    slack: float = 0.9
    """What part of the allowed error the search allows itself."""
    narrowing: Narrowing = field(default_factory=Narrowing)
    origins: Origins = field(default_factory=dict)

    @property
    def nodes(self) -> list[Node]:
        """The operations in their order."""
        return self.probed.nodes

    @property
    def operations(self) -> dict[str, tuple[CastOperation, str]]:
        """The operations that the converter shall keep in float32, by name, each with its reason;
        in the order of the program.
        """
        kept = set(self.names_of(self.kept))
        found: dict[str, tuple[CastOperation, str]] = {}
        for operation in inner_operations(self.function.block):
            if operation.name in kept:
                reason = self.reason_of(operation.name)
                for part in self.origins.get(operation.name, (as_it_is(operation),)):
                    found.setdefault(part.name, (part, reason))
        return found

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the operations that the converter shall keep in float32."""
        return tuple(self.operations)

    def names_of(self, kept: Collection[int]) -> list[str]:
        """The names of nodes in the program, with those that the converter keeps by itself."""
        names = [name for number in kept for name in self.nodes[number].parts]
        return [*names, *(name for name in self.reasons if name not in self.probed.named)]

    def reason_of(self, name: str) -> str:
        """Why an operation is in float32, or the loop or branch that it is in."""
        if name in self.reasons:
            return self.reasons[name]
        owners = [self.nodes[number] for number in self.kept]
        return next(self.reasons[node.name] for node in owners if name in node.parts)

    @property
    def budget(self) -> int:
        """The runs that are left before the last round."""
        return self.most_runs - self.runs - len(self.trials)

    def measure(self, number: int) -> Measured:
        """What a run of the probing program tells of a case; the first time it takes that run."""
        if number not in self.measured:
            self.runs += 1
            trial = self.trials[number]
            self.measured[number] = measure(self.probed, self.interface, trial.inputs)
        return self.measured[number]

    def exact(self, number: int) -> Distance:
        """How far the program is with everything in float32."""
        outputs = self.measure(number).outputs
        with np.errstate(all="ignore"):
            return self.distance(number, outputs)

    def run(self, kept: Collection[int], number: int) -> Distance:
        """How far a mixed program is from what is wanted, on one case."""
        free = [node.name for node in self.nodes if not node.eligible]
        program = mixed(self.function, [*self.names_of(kept), *free], self.narrowing)
        return self.judge(Executor(program, self.interface), number)

    def judge(self, executor: Executor, number: int) -> Distance:
        """How far what an executor gives is from what is wanted, on one case."""
        self.runs += 1
        trial = self.trials[number]
        with np.errstate(all="ignore"):
            outputs = executor.predict_arrays(trial.inputs)
            return self.distance(number, outputs)

    def distance(self, number: int, outputs: Mapping[str, np.ndarray]) -> Distance:
        """How far outputs are from what is wanted, on one case."""
        trial = self.trials[number]
        return distance(trial.expected, outputs, self.wanted, trial.peaks)

    def model(self, number: int) -> ErrorModel:
        """The estimate for one case."""
        trial = self.trials[number]
        scales = {
            name: 1.0 / (array.size * allowed_square(array, self.wanted, trial.peaks.get(name, 0)))
            for name, array in trial.expected.items()
            if array.dtype.kind == "f" and array.size
        }
        return error_model(self.nodes, self.measure(number), scales)

    def start(self) -> None:
        """The operations that float16's range breaks, and a round with those in float32."""
        self.reasons = constant_reasons(self.function)
        self.reasons |= forced_operations(self.nodes, self.measured.values())
        self.kept = {number for number, node in enumerate(self.nodes) if node.name in self.reasons}
        self.found = [Distance(0.0) for _ in self.trials]
        for number in self.measured:
            estimate = self.model(number).error(self.kept)
            if estimate > NEGLIGIBLE:
                self.found[number] = self.run(self.kept, number)

    def choose(self) -> None:
        """Starts the search, and improves on it until the measured cases hold the tolerance."""
        self.start()
        if not self.holds:
            self.improve()

    @property
    def holds(self) -> bool:
        """Whether the last round held the tolerance."""
        return all(item.ratio <= 1 for item in self.found)

    @property
    def worst(self) -> int:
        """The trial that was farthest away in the last round."""
        return max(range(len(self.found)), key=lambda number: self.found[number].ratio)

    def improve(self) -> None:
        """Keeps more operations for the worst case, then for those that it was not enough for."""
        for _ in self.trials:
            scales = {
                number: scaled(self.found[number].ratio, self.model(number).error(self.kept), 1.0)
                for number in self.measured
            }
            case = self.worst
            self.improve_on(case)
            self.found[case] = Distance(self.slack)
            for number, scale in scales.items():
                if number != case:
                    self.look_again(number, scale)
            if self.holds or self.budget <= 0:
                return

    def look_again(self, number: int, scale: float) -> None:
        """How far a case is now: by the estimate, by a run where that is close."""
        estimate = scale * self.model(number).error(self.kept)
        close = estimate > CLOSE and self.budget > 0
        self.found[number] = self.run(self.kept, number) if close else Distance(min(estimate, 1.0))

    def improve_on(self, case: int) -> None:
        """Keeps more operations until a case holds the tolerance."""
        model = self.model(case)
        moves = rank(model, self.kept)
        position = self.climb(model, moves, case)
        chosen = set(self.kept).union(*(move.nodes for move in moves[:position]))
        needed = self.shrink(model, chosen, case)
        for number in sorted(needed - self.kept):
            name = self.nodes[number].name
            measured = [run.reasons[name] for run in self.measured.values() if name in run.reasons]
            self.reasons[name] = next(iter(measured), "") or searched_reason(
                number, model, self.measure(case), self.wanted
            )
        self.kept = needed

    def climb(self, model: ErrorModel, moves: Sequence[Move], case: int) -> int:
        """How many moves it takes, by runs of one case.

        The estimate says where to look first; what the runs give corrects it.
        """
        left = [model.error(self.kept), *(move.left for move in moves)]
        low, high, proven = 0, len(moves), False
        scale = scaled(self.found[case].ratio, left[0], 1.0)
        for attempt in range(MOST_CLIMBING):
            if high - low <= 1 or self.budget <= 0:
                break
            guess = first_below(left, 0.9 * self.slack / scale)
            is_inside = low < guess < high
            position = guess if is_inside and attempt % 3 < 2 else (low + high) // 2
            kept = self.kept.union(*(move.nodes for move in moves[:position]))
            reached = self.run(kept, case)
            scale = scaled(reached.ratio, left[position], scale)
            if reached.ratio <= self.slack:
                high, proven = position, True
            else:
                low = position
        if proven or high - low <= 1:
            return high
        return max(low + 1, first_below(left, 0.5 * self.slack / scale))

    def shrink(self, model: ErrorModel, chosen: set[int], case: int) -> set[int]:
        """The set without those operations that the estimate calls the least useful."""
        value = shares(model, chosen)
        order = sorted(chosen - self.kept, key=lambda number: (value[number], -number))
        drop = len(order) // 2
        for _ in range(MOST_SHRINKING):
            if not drop or self.budget <= 0:
                break
            fewer = chosen - set(order[:drop])
            if self.run(fewer, case).ratio <= self.slack:
                chosen, order = fewer, order[drop:]
                drop = len(order) // 2
            else:
                drop //= 2
        return chosen

    def confirm(self, package: Package) -> bool:
        """Whether the converted package holds the tolerance in all cases.

        If it does not, more operations are kept, for another conversion; `UnsupportedModel` where
        no more can be.
        """
        executor = Executor.from_package(package)
        self.found = [self.judge(executor, number) for number in range(len(self.trials))]
        if self.holds:
            return True
        if all(number in self.kept for number, node in enumerate(self.nodes) if node.eligible):
            raise self.out_of_reach(self.found[self.worst], self.worst)
        self.slack /= 2
        self.most_runs = self.runs + len(self.trials) + MORE_RUNS
        self.improve()
        return False

    def out_of_reach(self, reached: Distance, number: int) -> UnsupportedModel:
        """Why no choice of operations holds the tolerance."""
        return UnsupportedModel(
            f"with all operations in float32 the package reaches {reached.reached(self.wanted)} "
            f"in {self.trials[number].label}; {self.wanted} was asked for",
            where="--precision auto",
            hint=self.limit_hint(),
        )

    def limit_hint(self) -> str:
        """What else limits the outputs: their own dtype, or float32 arithmetic."""
        narrow = [item.name for item in self.interface.outputs if item.type.dtype == "float16"]
        if narrow:
            return (
                f"the outputs themselves are float16 ({', '.join(narrow)}): try --io-precision "
                "float32, or ask for less"
            )
        return "ask for less: float32 arithmetic itself differs so much from the source"

    def more_activation_bytes(self) -> int:
        """The bytes that results in float32 take more, all together, in the largest case."""
        return max(
            (
                sum(
                    2 * run.values[name].size
                    for number in self.kept
                    for name in self.nodes[number].results
                    if name in run.values
                )
                for run in self.measured.values()
            ),
            default=0,
        )


def as_it_is(operation: Operation) -> CastOperation:
    """An operation that no pass changed later."""
    outputs = tuple(value.name for value in operation.outputs)
    return CastOperation(operation.name, operation.type, (), outputs)


def scaled(ratio: float, estimate: float, otherwise: float) -> float:
    """By what the estimate must be multiplied to give what a run gave."""
    if not math.isfinite(ratio) or estimate <= 0 or not ratio:
        return otherwise
    return ratio / estimate


def first_below(left: Sequence[float], limit: float) -> int:
    """The first position whose estimate is below a limit, the last one if none is.

    >>> first_below([9, 3, 1, 0], 2), first_below([9, 3], 1)
    (2, 1)
    """
    return next((k for k, rest in enumerate(left) if rest <= limit), len(left) - 1)


def open_search(
    package: Package,
    golden: Sequence[Trial],
    extremes: Sequence[Trial],
    wanted: Wanted,
    seen: Sequence[CastOperation] | None = None,
) -> tuple[Search, tuple[Finding, ...]]:
    """A search on a float32 package whose first cases were measured, and what to know of it.

    `UnsupportedModel` where float32 arithmetic does not hold the tolerance in a golden case; an
    extreme one is left out with a warning. `seen` has the operations as the converter casts them.
    """
    peaks: dict[str, float] = {}
    for trial in golden:
        for name, array in trial.expected.items():
            if array.dtype.kind == "f":
                peaks[name] = max(peaks.get(name, 0.0), magnitude(array)[1])
    function = package.function()
    trials = [*golden, *(replace(trial, peaks=peaks) for trial in extremes)]
    origins = None if seen is None else origins_of(function, seen)
    known = None if origins is None else [name for name, parts in origins.items() if parts]
    search = Search(
        function,
        package.interface(),
        trials,
        wanted,
        probing(function, known),
        origins=origins or {},
    )
    findings = []
    kept = []
    for number, trial in enumerate(search.trials):
        is_golden = number < len(golden)
        if is_golden and number >= MOST_MEASURED:
            kept.append(trial)
            continue
        reached = search.exact(number)
        if reached.holds:
            kept.append(trial)
        elif is_golden:
            raise search.out_of_reach(reached, number)
        else:
            findings.append(left_out(trial, search.out_of_reach(reached, number)))
    places = {id(trial): number for number, trial in enumerate(search.trials)}
    search.measured = {
        new: search.measured[places[id(trial)]]
        for new, trial in enumerate(kept)
        if places[id(trial)] in search.measured
    }
    search.trials = kept
    return search, tuple(findings)


def left_out(trial: Trial, error: UnsupportedModel) -> Finding:
    """Says that the tolerance does not hold at an end of the value ranges."""
    return Finding(
        "warning",
        "precision-extreme",
        f"the tolerance cannot hold with {trial.label}: {error.message}",
        hint=error.hint,
    )
