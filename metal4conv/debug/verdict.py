"""Why a package's outputs differ: which operation, and which of four reasons.

1. `operation`: alone, in float32 and on the source's inputs, it gives something else than the
   source, by more than the rounding of its weights explains.
2. `float16-range`: the source's values are too large for float16, or so small that they lose their
   digits.
3. `float16-precision`: the operation alone loses too many digits (inputs nearly cancel), or no
   single one does and the errors of many add up.
4. `suspicious-source`: the source's own value is NaN, infinite, constant, or has run into bounds.

A suspect is confirmed by running the package once more with that one value taken from the source:
when the outputs agree then, nothing else is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from metal4conv.debug.comparison import Row
from metal4conv.debug.runs import FLOAT16_PART
from metal4conv.mil.program import Operation, TensorType

LARGE_ROUNDING = 20 * FLOAT16_PART
"""An operation that rounds as float16 does is off by a twentieth of this."""

MANY_SMALL = 0.05
"""The part of small elements from which on they are worth a word."""

MOSTLY_SMALL = 0.5
"""With this part of small elements, what takes a value works with few digits, or with zeros."""

MOST_SUSPECTS = 8
"""So many suspects are tried one by one."""

LARGEST_EXCESS = 1e6
"""What is worse counts as this."""

Agrees = Callable[[Collection[str]], bool]
"""Whether the outputs agree when these values of the package are taken from the source."""


@dataclass(frozen=True)
class Cause:
    """An operation of the package, and why it makes the outputs differ."""

    kind: str
    row: Row
    confirmed: bool = False
    """Whether the outputs agree once its value is the source's."""
    together: int = 1
    """How many suspects it takes."""
    after: Row | None = None
    """The operation whose value from the source makes the outputs agree, where that is a later one:
    what float16 cannot hold is infinite there, wherever it comes from.
    """


def find_causes(
    rows: Sequence[Row],
    *,
    is_float16: bool,
    outputs_agree: bool,
    agrees: Agrees,
    leading: Collection[str] | None = None,
) -> list[Cause]:
    """The causes, the one to look at first in front; none where all is well.

    `leading` are the values that outputs out of tolerance come of; others have no part in that.
    """
    if faults := [row for row in rows if row.excess > 1]:
        return fault_causes(faults, outputs_agree, agrees)
    if leading is not None:
        rows = [row for row in rows if row.value in leading]
    broken = [Cause("suspicious-source", row) for row in rows if gives_nan(row)][:1]
    if outputs_agree:
        return []
    if is_float16:
        return float16_causes(rows, agrees) or broken or accumulated(rows)
    return broken or suspicious(rows)


def fault_causes(faults: Sequence[Row], outputs_agree: bool, agrees: Agrees) -> list[Cause]:
    """The faults; in front the first one in the order of execution that stands out.

    Where code was rewritten several operations differ, and the first one tells where it begins.
    """
    threshold = math.sqrt(min(max(row.excess for row in faults), LARGEST_EXCESS))
    first = next(row for row in faults if row.excess >= threshold)
    rest = sorted((row for row in faults if row is not first), key=lambda row: -row.excess)
    ordered = [first, *rest]
    if outputs_agree:
        return [Cause("operation", row) for row in ordered]
    if agrees([first.value]):
        return [Cause("operation", first, confirmed=True), *(Cause("operation", r) for r in rest)]
    together = bool(rest) and agrees([row.value for row in ordered])
    return [Cause("operation", row, together, len(ordered)) for row in ordered]


def float16_causes(rows: Sequence[Row], agrees: Agrees) -> list[Cause]:
    """What float16 does to single operations; nothing when it is none of them.

    The source's own value is tried where float16 can hold it: after what is beyond.
    """
    order = {row.value: row for row in rows}
    suspects = [(kind, row) for row in rows if (kind := float16_kind(row)) is not None]
    holdable = [item for item in suspects if not item[1].beyond_float16]
    worst = sorted(holdable, key=lambda item: -declared_error(item[1]))[:MOST_SUSPECTS]
    tried = [item for item in holdable if item in worst]
    for kind, row in tried:
        if agrees([row.value]):
            return [traced(Cause(kind, row, confirmed=True), order)]
    if len(holdable) > 1 and agrees([row.value for _, row in holdable]):
        count = len(holdable)
        return distinct(traced(Cause(kind, row, True, count), order) for kind, row in holdable)
    return distinct(traced(Cause(kind, row), order) for kind, row in suspects)


