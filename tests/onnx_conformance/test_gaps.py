"""The table of gaps speaks of cases that there are, and only of types that a package lacks."""

from __future__ import annotations

import fnmatch

import pytest

from tests.onnx_conformance.cases import all_cases
from tests.onnx_conformance.gaps import GAPS, UNHELD, reason_of, type_text


@pytest.mark.parametrize("pattern", GAPS)
def test_pattern_matches_a_case(pattern: str) -> None:
    assert fnmatch.filter(all_cases(), pattern), "no case has such a name"


def test_most_node_cases_must_pass() -> None:
    """The table must not grow until the suite says nothing."""
    nodes = [case for case in all_cases().values() if case.kind == "node"]
    assert len(nodes) == 1884
    assert sum(reason_of(case) is None for case in nodes) >= 1660


@pytest.mark.parametrize("name", UNHELD)
def test_type_is_that_of_some_case(name: str) -> None:
    found = (
        type_text(item)
        for case in all_cases().values()
        for item in (*case.model.graph.input, *case.model.graph.output)
    )
    assert name in found
