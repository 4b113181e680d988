"""What a file of tensors holds: their names, types and shapes, and their elements when asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.report import Finding
from metal4conv.view.elements import TYPES, decoded, storage


@dataclass(frozen=True)
class MetalLayout:
    """How a tensor lies in a buffer, as Metal has it: innermost dimension first, from an offset.

    Strides are in elements; `row_bytes` is the stride of rows, None below rank 2.
    """

    dimensions: tuple[int, ...]
    strides: tuple[int, ...]
    row_bytes: int | None
    offset: int
    byte_length: int


@dataclass(frozen=True)
class Entry:
    """A tensor in a file. `load` gives its elements, mapped where the file allows that.

    `problem` says why there is no `load`, `operation` is what gave the tensor in a trace.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], np.ndarray] | None
    problem: str | None = None
    operation: str | None = None
    metal: MetalLayout | None = None

    @property
    def title(self) -> str:
        """What the tensor is called in a message."""
        return f'tensor "{self.name}"' if self.name else "the array"

    def stored(self) -> np.ndarray:
        """The elements as the file has them; `UsageError` for those that nobody can read."""
        if self.load is None:
            raise UsageError(f"{self.title} cannot be shown: {self.problem}")
        return self.load()

    def values(self) -> np.ndarray:
        """The elements as numbers."""
        return decoded(self.stored(), self.dtype)

    def has_numbers(self) -> bool:
        """Whether there are elements, and they are real numbers."""
        return self.load is not None and self.dtype in TYPES


@dataclass(frozen=True)
class Contents:
    """A file of tensors. `kind` is its format in words."""

    path: Path
    kind: str
    entries: tuple[Entry, ...]
    named: bool = True
    """Whether the tensors have names; an `.npy` file's only one has none."""
    findings: tuple[Finding, ...] = field(default=())

    @property
    def names(self) -> list[str]:
        """The tensors' names in the order of the file."""
        return [entry.name for entry in self.entries]

    def find(self, name: str, where: str = "--tensor") -> Entry:
        """The tensor of this name, or the only one whose name ends with it after a `/`.

        `UsageError` when there is none, or several.
        """
        exact = [entry for entry in self.entries if entry.name == name]
        ends = [entry for entry in self.entries if last_part(entry.name) == name]
        found = exact or ends
        if len(found) == 1:
            return found[0]
        if found:
            several = ", ".join(entry.name for entry in found[:20])
            raise UsageError(
                f'{self.path} has several tensors "{name}"',
                where=where,
                hint=f"name one: {several}",
            )
        raise UsageError(
            f'{self.path} has no tensor "{name}"', where=where, hint=did_you_mean(name, self.names)
        )

    def of_operation(self, name: str) -> Contents:
        """The contents that one operation of a trace gave, in all the loops that it ran in."""
        if not any(entry.operation for entry in self.entries):
            raise UsageError(
                f"{self.path} is no trace, so it has no operations",
                where=f"--operation {name}",
                hint="name a tensor: --tensor NAME",
            )
        known = [entry for entry in self.entries if entry.operation == name]
        if not known:
            operations = dict.fromkeys(entry.operation or "" for entry in self.entries)
            raise UsageError(
                f'{self.path} has no operation "{name}"',
                where=f"--operation {name}",
                hint=did_you_mean(name, operations),
            )
        return replace(self, entries=tuple(known))

    def only(self, entry: Entry) -> Contents:
        """The contents without other tensors."""
        return replace(self, entries=(entry,))

    def as_type(self, dtype: str) -> Contents:
        """The same elements read as another type of the same size."""
        return replace(self, entries=tuple(reread(entry, dtype) for entry in self.entries))


def last_part(name: str) -> str:
    """What a name ends with.

    >>> last_part("case0/input/color")
    'color'
    """
    return name.rpartition("/")[2]


def reread(entry: Entry, dtype: str) -> Entry:
    """A tensor whose bytes are of another type than the file says."""
    wanted = storage(dtype)
    if entry.load is None:
        return entry
    array = entry.load()
    if array.dtype.itemsize != wanted.itemsize or array.dtype.hasobject:
        raise UsageError(
            f"{entry.title} is {entry.dtype} with {array.dtype.itemsize} bytes an element; "
            f"{dtype} has {wanted.itemsize}",
            where=f"--dtype {dtype}",
            hint="--dtype reads the same bytes as another type; it does not convert",
        )
    return replace(entry, dtype=dtype, load=lambda: array.view(wanted))


def check_file(path: Path) -> None:
    """`UsageError` when there is no such file, or no regular one; opening a pipe would wait."""
    if not path.exists():
        raise UsageError(f"no such file: {path}")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or a device"
        raise UsageError(f"{path} is {kind}", hint="name a file; what a pipe gives, write to one")
