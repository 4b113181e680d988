"""Where a shader's network comes from: a source model, or a package; with cases to prove it by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from metal4conv.assembly import (
    GoldenOptions,
    check_name,
    golden_cases,
    make_package,
    wanted_outputs,
)
from metal4conv.errors import UsageError
from metal4conv.execute.interpreter import Executor
from metal4conv.frontends.source import LoweringRequest, ModelSource
from metal4conv.layout.emit.identifiers import C_WORDS, plain
from metal4conv.mil.package import Package, read_package
from metal4conv.report import Finding
from metal4conv.shader.network import Network
from metal4conv.shader.reading import read_network
from metal4conv.verify.draw import draw_cases, golden_origin
from metal4conv.verify.expectation import package_inputs
from metal4conv.verify.given import cases_from_npz
from metal4conv.verify.golden import GoldenCase, GoldenOrigin, golden_path, read_golden

Say = Callable[[str], None]
Predict = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]

REQUEST = LoweringRequest(precision="float32", io_precision="float32")
"""The program that a shader is read from keeps all bits; the shader's precision is its own."""


@dataclass(frozen=True)
class Given:
    """A network with cases to prove its shader by: of a source model, or of a package.

    `predict` gives the outputs of the same model for other inputs.
    """

    network: Network
    framework: str
    kind: str
    origin: GoldenOrigin
    cases: tuple[GoldenCase, ...]
    predict: Predict
    files: tuple[Path, ...]
    findings: tuple[Finding, ...]


def given_source(
    source: ModelSource,
    name: str | None,
    output_names: Sequence[str],
    golden: GoldenOptions,
    work: Path,
    say: Say,
) -> Given:
    """The network of a source model; its package is made in `work` and not kept."""
    stem = name or source.name
    check_name(stem)
    names = wanted_outputs(source, output_names)
    say("converting")
    request = replace(REQUEST, output_names=names)
    made = make_package(source, request, work / "net.mlpackage", work / "files")
    network = read_network(
        made.package.function(None), identifier(stem), made.package.interface(None)
    )
    say("running the source model")
    drawn, cases = golden_cases(source, made, golden, names)
    renamed = dict(zip(source.outputs, names, strict=True))

    def predict(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {renamed[key]: array for key, array in source.predict(inputs).items()}

    return Given(
        network=network,
        framework=source.framework,
        kind=source.kind,
        origin=golden_origin(source, stem, "", golden.seed if golden.inputs_npz is None else None),
        cases=cases,
        predict=predict,
        files=(),
        findings=(*source.findings, *made.lowered.findings, *drawn.findings),
    )


def given_package(
    path: Path, name: str | None, function: str | None, golden: GoldenOptions
) -> Given:
    """The network of a package, with the golden vectors beside it; without any, what the MIL
    executor gives.
    """
    package = read_package(path)
    stem = name or path.name.removesuffix(".mlpackage")
    check_name(stem)
    network = read_network(
        package.function(function), identifier(stem), package.interface(function)
    )

    @cache
    def opened() -> Executor:
        return Executor.from_package(package, function)

    def predict(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        executor = opened()
        held = {
            key: array.astype(executor.inputs[key].dtype) if array.dtype.kind == "f" else array
            for key, array in inputs.items()
        }
        return executor.predict(held)

    beside = golden_path(path)
    if golden.inputs_npz is None and function is None and beside.is_file():
        found = read_golden(beside)
        return Given(
            network, "package", "mlpackage", replace(found.origin, package=stem), found.cases,
            predict, (beside,), (),
        )  # fmt: skip
    cases, findings = drawn_cases(package, function, golden)
    cases = tuple(replace(case, outputs=predict(case.inputs)) for case in cases)
    origin = GoldenOrigin(stem, source=f"package {path.name}, MIL executor", seed=golden.seed)
    return Given(network, "package", "mlpackage", origin, cases, predict, (), findings)


def drawn_cases(
    package: Package, function: str | None, golden: GoldenOptions
) -> tuple[tuple[GoldenCase, ...], tuple[Finding, ...]]:
    """Inputs for a package that came without golden vectors."""
    interface = package.interface(function)
    taken = package_inputs(interface)
    if golden.inputs_npz is not None:
        drawn = cases_from_npz(Path(golden.inputs_npz), taken, interface.dimensions)
    else:
        drawn = draw_cases(
            taken, interface.dimensions, seed=golden.seed, limit_bytes=golden.limit_bytes
        )
    return drawn.cases, drawn.findings


def refuse_for_packages(
    inputs: Iterable[str],
    dims: Iterable[str],
    output_names: Sequence[str],
    weights: str | Path | None,
    signature: str | None,
) -> None:
    """`UsageError` for options that describe a source model, beside a package."""
    given = {
        "-i": list(inputs),
        "--dim": list(dims),
        "--output": list(output_names),
        "--weights": weights,
        "--signature": signature,
    }
    for option, value in given.items():
        if value:
            raise UsageError(
                f"{option} does not go with a package, which has its inputs, outputs and weights",
                where=option,
                hint="leave it out, or name the model that the package was converted from",
            )


def identifier(name: str) -> str:
    """What names in the source begin with.

    >>> identifier("Neural Material 2"), identifier("half"), identifier("…")
    ('Neural_Material_2', 'half_net', 'net')
    """
    found = plain(name) or "net"
    return f"{found}_net" if found in C_WORDS.split() else found
