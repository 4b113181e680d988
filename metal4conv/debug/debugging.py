"""What `debug PACKAGE --against SOURCE` does: where the two part, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from metal4conv.debug.alignment import corresponding_values
from metal4conv.debug.comparison import Comparison, Row, ordered
from metal4conv.debug.figures import how_far
from metal4conv.debug.runs import Beside
from metal4conv.debug.told import Untold, untold_finding, untold_outputs
from metal4conv.debug.verdict import Cause, find_causes
from metal4conv.debug.words import cause_findings, debug_data, doubts
from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.frontends.source import ModelSource, SourceOptions, open_source
from metal4conv.frontends.spec import InputSpec
from metal4conv.mil.correspondence import correspondence_of
from metal4conv.mil.dataflow import dataflow
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Function
from metal4conv.report import Picture, Report
from metal4conv.verify.depth import float16_depths
from metal4conv.verify.draw import predict_cases
from metal4conv.verify.expectation import Expectation, find_expectation
from metal4conv.verify.golden import GoldenCase, golden_path
from metal4conv.verify.tolerance import GivenTolerance
from metal4conv.verify.verdict import CaseResult
from metal4conv.verify.verification import check_comparable, judge_case, output_pictures

Say = Callable[[str], None]


@dataclass(frozen=True)
class Worst:
    """The case with the largest error, and the source's values in it by the package's names."""

    error: float
    label: str
    case: GoldenCase
    values: Mapping[str, np.ndarray]


MOST_PICTURED = 3
"""Causes beyond it are told, but not shown."""


@dataclass
class Debugging:
    """One package beside one source, case by case."""

    comparison: Comparison
    source: ModelSource
    depths: Mapping[str, int]
    given: GivenTolerance
    results: list[CaseResult] = field(default_factory=list)
    worst: Worst | None = None
    untold: dict[str, Untold] = field(default_factory=dict)
    """Outputs out of tolerance that the source's own values do not lead to."""

    def add(self, label: str, case: GoldenCase) -> None:
        """Runs a case on both sides."""
        names = {row.name for row in self.comparison.sources.values()}
        traced = self.source.trace(case.inputs, names)
        values = {
            value: traced[row.name]
            for value, row in self.comparison.sources.items()
            if row.name in traced
        }
        outputs = self.comparison.add(case, values)
        result = judge_case(label, case, outputs, self.depths, self.given)
        self.results.append(result)
        failed = [item.name for item in result.outputs if not item.passed]
        self.note_untold(case, values, failed)
        error = max(
            (how_far(case.outputs[name], outputs[name]).worst for name in case.outputs), default=0.0
        )
        if self.worst is None or error > self.worst.error:
            self.worst = Worst(error, label, case, values)

    def note_untold(
        self, case: GoldenCase, values: Mapping[str, np.ndarray], failed: Collection[str]
    ) -> None:
        """Notes which of these outputs the source itself gives otherwise, value by value."""
        found = untold_outputs(
            self.comparison.beside.function,
            self.source,
            self.comparison.sources,
            values,
            case.inputs,
            {name: case.outputs[name] for name in failed if name not in self.untold},
        )
        for item in found:
            self.untold[item.output] = item

    @property
    def failed(self) -> set[str]:
        """The outputs that are out of tolerance in some case."""
        return {item.name for result in self.results for item in result.outputs if not item.passed}

    @property
    def outputs_agree(self) -> bool:
        """Whether all outputs of all cases are within tolerance."""
        return not self.failed

    def agrees(self, names: Collection[str]) -> bool:
        """Whether the outputs of the worst case agree when these values are the source's."""
        assert self.worst is not None
        beside, case = self.comparison.beside, self.worst.case
        outputs = beside.run(beside.declared, case.inputs, self.worst.values, ignore, led=names)
        result = judge_case("", case, outputs, self.depths, self.given)
        return all(output.passed for output in result.outputs)

    def pictures(self, names: Collection[str]) -> tuple[Picture, ...]:
        """These values of the package in the worst case, and the outputs of all cases."""
        found: list[Picture] = []
        if self.worst is not None and names:
            label = self.worst.label

            def see(name: str, actual: np.ndarray, expected: np.ndarray) -> None:
                if name in names:
                    found.append(Picture(name, label, expected.copy(), actual.copy()))

            self.comparison.beside.run_freely(self.worst.case.inputs, self.worst.values, see)
        return (*found, *output_pictures(self.results))


def leading_to(function: Function, outputs: Collection[str]) -> frozenset[str]:
    """The values that some outputs come of."""
    flow = dataflow(function)
    return frozenset(
        value.name for place in flow.ancestors(outputs) for value in flow.operations[place].outputs
    )


def ignore(*_: object) -> None:
    """Sees nothing."""


