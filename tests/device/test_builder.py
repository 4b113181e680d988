from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from metal4conv.device import builder as module
from metal4conv.device.builder import (
    Builder,
    BuildOptions,
    Built,
    build_metal_package,
    find_builder,
)
from metal4conv.device.reflection import MPS_DATA_TYPES
from metal4conv.errors import DamagedFile, MissingDevice, UnsupportedModel, UsageError
from metal4conv.layout.manifest import layout_manifest
from metal4conv.mil.package import Package
from tests.conftest import tree_hash
from tests.device.metal_packages import (
    calls_of,
    copying,
    reflected,
    write_metal_package,
    write_tool,
)
from tests.layout.packages import classifier


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return classifier().write(tmp_path / "net.mlpackage")


@pytest.fixture
def ready(tmp_path: Path, package: Package) -> Path:
    """What a tool would make of the package."""
    function = reflected(layout_manifest(package))
    return write_metal_package(tmp_path / "ready" / "net.mtlpackage", [function])


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """Where a test puts its tool."""
    return tmp_path / "Xcode/XcodeDefault.xctoolchain/usr/bin/metal-package-builder"


def build(package: Package, tool: Path, target: Path, options: BuildOptions | None = None) -> Built:
    manifest = layout_manifest(package)
    return build_metal_package(package, manifest, target, Builder(tool, "--builder"), options)


def test_a_package_is_made(package: Package, ready: Path, tool: Path, tmp_path: Path) -> None:
    write_tool(tool, copying(ready))
    target = tmp_path / "build/net.mtlpackage"
    built = build(package, tool, target)
    assert (built.findings, built.passed, built.unchanged) == ((), True, False)
    assert built.package.path == target
    assert built.package.library == target / "library.mpsgraphpackage"
    assert tree_hash(target) == tree_hash(ready)
    assert [path.name for path in target.parent.iterdir()] == ["net.mtlpackage"]
    (call,) = calls_of(tool)
    assert call[:3] == ["-ml", str(package.path), "-o"]
    assert len(call) == 4
    assert Path(call[3]).name == "net.mtlpackage"


def test_what_is_the_same_keeps_its_time(
    package: Package, ready: Path, tool: Path, tmp_path: Path
) -> None:
    write_tool(tool, copying(ready))
    target = tmp_path / "net.mtlpackage"
    build(package, tool, target)
    file = target / "manifest.json"
    os.utime(file, (1, 1))
    assert build(package, tool, target).unchanged
    assert file.stat().st_mtime == 1
    (ready / "library.mpsgraphpackage/model_0.mpsgraph").write_bytes(b"another")
    assert not build(package, tool, target).unchanged
    assert tree_hash(target) == tree_hash(ready)


def test_the_target_system_is_passed_on(
    package: Package, ready: Path, tool: Path, tmp_path: Path
) -> None:
    write_tool(tool, copying(ready))
    build(package, tool, tmp_path / "net.mtlpackage", BuildOptions(target_os="ios26.0"))
    assert calls_of(tool)[0][-2:] == ["--mtargetos", "ios26.0"]


