"""Reductions over features against the executor."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.shader.network import Reduce
from metal4conv.shader.reading import read_network
from metal4conv.shader.reading_reductions import REDUCTIONS
from tests.shader.programs import Program, check


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", sorted(REDUCTIONS))
def test_over_the_features(name: str, keep: bool) -> None:
    program = Program(x=("n", 5))
    program.add(name, x="x", axes=np.array([-1]), keep_dims=keep)
    network = check(program.function(), low=0.1, high=2)
    assert network.outputs[0].width == 1


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_over_one_of_three_axes(axis: int) -> None:
    program = Program(x=("n", 2, 3, 4))
    program.add("reduce_sum", x="x", axes=np.array([axis]), keep_dims=False)
    check(program.function())


def test_over_two_axes() -> None:
    program = Program(x=("n", 2, 3, 4))
    program.add("reduce_max", x="x", axes=np.array([1, 3]), keep_dims=True)
    network = check(program.function())
    (step,) = network.program.steps
    assert isinstance(step, Reduce)
    assert (step.result.width, step.count) == (3, 8)


def test_over_channels_of_pixels() -> None:
    program = Program(x=(1, 3, "h", "w"))
    program.add("reduce_mean", x="x", axes=np.array([1]), keep_dims=True)
    program.add("sub", x="x", y="reduce_mean")
    check(program.function())


def test_over_one_element_is_no_step() -> None:
    program = Program(x=("n", 1))
    program.add("reduce_sum", x="x", axes=np.array([1]), keep_dims=True)
    program.add("sin", x="reduce_sum")
    network = check(program.function())
    assert [step.label for step in network.program.steps] == ["sin_1"]


def test_arithmetic_moves_into_the_reduction() -> None:
    program = Program(x=("n", 5), y=("n", 5))
    program.add("mul", x="x", y="y")
    program.add("reduce_sum", x="mul", axes=np.array([-1]), keep_dims=False)
    assert len(check(program.function()).program.steps) == 1


def test_over_values_put_together() -> None:
    program = Program(x=("n", 3), y=("n", 2))
    program.add("sin", x="x")
    program.add("concat", values=["sin", "y"], axis=1)
    program.add("reduce_sum", x="concat_1", axes=np.array([-1]), keep_dims=True)
    check(program.function())


@pytest.mark.parametrize("axis", [-1, 1])
def test_softmax(axis: int) -> None:
    program = Program(x=("n", 3, 4))
    program.add("softmax", x="x", axis=axis)
    check(program.function())


def test_softmax_does_not_overflow() -> None:
    program = Program(x=("n", 3))
    program.add("softmax", x="x", axis=-1)
    check(program.function(), {"x": np.array([[1e4, 1e4 - 1, 0]], np.float32)})


def test_over_points_is_refused() -> None:
    program = Program(x=("n", 3))
    program.add("linear", x="x", weight=np.eye(3))
    program.add("reduce_mean", x="linear", axes=np.array([0]), keep_dims=True, name="average")
    with pytest.raises(UnsupportedModel, match=r"average \(reduce_mean\) reduces axis 0"):
        read_network(program.function(), "net")
