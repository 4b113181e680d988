"""What `debug` says: the JSON document, and causes as findings in words."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from metal4conv.debug.comparison import Comparison, Range, Row, missing_before
from metal4conv.debug.figures import FLOAT16_NORMAL, Apart
from metal4conv.debug.verdict import Cause, first_suspicious, why_suspicious
from metal4conv.frontends.source import ModelSource
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.mil.package import Package
from metal4conv.report import Finding
from metal4conv.verify.verdict import CaseResult, json_ready, summaries

Json = dict[str, Any]  # Any: a JSON object

CODES = {
    "operation": "operation-differs",
    "float16-range": "float16-range",
    "float16-precision": "float16-precision",
    "suspicious-source": "suspicious-source",
}

WEIGHTED = frozenset(("batch_norm", "conv", "conv_transpose", "gather", "linear", "lstm", "gru"))
"""Operations whose result hangs on trained numbers."""

FEW_WEIGHTED = 3
"""With fewer of them it cannot be told whether it is the weights or the operations."""

MOST_MISSING = 3
"""So many values of the source before a cause are named."""

JUMPING = frozenset(
    """
    argsort ceil equal floor floor_div greater greater_equal less less_equal logical_not mod
    not_equal reduce_argmax reduce_argmin round sign threshold topk
    """.split()  # noqa: SIM905  # one a line would hide the rest of the file
)
"""Operations whose result is not continuous."""

HINTS = {
    "operation": "compare its attributes, weights and operands with the source's; --reduce makes a "
    "small package of it",
    "float16-range": "keep it in float32: convert --precision auto --min-psnr 50 finds what it "
    "takes, or scale the values in the model",
    "float16-precision": "keep it in float32: convert --precision auto --min-psnr 50 finds what it "
    "takes",
    "suspicious-source": "the package does what the source does; look at the model itself",
}


def debug_data(
    package: Package,
    comparison: Comparison,
    source: ModelSource,
    rows: Sequence[Row],
    causes: Sequence[Cause],
    results: Sequence[CaseResult],
    values: Mapping[str, np.ndarray],
) -> Json:
    """The document that `--json` prints; `values` are the source's in the worst case."""
    agree = all(output.passed for result in results for output in result.outputs)
    function = comparison.beside.function
    operations = [item for item in function.block.operations if item.type != "const"]
    flagged = {cause.row.value for cause in causes}
    by_operation: dict[str, Row] = {}
    for row in rows:
        known = by_operation.setdefault(row.operation.name, row)
        if row.excess > known.excess:
            by_operation[row.operation.name] = row
    data: Json = {
        "package": str(package.path),
        "source": f"{source.framework} {source.kind} {source.name}",
        "function": function.name,
        "verdict": "agrees" if agree and not causes else "differs",
        "first": causes[0].row.value if causes else None,
        "coverage": {"operations": len(operations), "compared": len(by_operation)},
        "outputs": summaries(results),
        "cases": [
            {"label": result.label, "dimensions": dict(result.case.dimensions)}
            for result in results
        ],
        "causes": [cause_json(cause, comparison, values) for cause in causes],
        "operations": [
            operation_json(operation, comparison, by_operation.get(operation.name), flagged)
            for operation in operations
        ],
    }
    found: Json = json_ready(data)
    return found


def cause_json(cause: Cause, comparison: Comparison, values: Mapping[str, np.ndarray]) -> Json:
    """A cause with its explanation."""
    return {
        "kind": cause.kind,
        "operation": cause.row.value,
        "confirmed": cause.confirmed,
        "with": comparison.unknown_before(cause.row.operation),
        "message": cause_text(cause, comparison, values),
        "hint": HINTS[cause.kind],
        "source": source_json(cause.row.source),
    }


def operation_json(
    operation: Any, comparison: Comparison, row: Row | None, flagged: set[str]
) -> Json:
    """One operation; null for what is not known."""
    name = operation.outputs[0].name if operation.outputs else operation.name
    inputs = [
        {"name": item, "range": pair(comparison.range_of(item))}
        for item in operation.value_names
        if comparison.range_of(item) is not None
    ]
    return {
        "name": name,
        "type": operation.type,
        "source": None if row is None else source_json(row.source),
        "error": rms(row.free) if row else None,
        "local_error": rms(row.local) if row else None,
        "local_error_declared": rms(row.declared) if row else None,
        "source_range": pair(row.source_range) if row else None,
        "package_range": pair(row.package_range) if row else None,
        "input_ranges": inputs,
        "lost": row.free.lost if row and row.free else 0,
        "nan": row.nan if row else 0,
        "inf": row.inf if row else 0,
        "jump": name in flagged or (row is not None and row.value in flagged),
    }


