"""`debug --reduce`: the smallest part of a package that still fails, as a case to hand on.

The case is a package with golden vectors, so `metal4conv verify` shows the failure without a
source, a layout manifest, and a README that says what fails and how to see it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.assembly import check_name, manifest_text, remove_work
from metal4conv.debug.case import Case, failures, golden_origin, write_case
from metal4conv.debug.check import Answer, tolerance_text
from metal4conv.debug.journal import Journal, inputs_sha256, open_journal
from metal4conv.debug.reduction_report import nothing_to_reduce, reduction_report, spent_finding
from metal4conv.debug.reference import MakeReference, Reference, Widened, check_comparable
from metal4conv.debug.shrinking import Shrinking
from metal4conv.debug.values import RunValues, check_cuttable
from metal4conv.errors import UnsupportedModel
from metal4conv.execute.interpreter import Executor
from metal4conv.layout.document import MANIFEST_SUFFIX
from metal4conv.layout.manifest import content_sha256, layout_manifest
from metal4conv.mil.cutting import Cut
from metal4conv.mil.dataflow import Dataflow, dataflow
from metal4conv.mil.interface import LAYOUT_KEY
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.schema import deterministic_bytes
from metal4conv.outputs import Stage, staged
from metal4conv.report import Report
from metal4conv.verify.golden import golden_path, write_golden
from metal4conv.verify.tolerance import GivenTolerance

JOURNAL = "reduce.json"
README = "README.md"

MOST_CHECKS = 300
"""After so many checks, what was reached is the answer."""

Say = Callable[[str], None]
Fails = Callable[[Path, Mapping[str, np.ndarray]], bool]
"""Whether the package at a path fails with these inputs; `case.py` says what lies beside it."""


@dataclass(frozen=True)
class Failure:
    """What counts as failing. `text` says it in words, `command` is what shows it by hand."""

    fails: Fails
    text: str = "the check that was given says so"
    command: Callable[[Path], list[str]] | None = None


def reduce_package(
    package: str | Path,
    *,
    inputs: Mapping[str, Any],
    output: str | Path,
    failure: Failure | None = None,
    fails: Fails | None = None,
    reference: MakeReference = Widened,
    given: GivenTolerance | None = None,
    name: str | None = None,
    function: str | None = None,
    resume: bool = False,
    most_checks: int = MOST_CHECKS,
    say: Say = lambda text: None,
) -> Report:
    """Writes the smallest failing part that is found into the folder `output`.

    `fails` (or `failure`, with words about it) decides; without it a part fails when it does not
    give what `reference` expects within `verify`'s tolerance, or the `given` one. The report's
    exit code is 1 when the whole package does not fail; then nothing but the journal is written.
    (Any: inputs as `predict` takes them.)
    """
    opened = read_package(package)
    check_cuttable(opened, function)
    name = name or f"{opened.path.resolve().stem}-reduced"
    check_name(name)
    say("running the package")
    values = RunValues(Executor.from_package(opened, function), inputs)
    flow = dataflow(opened.function(function))
    expected = reference(values)
    if fails is not None:
        failure = Failure(fails)
    if failure is None:
        check_comparable(expected, opened, function)
    folder = Path(output)
    with staged(folder) as stage:
        about = {
            "mode": "reduce",
            "package": str(opened.path),
            "package_sha256": content_sha256(opened),
            "function": flow.function.name,
            "check": failure.text if failure else tolerance_text(given),
            "reference": expected.identity,
            "inputs_sha256": inputs_sha256({name: values.kept[name] for name in values.given}),
        }
        journal = open_journal(folder / JOURNAL, about, resume=resume)
        work = stage.path("work")
        work.mkdir()
        run = Reduction(
            opened, flow, values, expected, failure, journal, work, say, given, most_checks
        )
        found = run.smallest()
        if found is None:
            remove_work(work)
            return nothing_to_reduce(opened, flow, journal, failure)
        say("writing the case")
        case = write_case(stage.folder, name, opened, flow, found, expected, values.shapes)
        case = add_manifest(stage, case, opened, name)
        remove_work(work)
        target = folder / f"{name}.mlpackage"
        count = len(flow.working)
        report, readme = reduction_report(
            opened, count, found, case, journal, failure, target, given
        )
        if run.is_spent:
            report = replace(report, findings=(spent_finding(most_checks),))
        stage.path(README).write_text(readme, "utf-8")
    return report


def add_manifest(stage: Stage, case: Case, whole: Package, name: str) -> Case:
    """Puts the layout manifest into the package and beside it, and its hash into the vectors."""
    package = case.part.package
    sha256 = content_sha256(package)
    manifest = layout_manifest(package, sha256=sha256)
    stage.path(f"{name}{MANIFEST_SUFFIX}").write_text(manifest_text(manifest, indent=2), "utf-8")
    package.spec.description.metadata.userDefined[LAYOUT_KEY] = manifest_text(manifest)
    (package.model_folder / "model.mlmodel").write_bytes(deterministic_bytes(package.spec))
    write_golden(golden_path(package.path), [case.golden], golden_origin(whole, name, sha256))
    return case


@dataclass
class Reduction:
    """One reduction; `failure` is None where this machine's executor is the judge."""

    package: Package
    flow: Dataflow
    values: RunValues
    reference: Reference
    failure: Failure | None
    journal: Journal
    work: Path
    say: Say
    given: GivenTolerance | None
    most_checks: int
    is_spent: bool = False
    """Whether a further part would have been checked."""

    def smallest(self) -> Cut | None:
        """The smallest failing part; None when the whole package does not fail."""
        shrinking = Shrinking(
            self.flow,
            self.values,
            self.reference,
            self.package.specification_version,
            self.fails,
        )
        whole = shrinking.whole()
        if not whole.operations:
            raise UnsupportedModel(
                f"{self.package.path} has no operation between its inputs and outputs that can "
                "be looked at"
            )
        return shrinking.shrink(whole) if self.fails(whole) else None

    def fails(self, cut: Cut) -> bool:
        """Whether a part fails, as the journal or the judge says."""
        question = cut_key(cut)
        known = self.journal.known(question)
        if known is None:
            if len(self.journal.steps) >= self.most_checks:
                self.is_spent = True
                return False
            self.say(f"check {len(self.journal.steps) + 1}: {len(cut.operations)} operations")
            known = self.answer(cut)
            self.journal.add(question, known, operations=len(cut.operations))
        return known.verdict == "bad"

    def answer(self, cut: Cut) -> Answer:
        """What the judge says of a part; one that does not run here is no answer."""
        try:
            case = write_case(
                self.work, "part", self.package, self.flow, cut, self.reference, self.values.shapes
            )
            if self.failure is not None:
                failed = self.failure.fails(case.package, case.inputs)
                return Answer("bad" if failed else "good")
            found = failures(case, self.given)
        except UnsupportedModel as error:
            return Answer("skip", error.message)
        return Answer("bad", found[0].message) if found else Answer("good")


def cut_key(cut: Cut) -> str:
    """What the journal calls a part."""
    text = repr((sorted(cut.operations), cut.outputs, sorted(cut.bypassed.items())))
    return hashlib.sha256(text.encode()).hexdigest()
