"""Which axes count points, after whatever happens to them."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.mil.program import Shape
from metal4conv.shader.axes import (
    Known,
    MixedPoints,
    broadcast,
    constant_known,
    feature_axes_of,
    reshaped_points,
    same_points,
    transposed_points,
)
from metal4conv.shader.contents import vector_content
from metal4conv.shader.network import Vector

P, F = True, False

RESHAPES: list[tuple[Shape, tuple[bool, ...], Shape, tuple[bool, ...] | None]] = [
    ((5, 8), (P, F), (5, 2, 4), (P, F, F)),
    ((5, 8), (P, F), (1, 5, 8), (F, P, F)),
    ((2, 3, 8), (P, P, F), (6, 8), (P, F)),
    ((6, 8), (P, F), (2, 3, 8), (P, P, F)),
    ((1, 3, 4, 5), (F, F, P, P), (3, 20), (F, P)),
    ((8, 8), (P, F), (8, 8), (P, F)),
    ((2, 8), (P, F), (4, 4), None),
    ((5, 8), (P, F), (40,), None),
    ((5, 8), (F, F), (40,), (F,)),
    (("n", 8), (P, F), ("n", 2, 4), (P, F, F)),
    (("h", "w", 8), (P, P, F), ("h*w", 8), (P, F)),
    ((1, 8, "h", "w"), (F, F, P, P), (8, "h*w"), (F, P)),
    ((4, "n", 8), (F, P, F), (2, 2, "n", 8), (F, F, P, F)),
    (("h", 3, "w"), (P, F, P), ("h", 3, "w"), (P, F, P)),
    (("h", 3, "w"), (P, F, P), ("h", "3*w"), None),
    (("n", 8), (P, F), ("8*n",), None),
    (("n", 8), (P, F), ("2*n", 4), None),
    (("n", 1), (P, F), ("n",), (P,)),
]


@pytest.mark.parametrize(("shape", "points", "wanted", "found"), RESHAPES)
def test_reshape(
    shape: Shape, points: tuple[bool, ...], wanted: Shape, found: tuple[bool, ...] | None
) -> None:
    if found is None:
        with pytest.raises(MixedPoints, match="joins points with features"):
            reshaped_points(shape, points, wanted)
    else:
        assert reshaped_points(shape, points, wanted) == found


def test_transpose_keeps_the_order_of_points() -> None:
    assert transposed_points((F, F, P, P), (0, 2, 3, 1)) == (F, P, P, F)
    with pytest.raises(MixedPoints, match="another order"):
        transposed_points((F, F, P, P), (0, 1, 3, 2))


def value(shape: Shape, points: tuple[bool, ...]) -> Known:
    """A value with as many features as there are."""
    sizes = [int(size) for size, is_point in zip(shape, points, strict=True) if not is_point]
    return Known(shape, points, vector_content(Vector("x", int(np.prod(sizes)))))


def test_values_of_as_many_points() -> None:
    shape, points, _ = broadcast([value(("n", 3), (P, F)), value(("n", 1), (P, F))])
    assert (shape, points) == (("n", 3), (P, F))


def test_uniform_value_meets_all_points() -> None:
    shape, points, _ = broadcast([value((1, "n", 3), (F, P, F)), value((3,), (F,))])
    assert (shape, points) == ((1, "n", 3), (F, P, F))


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (value((5, 3), (P, F)), value((3, 5), (F, P)), "pairs points"),
        (value((5, 1, 3), (P, F, F)), value((5, 3), (P, F)), "pairs points with other points"),
        (value(("n", 3), (P, F)), value(("m", 3), (P, F)), "n points and m points"),
        (value((5, 3), (P, F)), value((5, 1), (F, F)), "pairs the features of one value"),
        (value((5, 3), (P, F)), constant_known(np.arange(5.0)[:, None]), "for each point"),
    ],
)
def test_points_that_would_meet_others(first: Known, second: Known, message: str) -> None:
    with pytest.raises(MixedPoints, match=message):
        broadcast([first, second])


def test_constant_repeated_for_each_point_is_one() -> None:
    _, _, (_, constant) = broadcast(
        [value((5, 3), (P, F)), constant_known(np.tile([1.0, 2, 3], (5, 1)))]
    )
    assert constant.content.constant is not None
    assert constant.content.constant.tolist() == [1, 2, 3]


def test_feature_axes_of_outputs() -> None:
    assert feature_axes_of(value((1, 3, "h", "w"), (F, F, P, P))) == (1,)
    assert feature_axes_of(value((1, 1, "h", "w"), (F, F, P, P))) == (1,)
    assert feature_axes_of(value(("n", 4, 2), (P, F, F))) == (1, 2)
    assert feature_axes_of(value(("n",), (P,))) == ()


def test_numbers_of_points() -> None:
    assert same_points([2, 3], [6])
    assert not same_points(["h", "w"], ["w", "h"])
    assert not same_points([5], [7])
