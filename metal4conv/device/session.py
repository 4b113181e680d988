"""What a run makes once: the device, the library, and a pipeline for each set of sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from metal4conv.device.api import Api
from metal4conv.device.bindings import (
    Slot,
    check_library,
    check_pipeline,
    is_open,
    match,
    read_bindings,
)
from metal4conv.device.compute_protocol import ComputeRequest
from metal4conv.device.failures import RunFailed, answer
from metal4conv.device.journal import Journal
from metal4conv.device.protocol import Binding, RunCase, RunRequest
from metal4conv.device.submission import FEEDBACK_PATIENCE
from metal4conv.device.tensors import extents
from metal4conv.errors import did_you_mean
from metal4conv.layout.rules import SYSTEMS_OF_METAL_4

FAMILY_METAL_4 = 5002
"""`MTLGPUFamilyMetal4`; a binding made for an older system does not have the constant."""

SHADER_REFLECTION_BINDINGS = 1
"""`MTL4ShaderReflectionBindingInfo`, without which a pipeline has no reflection."""

CLASSES = (
    "MTLTensorExtents",
    "MTLTensorDescriptor",
    "MTLHeapDescriptor",
    "MTLResidencySetDescriptor",
    "MTL4LibraryFunctionDescriptor",
    "MTL4MachineLearningPipelineDescriptor",
    "MTL4PipelineOptions",
    "MTL4CompilerDescriptor",
    "MTL4ArgumentTableDescriptor",
)
"""What has to be there. `import Metal` works on older systems, without these."""

NEEDED = f"Metal 4 needs macOS {SYSTEMS_OF_METAL_4['macOS']} or newer on a Mac with Apple silicon"


@dataclass(frozen=True)
class Pipeline:
    """A compiled network for one set of sizes.

    `shown` is what its reflection has, empty when it has none.
    """

    state: Any  # an MTL4MachineLearningPipelineState
    slots: tuple[Slot, ...]
    shown: tuple[Binding, ...]
    heap_bytes: int


Request = TypeVar("Request", RunRequest, ComputeRequest)


@dataclass
class DeviceSession(Generic[Request]):
    """What every run makes once: the device, the library and the compiler; and what it has learnt
    of the system."""

    api: Api
    request: Request
    folder: Path
    journal: Journal
    device: Any = None  # objects of Metal
    library: Any = None
    compiler: Any = None
    patience: float = FEEDBACK_PATIENCE
    is_captured: bool = False


@dataclass
class Session(DeviceSession[RunRequest]):
    """That of a network: the bindings of its library, and pipelines by sizes."""

    bindings: tuple[Binding, ...] | None = None
    pipelines: dict[tuple[tuple[int, ...], ...], Pipeline] = field(default_factory=dict)


def find_device(session: Session) -> None:
    """The default GPU, which must be of Metal 4's family."""
    session.device = require_device(session.api, session.journal, CLASSES)


def require_device(api: Api, journal: Journal, classes: Sequence[str]) -> Any:
    """The default GPU; `RunFailed` (missing) without one of Metal 4's family, or where Metal lacks
    one of the classes. (Any: an MTLDevice.)"""
    metal = api.metal
    with journal.step("find the device"):
        api.register()
        absent = [name for name in classes if getattr(metal, name, None) is None]
        if absent:
            raise RunFailed("missing", f"this system's Metal has no {', '.join(absent)}; {NEEDED}")
        device = metal.MTLCreateSystemDefaultDevice()
        if device is None:
            raise RunFailed("missing", f"Metal finds no GPU; {NEEDED}")
        name = str(device.name())
        if not device.supportsFamily_(getattr(metal, "MTLGPUFamilyMetal4", FAMILY_METAL_4)):
            raise RunFailed(
                "missing",
                f'the GPU "{name}" does not support Metal 4; {NEEDED} (a virtual Mac has none)',
            )
        journal.note(data={"device": name})
    return device


def load_library(session: Session) -> None:
    """The Metal package as a library that has the function."""
    with session.journal.step("load the library"):
        url = session.api.foundation.NSURL.fileURLWithPath_(session.request.package)
        result = session.device.newLibraryWithURL_error_(url, None)
        library = answer(result, "newLibraryWithURL:error:")
        names = [str(name) for name in library.functionNames() or ()]
        if session.request.function not in names:
            raise RunFailed(
                "refused",
                f'the Metal package has no function "{session.request.function}": '
                + did_you_mean(session.request.function, names),
            )
    session.library = library


