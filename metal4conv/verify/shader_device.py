"""A shader's compute functions through Metal 4: on the device, or on its emulator.

The emulator runs what another compiler made of the source, so it proves how the functions are
bound and dispatched, and no more of the source than `--on host` does.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.device.compute_protocol import (
    ArgumentPlan,
    BufferPlan,
    ComputeCase,
    ComputeOutcome,
    ComputeRequest,
    ConstantPlan,
    DispatchPlan,
    SamplerPlan,
    StandIn,
    StandInArgument,
    StandInFunction,
    TexturePlan,
    ViewPlan,
)
from metal4conv.device.compute_supervision import supervise_compute
from metal4conv.report import Finding
from metal4conv.shader.compiler import compile_for_host
from metal4conv.shader.document import Argument, EntryPoint, ShaderManifest, WeightBlock
from metal4conv.shader.manifest import ShaderFiles
from metal4conv.stand_in import BUILTINS
from metal4conv.verify.device import DeviceOptions, no_metal
from metal4conv.verify.shader_runs import Rows, ShaderRun, Work

USAGES = {"compute": 1, "render": 2}
"""Bits of `MTLTensorUsage`."""

FILTERS = {"nearest": 0, "linear": 1}
ADDRESSES = {"clamp_to_edge": 0, "repeat": 2, "mirrored_repeat": 3, "clamp_to_zero": 4}
"""Values of `MTLSamplerMinMagFilter` and `MTLSamplerAddressMode`."""

BOUND = ("buffer", "tensor", "texture", "sampler", "threadgroup")
"""Kinds of arguments that a dispatch is told."""

NO_FRAGMENTS = "only compute functions are dispatched"


@dataclass(frozen=True)
class Ran:
    """What came back from a device: the rows of outputs by run and case, and what to tell.

    `facts` are for `--json`. (Any: a JSON document.)
    """

    results: tuple[tuple[Work, Rows], ...]
    ran_on: str
    findings: tuple[Finding, ...]
    facts: dict[str, Any]
    has_failed: bool = False


def why_not(run: ShaderRun) -> str | None:
    """Why a run is none of a compute dispatch; None for one that is."""
    return None if run.stage == "compute" else NO_FRAGMENTS


def run_on_device(
    manifest: ShaderManifest,
    files: ShaderFiles,
    on: str,
    works: Sequence[Work],
    options: DeviceOptions,
) -> Ran:
    """All cases of all compute functions; what goes wrong on the device is a finding.

    `MissingDevice` where there is no Metal 4.
    """
    planned = {f"run{n}": work for n, work in enumerate(works) if why_not(work.run) is None}
    cases = tuple(plan_case(label, manifest, files, work) for label, work in planned.items())
    inputs = {label: input_arrays(work) for label, work in planned.items()}
    with tempfile.TemporaryDirectory(prefix="metal4conv-stand-in-") as folder:
        request = ComputeRequest(
            api="metal" if on == "metal" else "emulator",
            source=str(files.source),
            cases=cases,
            timeout_ms=round(options.timeout * 1000),
            capture=None if options.capture is None else str(options.capture),
            stand_in=stand_in_of(manifest, files, Path(folder)) if on == "emulator" else None,
            misbehave=options.misbehave,
        )
        outcome = supervise_compute(request, inputs, strict=options.strict)
    if outcome.failure is not None and outcome.failure.kind == "missing":
        raise no_metal(outcome.failure.message)
    return summary(on, works, planned, outcome)


def plan_case(label: str, manifest: ShaderManifest, files: ShaderFiles, work: Work) -> ComputeCase:
    """The dispatches of one case with their buffers."""
    buffers: dict[str, BufferPlan] = {}
    for entry in work.run.functions:
        for argument in entry.arguments:
            if argument.kind == "buffer":
                plan = plan_buffer(manifest, files, work, argument)
                known = buffers.get(plan.name)
                if known is None or known.role == "scratch":
                    buffers[plan.name] = plan
    used = [argument for entry in work.run.functions for argument in entry.arguments]
    tensors = dict.fromkeys(argument.port for argument in used if argument.kind == "tensor")
    return ComputeCase(
        label,
        tuple(plan_dispatch(entry, work) for entry in work.run.functions),
        tuple(buffers.values()),
        tuple(plan_view(manifest.block(str(name))) for name in tensors),
        plan_constants(manifest, work.run.use_matmul2d),
        plan_constants(manifest, False) if work.run.use_matmul2d else None,
        plan_textures(manifest, files) if work.run.samples else (),
        plan_sampler(manifest) if work.run.samples else None,
    )


def plan_textures(manifest: ShaderManifest, files: ShaderFiles) -> tuple[TexturePlan, ...]:
    """The textures in the latents' file."""
    return tuple(
        TexturePlan(
            row.name,
            row.raw_pixel_format,
            row.width,
            row.height,
            row.bytes_per_row,
            str(files.latents),
            row.offset,
        )
        for row in manifest.textures
    )


