"""`package` and `convert --mtlpackage`, with tools that behave as Apple's was seen to."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from metal4conv.device.reflection import ReflectedFunction, ReflectedTensor
from metal4conv.layout.manifest import layout_manifest
from metal4conv.mil.package import read_package
from tests.conftest import Done, tree_hash
from tests.device.metal_packages import (
    calls_of,
    copying,
    reflected,
    write_metal_package,
    write_tool,
)
from tests.layout.packages import PackageBuilder, classifier

Run = Callable[..., Done]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with `net.mlpackage`."""
    classifier().write(tmp_path / "net.mlpackage")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def function(folder: Path) -> ReflectedFunction:
    """What a Metal package of it shows."""
    return reflected(layout_manifest(read_package(folder / "net.mlpackage")))


@pytest.fixture
def ready(folder: Path, function: ReflectedFunction) -> Path:
    """Such a package."""
    return write_metal_package(folder / "ready.mtlpackage", [function])


@pytest.fixture
def tool(folder: Path, ready: Path) -> Path:
    """A tool that makes it."""
    return write_tool(folder / "tools/metal-package-builder", copying(ready))


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the tool of an Xcode goes, on something that takes itself for a Mac."""
    programs = tmp_path / "programs"
    write_tool(programs / "xcode-select", f'echo "{tmp_path}/Developer"')
    write_tool(programs / "xcrun", 'echo "xcrun: error: unable to find utility" >&2; exit 72')
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "platform", "darwin")
    below = "Developer/Toolchains/XcodeDefault.xctoolchain/usr/bin/metal-package-builder"
    return tmp_path / below


SHOWN = """\
net.mtlpackage
        name  manifest  shape, outermost first  reflection  shape
