"""The verdict about a shader: what its functions give beside what the source model gave.

Every entry point runs on every code path. `host` runs what a C++ compiler makes of the source with
headers that stand for Metal's: that proves arithmetic, weights, indices and the use of threads, and
not that Apple's compiler takes the source.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from metal4conv.errors import (
    MissingDependency,
    MissingDevice,
    RejectedShader,
    UsageError,
    did_you_mean,
)
from metal4conv.report import Finding, Report
from metal4conv.shader.compiler import find_compiler
from metal4conv.shader.document import GOLDEN_SUFFIX, MANIFEST_SUFFIX, ShaderManifest
from metal4conv.shader.host import open_shader
from metal4conv.shader.manifest import check_files, read_manifest
from metal4conv.verify.compare import OutputComparison, Problem, compare_outputs
from metal4conv.verify.device import DeviceOptions, require_metal
from metal4conv.verify.golden import GoldenCase, read_golden
from metal4conv.verify.shader_device import Ran, run_on_device
from metal4conv.verify.shader_runs import Rows, Work, layer_count, output_arrays, runs_of, work_of
from metal4conv.verify.shader_tolerance import choose_shader_tolerance
from metal4conv.verify.tolerance import GivenTolerance
from metal4conv.verify.verdict import CaseResult, case_json, summaries
from metal4conv.verify.verification import output_findings, output_pictures, skipped

SHADER_WAYS = ("host", "emulator", "metal")
"""What a shader runs on."""

ALIKE = 0.95
"""A cosine above which rounding may be why outputs differ."""

STAND_IN = "C++ stand-in for Metal, not Apple's compiler"


@dataclass(frozen=True)
class Vectors:
    """The cases to compare with, and where they come from in words."""

    cases: tuple[GoldenCase, ...]
    origin: str


def verify_shader(
    path: str | Path,
    *,
    on: str = "host",
    golden: str | Path | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    min_psnr: float | None = None,
    device: DeviceOptions | None = None,
    skip_if_missing: bool = False,
) -> Report:
    """Whether a shader gives what its source gave; the report's exit code is the answer.

    `path` is a `NAME.shader.json` with the files that were written beside it, golden vectors among
    them. `MissingDevice` or `MissingDependency` where this machine has not what `on` names; with
    `skip_if_missing` the report says that it was skipped.
    """
    if on not in SHADER_WAYS:
        raise UsageError(
            f'a shader cannot be verified on "{on}": {did_you_mean(on, SHADER_WAYS)}',
            where=f"--on {on}",
            hint="host runs it on this machine; a package is what Core ML runs",
        )
    options = device or DeviceOptions()
    check_options(on, options)
    manifest = read_manifest(path)
    files = check_files(manifest, Path(path).parent)
    vectors = read_vectors(Path(path), manifest, None if golden is None else Path(golden))
    try:
        if on == "metal":
            require_metal()
        works = tuple(work_of(manifest, vectors.cases))
        ran = (
            on_host(Path(path), works)
            if on == "host"
            else run_on_device(manifest, files, on, works, options)
        )
    except (MissingDevice, MissingDependency) as error:
        if not skip_if_missing:
            raise
        return skipped(heading(path, on, "skipped"), error)
    given = GivenTolerance(atol, rtol, min_psnr)
    return verdict(path, manifest, on, vectors, ran, given)


def check_options(on: str, options: DeviceOptions) -> None:
    """`UsageError` for options that a shader has no use for."""
    plain = replace(DeviceOptions(), timeout=options.timeout, misbehave=options.misbehave)
    plain = replace(plain, strict=options.strict, capture=options.capture)
    if options != plain:
        raise UsageError(
            "--backing, --repeat and --mtlpackage are for packages, this is a shader",
            hint="leave them out; --tensors of metal4conv shader says how weights are bound",
        )
    if on == "host" and options.is_special:
        raise UsageError(
            '--timeout, --strict and --capture mean nothing on "host"',
            where="--on host",
            hint="they are for --on metal and --on emulator",
        )


def read_vectors(path: Path, manifest: ShaderManifest, golden: Path | None) -> Vectors:
    """The golden vectors, by default those beside the manifest; `UsageError` for others'."""
    file = golden or shader_golden(path)
    if not file.exists():
        raise UsageError(
            f"there are no golden vectors {file}",
            hint="name them with --golden, or write the shader again without --golden-cases 0",
        )
    found = read_golden(file)
    origin = found.origin
    if origin.package_sha256 and origin.package_sha256 != manifest.source_sha256:
        raise UsageError(
            f"the golden vectors {file} are of another shader",
            where=[
                f'golden vectors: "{origin.package}", SHA-256 {origin.package_sha256[:16]}…',
                f"shader: {path}, SHA-256 {manifest.source_sha256[:16]}…",
            ],
            hint="write the shader again, or name its own golden vectors with --golden",
        )
    for number, case in enumerate(found.cases):
        for role, arrays, ports in (
            ("input", case.inputs, manifest.inputs),
            ("output", case.outputs, manifest.outputs),
        ):
            names = {port.name for port in ports}
            if set(arrays) != names:
                raise UsageError(
                    f"{file} does not fit the shader: case {number} has {role}s "
                    f"{', '.join(sorted(arrays)) or '(none)'}, the shader {', '.join(names)}",
                    hint="name the golden vectors of this shader with --golden",
                )
    return Vectors(found.cases, f"golden vectors {file}: {origin.source}")


