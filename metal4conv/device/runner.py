"""Runs the cases of a request through a Metal 4 machine-learning encoder, step by step.

Written against `Api`, so that the emulator runs the very same code as a Mac. It checks what
Metal's validation layer checks before Metal does: an assertion there ends the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from metal4conv.device.api import Api
from metal4conv.device.bindings import Slot
from metal4conv.device.capturing import submit
from metal4conv.device.failures import RunFailed, answer, made
from metal4conv.device.journal import Journal
from metal4conv.device.protocol import (
    Backing,
    RunCase,
    RunRequest,
    inputs_file,
    outputs_file,
)
from metal4conv.device.session import (
    Pipeline,
    Session,
    find_device,
    load_library,
    pipeline_for,
    read_library,
)
from metal4conv.device.submission import (
    encode,
    make_heap,
    make_network,
    make_residency,
)
from metal4conv.device.tensors import (
    DeviceTensor,
    check_array,
    check_bridge,
    fill,
    make_tensor,
    read,
    spoil,
)
from metal4conv.errors import did_you_mean

NEVER_ENDS = "others saw a model with int8 weights that never ends"


def run(api: Api, request: RunRequest, folder: Path, journal: Journal) -> None:
    """Runs all cases with all backings and leaves their outputs in `folder`.

    `RunFailed` ends it; the outputs that were written before stay good.
    """
    session = Session(api, request, folder, journal)
    find_device(session)
    with journal.step("check the bridge"):
        check_bridge(api)
    load_library(session)
    with journal.step("read the library's reflection"):
        read_library(session)
    for case in request.cases:
        pipeline = pipeline_for(session, case)
        inputs = load_file(folder / inputs_file(case.label))
        for backing in request.backings:
            run_case(session, case, pipeline, backing, inputs)


def check_inputs(case: RunCase, inputs: Mapping[str, np.ndarray]) -> None:
    """Each input of the plan must be there, with its shape and type."""
    for plan in case.inputs:
        if plan.name not in inputs:
            raise RunFailed(
                "refused", f'{case.label} has no "{plan.name}": {did_you_mean(plan.name, inputs)}'
            )
        check_array(plan, inputs[plan.name])


def run_case(
    session: Session,
    case: RunCase,
    pipeline: Pipeline,
    backing: Backing,
    inputs: Mapping[str, np.ndarray],
) -> None:
    """One case with one backing: from its tensors to its outputs."""
    journal, api, device = session.journal, session.api, session.device
    place = (case.label, backing)
    with journal.step("create the tensors", *place):
        check_inputs(case, inputs)
        tensors = [make_tensor(api, device, slot.plan, backing) for slot in pipeline.slots]
        for tensor in tensors:
            if tensor.plan.role == "input":
                fill(api, tensor, inputs[tensor.plan.name])
            else:
                spoil(api, tensor)
    with journal.step("fill the argument table", *place):
        table = fill_table(api, device, pipeline.slots, tensors)
    with journal.step("create the heap", *place) as data:
        heap = make_heap(api, device, pipeline.heap_bytes)
        data["heap_bytes"] = pipeline.heap_bytes
    with journal.step("make resources resident", *place):
        allocations = [tensor.allocation for tensor in tensors] + [heap]
        residency = make_residency(api, device, allocations)
        network = make_network(device, pipeline.state, table, heap, residency, allocations)
    seconds = [
        submit(session, network, "encode the dispatch", lambda: encode(network), place, NEVER_ENDS)
        for _ in range(max(session.request.repeat, 1))
    ]
    with journal.step("read the outputs", *place) as data:
        outputs = {
            tensor.plan.name: read(api, tensor)
            for tensor in tensors
            if tensor.plan.role == "output"
        }
        save_file(outputs, session.folder / outputs_file(*place))
        note_oddities(journal, outputs)
        data["bindings"] = [asdict(binding) for binding in pipeline.shown]
        data["gpu_seconds"] = [time for time in seconds if time is not None]
        data["heap_bytes"] = pipeline.heap_bytes


def fill_table(
    api: Api, device: Any, slots: Sequence[Slot], tensors: Sequence[DeviceTensor]
) -> Any:  # Any: objects of Metal
    """An argument table with each tensor at its index, which Metal does not check."""
    count = max((slot.index for slot in slots), default=-1) + 1
    descriptor = api.metal.MTL4ArgumentTableDescriptor.alloc().init()
    descriptor.setMaxBufferBindCount_(count)
    result = device.newArgumentTableWithDescriptor_error_(descriptor, None)
    table = answer(result, "newArgumentTableWithDescriptor:error:")
    for slot, tensor in zip(slots, tensors, strict=True):
        identifier = made(tensor.tensor.gpuResourceID(), "gpuResourceID")
        if getattr(identifier, "_impl", 1) == 0:
            raise RunFailed("error", f'tensor "{slot.plan.name}" has no resource of the GPU')
        table.setResource_atBufferIndex_(identifier, slot.index)
    return table


def note_oddities(journal: Journal, outputs: Mapping[str, np.ndarray]) -> None:
    """Notes for outputs that hold one value only, or NaN: what a network that failed without an
    error leaves, as others measured."""
    for name, array in outputs.items():
        if array.size < 2 or array.dtype.kind not in "fiu":
            continue
        broken = int(np.isnan(array).sum()) if array.dtype.kind == "f" else 0
        if broken == array.size:
            journal.note(f'output "{name}" is all NaN, as before the run: was it written?')
        elif broken:
            journal.note(f'output "{name}" has {broken} NaN among {array.size} values')
        elif array.min() == array.max():
            journal.note(f'output "{name}" is {array.flat[0]} everywhere')
