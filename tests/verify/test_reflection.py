from __future__ import annotations

from dataclasses import replace

import pytest

from metal4conv.device.protocol import Binding, Outcome, RunCase, RunResult, TensorPlan
from metal4conv.verify.reflection import reflection_findings, reflection_rows

X = TensorPlan("x", "input", 0, 16, (8, 4, 3, 1), (1, 32, 128, 384), 768, True)
Y = TensorPlan("y", "output", 1, 3, (16, 1), (1, 16), 64, False)
CASE = RunCase("case0", (X, Y))
BINDINGS = (Binding("x", 0, 0, 16, (8, 4, 3, 1)), Binding("y", 1, 2, 3, (16, 1)))


def told(*bindings):
    return [(item.severity, item.code) for item in reflection_findings(CASE, bindings)]


def test_what_agrees_is_not_told():
    assert told(*BINDINGS) == []
    assert told(*reversed(BINDINGS)) == []


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"name": "z"}, [("failure", "binding-missing"), ("failure", "binding-unknown")]),
        ({"data_type": 3}, [("failure", "binding-type")]),
        ({"dimensions": (4, 8, 3, 1)}, [("failure", "binding-dimensions")]),
        ({"dimensions": (8, 4, 3)}, [("failure", "binding-dimensions")]),
        ({"dimensions": None}, []),
        ({"dimensions": (-1, -1, 3, 1)}, []),
        ({"index": 5}, [("warning", "binding-index")]),
    ],
    ids=lambda value: "-".join(map(str, value)) if isinstance(value, dict) else "",
)
def test_what_differs(changed, expected):
    assert told(replace(BINDINGS[0], **changed), BINDINGS[1]) == expected


def test_a_reflection_without_names_is_a_warning():
    assert told() == []
    nameless = [replace(binding, name="") for binding in BINDINGS]
    assert told(*nameless) == [("warning", "reflection-without-names")]


def test_messages_name_tensor_and_numbers():
    wrong = replace(BINDINGS[0], dimensions=(4, 8, 3, 1))
    (finding,) = reflection_findings(CASE, (wrong, BINDINGS[1]))
    assert finding.message == (
        'input "x": the manifest has dimensions (8, 4, 3, 1) (innermost first), the reflection '
        "(4, 8, 3, 1)"
    )


def test_rows_show_both_sides():
    result = RunResult("case0", "device", {}, BINDINGS[:1])
    rows = reflection_rows({"case0": CASE}, Outcome((result,)))
    assert rows[0]["index"] == 0
    assert rows[0]["data_type"] == rows[0]["expected_data_type"] == "float16"
    assert rows[1]["expected_dimensions"] == [16, 1]
    assert (rows[1]["index"], rows[1]["dimensions"]) == (None, None)
    assert reflection_rows({"case0": CASE}, Outcome(())) == []
