"""Which value of a source stands for which of another version of it."""

from __future__ import annotations

import pytest

from metal4conv.debug.alignment import align
from metal4conv.debug.arrangement import arrangements
from metal4conv.mil.correspondence import SourceValue


def rows(text: str) -> list[SourceValue]:
    """Values `name:operator`, separated by spaces."""
    return [SourceValue(*word.split(":")) for word in text.split()]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("a:Conv b:Relu", "a:Conv b:Relu", {"a": "a", "b": "b"}),
        # numbers shift behind an inserted node
        ("c:Conv r:Relu c_1:Conv", "c:Conv n:Norm r:Relu c_2:Conv", {"r": "r", "c_1": "c_2"}),
        # one left out: its neighbours keep their counterparts
        ("c:Conv n:Norm r:Relu", "c:Conv r:Relu", {"c": "c", "n": None, "r": "r"}),
        # an operator exchanged for another, in the same place
        ("c:Conv p:Pow r:Relu", "c:Conv m:Mul r:Relu", {"p": "m"}),
        # two in the place of one: the last one is what follows takes
        ("c:Conv p:Pow r:Relu", "c:Conv m:Mul m_1:Mul r:Relu", {"p": "m_1", "r": "r"}),
        ("c:Conv m:Mul m_1:Mul r:Relu", "c:Conv p:Pow r:Relu", {"m": None, "m_1": "p", "r": "r"}),
    ],
)
def test_align(old: str, new: str, expected: dict[str, str | None]) -> None:
    found = align(rows(old), rows(new))
    for name, other in expected.items():
        assert (found[name].name if name in found else None) == other


def test_modules_tell_equal_operators_apart() -> None:
    old = [SourceValue("relu", "Relu", "first"), SourceValue("relu_1", "Relu", "second")]
    new = [SourceValue("relu", "Relu", "second")]
    assert {name: row.name for name, row in align(old, new).items()} == {"relu_1": "relu"}


@pytest.mark.parametrize(
    ("source", "package", "moves", "orders"),
    [
        ((1, 3, 4), (1, 3, 4), False, [(0, 1, 2)]),
        ((3, 4), (1, 3, 4), False, [(0, 1)]),
        ((), (1,), False, [()]),
        ((1, 8, 6, 3), (1, 3, 8, 6), True, [(3, 0, 1, 2)]),
        ((2, 8, 6, 3), (2, 3, 8, 6), False, [(0, 3, 1, 2)]),
        # as many rows and columns as channels: both ways are possible, and only TensorFlow moves
        ((2, 4, 4, 4), (2, 4, 4, 4), False, [(0, 1, 2, 3)]),
        ((2, 3, 4), (2, 3, 5), True, []),
    ],
)
def test_arrangements(
    source: tuple[int, ...],
    package: tuple[int, ...],
    moves: bool,
    orders: list[tuple[int, ...]],
) -> None:
    found = [place.order for place in arrangements(source, package, moves_channels=moves)]
    assert found == orders
