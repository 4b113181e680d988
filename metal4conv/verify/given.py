"""Inputs that the user gives in an `.npz` file.

One case is a set of arrays named as the inputs; further cases add `.1`, `.2`, … to each name:
`np.savez("inputs.npz", **{"x": first, "x.1": second})`.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from metal4conv.errors import DamagedFile, UsageError, did_you_mean
from metal4conv.frontends.source import SourceInput
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.program import Dimension
from metal4conv.verify.draw import DrawnCases, round_to_package
from metal4conv.verify.golden import GoldenCase, fits_dtype
from metal4conv.report import Finding


def cases_from_npz(
    path: Path,
    inputs: Sequence[SourceInput],
    dimensions: Mapping[str, Dimension] | None = None,
    input_dtypes: Mapping[str, str] | None = None,
) -> DrawnCases:
    """The cases in a file, checked against names, shapes and dtypes of the inputs.

    Floats of any width are taken for a float input, integers for an integer one when the values fit.
    """
    arrays = read_arrays(path)
    by_case = split_cases(path, arrays, inputs)
    cases = []
    findings: list[Finding] = []
    for number, group in by_case.items():
        sizes: dict[str, int] = {}
        taken = {}
        for item in inputs:
            label = array_name(item.name, number)
            given = as_source_dtype(group[item.name], item, label)
            bind_sizes(given.shape, item, sizes, dimensions or {}, label)
            held = (input_dtypes or {}).get(item.name, item.type.dtype)
            taken[item.name] = round_to_package(given, held, item.name)
            if not np.array_equal(taken[item.name], group[item.name], equal_nan=given.dtype.kind == "f"):
                findings.append(rounded_finding(label, held))
        cases.append(GoldenCase(taken, sizes))
    return DrawnCases(tuple(cases), tuple(findings))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            raise UsageError(
                f"{path} holds a single array without a name",
                hint="save it with numpy.savez, by the input's name",
            )
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise DamagedFile(f"{path} is no readable .npz file: {error}") from None


def split_cases(
    path: Path, arrays: Mapping[str, np.ndarray], inputs: Sequence[SourceInput]
) -> dict[int, dict[str, np.ndarray]]:
    """Arrays by case and input; each case has all inputs and nothing else."""
    names = [item.name for item in inputs]
    cases: dict[int, dict[str, np.ndarray]] = {}
    for key, array in arrays.items():
        stem, dot, number = key.rpartition(".")
        name, case = (stem, int(number)) if dot and number.isdigit() and stem in names else (key, 0)
        if name not in names:
            raise UsageError(
                f'{path} has an array "{key}", but the model has no such input',
                hint=did_you_mean(name, names),
            )
        cases.setdefault(case, {})[name] = array
    for number, group in sorted(cases.items() or {0: {}}.items()):
        for item in inputs:
            if item.name not in group:
                raise UsageError(
                    f'{path} has no array "{array_name(item.name, number)}"',
                    hint="expected " + ", ".join(f"{item.name}: {item.type}" for item in inputs),
                )
    return dict(sorted(cases.items()))


def array_name(name: str, case: int) -> str:
    """What an input is called in the file.

    >>> array_name("x", 0), array_name("x", 2)
    ('x', 'x.2')
    """
    return f"{name}.{case}" if case else name


def as_source_dtype(array: np.ndarray, item: SourceInput, label: str) -> np.ndarray:
    """The array with the dtype that the source takes."""
    wanted = np.dtype(DTYPES[item.type.dtype].numpy)
    families = {"f": "f", "i": "iu", "u": "iu", "b": "b"}
    if array.dtype.kind not in families.get(wanted.kind, ""):
        raise UsageError(f'array "{label}": expected {item.type.dtype}, got {array.dtype}')
    if wanted.kind in "iu" and not fits_dtype(array, wanted):
        raise UsageError(
            f'array "{label}" has values {array.min()}..{array.max()}, which {wanted} does not hold'
        )
    return array.astype(wanted)


def bind_sizes(
    shape: tuple[int, ...],
    item: SourceInput,
    sizes: dict[str, int],
    dimensions: Mapping[str, Dimension],
    label: str,
) -> None:
    """Adds the dynamic sizes of an array to `sizes`; `UsageError` when the shape does not fit."""
    declared = item.type.shape
    fits = len(shape) == len(declared) and all(
        isinstance(wanted, str) or wanted == size
        for size, wanted in zip(shape, declared, strict=True)
    )
    if not fits:
        expected = f"({', '.join(map(str, declared))})"
        raise UsageError(f'array "{label}": expected shape {expected}, got {shape}')
    for size, wanted in zip(shape, declared, strict=True):
        if isinstance(wanted, int):
            continue
        if sizes.setdefault(wanted, size) != size:
            raise UsageError(
                f'array "{label}" has {wanted}={size}, another input has {wanted}={sizes[wanted]}'
            )
        if wanted in dimensions and not dimensions[wanted].allows(size):
            raise UsageError(
                f'array "{label}" has {wanted}={size}, expected one of {dimensions[wanted]}'
            )


def rounded_finding(label: str, dtype: str) -> Finding:
    """Says that given values were changed."""
    return Finding(
        "info",
        "golden-input-rounded",
        f'array "{label}" was rounded to {dtype}, which is what the model takes',
        where=label,
    )
