"""Whether the values that a source gives one by one lead to the outputs that it gives as a whole.

An exported program is traced in core operations, as the converter takes it. Where a rule that
splits an operation into those is wrong, a package does what was traced, and neither is what the
model gives: then no operation of the package is to blame, and neither is float16. The same is
seen where the source goes on after the value that the package has as its output.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from metal4conv.debug.figures import Apart, how_far
from metal4conv.debug.origins import place
from metal4conv.frontends.source import ModelSource
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.program import Function, Operation
from metal4conv.report import Finding

FAR = 1e-3
"""A part of the output's magnitude; float32 sums in another order stay far below."""


@dataclass(frozen=True)
class Untold:
    """An output of which the source gives something else than its value that the package has."""

    output: str
    source: SourceValue
    apart: Apart
    end: SourceValue | None = None
    """The source's value that is its output; None where none of its values is."""
    held: str | None = None
    """The package's value that holds it."""


def origin_of(function: Function, output: str, known: Collection[str]) -> str | None:
    """The value with a counterpart that an output is, but for casts; None without one."""
    makers: dict[str, Operation] = {
        value.name: operation
        for operation in function.block.operations
        for value in operation.outputs
    }
    name = output
    while name not in known:
        maker = makers.get(name)
        if maker is None or maker.type not in ("cast", "identity"):
            return None
        (name,) = (item for item in maker.inputs["x"] if isinstance(item, str))
    return name


def untold_outputs(
    function: Function,
    source: ModelSource,
    sources: Mapping[str, SourceValue],
    values: Mapping[str, np.ndarray],
    inputs: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
) -> Iterator[Untold]:
    """The outputs of a source that its values, by the package's names, do not lead to."""
    moves = source.framework == "tensorflow"
    for output, expected in outputs.items():
        name = origin_of(function, output, values.keys())
        if name is None:
            continue
        apart = apart_from(values[name], expected, moves)
        if apart is not None and is_far(apart):
            end = end_of(source, inputs, expected)
            held = [value for value, row in sources.items() if end and row.name == end.name]
            yield Untold(output, sources[name], apart, end, held[0] if held else None)


def end_of(
    source: ModelSource, inputs: Mapping[str, np.ndarray], expected: np.ndarray
) -> SourceValue | None:
    """The last of the source's values that equals an output."""
    rows = source.values()
    traced = source.trace(inputs, {row.name for row in rows})
    for row in reversed(rows):
        if row.name not in traced:
            continue
        apart = apart_from(traced[row.name], expected, source.framework == "tensorflow")
        if apart is not None and not is_far(apart):
            return row
    return None


def apart_from(traced: np.ndarray, expected: np.ndarray, moves_channels: bool) -> Apart | None:
    """How far a value is from an output; None where its shape does not fit."""
    placed = place(traced, expected, moves_channels=moves_channels)
    return None if placed is None else how_far(expected, placed)


def is_far(apart: Apart) -> bool:
    """Whether two arrays are not the same but for the order of sums."""
    return bool(apart.lost) or apart.rms > FAR


def untold_finding(untold: Untold) -> Finding:
    """What it means, and what to do."""
    if untold.end is not None:
        rest = (
            "the operations between them are not in the package"
            if untold.held is None
            else f"the package has that as {untold.held}: the outputs are in another order"
        )
        return Finding(
            "failure",
            "output-differs",
            f"output {untold.output}: the package ends with the source's {untold.source}, and the "
            f"source's own output is {untold.end}; {rest}",
            untold.output,
            "convert the model again, or name the version of it that was converted",
        )
    apart = untold.apart
    how = f"{apart.lost} elements NaN or not" if apart.lost else f"{apart.rms:.2g} of its magnitude"
    return Finding(
        "failure",
        "source-differs",
        f"output {untold.output}: the source, run operation by operation as it is converted, gives "
        f"something else than the source as a whole ({how} apart); float16 does not explain that\n"
        f"  in the source: {untold.source}",
        untold.output,
        "an operation is split into others that do not do the same, or the model draws random "
        "numbers; write it in simpler operations, and report it",
    )
