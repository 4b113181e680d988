"""What `verify --json` says about each case and output."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from metal4conv.report import Finding, as_json
from metal4conv.verify.compare import OutputComparison, Values, values_of
from metal4conv.verify.golden import GoldenCase


@dataclass(frozen=True)
class CaseResult:
    """One case: its figures, or without a source what the package gave."""

    label: str
    case: GoldenCase
    actual: Mapping[str, np.ndarray]
    outputs: tuple[OutputComparison, ...] = ()
    findings: tuple[Finding, ...] = field(default=())


def summaries(results: Sequence[CaseResult]) -> list[dict[str, Any]]:  # Any: JSON
    """For each output its worst figures over all cases."""
    by_name: dict[str, list[OutputComparison]] = {}
    for result in results:
        for output in result.outputs:
            by_name.setdefault(output.name, []).append(output)
    return [
        json_ready(
            {
                "name": name,
                "passed": all(row.passed for row in rows),
                "dtype": rows[0].actual.dtype,
                "max_absolute_error": largest(row.max_absolute_error for row in rows),
                "max_relative_error": largest(row.max_relative_error for row in rows),
                "psnr": smallest(row.psnr for row in rows),
                "cosine": smallest(row.cosine for row in rows),
                "share_out": max(row.share_out for row in rows),
                "tolerance": str(rows[0].tolerance),
            }
        )
        for name, rows in by_name.items()
    ]


def case_json(result: CaseResult) -> dict[str, Any]:  # Any: JSON
    """One case for `--json`."""
    inputs = {name: asdict(values_of(array)) for name, array in result.case.inputs.items()}
    outputs = [output_json(output) for output in result.outputs] or [
        lone_json(name, values_of(array)) for name, array in result.actual.items()
    ]
    return {
        "label": result.label,
        "dimensions": dict(result.case.dimensions),
        "inputs": json_ready(inputs),
        "outputs": outputs,
    }


def output_json(output: OutputComparison) -> dict[str, Any]:  # Any: JSON
    """All figures of one output; an infinite PSNR is null beside `"identical": true`."""
    row: dict[str, Any] = json_ready(output)
    row["passed"] = output.passed
    row["share_out"] = output.share_out
    row["identical"] = output.psnr == math.inf and not output.out_of_tolerance
    row["problems"] = [asdict(problem) for problem in output.problems]
    return row


def lone_json(name: str, values: Values) -> dict[str, Any]:  # Any: JSON
    """An output that was not compared."""
    return {"name": name, "passed": True, "problems": [], "actual": json_ready(values)}


def json_ready(value: object) -> Any:  # Any: JSON
    """The value as JSON types; what JSON cannot say (infinite, NaN) is null.

    >>> json_ready({"psnr": math.inf, "shape": (1, 2)})
    {'psnr': None, 'shape': [1, 2]}
    """
    plain = as_json(value)
    if isinstance(plain, dict):
        return {key: json_ready(item) for key, item in plain.items()}
    if isinstance(plain, list):
        return [json_ready(item) for item in plain]
    return None if isinstance(plain, float) and not math.isfinite(plain) else plain


def largest(figures: Any) -> float | None:
    """The largest of some figures that may be None. (Any: an iterable of floats or None.)"""
    return max((figure for figure in figures if figure is not None), default=None)


def smallest(figures: Any) -> float | None:
    """The smallest of some figures that may be None. (Any: an iterable of floats or None.)"""
    return min((figure for figure in figures if figure is not None), default=None)