def shader_golden(manifest: Path) -> Path:
    """Where the golden vectors of a shader are by default: beside its manifest.

    >>> shader_golden(Path("build/material.shader.json")).name
    'material.shader.golden.safetensors'
    """
    return manifest.with_name(manifest.name.removesuffix(MANIFEST_SUFFIX) + GOLDEN_SUFFIX)


def on_host(path: Path, works: Sequence[Work]) -> Ran:
    """All runs of all cases through the library that the C++ compiler makes.

    A run that breaks a rule, such as one that writes beyond a buffer, is a finding; a source that
    does not compile raises `RejectedShader`.
    """
    compiler = find_compiler()
    shader = open_shader(path)
    shader.opened()
    results, broken = [], []
    for work in works:
        try:
            if shader.manifest.passes:
                rows = shader.run_network(work.rows, work.size, work.run.use_matmul2d)
            else:
                rows = shader.run(work.run.name, work.rows, work.size, work.run.use_matmul2d)
        except RejectedShader as error:
            message = f"{error.message} ({work.label})"
            broken.append(Finding("failure", "host-error", message, work.label, error.hint))
            continue
        results.append((work, rows))
    ran_on = f"{STAND_IN} ({compiler.version})"
    facts = {"compiler": compiler.version, "command": list(compiler.command)}
    return Ran(tuple(results), ran_on, tuple(broken), facts, bool(broken))


def verdict(
    path: str | Path,
    manifest: ShaderManifest,
    on: str,
    vectors: Vectors,
    ran: Ran,
    given: GivenTolerance,
) -> Report:
    """The report about all runs of all cases."""
    judged = [(work, judge(manifest, on, work, rows, given)) for work, rows in ran.results]
    results = [result for _, result in judged]
    findings = [*ran.findings, *without_case(manifest, vectors), *gathered(judged)]
    differs = any(finding.severity == "failure" for finding in findings)
    answer = "failed" if ran.has_failed else "differs" if differs else "agrees"
    data = {
        **heading(path, on, answer),
        "ran": {"package": ran.ran_on, "expected": vectors.origin},
        "outputs": summaries(results),
        "cases": [case_json(result) for result in results],
        "shader": {
            "name": manifest.name,
            "precision": manifest.precision,
            "tensors": manifest.tensors,
            "source_sha256": manifest.source_sha256,
            "runs": run_rows(manifest, judged),
            "textures": [texture.name for texture in manifest.textures],
            **ran.facts,
        },
    }
    return Report("verify", data, tuple(findings), pictures=output_pictures(results))


