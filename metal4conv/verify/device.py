"""Cases through a Metal 4 machine-learning encoder: on the device, or on its emulator."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from metal4conv.device.metal import why_not_here
from metal4conv.device.mtlpackage import (
    SUFFIX,
    check_against,
    metal_package_beside,
    read_metal_package,
)
from metal4conv.device.protocol import (
    BACKINGS,
    Backing,
    Failure,
    Outcome,
    RunCase,
    RunRequest,
    TensorPlan,
)
from metal4conv.device.suitability import metal_findings, require_suitable
from metal4conv.device.supervision import supervise
from metal4conv.errors import MissingDevice, UsageError
from metal4conv.layout.document import LayoutManifest, TensorLayout
from metal4conv.layout.manifest import manifest_of
from metal4conv.mil.package import Package
from metal4conv.report import Finding
from metal4conv.verify.golden import GoldenCase
from metal4conv.verify.reflection import reflection_findings, reflection_rows

BackingChoice = Literal["device", "buffer", "both"]


@dataclass(frozen=True)
class DeviceOptions:
    """How a package runs on a device.

    `metal_package` is the `.mtlpackage` to run, by default the one beside the package.
    `timeout` is for one submission to the GPU, in seconds. `repeat` runs give the GPU's times.
    `strict` turns Metal's own validation on, `capture` writes a `.gputrace`. `misbehave` makes the
    emulator fail in one of its ways.
    """

    backing: BackingChoice = "device"
    metal_package: Path | None = None
    timeout: float = 60.0
    repeat: int = 1
    strict: bool = False
    capture: Path | None = None
    misbehave: str | None = None

    @property
    def is_special(self) -> bool:
        """Whether anything is not as it is by default."""
        return self != DeviceOptions()

    def words(self) -> dict[str, object]:
        """What is not as it is by default, by the command line's option; without paths."""
        usual = DeviceOptions()
        names = {"backing", "timeout", "repeat", "strict", "misbehave"}
        return {
            f"--{item.name}": getattr(self, item.name)
            for item in fields(self)
            if item.name in names and getattr(self, item.name) != getattr(usual, item.name)
        }

    @property
    def backings(self) -> tuple[Backing, ...]:
        """The backings to run with."""
        return BACKINGS if self.backing == "both" else (self.backing,)


@dataclass(frozen=True)
class DeviceResult:
    """The outputs of one case, with the backing that its tensors had."""

    number: int
    backing: Backing
    outputs: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class DeviceRun:
    """What came back from a device; `facts` are for `--json`. (Any: a JSON document.)"""

    results: tuple[DeviceResult, ...]
    ran_on: str
    findings: tuple[Finding, ...]
    facts: dict[str, Any]


def require_metal() -> None:
    """`MissingDevice` where it is plain that there is no Metal 4; nothing of it is opened."""
    if (reason := why_not_here()) is not None:
        raise no_metal(reason)


def no_metal(reason: str) -> MissingDevice:
    """The error that says why Metal 4 is missing."""
    return MissingDevice(
        f"there is no Metal 4 here: {reason}",
        hint="metal4conv verify --on emulator runs the same steps on any machine",
    )


def run_on_device(
    package: Package,
    function: str | None,
    on: str,
    cases: Sequence[GoldenCase],
    feeds: Sequence[Mapping[str, np.ndarray]],
    options: DeviceOptions,
) -> DeviceRun:
    """All cases through the runner; `feeds` are their inputs with the package's dtypes.

    What goes wrong on the device is a finding, and the cases that ran before it keep their
    outputs. `MissingDevice` where there is no Metal 4, `UnsupportedModel` for a package that no
    machine-learning pass can run.
    """
    manifest = manifest_of(package, function)
    known = metal_findings(package, manifest)
    require_suitable(package.path, known)
    planned = [plan_case(f"case{n}", manifest, case) for n, case in enumerate(cases)]
    with metal_package(package, manifest, on, options) as (path, found):
        request = RunRequest(
            api="metal" if on == "metal" else "emulator",
            package=str(path),
            cases=tuple(planned),
            backings=options.backings,
            timeout_ms=round(options.timeout * 1000),
            repeat=options.repeat,
            capture=None if options.capture is None else str(options.capture),
            misbehave=options.misbehave,
        )
        inputs = {case.label: feed for case, feed in zip(planned, feeds, strict=True)}
        outcome = supervise(request, inputs, strict=options.strict)
    if outcome.failure is not None and outcome.failure.kind == "missing":
        raise no_metal(outcome.failure.message)
    return summary(on, options, planned, outcome, (*known, *found))


