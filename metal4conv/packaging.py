"""What `package` does: a Metal package of a Core ML package, or a check of one that is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metal4conv.device.builder import (
    Builder,
    BuildOptions,
    build_into,
    build_metal_package,
    find_builder,
    is_mac,
)
from metal4conv.device.mtlpackage import (
    SUFFIX,
    MetalPackage,
    check_against,
    comparison,
    metal_package_beside,
    read_metal_package,
)
from metal4conv.device.suitability import metal_findings, require_suitable
from metal4conv.errors import DamagedFile, MissingDevice, UnsupportedModel, UsageError
from metal4conv.layout.document import LayoutManifest
from metal4conv.layout.manifest import manifest_of
from metal4conv.mil.package import Package, read_package
from metal4conv.outputs import Stage, depfile_text, write_file
from metal4conv.report import Finding, Report

Say = Callable[[str], None]


def package_for_metal(
    path: str | Path,
    *,
    output: str | Path | None = None,
    builder: str | Path | None = None,
    options: BuildOptions | None = None,
    depfile: str | Path | None = None,
    say: Say = lambda text: None,
) -> Report:
    """Makes `NAME.mtlpackage` in the folder `output`, without it beside the package.

    `UnsupportedModel` for what is known not to run, before the tool is looked for; `MissingDevice`
    where there is no tool. A reflection unlike the manifest is a failure, and nothing is written.
    """
    package = read_package(path)
    manifest = manifest_of(package)
    known = metal_findings(package, manifest)
    require_suitable(package.path, known)
    tool = find_builder(None if builder is None else Path(builder))
    usual = metal_package_beside(package.path)
    target = usual if output is None else Path(output) / usual.name
    say(f"building {target}")
    built = build_metal_package(package, manifest, target, tool, options)
    if built.passed and depfile is not None:
        write_file(Path(depfile), depfile_text([target], files_of(package)))
    return Report(
        "package",
        {
            **package_data(package, manifest, built.package),
            "builder": {"path": str(tool.path), "found_with": tool.found_with},
            "unchanged": [str(target)] if built.unchanged else [],
        },
        (*known, *built.findings),
        (str(target),) if built.passed else (),
    )


def check_metal_package(path: str | Path, metal_path: str | Path) -> Report:
    """Compares a Metal package with the layout of the Core ML package that it was made of."""
    package = read_package(path)
    manifest = manifest_of(package)
    metal = read_metal_package(metal_path)
    data = package_data(package, manifest, metal)
    return Report("package", data, check_against(manifest, metal))


def package_data(
    package: Package, manifest: LayoutManifest, metal: MetalPackage
) -> dict[str, Any]:  # Any: a JSON document
    """Both packages, and their tensors side by side."""
    return {
        "package": str(package.path),
        "metal_package": str(metal.path),
        "functions": None if metal.functions is None else [item.name for item in metal.functions],
        "tensors": comparison(manifest, metal),
    }


def files_of(package: Package) -> list[Path]:
    """The files of a package that the tool reads."""
    model = package.model_folder / "model.mlmodel"
    return [package.path / "Manifest.json", model, *package.weight_files()]


@dataclass(frozen=True)
class MetalStep:
    """That a conversion makes a Metal package, too; unless `required`, it is as good without."""

    builder: Builder
    required: bool


def metal_step(wanted: bool | None) -> MetalStep | None:
    """The step of a conversion; None where it is not wanted, or neither asked for nor possible.

    `MissingDevice` where it is wanted and Apple's tool is missing.
    """
    if wanted is False or (wanted is None and not is_mac()):
        return None
    try:
        return MetalStep(find_builder(), wanted is True)
    except MissingDevice:
        if wanted:
            raise
        return None


def add_metal_package(
    stage: Stage,
    package: Package,
    manifest: LayoutManifest,
    step: MetalStep | None,
    say: Say,
) -> tuple[str | None, tuple[Finding, ...]]:
    """Makes a Metal package among the outputs of a conversion: its name, and what was found.

    Where none can be made and none is required, a warning says why.
    """
    if step is None:
        return None, ()
    say("building the Metal package")
    target = stage.path(f"{manifest.package.name}{SUFFIX}")
    try:
        known = metal_findings(package, manifest)
        require_suitable(package.path, known)
        built = build_into(package, manifest, target, step.builder, BuildOptions())
        require_agreement(target.name, built.findings)
    except (UnsupportedModel, DamagedFile, MissingDevice) as error:
        if step.required:
            raise
        return None, (without_metal_package(str(error), stage.target / target.name),)
    return target.name, (*known, *built.findings)


def require_agreement(name: str, findings: tuple[Finding, ...]) -> None:
    """`UnsupportedModel` when the reflection of a new Metal package differs from the manifest."""
    if failures := [item.message for item in findings if item.severity == "failure"]:
        raise UnsupportedModel(f"{name} is not what the manifest says: {'; '.join(failures)}")


def without_metal_package(reason: str, target: Path) -> Finding:
    """The warning of a conversion that could have had a Metal package."""
    hint = "--no-mtlpackage leaves it out, --mtlpackage makes this an error"
    if target.exists():
        hint = f"{target} is there from before, and does not belong to this conversion; {hint}"
    return Finding("warning", "no-metal-package", f"no Metal package was made: {reason}", hint=hint)


def check_options(check: str | None, **building: object) -> None:
    """`UsageError` when options for building are given together with `--check`."""
    given = [f"--{name.replace('_', '-')}" for name, value in building.items() if value is not None]
    if check is not None and given:
        raise UsageError(
            f"--check builds nothing, so {', '.join(given)} cannot go with it", where="--check"
        )
