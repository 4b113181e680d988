"""`layout NAME.shader.json`: the table, the document, code, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from metal4conv.shader.emit import EMITTERS, emit_shader
from metal4conv.shader.manifest import manifest_text
from tests.conftest import Done
from tests.shader.manifests import MANIFESTS

GOLDEN = Path(__file__).parents[1] / "golden"
SHOWN = ("handles", "material", "denoiser")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the manifests are, each in a folder of its own."""
    for name, manifest in MANIFESTS.items():
        path = tmp_path / name / f"{manifest.name}.shader.json"
        path.parent.mkdir()
        path.write_text(manifest_text(manifest), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def path_of(name: str) -> str:
    return f"{name}/{MANIFESTS[name].name}.shader.json"


@pytest.mark.parametrize("name", SHOWN)
def test_table(
    name: str, folder: Path, metal4conv: Callable[..., Done], request: pytest.FixtureRequest
) -> None:
    done = metal4conv("layout", path_of(name))
    assert (done.code, done.stderr) == (0, "")
    file = GOLDEN / f"layout_shader_{name}.txt"
    if request.config.getoption("--rewrite-golden"):
        file.write_text(done.stdout, "utf-8")
    assert done.stdout == file.read_text("utf-8")


@pytest.mark.parametrize("name", MANIFESTS)
def test_json(name: str, folder: Path, metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("layout", path_of(name), "--json")
    document = json.loads(done.stdout)
    assert document["shader"] == json.loads((folder / path_of(name)).read_text("utf-8"))
    assert document["command"] == "layout"
    assert metal4conv("layout", path_of(name), "--emit", "json").stdout == manifest_text(
        MANIFESTS[name]
    )


@pytest.mark.parametrize("language", EMITTERS)
def test_code_is_printed_or_written(
    language: str, folder: Path, metal4conv: Callable[..., Done]
) -> None:
    command = ["layout", path_of("material"), "--emit", language]
    expected = emit_shader(MANIFESTS["material"], language)
    assert metal4conv(*command).stdout == expected
    assert metal4conv(*command, "-o", "code").stdout == ""
    assert Path("code").read_text("utf-8") == expected


REFUSED = {
    "--dim does not go with a shader": (2, ["--dim", "h=3"]),
    "--function does not go with a shader": (2, ["--function", "main"]),
    "-o needs --emit": (2, ["-o", "file"]),
}


@pytest.mark.parametrize("message", REFUSED)
def test_options_that_do_not_fit(
    message: str, folder: Path, metal4conv: Callable[..., Done]
) -> None:
    code, arguments = REFUSED[message]
    done = metal4conv("layout", path_of("field"), *arguments)
    assert done.code == code
    assert message in done.stderr


def test_damaged_manifests_are_told(folder: Path, metal4conv: Callable[..., Done]) -> None:
    path = folder / path_of("field")
    text = path.read_text("utf-8")
    path.write_text(text.replace('"offset": 2176', '"offset": 1920'), "utf-8")
    done = metal4conv("layout", path)
    assert done.code == 3
    assert 'at block "w1"' in done.stderr
    assert "begins at 1920, within the one before" in done.stderr
    path.write_text(text[:1000], "utf-8")
    assert metal4conv("layout", path).code == 3
    path.unlink()
    assert metal4conv("layout", path).code == 2
