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
    is_drawn = any(row["attachments"] for row in shader["entry_points"])
    rows = [
        (role, row["name"], row["width"], place_of(row, role == "output" and is_drawn))
        for role in ("input", "output")
        for row in shader[f"{role}s"]
    ]
    return table(("", "name", "features", "in ready functions"), rows, right="features")


def place_of(port: Json, is_drawn: bool) -> str:
    """Where a ready function has an input or output; a fragment function draws outputs."""
    if port["textures"]:
        return f"textures {', '.join(port['textures'])}"
    if port["uniform"]:
        return "buffer, one row for all points"
    return "buffer, or color attachments" if is_drawn else "buffer, a row of float32 a point"


def cost_lines(shader: Json) -> list[str]:
    """Function names, and what one point costs."""
    estimates = shader["estimates"]
    names = ", ".join(row["name"] for row in shader["entry_points"])
    calls = f"{shader['evaluate']}, called by {names}" if shader["evaluate"] else names
    kept = (
        "in the source" if shader["inline_weights"] else f"{human_bytes(shader['weights_bytes'])}"
    )
    rows = {
        "functions": calls,
        "weights": f"{human_count(estimates['parameters'])} parameters, "
        f"{shader['precision']}, {kept}",
        "a point": f"{human_count(estimates['multiply_adds'])} multiply-adds, "
        f"about {human_bytes(estimates['register_bytes'])} of registers",
        "a threadgroup": f"{human_bytes(estimates['threadgroup_bytes'])} of threadgroup memory",
    }
    if shader["rounding"] and shader["precision"] != "float32":
        errors = (f"{row['output']} up to {row['largest']:.2g}" for row in shader["rounding"])
        rows[f"{shader['precision']} costs"] = f"{', '.join(errors)}, in the golden cases"
    return [f"{label:15}  {text}" for label, text in rows.items()]


def show_shader_layout(report: Report, console: Console) -> None:
    """Where everything lies in the weights, and what each function is to be given."""
    shader = report.data["shader"]
    if shader["blocks"]:
        console.print(blocks_table(shader))
        console.print()
    if shader["textures"]:
        console.print(textures_table(shader))
        console.print()
    if shader["images"]:
        between = [(row["name"], row["dtype"], row["width"]) for row in shader["images"]]
        console.print(table(("between passes", "type", "features"), between, right="features"))
        console.print()
    for entry in shader["entry_points"]:
        console.print(f"{entry['name']}: {entry_text(entry)}", markup=False, soft_wrap=True)
        rows = [
            (row["kind"], row["index"], row["name"], row["role"], row["port"] or "")
            for row in entry["arguments"]
            if row["index"] is not None
        ]
        rows += [
            ("color", row["index"], row["member"], "output", channels_text(row))
            for row in entry["attachments"]
        ]
        console.print(table(("bind", "index", "parameter", "role", "of"), rows, right="index"))
        console.print()
    for line in cost_lines(shader):
        console.print(line, markup=False, soft_wrap=True)


def blocks_table(shader: Json) -> Any:  # Any: a rich table
    """The arrays in the weights' file; dimensions are innermost first."""
    rows = [
        (
            row["name"],
            f"{row['role']} of {row['layer']}",
            row["dtype"],
            str(row["dimensions"]),
            str(row["used"]),
            str(row["strides"]),
            row["offset"],
            row["byte_length"],
        )
        for row in shader["blocks"]
    ]
    titles = ("block", "what", "type", "dimensions", "used", "strides", "offset", "bytes")
    return table(titles, rows, right="offset bytes")


def textures_table(shader: Json) -> Any:  # Any: a rich table
    """The textures in the latents' file."""
    rows = [
        (
            row["name"],
            f"{', '.join(str(one) for one in row['channels'] if one >= 0)} of {row['input']}",
            row["pixel_format"],
            f"{row['width']} × {row['height']}",
            row["offset"],
            row["byte_length"],
        )
        for row in shader["textures"]
    ]
    titles = ("texture", "features", "format", "size", "offset", "bytes")
    return table(titles, rows, right="offset bytes")


def channels_text(row: Json) -> str:
    """Which features of an output an attachment has."""
    return f"{row['output']}, features {row['first']} to {row['first'] + row['channels'] - 1}"


def entry_text(entry: Json) -> str:
    """How a function is run."""
    if entry["stage"] == "fragment":
        return "fragment function"
    threads = f"compute function, {entry['threads_per_threadgroup']} threads a threadgroup"
    covered = f"{entry['points_per_threadgroup']} points"
    if entry["tile"]:
        covered = f"a tile of {entry['tile'][0]} × {entry['tile'][1]} pixels"
    memory = entry["threadgroup_memory_bytes"]
    return f"{threads} for {covered}" + (f", {human_bytes(memory)} of its memory" if memory else "")
