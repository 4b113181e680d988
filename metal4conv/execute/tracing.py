"""What each operation of a run gave: its arrays in files, their figures in an index.

A trace is a folder with one `.npz` file for each operation that ran, in the order in which they
ran, and `index.json`, format `metal4conv.trace/1`. Operations on constants alone are not in it:
they were computed when the package was loaded.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import UsageError
from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.mil.program import Operation

FORMAT = "metal4conv.trace/1"
INDEX = "index.json"

Json = dict[str, Any]  # Any: a JSON object


@dataclass(frozen=True)
class Seen:
    """An operation that just ran."""

    operation: Operation
    place: tuple[str, ...]
    """Within which calls of nested blocks: `("loop body 3",)`; in a pipeline, first the model."""
    outputs: Mapping[str, np.ndarray]
    finite_inputs: bool
    """Whether what it took has no NaN and no infinity, or what it gave has none."""


See = Callable[[Seen], None]


def within(see: See, place: str) -> See:
    """The same listener for what runs within a further place."""
    return lambda seen: see(replace(seen, place=(place, *seen.place)))


@dataclass
class Trace:
    """A trace that is being written to a folder, one operation at a time."""

    folder: Path
    rows: list[Json] = field(default_factory=list)

    def add(self, seen: Seen) -> None:
        """Writes an operation's outputs and notes their figures."""
        number = len(self.rows)
        name = next(iter(seen.outputs), seen.operation.type)
        file = f"{number:05d}_{re.sub(r'[^A-Za-z0-9_.-]', '_', name)[:80]}.npz"
        write_npz(self.folder / file, seen.outputs)
        self.rows.append(
            {
                "number": number,
                "operation": name,
                "type": seen.operation.type,
                "place": list(seen.place),
                "file": file,
                "outputs": [
                    {
                        "name": name,
                        **figures(array),
                        "float16_overflow": float16_overflow(array, seen.finite_inputs),
                    }
                    for name, array in seen.outputs.items()
                ],
                "finite_inputs": seen.finite_inputs,
            }
        )

    def finish(self, about: Json) -> None:
        """Writes the index; `about` says what ran."""
        document = {"format": FORMAT, **about, "operations": self.rows}
        (self.folder / INDEX).write_text(json.dumps(document, indent=1), "utf-8")


def figures(array: np.ndarray) -> Json:
    """Dtype and shape; range and mean of the finite elements; how many are NaN or infinite.

    >>> figures(np.array([1.0, 3.0, np.inf], np.float32)) == {
    ...     "dtype": "float32", "shape": [3], "min": 1.0, "max": 3.0, "mean": 2.0,
    ...     "nan": 0, "inf": 1}
    True
    """
    row: Json = {"dtype": array.dtype.name, "shape": list(array.shape)}
    is_float = array.dtype.kind == "f"
    finite = array[np.isfinite(array)] if is_float else array
    row |= dict.fromkeys(("min", "max", "mean"))
    if finite.size:
        low, high = finite.min().item(), finite.max().item()
        row |= {"min": low, "max": high, "mean": float(finite.mean(dtype=np.float64))}
    nan = int(np.isnan(array).sum()) if is_float else 0
    return {**row, "nan": nan, "inf": array.size - finite.size - nan}


def is_finite(array: np.ndarray) -> bool:
    """Whether no element is NaN or infinite."""
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def float16_overflow(array: np.ndarray, finite_inputs: bool) -> int:
    """How many elements float16 cannot hold.

    In float16 those are the infinities that come of finite inputs, in wider floats the finite
    elements beyond 65504.

    >>> float16_overflow(np.array([70000, 1, np.inf], np.float32), True)
    1
    """
    if array.dtype == np.float16:
        return int(np.isinf(array).sum()) if finite_inputs else 0
    if array.dtype.kind != "f":
        return 0
    return int((np.isfinite(array) & (np.abs(array) > FLOAT16_MAX)).sum())


def check_folder(folder: Path) -> None:
    """`UsageError` for a folder that a trace must not replace: it holds something else."""
    if not folder.exists():
        return
    if folder.is_dir() and (not any(folder.iterdir()) or is_trace(folder / INDEX)):
        return
    raise UsageError(
        f"{folder} is there and holds no trace, so it is left as it is",
        where="--trace",
        hint="name a folder that does not exist, or is empty",
    )


def is_trace(index: Path) -> bool:
    """Whether a file is the index of a trace."""
    if not index.is_file():
        return False
    with index.open("rb") as file:
        return FORMAT.encode() in file.read(100)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """An `.npz` file without times, so that equal arrays give equal bytes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
                np.save(file, np.asanyarray(array), allow_pickle=False)
