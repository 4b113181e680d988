"""What there is to say about a frame: its dependencies, barriers and findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metal4conv.frame.calls import Call, call_text, place_text
from metal4conv.frame.checks import (
    barrier_findings,
    memory_findings,
    residency_findings,
    storage_findings,
    usage_findings,
)
from metal4conv.frame.contents import content_findings
from metal4conv.frame.dependencies import Dependency, dependencies_of
from metal4conv.frame.document import Barrier, Frame, Synchronization
from metal4conv.frame.hazards import Clash, Conflicts, Hazard, Remedy
from metal4conv.frame.needed import MissingWait, Order, missing, needless, with_order, without
from metal4conv.frame.networks import Fitting
from metal4conv.frame.order import Pair
from metal4conv.frame.reading import read_frame
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


@dataclass(frozen=True)
class Analysis:
    """A frame and what was found."""

    frame: Frame
    conflicts: Conflicts
    hazards: tuple[Hazard, ...]
    dependencies: tuple[Dependency, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...]


def analyse(path: str | Path, sizes: Mapping[str, int] | None = None) -> Analysis:
    """Everything about the frame of a file, with other numbers for some of its dimensions."""
    fitting = Fitting(read_frame(path, sizes))
    frame = fitting.run()
    conflicts = Conflicts(frame)
    listed = frame.synchronization
    hazards = conflicts.hazards(listed)
    rows = rows_of(conflicts, listed)
    findings = (
        *hazard_findings(conflicts, hazards, rows),
        *barrier_findings(frame),
        *needless_findings(rows),
        *fitting.findings,
        *usage_findings(conflicts),
        *residency_findings(conflicts),
        *storage_findings(conflicts),
        *memory_findings(conflicts),
        *content_findings(conflicts),
    )
    order = ("failure", "warning", "info")
    return Analysis(
        frame,
        conflicts,
        tuple(hazards),
        dependencies_of(conflicts, hazards),
        rows,
        tuple(sorted(findings, key=lambda finding: order.index(finding.severity))),
    )


def rows_of(conflicts: Conflicts, listed: Synchronization) -> tuple[Row, ...]:
    """What the file lists, then what is missing."""
    lacking, waits = missing(conflicts, listed)
    base = listed
    for added in lacking:
        base = with_order(base, added)
    spare = needless(conflicts, base)  # none of what is missing, but what it makes needless
    for taken in spare:
        base = without(base, taken)
    left = set(conflicts.unordered(base))
    rows = []
    for number, order in numbered(listed):
        is_spare = any(order is other for other in spare)
        orders = () if is_spare else freed(conflicts, base, order, left)
        rows.append(Row(order, "needless" if is_spare else "needed", number, orders))
    rows += [Row(order, "missing", None, freed(conflicts, base, order, left)) for order in lacking]
    for wait in waits:
        pair = (wait.wait.pass_name, wait.pass_name, wait.wait.frames_ago)
        rows.append(Row(wait, "missing", None, (pair,)))
    return tuple(rows)


def numbered(listed: Synchronization) -> Iterator[tuple[int, Order]]:
    """Barriers, fences and events, each sort counted from 1."""
    for orders in (listed.barriers, listed.fences, listed.events):
        yield from enumerate(orders, 1)


def freed(
    conflicts: Conflicts, base: Synchronization, order: Order, left: set[Pair]
) -> tuple[tuple[str, str, int], ...]:
    """The pairs of passes that are unordered without it; those that it orders by itself, if any."""
    lost = set(conflicts.unordered(without(base, order))) - left
    alone = with_order(Synchronization(), order)
    own = lost - set(conflicts.unordered(alone))
    found: dict[tuple[str, str], int] = {}
    for pair in sorted(own or lost, key=lambda pair: (pair.ago, pair.first, pair.second)):
        found.setdefault(names(conflicts, pair), pair.ago)
    return tuple((first, second, ago) for (first, second), ago in found.items())


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


def needless_findings(rows: Iterable[Row]) -> Iterator[Finding]:
    """What the file lists and nothing needs."""
    for row in rows:
        if row.status == "needless":
            sort = sort_of(row.call)
            yield Finding(
                "warning",
                f"needless-{sort}",
                f"{sort} {row.number} orders nothing that is not in order without it: "
                f"{call_text(row.call)}",
                f"{sort} {row.number}",
                "take it away, or list what else it is for",
            )


def sort_of(call: Call) -> str:
    """What a call is, in a word."""
    return "wait" if isinstance(call, MissingWait) else type(call).__name__.lower()
