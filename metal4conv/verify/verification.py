"""The verdict: a package's outputs beside those of its source, and whether they agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from metal4conv.errors import (
    Metal4ConvError,
    MissingDevice,
    UnsupportedModel,
    UsageError,
    did_you_mean,
)
from metal4conv.frontends.source import ModelSource
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import TensorType
from metal4conv.report import Finding, Picture, Report
from metal4conv.shader.document import MANIFEST_SUFFIX as SHADER_SUFFIX
from metal4conv.verify.compare import OutputComparison, compare_outputs, is_stuck, values_of
from metal4conv.verify.depth import float16_depths
from metal4conv.verify.draw import case_text
from metal4conv.verify.expectation import Expectation, find_expectation
from metal4conv.verify.golden import GoldenCase
from metal4conv.verify.tolerance import GivenTolerance, choose_tolerance
from metal4conv.verify.verdict import CaseResult, case_json, summaries

if TYPE_CHECKING:
    from metal4conv.verify.device import DeviceOptions, DeviceResult, DeviceRun

WAYS = ("reference", "emulator", "metal", "coreml", "host")
"""What `on` may be."""

DEVICES = ("emulator", "metal")
"""Those that a Metal package is run on."""


class Runner(Protocol):
    """What runs a package; `execute.interpreter.load` gives one."""

    @property
    def inputs(self) -> Mapping[str, TensorType]:
        """The declared types of the inputs."""

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name."""


def verify(
    path: str | Path,
    *,
    on: str = "reference",
    golden: str | Path | None = None,
    against: ModelSource | None = None,
    inputs_npz: str | Path | None = None,
    atol: float | None = None,
    rtol: float | None = None,
    min_psnr: float | None = None,
    function: str | None = None,
    seed: int = 0,
    device: DeviceOptions | None = None,
    skip_if_missing: bool = False,
) -> Report:
    """Whether the package gives what its source gave; the report's exit code is the answer.

    The source's outputs come from golden vectors (by default those beside the package), or from
    running `against`. Inputs for it are drawn from `seed`, or read from `inputs_npz`; with those
    alone there is nothing to compare, and only NaN, infinities and constant outputs are reported.
    `MissingDevice` where this machine has not what `on` names; with `skip_if_missing` the report
    says that it was skipped. Of a `NAME.shader.json` see `shader.verify_shader`.
    """
    if str(path).endswith(SHADER_SUFFIX):
        refuse_for_shaders(against, inputs_npz, function)
        from metal4conv.verify.shader import verify_shader

        return verify_shader(
            path,
            on="host" if on == "reference" else on,
            golden=golden,
            atol=atol,
            rtol=rtol,
            min_psnr=min_psnr,
            device=device,
            skip_if_missing=skip_if_missing,
        )
    if on == "host":
        raise UsageError(
            '"host" runs shaders, this is a package',
            where="--on host",
            hint="--on reference runs packages on this machine; host is for a NAME.shader.json",
        )
    if on not in WAYS:
        raise UsageError(f'cannot verify on "{on}"', where="--on", hint=did_you_mean(on, WAYS))
    if device is not None and device.is_special and on not in DEVICES:
        raise UsageError(
            f'--backing, --repeat, --strict, --capture and --mtlpackage mean nothing on "{on}"',
            where=f"--on {on}",
            hint="they are for --on metal and --on emulator",
        )
    package = read_package(path)
    check_comparable(package, function)
    try:
        check_present(on)
        expectation = find_expectation(
            package,
            function,
            golden=None if golden is None else Path(golden),
            against=against,
            inputs_npz=None if inputs_npz is None else Path(inputs_npz),
            seed=seed,
        )
        given = GivenTolerance(atol, rtol, min_psnr)
        return judged(package, function, on, expectation, given, device)
    except MissingDevice as error:
        if not skip_if_missing:
            raise
        return skipped(heading(package, function, on, "skipped"), error)


def refuse_for_shaders(
    against: ModelSource | None, inputs_npz: str | Path | None, function: str | None
) -> None:
    """`UsageError` for what only packages are compared with, or have."""
    given = {
        "--against": against.name if against else None,
        "--input-npz": inputs_npz,
        "--function": function,
    }
    for option, value in given.items():
        if value is not None:
            raise UsageError(
                f"{option} is for packages, this is a shader",
                where=f"{option} {value}",
                hint="a shader is compared with the golden vectors beside it, or --golden",
            )


