"""Golden vectors: inputs and the source model's own outputs in one `.golden.safetensors` file.

Format `metal4conv.golden/1`, a safetensors file. Tensors are named `case{i}/input/{name}` and
`case{i}/output/{name}`, i counting from 0, names as the package has them. Inputs have the source
model's dtype, outputs are float32 where the source gives floats. int64 is stored as int32, which is
what a package has, where the values fit.

Its metadata (strings; what is not plain text is JSON):

| key | meaning |
|---|---|
| `format` | `metal4conv.golden/1` |
| `package` | the package's name |
| `package_sha256` | the content that the vectors belong to, as the layout manifest has it |
| `source` | in words, such as `pytorch exported program` |
| `source_sha256` | of the content of the source model's files |
| `versions` | JSON object: version by package |
| `seed` | what the inputs were drawn from; empty when they were given |
| `cases` | JSON list of objects with `dimensions`, `inputs` and `outputs` |

`inputs` and `outputs` of a case give for each tensor `dtype` (before it was stored), `shape`, and
`low` and `high`, the range of its finite values.

Equal content gives equal bytes: tensors and keys are sorted, and there are no times or paths.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import DamagedFile, OutputError, UsageError

FORMAT = "metal4conv.golden/1"
SUFFIX = ".golden.safetensors"
ST_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "uint16": "U16",
    "int16": "I16",
    "float16": "F16",
    "uint32": "U32",
    "int32": "I32",
    "float32": "F32",
    "uint64": "U64",
    "int64": "I64",
    "float64": "F64",
}
"""Element types as safetensors spells them."""


@dataclass(frozen=True)
class GoldenCase:
    """Inputs, the dynamic sizes that they have, and the source's outputs (empty until it ran)."""

    inputs: Mapping[str, np.ndarray]
    dimensions: Mapping[str, int] = field(default_factory=dict)
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True)
class GoldenOrigin:
    """Where golden vectors come from; all of it is text that is equal on every machine."""

    package: str
    package_sha256: str = ""
    source: str = ""
    source_sha256: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class Golden:
    """The content of a golden vector file."""

    origin: GoldenOrigin
    cases: tuple[GoldenCase, ...]


def golden_path(package: Path) -> Path:
    """Where the golden vectors of a package are by default: beside it.

    >>> golden_path(Path("build/net.mlpackage")).name
    'net.golden.safetensors'
    """
    return package.with_name(package.name.removesuffix(".mlpackage") + SUFFIX)


def source_sha256(files: Iterable[Path]) -> str:
    """The hash of the files' contents in their order; names and places do not count."""
    digest = hashlib.sha256()
    for path in files:
        content = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(2**20):
                content.update(chunk)
        digest.update(content.digest())
    return digest.hexdigest()


def installed_versions(*names: str) -> dict[str, str]:
    """Versions of those distributions that are installed.

    >>> sorted(installed_versions("numpy", "no-such-distribution"))
    ['numpy']
    """
    found = {}
    for name in sorted(names):
        with suppress(distributions.PackageNotFoundError):
            found[name] = distributions.version(name)
    return found


def write_golden(path: Path, cases: Sequence[GoldenCase], origin: GoldenOrigin) -> None:
    """Writes the file; `OutputError` when that fails."""
    try:
        path.write_bytes(golden_bytes(cases, origin))
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from None


def golden_bytes(cases: Sequence[GoldenCase], origin: GoldenOrigin) -> bytes:
    """The file's content.

    safetensors' own writer keeps metadata in a hash map, so the order of its keys, and with it the
    bytes, would differ between runs.
    """
    arrays = {
        f"case{number}/{role}/{name}": stored_array(np.asarray(array))
        for number, case in enumerate(cases)
        for role, group in (("input", case.inputs), ("output", case.outputs))
        for name, array in group.items()
    }
    # as safetensors orders them: widest elements first, so that each is aligned, then by name
    order = sorted(arrays, key=lambda name: (-arrays[name].itemsize, name))
    header: dict[str, object] = {"__metadata__": metadata_of(cases, origin)}
    start = 0
    for name in order:
        array = arrays[name]
        header[name] = {
            "dtype": ST_DTYPES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }
        start += array.nbytes
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return b"".join((len(text).to_bytes(8, "little"), text, *(arrays[n].tobytes() for n in order)))


