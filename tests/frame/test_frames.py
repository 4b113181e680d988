"""Frames, right and wrong: all that is said about each, and nothing else.

The comment at the head of a frame says what it shows, and what is expected::

    # expect: SEVERITY CODE WHERE    each finding
    # call: PLACE: CALL              each barrier, event or wait that is missing
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from metal4conv.frame.analysis import analyse
from metal4conv.frame.calls import call_text, place_text
from metal4conv.frame.drawing import svg_of
from metal4conv.frame.report import report_of
from tests.frame.networks import NETWORKS

FOLDER = Path(__file__).parent / "frames"
FRAMES = sorted(FOLDER.glob("*.toml"))


def expected(path: Path, word: str) -> list[str]:
    """The lines of a frame's head that begin with a word."""
    lines = path.read_text("utf-8").splitlines()
    return sorted(
        line.removeprefix(f"# {word}: ") for line in lines if line.startswith(f"# {word}: ")
    )


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_findings_are_those_that_the_frame_names(path: Path) -> None:
    analysis = analyse(path)
    found = sorted(f"{item.severity} {item.code} {item.where}" for item in analysis.findings)
    assert found == expected(path, "expect")
    missing = [row.call for row in analysis.rows if row.status == "missing"]
    calls = sorted(f"{place_text(analysis.frame, call)}: {call_text(call)}" for call in missing)
    assert calls == expected(path, "call")


@pytest.mark.parametrize("path", FRAMES, ids=lambda path: path.stem)
def test_exit_code_and_documents(path: Path) -> None:
    analysis = analyse(path)
    report = report_of(analysis)
    fails = any(line.startswith("failure") for line in expected(path, "expect"))
    assert report.exit_code == int(fails)
    json.dumps(report.to_json(), allow_nan=False)
    assert svg_of(analysis) == svg_of(analyse(path))


def test_there_are_enough_frames_of_both_kinds() -> None:
    right = [path for path in FRAMES if not expected(path, "expect")]
    assert len(right) >= 12
    assert len(FRAMES) - len(right) >= 25


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_up_to_date(name: str, request: pytest.FixtureRequest) -> None:
    text = f"{json.dumps(NETWORKS[name].to_json(), indent=2)}\n"
    file = FOLDER / "networks" / f"{name}.layout.json"
    if request.config.getoption("--rewrite-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, "utf-8")
    assert file.read_text("utf-8") == text
