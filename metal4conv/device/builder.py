"""Making `.mtlpackage` folders with Apple's metal-package-builder.

What is known of the tool comes from its use by others, since Apple documents one command line only.
Its exit status says nothing (it was 0 after an error), so what it made is looked at.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from metal4conv.device.mtlpackage import (
    SUFFIX,
    MetalPackage,
    check_against,
    read_metal_package,
)
from metal4conv.device.suitability import USUAL_OPSET
from metal4conv.errors import DamagedFile, MissingDevice, UnsupportedModel, UsageError
from metal4conv.layout.document import LayoutManifest
from metal4conv.mil.package import Package
from metal4conv.outputs import remove, staged
from metal4conv.report import Finding

TOOL = "metal-package-builder"
COMPILER = "coremlcompiler"

TIMEOUT = 1800.0
"""Seconds for the tool; large networks take minutes."""

LOOKUP_TIMEOUT = 60.0
"""Seconds for xcrun, which searches all of Xcode when it is first asked."""

LAST_LINES = 20
"""Lines of what the tool printed that an error shows."""

LAST_BYTES = 1 << 16

HINTS = (
    ("valid manifest does not exist", "the tool takes .mlpackage folders, no .mlmodelc"),
    ("failed to read model package", "the tool takes .mlpackage folders, no .mlmodelc"),
    (COMPILER, "install Xcode itself beside the Metal toolchain, and see xcode-select -p"),
    ("can't lower", "split the model at that operation, or write it in another way"),
    ("mtargetos", "see which systems the tool knows, and name one: --target-os macos26.0"),
    ("no space left", "the tool works in the temporary folder (TMPDIR)"),
)
"""Words of the tool, in small letters, and what to do about them."""


@dataclass(frozen=True)
class Builder:
    """The tool, and how it was found."""

    path: Path
    found_with: str


@dataclass(frozen=True)
class BuildOptions:
    """`target_os` is for the tool's `--mtargetos`: `macos26.0`, `ios26.0`; `timeout` in seconds."""

    target_os: str | None = None
    timeout: float = TIMEOUT


@dataclass(frozen=True)
class Built:
    """A Metal package at its place; with a failure among the findings, it was not put there."""

    package: MetalPackage
    findings: tuple[Finding, ...]
    unchanged: bool = False

    @property
    def passed(self) -> bool:
        """Whether the package is there."""
        return all(finding.severity != "failure" for finding in self.findings)


@dataclass(frozen=True)
class Said:
    """What a command printed, its last part; `code` is None when its time was up."""

    code: int | None
    stdout: str
    stderr: str
    started: bool = True


def find_builder(given: Path | None = None) -> Builder:
    """The tool: the one that is given, or that of the selected Xcode.

    `MissingDevice` names where it was looked for. Xcode 26 has it in its own toolchain, Xcode 27 in
    the Metal toolchain, which is installed separately.
    """
    if given is not None:
        return Builder(checked_tool(given), "--builder")
    if not is_mac():
        raise MissingDevice(
            f"making a Metal package needs a Mac with Xcode 26: {TOOL} is part of it",
            hint="run metal4conv package there; the Core ML package can be made anywhere",
        )
    failed: list[str] = []
    for command, below in lookups():
        said = run_tool(command, LOOKUP_TIMEOUT)
        found = Path(said.stdout.strip()) / below
        if said.code == 0 and said.stdout.strip() and is_tool(found):
            return Builder(found, " ".join(command))
        failed.append(lookup_failure(command, said, found))
        if command[0] == "xcode-select" and said.code != 0:
            break  # without a selected Xcode, xcrun opens a window that offers to install it
    raise MissingDevice(
        f"{TOOL} was not found",
        where=failed,
        hint="install Xcode 26 and select it with xcode-select -s; with Xcode 27 also: "
        "xcodebuild -downloadComponent MetalToolchain; or name the tool with --builder",
    )


def is_mac() -> bool:
    """Whether this is macOS, the only system with the tool."""
    return sys.platform == "darwin"


def lookups() -> Iterator[tuple[Sequence[str], str]]:
    """Commands that print a path, and where the tool is below it."""
    yield ("xcode-select", "-p"), f"Toolchains/XcodeDefault.xctoolchain/usr/bin/{TOOL}"
    yield ("xcrun", "--find", TOOL), ""
    yield ("xcrun", "--toolchain", "Metal", "--find", TOOL), ""


