"""Which operations of a package are in float32, and why: what `--precision auto` writes beside it.

Format `metal4conv.precision/1`, a JSON object:

| key | meaning |
|---|---|
| `format` | `metal4conv.precision/1` |
| `tolerance` | what was asked for: `min_psnr`, `atol`, `rtol`, null for what was not |
| `operations` | list of objects: `name` and `type` of the operation, the `value` that it gives, |
|  | `source` (what it is in the source model, null where that is not known), `reason` |
| `figures` | `psnr` (the worst, null for equal outputs), `max_absolute_error`, `runs`, `cases`; |
|  | `float16` and `float32` operations, `casts`; `weight_bytes`, `more_weight_bytes` and |
|  | `more_activation_bytes` than in a float16 package |

`--precision mixed:FILE` reads it: only the names count. A list of names does, too: a JSON list, or
a text with one name on each line and comments after `#`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from metal4conv.errors import DamagedFile, UsageError
from metal4conv.mil.package import Package
from metal4conv.mil.program import Constant, Operation, TensorType
from metal4conv.precision.eligible import is_float
from metal4conv.precision.search import Search

FORMAT = "metal4conv.precision/1"
SUFFIX = ".precision.json"

Json = dict[str, Any]  # Any: a JSON object


@dataclass(frozen=True)
class Counts:
    """How many operations of a package are in which precision, and what its weights take."""

    float16: int
    float32: int
    casts: int
    weight_bytes: int
    more_weight_bytes: int

    @property
    def float16_share(self) -> float:
        """The part of the float operations that is in float16."""
        return self.float16 / max(self.float16 + self.float32, 1)


def count_operations(package: Package) -> Counts:
    """The operations on floats by their precision; casts between the two stand for themselves."""
    numbers = {"float16": 0, "float32": 0, "cast": 0}
    wide_bytes = 0
    for operation in package.function().block.walk():
        if operation.type == "const":
            wide_bytes += float32_bytes(operation)
            continue
        dtype = float_dtype(operation)
        if dtype is not None:
            numbers["cast" if operation.type == "cast" else dtype] += 1
    sizes = sum(file.stat().st_size for file in package.weight_files())
    return Counts(numbers["float16"], numbers["float32"], numbers["cast"], sizes, wide_bytes // 2)


def float_dtype(operation: Operation) -> str | None:
    """The dtype of the first float tensor that an operation gives."""
    for value in operation.outputs:
        if isinstance(value.type, TensorType) and is_float(value.type):
            return value.type.dtype
    return None


def float32_bytes(operation: Operation) -> int:
    """What a constant takes in the weight file as float32."""
    constant = operation.attributes.get("val")
    if not isinstance(constant, Constant) or constant.file is None:
        return 0
    return 4 * constant.element_count if constant.type.dtype == "float32" else 0


def precision_document(search: Search, package: Package, sources: Mapping[str, str]) -> Json:
    """The document about a search and the package that came of it.

    `sources` has what values are in the source model, in words.
    """
    counts = count_operations(package)
    rows = []
    for name, (operation, reason) in search.operations.items():
        value = next(iter(operation.outputs), None)
        rows.append(
            {
                "name": name,
                "type": operation.type,
                "value": value,
                "source": None if value is None else sources.get(value),
                "reason": reason,
            }
        )
    return {
        "format": FORMAT,
        "tolerance": asdict(search.wanted),
        "operations": rows,
        "figures": {
            **reached_figures(search),
            "runs": search.runs,
            "cases": len(search.trials),
            **asdict(counts),
            "more_activation_bytes": search.more_activation_bytes(),
        },
    }


def reached_figures(search: Search) -> Json:
    """The worst figures of the finished package."""
    psnr = min((item.psnr for item in search.found), default=math.inf)
    return {
        "psnr": None if math.isinf(psnr) else round(psnr, 2),
        "max_absolute_error": max((item.worst_error for item in search.found), default=0.0),
    }


def document_text(document: Json) -> str:
    """The document as a file for programs and people."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def read_names(path: Path) -> tuple[str, ...]:
    """The operations that a file names; `DamagedFile` or `UsageError` when it does not."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise UsageError(f"no such file: {path}", where="--precision") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise DamagedFile(f"{path} cannot be read: {reason}", where="--precision") from None
    if text.lstrip()[:1] in ("{", "["):
        return names_in_json(path, text)
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return unique([line for line in lines if line])


def names_in_json(path: Path, text: str) -> tuple[str, ...]:
    """The names in a JSON text."""
    try:
        document = json.loads(text)
        if isinstance(document, dict):
            found = document.get("format")
            if found != FORMAT:
                raise ValueError(f'its format is "{found}", expected "{FORMAT}"')
            document = [row["name"] for row in document["operations"]]
    except (ValueError, KeyError, TypeError) as error:
        reason = f"it has no entry {error}" if isinstance(error, KeyError) else error
        raise DamagedFile(
            f"{path} names no operations: {reason}",
            where="--precision",
            hint=f'expected a file of format "{FORMAT}", or a list of names',
        ) from None
    if not all(isinstance(name, str) for name in document):
        raise DamagedFile(f"{path} holds what is no name of an operation", where="--precision")
    return unique(document)


def unique(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each once.

    >>> unique(["b", "a", "b"])
    ('b', 'a')
    """
    return tuple(dict.fromkeys(names))
