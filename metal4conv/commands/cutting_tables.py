"""How what `debug --search` and `debug --reduce` found looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metal4conv.commands.rendering import value_cells
from metal4conv.console import table
from metal4conv.report import Report

if TYPE_CHECKING:
    from rich.console import Console

Json = Mapping[str, Any]  # Any: a JSON object
TITLES = ("", "value", "dtype", "shape", "min", "max", "mean", "NaN", "inf")


def show_cutting(report: Report, console: Console) -> None:
    """What was found, or what was written."""
    if report.kind == "debug search":
        show_search(report.data, console)
    else:
        show_reduction(report, console)


def show_search(data: Json, console: Console) -> None:
    """The first bad operation with the ranges of its inputs and outputs."""
    for found in data["found"]:
        source = f", {found['source']}" if found["source"] else ""
        console.print(f"{found['operation']} ({found['type']}){source}", markup=False)
        rows = [
            *((item["parameter"], *value_cells(item)) for item in found["inputs"]),
            *(("→", *value_cells(item)) for item in found["outputs"]),
        ]
        console.print(table(TITLES, rows, right="min max mean NaN inf"))
        console.print()
    console.print(
        f"{data['package']} is {data['verdict']}: {data['checks']} "
        f"{'check' if data['checks'] == 1 else 'checks'} of "
        f"{data['operations']} operations, by {data['judge']}",
        markup=False,
        soft_wrap=True,
    )
    if "repeat" in data:
        console.print(f"again: {data['repeat']}", markup=False, soft_wrap=True)


def show_reduction(report: Report, console: Console) -> None:
    """The operations that are left, and the files."""
    data = report.data
    if data["verdict"] != "reduced":
        console.print(f"{data['package']} {data['verdict']}", markup=False, soft_wrap=True)
        return
    rows = [
        (
            row["operation"],
            row["type"],
            ", ".join(item["name"] for item in row["inputs"] if "constant" not in item),
            row["source"],
        )
        for row in data["parts"]
    ]
    console.print(table(("operation", "type", "reads", "in the source"), rows))
    console.print()
    counts = data["operations"]
    console.print(
        f"{counts['after']} of {counts['before']} operations, {data['checks']} checks; it fails: "
        f"{data['fails']}",
        markup=False,
        soft_wrap=True,
    )
    console.print(f"again: {data['repeat']}", markup=False, soft_wrap=True)
    for path in report.files:
        console.print(path, markup=False, soft_wrap=True)
