"""What commands print, compared with `tests/golden/`; `make golden` rewrites those files."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import SAMPLES, Done, sample

GOLDEN = Path(__file__).parents[1] / "golden"
UPSCALER = ["-i", "color:1x3xhxw", "--dim", "h=16..64", "--dim", "w=16..64@32"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's package `upscaler` is."""
    from metal4conv import convert

    folder = tmp_path_factory.mktemp("output")
    convert(
        f"{SAMPLES / 'upscaler.py'}:upscaler",
        weights=SAMPLES / "upscaler.safetensors",
        inputs=["color:1x3xhxw"],
        dims=["h=16..64", "w=16..64@32"],
        output_names=["upscaled"],
        output=folder,
    )
    return folder


COMMANDS = {
    "inspect": ["inspect", "upscaler.mlpackage"],
    "inspect_source": ["inspect", *sample("upscaler"), *UPSCALER],
    "layout": ["layout", "upscaler.mlpackage"],
    "layout_sized": ["layout", "upscaler.mlpackage", "--dim", "h=50", "--dim", "w=30"],
    "reshape": ["reshape", "upscaler.mlpackage", "--dim", "h=48", "--name", "fixed"],
    "run": ["run", "upscaler.mlpackage", "--random", "--dim", "h=24", "-o", "outputs.npz"],
    "run_trace": ["run", "upscaler.mlpackage", "-i", "upscaler.golden.safetensors", "--trace", "t"],
    "verify": ["verify", "upscaler.mlpackage"],
    "verify_differs": ["verify", "upscaler.mlpackage", "--atol", "0", "--rtol", "0"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_output(
    name: str,
    folder: Path,
    metal4conv: Callable[..., Done],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    monkeypatch.chdir(folder)
    arguments = COMMANDS[name]
    done = metal4conv(*arguments)
    shown = " ".join(arguments).replace(f"{SAMPLES}/", "")
    text = steady(f"$ metal4conv {shown}\n{done.stdout}--- stderr\n{done.stderr}--- {done.code}\n")
    file = GOLDEN / f"{name}.txt"
    if request.config.getoption("--rewrite-golden"):
        file.write_text(text, "utf-8")
    assert text == file.read_text("utf-8")


def steady(text: str) -> str:
    """The text with the digits of measured errors hidden: they differ between processors."""
    text = re.sub(r"\b\d\.?\d*e-\d+|\b0\.0\d+", "#", text)
    text = re.sub(r"\d+\.\d dB|\d+\.\d+%|\b[01]\.\d{6}\b", "#", text)
    return re.sub(r" +", " ", text)


@pytest.mark.parametrize("name", ["inspect", "layout", "run", "verify"])
def test_json_is_one_document(
    name: str, folder: Path, metal4conv: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = metal4conv(*COMMANDS[name], "--json")
    document = json.loads(done.stdout)
    assert (done.code, done.stderr) == (0, "")
    assert document["command"] == name


@pytest.mark.parametrize("name", ["inspect", "layout", "run", "verify"])
def test_no_color_in_files(
    name: str, folder: Path, metal4conv: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    assert "\x1b" not in metal4conv(*COMMANDS[name]).stdout


def test_differing_outputs_show_even_when_quiet(
    folder: Path, metal4conv: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    quiet = metal4conv(*COMMANDS["verify_differs"], "-q")
    assert quiet.code == 1
    assert "DIFFERS" in quiet.stdout
