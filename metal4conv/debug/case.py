"""A part of a package on disk, with what it is fed with and what it should give.

Beside `NAME.mlpackage` stand `NAME.inputs.npz` and `NAME.outputs.npz`, by the names of its inputs
and outputs, and the same as golden vectors in `NAME.golden.safetensors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from metal4conv import __version__
from metal4conv.debug.noise import explained_by_rounding
from metal4conv.debug.reference import Reference
from metal4conv.execute.interpreter import Executor
from metal4conv.execute.tracing import write_npz
from metal4conv.mil.cutting import Cut, Part, border_values, cut_package
from metal4conv.mil.dataflow import Dataflow
from metal4conv.mil.package import Package
from metal4conv.outputs import remove
from metal4conv.report import Finding
from metal4conv.verify.depth import float16_depths
from metal4conv.verify.draw import as_golden
from metal4conv.verify.golden import (
    GoldenCase,
    GoldenOrigin,
    golden_path,
    installed_versions,
    write_golden,
)
from metal4conv.verify.tolerance import GivenTolerance
from metal4conv.verify.verdict import CaseResult
from metal4conv.verify.verification import judge_case

SUFFIX = ".mlpackage"


@dataclass(frozen=True)
class Case:
    """A part with its inputs and its expected outputs, by feature.

    `rounded` names inputs that are right values as the package rounds them.
    """

    part: Part
    inputs: Mapping[str, np.ndarray]
    expected: Mapping[str, np.ndarray]
    rounded: frozenset[str] = frozenset()

    @property
    def package(self) -> Path:
        """The package's folder."""
        return self.part.package.path

    @property
    def golden(self) -> GoldenCase:
        """The same as a golden case."""
        outputs = {name: as_golden(array) for name, array in self.expected.items()}
        return GoldenCase(self.inputs, {}, outputs)


def inputs_path(package: Path) -> Path:
    """Where the inputs of a case are.

    >>> inputs_path(Path("out/cut.mlpackage")).name
    'cut.inputs.npz'
    """
    return package.with_name(f"{package.name.removesuffix(SUFFIX)}.inputs.npz")


def outputs_path(package: Path) -> Path:
    """Where the expected outputs of a case are."""
    return package.with_name(f"{package.name.removesuffix(SUFFIX)}.outputs.npz")


def verify_words(package: Path, given: GivenTolerance | None = None) -> list[str]:
    """The command that compares a case with its golden vectors."""
    options = [
        word
        for name, value in vars(given or GivenTolerance()).items()
        if value is not None
        for word in (f"--{name.replace('_', '-')}", f"{value:g}")
    ]
    return ["metal4conv", "verify", str(package), *options]


def remove_case(package: Path) -> None:
    """Deletes a case's files."""
    for path in (package, inputs_path(package), outputs_path(package), golden_path(package)):
        remove(path)


def write_case(
    folder: Path,
    name: str,
    package: Package,
    flow: Dataflow,
    cut: Cut,
    reference: Reference,
    shapes: Mapping[str, tuple[int, ...]],
) -> Case:
    """Cuts a part and writes its files over what is there."""
    path = folder / f"{name}{SUFFIX}"
    remove(path)
    fed = reference.feeds(border_values(flow, cut))
    part = cut_package(package, cut, fed, path, shapes=shapes, function=flow.function.name)
    types = {item.name: item.type.dtype for item in part.package.interface().inputs}
    inputs = {
        feature: fed[value].astype(types[feature], copy=False)
        for feature, value in part.inputs.items()
    }
    given = {value.name for value in flow.function.inputs}
    rounded = frozenset(
        feature
        for feature, value in part.inputs.items()
        if reference.is_recorded and value not in given
    )
    case = Case(part, inputs, reference.expected(part, inputs), rounded)
    write_npz(inputs_path(path), case.inputs)
    write_npz(outputs_path(path), case.expected)
    write_golden(golden_path(path), [case.golden], golden_origin(package, name))
    return case


def golden_origin(package: Package, name: str, sha256: str = "") -> GoldenOrigin:
    """Where the golden vectors of a part come from."""
    return GoldenOrigin(name, sha256, f"a part of {package.path.name}", "", versions(), None)


@cache
def versions() -> dict[str, str]:
    """The versions that golden vectors name; to look them up takes longer than to cut."""
    return {"metal4conv": __version__, **installed_versions("numpy", "torch")}


def judge(case: Case, given: GivenTolerance | None = None) -> CaseResult:
    """What the part gives on this machine beside what it should give, as `verify` judges it."""
    executor = Executor.from_package(case.part.package)
    actual = executor.predict_arrays(case.inputs)
    depths = float16_depths(case.part.package.function())
    return judge_case("case0", case.golden, actual, depths, given or GivenTolerance())


def failures(case: Case, given: GivenTolerance | None = None) -> list[Finding]:
    """What is wrong with a part on this machine, but for what its rounded inputs explain."""
    result = judge(case, given)
    found = [item for item in result.findings if item.severity == "failure"]
    if not found or not case.rounded:
        return found
    package, expected = case.part.package, case.expected
    explained = explained_by_rounding(package, case.inputs, case.rounded, expected, result.actual)
    return [item for item in found if (item.where or "").partition("/")[2] not in explained]