def check_present(on: str) -> None:
    """`MissingDevice` where this machine cannot run anything `on` that."""
    if on == "metal":
        from metal4conv.verify.device import require_metal

        require_metal()
    elif on == "coreml":
        from metal4conv.frontends.coreml import require_core_ml

        require_core_ml()


def judged(
    package: Package,
    function: str | None,
    on: str,
    expectation: Expectation,
    given: GivenTolerance,
    device: DeviceOptions | None,
) -> Report:
    """The verdict of a run on what is there."""
    depths = float16_depths(package.function(function))
    if on in DEVICES:
        from metal4conv.verify.device import DeviceOptions

        options = device or DeviceOptions()
        ran = on_device(package, function, on, expectation.cases, options)
        results = [
            judge_case(
                label_of(item, options), expectation.cases[item.number], item.outputs, depths, given
            )
            for item in ran.results
        ]
        return verdict(package, function, on, ran.ran_on, expectation, results, ran)
    runner, ran_on = OPEN[on](package.path, function)
    results = [
        run_case(number, case, runner, depths, given)
        for number, case in enumerate(expectation.cases)
    ]
    return verdict(package, function, on, ran_on, expectation, results)


def on_device(
    package: Package,
    function: str | None,
    on: str,
    cases: Sequence[GoldenCase],
    options: DeviceOptions,
) -> DeviceRun:
    """All cases through the runner of Metal packages."""
    from metal4conv.verify.device import run_on_device

    types = {item.name: item.type for item in package.interface(function).inputs}
    feeds = [
        {name: package_input(array, types[name]) for name, array in case.inputs.items()}
        for case in cases
    ]
    return run_on_device(package, function, on, cases, feeds, options)


def label_of(result: DeviceResult, options: DeviceOptions) -> str:
    """A case's name in the report, with the backing where there are two."""
    label = f"case{result.number}"
    return label if len(options.backings) == 1 else f"{label} ({result.backing})"


def check_comparable(package: Package, function: str | None) -> None:
    """`UnsupportedModel` for outputs that are no tensors: there is no tolerance for them."""
    for item in package.interface(function).outputs:
        if item.kind != "tensor":
            what = "a picture" if item.kind == "image" else f"of kind {item.kind}"
            raise UnsupportedModel(
                f'output "{item.name}" is {what}; only tensors can be compared with a source',
                where=str(package.path),
                hint="metal4conv.load(...).predict(...) gives it; to verify the network, convert "
                "it with tensors as outputs",
            )


def open_reference(path: Path, function: str | None) -> tuple[Runner, str]:
    """The MIL executor of this machine, and its name."""
    from metal4conv.execute.interpreter import load

    return load(path, function), "MIL executor, cpu"


def open_core_ml(path: Path, function: str | None) -> tuple[Runner, str]:
    """Core ML itself, on a Mac."""
    from metal4conv.frontends.coreml import CoreMLRunner

    return CoreMLRunner(path, function), "Core ML"


OPEN: dict[str, Callable[[Path, str | None], tuple[Runner, str]]] = {
    "reference": lambda path, function: open_reference(path, function),
    "coreml": lambda path, function: open_core_ml(path, function),
}
"""What runs a package case by case. The functions are looked up when they are called."""


def run_case(
    number: int,
    case: GoldenCase,
    runner: Runner,
    depths: Mapping[str, int],
    given: GivenTolerance,
) -> CaseResult:
    """One case, run and compared; an error in it says which case it was."""
    label = f"case{number}"
    feed = {name: package_input(array, runner.inputs[name]) for name, array in case.inputs.items()}
    try:
        actual = runner.predict(feed)
    except Metal4ConvError as error:
        error.add_note(f"while running {label} {case_text(case)}")
        raise
    return judge_case(label, case, actual, depths, given)


def judge_case(
    label: str,
    case: GoldenCase,
    actual: Mapping[str, np.ndarray],
    depths: Mapping[str, int],
    given: GivenTolerance,
) -> CaseResult:
    """What a package gave for a case, beside what it should have given."""
    outputs = tuple(
        compare_outputs(
            name,
            expected,
            actual[name],
            choose_tolerance(expected, actual[name].dtype.name, depths.get(name, 0), given),
        )
        for name, expected in case.outputs.items()
    )
    found = [finding for output in outputs for finding in output_findings(label, case, output)]
    if not case.outputs:
        found = [finding for name in actual for finding in lone_findings(label, name, actual[name])]
    return CaseResult(label, case, actual, outputs, tuple(found))