def plan_sampler(manifest: ShaderManifest) -> SamplerPlan | None:
    """How the textures are sampled."""
    sampler = manifest.sampler
    if sampler is None:
        return None
    return SamplerPlan(FILTERS[sampler.filter], ADDRESSES[sampler.address])


def plan_constants(manifest: ShaderManifest, value: bool) -> tuple[ConstantPlan, ...]:
    """All function constants with one value: they choose the path."""
    return tuple(ConstantPlan(row.name, row.index, value) for row in manifest.constants)


def plan_dispatch(entry: EntryPoint, work: Work) -> DispatchPlan:
    """One function over the grid of points."""
    if entry.tile is None:
        points = work.size[0] * work.size[1]
        groups = (math.ceil(points / entry.points_per_threadgroup), 1, 1)
    else:
        width, height = (
            math.ceil(size / tile) for size, tile in zip(work.size, entry.tile, strict=True)
        )
        groups = (width, height, 1)
    bound = [item for item in entry.arguments if item.kind in BOUND]
    return DispatchPlan(
        entry.name,
        tuple(plan_argument(entry, argument) for argument in bound),
        (entry.threads_per_threadgroup, 1, 1),
        groups,
        entry.simdgroup,
    )


def plan_argument(entry: EntryPoint, argument: Argument) -> ArgumentPlan:
    """What a parameter is bound to."""
    index = int(argument.index or 0)
    match argument.kind:
        case "threadgroup":
            return ArgumentPlan("threadgroup", index, byte_length=entry.threadgroup_memory_bytes)
        case "tensor":
            return ArgumentPlan("tensor", index, str(argument.port))
        case "texture":
            return ArgumentPlan("texture", index, str(argument.port))
        case "sampler":
            return ArgumentPlan("sampler", index)
    return ArgumentPlan("buffer", index, buffer_name(argument))


def buffer_name(argument: Argument) -> str:
    """One name for all parameters that share a buffer.

    >>> buffer_name(Argument("x", "buffer", 1, "const device float *x", "input", "x"))
    'rows x'
    """
    is_rows = argument.role in ("input", "output", "image")
    return f"rows {argument.port}" if is_rows else argument.role


def plan_buffer(
    manifest: ShaderManifest, files: ShaderFiles, work: Work, argument: Argument
) -> BufferPlan:
    """The buffer of a parameter."""
    name = buffer_name(argument)
    if argument.role == "weights":
        return BufferPlan(name, "input", manifest.weights_bytes, str(files.weights))
    if argument.role == "parameters":
        return BufferPlan(name, "input", 8)
    if argument.role == "input":
        return BufferPlan(name, "input", work.rows[str(argument.port)].nbytes)
    points = work.size[0] * work.size[1]
    widths = {row.name: row.width for row in manifest.images}
    widths |= {row.name: row.width for row in manifest.outputs}
    is_output = argument.port in {row.name for row in manifest.outputs}
    size = points * widths[str(argument.port)] * np.dtype(np.float32).itemsize
    return BufferPlan(name, "output" if is_output else "scratch", size)


def plan_view(block: WeightBlock) -> ViewPlan:
    """The tensor of a block of weights."""
    return ViewPlan(
        block.name,
        "weights",
        block.offset,
        block.raw_data_type,
        block.dimensions,
        block.strides,
        sum(USAGES[usage] for usage in block.usage),
    )


def input_arrays(work: Work) -> dict[str, np.ndarray]:
    """What the buffers of a case hold that have no file."""
    rows = {f"rows {name}": array for name, array in work.rows.items()}
    return {**rows, "parameters": np.array(work.size, np.uint32)}