def source_json(source: SourceValue) -> Json:
    """A value of the source and its place."""
    return {
        "name": source.name,
        "operator": source.operator,
        "module": source.module,
        "line": source.line,
        "code": source.code,
    }


def rms(apart: Apart | None) -> float | None:
    """The error; None where it was not measured."""
    return None if apart is None else apart.rms


def pair(range: Range) -> list[float] | None:
    """A range as JSON."""
    return None if range is None else list(range)


def cause_findings(
    comparison: Comparison, causes: Sequence[Cause], values: Mapping[str, np.ndarray]
) -> list[Finding]:
    """A failure for each cause; `values` are the source's in the worst case."""
    return [
        Finding(
            "failure",
            CODES[cause.kind],
            f"{cause.row.value} ({cause.row.operation.type}): "
            f"{cause_text(cause, comparison, values)}\n"
            f"  in the source: {place_text(cause.row.source)}{missing_text(cause, comparison)}",
            cause.row.value,
            HINTS[cause.kind] if is_first else None,
        )
        for cause, is_first in zip(causes, firsts(causes), strict=True)
    ]


def firsts(causes: Sequence[Cause]) -> list[bool]:
    """Whether each cause is the first of its kind; the hint is the same for the others."""
    kinds = [cause.kind for cause in causes]
    return [kind not in kinds[:place] for place, kind in enumerate(kinds)]


def cause_text(cause: Cause, comparison: Comparison, values: Mapping[str, np.ndarray]) -> str:
    """Why an operation makes the outputs differ."""
    text = EXPLAIN[cause.kind](cause, comparison, values)
    if not alone(cause):
        return text
    whose = "its value" if cause.after is None else f"the value of {cause.after.value} after it"
    return f"{text}; with {whose} from the source the outputs agree"


def alone(cause: Cause) -> bool:
    """Whether this cause by itself explains the difference."""
    return cause.confirmed and cause.together == 1


def place_text(source: SourceValue) -> str:
    """A value of the source with the line of code.

    >>> place_text(SourceValue("mul", "aten.mul", None, "net.py:3", "y = x * x"))
    'mul (aten.mul), net.py:3: y = x * x'
    """
    return f"{source}: {source.code}" if source.code else str(source)


def missing_text(cause: Cause, comparison: Comparison) -> str:
    """What the source computes directly before it, where the package has nothing of that."""
    held = {row.name for row in comparison.sources.values()}
    rows = missing_before(cause.row.source, comparison.order, held)
    if cause.kind != "operation" or not rows:
        return ""
    more = f" and {len(rows) - MOST_MISSING} more" if len(rows) > MOST_MISSING else ""
    names = "; ".join(str(row) for row in rows[-MOST_MISSING:])
    return f"\n  the package has no value of what comes before it there: {names}{more}"


def explain_operation(
    cause: Cause, comparison: Comparison, values: Mapping[str, np.ndarray]
) -> str:
    """How much of the error is the operation's own."""
    row = cause.row
    assert row.local is not None
    assert row.noise is not None
    if row.local.lost:
        return (
            f"it gives NaN where the source does not, or the other way around, in {row.local.lost} "
            "elements, alone and in float32"
        )
    if row.local.rms == row.local.peak:
        return f"{row.local.rms:.2%} of its elements differ, on the source's own inputs"
    before = ", ".join(comparison.unknown_before(row.operation))
    who = f"with {before} before it, which the source has no values for" if before else "alone"
    return (
        f"{who}, in float32 and on the source's own inputs, it is off by {row.local.rms:.2g} of "
        f"the values' magnitude (at most {row.local.peak:.2g}); rounding explains "
        f"{row.noise.rms:.1g}"
    )


def explain_range(cause: Cause, comparison: Comparison, values: Mapping[str, np.ndarray]) -> str:
    """Which values are beyond float16, and what they come from."""
    row = cause.row
    if row.beyond_float16:
        low, high = row.source_range or (0.0, 0.0)
        largest = high if abs(high) >= abs(low) else low
        return (
            f"{row.beyond_float16} of the source's values are beyond ±{FLOAT16_MAX:g}, the largest "
            f"{largest:.4g}{taken_text(row, values)}; in float16 they are infinite"
        )
    return (
        f"{row.below_float16:.0%} of the source's values are below {FLOAT16_NORMAL:.2g}, where "
        "float16 loses digits and then gives 0"
    )


