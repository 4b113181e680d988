"""`debug --search`: the first operation after which a package is bad, by cutting and bisection.

A prefix of the program is a package of its first operations, whose outputs are the values that the
rest reads. Between a good prefix and a bad one that is an operation longer lies the culprit: what
it takes is good, what it gives is bad. That needs about log2(n) checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from metal4conv.debug.case import SUFFIX, Case, remove_case, verify_words, write_case
from metal4conv.debug.check import Answer, Check, CommandCheck, ExpectationCheck
from metal4conv.debug.journal import Journal, inputs_sha256, open_journal
from metal4conv.debug.reference import MakeReference, Reference, Widened, check_comparable
from metal4conv.debug.search_report import Culprit, search_report
from metal4conv.debug.values import RunValues, check_cuttable
from metal4conv.errors import OutputError, UnsupportedModel, UsageError
from metal4conv.execute.interpreter import Executor
from metal4conv.layout.manifest import content_sha256
from metal4conv.mil.border import can_be_fed, can_be_output
from metal4conv.mil.cutting import Cut
from metal4conv.mil.dataflow import Dataflow, dataflow
from metal4conv.mil.package import Package, read_package
from metal4conv.report import Report
from metal4conv.verify.tolerance import GivenTolerance

JOURNAL = "search.json"
PROBES = 2
"""Checks of prefixes before the culprit, to see whether a bad one lies among good ones."""

ROUNDS = 4
"""So often a search starts anew in front of what it found."""

Say = Callable[[str], None]


def search(
    package: str | Path,
    *,
    state: str | Path,
    inputs: Mapping[str, Any],
    check: Check | None = None,
    reference: MakeReference = Widened,
    given: GivenTolerance | None = None,
    function: str | None = None,
    resume: bool = False,
    say: Say = lambda text: None,
) -> Report:
    """The first operation that makes a package bad, as `check` says of parts of it.

    Without `check`, a part is bad when it does not give what `reference` expects: the values of
    float32, unless another one is named. `state` is a folder for the journal and the parts. The
    report's exit code is 1 when an operation was found. (Any: inputs as `predict` takes them.)
    """
    opened = read_package(package)
    check_cuttable(opened, function)
    say("running the package")
    values = RunValues(Executor.from_package(opened, function), inputs)
    expected = reference(values)
    if check is None:
        check_comparable(expected, opened, function)
    check = check or ExpectationCheck(given)
    folder = Path(state)
    make_folder(folder)
    about = {
        "mode": "search",
        "package": str(opened.path),
        "package_sha256": content_sha256(opened),
        "function": opened.function(function).name,
        "check": check.identity,
        "reference": expected.identity,
        "inputs_sha256": inputs_sha256({name: values.kept[name] for name in values.given}),
    }
    journal = open_journal(folder / JOURNAL, about, resume=resume)
    flow = dataflow(opened.function(function))
    run = Search(opened, flow, values, expected, check, journal, folder, say, given)
    culprits = run.culprits()
    by_command = isinstance(check, CommandCheck)
    judge = check.identity if by_command else f"{check.identity}: {expected.text}"
    report = search_report(
        opened,
        flow,
        values,
        culprits,
        journal,
        run.repeat(culprits),
        judge,
        by_command=by_command,
    )
    remove_case(folder / f"part{SUFFIX}")
    journal.write(report.data["found"][0] if report.data["found"] else {"verdict": "good"})
    return report


def make_folder(folder: Path) -> None:
    """Makes the folder for journal and parts."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}") from None


@dataclass
class Line:
    """Operations in their order that are needed for some values, the targets."""

    places: tuple[int, ...]
    targets: tuple[str, ...]

    def prefix(self, length: int) -> frozenset[int]:
        """The first operations."""
        return frozenset(self.places[:length])


