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
from metal4conv.report import Finding
from metal4conv.verify.arrays import round_to_package
from metal4conv.verify.draw import DrawnCases
from metal4conv.verify.golden import GoldenCase, fits_dtype


def cases_from_npz(
    path: Path,
    inputs: Sequence[SourceInput],
    dimensions: Mapping[str, Dimension] | None = None,
    input_dtypes: Mapping[str, str] | None = None,
) -> DrawnCases:
    """The cases in a file, checked against names, shapes and dtypes of the inputs.

    Floats of any width are taken for a float input, integers for an integer one when they fit.
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
            if not np.array_equal(
                taken[item.name], group[item.name], equal_nan=given.dtype.kind == "f"
            ):
                findings.append(rounded_finding(label, held))
        cases.append(GoldenCase(taken, sizes))
    return DrawnCases(tuple(cases), tuple(findings))


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an `.npz` file."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        # numpy leaves a file that it opened itself open when it is damaged
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
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
        name, case = parse_array_name(key, names)
        if name not in names:
            raise UsageError(
                f'{path} has an array "{key}", but the model has no such input',
                hint=did_you_mean(name, names),
            )
        cases.setdefault(case, {})[name] = array
    if not cases:
        raise UsageError(f"{path} has no arrays", hint=expected_text(inputs))
    for case, group in cases.items():
        for name in names:
            if name not in group:
                raise UsageError(
                    f'{path} has no array "{array_name(name, case)}"', hint=expected_text(inputs)
                )
    return dict(sorted(cases.items()))


def parse_array_name(key: str, names: Sequence[str]) -> tuple[str, int]:
    """The input and the case that an array is for; a dot may belong to the input's name.

    >>> parse_array_name("x.2", ["x"]), parse_array_name("x.2", ["x.2"])
    (('x', 2), ('x.2', 0))
    """
    stem, _, number = key.rpartition(".")
    if key not in names and number.isdigit() and stem in names:
        return stem, int(number)
    return key, 0


def expected_text(inputs: Sequence[SourceInput]) -> str:
    """What a file must hold.

    >>> from metal4conv.mil.program import TensorType
    >>> expected_text([SourceInput("x", TensorType("float32", (1, "h")))])
    'expected x: float32[1, h]'
    """
    return "expected " + ", ".join(f"{item.name}: {item.type}" for item in inputs)


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