def debug(
    path: str | Path,
    source: ModelSource,
    *,
    golden: str | Path | None = None,
    inputs_npz: str | Path | None = None,
    given: GivenTolerance | None = None,
    function: str | None = None,
    seed: int = 0,
    say: Say = lambda text: None,
) -> Report:
    """Which operation of a package differs from its source, and why.

    The inputs are those of golden vectors (by default those beside the package), of `inputs_npz`,
    or drawn from `seed`. The report's exit code is 1 when the outputs are out of tolerance, or an
    operation computes something else.
    """
    package = read_package(path)
    check_comparable(package, function)
    expectation = expect(package, source, function, golden, inputs_npz, seed)
    main = package.function(function)
    order = source.values()
    sources = corresponding_values(main, correspondence_of(package), order)
    if not sources:
        raise UnsupportedModel(
            f"no value of {package.path} is known to correspond to one of {source.name}",
            hint="convert the model again with this version of metal4conv, or find the operation "
            "without a source: --search",
        )
    say("loading the package")
    beside = Beside(main, package.interface(function), source.framework == "tensorflow")
    depths = float16_depths(main)
    run = Debugging(Comparison(beside, sources, order), source, depths, given or GivenTolerance())
    for number, case in enumerate(expectation.cases):
        say(f"running case{number} on both sides")
        run.add(f"case{number}", case)
    rows = ordered(run.comparison.rows, main.block.operations)
    say("looking for the cause")
    causes = find_causes(
        rows,
        is_float16=beside.is_float16,
        outputs_agree=run.outputs_agree,
        agrees=run.agrees,
        leading=leading_to(main, run.failed),
    )
    if run.untold:  # what is not proven may be innocent
        causes = [cause for cause in causes if cause.kind == "operation" or cause.confirmed]
    return report_of(package, run, rows, causes, expectation)


def report_of(
    package: Package,
    run: Debugging,
    rows: Sequence[Row],
    causes: Sequence[Cause],
    expectation: Expectation,
) -> Report:
    """The report about all cases."""
    values = run.worst.values if run.worst else {}
    data = debug_data(package, run.comparison, run.source, rows, causes, run.results, values)
    findings = [
        *expectation.findings,
        *cause_findings(run.comparison, causes, values),
        *(untold_finding(item) for item in run.untold.values()),
        *doubts(rows, causes, run.results, run.untold),
    ]
    shown = {cause.row.value for cause in causes[:MOST_PICTURED]}
    return Report("debug", data, tuple(findings), pictures=run.pictures(shown))


def expect(
    package: Package,
    source: ModelSource,
    function: str | None,
    golden: str | Path | None,
    inputs_npz: str | Path | None,
    seed: int,
) -> Expectation:
    """The cases with the outputs of this source, which may not be the one that was converted."""
    path = Path(golden) if golden else golden_path(package.path)
    if golden and inputs_npz:
        raise UsageError("golden vectors hold inputs already", hint="leave --golden out")
    if not golden and (inputs_npz or not path.exists()):
        return find_expectation(
            package,
            function,
            golden=None,
            against=source,
            inputs_npz=None if inputs_npz is None else Path(inputs_npz),
            seed=seed,
        )
    found = find_expectation(
        package, function, golden=path, against=None, inputs_npz=None, seed=seed
    )
    names = [entry.name for entry in package.interface(function).outputs]
    if len(names) != len(source.outputs):
        raise UsageError(
            f"{package.path} has the outputs {', '.join(names)}, the source {source.name} has "
            f"{', '.join(source.outputs)}",
            where="--against",
            hint="name the model that the package was converted from",
        )
    same = set(names) == set(source.outputs)
    renamed = {} if same else dict(zip(source.outputs, names, strict=True))
    return replace(found, cases=predict_cases(source, found.cases, renamed))


def open_beside(package: Package, text: str, options: SourceOptions) -> ModelSource:
    """The source that is compared with a package, with the package's sizes unless others are said.

    What does not fit then is not what the user wrote after `-i`, so the error says so.
    """
    if is_package(text):
        raise UsageError(
            f"{text} is a package, not a source model",
            where="--against",
            hint="--search and --reduce compare with another package",
        )
    try:
        return open_source(text, options_of_package(package, options))
    except UsageError as error:
        if not options.inputs and not options.dimensions:
            error.add_note(f"with the inputs and sizes of {package.path}, since -i says no others")
        raise


def is_package(text: str) -> bool:
    """Whether a path names a package on disk."""
    return (Path(text) / "Manifest.json").exists()


def options_of_package(package: Package, options: SourceOptions) -> SourceOptions:
    """What the user says about the source; the package's own sizes where he says nothing."""
    if options.inputs or options.dimensions:
        return options
    interface = package.interface()
    specs = tuple(InputSpec(item.name, item.type.shape) for item in interface.inputs)
    return replace(options, inputs=specs, dimensions=dict(interface.dimensions))
