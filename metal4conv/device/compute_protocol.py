"""What the runner of compute functions is asked and what it answers, as files of one folder.

As `protocol` has it for Metal packages: the parent writes `compute.json` and each case's arrays,
the child adds lines to `steps.jsonl` and writes the outputs beside them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from metal4conv.device.protocol import Failure, Record

COMPUTE_FILE = "compute.json"

COMPUTE_STEPS = (
    "find the device",
    "check the bridge",
    "compile the source",
    "compile the pipelines",
    "create the buffers",
    "create the tensors",
    "fill the argument tables",
    "make resources resident",
    "encode the dispatches",
    "commit and wait",
    "read the outputs",
)
"""What a run does, in order; from "compile the pipelines" on once for each case."""

LANGUAGE_4_0 = 0x40000
"""`MTLLanguageVersion4_0`, the first that has tensors."""

BOOL = 53
"""`MTLDataTypeBool`."""

Size3 = tuple[int, int, int]

BufferRole = Literal["input", "output", "scratch"]
"""Who fills a buffer and who reads it: the CPU and then the GPU, the reverse, or the GPU alone."""

ArgumentKind = Literal["buffer", "tensor", "texture", "sampler", "threadgroup"]


@dataclass(frozen=True)
class BufferPlan:
    """A buffer of `byte_length` bytes.

    An input is filled from `file`, an absolute path, or else with the case's array of its name.
    Outputs come back as one-dimensional float32 arrays.
    """

    name: str
    role: BufferRole
    byte_length: int
    file: str | None = None


@dataclass(frozen=True)
class ViewPlan:
    """A tensor whose elements are bytes of a buffer, from `offset` on.

    `data_type` and `usage` are the raw values of MTLTensorDataType and MTLTensorUsage; dimensions
    and strides are in elements, innermost first.
    """

    name: str
    buffer: str
    offset: int
    data_type: int
    dimensions: tuple[int, ...]
    strides: tuple[int, ...]
    usage: int


@dataclass(frozen=True)
class TexturePlan:
    """A two-dimensional texture without mipmaps that functions sample.

    Its rows are those of `file`, an absolute path, from `offset` on. `pixel_format` is the raw
    value of MTLPixelFormat.
    """

    name: str
    pixel_format: int
    width: int
    height: int
    bytes_per_row: int
    file: str
    offset: int = 0


@dataclass(frozen=True)
class SamplerPlan:
    """How textures are sampled: raw values of MTLSamplerMinMagFilter and MTLSamplerAddressMode."""

    filter: int
    address: int


@dataclass(frozen=True)
class ArgumentPlan:
    """What is bound at an index: a buffer, tensor or texture by its name, the case's sampler, or
    threadgroup memory, whose `byte_length` is given. Buffers and tensors share their indices."""

    kind: ArgumentKind
    index: int
    resource: str = ""
    byte_length: int = 0


@dataclass(frozen=True)
class ConstantPlan:
    """A function constant: `data_type` is the raw value of MTLDataType, of which bool is known."""

    name: str
    index: int
    value: bool
    data_type: int = BOOL


@dataclass(frozen=True)
class DispatchPlan:
    """One dispatch of a function; sizes are (width, height, depth).

    With `simdgroups` the threads of a simdgroup work together, so that a threadgroup has to consist
    of whole ones of 32 threads.
    """

    function: str
    arguments: tuple[ArgumentPlan, ...]
    threads_per_threadgroup: Size3
    threadgroups: Size3
    simdgroups: bool = False


@dataclass(frozen=True)
class ComputeCase:
    """Dispatches that run one after the other, and what they are bound to.

    `fallback` are the constants to use where no pipeline can be built with `constants`; None has
    nothing to fall back to.
    """

    label: str
    dispatches: tuple[DispatchPlan, ...]
    buffers: tuple[BufferPlan, ...]
    tensors: tuple[ViewPlan, ...] = ()
    constants: tuple[ConstantPlan, ...] = ()
    fallback: tuple[ConstantPlan, ...] | None = None
    textures: tuple[TexturePlan, ...] = ()
    sampler: SamplerPlan | None = None

    @property
    def outputs(self) -> tuple[BufferPlan, ...]:
        """The buffers that come back."""
        return tuple(plan for plan in self.buffers if plan.role == "output")


@dataclass(frozen=True)
class StandInArgument:
    """A parameter of a function in the emulator's library; `writes` says whether the GPU does.

    `kind` is one of `ArgumentKind`, or `builtin`, whose number in the library is `builtin`.
    """

    name: str
    kind: str
    index: int = 0
    writes: bool = False
    builtin: int = 0


@dataclass(frozen=True)
class StandInFunction:
    """A compute function of the emulator's library, its parameters in the order of declaration;
    `number` is the library's, `cooperative` says whether it has tensors that a simdgroup holds
    together."""

    name: str
    arguments: tuple[StandInArgument, ...]
    cooperative: bool = False
    number: int = 0


@dataclass(frozen=True)
class StandIn:
    """The source as the emulator runs it: compiled by another compiler into a shared library.

    `library` is one that `emulator.compute_library` knows how to call. `constants` are the
    indices of the source's function constants, by name.
    """

    library: str
    functions: tuple[StandInFunction, ...]
    constants: Mapping[str, int]


@dataclass(frozen=True)
class ComputeRequest:
    """What the child process is to run.

    `source` is the path of a text in the Metal Shading Language. `timeout_ms` is for one
    submission; `stand_in` and `misbehave` are the emulator's.
    """

    api: Literal["metal", "emulator"]
    source: str
    cases: tuple[ComputeCase, ...]
    language_version: int = LANGUAGE_4_0
    timeout_ms: int = 60_000
    capture: str | None = None
    stand_in: StandIn | None = None
    misbehave: str | None = None


@dataclass(frozen=True)
class ComputeResult:
    """The outputs of one case by buffer; times are of the GPU, in seconds, may be empty.

    `fell_back` is why the pipelines could not be built with the case's constants, None if they
    were.
    """

    label: str
    outputs: Mapping[str, Any]  # name -> numpy array (Any: numpy is not imported here)
    gpu_seconds: tuple[float, ...] = ()
    fell_back: str | None = None


@dataclass(frozen=True)
class ComputeOutcome:
    """All that came back: results in the order of the request, and what went wrong after them."""

    results: tuple[ComputeResult, ...]
    failure: Failure | None = None
    device: str | None = None
    records: tuple[Record, ...] = ()


def compute_outputs_file(label: str) -> str:
    """The file in the folder that holds a case's outputs.

    >>> compute_outputs_file("case0")
    'case0.outputs.safetensors'
    """
    return f"{label}.outputs.safetensors"


def write_compute_request(folder: Path, request: ComputeRequest) -> None:
    """Puts a request where the child process looks for it."""
    (folder / COMPUTE_FILE).write_text(json.dumps(asdict(request), indent=2), "utf-8")


def read_compute_request(folder: Path) -> ComputeRequest:
    """The request that `write_compute_request` left."""
    document = json.loads((folder / COMPUTE_FILE).read_text("utf-8"))
    cases = tuple(map(case_from_json, document.pop("cases")))
    stand_in = document.pop("stand_in")
    return ComputeRequest(
        cases=cases, stand_in=stand_in and stand_in_from_json(stand_in), **document
    )


def case_from_json(row: Mapping[str, Any]) -> ComputeCase:  # Any: a JSON document
    """The case of a JSON object."""
    fallback, sampler = row["fallback"], row["sampler"]
    return ComputeCase(
        label=row["label"],
        dispatches=tuple(map(dispatch_from_json, row["dispatches"])),
        buffers=tuple(BufferPlan(**item) for item in row["buffers"]),
        tensors=tuple(view_from_json(item) for item in row["tensors"]),
        constants=tuple(ConstantPlan(**item) for item in row["constants"]),
        fallback=None if fallback is None else tuple(ConstantPlan(**item) for item in fallback),
        textures=tuple(TexturePlan(**item) for item in row["textures"]),
        sampler=sampler and SamplerPlan(**sampler),
    )


def dispatch_from_json(row: Mapping[str, Any]) -> DispatchPlan:  # Any: a JSON document
    """The dispatch of a JSON object."""
    return DispatchPlan(
        function=row["function"],
        arguments=tuple(ArgumentPlan(**item) for item in row["arguments"]),
        threads_per_threadgroup=size_from_json(row["threads_per_threadgroup"]),
        threadgroups=size_from_json(row["threadgroups"]),
        simdgroups=row["simdgroups"],
    )


def size_from_json(row: list[int]) -> Size3:
    """Width, height and depth of a JSON list."""
    width, height, depth = row
    return width, height, depth


def view_from_json(row: Mapping[str, Any]) -> ViewPlan:  # Any: a JSON document
    """The tensor of a JSON object."""
    return ViewPlan(**{**row, **{key: tuple(row[key]) for key in ("dimensions", "strides")}})


def stand_in_from_json(row: Mapping[str, Any]) -> StandIn:  # Any: a JSON document
    """The library of a JSON object."""
    functions = tuple(
        StandInFunction(
            item["name"],
            tuple(StandInArgument(**argument) for argument in item["arguments"]),
            item["cooperative"],
            item["number"],
        )
        for item in row["functions"]
    )
    return StandIn(row["library"], functions, row["constants"])
