"""The summary of a GitHub step."""

from __future__ import annotations

import html
from pathlib import Path

import pytest

from metal4conv.errors import OutputError
from metal4conv.report import Report
from metal4conv.verify.summary import MOST_ROWS, append_step_summary, markdown
from tests.verify.pages import (
    HOSTILE,
    blocks,
    branches,
    built,
    debug_report,
    hostile,
    verify_report,
)


@pytest.fixture
def report(tmp_path: Path) -> Report:
    return verify_report(built(branches(), tmp_path), off=0.5, wrong=["left"])


def rows(text: str) -> list[list[str]]:
    """The cells of all tables, as a reader sees them; a title's underline is left out."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[html.unescape(cell.strip()) for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set(row) <= {"---", "---:"}]


def test_verify(report: Report) -> None:
    text = markdown(report)
    assert text.startswith("### ❌ metal4conv verify: ")
    titles, left, right, *_ = rows(text)
    assert titles[0] == "output"
    assert (left[0], left[-1]) == ("left", "DIFFERS")
    assert (right[0], right[-1]) == ("right", "ok")
    assert "Cases: h=8; h=16." in text
    assert "<details><summary>4 findings</summary>" in text
    assert ["failure", "out-of-tolerance"] in [row[:2] for row in rows(text)]


def test_verify_agrees(tmp_path: Path) -> None:
    text = markdown(verify_report(built(branches(), tmp_path)))
    assert text.startswith("### ✅ ")
    assert "<details>" not in text


def test_debug(tmp_path: Path) -> None:
    text = markdown(debug_report(built(blocks(30), tmp_path), fault=7))
    assert rows(text)[1][:2] == ["block_1_sigmoid", "operation"]
    assert (
        "First to differ: block&#95;1&#95;sigmoid, sigmoid (blocks.1.act, net.py&#58;22)." in text
    )
    assert "Compared 27 of 31 operations" in text
    assert "<details>" not in text, "the cause's own finding is told once"


def test_skipped(report: Report) -> None:
    data = report.data | {"verdict": "skipped", "outputs": [], "cases": []}
    assert markdown(Report("verify", data)).startswith("### ⚪ ")


def test_hostile_names_stay_in_their_cells(tmp_path: Path) -> None:
    text = markdown(verify_report(built(branches(HOSTILE), tmp_path), off=1.0, wrong=HOSTILE))
    assert "<img" not in text
    assert "<script" not in text
    assert [len(row) for row in rows(text) if row[0] != "failure"][1:] == [8] * len(HOSTILE) + [4]
    assert HOSTILE[0] in [row[0] for row in rows(text)]
    evil = markdown(debug_report(built(hostile(), tmp_path, "evil"), fault=2, named=HOSTILE))
    assert rows(evil)[1][0] == HOSTILE[2]


def test_long_tables_are_cut(report: Report) -> None:
    report.data["outputs"] *= MOST_ROWS
    text = markdown(report)
    assert f"{MOST_ROWS} more rows are left out." in text
    assert len(text) < 100_000


def test_it_is_added_where_github_says(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "summary.md"
    file.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(file))
    append_step_summary(report)
    append_step_summary(report)
    assert file.read_text("utf-8") == f"before\n{markdown(report) * 2}"


@pytest.mark.parametrize("value", [None, ""])
def test_nothing_elsewhere(
    value: str | None, report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    if value is None:
        monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    else:
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", value)
    append_step_summary(report)
    assert sorted(tmp_path.iterdir()) == before


def test_a_file_that_cannot_be_written(
    report: Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path))
    with pytest.raises(OutputError, match="cannot add to the step's summary") as error:
        append_step_summary(report)
    assert "GITHUB_STEP_SUMMARY" in str(error.value)