def package_input(array: np.ndarray, declared: TensorType) -> np.ndarray:
    """The array as the package takes it: a rank-0 one as `(1,)`, with the declared dtype.

    >>> package_input(np.array(True), TensorType("int32", (1,)))
    array([1], dtype=int32)
    """
    if array.shape == () and len(declared.shape) == 1:
        array = array.reshape(1)
    return array.astype(DTYPES[declared.dtype].numpy)


def output_findings(label: str, case: GoldenCase, output: OutputComparison) -> list[Finding]:
    """What is wrong with an output, or doubtful about the vectors that it was compared with."""
    where = f"{label}/{output.name}"
    failures = [
        Finding(
            "failure",
            problem.code,
            f'output "{output.name}", {label} {case_text(case)}: {problem.message}',
            where,
            problem.hint,
        )
        for problem in output.problems
    ]
    if output.expected.is_constant:
        failures.append(
            Finding(
                "warning",
                "constant-expected",
                f'output "{output.name}", {label} {case_text(case)}: every element of the '
                f"source's output is {output.expected.low:g}, which proves little",
                where,
                "give inputs that make it vary: --golden-inputs, or a range with -i",
            )
        )
    return failures


def lone_findings(label: str, name: str, actual: np.ndarray) -> list[Finding]:
    """What is doubtful about an output that there is nothing to compare with."""
    found = values_of(actual)
    text = f'output "{name}", {label}'
    findings = []
    if found.nan or found.inf:
        message = f"{text}: {found.nan} elements are NaN, {found.inf} infinite"
        findings.append(Finding("warning", "output-not-finite", message, f"{label}/{name}"))
    if found.is_constant:
        message = f"{text}: every element is {found.low:g}"
        findings.append(Finding("warning", "constant-output", message, f"{label}/{name}"))
    return findings


def stuck_scalars(results: Sequence[CaseResult]) -> list[Finding]:
    """Failures for outputs of one element that are the same in all cases, unlike the source's."""
    findings = []
    names = results[0].case.outputs if results else {}
    for name in names:
        pairs = [(result.case.outputs[name], result.actual[name]) for result in results]
        if len(pairs) < 2 or any(e.size != 1 or a.size != 1 for e, a in pairs):
            continue
        expected = np.concatenate([e.ravel() for e, _ in pairs])
        actual = np.concatenate([a.ravel() for _, a in pairs])
        if is_stuck(expected, actual):
            message = f'output "{name}" is {actual[0]} in all cases; expected it to vary'
            findings.append(Finding("failure", "constant-output", message, name))
    return findings


def verdict(
    package: Package,
    function: str | None,
    on: str,
    ran_on: str,
    expectation: Expectation,
    results: Sequence[CaseResult],
    ran: DeviceRun | None = None,
) -> Report:
    """The report about all cases."""
    findings = [
        *expectation.findings,
        *(ran.findings if ran else ()),
        *(finding for result in results for finding in result.findings),
        *stuck_scalars(results),
    ]
    failed = any(finding.severity == "failure" for finding in findings)
    answer = "differs" if failed else "agrees" if expectation.is_comparable else "not compared"
    if ran is not None and "failure" in ran.facts:
        answer = "failed"
    data = {
        **heading(package, function, on, answer),
        "ran": {"package": ran_on, "expected": expectation.origin},
        "outputs": summaries(results),
        "cases": [case_json(result) for result in results],
    }
    if ran is not None:
        data["metal"] = ran.facts
    return Report("verify", data, tuple(findings), pictures=output_pictures(results))


def output_pictures(results: Sequence[CaseResult]) -> tuple[Picture, ...]:
    """The outputs of all cases as arrays."""
    return tuple(
        Picture(name, result.label, result.case.outputs.get(name), array)
        for result in results
        for name, array in result.actual.items()
    )


def heading(package: Package, function: str | None, on: str, answer: str) -> dict[str, Any]:
    """What every report of `verify` begins with. (Any: a JSON document.)"""
    return {
        "package": str(package.path),
        "function": function or package.default_function,
        "on": on,
        "verdict": answer,
    }


def skipped(start: Mapping[str, Any], error: Metal4ConvError) -> Report:
    """The report about a machine that has not what was asked for. (Any: what `heading` gives.)"""
    data = {
        **start,
        "missing": error.message,
        "ran": {"package": "nothing", "expected": "nothing"},
        "outputs": [],
        "cases": [],
    }
    note = Finding("info", "skipped", f"skipped: {error.message}", hint=error.hint)
    return Report("verify", data, (note,))
