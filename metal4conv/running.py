"""What `run` does: a package's outputs for given inputs, and what each operation gave."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.execute.interpreter import Executor, load
from metal4conv.execute.pipeline import Pipeline
from metal4conv.execute.tracing import Json, Trace, check_folder, figures, write_npz
from metal4conv.given import draw_inputs, parse_sizes, read_inputs, read_named
from metal4conv.outputs import staged
from metal4conv.report import Finding, Report

MOST_LABELS = 5
"""More labels of a classifier do not tell more."""


TRACE_HINT = "--trace DIR shows the operation that they come from"


@dataclass(frozen=True)
class RunOptions:
    """What a run takes and where its results go; all as the command line has it."""

    inputs: Sequence[str] = ()
    case: int = 0
    random: bool = False
    dims: Sequence[str] = ()
    seed: int = 0
    state: str | None = None
    output: str | None = None
    state_output: str | None = None
    trace: str | None = None
    function: str | None = None
    device: str = "cpu"
    repeat: int = 1


def run_package(
    package: str, options: RunOptions, say: Callable[[str], None] = lambda text: None
) -> Report:
    """Runs a package; files appear when all went well."""
    check_options(options)
    say(f"loading {package}")
    loaded = load(package, options.function, options.device)
    inputs = gather_inputs(loaded, options)
    state = starting_state(loaded, options.state)
    before = {name: array.copy() for name, array in state.items()}
    say("running")
    written: list[str] = []
    with traced(options.trace, written) as trace:
        start = time.perf_counter()
        # a trace is the first of several runs, and the only one that it slows down
        found = loaded.predict_arrays(inputs, state or None, trace.add if trace else None)
        seconds = [time.perf_counter() - start]
        for _ in range(options.repeat - 1):
            again = {name: array.copy() for name, array in before.items()}
            start = time.perf_counter()
            loaded.predict_arrays(inputs, again or None)
            seconds.append(time.perf_counter() - start)
        if trace:
            trace.finish({"package": package, "device": options.device})
        if options.output:
            written.append(write_arrays(Path(options.output), storable(found)))
        if options.state_output:
            written.append(write_arrays(Path(options.state_output), state))
    outputs = [{"name": name, **value_row(value)} for name, value in found.items()]
    data: Json = {"package": package, "device": options.device, "outputs": outputs}
    if state:
        data["states"] = [{"name": name, **value_row(value)} for name, value in state.items()]
    if options.repeat > 1:
        rest = seconds[1:]
        median = statistics.median(rest)
        data["seconds"] = {"first": seconds[0], "min": min(rest), "median": median}
    findings = not_finite(outputs, None if trace else TRACE_HINT)
    if trace:
        data["trace"] = trace.rows
        findings += trace_findings(trace.rows)
    return Report("run", data, tuple(findings), tuple(written))


def check_options(options: RunOptions) -> None:
    """`UsageError` for what can be told to be wrong before the package is loaded."""
    if options.trace:
        check_folder(Path(options.trace))
    for flag, path in (("-o", options.output), ("--state-out", options.state_output)):
        if path and Path(path).suffix.lower() not in (".npz", ".safetensors"):
            raise UsageError(f"{path} is no name of an .npz or .safetensors file", where=flag)
    if options.dims and not options.random:
        raise UsageError(
            "sizes are those of the inputs that are given",
            where="--dim",
            hint="add --random to have inputs of these sizes drawn",
        )


def gather_inputs(loaded: Executor | Pipeline, options: RunOptions) -> dict[str, Any]:
    """The inputs from files and, with `--random`, drawn. (Any: arrays and pictures.)"""
    interface = loaded.interface
    given = read_inputs(options.inputs, interface, options.case)
    if options.random:
        sizes = parse_sizes(options.dims, interface)
        return given | draw_inputs(interface, given, sizes, options.seed)
    missing = [item for item in interface.inputs if item.name not in given and not item.optional]
    if missing:
        first = missing[0]
        raise UsageError(
            f'input "{first.name}" is missing: expected {first.type}',
            hint=f"give --input FILE.npz, --input {first.name}=FILE.npy, or --random",
        )
    return given


def starting_state(loaded: Executor | Pipeline, file: str | None) -> dict[str, np.ndarray]:
    """The states in a file, else zeros."""
    if file is None:
        return loaded.make_state()
    if not loaded.states:
        raise UsageError("the package has no states", where="--state")
    return {name: np.array(array) for name, array in read_named(Path(file)).items()}


@contextmanager
def traced(folder: str | None, written: list[str]) -> Iterator[Trace | None]:
    """A trace that replaces the one in `folder` when all went well; None without a folder."""
    if folder is None:
        yield None
        return
    target = Path(folder).resolve()
    with staged(target.parent) as stage:
        aside = stage.path(target.name)
        aside.mkdir()
        yield Trace(aside)
    written.append(folder)


def storable(found: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Outputs as arrays; a classifier's dictionary as probabilities, and `NAME.labels` beside.

    >>> storable({"p": {"cat": 0.75, "dog": 0.25}})["p.labels"].tolist()
    ['cat', 'dog']
    """
    arrays: dict[str, np.ndarray] = {}
    for name, value in found.items():
        if isinstance(value, dict):
            arrays[name] = np.array(list(value.values()), np.float64)
            arrays[f"{name}.labels"] = np.array(list(value))
        else:
            arrays[name] = np.asarray(value)
    return arrays


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> str:
    """Writes arrays as the file's name says; gives the name."""
    with staged(path.parent) as stage:
        if path.suffix.lower() == ".npz":
            write_npz(stage.path(path.name), arrays)
        else:
            stage.path(path.name).write_bytes(safetensors_bytes(path, arrays))
    return str(path)


