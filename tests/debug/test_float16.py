"""`debug` says what float16 does to networks that overflow or drift in it, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from metal4conv import convert
from metal4conv.debug.debugging import debug
from metal4conv.frontends.source import open_source, parse_options
from tests.precision import networks
from tests.precision.networks import NETWORKS

KINDS = {
    "beyond float16": "float16-range",
    "0 in": "float16-range",
    "digits": "float16-range",
    "cancels": "float16-precision",
    "steps of": "float16-precision",
}
"""What the words of a flaw make of it."""

CANCELLING = {"long_residuals": "sub"}
"""Where a large stream is taken off again: rounding went into it step by step, there it shows."""

SLOW = ("five_hundred",)


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow if name in SLOW else ()) for name in NETWORKS],
)
def test_cause_is_named(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]
    text = f"{networks.__file__}:{name}"
    package = convert(text, inputs=network.inputs, output=tmp_path).package
    report = debug(package, open_source(text, parse_options(network.inputs, ())))
    types = {row["name"]: row["type"] for row in report.data["operations"]}
    causes = [(row["kind"], types[row["operation"]]) for row in report.data["causes"]]
    print(f"\n{name:24} {causes[:4]}", end="")
    assert report.exit_code == 1
    kind, operation = causes[0]
    assert kind in {KINDS[word] for word in network.words if word in KINDS}
    assert operation in (*network.culprits, CANCELLING.get(name))
    assert report.findings[0].code == kind
