"""Contents by hand: what is gathered, joined and computed, and the indexes that are made of it."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.shader.contents import (
    Applied,
    Fixed,
    Picked,
    applied,
    constant_content,
    constant_expression,
    expression_of,
    index_of,
    joined,
    vector_content,
)
from metal4conv.shader.network import Element, Index, Number, Table, Vector

X = Vector("x", 4)
Y = Vector("y", 2)


def test_gathered_elements() -> None:
    found = vector_content(X).gather(np.array([3, 0, 0]))
    assert found.only is not None
    assert found.only.places.tolist() == [3, 0, 0]


def test_joined_parts_keep_their_places_when_they_are_shuffled() -> None:
    found = joined([vector_content(X), constant_content(np.array([7.0, 8]))])
    shuffled = found.gather(np.array([5, 0, 4, 3]))
    first, second = shuffled.parts
    assert first.places.tolist() == [0, 2]
    assert isinstance(first.formula, Fixed)
    assert first.formula.values.tolist() == [8, 7]
    assert isinstance(second.formula, Picked)
    assert second.formula.places.tolist() == [0, 3]


def test_neighbours_of_one_vector_are_one_part() -> None:
    halves = [vector_content(X).gather(np.array(places)) for places in ([2, 3], [0, 1])]
    found = joined(halves)
    assert len(found.parts) == 1
    assert not found.is_whole(X)
    assert joined(halves[::-1]).is_whole(X)


def test_function_of_contents_with_other_parts() -> None:
    """Each stretch that is the same in both arguments becomes a part."""
    left = joined([vector_content(Y), constant_content(np.array([1.0, 2]))])
    found = applied("add", [left, vector_content(X)], "sum")
    assert [part.places.tolist() for part in found.parts] == [[0, 1], [2, 3]]
    kinds = [
        [type(item) for item in part.formula.arguments]
        for part in found.parts
        if isinstance(part.formula, Applied)
    ]
    assert kinds == [[Picked, Picked], [Fixed, Picked]]


def test_constants() -> None:
    assert constant_content(np.array([1.0, 2])).constant is not None
    assert joined([constant_content(np.ones(1)), vector_content(X)]).constant is None


@pytest.mark.parametrize(
    "index",
    [
        Index(),
        Index(5),
        Index(3, -1),
        Index(0, 2, 3),
        Index(1, 4, 2, 3),
        Index(7, 1, 1, 5),
        Index(2, 0),
        Index(table=(0, 2, 3, 7, 1, 1)),
    ],
)
def test_index_of_its_own_places(index: Index) -> None:
    """Whatever formula is found, it picks the same."""
    for count in (1, 2, 6) if index.table else (1, 2, 6, 12, 30):
        places = np.array([index.at(i) for i in range(count)])
        found = index_of(places)
        assert [found.at(i) for i in range(count)] == places.tolist()
        if not index.table:
            assert not found.table


def test_table_where_no_formula_fits() -> None:
    assert index_of(np.array([3, 4, 0, 1])) == Index(table=(3, 4, 0, 1))


@pytest.mark.parametrize(
    ("values", "table", "index"),
    [
        ([1, 2, 3], [1, 2, 3], Index()),
        ([1, 1, 2, 2], [1, 2], Index(divisor=2)),
        ([1, 2, 1, 2], [1, 2], Index(modulus=2)),
        ([1, 1, 2, 2, 1, 1, 2, 2], [1, 2], Index(divisor=2, modulus=2)),
    ],
)
def test_tables_are_as_short_as_they_can_be(
    values: list[float], table: list[float], index: Index
) -> None:
    found = constant_expression(np.array(values, np.float64))
    assert isinstance(found, Table)
    assert found.values.dtype == np.float32
    assert found.values.tolist() == table
    assert found.index == index


def test_same_constants_are_a_number() -> None:
    assert constant_expression(np.full(3, 0.1)) == Number(float(np.float32(0.1)))


def test_expression_of_an_element() -> None:
    assert expression_of(Picked(X, np.array([1, 2]))) == Element(X, Index(1))