def safetensors_bytes(path: Path, arrays: Mapping[str, np.ndarray]) -> bytes:
    """A `.safetensors` file, which holds numbers alone."""
    from safetensors.numpy import save

    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise UsageError(
                f'output "{name}" is text, which {path.name} cannot hold',
                where="-o",
                hint="name an .npz file",
            )
    content: bytes = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
    return content


def value_row(value: Any) -> Json:
    """An output's figures; a label or the likeliest labels instead. (Any: as predict gives.)"""
    if isinstance(value, np.ndarray):
        return figures(value)
    if isinstance(value, dict):
        likely = sorted(value.items(), key=lambda item: -item[1])[:MOST_LABELS]
        return {"dtype": "dictionary", "shape": [len(value)], "likeliest": dict(likely)}
    return {"dtype": type(value).__name__, "shape": [], "value": value}


def not_finite(rows: Iterable[Json], hint: str | None) -> list[Finding]:
    """Warnings of outputs with NaN or infinities."""
    return [
        Finding(
            "warning",
            "output-not-finite",
            f'output "{row["name"]}" has {row["nan"]} NaN and {row["inf"]} infinite elements',
            where=row["name"],
            hint=hint,
        )
        for row in rows
        if row.get("nan") or row.get("inf")
    ]


FIRSTS: tuple[tuple[str, str, Callable[[Json, Json], object]], ...] = (
    ("first-nan", "NaN", lambda row, out: out["nan"] and row["finite_inputs"]),
    ("first-infinity", "an infinity", lambda row, out: out["inf"] and row["finite_inputs"]),
    ("first-overflow", "what float16 cannot hold", lambda row, out: out["float16_overflow"]),
)
"""Codes, words and conditions of what a trace points out."""


def trace_findings(rows: Sequence[Json]) -> list[Finding]:
    """The first operation that makes a NaN, an infinity, or too much for float16.

    It makes them where what it takes has neither NaN nor infinities.
    """
    findings = []
    for code, words, holds in FIRSTS:
        for row in rows:
            if any(holds(row, out) for out in row["outputs"]):
                message = f"operation {operation_text(row)} is the first to give {words}"
                findings.append(Finding("warning", code, message, where=row["operation"]))
                break
    return findings


def operation_text(row: Json) -> str:
    """An operation with the loops that it runs in.

    >>> operation_text({"operation": "y", "type": "exp", "place": ["loop body 3"]})
    'y (exp, in loop body 3)'
    """
    where = f", in {', '.join(row['place'])}" if row["place"] else ""
    return f"{row['operation']} ({row['type']}{where})"
