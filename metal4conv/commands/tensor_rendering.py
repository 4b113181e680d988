"""How `view` looks on a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from metal4conv.commands.rendering import figure
from metal4conv.console import human_bytes, table
from metal4conv.view.elements import storage
from metal4conv.view.panels import Panel
from metal4conv.view.statistics import Histogram
from metal4conv.view.terminal import (
    fitted,
    half_blocks,
    histogram_lines,
    marks_in,
    numbers_text,
    ramp_lines,
    side_by_side,
    visible,
)
from metal4conv.view.viewing import Viewed

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

Json = Mapping[str, Any]  # Any: a JSON object

TITLES = ("name", "dtype", "shape", "min", "max", "mean", "NaN", "inf", "")
DIFFERENCE_TITLES = ("name", "dtype", "shape", "max abs", "max rel", "PSNR", "differ", "worst at")

GAP = 2
LEAST_PANEL = 24
"""Columns below which pictures stand below each other instead of beside."""


def show_view(viewed: Viewed, console: Console) -> None:
    """The table, or one tensor in detail, or two."""
    data = viewed.report.data
    if is_ascii(console) and isinstance(console.file, TextIOWrapper):
        console.file.reconfigure(errors="replace")  # × and names have no other form
    if "tensors" in data:
        show_table(data, console)
    else:
        show_tensor(data, console)
    show_panels(viewed.panels, console)
    for title, values in viewed.numbers:
        lines(["", visible(title), numbers_text(values, console.width - 10)], console)
    for path in viewed.report.files:
        lines([path], console)


def lines(texts: Iterable[str], console: Console) -> None:
    """Prints lines as they are."""
    for text in texts:
        console.print(text, markup=False, soft_wrap=True)


def show_table(data: Json, console: Console) -> None:
    """All tensors, each in a line."""
    order = "dimensions" if data["innermost_first"] else "shape"
    if "against" in data:
        cells = [difference_cells(row, data) for row in data["tensors"]]
        titles = [order if title == "shape" else title for title in DIFFERENCE_TITLES]
        console.print(table(titles, cells, right="differ"))
        return
    rows = [table_cells(row, data) for row in data["tensors"]]
    shown = [title for column, title in enumerate(TITLES) if column < 6 or any_cell(rows, column)]
    kept = [
        [cell for cell, title in zip(row, TITLES, strict=True) if title in shown] for row in rows
    ]
    titles = [order if title == "shape" else title for title in shown]
    console.print(table(titles, kept, right="min max mean NaN inf"))


def any_cell(rows: Sequence[Sequence[object]], column: int) -> bool:
    """Whether a column holds anything."""
    return any(row[column] for row in rows)


def table_cells(row: Json, data: Json) -> tuple[object, ...]:
    """A tensor's line."""
    start = (visible(row["name"]), row["dtype"], shape_text(row["shape"], data))
    found = row.get("statistics")
    if found is None:
        return (*start, "", "", "", "", "", "")
    numbers = (figure(found[key]) for key in ("min", "max", "mean"))
    return (*start, *numbers, found["nan"] or "", found["inf"] or "", remark(found))


def remark(found: Json) -> str:
    """What else deserves a look."""
    words = ["constant"] if found["constant"] else []
    words += [f"{found['denormal']} denormal"] if found["denormal"] else []
    if found["dtype"] != "float16" and found["beyond_float16"]:
        words.append(f"{found['beyond_float16']} >float16")
    return ", ".join(words)


def shape_text(shape: Sequence[int], data: Json) -> str:
    """A shape in the order that was asked for."""
    sizes = list(reversed(shape)) if data["innermost_first"] else list(shape)
    return " × ".join(map(str, sizes)) or "scalar"


def index_text(index: Sequence[int], data: Json) -> str:
    """The place of an element."""
    return f"[{', '.join(map(str, reversed(index) if data['innermost_first'] else index))}]"


def order_text(data: Json) -> str:
    """Which order a place is given in, where it is not numpy's."""
    return ", innermost first" if data["innermost_first"] else ""