def stand_in_of(manifest: ShaderManifest, files: ShaderFiles, folder: Path) -> StandIn:
    """The source compiled for this machine, as the emulator runs it."""
    library = compile_for_host(files.source, manifest, folder)
    functions = tuple(
        StandInFunction(
            entry.name,
            tuple(map(stand_in_argument, entry.arguments)),
            cooperative=entry.simdgroup,
            number=number,
        )
        for number, entry in enumerate(manifest.entry_points)
        if entry.stage == "compute"
    )
    return StandIn(
        str(library), functions, {constant.name: constant.index for constant in manifest.constants}
    )


def stand_in_argument(argument: Argument) -> StandInArgument:
    """A parameter as the library declares it: what is not constant, the GPU may write."""
    if argument.kind == "builtin":
        return StandInArgument(argument.name, "builtin", builtin=BUILTINS.index(argument.role))
    writes = argument.kind == "buffer" and "const" not in argument.declaration
    return StandInArgument(argument.name, argument.kind, int(argument.index or 0), writes)


def summary(
    on: str, works: Sequence[Work], planned: Mapping[str, Work], outcome: ComputeOutcome
) -> Ran:
    """An outcome in the words of a report."""
    results = tuple(
        (planned[row.label], output_rows(planned[row.label], row.outputs))
        for row in outcome.results
    )
    found = [*left_out(works), *notes(outcome)]
    found += [
        fallback_finding(planned[row.label], row.fell_back)
        for row in outcome.results
        if row.fell_back is not None
    ]
    failure = outcome.failure
    if failure is not None:
        place = planned[failure.case].label if failure.case else None
        message = told(failure.message) + (f" ({place})" if place else "")
        if failure.stderr:
            message += f"\n{failure.stderr.rstrip()}"
        found.append(Finding("failure", f"device-{failure.kind}", message, place, failure.hint))
    emulated = "Metal 4 emulator, through the C++ stand-in, not Apple's compiler"
    ran_on = emulated if on == "emulator" else f"Metal 4 on {outcome.device or 'a GPU'}"
    facts: dict[str, Any] = {
        "device": outcome.device,
        "gpu_seconds": {planned[row.label].label: list(row.gpu_seconds) for row in outcome.results},
    }
    if failure is not None:
        facts["failure"] = {
            "kind": failure.kind,
            "step": failure.number,
            "name": failure.name,
            "case": planned[failure.case].label if failure.case else None,
            "stderr": failure.stderr,
        }
    return Ran(results, ran_on, tuple(dict.fromkeys(found)), facts, failure is not None)


def output_rows(work: Work, outputs: Mapping[str, np.ndarray]) -> Rows:
    """The rows of outputs by port."""
    points = work.size[0] * work.size[1]
    return {
        name.removeprefix("rows "): array.reshape(points, -1) for name, array in outputs.items()
    }


def left_out(works: Sequence[Work]) -> list[Finding]:
    """Entry points that a compute dispatch cannot run, once each."""
    reasons = dict.fromkeys((work.run.name, why_not(work.run)) for work in works)
    return [
        Finding(
            "info",
            "not-run",
            f"{name} was not run: {reason}",
            name,
            "metal4conv verify --on host runs it through the C++ stand-in",
        )
        for name, reason in reasons
        if reason is not None
    ]


def fallback_finding(work: Work, reason: str) -> Finding:
    """That a path was not built, and another one was run."""
    return Finding(
        "warning",
        "matmul2d-not-built",
        f"{work.run.name} was not built with matmul2d and ran its plain path instead: {reason}",
        work.run.name,
        "an app has to do the same here; Metal Performance Primitives come with Metal 4.0",
    )


def notes(outcome: ComputeOutcome) -> list[Finding]:
    """What the runner noted that the user should know, but for what it fell back to."""
    reasons = [row.fell_back for row in outcome.results if row.fell_back is not None]
    return [
        Finding("warning", "device-note", told(record.detail))
        for record in outcome.records
        if record.state == "note"
        and record.detail
        and not any(reason in record.detail for reason in reasons)
    ]


def told(text: str) -> str:
    """What the runner says, in the report's names.

    >>> told('output "rows color" has 2 NaN among 4 values')
    'output "color" has 2 NaN among 4 values'
    """
    return text.replace('"rows ', '"')