FAILURES = {
    # as measured: exit 0 after an error, and nothing there
    "an error": (
        'echo "error: Failed to read model package at x. Error: valid manifest does not exist" >&2',
        ["metal-package-builder: error: Failed to read model package", "no .mlmodelc"],
    ),
    "an error, and a folder": ('mkdir "$4"; echo "error: out of luck" >&2', ["out of luck"]),
    "nothing": ("exit 0", ["made no Metal package of net.mlpackage"]),
    "a word on stdout": ('echo "cannot do it"; exit 3', ["metal-package-builder: cannot do it"]),
    "a crash": ("kill -SEGV $$", ["made no Metal package of net.mlpackage; it was ended by"]),
    "a file": ('echo x > "$4"', ["made no Metal package"]),
    "an unknown operation": ('echo "error: can\'t lower sin" >&2', ["split the model at that"]),
    "many words": (
        'for i in $(seq 1 100); do echo "line $i" >&2; done; echo "error: end" >&2',
        ["metal-package-builder: line 82", "metal-package-builder: error: end"],
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_leave_what_was_there(
    name: str, package: Package, ready: Path, tool: Path, tmp_path: Path
) -> None:
    script, parts = FAILURES[name]
    target = tmp_path / "build/net.mtlpackage"
    write_tool(tool, copying(ready))
    build(package, tool, target)
    before = tree_hash(target)
    write_tool(tool, script)
    with pytest.raises(UnsupportedModel) as caught:
        build(package, tool, target)
    text = str(caught.value)
    assert all(part in text for part in parts), text
    assert "line 81" not in text
    assert tree_hash(target) == before
    assert [path.name for path in target.parent.iterdir()] == ["net.mtlpackage"]


def test_a_package_that_is_not_whole(package: Package, tool: Path, tmp_path: Path) -> None:
    write_tool(tool, 'mkdir "$4"; echo "Created metal package $4"')
    target = tmp_path / "build/net.mtlpackage"
    with pytest.raises(DamagedFile) as caught:
        build(package, tool, target)
    first, second = str(caught.value).splitlines()
    assert first == (
        "metal-package-builder was not done: net.mtlpackage is not a Metal package: "
        "it has no manifest.json"
    )
    assert second.strip().startswith("metal-package-builder: Created metal package")
    assert not target.parent.exists()


def test_a_reflection_that_differs_is_not_put_in_place(
    package: Package, tool: Path, tmp_path: Path
) -> None:
    function = reflected(layout_manifest(package))
    x = replace(function.inputs[0], mps_data_type=MPS_DATA_TYPES["float16"])
    other = write_metal_package(tmp_path / "other", [replace(function, inputs=(x,))])
    write_tool(tool, copying(other))
    target = tmp_path / "net.mtlpackage"
    built = build(package, tool, target)
    assert [item.code for item in built.findings] == ["tensor-type"]
    assert not built.passed
    assert not target.exists()


def test_a_reflection_that_cannot_be_read_is_put_in_place(
    package: Package, ready: Path, tool: Path, tmp_path: Path
) -> None:
    (ready / "library.mpsgraphpackage/reflection.fb").write_bytes(b"new format")
    write_tool(tool, copying(ready))
    built = build(package, tool, tmp_path / "net.mtlpackage")
    assert [(item.severity, item.code) for item in built.findings] == [
        ("warning", "reflection-unreadable")
    ]
    assert (tmp_path / "net.mtlpackage").is_dir()


def test_remarks_are_findings(package: Package, ready: Path, tool: Path, tmp_path: Path) -> None:
    script = 'echo "2026 warning: opset is new" >&2; echo "loading" >&2; exit 5'
    write_tool(tool, f"{copying(ready)}\n{script}")
    built = build(package, tool, tmp_path / "net.mtlpackage")
    assert [item.message for item in built.findings] == [
        "metal-package-builder made a package that looks whole, but ended with exit code 5",
        "metal-package-builder: 2026 warning: opset is new",
    ]
    assert built.passed


def test_a_tool_without_ml(package: Package, ready: Path, tool: Path, tmp_path: Path) -> None:
    usage = "echo 'unknown option -ml'; echo 'usage: metal-package-builder -o <out> <package>'"
    write_tool(tool, f'if [ "$1" = -ml ]; then {usage} >&2; exit 0; fi\n{copying(ready)}')
    assert build(package, tool, tmp_path / "net.mtlpackage").passed
    first, second = calls_of(tool)
    assert first == ["-ml", *second]


def test_a_usage_text_with_ml_is_an_answer(package: Package, tool: Path, tmp_path: Path) -> None:
    write_tool(tool, "echo 'usage: metal-package-builder [-ml] -o <out> <package>'")
    with pytest.raises(UnsupportedModel, match="usage: metal-package-builder"):
        build(package, tool, tmp_path / "net.mtlpackage")
    assert len(calls_of(tool)) == 1


@pytest.fixture
def path_of_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the programs that a test puts there, before all others."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def mac(monkeypatch: pytest.MonkeyPatch, path_of_tools: Path) -> Path:
    """The same on something that takes itself for a Mac."""
    monkeypatch.setattr(sys, "platform", "darwin")
    return path_of_tools


# What the tool of Xcode 27's Metal toolchain was seen to do: it looks beside its own folder.
LOOKING_FOR_COMPILER = """
here=$(dirname "$0")/../../..
if [ ! -x "$here/XcodeDefault.xctoolchain/usr/bin/coremlcompiler" ]; then
  echo "error: could not find coremlcompiler" >&2
  exit 0
fi
[ -e "$here/Metal.xctoolchain/usr/lib/lib.dylib" ] || exit 0
[ -e "$here/Metal.xctoolchain/System/Library" ] || exit 0
"""


@pytest.fixture
def metal_toolchain(tmp_path: Path, ready: Path) -> Path:
    """The tool of a Metal toolchain that lies by itself."""
    toolchain = tmp_path / "mnt/Metal.xctoolchain"
    (toolchain / "usr/lib").mkdir(parents=True)
    (toolchain / "usr/lib/lib.dylib").touch()
    (toolchain / "System/Library").mkdir(parents=True)
    return write_tool(
        toolchain / "usr/bin/metal-package-builder", LOOKING_FOR_COMPILER + copying(ready)
    )


def test_a_tool_that_does_not_find_the_compiler(
    package: Package, metal_toolchain: Path, path_of_tools: Path, tmp_path: Path
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    compiler = write_tool(tmp_path / "Xcode/XcodeDefault.xctoolchain/usr/bin/coremlcompiler", "")
    write_tool(
        path_of_tools / "xcrun",
        f'[ "$*" = "--toolchain XcodeDefault --find coremlcompiler" ] && echo "{compiler}"',
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(temporary))
        built = build(package, metal_toolchain, tmp_path / "net.mtlpackage")
    assert (built.passed, built.findings) == (True, ())
    assert len(calls_of(metal_toolchain)) == 2
    assert list(temporary.iterdir()) == []


def test_no_compiler_at_all(
    package: Package, metal_toolchain: Path, path_of_tools: Path, tmp_path: Path
) -> None:
    write_tool(path_of_tools / "xcrun", 'echo "xcrun: error: no such utility" >&2; exit 72')
    with pytest.raises(MissingDevice) as caught:
        build(package, metal_toolchain, tmp_path / "net.mtlpackage")
    text = str(caught.value)
    assert "did not find coremlcompiler, nor is it in Xcode's default toolchain" in text
    assert "xcrun --toolchain XcodeDefault --find coremlcompiler: xcrun: error: no such" in text


def test_a_tool_that_hangs_is_ended_with_what_it_started(
    package: Package, tool: Path, tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    write_tool(tool, f'sleep 300 & echo $! > "{pid}"; echo "compiling" >&2; wait')
    started = time.monotonic()
    with pytest.raises(UnsupportedModel) as caught:
        build(package, tool, tmp_path / "net.mtlpackage", BuildOptions(timeout=1.0))
    assert time.monotonic() - started < 20
    text = str(caught.value)
    assert "was not done with net.mlpackage within 1 seconds" in text
    assert "metal-package-builder: compiling" in text
    assert "--timeout SECONDS" in text
    assert wait_for_end(int(pid.read_text()))
    assert not (tmp_path / "net.mtlpackage").exists()


def wait_for_end(pid: int) -> bool:
    """Whether a process is gone, or soon is."""
    for _ in range(100):
        state = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True
        ).stdout.strip()
        if not state or state.startswith("Z"):
            return True
        time.sleep(0.05)
    return False


def test_an_interrupt_ends_the_tool(package: Package, tool: Path, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    # only once the process is known: an interrupt while it is being made cannot reach it
    write_tool(tool, f'echo $$ > "{pid}"; sleep 1; kill -INT {os.getpid()}; sleep 300')
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            build(package, tool, tmp_path / "build/net.mtlpackage")
    finally:
        signal.signal(signal.SIGINT, before)
    assert wait_for_end(int(pid.read_text()))
    assert not (tmp_path / "build").exists()


def test_a_tool_that_is_no_program(package: Package, tool: Path, tmp_path: Path) -> None:
    tool.parent.mkdir(parents=True)
    tool.write_bytes(b"\0\1\2 of no machine")
    tool.chmod(0o755)
    with pytest.raises(MissingDevice, match="cannot be run: Exec format error"):
        build(package, tool, tmp_path / "net.mtlpackage")


def test_a_name_that_the_loader_refuses(package: Package, tool: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has to end in \.mtlpackage"):
        build(package, tool, tmp_path / "net.metal")


def test_the_given_tool_is_taken_anywhere(tool: Path) -> None:
    write_tool(tool, "")
    assert find_builder(tool) == Builder(tool, "--builder")


@pytest.mark.parametrize("kind", ["missing", "a folder", "no program"])
def test_a_given_tool_that_is_none(tool: Path, kind: str) -> None:
    tool.parent.mkdir(parents=True)
    if kind == "a folder":
        tool.mkdir()
    elif kind == "no program":
        tool.write_text("x")
    with pytest.raises(UsageError) as caught:
        find_builder(tool)
    assert ("does not exist" if kind == "missing" else "is not a program") in str(caught.value)


def test_elsewhere_it_needs_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(MissingDevice, match="needs a Mac with Xcode 26"):
        find_builder()


def test_xcode_26_has_it_in_its_toolchain(mac: Path, tmp_path: Path) -> None:
    write_tool(mac / "xcode-select", f'[ "$*" = -p ] && echo "{tmp_path}/Developer"')
    below = "Developer/Toolchains/XcodeDefault.xctoolchain/usr/bin/metal-package-builder"
    tool = write_tool(tmp_path / below, "")
    assert find_builder() == Builder(tool, "xcode-select -p")


@pytest.mark.parametrize("arguments", ["--find", "--toolchain Metal --find"])
def test_xcode_27_has_it_elsewhere(mac: Path, tmp_path: Path, arguments: str) -> None:
    tool = write_tool(tmp_path / "mnt/Metal.xctoolchain/usr/bin/metal-package-builder", "")
    write_tool(mac / "xcode-select", f'echo "{tmp_path}/Developer"')
    write_tool(
        mac / "xcrun",
        f'[ "$*" = "{arguments} metal-package-builder" ] && echo "{tool}" && exit 0\n'
        'echo "xcrun: error: unable to find utility" >&2; exit 72',
    )
    assert find_builder() == Builder(tool, f"xcrun {arguments} metal-package-builder")


def test_no_tool_anywhere_names_the_places(mac: Path, tmp_path: Path) -> None:
    write_tool(mac / "xcode-select", f'echo "{tmp_path}/CommandLineTools"')
    write_tool(mac / "xcrun", 'echo "xcrun: error: unable to find utility" >&2; exit 72')
    with pytest.raises(MissingDevice) as caught:
        find_builder()
    text = str(caught.value)
    assert f"xcode-select -p: there is no {tmp_path}/CommandLineTools/Toolchains" in text
    assert "xcrun --find metal-package-builder: xcrun: error: unable to find utility" in text
    assert "xcrun --toolchain Metal --find metal-package-builder: xcrun: error" in text
    assert "install Xcode 26" in text
    assert "xcodebuild -downloadComponent MetalToolchain" in text


def test_without_a_selected_xcode_xcrun_is_not_asked(mac: Path) -> None:
    write_tool(mac / "xcode-select", 'echo "xcode-select: error: no developer tools" >&2; exit 2')
    xcrun = write_tool(mac / "xcrun", "")
    with pytest.raises(MissingDevice, match="xcode-select -p: xcode-select: error: no developer"):
        find_builder()
    assert calls_of(xcrun) == []


def test_a_lookup_that_hangs(mac: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOKUP_TIMEOUT", 0.2)
    write_tool(mac / "xcode-select", "sleep 300")
    with pytest.raises(MissingDevice, match=r"xcode-select -p: no answer within 0\.2 seconds"):
        find_builder()