def difference_cells(row: Json, data: Json) -> tuple[object, ...]:
    """The line of a tensor that both files have."""
    types = row["dtype"], row["against"]["dtype"]
    dtype = types[0] if types[0] == types[1] else " | ".join(types)
    start = (visible(row["name"]), dtype, shape_text(row["shape"], data))
    found = row.get("difference")
    if found is None:
        return (*start, "", "", "", "", "")
    worst = "" if found["worst"] is None else index_text(found["worst"], data)
    return (*start, *error_cells(found), found["differing"] or "none", worst)


def error_cells(found: Json) -> tuple[str, str, str]:
    """Largest errors, and PSNR."""
    ratio = "∞" if found["equal"] else "-" if found["psnr"] is None else f"{found['psnr']:.1f} dB"
    return figure(found["max_absolute_error"]), figure(found["max_relative_error"]), ratio


def show_tensor(data: Json, console: Console) -> None:
    """One tensor, or two beside each other."""
    sides = [data["tensor"], *([data["against"]] if "against" in data else [])]
    rows = [list(row) for row in zip(*(facts(side, data) for side in sides), strict=True)]
    merged = [(row[0][0], *(value for _, value in row)) for row in rows]
    titles, *kept = (row for row in merged if any(row[1:]))
    console.print(table(titles, kept))
    for side in sides:
        title = visible(side["name"] or side.get("file", data["file"]))
        show_histogram(side, title if len(sides) > 1 else None, console)
    if "difference" in data:
        show_difference(data, console)


def facts(side: Json, data: Json) -> list[tuple[str, str]]:
    """A tensor's figures, each with what it is called; without a value where there is none."""
    shape = side["shape"]
    metal = side.get("metal")
    rows = [
        ("tensor", visible(side["name"])),
        ("file", visible(side.get("file", data["file"]))),
        ("operation", visible(side.get("operation", ""))),
        ("dtype", side["dtype"]),
        ("shape, outermost first", " × ".join(map(str, shape)) or "scalar"),
        ("dimensions, innermost first", bracketed(shape[::-1]) if len(shape) > 1 else ""),
        ("strides in the buffer", bracketed(metal["strides"]) if metal else ""),
        ("bytes of a row", row_text(side, metal) if metal else ""),
        (f"slice{order_text(data)}", f"[{side['slice']}]" if "slice" in side else ""),
    ]
    found = side.get("statistics")
    return [*rows, *(statistics_facts(found) if found else [])]


def bracketed(sizes: Sequence[int]) -> str:
    """Sizes as Metal's extents are written."""
    return f"[{', '.join(map(str, sizes))}]"


def row_text(side: Json, metal: Json) -> str:
    """How many bytes a row has, and how many of them are padding."""
    if metal["row_bytes"] is None:
        return ""
    padding = metal["row_bytes"] - side["shape"][-1] * storage(side["dtype"]).itemsize
    return (
        f"{metal['row_bytes']}, {padding} of them padding"
        if padding > 0
        else str(metal["row_bytes"])
    )


def statistics_facts(found: Json) -> list[tuple[str, str]]:
    """Figures in words."""
    size = 1
    for dimension in found["shape"]:
        size *= dimension
    count = f"{size:,} ({human_bytes(size * storage(found['dtype']).itemsize)})"
    is_float = "float" in found["dtype"]
    spread = "" if found["mean"] is None else f"{found['mean']:.6g}, {found['std']:.6g}"
    bounds = "none is finite" if found["min"] is None else f"{found['min']:.6g}, {found['max']:.6g}"
    return [
        ("elements", count),
        ("min, max", bounds if size else ""),
        ("mean, deviation", spread),
        ("constant", f"each is {found['min']:.6g}" if found["constant"] else ""),
        ("NaN, infinite", f"{found['nan']:,}, {found['inf']:,}" if is_float else ""),
        ("zero, denormal", f"{found['zero']:,}, {found['denormal']:,}" if is_float else ""),
        ("zero", "" if is_float else f"{found['zero']:,}"),
        ("too large, too small for float16", float16_text(found) if is_float else ""),
    ]


