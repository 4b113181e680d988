"""Which values of a package hold which values of its source: what `convert` knows and writes down.

Format `metal4conv.correspondence/1`, a JSON object in the package's user-defined metadata:

| key | meaning |
|---|---|
| `format` | `metal4conv.correspondence/1` |
| `places` | list of `[module, line]`: where in the model's code; null for what is not known |
| `sources` | list of `[name, operator, place]`, the source's values as they are computed |
| `values` | object: the index into `sources`, by the name of the package's value |

`place` is an index into `places`. The package's value equals the source's but for rounding, for the
order of its dimensions (a TensorFlow network is NHWC, its convolutions in a package are NCHW), and
for dimensions of size 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from metal4conv.errors import DamagedFile
from metal4conv.mil.package import Package

KEY = "metal4conv.correspondence"
FORMAT = "metal4conv.correspondence/1"


@dataclass(frozen=True)
class SourceValue:
    """A value that the source model computes.

    `name` is the framework's own: a node of an exported program, a value of a TorchScript or ONNX
    graph, a node of a TensorFlow graph. `operator` is what computes it (`aten.conv2d.default`,
    `Conv`), `module` the module or layer around it, `line` the line of the model's code as
    `file.py:12`, without folders, and `code` the text of that line, which is not stored.
    """

    name: str
    operator: str
    module: str | None = None
    line: str | None = None
    code: str | None = None

    def __str__(self) -> str:
        """
        >>> str(SourceValue("relu_1", "aten.relu.default", "down.1", "net.py:12"))
        'relu_1 (aten.relu.default), in down.1, net.py:12'
        """
        module = f", in {self.module}" if self.module else ""
        line = f", {self.line}" if self.line else ""
        return f"{self.name} ({self.operator}){module}{line}"


@dataclass(frozen=True)
class Correspondence:
    """The source's values in order, and which of them a value of the package holds."""

    sources: tuple[SourceValue, ...] = ()
    values: Mapping[str, str] = field(default_factory=dict)
    """The name of a source value by the name of the package's value."""

    def source_of(self, value: str) -> SourceValue | None:
        """What a value of the package holds, where that is known."""
        name = self.values.get(value)
        return None if name is None else next(row for row in self.sources if row.name == name)

    def to_json(self) -> dict[str, Any]:  # Any: a JSON document
        """The document of the format above."""
        places: dict[tuple[str | None, str | None], int] = {}
        sources = [
            [row.name, row.operator, places.setdefault((row.module, row.line), len(places))]
            for row in self.sources
        ]
        index = {row.name: number for number, row in enumerate(self.sources)}
        return {
            "format": FORMAT,
            "places": [list(place) for place in places],
            "sources": sources,
            "values": {value: index[name] for value, name in self.values.items()},
        }


def make_correspondence(
    sources: Sequence[SourceValue], values: Mapping[str, str]
) -> Correspondence:
    """The correspondence of the values whose source is known.

    >>> rows = [SourceValue("relu", "aten.relu.default")]
    >>> dict(make_correspondence(rows, {"y": "relu", "z": "no such"}).values)
    {'y': 'relu'}
    """
    known = {row.name for row in sources}
    return Correspondence(
        tuple(replace(row, code=None) for row in sources),
        {value: name for value, name in values.items() if name in known},
    )


def correspondence_text(found: Correspondence) -> str:
    """A correspondence as one line of JSON."""
    return json.dumps(found.to_json(), separators=(",", ":"))


def correspondence_of(package: Package) -> Correspondence | None:
    """What `convert` wrote into the package; None when it wrote nothing there."""
    text = package.metadata.get(KEY)
    if text is None:
        return None
    try:
        return correspondence_from_json(json.loads(text))
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise DamagedFile(
            f"{package.path}: the metadata {KEY} cannot be read: {error}",
            hint="convert the model again",
        ) from None


def correspondence_from_json(document: Any) -> Correspondence:  # Any: a JSON document
    """The inverse of `to_json`; `ValueError` and its kin for anything else."""
    if document["format"] != FORMAT:
        raise ValueError(f'its format is "{document["format"]}", expected "{FORMAT}"')
    places = [(module, line) for module, line in document["places"]]
    sources = tuple(
        SourceValue(str(name), str(operator), *places[place])
        for name, operator, place in document["sources"]
    )
    values = {value: sources[index].name for value, index in document["values"].items()}
    return Correspondence(sources, values)
