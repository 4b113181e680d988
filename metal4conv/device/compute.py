"""Runs compute functions of a source in the Metal Shading Language, step by step.

Written against `Api`, so that the emulator runs the very same code as a Mac. As in `runner`, what
Metal's validation layer asserts is checked before Metal does: an assertion ends the process.

The sequence is from Apple's headers and PyObjC's metadata. Two places lean on what was read in the
bridge's sources alone: the value of a function constant (`metal.register`), and textures in an
argument table (`compute_resources.bind`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from metal4conv.device.api import Api
from metal4conv.device.capturing import submit
from metal4conv.device.compute_protocol import (
    ComputeCase,
    ComputeRequest,
    ConstantPlan,
    DispatchPlan,
    Size3,
    compute_outputs_file,
)
from metal4conv.device.compute_resources import (
    MEMORY_STEP,
    Resources,
    make_buffers,
    make_sampler,
    make_table,
    make_textures,
    make_views,
    read_output,
)
from metal4conv.device.failures import RunFailed, answer, made
from metal4conv.device.journal import Journal
from metal4conv.device.protocol import inputs_file
from metal4conv.device.session import (
    SHADER_REFLECTION_BINDINGS,
    DeviceSession,
    compiler_of,
    require_device,
)
from metal4conv.device.submission import make_residency
from metal4conv.device.tensors import check_bridge
from metal4conv.errors import did_you_mean

CLASSES = (
    "MTLTensorExtents",
    "MTLTensorDescriptor",
    "MTLResidencySetDescriptor",
    "MTLTextureDescriptor",
    "MTLSamplerDescriptor",
    "MTLCompileOptions",
    "MTLFunctionConstantValues",
    "MTL4LibraryFunctionDescriptor",
    "MTL4SpecializedFunctionDescriptor",
    "MTL4ComputePipelineDescriptor",
    "MTL4PipelineOptions",
    "MTL4CompilerDescriptor",
    "MTL4ArgumentTableDescriptor",
)
"""What has to be there. `import Metal` works on older systems, without these."""

STAGE_DISPATCH = 1 << 27
"""`MTLStageDispatch`: the stage of compute functions, for barriers."""

VISIBILITY_DEVICE = 1
"""`MTL4VisibilityOptionDevice`: what one dispatch wrote, the next one reads."""

NEVER_ENDS = "a function that waits at a barrier which not all threads reach never ends"

SIMDGROUP_THREADS = 32
"""Threads of a simdgroup, on all GPUs of Metal 4."""

BINDING_KINDS = {0: "buffer", 1: "threadgroup", 2: "texture", 3: "sampler", 37: "tensor"}
"""Values of `MTLBindingType`, from MTLArgument.h, in the words of an argument."""


@dataclass
class ComputeSession(DeviceSession[ComputeRequest]):
    """That of compute functions: pipelines by what they are compiled from."""

    pipelines: dict[tuple[str, tuple[ConstantPlan, ...], Size3], Any] = field(default_factory=dict)


@dataclass
class ComputeWork:
    """All that has to live until the GPU is done, since MTL4 command buffers retain nothing."""

    dispatches: Sequence[DispatchPlan]
    pipelines: Sequence[Any]  # the rest are objects of Metal
    tables: Sequence[Any]
    resources: Resources
    residency: Any
    queue: Any
    allocator: Any
    commands: Any
    event: Any
    kept: list[Any] = field(default_factory=list)  # blocks that Metal may call late


def run_compute(api: Api, request: ComputeRequest, folder: Path, journal: Journal) -> None:
    """Runs all cases and leaves their outputs in `folder`.

    `RunFailed` ends it; the outputs that were written before stay good.
    """
    session = ComputeSession(api, request, folder, journal)
    session.device = require_device(api, journal, CLASSES)
    with journal.step("check the bridge"):
        check_bridge(api)
    with journal.step("compile the source"):
        session.library = compile_source(session)
    for case in request.cases:
        run_case(session, case)


def compile_source(session: ComputeSession) -> Any:  # Any: an MTLLibrary
    """The source as a library that has all functions of the request.

    The language's version is set, the rest of the compiler's options is as an app has them.
    """
    text = Path(session.request.source).read_text("utf-8")
    options = session.api.metal.MTLCompileOptions.alloc().init()
    options.setLanguageVersion_(session.request.language_version)
    result = session.device.newLibraryWithSource_options_error_(text, options, None)
    library = answer(result, "newLibraryWithSource:options:error:")
    warning = result[1]
    if warning is not None:
        session.journal.note(f"the compiler warns: {warning.localizedDescription()}")
    names = [str(name) for name in library.functionNames() or ()]
    for case in session.request.cases:
        for dispatch in case.dispatches:
            if dispatch.function not in names:
                raise RunFailed(
                    "refused",
                    f'the source has no function "{dispatch.function}": '
                    + did_you_mean(dispatch.function, names),
                )
    return library


def run_case(session: ComputeSession, case: ComputeCase) -> None:
    """One case from its pipelines to its outputs."""
    journal, api, device, label = session.journal, session.api, session.device, case.label
    with journal.step("compile the pipelines", label):
        pipelines, fell_back = pipelines_for(session, case)
    with journal.step("create the buffers", label):
        inputs = load_file(session.folder / inputs_file(label))
        buffers = make_buffers(device, case, inputs)
        textures = make_textures(api, device, case)
        resources = Resources(buffers, textures, make_sampler(api, device, case))
    with journal.step("create the tensors", label):
        make_views(api, case, resources)
    with journal.step("fill the argument tables", label):
        tables = [make_table(api, device, item, resources) for item in case.dispatches]
    with journal.step("make resources resident", label):
        residency = make_residency(api, device, resources.allocations)
        work = make_work(device, case, pipelines, tables, resources, residency)
    seconds = submit(
        session,
        work,
        "encode the dispatches",
        lambda: encode(api, work),
        (label, None),
        NEVER_ENDS,
    )
    with journal.step("read the outputs", label) as data:
        outputs = {
            plan.name: read_output(plan, resources.buffers[plan.name]) for plan in case.outputs
        }
        save_file(outputs, session.folder / compute_outputs_file(label))
        note_unwritten(journal, outputs)
        data["gpu_seconds"] = [] if seconds is None else [seconds]
        data["fell_back"] = fell_back


def pipelines_for(session: ComputeSession, case: ComputeCase) -> tuple[list[Any], str | None]:
    """A pipeline state for each dispatch, and why they are not those of the case's constants.

    Which constants were used is never left unsaid. (Any: objects of Metal.)
    """
    try:
        return [checked_pipeline(session, item, case.constants) for item in case.dispatches], None
    except RunFailed as failure:
        if case.fallback is None or failure.kind != "error":
            raise
        reason = failure.message
    named = ", ".join(f"{plan.name} = {str(plan.value).lower()}" for plan in case.fallback)
    session.journal.note(f"{reason}; {case.label} runs with {named} instead")
    return [checked_pipeline(session, item, case.fallback) for item in case.dispatches], reason


def checked_pipeline(
    session: ComputeSession, dispatch: DispatchPlan, constants: tuple[ConstantPlan, ...]
) -> Any:  # Any: an MTLComputePipelineState
    """The pipeline state of a dispatch, compiled once; `RunFailed` when the dispatch does not fit
    it."""
    key = (dispatch.function, constants, dispatch.threads_per_threadgroup)
    if key not in session.pipelines:
        session.pipelines[key] = compile_pipeline(session, dispatch, constants)
    state = session.pipelines[key]
    check_threads(dispatch, state)
    check_memory(session, dispatch, state)
    check_bindings(session, dispatch, state)
    return state


def compile_pipeline(
    session: ComputeSession, dispatch: DispatchPlan, constants: Sequence[ConstantPlan]
) -> Any:  # Any: an MTLComputePipelineState
    """A function with its constants, for threadgroups of one size.

    MTL4ComputePipeline.h: the size has to be told when the function uses cooperative tensors.
    """
    metal = session.api.metal
    options = metal.MTL4PipelineOptions.alloc().init()
    options.setShaderReflection_(SHADER_REFLECTION_BINDINGS)
    descriptor = metal.MTL4ComputePipelineDescriptor.alloc().init()
    descriptor.setComputeFunctionDescriptor_(function_descriptor(session, dispatch, constants))
    descriptor.setOptions_(options)
    descriptor.setRequiredThreadsPerThreadgroup_(
        metal.MTLSizeMake(*dispatch.threads_per_threadgroup)
    )
    selector = "newComputePipelineStateWithDescriptor:compilerTaskOptions:error:"
    result = compiler_of(session).newComputePipelineStateWithDescriptor_compilerTaskOptions_error_(
        descriptor, None, None
    )
    return answer(result, selector)


def function_descriptor(
    session: ComputeSession, dispatch: DispatchPlan, constants: Sequence[ConstantPlan]
) -> Any:  # Any: an MTL4FunctionDescriptor
    """A function of the library, specialized where there are constants."""
    metal = session.api.metal
    function = metal.MTL4LibraryFunctionDescriptor.alloc().init()
    function.setName_(dispatch.function)
    function.setLibrary_(session.library)
    if not constants:
        return function
    values = metal.MTLFunctionConstantValues.alloc().init()
    for plan in constants:
        value = bytes([plan.value])  # a bool is one byte
        values.setConstantValue_type_atIndex_(value, plan.data_type, plan.index)
    specialized = metal.MTL4SpecializedFunctionDescriptor.alloc().init()
    specialized.setFunctionDescriptor_(function)
    specialized.setConstantValues_(values)
    return specialized


def check_threads(dispatch: DispatchPlan, state: Any) -> None:  # Any: a pipeline state
    """The threadgroup must fit the pipeline, and hold whole simdgroups where they are used."""
    count, most = math.prod(dispatch.threads_per_threadgroup), state.maxTotalThreadsPerThreadgroup()
    if not 0 < count <= int(most):
        raise RunFailed(
            "error",
            f'function "{dispatch.function}" is dispatched with {count} threads a threadgroup; '
            f"with the registers that it takes {most} fit",
        )
    width = int(state.threadExecutionWidth())
    if dispatch.simdgroups and (width != SIMDGROUP_THREADS or count % width):
        raise RunFailed(
            "error",
            f'function "{dispatch.function}" works in simdgroups of {SIMDGROUP_THREADS} threads; '
            f"this GPU's have {width}, and a threadgroup {count}",
        )
    if min(dispatch.threadgroups) < 1:
        raise RunFailed(
            "refused",
            f'function "{dispatch.function}" is dispatched with {dispatch.threadgroups} '
            "threadgroups",
        )


def check_memory(session: ComputeSession, dispatch: DispatchPlan, state: Any) -> None:
    """Threadgroup memory must be in whole steps and fit the GPU. (Any: a pipeline state.)"""
    lengths = [plan.byte_length for plan in dispatch.arguments if plan.kind == "threadgroup"]
    if any(length % MEMORY_STEP or length <= 0 for length in lengths):
        raise RunFailed(
            "refused",
            f'function "{dispatch.function}": threadgroup memory of {lengths} bytes; each has to '
            f"be a multiple of {MEMORY_STEP}",
        )
    needed = sum(lengths) + int(state.staticThreadgroupMemoryLength())
    most = int(session.device.maxThreadgroupMemoryLength())
    if needed > most:
        raise RunFailed(
            "error",
            f'function "{dispatch.function}" needs {needed} bytes of threadgroup memory, this GPU '
            f"has {most}",
        )


def check_bindings(session: ComputeSession, dispatch: DispatchPlan, state: Any) -> None:
    """All that the function uses must be bound, as its reflection says where it has one.

    The objects are not printed, see `bindings.read_bindings`. (Any: a pipeline state.)
    """
    reflection = state.reflection()
    listed = None if reflection is None else reflection.bindings()
    if listed is None:
        session.journal.note(f'function "{dispatch.function}" shows no reflection')
        return
    planned = {(plan.kind, plan.index) for plan in dispatch.arguments}
    for item in listed:
        kind = BINDING_KINDS.get(int(item.type()), f"binding of type {int(item.type())}")
        if item.isUsed() and (kind, int(item.index())) not in planned:
            raise RunFailed(
                "refused",
                f'function "{dispatch.function}" uses the {kind} "{item.name()}" at index '
                f"{int(item.index())}, and nothing is bound there",
                "source and manifest are not of one conversion: write both again",
            )


def make_work(
    device: Any,
    case: ComputeCase,
    pipelines: Sequence[Any],
    tables: Sequence[Any],
    resources: Resources,
    residency: Any,
) -> ComputeWork:  # Any: objects of Metal
    """A queue, an allocator, a command buffer and an event around what was made before."""
    queue = made(device.newMTL4CommandQueue(), "newMTL4CommandQueue")
    queue.addResidencySet_(residency)
    return ComputeWork(
        case.dispatches,
        pipelines,
        tables,
        resources,
        residency,
        queue,
        made(device.newCommandAllocator(), "newCommandAllocator"),
        made(device.newCommandBuffer(), "newCommandBuffer"),
        made(device.newSharedEvent(), "newSharedEvent"),
    )


def encode(api: Api, work: ComputeWork) -> None:
    """Encodes all dispatches in one pass, with a barrier between one and the next: Metal 4 does
    not see by itself that one reads what another wrote (MTL4CommandEncoder.h)."""
    work.commands.beginCommandBufferWithAllocator_(work.allocator)
    encoder = made(work.commands.computeCommandEncoder(), "computeCommandEncoder")
    steps = zip(work.dispatches, work.pipelines, work.tables, strict=True)
    for number, (dispatch, pipeline, table) in enumerate(steps):
        if number:
            encoder.barrierAfterEncoderStages_beforeEncoderStages_visibilityOptions_(
                STAGE_DISPATCH, STAGE_DISPATCH, VISIBILITY_DEVICE
            )
        encoder.setComputePipelineState_(pipeline)
        encoder.setArgumentTable_(table)
        for plan in dispatch.arguments:
            if plan.kind == "threadgroup":
                encoder.setThreadgroupMemoryLength_atIndex_(plan.byte_length, plan.index)
        encoder.dispatchThreadgroups_threadsPerThreadgroup_(
            api.metal.MTLSizeMake(*dispatch.threadgroups),
            api.metal.MTLSizeMake(*dispatch.threads_per_threadgroup),
        )
    encoder.endEncoding()
    work.commands.endCommandBuffer()


def note_unwritten(journal: Journal, outputs: dict[str, np.ndarray]) -> None:
    """Notes for outputs that hold NaN: what they were spoilt with, or what was computed."""
    for name, array in outputs.items():
        broken = int(np.isnan(array).sum())
        if broken:
            journal.note(
                f'output "{name}" has {broken} NaN among {array.size} values; all of them were NaN '
                "before the run"
            )
