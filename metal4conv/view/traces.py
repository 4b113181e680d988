"""Traces, the folders that `run --trace` writes: what each operation gave, in its order."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import DamagedFile, UsageError
from metal4conv.execute.tracing import FORMAT, INDEX
from metal4conv.view.contents import Contents, Entry
from metal4conv.view.numpy_files import read_npz


def read_trace(folder: Path) -> Contents:
    """The tensors of a trace. What ran in a loop has the loop before its name."""
    index = folder / INDEX
    if not index.is_file():
        raise UsageError(
            f"{folder} is a folder without {INDEX}, so it is no trace",
            hint="metal4conv run NET.mlpackage --random --trace DIR writes one; "
            "metal4conv inspect shows what is in a package",
        )
    try:
        document = json.loads(index.read_text("utf-8"))
        if document["format"] != FORMAT:
            raise DamagedFile(f'{index} has the format "{document["format"]}", expected "{FORMAT}"')
        rows = document["operations"]
        entries = [entry for row in rows for entry in entries_of(folder, row)]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DamagedFile(f"{index} is damaged: {error!r}", hint="run with --trace again") from None
    return Contents(folder, "trace", numbered(entries))


def entries_of(folder: Path, row: dict[str, Any]) -> list[Entry]:
    """What one operation gave; its file is opened when it is looked at. (Any: a JSON object.)"""
    file = str(row["file"])
    if Path(file).name != file:  # an index names files beside it, and no others
        raise DamagedFile(f'the trace {folder} names a file "{file}" that is not in it')
    entries = []
    for out in row["outputs"]:
        dtype, shape = str(out["dtype"]), tuple(map(int, out["shape"]))
        load = partial(load_member, folder / file, str(out["name"]), dtype, shape)
        name = ": ".join([*row["place"], out["name"]])
        entries.append(Entry(name, dtype, shape, load, operation=str(row["operation"])))
    return entries


def load_member(path: Path, name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array of an operation's file, which must be what the index says."""
    found = read_npz(path).find(name)
    if (found.dtype, found.shape) != (dtype, shape):
        raise DamagedFile(
            f'"{name}" of {path} is {found.dtype} of shape {found.shape}; '
            f"the trace's index has {dtype} of shape {shape}",
            hint="run with --trace again",
        )
    return found.stored()


def numbered(entries: list[Entry]) -> tuple[Entry, ...]:
    """The entries with a number after names that come again, as in functions called twice."""
    often = Counter(entry.name for entry in entries)
    seen: Counter[str] = Counter()
    named = []
    for entry in entries:
        seen[entry.name] += 1
        again = often[entry.name] > 1
        named.append(replace(entry, name=f"{entry.name} #{seen[entry.name]}") if again else entry)
    return tuple(named)
