"""The parent of a run of compute functions: the same child, watched and cleaned up alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

from metal4conv.device.compute_protocol import (
    ComputeOutcome,
    ComputeRequest,
    ComputeResult,
    compute_outputs_file,
    write_compute_request,
)
from metal4conv.device.protocol import Record, inputs_file, read_records
from metal4conv.device.supervision import (
    ALLOWANCE,
    STDERR_FILE,
    Ending,
    check_labels,
    failure_in,
    is_result,
    last_lines,
    run_folder,
    terminations_raised,
    watch,
)


def supervise_compute(
    request: ComputeRequest,
    inputs: Mapping[str, Mapping[str, np.ndarray]],
    *,
    strict: bool = False,
    child_timeout: float | None = None,
) -> ComputeOutcome:
    """Runs a request in a child process; `inputs` are arrays by case label and buffer name.

    Failures, timeouts and interrupts are as `supervision.supervise` has them.
    """
    check_labels([case.label for case in request.cases], inputs)
    patience = request.timeout_ms / 1000 + ALLOWANCE if child_timeout is None else child_timeout
    with terminations_raised(), run_folder() as folder:
        write_inputs(folder, absolute(request), inputs)
        ending = watch(folder, request, strict, patience)
        return outcome_of(folder, ending)


def absolute(request: ComputeRequest) -> ComputeRequest:
    """The request for a process that runs in another folder."""
    cases = tuple(
        replace(
            case,
            buffers=tuple(
                replace(plan, file=plan.file and str(Path(plan.file).absolute()))
                for plan in case.buffers
            ),
            textures=tuple(
                replace(plan, file=str(Path(plan.file).absolute())) for plan in case.textures
            ),
        )
        for case in request.cases
    )
    stand_in = request.stand_in and replace(
        request.stand_in, library=str(Path(request.stand_in.library).absolute())
    )
    source = str(Path(request.source).absolute())
    capture = request.capture and str(Path(request.capture).absolute())
    return replace(request, source=source, capture=capture, cases=cases, stand_in=stand_in)


def write_inputs(
    folder: Path, request: ComputeRequest, inputs: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """The request and the arrays of its cases, where the child looks for them."""
    write_compute_request(folder, request)
    for case in request.cases:
        arrays = {name: np.asarray(array, order="C") for name, array in inputs[case.label].items()}
        save_file(arrays, folder / inputs_file(case.label))


def outcome_of(folder: Path, ending: Ending) -> ComputeOutcome:
    """What the child left: complete results, and why there are no more of them."""
    records = read_records(folder)
    devices = [
        record.data["device"]
        for record in records
        if record.state == "note" and record.data and "device" in record.data
    ]
    return ComputeOutcome(
        results=tuple(read_result(folder, record) for record in records if is_result(record)),
        failure=failure_in(records, ending, last_lines(folder / STDERR_FILE)),
        device=devices[0] if devices else None,
        records=records,
    )


def read_result(folder: Path, record: Record) -> ComputeResult:
    """The outputs and facts of a case."""
    assert record.case is not None, "the step is of a case"
    assert record.data is not None, "with its facts"
    return ComputeResult(
        label=record.case,
        outputs=load_file(folder / compute_outputs_file(record.case)),
        gpu_seconds=tuple(record.data["gpu_seconds"]),
        fell_back=record.data["fell_back"],
    )
