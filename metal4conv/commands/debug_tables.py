"""How what `debug` found looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from metal4conv.commands.rendering import figure
from metal4conv.console import table
from metal4conv.report import Report

if TYPE_CHECKING:
    from rich.console import Console

Json = Mapping[str, Any]  # Any: a JSON object

AROUND = 3
"""Operations shown before and after the one that counts."""

INFINITE = 1e30
"""Infinite values count as the largest number of float32, in units of the source's magnitude."""


def show_debug(report: Report, console: Console, *, everything: bool) -> None:
    """The operations around the cause (or all), the outputs, and the verdict."""
    data = report.data
    rows = data["operations"]
    chosen = list(range(len(rows))) if everything else around(rows, data["first"])
    titles = ("operation", "type", "error", "alone", "in float16", "in the source")
    if chosen:
        console.print(table(titles, list(shown_rows(rows, chosen))))
        console.print()
    for output in data["outputs"]:
        psnr = f"{output['psnr']:.1f} dB" if output["psnr"] is not None else "∞"
        if psnr == "∞" and not output["passed"]:
            psnr = "-"  # nothing finite to compare
        verdict = "ok" if output["passed"] else "DIFFERS"
        console.print(f"output {output['name']}: PSNR {psnr}, {verdict}", markup=False)
    coverage = data["coverage"]
    console.print(
        f"{data['package']} {data['verdict']} from {data['source']}: "
        if data["verdict"] == "differs"
        else f"{data['package']} agrees with {data['source']}: ",
        f"{coverage['compared']} of {coverage['operations']} operations compared",
        sep="",
        markup=False,
        soft_wrap=True,
    )


def around(rows: Sequence[Json], first: str | None) -> list[int]:
    """The places of the operations near those that count, in order."""
    marked = [place for place, row in enumerate(rows) if row["jump"]]
    named = [place for place, row in enumerate(rows) if row["name"] == first]
    found: set[int] = set()
    for place in (named or marked)[:1] + marked[:4]:
        found.update(range(max(place - AROUND, 0), min(place + AROUND + 1, len(rows))))
    return sorted(found)


def shown_rows(rows: Sequence[Json], chosen: Sequence[int]) -> list[tuple[object, ...]]:
    """The chosen operations as table rows, with a row of dots where some are left out."""
    made: list[tuple[object, ...]] = []
    before = None
    for place in chosen:
        if before is not None and place != before + 1:
            made.append(("…", "", "", "", "", ""))
        before = place
        made.append(operation_row(rows[place]))
    return made


def operation_row(row: Json) -> tuple[object, ...]:
    """One operation with its figures and where the source has it."""
    source = row["source"]
    mark = "→ " if row["jump"] else "  "
    return (
        f"{mark}{row['name']}",
        row["type"],
        "NaN" if row["lost"] else error_text(row["error"]),
        error_text(row["local_error"]),
        error_text(row["local_error_declared"]),
        "" if source is None else source_text(source),
    )


def error_text(error: float | None) -> str:
    """An error; infinite when the package's value is.

    >>> error_text(0.00012345), error_text(2e33)
    ('0.000123', 'inf')
    """
    return "inf" if error is not None and error > INFINITE else figure(error)


def source_text(source: Json) -> str:
    """Where the source computes a value: the module and the line, else the value's name.

    >>> source_text({"name": "relu", "module": "down.1", "line": None})
    'down.1'
    """
    return ", ".join(filter(None, (source["module"], source["line"]))) or str(source["name"])