def lookup_failure(command: Sequence[str], said: Said, found: Path) -> str:
    """Why a lookup gave no tool."""
    words = " ".join(command)
    if said.code == 0:
        return f"{words}: there is no {found}"
    if said.code is None:
        return f"{words}: no answer within {LOOKUP_TIMEOUT:g} seconds"
    printed = (said.stderr.strip() or said.stdout.strip()).splitlines()
    return f"{words}: {printed[0] if printed else f'exit code {said.code}'}"


def checked_tool(path: Path) -> Path:
    """The path of `--builder`; `UsageError` when it is no program."""
    if not is_tool(path):
        reason = "is not a program" if path.exists() else "does not exist"
        raise UsageError(
            f"{path} {reason}", where="--builder", hint=f"name {TOOL} itself, with its folder"
        )
    return path.absolute()


def is_tool(path: Path) -> bool:
    """Whether a path is a file that can be run."""
    return path.is_file() and os.access(path, os.X_OK)


def build_metal_package(
    package: Package,
    manifest: LayoutManifest,
    target: Path,
    builder: Builder,
    options: BuildOptions | None = None,
) -> Built:
    """Makes the Metal package `target` of a Core ML package, and compares it with the manifest.

    It appears when all is well, and keeps its time stamps when it is as before. What was there
    stays when the tool fails (`UnsupportedModel`) or the reflection differs (failures among the
    findings).
    """
    if target.suffix != SUFFIX:
        raise UsageError(f"{target} is no name for a Metal package: it has to end in {SUFFIX}")
    with staged(target.parent) as stage:
        aside = stage.path(target.name)
        built = build_into(package, manifest, aside, builder, options or BuildOptions())
    library = target / built.package.library.relative_to(aside)
    moved = replace(built.package, path=target, library=library)
    return replace(built, package=moved, unchanged=target in stage.unchanged)


def build_into(
    package: Package,
    manifest: LayoutManifest,
    target: Path,
    builder: Builder,
    options: BuildOptions,
) -> Built:
    """The same in a folder that is not yet the outputs'; nothing is left at `target` on failure."""
    try:
        said = run_builder(builder, package.path.absolute(), target.absolute(), options)
        check_said(builder, package, target, said, options)
        try:
            metal = read_metal_package(target)
        except DamagedFile as error:
            reason = error.message.replace(str(target), target.name)
            raise quoting(DamagedFile(f"{TOOL} was not done: {reason}"), said) from None
        built = Built(metal, (*said_findings(said), *check_against(manifest, metal)))
    except BaseException:
        remove(target)
        raise
    if not built.passed:
        remove(target)
    return built


def run_builder(builder: Builder, source: Path, target: Path, options: BuildOptions) -> Said:
    """Runs the tool in the ways in which it was seen to work, until one makes something.

    Apple writes `-ml`; a tool whose usage text does not have it is run without. A tool that does
    not find Core ML's compiler is run from where it would.
    """
    rest = [str(source), "-o", str(target)]
    rest += [] if options.target_os is None else ["--mtargetos", options.target_os]
    flags = ["-ml"]
    said = run_tool([str(builder.path), *flags, *rest], options.timeout)
    if not target.exists() and lacks_flag(said):
        flags = []
        said = run_tool([str(builder.path), *rest], options.timeout)
    if f"could not find {COMPILER}" in said.stderr:
        with beside_compiler(builder) as moved:
            remove(target)
            said = run_tool([str(moved), *flags, *rest], options.timeout)
    return said


def lacks_flag(said: Said) -> bool:
    """Whether the tool printed a usage text without `-ml`."""
    for text in (said.stderr, said.stdout):
        _, usage, rest = text.lower().partition("usage")
        if usage:
            return "-ml" not in rest
    return False


