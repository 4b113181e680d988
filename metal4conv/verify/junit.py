"""A verdict as JUnit XML, one test case for each output of each case.

What went wrong before there were outputs, such as a run that ended early on a device, is a test
case of its own; a verification that was skipped is one that is marked so.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from metal4conv.report import Report


def junit_xml(report: Report) -> str:
    """The document for a report of `verify`."""
    package = str(report.data.get("package", ""))
    rows = [(case, output) for case in report.data.get("cases", []) for output in case["outputs"]]
    failed = [output for _, output in rows if not output["passed"]]
    told = {problem["code"] for output in failed for problem in output["problems"]}
    others = [
        item for item in report.findings if item.severity == "failure" and item.code not in told
    ]
    is_skipped = report.data.get("verdict") == "skipped"
    suite = ET.Element(
        "testsuite",
        name=f"metal4conv verify {package}",
        tests=str(len(rows) + len(others) + is_skipped),
        failures=str(len(failed) + len(others)),
        errors="0",
        skipped=str(int(is_skipped)),
    )
    for case, output in rows:
        entry = ET.SubElement(
            suite, "testcase", classname=package, name=f"{case['label']}/{output['name']}"
        )
        problems = output["problems"]
        if problems:
            lines = [problem["message"] for problem in problems]
            add_failure(entry, problems[0]["code"], lines)
    for item in others:
        entry = ET.SubElement(suite, "testcase", classname=package, name=item.code)
        add_failure(entry, item.code, item.message.split("\n"))
    if is_skipped:
        entry = ET.SubElement(suite, "testcase", classname=package, name="verify")
        ET.SubElement(entry, "skipped", message=report.data["missing"])
    ET.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"
    )


def add_failure(entry: ET.Element, code: str, lines: Sequence[str]) -> None:
    """Marks a test case as failed, its first line as the message."""
    failure = ET.SubElement(entry, "failure", message=lines[0], type=code)
    failure.text = "\n".join(lines)