input   x     float32   4 × 10                  float32     4 × 10
output  y     float32   4 × 7                   float32     4 × 7
"""


def plain(text: str) -> str:
    """The text without blanks at the ends of lines."""
    return "\n".join(line.rstrip() for line in text.split("\n"))


def test_a_package_is_made_beside(metal4conv: Run, tool: Path, ready: Path) -> None:
    done = metal4conv("package", "net.mlpackage", "--builder", tool)
    assert (done.code, plain(done.stdout), done.stderr) == (0, SHOWN, "")
    assert tree_hash(Path("net.mtlpackage")) == tree_hash(ready)
    again = metal4conv("package", "net.mlpackage", "--builder", tool)
    assert again.stdout.startswith("net.mtlpackage (unchanged)\n")


def test_a_package_is_made_elsewhere(metal4conv: Run, tool: Path) -> None:
    line = ["package", "net.mlpackage", "-o", "out", "--builder", tool, "--depfile", "net.d"]
    done = metal4conv(*line, "--target-os", "ios26.0", "-q")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert Path("out/net.mtlpackage/manifest.json").exists()
    assert not Path("net.mtlpackage").exists()
    rule = Path("net.d").read_text().splitlines()[0]
    assert rule.startswith("out/net.mtlpackage: net.mlpackage/Manifest.json ")
    assert rule.endswith("/weights/weight.bin")
    assert calls_of(tool)[0][-2:] == ["--mtargetos", "ios26.0"]


def test_json_has_both_sides(metal4conv: Run, tool: Path) -> None:
    done = metal4conv("package", "net.mlpackage", "--builder", tool, "--json")
    document = json.loads(done.stdout)
    assert (done.code, done.stderr) == (0, "")
    assert (document["command"], document["passed"]) == ("package", True)
    assert document["files"] == ["net.mtlpackage"]
    assert document["functions"] == ["main"]
    assert document["builder"] == {"path": str(tool), "found_with": "--builder"}
    assert document["tensors"][0]["shape"] == [4, 10]


def test_linux_needs_a_builder(
    metal4conv: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    done = metal4conv("package", "net.mlpackage")
    assert (done.code, done.stdout) == (4, "")
    assert "needs a Mac with Xcode 26" in done.stderr


def test_a_mac_without_xcode(metal4conv: Run, folder: Path, mac: Path) -> None:
    done = metal4conv("package", "net.mlpackage")
    assert done.code == 4
    assert "metal-package-builder was not found" in done.stderr
    assert "install Xcode 26" in done.stderr


def test_a_mac_with_xcode(metal4conv: Run, ready: Path, mac: Path) -> None:
    write_tool(mac, copying(ready))
    assert metal4conv("package", "net.mlpackage").code == 0
    assert Path("net.mtlpackage").is_dir()


def test_a_refusal_comes_before_the_tool(metal4conv: Run, tool: Path, tmp_path: Path) -> None:
    build = PackageBuilder()
    build.input("x", "float64", (4, 10))
    build.operation("identity", "y", "float64", (4, 10), {"x": ["x"]})
    build.output("y", "float64")
    build.write(tmp_path / "double.mlpackage")
    done = metal4conv("package", "double.mlpackage", "--builder", tool)
    assert done.code == 3
    assert 'input "x" is float64' in done.stderr
    assert 'output "y" is float64' in done.stderr
    assert calls_of(tool) == []


def test_other_models_are_refused(metal4conv: Run, tool: Path, tmp_path: Path) -> None:
    build = classifier()
    build.spec.ClearField("mlProgram")
    build.spec.neuralNetwork.SetInParent()
    build.write(tmp_path / "old.mlpackage")
    done = metal4conv("package", "old.mlpackage", "--builder", tool)
    assert done.code == 3
    assert "holds a neuralNetwork, not an ML Program" in done.stderr
    assert calls_of(tool) == []


def test_a_tool_that_fails(metal4conv: Run, tool: Path) -> None:
    write_tool(tool, 'echo "error: cannot open model" >&2; exit 0')
    done = metal4conv("package", "net.mlpackage", "--builder", tool)
    assert done.code == 3
    assert "metal-package-builder: error: cannot open model" in done.stderr
    assert not Path("net.mtlpackage").exists()


def test_a_tool_that_hangs(metal4conv: Run, tool: Path) -> None:
    write_tool(tool, "sleep 300")
    done = metal4conv("package", "net.mlpackage", "--builder", tool, "--timeout", "1")
    assert done.code == 3
    assert "was not done with net.mlpackage within 1 seconds" in done.stderr


def wrong(function: ReflectedFunction) -> ReflectedFunction:
    """The same with another output."""
    return replace(function, outputs=(ReflectedTensor("y", (7, 4), 0x10000020),))


def test_a_reflection_that_differs(
    metal4conv: Run, tool: Path, function: ReflectedFunction, tmp_path: Path
) -> None:
    write_tool(tool, copying(write_metal_package(tmp_path / "other", [wrong(function)])))
    done = metal4conv("package", "net.mlpackage", "--builder", tool, "-q")
    assert done.code == 1
    assert plain(done.stdout).splitlines()[-1] == "net.mtlpackage DIFFERS from net.mlpackage"
    assert "the manifest has shape [4, 7], the reflection [7, 4]" in done.stderr
    assert not Path("net.mtlpackage").exists()


def test_check_reads_only(metal4conv: Run, ready: Path) -> None:
    before = tree_hash(ready)
    done = metal4conv("package", "net.mlpackage", "--check", ready.name)
    assert (done.code, done.stderr) == (0, "")
    assert plain(done.stdout).splitlines()[-1] == "ready.mtlpackage agrees with net.mlpackage"
    assert tree_hash(ready) == before


def test_check_finds_a_difference(
    metal4conv: Run, folder: Path, function: ReflectedFunction
) -> None:
    write_metal_package(folder / "other.mtlpackage", [wrong(function)])
    done = metal4conv("package", "net.mlpackage", "--check", "other.mtlpackage", "--json")
    document = json.loads(done.stdout)
    assert (done.code, document["passed"]) == (1, False)
    assert [item["code"] for item in document["findings"]] == ["tensor-shape"]


def test_check_of_what_cannot_be_read(metal4conv: Run, ready: Path) -> None:
    (ready / "library.mpsgraphpackage/reflection.fb").unlink()
    done = metal4conv("package", "net.mlpackage", "--check", ready.name)
    assert done.code == 0
    assert "ready.mtlpackage cannot be compared with net.mlpackage" in done.stdout
    assert "warning: the reflection of ready.mtlpackage cannot be compared" in done.stderr


@pytest.mark.parametrize(("name", "code"), [("missing.mtlpackage", 2), ("net.mlpackage", 3)])
def test_check_of_what_is_no_metal_package(
    metal4conv: Run, folder: Path, name: str, code: int
) -> None:
    assert metal4conv("package", "net.mlpackage", "--check", name).code == code


def test_check_builds_nothing(metal4conv: Run, ready: Path) -> None:
    done = metal4conv("package", "net.mlpackage", "--check", ready.name, "-o", "out")
    assert done.code == 2
    assert "--check builds nothing, so --output-dir cannot go with it" in done.stderr


NET = """
import torch

