"""How a generated shader looks on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from metal4conv.console import human_bytes, human_count, table
from metal4conv.report import Report

if TYPE_CHECKING:
    from rich.console import Console

Json = Mapping[str, Any]  # Any: a JSON object


def show_shader(report: Report, console: Console) -> None:
    """The files, the layers, and what a point costs."""
    for path in report.files:
        note = " (unchanged)" if path in report.data["unchanged"] else ""
        console.print(f"{path}{note}", markup=False, soft_wrap=True)
    console.print()
    shader = report.data["shader"]
    console.print(ports_table(shader))
    console.print()
    rows = [
        (number, row["operation"], row["kind"], f"{row['inputs']} → {row['outputs']}")
        for number, row in enumerate(report.data["layers"])
    ]
    console.print(table(("layer", "operation", "kind", "features"), rows, right="layer"))
    console.print()
    for line in cost_lines(shader):
        console.print(line, markup=False, soft_wrap=True)


def ports_table(shader: Json) -> Any:  # Any: a rich table
    """Inputs and outputs, and where they come from and go to."""
    rows = [
        (role, row["name"], row["width"], place_of(row, role))
        for role in ("input", "output")
        for row in shader[f"{role}s"]
    ]
    return table(("", "name", "features", "in ready functions"), rows, right="features")


def place_of(port: Json, role: str) -> str:
    """Where a ready function has an input or output."""
    if port["textures"]:
        return f"textures {', '.join(port['textures'])}"
    if port["uniform"]:
        return "buffer, one row for all points"
    return "buffer, a row of float32 a point" if role == "input" else "buffer, or color attachments"


def cost_lines(shader: Json) -> list[str]:
    """Function names, and what one point costs."""
    estimates = shader["estimates"]
    names = ", ".join(row["name"] for row in shader["entry_points"])
    calls = f"{shader['evaluate']}, called by {names}" if shader["evaluate"] else names
    kept = (
        "in the source" if shader["inline_weights"] else f"{human_bytes(shader['weights_bytes'])}"
    )
    return [
        f"functions        {calls}",
        f"weights          {human_count(estimates['parameters'])} parameters, "
        f"{shader['precision']}, {kept}",
        f"a point          {human_count(estimates['multiply_adds'])} multiply-adds, "
        f"about {human_bytes(estimates['register_bytes'])} of registers",
        f"a threadgroup    {human_bytes(estimates['threadgroup_bytes'])} of threadgroup memory",
    ]
