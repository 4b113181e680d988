"""What a package is compared with: golden vectors, a source model, or nothing but given inputs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from metal4conv.errors import UsageError
from metal4conv.frontends.source import ModelSource, SourceInput
from metal4conv.mil.interface import LAYOUT_KEY, Interface
from metal4conv.mil.package import Package
from metal4conv.report import Finding
from metal4conv.verify.draw import DrawnCases, draw_cases, predict_cases
from metal4conv.verify.given import bind_sizes, cases_from_npz
from metal4conv.verify.golden import Golden, GoldenCase, golden_path, read_golden

HOW_TO_EXPECT = (
    "name one with --golden, compare with the source model by --against, "
    "or give inputs alone with --input"
)


@dataclass(frozen=True)
class Expectation:
    """Cases for a package; `origin` says in words where their outputs come from."""

    cases: tuple[GoldenCase, ...]
    origin: str
    findings: tuple[Finding, ...] = ()

    @property
    def is_comparable(self) -> bool:
        """Whether there are outputs to compare with."""
        return any(case.outputs for case in self.cases)


def find_expectation(
    package: Package,
    function: str | None,
    *,
    golden: Path | None,
    against: ModelSource | None,
    inputs_npz: Path | None,
    seed: int,
) -> Expectation:
    """The cases that the user asks for; golden vectors beside the package without a word."""
    if golden and (against or inputs_npz):
        raise UsageError(
            "golden vectors hold inputs and outputs already", hint="leave --golden out"
        )
    interface = package.interface(function)
    if against:
        return expect_from_source(package, interface, against, inputs_npz, seed)
    if inputs_npz:
        return expect_nothing(interface, inputs_npz)
    path = golden or golden_path(package.path)
    if not path.exists():
        raise UsageError(f"there are no golden vectors {path}", hint=HOW_TO_EXPECT)
    found = read_golden(path)
    check_fingerprint(path, found, package)
    check_names(str(path), found.cases, interface)
    return Expectation(found.cases, f"golden vectors {path}: {found.origin.source}")


def package_sha256(package: Package) -> str | None:
    """The hash of its content that a package carries in its layout manifest; None without one."""
    try:
        return str(json.loads(package.metadata[LAYOUT_KEY])["package"]["sha256"])
    except (KeyError, ValueError, TypeError):
        return None


def check_fingerprint(path: Path, golden: Golden, package: Package) -> None:
    """`UsageError` when golden vectors and package say that they do not belong together."""
    found, wanted = golden.origin.package_sha256, package_sha256(package)
    if found and wanted and found != wanted:
        raise UsageError(
            f"the golden vectors {path} are of another model",
            where=[
                f'golden vectors: package "{golden.origin.package}", SHA-256 {found[:16]}…',
                f"package: {package.path}, SHA-256 {wanted[:16]}…",
            ],
            hint="convert the model again, or name its own golden vectors with --golden",
        )


def check_names(origin: str, cases: Sequence[GoldenCase], interface: Interface) -> None:
    """`UsageError` when the cases do not have the package's inputs, outputs and sizes."""
    for number, case in enumerate(cases):
        for role, given, features in (
            ("input", case.inputs, interface.inputs),
            ("output", case.outputs, interface.outputs),
        ):
            needed = {entry.name for entry in features if not entry.optional}
            if set(given) - {entry.name for entry in features} or needed - set(given):
                raise UsageError(
                    f"{origin} does not fit the package: case {number} has {role}s "
                    f"{', '.join(sorted(given)) or '(none)'}, the package has "
                    f"{', '.join(entry.name for entry in features)}",
                    hint="name the golden vectors of this package with --golden",
                )
        check_sizes(origin, number, case, interface)


def check_sizes(origin: str, number: int, case: GoldenCase, interface: Interface) -> None:
    """`UsageError` when an input of a case has sizes that the package does not take."""
    sizes: dict[str, int] = {}
    for entry in interface.inputs:
        if entry.name not in case.inputs:
            continue
        shape = case.inputs[entry.name].shape
        if shape == () and entry.type.shape == (1,):
            continue
        label = f"case{number}/input/{entry.name}"
        try:
            bind_sizes(
                shape, SourceInput(entry.name, entry.type), sizes, interface.dimensions, label
            )
        except UsageError as error:
            error.add_note(f"in {origin}, which does not fit the package")
            raise


def expect_nothing(interface: Interface, inputs_npz: Path) -> Expectation:
    """The user's inputs, without outputs."""
    drawn = cases_from_npz(inputs_npz, package_inputs(interface), interface.dimensions)
    note = Finding(
        "info",
        "nothing-to-compare",
        "there is no source to compare with: only NaN, infinities and constant outputs are told",
        hint="name the source model with --against",
    )
    return Expectation(drawn.cases, "nothing", (*drawn.findings, note))


def package_inputs(interface: Interface) -> tuple[SourceInput, ...]:
    """The inputs that a package takes by itself."""
    return tuple(
        SourceInput(entry.name, entry.type) for entry in interface.inputs if not entry.optional
    )


def expect_from_source(
    package: Package,
    interface: Interface,
    source: ModelSource,
    inputs_npz: Path | None,
    seed: int,
) -> Expectation:
    """The source's outputs for drawn or given inputs, with the sizes that the package takes."""
    inputs = joined_inputs(package, interface, source)
    dtypes = {entry.name: entry.type.dtype for entry in interface.inputs}
    drawn: DrawnCases
    if inputs_npz:
        drawn = cases_from_npz(inputs_npz, inputs, interface.dimensions, dtypes)
    else:
        drawn = draw_cases(inputs, interface.dimensions, seed=seed, input_dtypes=dtypes)
    names = [entry.name for entry in interface.outputs]
    renamed: dict[str, str] = {}
    if set(names) != set(source.outputs) and len(names) == len(source.outputs):
        renamed = dict(zip(source.outputs, names, strict=True))
    cases = predict_cases(source, drawn.cases, renamed)
    origin = f"{source.framework} {source.kind} {source.name}"
    check_names(origin, cases, interface)
    return Expectation(cases, origin, drawn.findings)


def joined_inputs(
    package: Package, interface: Interface, source: ModelSource
) -> tuple[SourceInput, ...]:
    """The source's inputs with the sizes of the package, which may have been reshaped."""
    shapes = {entry.name: entry.type.shape for entry in interface.inputs}
    joined = []
    for item in source.inputs:
        shape = shapes.get(item.name)
        if shape is None:
            raise UsageError(
                f'the source {source.name} has an input "{item.name}", {package.path} has '
                + ", ".join(shapes),
                where="--against",
                hint="name the model that the package was converted from",
            )
        if item.type.shape == () and shape == (1,):
            shape = ()
        joined.append(replace(item, type=replace(item.type, shape=shape)))
    return tuple(joined)