def stored_array(array: np.ndarray) -> np.ndarray:
    """The array as the file holds it: int64 as int32 where its values fit.

    >>> stored_array(np.array([1, 2])).dtype
    dtype('int32')
    """
    if array.dtype == np.int64 and fits_dtype(array, np.dtype(np.int32)):
        return array.astype(np.int32)
    return array


def fits_dtype(array: np.ndarray, dtype: np.dtype[Any]) -> bool:
    """Whether an integer dtype holds all values of an integer array.

    (Any: the dtype is known at run time.)

    >>> fits_dtype(np.array([300]), np.dtype("uint8"))
    False
    """
    limits = np.iinfo(dtype)
    return not array.size or bool(array.min() >= limits.min and array.max() <= limits.max)


def metadata_of(cases: Sequence[GoldenCase], origin: GoldenOrigin) -> dict[str, str]:
    """The metadata of the file, see the table above."""
    rows = [
        {
            "dimensions": dict(case.dimensions),
            "inputs": {name: summary(array) for name, array in case.inputs.items()},
            "outputs": {name: summary(array) for name, array in case.outputs.items()},
        }
        for case in cases
    ]
    return {
        "cases": json.dumps(rows),
        "format": FORMAT,
        "package": origin.package,
        "package_sha256": origin.package_sha256,
        "seed": "" if origin.seed is None else str(origin.seed),
        "source": origin.source,
        "source_sha256": origin.source_sha256,
        "versions": json.dumps(dict(origin.versions), sort_keys=True),
    }


def summary(array: np.ndarray) -> dict[str, object]:
    """Dtype (the source's, before storing), shape, and the range of the finite values.

    >>> summary(np.array([1.5, 2.0], np.float32))
    {'dtype': 'float32', 'shape': [2], 'low': 1.5, 'high': 2.0}
    """
    row: dict[str, object] = {"dtype": array.dtype.name, "shape": list(array.shape)}
    finite = array[np.isfinite(array)]
    if finite.size:
        row |= {"low": finite.min().item(), "high": finite.max().item()}
    return row


def read_golden(path: Path) -> Golden:
    """The golden vectors in a file; `DamagedFile` when it is not one."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        metadata, arrays = read_safetensors(path)
    except OSError as error:
        raise DamagedFile(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise DamagedFile(
            f"{path} is damaged or truncated: {error}", hint="convert the model again"
        ) from None
    if metadata.get("format") != FORMAT:
        raise DamagedFile(
            f"{path} holds no golden vectors: its format is "
            f'"{metadata.get("format", "")}", expected "{FORMAT}"',
            hint="convert the model again with this version of metal4conv",
        )
    try:
        return golden_from_arrays(metadata, arrays)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} is damaged: {error}", hint="convert the model again") from None


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, np.ndarray]]:
    """Metadata and tensors of a safetensors file; `ValueError` when it does not add up."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    if len(content) < 8 or length > len(content) - 8:
        raise ValueError(f"{len(content)} bytes, less than its header needs")
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    data = memoryview(content)[8 + length :]
    dtypes = {spelling: np.dtype(name) for name, spelling in ST_DTYPES.items()}
    arrays = {}
    for name, row in header.items():
        start, end = row["data_offsets"]
        if not 0 <= start <= end <= len(data):
            raise ValueError(f'tensor "{name}" ends after the {len(data)} bytes of data')
        if row["dtype"] not in dtypes:
            raise ValueError(f'tensor "{name}" has the unknown dtype {row["dtype"]}')
        flat = np.frombuffer(data[start:end], dtypes[row["dtype"]])
        arrays[name] = flat.reshape(row["shape"])
    return metadata, arrays


def golden_from_arrays(metadata: Mapping[str, str], arrays: Mapping[str, np.ndarray]) -> Golden:
    """The cases in their order, tensors in the order of the metadata."""
    cases = [
        GoldenCase(
            {name: arrays[f"case{number}/input/{name}"] for name in row["inputs"]},
            {name: int(size) for name, size in row["dimensions"].items()},
            {name: arrays[f"case{number}/output/{name}"] for name in row["outputs"]},
        )
        for number, row in enumerate(json.loads(metadata["cases"]))
    ]
    if not cases:
        raise ValueError("it has no cases")
    seed = metadata["seed"]
    origin = GoldenOrigin(
        metadata["package"],
        metadata["package_sha256"],
        metadata["source"],
        metadata["source_sha256"],
        json.loads(metadata["versions"]),
        int(seed) if seed else None,
    )
    return Golden(origin, tuple(cases))