def float16_text(found: Json) -> str:
    """How many elements float16 has no room for."""
    if found["dtype"] == "float16":
        return ""
    return f"{found['beyond_float16']:,}, {found['below_float16']:,}"


def show_histogram(side: Json, title: str | None, console: Console) -> None:
    """The histogram, unless all elements are equal."""
    found = side.get("statistics")
    if found is None or found["histogram"] is None or len(found["histogram"]["counts"]) < 2:
        return
    histogram = Histogram(tuple(found["histogram"]["edges"]), tuple(found["histogram"]["counts"]))
    lines([""] if title is None else ["", title], console)
    width = min(64, console.width - 16)
    lines(histogram_lines(histogram, width=width, ascii_only=is_ascii(console)), console)


def is_ascii(console: Console) -> bool:
    """Whether the terminal has no characters beyond ASCII."""
    return not console.encoding.lower().startswith("utf")


def has_color(console: Console) -> bool:
    """Whether the terminal shows enough colours for a picture, which sixteen are not."""
    return console.color_system in ("256", "truecolor") and not console.no_color


def show_difference(data: Json, console: Console) -> None:
    """How far two tensors are apart, and where most."""
    found = data["difference"]
    console.print()
    if found["equal"]:
        lines([f"all {found['elements']:,} elements are equal"], console)
        return
    absolute, relative, ratio = error_cells(found)
    share = found["differing"] / found["elements"]
    rows = [
        ("elements that differ", f"{found['differing']:,} of {found['elements']:,} ({share:.2%})"),
        ("NaN or infinite in one", f"{found['not_finite']:,}" if found["not_finite"] else ""),
        ("max abs, max rel", f"{absolute}, {relative}"),
        ("root mean square, PSNR", f"{figure(found['rms_error'])}, {ratio}"),
        (f"worst at{order_text(data)}", index_text(found["worst"], data)),
        ("", f"{found['worst_actual']}, expected {found['worst_expected']}"),
    ]
    titles, *kept = (row for row in rows if row[1] or not row[0])
    console.print(table(titles, kept))


def show_panels(panels: Sequence[Panel], console: Console) -> None:
    """The pictures, beside each other where there is room."""
    if not panels:
        return
    columns = (console.width - GAP * (len(panels) - 1)) // len(panels)
    beside = len(panels) > 1 and columns >= LEAST_PANEL
    small = [
        fitted(panel.pixels, columns if beside else console.width, peaks=panel.heat)
        for panel in panels
    ]
    marks = dict.fromkeys(mark for pixels in small for mark in marks_in(pixels))
    in_color = has_color(console) and not is_ascii(console)
    console.print()
    if beside:
        lines(
            (f"{number}: {visible(panel.title)}" for number, panel in enumerate(panels, 1)), console
        )
    for group, titles in (
        [(small, [])] if beside else zip(([s] for s in small), panels, strict=True)
    ):
        lines([visible(titles.title)] if isinstance(titles, Panel) else [], console)
        if in_color:
            console.print(colored(group), soft_wrap=True, end="")
        else:
            lines(side_by_side([ramp_lines(pixels) for pixels in group]), console)
    if marks:
        shown = {"NaN": ("magenta", "N"), "infinity": ("cyan", "I")}
        words = (f"{mark} is {shown[mark][0 if in_color else 1]}" for mark in marks)
        lines([", ".join(words)], console)


def colored(pictures: Sequence[Any]) -> Text:
    """Pictures beside each other in half blocks. (Any: arrays of pixels.)"""
    from rich.text import Text

    text = Text()
    blocks = [half_blocks(pixels) for pixels in pictures]
    for number in range(max(map(len, blocks))):
        for position, block in enumerate(blocks):
            if position:
                text.append(" " * GAP)
            if number >= len(block):
                text.append(" " * pictures[position].shape[1])
                continue
            for count, top, below in block[number]:
                style = f"rgb({top[0]},{top[1]},{top[2]})"
                if below is not None:
                    style += f" on rgb({below[0]},{below[1]},{below[2]})"
                text.append("▀" * count, style=style)
        text.append("\n")
    return text
