"""What a report was made with, and the commands that make it again."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence

from metal4conv import __version__
from metal4conv.mil.package import Package
from metal4conv.report import Report
from metal4conv.verify.expectation import package_sha256
from metal4conv.verify.golden import installed_versions

PACKAGES = (
    *("coremltools", "keras", "numpy", "onnx", "onnxruntime", "pyobjc-framework-Metal"),
    *("tensorflow", "tensorflow-cpu", "torch"),
)
"""Those whose versions may change a verdict."""


def environment(package: Package | None) -> list[tuple[str, str]]:
    """Versions and platform; nothing that names the machine or its user."""
    rows = [
        ("metal4conv", __version__),
        ("Python", platform.python_version()),
        ("platform", f"{system()}, {platform.machine()}"),
    ]
    rows += list(installed_versions(*PACKAGES).items())
    if package is not None:
        rows.append(("Core ML specification", str(package.specification_version)))
        if found := package_sha256(package):
            rows.append(("package, SHA-256", found))
    return rows


def system() -> str:
    """The operating system, with the version that Core ML depends on."""
    release = platform.mac_ver()[0]
    return f"macOS {release}" if release else platform.system()


def commands(report: Report, command_line: Sequence[str]) -> list[tuple[str, str]]:
    """Commands, each with what it is for."""
    package = shlex.quote(str(report.data["package"]))
    rows = [("this report", shlex.join(command_line))]
    if "shader" in report.data:
        return [*rows, ("what is bound where", f"metal4conv layout {package}")]
    if report.kind == "verify":
        rows.append(
            (
                "the error of each operation, where SOURCE is the source model",
                f"metal4conv debug {package} --against SOURCE",
            )
        )
    rows.append(("what is in the package", f"metal4conv inspect {package}"))
    return rows
