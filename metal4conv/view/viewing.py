"""What `view` does: tables of tensors, one tensor in detail, and two beside each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.report import Finding, Report
from metal4conv.view.choosing import MOST_NAMES, chosen, chosen_pair, open_files, partner
from metal4conv.view.contents import Contents, Entry
from metal4conv.view.differences import compare, json_number, matched
from metal4conv.view.panels import Panel, check_picture, pair_panels, panels_of, write_png
from metal4conv.view.parts import Json, Part, ViewOptions, entry_row, file_row, part_of, part_row
from metal4conv.view.statistics import statistics

FEW_NUMBERS = 64
"""So many elements are shown as numbers, too, when they make no picture by themselves."""


@dataclass(frozen=True)
class Viewed:
    """A report with what JSON has no place for: pictures, and elements by a title."""

    report: Report
    panels: tuple[Panel, ...] = ()
    numbers: tuple[tuple[str, np.ndarray], ...] = ()


def view_file(
    file: str, options: ViewOptions, say: Callable[[str], None] = lambda text: None
) -> Viewed:
    """Looks at a file; a picture is written when all went well."""
    check_options(options)
    say(f"reading {file}")
    first, second = open_files(file, options)
    if second is None:
        entry = chosen(first, options)
        return table(first, options) if entry is None else detail(first, entry, options)
    pair = chosen_pair(first, second, options)
    if pair is None:
        return difference_table(first, second, options)
    parts = part_of(first, pair[0], options), part_of(second, pair[1], options)
    return difference_detail(parts, options, (*first.findings, *second.findings))


def check_options(options: ViewOptions) -> None:
    """`UsageError` for options that do not go together."""
    if options.png is not None and Path(options.png).suffix.lower() != ".png":
        raise UsageError(f"{options.png} is no name of a .png file", where="--png")
    if options.png is not None and Path(options.png).is_dir():
        raise UsageError(f"{options.png} is a folder, and a file is to be written", where="--png")
    if options.amplify is not None and not math.isfinite(options.amplify):
        raise UsageError(f"{options.amplify} is no factor", where="--amplify")
    if options.amplify is not None and not options.against:
        raise UsageError(
            "there is no difference to amplify", where="--amplify", hint="add --against FILE"
        )
    if options.tensor and options.operation:
        raise UsageError("--tensor names a tensor already", where="--operation")


def table(contents: Contents, options: ViewOptions) -> Viewed:
    """All tensors of a file with their figures."""
    rows = []
    for entry in contents.entries:
        row = entry_row(entry)
        if entry.has_numbers():
            row["statistics"] = statistics(entry.stored(), entry.dtype).to_json()
        rows.append(row)
    data = {**file_row(contents, options), "tensors": rows}
    return Viewed(Report("view", data, (*contents.findings, *type_findings(contents.entries))))


def type_findings(entries: Sequence[Entry]) -> list[Finding]:
    """Notes on tensors whose type is not known, and what to do about it."""
    found = [
        Finding("warning", "unknown-type", f'tensor "{entry.name}": {entry.problem}', entry.name)
        for entry in entries
        if entry.problem
    ]
    if any(entry.dtype == "void16" for entry in entries):
        text = "numpy keeps bfloat16 as elements of two bytes without a type, void16"
        hint = "--dtype bfloat16 reads them as such"
        found.append(Finding("info", "without-a-type", text, hint=hint))
    return found


def detail(contents: Contents, entry: Entry, options: ViewOptions) -> Viewed:
    """One tensor: figures, picture, numbers."""
    part = part_of(contents, entry, options)
    data = {**file_row(contents, options), "tensor": part_row(part, options)}
    panels = panels_of(part, options)
    check_picture(panels, part, options)
    numbers = shown_numbers([part], panels, options)
    if options.numbers:
        data["values"] = json_number(part.values.tolist())
    findings = (*contents.findings, *type_findings([entry]))
    return Viewed(Report("view", data, findings, write_png(options.png, panels)), panels, numbers)


def shown_numbers(
    parts: Sequence[Part], panels: Sequence[Panel], options: ViewOptions
) -> tuple[tuple[str, np.ndarray], ...]:
    """Elements to print: when asked, or when they are few and a part, or make no picture."""
    is_part = parts[0].index is not None or not panels
    few = parts[0].stored.size <= FEW_NUMBERS and is_part
    if not options.numbers and not few:
        return ()
    return tuple((part.full_title, part.values) for part in parts)


def difference_table(first: Contents, second: Contents, options: ViewOptions) -> Viewed:
    """All tensors that both files have, with how far they are apart."""
    rows: list[Json] = []
    alone: list[str] = []
    findings = [*first.findings, *second.findings]
    for entry in first.entries:
        try:
            other = partner(entry, second)
        except UsageError:
            alone.append(entry.name)
            continue
        row = {**entry_row(entry), "against": entry_row(other)}
        try:
            row["difference"] = difference_row(entry, other)
        except UsageError as error:
            findings.append(Finding("warning", "not-compared", error.message, entry.name))
        rows.append(row)
    if not rows:
        raise UsageError(
            f"{first.path} and {second.path} have no tensor of the same name",
            where="--against",
            hint=f"the first has {', '.join(first.names[:MOST_NAMES])}; "
            f"the second {', '.join(second.names[:MOST_NAMES])}",
        )
    if alone:
        more = f", and {len(alone) - MOST_NAMES} more" if len(alone) > MOST_NAMES else ""
        text = f"not in {second.path}: {', '.join(alone[:MOST_NAMES])}{more}"
        findings.append(Finding("warning", "not-in-both", text))
    data = {**file_row(first, options), "against": str(second.path), "tensors": rows}
    return Viewed(Report("view", data, tuple(findings)))


def difference_row(entry: Entry, other: Entry) -> Json:
    """How far a tensor is from its partner, which is what is expected."""
    check_numbers(entry, other)
    expected = other.stored()
    names = f'tensor "{entry.name}"', f'"{other.name}"'
    return compare(
        expected, matched(expected, entry.stored(), names), other.dtype, entry.dtype
    ).to_json()


def check_numbers(*entries: Entry) -> None:
    """`UsageError` for a tensor that has no differences."""
    for entry in entries:
        if not entry.has_numbers():
            raise UsageError(f"{entry.title} is {entry.dtype}, and only numbers are compared")


def difference_detail(
    parts: tuple[Part, Part], options: ViewOptions, findings: tuple[Finding, ...]
) -> Viewed:
    """Two tensors: the figures of both, how far they are apart, and three pictures."""
    part, other = parts
    check_numbers(part.entry, other.entry)
    part = part.shaped(matched(other.stored, part.stored, (part.full_title, other.full_title)))
    found = compare(other.stored, part.stored, other.entry.dtype, part.entry.dtype)
    data: Json = {
        "file": str(part.file),
        "innermost_first": options.innermost_first,
        "tensor": part_row(part, options),
        "against": {"file": str(other.file), **part_row(other, options)},
        "difference": found.to_json(),
    }
    panels = pair_panels(part, other, options)
    check_picture(panels, other, options)
    if options.numbers:
        data["values"] = json_number(part.values.tolist())
        data["against"]["values"] = json_number(other.values.tolist())
    written = write_png(options.png, panels)
    numbers = shown_numbers([part, other], panels, options)
    return Viewed(Report("view", data, findings, written), panels, numbers)
