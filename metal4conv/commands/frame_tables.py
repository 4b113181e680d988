"""How a frame looks on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from metal4conv.console import table
from metal4conv.report import Report

if TYPE_CHECKING:
    from rich.console import Console

Json = Mapping[str, Any]  # Any: a JSON object

PASS_TITLES = ("pass", "kind", "queue", "reads", "writes")
EDGE_TITLES = ("pass", "waits for", "because of", "")


def show_frame(report: Report, console: Console) -> None:
    """The passes, what waits for what, and the calls that see to it."""
    data = report.data
    console.print(table(PASS_TITLES, [row for item in data["passes"] for row in pass_rows(item)]))
    if data["dependencies"]:
        console.print()
        console.print(table(EDGE_TITLES, list(edge_rows(data["dependencies"]))))
    if data["synchronization"]:
        console.print()
    for line in call_lines(data["synchronization"]):
        console.print(line, markup=False, soft_wrap=True)
    console.print()
    for line in (*(f"picture: {path}" for path in report.files), verdict(report)):
        console.print(line, markup=False, soft_wrap=True)


def pass_rows(item: Json) -> Iterator[tuple[object, ...]]:
    """A row for each step of a pass."""
    for number, step in enumerate(item["steps"]):
        name = item["name"] if not step["name"] else f"{item['name']}: {step['name']}"
        first = (item["kind"].replace("_", " "), item["queue"]) if not number else ("", "")
        yield (name, *first, ", ".join(step["reads"]), ", ".join(step["writes"]))


def edge_rows(edges: list[Json]) -> Iterator[tuple[object, ...]]:
    """A row for each two passes."""
    grouped: dict[tuple[str, str, int], list[Json]] = {}
    for edge in edges:
        grouped.setdefault((edge["to"], edge["from"], edge["frames_ago"]), []).append(edge)
    for (later, earlier, ago), found in grouped.items():
        reasons: dict[str, dict[str, None]] = {}
        for edge in found:
            reasons.setdefault(edge["kind"], {}).update(dict.fromkeys(edge["resources"]))
        missing = any(edge["status"] == "missing" for edge in found)
        yield (
            later,
            earlier + frames_text(ago),
            "; ".join(f"{kind} {', '.join(names)}" for kind, names in reasons.items()),
            "UNORDERED" if missing else "in order",
        )


def frames_text(ago: int) -> str:
    """How many frames back, in brackets.

    >>> frames_text(0), frames_text(1)
    ('', ' (1 frame ago)')
    """
    return f" ({ago} frame{'' if ago == 1 else 's'} ago)" if ago else ""


def call_lines(rows: list[Json]) -> Iterator[str]:
    """Two lines for each barrier, fence, event or wait: where and what for, and the call."""
    for row in rows:
        number = f" {row['number']}" if row["number"] else ""
        pairs = [
            f"{pair['from']}{frames_text(pair['frames_ago'])} → {pair['to']}"
            for pair in row["orders"]
        ]
        status = row["status"].upper() if row["status"] == "missing" else row["status"]
        reason = f", for {', '.join(pairs)}" if pairs else ""
        yield f"{status}: {row['sort']}{number} {row['place']}{reason}"
        yield f"    {row['call']}"


def verdict(report: Report) -> str:
    """The frame in a line."""
    data = report.data
    edges = data["dependencies"]
    lacking = sum(row["status"] == "missing" for row in data["synchronization"])
    failures = sum(finding.severity == "failure" for finding in report.findings)
    missing = f", {lacking} missing" if lacking else ""
    state = "needs what is missing" if lacking else "in order"
    if failures:
        state = f"{failures} failure{'' if failures == 1 else 's'}"
    return (
        f"{data['file']} {state}: {len(data['passes'])} passes, {len(edges)} dependencies, "
        f"{len(data['synchronization']) - lacking} barriers, fences and events{missing}, "
        f"{data['frames_in_flight']} in flight"
    )