@contextmanager
def beside_compiler(builder: Builder) -> Iterator[Path]:
    """A copy of the tool in a folder like Xcode's own, removed afterwards.

    The Metal toolchain of Xcode 27 lies elsewhere than Xcode's default toolchain; its tool looks
    for `XcodeDefault.xctoolchain` beside its own folder. Measured by others on betas.
    """
    toolchain = builder.path.resolve().parent.parent.parent
    with tempfile.TemporaryDirectory(prefix="metal4conv-toolchains-") as folder:
        metal = Path(folder) / "Metal.xctoolchain"
        (metal / "usr/bin").mkdir(parents=True)
        moved = metal / "usr/bin" / builder.path.name
        shutil.copy2(builder.path, moved)
        (metal / "usr/lib").symlink_to(toolchain / "usr/lib")
        (metal / "System").symlink_to(toolchain / "System")
        (Path(folder) / "XcodeDefault.xctoolchain").symlink_to(default_toolchain())
        yield moved


def default_toolchain() -> Path:
    """Xcode's default toolchain, which has Core ML's compiler."""
    command = ("xcrun", "--toolchain", "XcodeDefault", "--find", COMPILER)
    said = run_tool(command, LOOKUP_TIMEOUT)
    compiler = Path(said.stdout.strip())
    if said.code == 0 and is_tool(compiler):
        return compiler.parent.parent.parent
    raise MissingDevice(
        f"{TOOL} did not find {COMPILER}, nor is it in Xcode's default toolchain",
        where=lookup_failure(command, said, compiler),
        hint="install Xcode itself beside the Metal toolchain, and select it with xcode-select -s",
    )


def run_tool(command: Sequence[str], timeout: float) -> Said:
    """Runs a command to its end, or ends it and what it started when `timeout` seconds are over."""
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,  # a process group of its own
            )
        except OSError as error:
            text = f"{command[0]} cannot be run: {error.strerror}"
            return Said(127, "", text, started=False)
        code: int | None = None
        try:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(timeout)
        finally:
            end(process)
        return Said(code, last_part(stdout), last_part(stderr))


def end(process: subprocess.Popen[bytes]) -> None:
    """Ends a process that still runs, with all that it started."""
    if process.poll() is None:
        with suppress(ProcessLookupError, PermissionError):  # it ended just now
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_part(handle: IO[bytes]) -> str:
    """The end of what was written to a file."""
    handle.seek(0, os.SEEK_END)
    handle.seek(max(0, handle.tell() - LAST_BYTES))
    return handle.read().decode("utf-8", "replace")


def check_said(
    builder: Builder, package: Package, target: Path, said: Said, options: BuildOptions
) -> None:
    """`UnsupportedModel` unless the tool made a folder and printed no error."""
    if not said.started:
        raise MissingDevice(
            said.stderr, where=builder.found_with, hint="name another one with --builder"
        )
    if said.code is None:
        raise quoting(
            UnsupportedModel(
                f"{TOOL} was not done with {package.path.name} within {options.timeout:g} seconds",
                where=str(builder.path),
                hint="give it more time: --timeout SECONDS",
            ),
            said,
        )
    if target.is_dir() and "error:" not in said.stderr.lower():
        return
    ended = f"; it was ended by signal {-said.code}" if said.code < 0 else ""
    raise quoting(
        UnsupportedModel(
            f"{TOOL} made no Metal package of {package.path.name}{ended}",
            where=str(builder.path),
            hint=hint_of(said, package),
        ),
        said,
    )


def hint_of(said: Said, package: Package) -> str | None:
    """What to do about the tool's words, or about its silence."""
    text = f"{said.stderr}\n{said.stdout}".lower()
    for words, hint in HINTS:
        if words in text:
            return hint
    if package.function().opset_version > USUAL_OPSET:
        return "a builder of an Xcode 27 beta crashed on newer operations: convert with iOS18"
    return None


def quoting(error: UnsupportedModel | DamagedFile, said: Said) -> UnsupportedModel | DamagedFile:
    """The error, with the last lines that the tool printed."""
    printed = said.stderr.strip() or said.stdout.strip()
    for line in printed.splitlines()[-LAST_LINES:]:
        error.add_note(f"{TOOL}: {line.rstrip()}")
    return error


def said_findings(said: Said) -> Iterator[Finding]:
    """What the tool remarked on a package that it made all the same."""
    if said.code:
        yield Finding(
            "warning",
            "builder-exit-code",
            f"{TOOL} made a package that looks whole, but ended with exit code {said.code}",
            hint="verify it on a device",
        )
    for line in said.stderr.splitlines():
        if "warning:" in line.lower():
            yield Finding("warning", "builder-warning", f"{TOOL}: {line.strip()}")
