"""What is looked at: the options, the part of a tensor that was chosen, and its figures."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.report import as_json
from metal4conv.view.buffers import BufferOptions
from metal4conv.view.contents import Contents, Entry
from metal4conv.view.elements import decoded
from metal4conv.view.slices import Index, parse_slice, slice_text
from metal4conv.view.statistics import statistics

Json = dict[str, Any]  # Any: a JSON object


@dataclass(frozen=True)
class ViewOptions:
    """What is looked at, and how; all as the command line has it."""

    tensor: str | None = None
    operation: str | None = None
    slice: str | None = None
    numbers: bool = False
    png: str | None = None
    against: str | None = None
    amplify: float | None = None
    value_range: str | None = None
    buffer: BufferOptions = field(default_factory=BufferOptions)

    @property
    def innermost_first(self) -> bool:
        """Whether dimensions are given and shown in Metal's order."""
        return self.buffer.innermost_first


@dataclass(frozen=True)
class Part:
    """What was chosen of a tensor: its stored elements, or a slice of them."""

    file: Path
    entry: Entry
    index: tuple[Index, ...] | None
    stored: np.ndarray

    @property
    def title(self) -> str:
        """The tensor's name, or the file's where it has none."""
        return self.entry.name or self.file.name

    @property
    def full_title(self) -> str:
        """The tensor's name with the file's."""
        return f"{self.entry.name} of {self.file.name}" if self.entry.name else self.file.name

    def shaped(self, stored: np.ndarray) -> Part:
        """The same part with its elements in another shape."""
        return replace(self, stored=stored)

    @property
    def values(self) -> np.ndarray:
        """The elements as numbers."""
        return decoded(self.stored, self.entry.dtype)


def file_row(contents: Contents, options: ViewOptions) -> Json:
    """Which file it is, and in which order its dimensions are shown."""
    return {
        "file": str(contents.path),
        "kind": contents.kind,
        "innermost_first": options.innermost_first,
    }


def part_of(contents: Contents, entry: Entry, options: ViewOptions) -> Part:
    """The elements that were asked for."""
    stored = entry.stored()
    if options.slice is None:
        return Part(contents.path, entry, None, stored)
    index = parse_slice(options.slice, stored.shape, innermost_first=options.innermost_first)
    return Part(contents.path, entry, index, np.asarray(stored[index]))


def part_row(part: Part, options: ViewOptions) -> Json:
    """What was chosen, and its figures."""
    row = entry_row(part.entry)
    if part.index is not None:
        row["slice"] = slice_text(part.index, innermost_first=options.innermost_first)
    if part.entry.has_numbers():
        row["statistics"] = statistics(part.stored, part.entry.dtype).to_json()
    return row


def entry_row(entry: Entry) -> Json:
    """Name, type and shape of a tensor, and what else its file tells."""
    row: Json = {"name": entry.name, "dtype": entry.dtype, "shape": list(entry.shape)}
    if entry.operation is not None:
        row["operation"] = entry.operation
    if entry.metal is not None:
        row["metal"] = as_json(entry.metal)
    return row
