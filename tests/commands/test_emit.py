"""What `layout --emit` writes, compared with `tests/golden/emit/`, for open and for fixed sizes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from metal4conv.layout.document import LayoutManifest
from metal4conv.mil.interface import LAYOUT_KEY
from metal4conv.mil.program import Dimension
from tests.conftest import Done
from tests.layout import packages
from tests.layout.manifests import manifest_with

GOLDEN = Path(__file__).parents[1] / "golden" / "emit"
SUFFIXES = {"cpp": ".h", "objc": ".objc.h", "swift": ".swift"}
COMMANDS = {
    "upscaler": [],
    "upscaler_sized": ["--dim", "h=720", "--dim", "w=1280"],
    "classifier": [],
}
OPEN = {"h": Dimension(64, 2160, 720), "w": Dimension(64, 3840, 1280)}
MANIFESTS = {
    "upscaler": manifest_with(
        [
            ("x", "input", "float16", (1, 3, "h", "w")),
            ("y", "output", "float16", (1, 3, "2*h", "2*w")),
        ],
        OPEN,
        name="upscaler",
    ),
    "classifier": manifest_with(
        [("x", "input", "float32", (4, 10)), ("y", "output", "float32", (4, 7))], name="classifier"
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where packages are that carry their manifests."""
    folder = tmp_path_factory.mktemp("emit")
    write(folder, packages.upscaler(), MANIFESTS["upscaler"])
    write(folder, packages.classifier(), MANIFESTS["classifier"])
    return folder


def write(folder: Path, build: packages.PackageBuilder, manifest: LayoutManifest) -> None:
    """A package with its manifest in the metadata."""
    build.metadata(LAYOUT_KEY, json.dumps(manifest.to_json()))
    build.write(folder / manifest.package.file)


@pytest.mark.parametrize("language", SUFFIXES)
@pytest.mark.parametrize("name", COMMANDS)
def test_emitted_text(
    name: str,
    language: str,
    folder: Path,
    metal4conv: Callable[..., Done],
    request: pytest.FixtureRequest,
) -> None:
    package = folder / f"{name.removesuffix('_sized')}.mlpackage"
    done = metal4conv("layout", package, "--emit", language, *COMMANDS[name])
    assert (done.code, done.stderr) == (0, "")
    file = GOLDEN / f"{name}{SUFFIXES[language]}"
    if request.config.getoption("--rewrite-golden"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(done.stdout, "utf-8")
    assert done.stdout == file.read_text("utf-8")
    assert metal4conv("layout", package, "--emit", language, *COMMANDS[name]).stdout == done.stdout


@pytest.mark.parametrize("language", ["json", *SUFFIXES])
def test_output_file_holds_what_is_printed(
    language: str, folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    command = ["layout", folder / "upscaler.mlpackage", "--emit", language]
    printed = metal4conv(*command).stdout
    output = tmp_path / "code" / "Layout.txt"
    done = metal4conv(*command, "-o", output)
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert output.read_text("utf-8") == printed
    stamp = output.stat().st_mtime_ns
    assert metal4conv(*command, "--output-file", output).code == 0
    assert output.stat().st_mtime_ns == stamp


def test_output_needs_emit_and_a_file(
    folder: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    package = folder / "upscaler.mlpackage"
    done = metal4conv("layout", package, "-o", tmp_path / "x")
    assert done.code == 2
    assert "-o needs --emit" in done.stderr
    (tmp_path / "keep").mkdir()
    done = metal4conv("layout", package, "--emit", "cpp", "-o", tmp_path / "keep")
    assert done.code == 2
    assert "is a folder" in done.stderr
    assert (tmp_path / "keep").is_dir()


def test_size_that_is_not_allowed(folder: Path, metal4conv: Callable[..., Done]) -> None:
    done = metal4conv(
        "layout", folder / "upscaler.mlpackage", "--emit", "cpp", "--dim", "h=9999", "-q"
    )
    assert (done.code, done.stdout) == (2, "")
    assert "64 to 2160" in done.stderr


def test_tensor_that_cannot_be_bound(tmp_path: Path, metal4conv: Callable[..., Done]) -> None:
    manifest = manifest_with(
        [("x", "input", "float32", (4, 10)), ("y", "output", "int64", (4, 7))], name="classifier"
    )
    write(tmp_path, packages.classifier(), manifest)
    output = tmp_path / "net.h"
    done = metal4conv("layout", tmp_path / "classifier.mlpackage", "--emit", "cpp", "-o", output)
    assert (done.code, done.stdout) == (3, "")
    assert 'output "y" cannot be bound: no MTLTensor holds int64' in done.stderr
    assert not output.exists()
