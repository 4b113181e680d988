"""What there is to say about a frame: its dependencies, barriers and findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from metal4conv.frame.barriers import barrier_findings
from metal4conv.frame.calls import Call, call_text
from metal4conv.frame.checks import (
    in_place_findings,
    residency_findings,
    storage_findings,
    usage_findings,
)
from metal4conv.frame.contents import content_findings
from metal4conv.frame.dependencies import Dependency, dependencies_of
from metal4conv.frame.document import Frame, Synchronization
from metal4conv.frame.hazards import Conflicts, Hazard
from metal4conv.frame.messages import Row, hazard_findings, names
from metal4conv.frame.needed import MissingWait, Order, missing, needless, with_order, without
from metal4conv.frame.networks import Fitting
from metal4conv.frame.order import Pair
from metal4conv.frame.placement import memory_findings
from metal4conv.frame.reading import read_frame
from metal4conv.report import Finding


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
        *in_place_findings(conflicts),
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
