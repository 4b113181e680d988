"""Which operation is blamed, of rows that a comparison could have given."""

from __future__ import annotations

import math
from collections.abc import Collection

import pytest

from metal4conv.debug.comparison import Row
from metal4conv.debug.figures import Apart
from metal4conv.debug.verdict import Cause, find_causes
from metal4conv.debug.words import doubts
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.program import Operation, TensorType, Value

FINE, WRONG = Apart(3e-4, 1e-3), Apart(0.5, 2.0)


def row(name: str, kind: str, *taken: str, dtype: str = "float16", **figures: object) -> Row:
    """A row of an operation that takes values; without figures all is well."""
    value = Value(name, TensorType(dtype, (4,)))
    operation = Operation(kind, name, {"x": taken}, (value,))
    known = {"local": FINE, "noise": FINE, "declared": FINE, "free": FINE, **figures}
    return Row(operation, name, SourceValue(name, kind), constant_source=False, **known)  # type: ignore[arg-type]


def causes(rows: list[Row], *enough: str) -> list[tuple[str, str, bool]]:
    """What is blamed when the outputs agree with one of these values from the source."""
    tried: list[Collection[str]] = []

    def agrees(names: Collection[str]) -> bool:
        tried.append(names)
        return bool(set(names) & set(enough))

    found = find_causes(rows, is_float16=True, outputs_agree=False, agrees=agrees)
    beyond = {row.value for row in rows if row.beyond_float16}
    assert not any(set(names) & beyond for names in tried), "float16 cannot hold these"
    return [(cause.row.value, cause.kind, cause.confirmed) for cause in found]


def chain() -> list[Row]:
    """exp leaves float16's range, log comes back into it."""
    return [
        row("before", "linear"),
        row("exp", "exp", "before", declared=WRONG, beyond_float16=3),
        row("sum", "add", "exp", declared=WRONG, beyond_float16=3),
        row("log", "log", "sum", declared=WRONG),
        row("after", "linear", "log", free=WRONG),
    ]


def test_what_leaves_the_range_is_blamed_where_it_does() -> None:
    assert causes(chain(), "log") == [("exp", "float16-range", True)]


def test_without_a_proof_all_suspects_count_once() -> None:
    assert causes(chain()) == [("exp", "float16-range", False)]


def test_a_cast_of_a_float32_value_leads_to_it() -> None:
    rows = [
        row("mask", "mul", dtype="float32", beyond_float16=4),
        row("mask_to_fp16", "cast", "mask", declared=WRONG, beyond_float16=4),
        row("share", "softmax", "mask_to_fp16", declared=Apart(0, 0, lost=2)),
    ]
    assert causes(rows, "share") == [("mask", "float16-range", True)]


def test_digits_that_vanish_are_a_matter_of_range_too() -> None:
    rows = [
        row("square", "mul", declared=Apart(1.0, 6.0), below_float16=1.0),
        row("quotient", "real_div", "square", declared=Apart(0, 0, lost=7)),
    ]
    assert causes(rows, "quotient") == [("square", "float16-range", True)]


@pytest.mark.parametrize("error", [0.02, math.inf])
def test_cancellation_is_a_matter_of_precision(error: float) -> None:
    rows = [row("large", "add"), row("less", "sub", "large", declared=Apart(error, error))]
    assert causes(rows, "less") == [("less", "float16-precision", True)]


def test_an_operation_that_is_wrong_comes_before_all_that() -> None:
    rows = [*chain(), row("wrong", "mul", "after", local=WRONG, excess=50.0)]
    assert causes(rows, "wrong")[0] == ("wrong", "operation", True)


def test_what_a_sound_output_comes_of_is_not_blamed() -> None:
    """The growth is larger in front of the output that is within tolerance."""
    rows = [row("a", "mul", free=Apart(0.1, 0.2)), row("b", "mul", free=Apart(0.01, 0.02))]
    found = find_causes(
        rows, is_float16=True, outputs_agree=False, agrees=lambda _: False, leading={"b"}
    )
    assert [cause.row.value for cause in found] == ["b"]


def test_what_comes_of_a_nan_is_not_told() -> None:
    rows = [row("a", "log", source_nan=2), row("b", "add", "a", source_nan=2), row("c", "relu")]
    assert [item.where for item in doubts(rows, [], [])] == ["a"]


@pytest.mark.parametrize(("wrong", "told"), [(("a", "b", "c"), True), (("a", "b"), False)])
def test_all_weights_are_others(wrong: tuple[str, ...], told: bool) -> None:
    rows = [row("a", "conv"), row("b", "conv", "a"), row("c", "linear", "b"), row("d", "relu", "c")]
    blamed = [Cause("operation", item) for item in rows if item.value in wrong]
    assert [item.code for item in doubts(rows, blamed, [])] == ["weights-differ"] * told