@dataclass
class Search:
    """One search in one package."""

    package: Package
    flow: Dataflow
    values: RunValues
    reference: Reference
    check: Check
    journal: Journal
    folder: Path
    say: Say
    given: GivenTolerance | None = None
    asked: set[str] = field(default_factory=set)
    """The questions of this run, so that one that goes on takes the same way."""

    def culprits(self) -> list[Culprit]:
        """What was found, the earliest first; empty when the whole package is good."""
        line = self.whole()
        whole = self.ask_prefix(line, len(line.places))
        if whole.verdict == "skip":
            raise UsageError(
                f"the check cannot tell whether the whole package is good: {whole.detail}",
                hint="it must be able to say that it is bad",
            )
        found: list[Culprit] = []
        if whole.verdict == "good":
            return found
        for _ in range(ROUNDS):
            culprit, good = self.bisect(line)
            found.insert(0, culprit)
            probe = self.bad_probe(line, good)
            if probe is None:
                break
            line = self.branch(line, probe)
        return found

    def whole(self) -> Line:
        """All operations that the outputs need."""
        outputs = self.flow.nearest(self.flow.function.block.outputs, self.can_be_asked_for)
        places = tuple(sorted(self.flow.ancestors(outputs)))
        if not places:
            raise UnsupportedModel(
                f"{self.package.path} has no operation between its inputs and outputs that can "
                "be looked at"
            )
        return Line(places, outputs)

    def bisect(self, line: Line) -> tuple[Culprit, int]:
        """The culprit of a line that is bad as a whole, and the longest good prefix before it."""
        low, high = 0, len(line.places)
        while high - low > 1:
            for middle in around(low, high):
                answer = self.ask_prefix(line, middle)
                if answer.verdict != "skip":
                    break
            else:
                break  # nothing between the two can be told
            low, high = (low, middle) if answer.verdict == "bad" else (middle, high)
        places = line.places[low:high]
        case_cut = self.prefix_cut(line, high)
        detail = self.ask_prefix(line, high).detail
        alone = self.ask_alone(places[0]) if len(places) == 1 else Answer("skip", "several")
        return Culprit(places, case_cut, detail, alone.verdict, low == 0), low

    def bad_probe(self, line: Line, good: int) -> int | None:
        """A bad prefix that is shorter than the longest good one: answers are not monotone then."""
        for _ in range(PROBES):
            tested = [
                length
                for length in range(good + 1)
                if length in (0, good) or self.prefix_question(line, length) in self.asked
            ]
            gap, start = max(
                ((right - left, left) for left, right in pairwise(tested)), default=(0, 0)
            )
            if gap < 2:
                return None
            probe = start + gap // 2
            if self.ask_prefix(line, probe).verdict == "bad":
                return probe
        return None

    def branch(self, line: Line, length: int) -> Line:
        """The operations of a bad prefix, only those of one bad output where one is bad alone."""
        cut = self.prefix_cut(line, length)
        assert cut is not None
        for name in cut.outputs if len(cut.outputs) > 1 else ():
            ancestors = self.flow.ancestors([name])
            if self.ask(f"value {name}", Cut(ancestors, (name,))).verdict == "bad":
                return Line(tuple(sorted(ancestors)), (name,))
        return Line(line.places[:length], cut.outputs)

    def can_be_asked_for(self, value: str) -> bool:
        """Whether a value can be an output of a part that somebody can judge."""
        return (
            can_be_output(self.flow.tensor_type(value), self.package.specification_version)
            and value in self.values
            and self.reference.knows(value)
        )

    def prefix_cut(self, line: Line, length: int) -> Cut | None:
        """A prefix with the values that the rest of the line reads; None without any."""
        kept = line.prefix(length)
        rest = set(line.places[length:])
        outputs = tuple(
            value.name
            for place in line.places[:length]
            for value in self.flow.operations[place].outputs
            if (
                value.name in line.targets
                or rest.intersection(self.flow.readers.get(value.name, ()))
            )
            and self.can_be_asked_for(value.name)
        )
        return Cut(kept, outputs) if outputs else None

    def prefix_question(self, line: Line, length: int) -> str:
        """What the journal calls it: how many operations of the line for which values."""
        names = ", ".join(line.targets)
        return f"the first {length} of {len(line.places)} operations for {names}"

    def ask_prefix(self, line: Line, length: int) -> Answer:
        """Whether a prefix is good."""
        cut = self.prefix_cut(line, length)
        if cut is None:
            return Answer("skip", "none of its values can be an output")
        return self.ask(self.prefix_question(line, length), cut)

    def ask_alone(self, place: int) -> Answer:
        """Whether an operation is good by itself, on the inputs that it has in the package."""
        cut = self.alone(place)
        if cut is None:
            return Answer("skip", "it cannot be run alone")
        return self.ask(f"operation {self.flow.operations[place].outputs[0].name} alone", cut)

    def alone(self, place: int) -> Cut | None:
        """The cut of one operation; None where its inputs cannot come from outside."""
        reads = self.flow.data_reads(place)
        known = [name for name in reads if name in self.values and self.reference.can_feed(name)]
        outputs = tuple(
            value.name
            for value in self.flow.operations[place].outputs
            if self.can_be_asked_for(value.name)
        )
        if len(known) < len(reads) or not outputs:
            return None
        version = self.package.specification_version
        shapes = self.values.shapes
        if not all(can_be_fed(self.flow.tensor_type(n), shapes[n], version) for n in reads):
            return None
        return Cut(frozenset([place]), outputs)

    def ask(self, question: str, cut: Cut) -> Answer:
        """The answer of the journal, or of the check."""
        self.asked.add(question)
        known = self.journal.known(question)
        if known is not None:
            return known
        self.say(f"check {len(self.journal.steps) + 1}: {question}")
        answer = self.check(self.case("part", cut))
        self.journal.add(question, answer, operations=len(cut.operations), outputs=[*cut.outputs])
        return answer

    def case(self, name: str, cut: Cut) -> Case:
        """A part on disk."""
        shapes = self.values.shapes
        try:
            return write_case(
                self.folder, name, self.package, self.flow, cut, self.reference, shapes
            )
        except OSError as error:
            raise OutputError(f"cannot write to {self.folder}: {error.strerror}") from error

    def repeat(self, culprits: Sequence[Culprit]) -> list[str] | None:
        """The words that repeat the deciding check by hand, whose files are named `bad`."""
        if not culprits:
            return None
        culprit = culprits[0]
        cut = self.alone(culprit.places[0]) if culprit.alone == "bad" else culprit.cut
        assert cut is not None
        package = self.case("bad", cut).package
        if isinstance(self.check, CommandCheck):
            return self.check.words(package)
        return verify_words(package, self.given)


def around(low: int, high: int) -> Iterator[int]:
    """The numbers between two, from the middle outwards.

    >>> list(around(0, 5))
    [2, 3, 1, 4]
    """
    middle = (low + high) // 2
    for distance in range(high - low):
        for number in dict.fromkeys((middle + distance, middle - distance)):
            if low < number < high:
                yield number
