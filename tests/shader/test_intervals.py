"""Intervals of functions hold all values of the function within the arguments' intervals."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.shader.element_functions import ELEMENT_FUNCTIONS
from metal4conv.shader.network import FUNCTIONS
from tests.shader.intervals import Interval, applied, as_half, reduced

SAMPLES = 41
TRIALS = 300


def drawn(name: str, generator: np.random.Generator) -> list[Interval]:
    """Arguments: narrow and wide intervals, also of one point."""
    found = []
    for place in range(FUNCTIONS[name]):
        low = generator.uniform(-4, 4, TRIALS)
        width = generator.choice([0, 1e-6, 1e-2, 1, 5], TRIALS)
        high = low + width
        if name in ("leaky_relu", "elu") and place == 1:
            low = high = np.full(TRIALS, 0.3)
        if name == "clamp" and place:
            low = high = np.full(TRIALS, -1.0 if place == 1 else 1.5)
        if name == "power" and place == 1:
            low = high = generator.choice([2.0, 3.0, 0.5, -1.0], TRIALS)
        if name.startswith("logical") or (name == "select" and place == 0) or name == "equal":
            low = np.round(low / 4)
            high = np.maximum(low, np.round(high / 4))
        found.append(Interval(low, high))
    return found


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_all_values_are_within(name: str) -> None:
    generator = np.random.default_rng(len(name))
    arguments = drawn(name, generator)
    found = applied(name, arguments)
    assert (found.low <= found.high).all()
    for sample in range(SAMPLES):
        shares = [
            np.full(TRIALS, sample % 2) if sample < 2 else generator.uniform(0, 1, TRIALS)
            for _ in arguments
        ]
        values = [
            a.low + share * (a.high - a.low) for a, share in zip(arguments, shares, strict=True)
        ]
        with np.errstate(all="ignore"):
            result = np.asarray(ELEMENT_FUNCTIONS[name](*values), np.float64)
        is_unknown = np.isinf(found.low) & np.isinf(found.high)
        inside = (result >= found.low) & (result <= found.high)
        assert (inside | is_unknown).all(), name


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_points_stay_narrow(name: str) -> None:
    """Of one point each, the interval is a few units in the last place wide, where it is known."""
    generator = np.random.default_rng(len(name))
    points = [Interval(item.low, item.low) for item in drawn(name, generator)]
    found = applied(name, points)
    is_known = np.isfinite(found.low) & np.isfinite(found.high)
    width = (found.high - found.low)[is_known]
    assert (width <= 2e-5 * np.maximum(1, found.largest[is_known])).all()


def test_sine_of_a_long_interval_is_everything_it_can_be() -> None:
    found = applied("sin", [Interval(np.array([0.0]), np.array([7.0]))])
    assert found.low[0] == pytest.approx(-1, abs=1e-5)
    assert found.high[0] == pytest.approx(1, abs=1e-5)


def test_product_with_itself_is_not_negative() -> None:
    x = Interval(np.array([-1e-3]), np.array([2e-3]))
    assert applied("multiply", [x, x], is_square=True).low[0] == 0
    assert applied("multiply", [x, x]).low[0] < 0


def test_rounding_to_half_keeps_points() -> None:
    x = Interval(np.array([1.00001, 1.0004]), np.array([1.00002, 1.0006]))
    found = as_half(x)
    assert (found.high - found.low).tolist() == [0, 2.0**-10]


def test_sum_of_what_is_not_negative_is_not_negative() -> None:
    x = Interval(np.zeros((1, 3)), np.full((1, 3), 1e-3))
    assert reduced("sum", x).low[0] == 0
    assert reduced("product", x).high[0] >= 1e-9