def taken_text(row: Row, values: Mapping[str, np.ndarray]) -> str:
    """What an operation took where its result is largest.

    Operands of the result's shape are read at that place, others are told by their range.
    """
    result = values.get(row.value)
    if result is None or not result.size:
        return ""
    place = int(np.argmax(np.abs(np.where(np.isfinite(result), result, 0))))
    parts = []
    for name in row.operation.value_names:
        taken = values.get(name)
        if taken is None or taken.dtype.kind != "f" or not taken.size:
            continue
        if taken.shape == result.shape:
            parts.append(f"{name} is {taken.reshape(-1)[place]:.4g}")
        else:
            parts.append(f"{name} is from {taken.min():.4g} to {taken.max():.4g}")
    return f", where {' and '.join(parts)}" if parts else ""


def explain_precision(
    cause: Cause, comparison: Comparison, values: Mapping[str, np.ndarray]
) -> str:
    """Whether the operation loses digits by itself, or errors add up."""
    row = cause.row
    inputs = [
        f"{name} from {found[0]:.4g} to {found[1]:.4g}"
        for name in row.operation.value_names
        if (found := comparison.range_of(name)) is not None
    ]
    told = f" (inputs: {'; '.join(inputs)})" if inputs else ""
    if cause.confirmed and row.declared is not None:
        return (
            f"float16 is too coarse for it: alone, on the source's inputs, it is off by "
            f"{row.declared.rms:.2g} in float16 and by {rms(row.local) or 0:.1g} in float32{told}"
        )
    error = rms(row.free) or 0.0
    if row.operation.type in JUMPING:
        return (
            "its result jumps where its input changes a little, as rounding to float16 changes "
            f"it; its error is {error:.2g} of the values' magnitude{told}"
        )
    return (
        f"rounding to float16 adds up along the network; here the error grows most, to "
        f"{error:.2g} of the values' magnitude{told}"
    )


def explain_source(cause: Cause, comparison: Comparison, values: Mapping[str, np.ndarray]) -> str:
    """What is odd about the source's value."""
    return f"{why_suspicious(cause.row)}, in the source itself"


EXPLAIN = {
    "operation": explain_operation,
    "float16-range": explain_range,
    "float16-precision": explain_precision,
    "suspicious-source": explain_source,
}


def doubts(
    rows: Sequence[Row],
    causes: Sequence[Cause],
    results: Sequence[CaseResult],
    explained: Collection[str] = (),
) -> list[Finding]:
    """What is odd in the source without being the cause, and outputs that nothing explains.

    `explained` are outputs for which there is another reason.
    """
    named = {cause.row.value for cause in causes}
    findings = [
        Finding(
            "warning",
            "suspicious-source",
            f"{row.value} ({row.operation.type}): {why}, in the source itself "
            f"({place_text(row.source)})",
            row.value,
            HINTS["suspicious-source"],
        )
        for row in first_suspicious(rows)
        if row.value not in named and (why := why_suspicious(row))
    ]
    findings += other_weights(rows, causes)
    failed = [
        output.name
        for result in results
        for output in result.outputs
        if not output.passed and output.name not in explained
    ]
    if failed and not causes:
        findings.append(
            Finding(
                "failure",
                "not-explained",
                f"the outputs {', '.join(dict.fromkeys(failed))} are out of tolerance, and no "
                "operation that was compared explains it",
                failed[0],
                "--search finds the operation without the source's values",
            )
        )
    return findings


def other_weights(rows: Sequence[Row], causes: Sequence[Cause]) -> list[Finding]:
    """A word on the weights where they, and nothing else, make the difference everywhere."""
    wrong = {cause.row.value for cause in causes if cause.kind == "operation"}
    weighted = {row.value for row in rows if row.operation.type in WEIGHTED}
    if len(weighted) < FEW_WEIGHTED or not wrong >= weighted:
        return []
    return [
        Finding(
            "warning",
            "weights-differ",
            f"all {len(weighted)} operations with weights differ: the source may have others than "
            "the package",
            None,
            "name the weights that were converted: --weights FILE; a factory that draws them needs "
            "a seed",
        )
    ]
