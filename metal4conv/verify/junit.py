"""A verdict as JUnit XML.

Of `verify`, one test case for each output of each case. What went wrong before there were outputs,
such as a run that ended early on a device, is a test case of its own; a verification that was
skipped is one that is marked so. Of `debug`, one test case for each cause of a difference, or a
single one that passes.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass

from metal4conv.report import Finding, Report
from metal4conv.verify import figures
from metal4conv.verify.causes import cause_texts, other_findings

NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that an XML document cannot hold, not even escaped."""


@dataclass(frozen=True)
class Entry:
    """A test case; it failed where it has lines that say why."""

    name: str
    code: str = ""
    lines: tuple[str, ...] = ()
    skipped: str | None = None


def junit_xml(report: Report) -> str:
    """The document for a report of `verify` or `debug`."""
    package = str(report.data.get("package", ""))
    entries = cause_entries(report) if report.kind == "debug" else output_entries(report)
    suite = ET.Element(
        "testsuite",
        name=clean(f"metal4conv {report.kind} {package}"),
        tests=str(len(entries)),
        failures=str(sum(bool(entry.lines) for entry in entries)),
        errors="0",
        skipped=str(sum(entry.skipped is not None for entry in entries)),
    )
    for entry in entries:
        case = ET.SubElement(suite, "testcase", classname=clean(package), name=clean(entry.name))
        if entry.lines:
            failure = ET.SubElement(
                case, "failure", message=clean(entry.lines[0]), type=clean(entry.code)
            )
            failure.text = clean("\n".join(entry.lines))
        if entry.skipped is not None:
            ET.SubElement(case, "skipped", message=clean(entry.skipped))
    ET.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"
    )


def output_entries(report: Report) -> list[Entry]:
    """The outputs of all cases, then what has no output to tell it at."""
    entries = [
        Entry(
            f"{case['label']}/{output['name']}",
            output["problems"][0]["code"] if output["problems"] else "",
            tuple(problem["message"] for problem in output["problems"]),
        )
        for case in report.data.get("cases", [])
        for output in case["outputs"]
    ]
    told = {
        problem["code"]
        for case in report.data.get("cases", [])
        for output in case["outputs"]
        for problem in output["problems"]
    }
    entries += finding_entries([item for item in report.findings if item.code not in told])
    if report.data.get("verdict") == "skipped":
        entries.append(Entry("verify", skipped=report.data["missing"]))
    return entries


def cause_entries(report: Report) -> list[Entry]:
    """The causes of a difference; where there is none, that the package agrees.

    A package that agrees passes, though an operation of the source itself be suspicious.
    """
    verdict = report.data["verdict"]
    causes = [] if verdict == "agrees" else cause_texts(report)
    entries = [
        Entry(
            f"{cause.operation}: {cause.kind}",
            cause.kind,
            (
                *cause.message.split("\n"),
                *([f"hint: {cause.hint}"] if cause.hint else []),
                *operation_lines(report, cause.operation),
            ),
        )
        for cause in causes
    ]
    entries += finding_entries(other_findings(report))
    if entries:
        return entries
    if verdict == "agrees":
        return [Entry("agrees")]
    return [Entry(verdict, verdict, ("the outputs differ, and no operation explains it",))]


def operation_lines(report: Report, name: str) -> list[str]:
    """What is known of an operation: type, place in the model's code, errors."""
    for row in report.data["operations"]:
        if row["name"] == name:
            place = figures.place(row["source"])
            return [
                f"operation: {name} ({row['type']})",
                *([f"source: {place}"] if place else []),
                f"relative error: {figures.number(row['error'])}, "
                f"alone in float32 {figures.number(row['local_error'])}",
            ]
    return []


def finding_entries(findings: Sequence[Finding]) -> list[Entry]:
    """Those that are failures."""
    return [
        Entry(item.code, item.code, tuple(item.message.split("\n")))
        for item in findings
        if item.severity == "failure"
    ]


def clean(text: str) -> str:
    r"""Text that an XML document can hold.

    >>> clean("a\x00b") == "a\ufffdb"
    True
    """
    return NO_XML.sub("\ufffd", text)