def plan_case(label: str, manifest: LayoutManifest, case: GoldenCase) -> RunCase:
    """The tensors of a case, with its sizes."""
    tensors = zip(manifest.tensors, manifest.at(case.dimensions).tensors, strict=True)
    return RunCase(label, tuple(plan_tensor(*pair) for pair in tensors))


def plan_tensor(declared: TensorLayout, sized: TensorLayout) -> TensorPlan:
    """One tensor with plain numbers; `declared` says which of them were open."""
    assert sized.data_type is not None, "refused before"
    assert sized.buffer is not None, "refused before"
    numbers = [*sized.dimensions, *sized.buffer.strides, sized.buffer.byte_length]
    if not all(isinstance(number, int) for number in numbers):
        raise UsageError(
            f'tensor "{sized.name}" has sizes {sized.dimensions} that the case leaves open',
            hint="give golden vectors that name all dimensions: convert the model again",
        )
    return TensorPlan(
        name=sized.name,
        role=sized.role,
        index=sized.expected_buffer_index,
        data_type=sized.data_type.raw,
        dimensions=tuple(int(size) for size in sized.dimensions),
        strides=tuple(int(stride) for stride in sized.buffer.strides),
        byte_length=int(sized.buffer.byte_length),
        is_dynamic=any(isinstance(size, str) for size in declared.dimensions),
    )


@contextmanager
def metal_package(
    package: Package, manifest: LayoutManifest, on: str, options: DeviceOptions
) -> Iterator[tuple[Path, tuple[Finding, ...]]]:
    """The Metal package to run, and what its reflection says unlike the manifest."""
    if on == "emulator":
        from metal4conv.device.emulator.package import write_emulated_package

        with tempfile.TemporaryDirectory(prefix="metal4conv-emulated-") as folder:
            target = Path(folder) / f"{manifest.package.name}{SUFFIX}"
            yield write_emulated_package(package.path, manifest, target), ()
        return
    path = options.metal_package or metal_package_beside(package.path)
    if not path.exists():
        raise UsageError(
            f"there is no Metal package {path}",
            where="--mtlpackage",
            hint=f"build it: metal4conv package {package.path}",
        )
    yield path, check_against(manifest, read_metal_package(path))


def summary(
    on: str,
    options: DeviceOptions,
    planned: Sequence[RunCase],
    outcome: Outcome,
    findings: Sequence[Finding],
) -> DeviceRun:
    """An outcome in the words of a report."""
    numbers = {case.label: number for number, case in enumerate(planned)}
    results = tuple(
        DeviceResult(numbers[row.label], row.backing, row.outputs) for row in outcome.results
    )
    found = [*findings, *notes(outcome)]
    plans = {case.label: case for case in planned}
    for row in outcome.results:
        found += reflection_findings(plans[row.label], row.bindings)
    if outcome.failure is not None:
        found.append(failure_finding(outcome.failure))
    name = "Metal 4 emulator" if on == "emulator" else f"Metal 4 on {outcome.device or 'a GPU'}"
    facts: dict[str, Any] = {
        "device": outcome.device,
        "backings": list(options.backings),
        "runs": [
            {
                "case": row.label,
                "backing": row.backing,
                "gpu_seconds": list(row.gpu_seconds),
                "heap_bytes": row.heap_bytes,
            }
            for row in outcome.results
        ],
        "reflection": reflection_rows(plans, outcome),
    }
    if outcome.failure is not None:
        facts["failure"] = {
            "kind": outcome.failure.kind,
            "step": outcome.failure.number,
            "name": outcome.failure.name,
            "case": outcome.failure.case,
            "backing": outcome.failure.backing,
            "stderr": outcome.failure.stderr,
        }
    ran_on = f"{name}, {' and '.join(options.backings)} tensors"
    return DeviceRun(results, ran_on, tuple(dict.fromkeys(found)), facts)


def notes(outcome: Outcome) -> Iterator[Finding]:
    """What the runner noted that the user should know."""
    for record in outcome.records:
        if record.state == "note" and record.detail:
            yield Finding("warning", "device-note", record.detail)


def failure_finding(failure: Failure) -> Finding:
    """What ended a run, as a failure of the verdict."""
    place = failure.case or ""
    if place and failure.backing:
        place += f", {failure.backing} tensors"
    message = failure.message + (f" ({place})" if place else "")
    if failure.stderr:
        message += f"\n{failure.stderr.rstrip()}"
    return Finding("failure", f"device-{failure.kind}", message, place or None, failure.hint)
