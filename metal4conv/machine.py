"""What this machine can do: frontends, ways to verify, and the command that brings the missing."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata

from metal4conv.lazy import install_line, is_installed
from metal4conv.report import Report, as_json

TESTED = {
    "coremltools": "9.0",
    "numpy": "2.3.5",
    "torch": "2.13.0",
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "onnx": "1.23.2",
    "onnxruntime": "1.32.0",
}
"""The versions that the tests run with."""


@dataclass(frozen=True)
class Ability:
    """Something that metal4conv can do on some machines."""

    name: str
    works: bool
    detail: str
    remedy: str | None = None


def examine_machine() -> Report:
    """What works here. Nothing heavy is imported, so a broken package is found only when used."""
    abilities = [*frontends(), *verifiers(), *builders()]
    data = {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "abilities": [as_json(ability) for ability in abilities],
    }
    return Report("doctor", data)


def frontends() -> list[Ability]:
    """The frameworks that models can come from."""
    rows = (
        ("convert from PyTorch", "torch", "torch"),
        ("convert from TensorFlow and Keras", "tensorflow", "tensorflow"),
        ("convert from ONNX", "onnx", "onnx"),
        ("run ONNX models for comparison", "onnxruntime", "onnx"),
    )
    core = package_ability("read and write packages", "coremltools", None)
    return [core, *(package_ability(name, module, extra) for name, module, extra in rows)]


def package_ability(name: str, module: str, extra: str | None) -> Ability:
    """Whether a Python package is installed, and in the version that is tested."""
    if not is_installed(module):
        return Ability(name, False, f"{module} is not installed", install_line(module, extra))
    found = installed_version(module)
    tested = TESTED.get(module)
    fits = tested is None or found.startswith(tested)
    note = "" if fits else f" (tested with {tested})"
    return Ability(name, True, f"{module} {found}{note}")


def installed_version(module: str) -> str:
    """The version of the distribution that brings a module."""
    for name in (module, f"{module}-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "of unknown version"


def verifiers() -> list[Ability]:
    """The ways to run a package."""
    if is_installed("torch"):
        return [Ability("verify --on reference", True, "the MIL executor, on the CPU")]
    line = install_line("torch", "torch")
    return [Ability("verify --on reference", False, "the executor runs on torch", line)]


def builders() -> list[Ability]:
    """The tools that make Metal packages; only macOS has them."""
    name = "metal-package-builder"
    if sys.platform != "darwin":
        return [Ability(name, False, "needs a Mac with Xcode 26", None)]
    if shutil.which("xcrun") is None:
        return [Ability(name, False, "Xcode is not installed", "install Xcode 26")]
    return [Ability(name, True, "looked up with xcrun when it is needed")]
