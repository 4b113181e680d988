"""Verification on another machine: what goes along, and the report that comes back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metal4conv.device.mtlpackage import metal_package_beside
from metal4conv.device.remote import REMOTE_COMMAND, verify_remotely
from metal4conv.errors import UsageError
from metal4conv.layout.document import MANIFEST_SUFFIX
from metal4conv.mil.package import read_package
from metal4conv.report import Finding, Report
from metal4conv.shader.document import MANIFEST_SUFFIX as SHADER_SUFFIX
from metal4conv.shader.manifest import check_files, read_manifest
from metal4conv.verify.golden import golden_path
from metal4conv.verify.shader import shader_golden


def verify_on_host(
    host: str,
    path: str | Path,
    *,
    on: str = "metal",
    golden: str | Path | None = None,
    options: Mapping[str, object] | None = None,
    metal_package: Path | None = None,
    remote_command: str = REMOTE_COMMAND,
    **connection: Any,  # Any: what verify_remotely takes
) -> Report:
    """The report of `metal4conv verify` on `host`, for a package of this machine.

    Package, golden vectors, manifest and, where there is one, the Metal package are copied there.
    `options` are further options of the command by name, such as `{"--backing": "both"}`; True
    stands for a flag, False and None for one that is left out. A shader's manifest goes with the
    files that were written with it.
    """
    if str(path).endswith(SHADER_SUFFIX):
        beside = shader_beside(Path(path))
        words = option_words(options or {})
        vectors = Path(golden) if golden is not None else shader_golden(Path(path))
        document = verify_remotely(
            host,
            Path(path),
            vectors,
            words,
            on=on,
            beside=beside,
            remote_command=remote_command,
            **connection,
        )
        return report_from_json({**document, "host": host})
    package = read_package(path)
    vectors = Path(golden) if golden is not None else golden_path(package.path)
    if not vectors.exists():
        raise UsageError(
            f"there are no golden vectors {vectors}",
            where="--golden",
            hint="they go to the other machine instead of the source model: convert the model "
            "again, or name them",
        )
    manifest = package.path.with_name(package.path.stem + MANIFEST_SUFFIX)
    beside = [manifest] if manifest.exists() else []
    arguments = option_words(options or {})
    built = metal_package or metal_package_beside(package.path)
    if on == "metal" and (metal_package is not None or built.exists()):
        beside.append(built)
        arguments += ["--mtlpackage", f"./{built.name}"]
    document = verify_remotely(
        host,
        package.path,
        vectors,
        arguments,
        on=on,
        beside=beside,
        remote_command=remote_command,
        **connection,
    )
    return report_from_json({**document, "host": host})


def shader_beside(manifest: Path) -> list[Path]:
    """The files that go with a shader's manifest, which have to be those that it was written
    with."""
    files = check_files(read_manifest(manifest), manifest.parent)
    return [file for file in (files.source, files.weights, files.latents) if file is not None]


def option_words(options: Mapping[str, object]) -> list[str]:
    """Options as words of a command line.

    >>> option_words({"--backing": "both", "--strict": True, "--atol": None, "--repeat": 3})
    ['--backing=both', '--strict', '--repeat=3']
    """
    return [
        name if value is True else f"{name}={value}"
        for name, value in options.items()
        if value is not None and value is not False
    ]


def report_from_json(document: Mapping[str, Any]) -> Report:  # Any: a JSON document
    """The report that `Report.to_json` made."""
    data = dict(document)
    findings = tuple(Finding(**row) for row in data.pop("findings", ()))
    files = tuple(data.pop("files", ()))
    data.pop("passed", None)
    return Report(data.pop("command", "verify"), data, findings, files)
