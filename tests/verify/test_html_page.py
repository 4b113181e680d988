"""What stands in a page, and what does not."""

from __future__ import annotations

import base64
import io
import json
import platform
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from metal4conv.mil.correspondence import KEY, SourceValue, correspondence_text, make_correspondence
from metal4conv.report import Finding, Picture, Report
from metal4conv.verify.golden import GoldenCase, GoldenOrigin, golden_path, write_golden
from metal4conv.verify.html.page import page_html, write_html
from metal4conv.verify.html.pictures import LARGEST, MOST_CHARACTERS, MOST_TENSORS, gallery
from tests.conftest import Done
from tests.verify.pages import (
    HOSTILE,
    blocks,
    branches,
    built,
    debug_report,
    gradient,
    hostile,
    pictured,
    verify_report,
)

COMMAND = ["metal4conv", "verify", "net.mlpackage"]


class Texts(HTMLParser):
    """The texts of a page outside its style and scripts, and the script's data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.within = ""
        self.pieces: list[str] = []
        self.data = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.within = tag
        if tag not in ("a", "bdi", "span"):
            self.pieces.append(" ")

    def handle_data(self, data: str) -> None:
        if self.within == "script":
            self.data = self.data or data
        elif self.within != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.pieces).split())


def text_of(page: str) -> str:
    return Texts(page).text


def data_of(page: str) -> Any:
    return json.loads(Texts(page).data)


def test_equal_reports_give_equal_pages(tmp_path: Path) -> None:
    package = built(blocks(30), tmp_path)
    report = pictured(debug_report(package, fault=7), 2)
    first = page_html(report, COMMAND)
    assert first == page_html(pictured(debug_report(package, fault=7), 2), COMMAND)
    assert first != page_html(report, [*COMMAND, "-v"])


def test_no_machine_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(platform, "node", lambda: "machine-of-somebody")
    report = verify_report(built(branches(), Path()))
    page = page_html(report, COMMAND)
    assert not re.search(rf"machine-of-somebody|{re.escape(str(tmp_path))}|{Path.home()}/", page)


@pytest.mark.parametrize(
    ("off", "verdict", "said"),
    [
        (0.0, "agrees", "The package gives what its source gave, within tolerance."),
        (0.5, "differs", "1 of 2 outputs out of tolerance, in 2 of 2 cases."),
    ],
)
def test_verify(off: float, verdict: str, said: str, tmp_path: Path) -> None:
    report = verify_report(built(branches(), tmp_path), off=off, wrong=["left"])
    text = text_of(page_html(report, COMMAND))
    assert said in text
    assert f"net.mlpackage {verdict}" in text
    assert "golden vectors net.golden.safetensors: onnx model" in text
    assert "h=8; h=16" in text
    assert text.count("16 × 8") == 2, "a row for each output of the larger case"
    assert f"metal4conv debug {tmp_path}/net.mlpackage --against SOURCE" in text


def test_debug(tmp_path: Path) -> None:
    report = debug_report(built(blocks(30), tmp_path), fault=7)
    page = page_html(report, ["metal4conv", "debug", "my net.mlpackage"])
    text = text_of(page)
    assert (
        "The first operation to differ is block_1_sigmoid (sigmoid), at blocks.1.act, net.py:22."
        in text
    )
    assert "return x + self.act(y) * self.gain" in text
    assert "metal4conv debug 'my net.mlpackage'" in text
    assert text.count("alone in float32 on the source's inputs, still differs by 0.21") == 1
    data = data_of(page)
    assert data["graph"]["nodes"][data["first"]]["name"] == "block_1_sigmoid"
    assert len(data["chart"]["x"]) == sum(
        row["error"] is not None for row in report.data["operations"]
    )


def test_findings_beside_the_causes_are_told(tmp_path: Path) -> None:
    report = debug_report(built(blocks(30), tmp_path), fault=7)
    other = Finding("warning", "constant-expected", "output y proves little", "y", "vary it")
    text = text_of(page_html(replace(report, findings=(*report.findings, other)), COMMAND))
    assert "constant-expected output y proves little vary it" in text
    assert "differs: 0.21" not in text


def test_places_that_convert_wrote_down(tmp_path: Path) -> None:
    build = branches()
    source = SourceValue("relu_1", "aten.relu.default", "head.act", "net.py:12")
    build.metadata(KEY, correspondence_text(make_correspondence([source], {"left relu": "relu_1"})))
    nodes = data_of(page_html(verify_report(built(build, tmp_path)), COMMAND))["graph"]["nodes"]
    places = {node["name"]: node["place"] for node in nodes if "place" in node}
    assert places["left relu"]["module"] == "head.act"
    assert places["left relu"]["line"] == "net.py:12"
    assert list(places) == ["left relu"]


def test_a_package_that_is_gone(tmp_path: Path) -> None:
    report = verify_report(built(branches(), tmp_path))
    report.data["package"] = "gone.mlpackage"
    page = page_html(report, COMMAND)
    assert "The graph is not shown: no such file or folder: gone.mlpackage" in text_of(page)
    assert data_of(page)["graph"] is None


def test_nothing_ran(tmp_path: Path) -> None:
    report = verify_report(built(branches(), tmp_path))
    data = report.data | {
        "verdict": "skipped",
        "missing": "no Metal here",
        "outputs": [],
        "cases": [],
    }
    text = text_of(page_html(Report("verify", data), COMMAND))
    assert "skipped" in text
    assert "Nothing was run: no Metal here." in text


def test_tensors_of_another_machine(tmp_path: Path) -> None:
    report = verify_report(built(branches(), tmp_path))
    far = replace(report, data=report.data | {"host": "me@mac"}, pictures=())
    assert "There are no pictures: the tensors stay on" in text_of(page_html(far, COMMAND))
    assert "There are no pictures" not in text_of(page_html(report, COMMAND))


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    report = verify_report(built(branches(), tmp_path))
    alone = {"name": "left", "passed": True, "problems": []}
    values = {"dtype": "float16", "shape": [8], "low": 0.0, "high": 2.5, "nan": 3, "inf": 0}
    case = {"label": "case0", "dimensions": {}, "outputs": [alone | {"actual": values}]}
    data = report.data | {"verdict": "not compared", "outputs": [], "cases": [case]}
    text = text_of(page_html(Report("verify", data), COMMAND))
    assert "There is no source to compare with." in text
    assert "0 … 2.5 3, 0" in text


def test_very_many_rows(tmp_path: Path) -> None:
    report = verify_report(built(branches(), tmp_path), off=0.5, wrong=["right"])
    report.data["cases"] *= 150
    text = text_of(page_html(report, COMMAND))
    assert "200 rows that are in tolerance are left out here" in text
    assert text.count(" differs") >= 300


@pytest.mark.parametrize("kind", ["debug", "verify"])
def test_hostile_names(kind: str, tmp_path: Path) -> None:
    if kind == "debug":
        report = debug_report(built(hostile(), tmp_path), fault=2, named=HOSTILE)
    else:
        report = verify_report(built(branches(HOSTILE), tmp_path), off=1.0, wrong=HOSTILE)
    page = page_html(report, ["metal4conv", *HOSTILE])
    assert len(re.findall("<script", page)) == len(re.findall("</script>", page)) == 2
    assert re.findall('<img(?! src="data:image/png;base64,)', page) == []
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u2028]", page)
    names = {node["name"] for node in data_of(page)["graph"]["nodes"]}
    assert {HOSTILE[0], HOSTILE[1], HOSTILE[2], HOSTILE[3]} <= names
    assert "⟨U+202E⟩gnp.live⟨U+202C⟩ مرحبا" in names


def test_bytes_of_the_command_line_that_are_no_text(tmp_path: Path) -> None:
    report = verify_report(built(branches(), tmp_path))
    write_html(tmp_path / "page.html", report, ["metal4conv", "verify", "caf\udce9.mlpackage"])
    assert "caf⟨U+DCE9⟩.mlpackage" in (tmp_path / "page.html").read_text("utf-8")


def test_pictures_have_a_budget_and_those_that_differ_come_first() -> None:
    whole = gradient(8, 8)
    pictures = [Picture("y", f"case{number}", whole, whole) for number in range(20)]
    pictures.append(Picture("flat", "case0", whole.ravel(), whole.ravel()))
    shown = gallery(pictures, {("case17", "y")})
    assert len(shown.rows) == MOST_TENSORS
    assert shown.left_out == 20 - MOST_TENSORS
    assert [row.case for row in shown.rows[:3]] == ["case17", "case0", "case1"]


def test_noise_takes_more_of_the_budget() -> None:
    noise = np.random.default_rng(0).random((1, 3, 512, 512), np.float32)
    pictures = [Picture("y", f"case{number}", noise, noise[..., ::-1]) for number in range(6)]
    shown = gallery(pictures, set())
    sizes = [sum(len(picture.uri) for picture in row.pictures) for row in shown.rows]
    assert 1 < len(sizes) < 6
    assert sum(sizes) <= MOST_CHARACTERS < sum(sizes) + sizes[0] + 100_000
    assert shown.left_out == 6 - len(sizes)


def test_what_is_left_out_is_said(tmp_path: Path) -> None:
    report = pictured(verify_report(built(branches(), tmp_path)), 15)
    assert "3 more image-like tensors are left out of this page" in text_of(
        page_html(report, COMMAND)
    )


def test_pictures_of_source_package_and_difference() -> None:
    expected = gradient(600, 1200)
    actual = expected.copy()
    actual[0, 0, 0, 0] = np.nan
    actual[0, :, 300, 600] += 0.25
    (row,) = gallery([Picture("y", "case0", expected, actual)], set()).rows
    assert [item.title for item in row.pictures] == ["source", "package", "difference × 2"]
    source, package, difference = (decoded(item.uri) for item in row.pictures)
    assert source.shape == package.shape == difference.shape == (LARGEST // 2, LARGEST, 3)
    assert tuple(package[0, 0]) == tuple(difference[0, 0]) == (255, 0, 255), "NaN is magenta"
    assert tuple(source[0, 0]) == (0, 0, 129)
    bright = np.argwhere(difference.astype(int).sum(axis=-1) > 200)
    assert bright.tolist() == [[0, 0], [128, 256]]


def test_a_picture_without_a_source_or_of_another_shape() -> None:
    whole = gradient(8, 8)
    alone, other = gallery(
        [Picture("y", "case0", None, whole), Picture("y", "case1", gradient(8, 9), whole)], set()
    ).rows
    assert [item.title for item in alone.pictures] == ["package"]
    assert [item.title for item in other.pictures] == ["source", "package"]


def decoded(uri: str) -> np.ndarray:
    """The pixels of a picture that stands in a page."""
    head, _, text = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.fixture
def verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a package that runs, and its golden vectors."""
    package = built(branches(), tmp_path)
    x = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    y = np.abs(np.maximum(np.tanh(x), 0))
    case = GoldenCase({"x": x}, {}, {"left": y, "right": y})
    write_golden(golden_path(package.path), [case], GoldenOrigin("net", source="onnx model"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command(
    verified: Path, metal4conv: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(verified / "summary.md"))
    words = ["verify", "net.mlpackage", "--report", "out/net.html", "--junit", "out/net.xml"]
    done = metal4conv(*words)
    assert (done.code, done.stderr) == (0, "")
    page = (verified / "out/net.html").read_text("utf-8")
    assert f"metal4conv {' '.join(words)}" in text_of(page)
    assert page.count("data:image/png") == 6, "source, package and difference of two outputs"
    assert '<testcase classname="net.mlpackage" name="case0/left" />' in (
        verified / "out/net.xml"
    ).read_text("utf-8")
    assert "agrees" in (verified / "summary.md").read_text("utf-8")
    assert metal4conv(*words, "--atol", "0", "--rtol", "0").code == 1
    assert "differs" in text_of((verified / "out/net.html").read_text("utf-8"))


def test_a_page_that_cannot_be_written(verified: Path, metal4conv: Callable[..., Done]) -> None:
    (verified / "file").write_text("")
    done = metal4conv("verify", "net.mlpackage", "--report", "file/net.html")
    assert done.code == 4
    assert "cannot write to file" in done.stderr


def test_json_holds_no_arrays(verified: Path, metal4conv: Callable[..., Done]) -> None:
    document = json.loads(metal4conv("verify", "net.mlpackage", "--json").stdout)
    assert document["passed"] is True
    assert "pictures" not in document


def test_a_device_that_told_nothing_has_no_section(tmp_path: Path) -> None:
    report = verify_report(built(branches(), tmp_path))
    for runs, sections in (([], 0), ([{"case": "c", "backing": "b", "gpu_seconds": []}], 1)):
        data = {**report.data, "on": "emulator", "metal": {"runs": runs, "reflection": []}}
        page = page_html(replace(report, data=data), COMMAND)
        assert page.count('<section id="device">') == sections
        assert page.count('<a href="#device">') == sections
        assert page.startswith("<!doctype html>")