def read_library(session: Session) -> None:
    """What the library shows of its function; sizes may be open here. Nothing is no failure."""
    reflection = session.library.reflectionForFunctionWithName_(session.request.function)
    session.bindings = read_bindings(reflection)
    if session.bindings is None:
        session.journal.note("the library shows no reflection of its function")
        return
    rows = [asdict(binding) for binding in session.bindings]
    session.journal.note(data={"library_bindings": rows})
    for case in session.request.cases:
        for slot in match(case.tensors, session.bindings):
            check_library(slot)


def pipeline_for(session: Session, case: RunCase) -> Pipeline:
    """The pipeline for a case's sizes, compiled once for each set of them.

    They are compiled one after the other: others saw crashes when that was done at once.
    """
    sizes = tuple(plan.dimensions for plan in case.tensors)
    if sizes not in session.pipelines:
        with session.journal.step("compile the pipeline", case.label):
            state = compile_pipeline(session, case)
        with session.journal.step("read the pipeline's reflection", case.label):
            session.pipelines[sizes] = read_pipeline(session, case, state)
    return session.pipelines[sizes]


def compile_pipeline(session: Session, case: RunCase) -> Any:  # Any: an object of Metal
    """The pipeline state; inputs whose sizes the package leaves open are given theirs."""
    api, metal = session.api, session.api.metal
    function = metal.MTL4LibraryFunctionDescriptor.alloc().init()
    function.setName_(session.request.function)
    function.setLibrary_(session.library)
    options = metal.MTL4PipelineOptions.alloc().init()
    options.setShaderReflection_(SHADER_REFLECTION_BINDINGS)
    descriptor = metal.MTL4MachineLearningPipelineDescriptor.alloc().init()
    descriptor.setMachineLearningFunctionDescriptor_(function)
    descriptor.setOptions_(options)
    for slot in match(case.tensors, session.bindings):
        if slot.plan.role == "input" and has_open_sizes(session, slot):
            sizes = extents(api, slot.plan.dimensions)
            descriptor.setInputDimensions_atBufferIndex_(sizes, slot.index)
    selector = "newMachineLearningPipelineStateWithDescriptor:error:"
    result = compiler_of(session).newMachineLearningPipelineStateWithDescriptor_error_(
        descriptor, None
    )
    return answer(result, selector)


def has_open_sizes(session: Session, slot: Slot) -> bool:
    """Whether an input has to be told its sizes; whether others may be told theirs is unknown."""
    if slot.plan.is_dynamic:
        return True
    shown = slot.binding and slot.binding.dimensions
    if not shown or all(size >= 0 for size in shown):
        return False
    session.journal.note(
        f'input "{slot.plan.name}" has fixed sizes in the layout manifest and open ones {shown} '
        "in the Metal package"
    )
    return True


def compiler_of(session: DeviceSession[Request]) -> Any:  # Any: an MTL4Compiler
    """The compiler, made when it is first needed."""
    if session.compiler is None:
        descriptor = session.api.metal.MTL4CompilerDescriptor.alloc().init()
        result = session.device.newCompilerWithDescriptor_error_(descriptor, None)
        session.compiler = answer(result, "newCompilerWithDescriptor:error:")
    return session.compiler


def read_pipeline(session: Session, case: RunCase, state: Any) -> Pipeline:  # Any: as above
    """Where each tensor is bound, by the pipeline's reflection, or else by what there is.

    What it does not show is the library's to say, and then the layout manifest's.
    """
    shown = read_bindings(state.reflection())
    if shown is None:
        session.journal.note(
            "the pipeline shows no reflection; tensors are bound as "
            + ("the library's reflection says" if session.bindings else "the manifest says")
        )
    elif any(map(is_open, shown)):
        session.journal.note(
            "the pipeline's reflection leaves sizes open; they are the layout manifest's"
        )
    slots = match(case.tensors, shown or session.bindings)
    for slot in slots if shown else ():
        check_pipeline(slot)
    return Pipeline(state, slots, shown or (), int(state.intermediatesHeapSize()))
