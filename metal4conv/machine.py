"""What this machine can do: frontends, ways to verify, and the command that brings the missing."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from importlib import metadata

from metal4conv.device.builder import find_builder
from metal4conv.device.metal import check_here
from metal4conv.errors import MissingDependency, MissingDevice
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
        "on_real_hardware": [{"name": name, "ran": text} for name, text in PROVEN],
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
    ways = [("reference", "the MIL executor, on the CPU"), ("emulator", "the Metal 4 emulator")]
    if is_installed("torch"):
        found = [Ability(f"verify --on {name}", True, detail) for name, detail in ways]
    else:
        line = install_line("torch", "torch")
        found = [
            Ability(f"verify --on {name}", False, "the executor runs on torch", line)
            for name, _ in ways
        ]
    return [*found, metal_encoder(), core_ml(), other_machines()]


def metal_encoder() -> Ability:
    """Whether a Metal 4 encoder may be here; the GPU is asked only when something runs."""
    name = "verify --on metal"
    try:
        check_here()
    except (MissingDevice, MissingDependency) as error:
        return Ability(name, False, error.message, error.hint)
    return Ability(name, True, "macOS and PyObjC are here; the GPU is asked when it runs")


def core_ml() -> Ability:
    """Whether Core ML is here."""
    if sys.platform != "darwin":
        return Ability("verify --on coreml", False, "needs a Mac")
    return Ability("verify --on coreml", True, f"macOS {platform.mac_ver()[0]}")


def other_machines() -> Ability:
    """Whether other machines can be reached."""
    found = shutil.which("ssh")
    detail = f"OpenSSH at {found}" if found else "ssh is not installed"
    return Ability("verify --host", found is not None, detail, None if found else "install OpenSSH")


def builders() -> list[Ability]:
    """The tools that make Metal packages; only macOS has them."""
    name = "metal-package-builder"
    try:
        return [Ability(name, True, str(find_builder().path))]
    except MissingDevice as error:
        return [Ability(name, False, error.message, error.hint)]


PROVEN = (
    (
        "verify --on metal",
        "never on a device; every step on the emulator, its selectors against PyObjC 12.2.2 "
        "and Apple's headers",
    ),
    (
        "metal-package-builder",
        "never; calls, failures and work-arounds with stand-ins that do what others measured",
    ),
    ("verify --on coreml", "never; coremltools' own call, tested with a stand-in"),
    (
        "layout --emit",
        "C and C++ compiled and run on Linux; Objective-C parsed by clang, Swift by a grammar; "
        "nothing by Xcode",
    ),
)
"""What of this version has run on real hardware, and how the rest was checked."""
