"""Hazards in words: which passes race about what, and the call that mends it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from metal4conv.frame.calls import Call, call_text, place_text
from metal4conv.frame.document import Barrier, Frame
from metal4conv.frame.hazards import Clash, Conflicts, Hazard, Remedy
from metal4conv.frame.order import Pair
from metal4conv.frame.stages import in_order
from metal4conv.report import Finding


@dataclass(frozen=True)
class Row:
    """A barrier, fence, event or wait: listed in the file (`number` counts each sort), or missing.

    `orders` are pairs of passes, and how many frames lie between, that nothing else orders.
    """

    call: Call
    status: str
    number: int | None
    orders: tuple[tuple[str, str, int], ...]


def names(conflicts: Conflicts, pair: Pair) -> tuple[str, str]:
    """The names of the passes of a pair."""
    passes, items = conflicts.frame.passes, conflicts.items
    first, second = (passes[items[number].pass_number].name for number in pair[:2])
    return first, second


CODES: dict[Remedy, str] = {
    "barrier": "missing-barrier",
    "event": "missing-event",
    "wait": "missing-wait",
    "steps": "unordered-step",
    "passes": "unordered-pass",
}
HINTS: dict[Remedy, str] = {
    "steps": "split the pass into steps, with an encoder barrier between them",
    "passes": "start another render pass: a barrier cannot wait for these stages within a pass",
}


def hazard_findings(
    conflicts: Conflicts, hazards: Iterable[Hazard], rows: Iterable[Row]
) -> Iterator[Finding]:
    """A finding for each two passes, and frames between them, with a hazard of their own."""
    grouped: defaultdict[tuple[str, str, int, str, Remedy], list[Hazard]] = defaultdict(list)
    pasts = conflicts.pasts(conflicts.frame.synchronization)
    for hazard in hazards:
        if hazard.implied or (conflicts.frame.plan and hazard.remedy not in HINTS):
            continue
        code = CODES[hazard.remedy]
        if hazard.remedy == "barrier" and conflicts.reaches(hazard.pair, 0, pasts):
            code = "missing-visibility"
        key = (*names(conflicts, hazard.pair), hazard.pair.ago, code, hazard.remedy)
        grouped[key].append(hazard)
    for (first, second, ago, code, remedy), found in grouped.items():
        yield Finding(
            "failure",
            code,
            hazard_text(conflicts, first, second, ago, code, found),
            where_text(first, second, ago),
            HINTS.get(remedy) or hazard_hint(conflicts, (first, second, ago), rows),
        )


def where_text(first: str, second: str, ago: int) -> str:
    """Two passes, for scripts.

    >>> where_text("a", "b", 0), where_text("a", "b", 1)
    ('a → b', 'a (1 frame ago) → b')
    """
    return f"{first}{f' ({frames_text(ago)} ago)' if ago else ''} → {second}"


def frames_text(count: int) -> str:
    """A number of frames.

    >>> frames_text(1), frames_text(2)
    ('1 frame', '2 frames')
    """
    return f"{count} frame{'' if count == 1 else 's'}"


def hazard_text(
    conflicts: Conflicts, first: str, second: str, ago: int, code: str, hazards: list[Hazard]
) -> str:
    """What two passes do to one another."""
    clashes = dict.fromkeys(clash for hazard in hazards for clash in hazard.clashes)
    reasons = "; ".join(clash_text(clash) for clash in clashes)
    items = conflicts.items
    after = in_order(items[hazard.pair.first].stage for hazard in hazards)
    before = in_order(items[hazard.pair.second].stage for hazard in hazards)
    lacks = {
        "missing-visibility": "they are in order, but not visibly",
        "unordered-step": "nothing orders the stages of one step",
    }.get(code, "nothing orders them")
    earlier = f" of {frames_text(ago)} ago" if ago else ""
    return (
        f'"{second}" after "{first}"{earlier}: {reasons}; {lacks} '
        f"({', '.join(after)} before {', '.join(before)})"
    )


def clash_text(clash: Clash) -> str:
    """One reason.

    >>> clash_text(Clash("RAW", "a", "a")), clash_text(Clash("WAR", "a", "b", True))
    ('reads "a" that was written (RAW)', 'writes "b" over "a" that was read (WAR)')
    """
    shared = "" if clash.first == clash.second else f' over "{clash.first}"'
    match clash.kind:
        case "RAW":
            other = f' as "{clash.first}"' if shared else ""  # of a buffer and a tensor in it
            return f'reads "{clash.second}" that was written{other} (RAW)'
        case "WAW":
            return f'writes "{clash.second}"{shared} that was written (WAW)'
        case "WAR":
            return f'writes "{clash.second}"{shared} that was read (WAR)'


def hazard_hint(
    conflicts: Conflicts, pair: tuple[str, str, int], rows: Iterable[Row]
) -> str | None:
    """What mends it, as `rows` has it."""
    for row in rows:
        if row.status == "missing" and pair in row.orders:
            place = place_text(conflicts.frame, row.call)
            return f"{place}: {call_text(row.call)}{widen_text(conflicts.frame, row.call)}"
    return "several of the missing barriers order them together"


def widen_text(frame: Frame, call: Call) -> str:
    """The barrier of the file that stands in the same place, and what it lacks."""
    if not isinstance(call, Barrier):
        return ""
    for number, barrier in enumerate(frame.synchronization.barriers, 1):
        if (barrier.pass_name, barrier.form, barrier.step) != (
            call.pass_name,
            call.form,
            call.step,
        ):
            continue
        lacks = [
            f"{side} += {list(in_order(stages))}"
            for side, stages in (
                ("after", call.after - barrier.after),
                ("before", call.before - barrier.before),
            )
            if stages
        ]
        lacks += ["visibility"] if call.level > barrier.level else []
        if lacks:
            return f", or widen barrier {number}: {', '.join(lacks)}"
    return ""