def halve():
    class Halve(torch.nn.Module):
        def forward(self, x):
            return x * 0.5
    return Halve(), (torch.rand(1, 4),)
"""
CONVERT = ["convert", "net.py:halve", "-i", "x:1x4", "--output", "y"]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network in Python."""
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def halved(tmp_path: Path) -> ReflectedFunction:
    """What a Metal package of it shows."""
    x = ReflectedTensor("x", (1, 4), 0x10000010)
    return ReflectedFunction("main", (x,), (replace(x, name="y"),))


OUTPUTS = ["halve.golden.safetensors", "halve.layout.json", "halve.mlpackage"]


def outputs() -> list[str]:
    """What is in the folder of the outputs."""
    folder = Path("out")
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_convert_elsewhere_makes_none(
    metal4conv: Run, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    done = metal4conv(*CONVERT, "-o", "out", "--json")
    assert done.code == 0
    assert json.loads(done.stdout)["metal_package"] is None
    assert outputs() == OUTPUTS
    required = metal4conv(*CONVERT, "-o", "other", "--mtlpackage")
    assert required.code == 4
    assert "needs a Mac" in required.stderr
    assert not Path("other").exists()


def test_convert_on_a_mac_makes_one(
    metal4conv: Run, source: Path, mac: Path, halved: ReflectedFunction
) -> None:
    write_tool(mac, copying(write_metal_package(source / "ready", [halved])))
    line = [*CONVERT, "-o", "out", "--depfile", "net.d"]
    done = metal4conv(*line)
    assert (done.code, done.stderr) == (0, "")
    assert "out/halve.mtlpackage\n" in done.stdout
    assert outputs() == [*OUTPUTS, "halve.mtlpackage"]
    assert "out/halve.mtlpackage: " in Path("net.d").read_text().splitlines()[0]
    assert "out/halve.mtlpackage (unchanged)" in metal4conv(*line).stdout
    without = metal4conv(*CONVERT, "-o", "other", "--no-mtlpackage")
    assert "mtlpackage" not in without.stdout


FAULTS = {
    "the tool fails": 'echo "error: out of luck" >&2',
    "a damaged package": 'mkdir "$4"',
    "another network": None,
}


@pytest.mark.parametrize("fault", FAULTS)
def test_convert_when_none_can_be_made(
    metal4conv: Run, source: Path, mac: Path, halved: ReflectedFunction, fault: str
) -> None:
    other = write_metal_package(source / "ready", [replace(halved, outputs=())])
    write_tool(mac, FAULTS[fault] or copying(other))
    done = metal4conv(*CONVERT, "-o", "out")
    assert done.code == 0
    assert "warning: no Metal package was made: " in done.stderr
    assert "--no-mtlpackage leaves it out" in done.stderr
    assert outputs() == OUTPUTS
    required = metal4conv(*CONVERT, "-o", "other", "--mtlpackage")
    assert required.code == 3
    assert not Path("other").exists()


def test_convert_of_what_no_pass_takes(metal4conv: Run, source: Path, mac: Path) -> None:
    write_tool(mac, "exit 0")
    sizes = ["-i", "x:1xn", "--dim", "n=4|8", "--output", "y"]
    done = metal4conv("convert", "net.py:halve", *sizes, "-o", "out")
    assert done.code == 0
    assert "halve.mlpackage cannot run in a machine learning pass" in done.stderr
    assert 'input "x" has 2 enumerated shapes' in done.stderr
    assert outputs() == OUTPUTS
    assert calls_of(mac) == []


def test_an_older_metal_package_is_named(metal4conv: Run, source: Path, mac: Path) -> None:
    write_tool(mac, "exit 0")
    old = source / "out/halve.mtlpackage"
    old.mkdir(parents=True)
    done = metal4conv(*CONVERT, "-o", "out")
    assert done.code == 0
    assert "out/halve.mtlpackage is there from before, and does not belong" in done.stderr
    assert old.is_dir()
