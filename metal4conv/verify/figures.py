"""Figures of reports as text, the same on pages and in summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Json = Mapping[str, Any]  # Any: a JSON object
NOTHING = "–"
"""Stands for a figure that there is not."""


def number(value: float | None) -> str:
    """A figure with three digits.

    >>> number(0.00012345), number(1234567.0), number(None)
    ('0.000123', '1.23e+06', '–')
    """
    return NOTHING if value is None else f"{value:.3g}"


def psnr(row: Json) -> str:
    """The PSNR of a row; infinite, which JSON cannot say, where there is no error.

    >>> psnr({"psnr": 52.25, "max_absolute_error": 0.1})
    '52.2 dB'
    >>> psnr({"psnr": None, "max_absolute_error": 0.0}), psnr({"psnr": None})
    ('∞', '–')
    """
    if row["psnr"] is not None:
        return f"{row['psnr']:.1f} dB"
    return "∞" if row.get("max_absolute_error") == 0 else NOTHING


def cosine(value: float | None) -> str:
    """A cosine with the digits that tell good ones apart.

    >>> cosine(0.99999992)
    '1.000000'
    """
    return NOTHING if value is None else f"{value:.6f}"


def interval(bounds: Sequence[float | None] | None) -> str:
    """A range of values.

    >>> interval([-0.5, 1234.5]), interval(None), interval([None, None])
    ('-0.5 … 1.23e+03', '–', '–')
    """
    if bounds is None or None in bounds:
        return NOTHING
    low, high = (number(bound) for bound in bounds)
    return f"{low} … {high}"


def sizes(dimensions: Json) -> str:
    """The dynamic sizes of a case.

    >>> sizes({"h": 8, "w": 16})
    'h=8, w=16'
    """
    return ", ".join(f"{name}={size}" for name, size in dimensions.items())


def place(source: Json | None) -> str:
    """Where an operation comes from in the model's code.

    >>> place({"name": "relu_3", "module": "encoder.act", "line": "net.py:12", "code": None})
    'encoder.act, net.py:12'
    >>> place({"name": "relu_3", "module": None, "line": None}), place(None)
    ('relu_3', '')
    """
    if source is None:
        return ""
    known = [source.get("module"), source.get("line")]
    return ", ".join(str(item) for item in known if item) or str(source.get("name") or "")
