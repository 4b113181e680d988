"""A verdict as JUnit XML, one test case for each output of each case."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from metal4conv.report import Report


def junit_xml(report: Report) -> str:
    """The document for a report of `verify`."""
    package = str(report.data.get("package", ""))
    rows = [(case, output) for case in report.data.get("cases", []) for output in case["outputs"]]
    failed = [output for _, output in rows if not output["passed"]]
    suite = ET.Element(
        "testsuite",
        name=f"metal4conv verify {package}",
        tests=str(len(rows)),
        failures=str(len(failed)),
        errors="0",
    )
    for case, output in rows:
        entry = ET.SubElement(
            suite, "testcase", classname=package, name=f"{case['label']}/{output['name']}"
        )
        problems = output["problems"]
        if problems:
            lines = [problem["message"] for problem in problems]
            failure = ET.SubElement(entry, "failure", message=lines[0], type=problems[0]["code"])
            failure.text = "\n".join(lines)
    ET.indent(suite)
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(suite, encoding="unicode") + "\n"
    )
