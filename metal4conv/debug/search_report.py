"""What `debug --search` says: the JSON document and its findings."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from metal4conv.debug.journal import Journal
from metal4conv.debug.values import RunValues
from metal4conv.execute.tracing import figures
from metal4conv.mil.correspondence import correspondence_of
from metal4conv.mil.cutting import Cut
from metal4conv.mil.dataflow import Dataflow
from metal4conv.mil.package import Package
from metal4conv.mil.program import Operation, TensorType
from metal4conv.report import Finding, Report

Json = dict[str, Any]  # Any: a JSON object

FIRST = "is the first bad one"


@dataclass(frozen=True)
class Culprit:
    """Between a good and a bad prefix: one operation, or several when the check could not tell.

    `cut` is the bad prefix, `detail` what the check said of it, `alone` whether the operation is
    bad by itself, `is_first` whether there is none before it.
    """

    places: tuple[int, ...]
    cut: Cut | None
    detail: str
    alone: str
    is_first: bool


def search_report(
    package: Package,
    flow: Dataflow,
    values: RunValues,
    culprits: Sequence[Culprit],
    journal: Journal,
    repeat: Sequence[str] | None,
    judge: str,
    *,
    by_command: bool,
) -> Report:
    """The report about a search that ended; `judge` says who gave the answers."""
    data: Json = {
        "package": str(package.path),
        "function": flow.function.name,
        "verdict": "bad" if culprits else "good",
        "check": journal.about["check"],
        "judge": judge,
        "operations": len(flow.working),
        "checks": len(journal.steps),
        "checks_now": journal.asked,
        "found": [culprit_row(package, flow, values, item) for item in culprits],
        "steps": journal.steps,
        "journal": str(journal.path),
    }
    if repeat is not None:
        data["repeat"] = shlex.join(repeat)
    findings = search_findings(flow, culprits, journal, by_command=by_command)
    files = [str(journal.path)]
    return Report("debug search", data, tuple(findings), tuple(files))


def culprit_row(package: Package, flow: Dataflow, values: RunValues, culprit: Culprit) -> Json:
    """One culprit: its operations, with the ranges of what the first one takes and gives."""
    first = flow.operations[culprit.places[0]]
    return {
        "operation": first.outputs[0].name if first.outputs else first.name,
        "type": first.type,
        "source": origin_of(package, first),
        "candidates": [flow.operations[place].outputs[0].name for place in culprit.places],
        "alone": culprit.alone,
        "detail": culprit.detail,
        "inputs": input_rows(flow, values, culprit.places[0]),
        "outputs": [
            {"name": value.name, **figures(values.get([value.name])[value.name])}
            for value in first.outputs
            if value.name in values
        ],
    }


def origin_of(package: Package, operation: Operation) -> str | None:
    """What an operation computes of the source, as `convert` wrote it down."""
    source = correspondence_of(package)
    if source is None:
        return None
    rows = [source.source_of(value.name) for value in operation.outputs]
    return next((str(row) for row in rows if row is not None), None)


def input_rows(flow: Dataflow, values: RunValues, place: int) -> list[Json]:
    """The ranges of what an operation takes, weights among them."""
    rows = []
    constants = {
        value.name: operation.attributes.get("val")
        for operation in flow.operations
        if operation.type == "const"
        for value in operation.outputs
    }
    for parameter, arguments in sorted(flow.operations[place].inputs.items()):
        for name in arguments:
            if not isinstance(name, str):
                continue
            row: Json = {"parameter": parameter, "name": name}
            constant = constants.get(name)
            if name in values:
                rows.append({**row, **figures(values.get([name])[name])})
            elif constant is not None and is_number(constant.type):
                rows.append({**row, "constant": True, **figures(constant.value)})
    return rows


def is_number(type: TensorType) -> bool:
    """Whether a constant is a tensor of numbers with a range."""
    return type.dtype in ("float16", "float32", "float64", "int32", "int8", "uint8", "bool")


def search_findings(
    flow: Dataflow, culprits: Sequence[Culprit], journal: Journal, *, by_command: bool
) -> list[Finding]:
    """What was found, in words."""
    if not culprits:
        return [Finding("info", "all-good", "the whole package is good: there is nothing to find")]
    findings = [
        culprit_finding(flow, item, "is bad, too, behind good values" if number else FIRST)
        for number, item in enumerate(culprits)
    ]
    if len(culprits) > 1:
        findings.append(
            Finding(
                "warning",
                "not-monotone",
                "a good prefix comes after a bad one: what is bad in between does not reach the "
                "values behind it, so the search went on in front of it, along the branch of the "
                "bad value",
                hint="the first operation above is the earliest that was found",
            )
        )
    if by_command and not any(step["answer"] == "good" for step in journal.steps):
        findings.append(
            Finding(
                "warning",
                "never-good",
                "the check never said good: does it work at all?",
                hint="run the line that repeats the last check by hand",
            )
        )
    return findings


def culprit_finding(flow: Dataflow, culprit: Culprit, what: str) -> Finding:
    """One culprit in words."""
    first, last = (flow.operations[culprit.places[n]] for n in (0, -1))
    name = first.outputs[0].name if first.outputs else first.name
    if len(culprit.places) > 1:
        message = (
            f"one of {len(culprit.places)} operations {what}, from {name} "
            f"({first.type}) to {last.outputs[0].name} ({last.type}): the check cannot tell "
            "which"
        )
        return Finding("failure", "first-bad-operation", message, name)
    alone = {
        "bad": "alone, on the values that it takes in the package, it is bad, too",
        "good": "alone, on the values that it takes in the package, it is good: errors of "
        "several operations add up until here",
        "skip": "what it does alone could not be checked",
    }[culprit.alone]
    message = f"operation {name} ({first.type}) {what} ({culprit.detail}); {alone}"
    return Finding("failure", "first-bad-operation", message, name)
