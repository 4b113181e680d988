"""JUnit reports of `debug`, and what an XML document cannot hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from metal4conv.report import Finding, Report
from metal4conv.verify.junit import junit_xml
from tests.verify.pages import (
    HOSTILE,
    blocks,
    branches,
    built,
    debug_report,
    hostile,
    verify_report,
)


def suite_of(report: Report) -> ET.Element:
    """The document, read from its bytes as a CI system does."""
    return ET.fromstring(junit_xml(report).encode())


def failures(suite: ET.Element) -> dict[str, list[str]]:
    """The lines of each failure, by the name of its test case."""
    found = {}
    for case in suite:
        failure = case.find("failure")
        if failure is not None:
            found[str(case.get("name"))] = (failure.text or "").splitlines()
    return found


def test_a_cause_is_a_test_case_that_fails(tmp_path: Path) -> None:
    suite = suite_of(debug_report(built(blocks(30), tmp_path), fault=7))
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert str(suite.get("name")).startswith("metal4conv debug ")
    assert failures(suite) == {
        "block_1_sigmoid: operation": [
            "block_1_sigmoid, alone in float32 on the source's inputs, still differs by 0.21",
            "hint: compare its attributes with the source's",
            "operation: block_1_sigmoid (sigmoid)",
            "source: blocks.1.act, net.py:22",
            "relative error: 0.2, alone in float32 0.21",
        ]
    }


def test_a_package_that_agrees_passes(tmp_path: Path) -> None:
    report = debug_report(built(branches(), tmp_path), fault=None)
    suite = suite_of(report)
    assert [case.get("name") for case in suite] == ["agrees"]
    assert suite.get("failures") == "0"
    odd = {"kind": "suspicious-source", "operation": "stem", "message": "it is constant"}
    suite = suite_of(replace(report, data=report.data | {"causes": [odd]}))
    assert (suite.get("tests"), suite.get("failures")) == ("1", "0")


def test_a_difference_that_nothing_explains(tmp_path: Path) -> None:
    report = debug_report(built(branches(), tmp_path), fault=None)
    suite = suite_of(replace(report, data=report.data | {"verdict": "differs"}))
    assert failures(suite) == {"differs": ["the outputs differ, and no operation explains it"]}


def test_other_failures_are_test_cases_of_their_own(tmp_path: Path) -> None:
    report = debug_report(built(blocks(30), tmp_path), fault=7)
    more = (
        Finding("failure", "constant-output", "output y is 0\nin all cases", "y"),
        Finding("warning", "constant-expected", "proves little"),
    )
    suite = suite_of(replace(report, findings=(*report.findings, *more)))
    assert list(failures(suite)) == ["block_1_sigmoid: operation", "constant-output"]
    assert failures(suite)["constant-output"] == ["output y is 0", "in all cases"]


@pytest.mark.parametrize("kind", ["debug", "verify"])
def test_names_with_characters_that_xml_does_not_have(kind: str, tmp_path: Path) -> None:
    names = (*HOSTILE, "bell\x07 and null\x00", "half \udc80")
    if kind == "debug":
        report = debug_report(built(hostile(), tmp_path), fault=2, named=names)
    else:
        report = verify_report(built(branches(HOSTILE), tmp_path), off=1.0, wrong=HOSTILE)
    report.data["package"] = names[-2] + names[-1]
    text = junit_xml(report)
    suite = ET.fromstring(text.encode())
    assert suite.get("name") == f"metal4conv {kind} bell\ufffd and null\ufffdhalf \ufffd"
    assert HOSTILE[2] in " ".join(str(case.get("name")) for case in suite)