def traced(cause: Cause, known: Mapping[str, Row]) -> Cause:
    """The cause at the first of the operations before it whose values float16 cannot hold.

    big = exp(x) (beyond float16);  y = log(1 + big) (loses all digits)      →      exp
    """
    place = {name: number for number, name in enumerate(known)}
    row, found = cause.row, None
    while True:
        taken = [known[name] for name in row.operation.value_names if name in known]
        before = [other for other in taken if is_unfit(other)]
        if not before:
            break
        row = found = min(before, key=lambda other: place[other.value])
    if found is None:
        return cause
    return replace(cause, kind="float16-range", row=found, after=cause.row)


def is_unfit(row: Row) -> bool:
    """Whether float16 cannot hold the source's values, or holds them as zeros and few digits."""
    return bool(row.beyond_float16) or row.below_float16 > MOSTLY_SMALL


def distinct(causes: Iterable[Cause]) -> list[Cause]:
    """One cause for each operation, the first."""
    found: dict[str, Cause] = {}
    for cause in causes:
        found.setdefault(cause.row.value, cause)
    return list(found.values())


def float16_kind(row: Row) -> str | None:
    """Whether the range or the precision of float16 is too little for an operation alone."""
    if not is_float16(row.operation):
        return None
    error = declared_error(row)
    if row.beyond_float16 and error > 0:
        return "float16-range"
    if error < LARGE_ROUNDING:
        return None
    return "float16-range" if row.below_float16 > MANY_SMALL else "float16-precision"


def declared_error(row: Row) -> float:
    """The error of the operation alone in the package's precision."""
    if row.declared is None:
        return 0.0
    return math.inf if row.declared.lost else row.declared.rms


def is_float16(operation: Operation) -> bool:
    """Whether an operation gives float16."""
    return any(
        isinstance(value.type, TensorType) and value.type.dtype == "float16"
        for value in operation.outputs
    )


def accumulated(rows: Sequence[Row]) -> list[Cause]:
    """The operation at which the error of the running package grows most."""
    known = {row.value: row for row in rows}
    growing = [(growth(row, known), row) for row in rows if row.free is not None]
    if not growing:
        return []
    return [Cause("float16-precision", max(growing, key=lambda item: item[0])[1])]


def growth(row: Row, known: dict[str, Row]) -> float:
    """By how much an operation's error is above those of its inputs, which rounding adds to."""
    assert row.free is not None
    taken = [known[name].free for name in row.operation.value_names if name in known]
    before = max([FLOAT16_PART, *(apart.rms for apart in taken if apart is not None)])
    return row.free.rms / before


def gives_nan(row: Row) -> bool:
    """Whether the source itself gives NaN there."""
    return row.source_nan > 0


def suspicious(rows: Sequence[Row]) -> list[Cause]:
    """Values of the source that are constant, infinite or at their bounds, where that begins."""
    return [Cause("suspicious-source", row) for row in first_suspicious(rows)]


def first_suspicious(rows: Sequence[Row]) -> list[Row]:
    """What is odd in the source, without what comes of something odd: a NaN makes many."""
    odd = {row.value for row in rows if why_suspicious(row)}
    return [
        row
        for row in rows
        if row.value in odd and not any(name in odd for name in row.operation.value_names)
    ]


def why_suspicious(row: Row) -> str | None:
    """What is odd about the source's own value, in words."""
    if row.source_nan:
        return f"{row.source_nan} of its elements are NaN"
    if row.source_inf:
        return f"{row.source_inf} of its elements are infinite"
    if row.constant_source and row.source_range is not None:
        return f"all of its elements are {row.source_range[0] + 0.0:g}"
    if row.at_bounds:
        return f"{row.at_bounds:.0%} of its elements stand at its bounds"
    return None
