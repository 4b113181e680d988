"""What the runner of Metal packages is asked and what it answers, as files of one folder.

The runner lives in a child process, since an assertion inside Metal ends the process. The parent
writes `request.json` and the inputs of each case into a folder; the child adds a line to
`steps.jsonl` before and after each step, so that the last line says how far it got, and writes the
outputs beside them. Arrays travel as `.safetensors`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from metal4conv.report import drop_none

Backing = Literal["device", "buffer"]
"""Whether a tensor is made by the device, in a layout of its own, or in a buffer, with strides."""

BACKINGS: tuple[Backing, ...] = ("device", "buffer")

REQUEST_FILE = "request.json"
STEPS_FILE = "steps.jsonl"

STEPS = (
    "find the device",
    "check the bridge",
    "load the library",
    "read the library's reflection",
    "compile the pipeline",
    "read the pipeline's reflection",
    "create the tensors",
    "fill the argument table",
    "create the heap",
    "make resources resident",
    "encode the dispatch",
    "commit and wait",
    "read the outputs",
)
"""What a run does, in order; from "compile the pipeline" on once for each case and backing."""

FailureKind = Literal["missing", "refused", "error", "timeout", "aborted"]
"""What ended a run early.

`missing`: this machine has no Metal 4; `refused`: a request that does not fit the package;
`error`: Metal said no, or a rule was broken; `timeout`: the GPU or the child took too long;
`aborted`: the child process ended by itself.
"""


@dataclass(frozen=True)
class Binding:
    """A tensor binding as reflection shows it; never the object itself, whose `repr` may crash.

    `access` is 0 for inputs and 2 for outputs (MTLBindingAccess); `data_type` the raw value of
    MTLTensorDataType; `dimensions` innermost first, -1 where dynamic, None where Metal gives none.
    """

    name: str
    index: int
    access: int
    data_type: int
    dimensions: tuple[int, ...] | None


@dataclass(frozen=True)
class TensorPlan:
    """What the layout manifest says of one tensor, at the sizes of a case.

    `dimensions` innermost first; `strides` in elements and `byte_length` are those of a buffer;
    `is_dynamic` says that the package leaves a size open, which the pipeline has to be told.
    """

    name: str
    role: Literal["input", "output"]
    index: int
    data_type: int
    dimensions: tuple[int, ...]
    strides: tuple[int, ...]
    byte_length: int
    is_dynamic: bool


@dataclass(frozen=True)
class RunCase:
    """One set of inputs, in the file `inputs_file(label)` by tensor name."""

    label: str
    tensors: tuple[TensorPlan, ...]

    @property
    def inputs(self) -> tuple[TensorPlan, ...]:
        """The tensors that are read."""
        return tuple(tensor for tensor in self.tensors if tensor.role == "input")

    @property
    def outputs(self) -> tuple[TensorPlan, ...]:
        """The tensors that are written."""
        return tuple(tensor for tensor in self.tensors if tensor.role == "output")


@dataclass(frozen=True)
class RunRequest:
    """What the child process is to run.

    `api` names who answers as Metal; `misbehave` makes the emulator fail in a way of its own list.
    `package` is a Metal package (for the emulator its own container). `timeout_ms` is for one
    submission; `capture` a `.gputrace` to write. One pipeline is compiled for each set of sizes.
    """

    api: Literal["metal", "emulator"]
    package: str
    cases: tuple[RunCase, ...]
    backings: tuple[Backing, ...] = ("device",)
    function: str = "main"
    timeout_ms: int = 60_000
    repeat: int = 1
    capture: str | None = None
    misbehave: str | None = None


@dataclass(frozen=True)
class Record:
    """One line of `steps.jsonl`.

    `number` counts from 1 in `STEPS`; `begin` and `done` frame a step, `note` adds a fact
    (`data`, JSON types) to it, `failed` ends the run with its `kind` and `detail`, and `finished`
    says that all cases have outputs.
    """

    state: Literal["begin", "done", "note", "failed", "finished"]
    number: int = 0
    name: str = ""
    case: str | None = None
    backing: Backing | None = None
    kind: FailureKind | None = None
    detail: str | None = None
    data: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Failure:
    """Why a run has no outputs, or not all: `STEPS[number - 1]` is where it ended.

    `stderr` are the last lines that the child and Metal printed.
    """

    kind: FailureKind
    message: str
    number: int = 0
    name: str = ""
    case: str | None = None
    backing: Backing | None = None
    stderr: str = ""
    hint: str | None = None


@dataclass(frozen=True)
class RunResult:
    """The outputs of one case with one backing; times are of the GPU, in seconds, may be empty."""

    label: str
    backing: Backing
    outputs: Mapping[str, Any]  # name -> numpy array (Any: numpy is not imported here)
    bindings: tuple[Binding, ...] = ()
    gpu_seconds: tuple[float, ...] = ()
    heap_bytes: int | None = None


@dataclass(frozen=True)
class Outcome:
    """All that came back: results in the order of the request, and what went wrong after them.

    `device` is the GPU's name; `library_bindings` what the library shows before compilation.
    """

    results: tuple[RunResult, ...]
    failure: Failure | None = None
    device: str | None = None
    library_bindings: tuple[Binding, ...] = ()
    records: tuple[Record, ...] = field(default=())


def inputs_file(label: str) -> str:
    """The file in the folder that holds a case's inputs.

    >>> inputs_file("case0")
    'case0.inputs.safetensors'
    """
    return f"{label}.inputs.safetensors"


def outputs_file(label: str, backing: Backing) -> str:
    """The file in the folder that holds a case's outputs.

    >>> outputs_file("case0", "buffer")
    'case0.buffer.outputs.safetensors'
    """
    return f"{label}.{backing}.outputs.safetensors"


def write_request(folder: Path, request: RunRequest) -> None:
    """Puts a request where the child process looks for it."""
    (folder / REQUEST_FILE).write_text(json.dumps(asdict(request), indent=2), "utf-8")


def read_request(folder: Path) -> RunRequest:
    """The request that `write_request` left."""
    document = json.loads((folder / REQUEST_FILE).read_text("utf-8"))
    cases = tuple(
        RunCase(row["label"], tuple(plan_from_json(item) for item in row["tensors"]))
        for row in document.pop("cases")
    )
    backings = tuple(document.pop("backings"))
    return RunRequest(cases=cases, backings=backings, **document)


def plan_from_json(row: Mapping[str, Any]) -> TensorPlan:  # Any: a JSON document
    """The tensor of a JSON object."""
    lists = {key: tuple(row[key]) for key in ("dimensions", "strides")}
    return TensorPlan(**{**row, **lists})


def record_line(record: Record) -> str:
    """A record as one line of JSON.

    >>> record_line(Record("begin", 1, "find the device"))
    '{"state": "begin", "number": 1, "name": "find the device"}'
    """
    return json.dumps(drop_none(asdict(record)))


def read_records(folder: Path) -> tuple[Record, ...]:
    """What the child process has told so far; a last line that is cut off is left out."""
    file = folder / STEPS_FILE
    lines = file.read_text("utf-8").split("\n")[:-1] if file.exists() else []
    return tuple(Record(**json.loads(line)) for line in lines if line)


def binding_from_json(row: Mapping[str, Any]) -> Binding:  # Any: a JSON document
    """The binding of a JSON object.

    >>> row = {"name": "x", "index": 0, "access": 0, "data_type": 3, "dimensions": None}
    >>> binding_from_json(row)
    Binding(name='x', index=0, access=0, data_type=3, dimensions=None)
    """
    dimensions = row["dimensions"]
    return Binding(**{**row, "dimensions": None if dimensions is None else tuple(dimensions)})