def without_case(manifest: ShaderManifest, vectors: Vectors) -> list[Finding]:
    """Functions that nothing was run of, since the golden vectors have no case for them."""
    worked = {work.run for work in work_of(manifest, vectors.cases)}
    names = dict.fromkeys(run.name for run in runs_of(manifest) if run not in worked)
    return [
        Finding(
            "warning",
            "not-verified",
            f"{name} was not verified: no golden case has samples of its textures",
            name,
            "write the shader again, with golden vectors",
        )
        for name in names
    ]


def gathered(judged: Sequence[tuple[Work, CaseResult]]) -> list[Finding]:
    """What was found, once for each function, path and output: what it is in other cases, their
    figures say."""
    first: dict[tuple[str, str, str], Finding] = {}
    more: dict[tuple[str, str, str], int] = {}
    for work, result in judged:
        for finding in result.findings:
            output = (finding.where or "").removeprefix(f"{work.label}/")
            key = (work.run.label, output, finding.code)
            more[key] = more.get(key, -1) + 1
            first.setdefault(key, finding)
    return [
        replace(finding, message=f"{finding.message} (and in {count_of(more[key])})")
        if more[key]
        else finding
        for key, finding in first.items()
    ]


def count_of(more: int) -> str:
    """A number of cases in words.

    >>> count_of(1), count_of(3)
    ('one more case', '3 more cases')
    """
    return "one more case" if more == 1 else f"{more} more cases"


def judge(
    manifest: ShaderManifest, on: str, work: Work, rows: Rows, given: GivenTolerance
) -> CaseResult:
    """What a run gave for a case, beside what it should have given."""
    actual = output_arrays(manifest, work, rows)
    layers = layer_count(manifest)
    stored = {row.output: row for row in manifest.rounding}
    outputs = tuple(
        hinted(
            manifest,
            compare_outputs(
                name,
                expected,
                actual[name],
                choose_shader_tolerance(
                    expected,
                    manifest.precision,
                    layers,
                    given,
                    stored.get(name),
                    is_gpu=on == "metal",
                ),
            ),
        )
        for name, expected in work.case.outputs.items()
    )
    found = [item for output in outputs for item in output_findings(work.label, work.case, output)]
    return CaseResult(work.label, work.case, actual, outputs, tuple(found))


def hinted(manifest: ShaderManifest, output: OutputComparison) -> OutputComparison:
    """The comparison, with what may help against rounding where that may be the reason: the output
    resembles the source's."""
    resembles = output.cosine is not None and output.cosine > ALIKE
    if manifest.precision == "float32" or not resembles:
        return output
    hint = (
        f"{manifest.precision} weights round: --precision float32 of metal4conv shader shows "
        "whether that is why"
    )

    def with_hint(problem: Problem) -> Problem:
        return replace(problem, hint=problem.hint or hint)

    return replace(output, problems=tuple(map(with_hint, output.problems)))


def run_rows(
    manifest: ShaderManifest, judged: Sequence[tuple[Work, CaseResult]]
) -> list[dict[str, Any]]:  # Any: JSON
    """For each entry point and code path how many cases it agreed in; 0 of 0 was not run."""
    rows = []
    for run in runs_of(manifest):
        own = [result for work, result in judged if work.run == run]
        worst = [
            output.max_absolute_error
            for result in own
            for output in result.outputs
            if output.max_absolute_error is not None
        ]
        rows.append(
            {
                "function": run.name,
                "stage": run.stage,
                "inputs": run.functions[0].inputs,
                "path": run.path,
                "cases": len(own),
                "agree": sum(all(output.passed for output in result.outputs) for result in own),
                "max_absolute_error": max(worst, default=None),
            }
        )
    return rows


def heading(path: str | Path, on: str, answer: str) -> dict[str, Any]:  # Any: JSON
    """What every report of `verify` begins with."""
    return {"package": str(path), "function": None, "on": on, "verdict": answer}
