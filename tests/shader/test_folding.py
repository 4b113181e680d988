"""What is folded into weights, what is not, and that the numbers stay the same."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.shader.network import Assign, Call, Element, Network, Table
from tests.shader.programs import Program, check

RANDOM = np.random.default_rng(11)
WEIGHT = RANDOM.uniform(-1, 1, (4, 3))
BIAS = RANDOM.uniform(-1, 1, 4)
FACTORS = np.array([0.5, -2, 3, 0.25])


def steps(network: Network) -> str:
    """The kinds of a network's steps: L, A, R."""
    return "".join(type(step).__name__[0] for step in network.program.steps)


AFTER = {
    "mul": [("mul", {"y": FACTORS})],
    "number": [("mul", {"y": 3.0})],
    "real_div": [("real_div", {"y": FACTORS})],
    "sub_from": [("sub", {"x": FACTORS})],
    "add": [("add", {"y": FACTORS})],
    "several": [("mul", {"y": FACTORS}), ("add", {"y": 1.0}), ("sub", {"y": FACTORS})],
    "linear_activation": [("linear_activation", {"alpha": 0.5, "beta": 2.0})],
}


@pytest.mark.parametrize("name", AFTER)
def test_behind_a_layer(name: str) -> None:
    """All of it becomes one weight and one bias before the activation."""
    program = Program(x=("n", 3))
    last = program.add("linear", x="x", weight=WEIGHT, bias=BIAS)
    for operation, arguments in AFTER[name]:
        other = {"y": last} if "x" in arguments else {"x": last}
        last = program.add(operation, **arguments, **other)
    program.add("relu", x=last)
    network = check(program.function())
    assert steps(network) == "LA"
    activation = network.program.steps[1]
    assert isinstance(activation, Assign)
    (piece,) = activation.pieces
    assert isinstance(piece.expression, Call)
    (biased,) = piece.expression.arguments
    assert isinstance(biased, Call)
    assert biased.function == "add"
    assert [type(item) for item in biased.arguments] == [Element, Table]
    assert set(network.folded.values()) <= {"folded into linear"}


def test_scale_of_some_of_the_outputs_of_a_layer() -> None:
    program = Program(x=("n", 3))
    program.add("linear", x="x", weight=WEIGHT)
    parts = program.add("split", x="linear", num_splits=2, axis=1, outputs=2)
    program.add("mul", x=parts[0], y=7.0)
    program.add("concat", values=["mul_2", parts[1]], axis=1)
    check(program.function())


def test_layer_that_is_used_twice_keeps_its_weight() -> None:
    program = Program(x=("n", 3))
    program.add("linear", x="x", weight=WEIGHT, bias=BIAS)
    program.add("mul", x="linear", y=2.0)
    program.add("sin", x="linear")
    program.add("add", x="mul_1", y="sin_2")
    network = check(program.function())
    np.testing.assert_allclose(network.program.linears[0].weight, WEIGHT.astype(np.float32))


def test_layer_that_is_an_output_keeps_its_weight() -> None:
    program = Program(x=("n", 3))
    program.add("linear", x="x", weight=WEIGHT)
    program.add("mul", x="linear", y=2.0)
    network = check(program.function("linear", "mul_1"))
    np.testing.assert_allclose(network.program.linears[0].weight, WEIGHT.astype(np.float32))


def test_scale_before_a_layer() -> None:
    program = Program(x=("n", 3))
    program.add("relu", x="x")
    program.add("mul", x="relu", y=np.array([2.0, 3, 4]))
    program.add("linear", x="mul_1", weight=WEIGHT)
    network = check(program.function())
    assert [str(step.label) for step in network.program.steps] == ["relu", "linear_2"]
    assert network.program.steps[0].result.name.startswith("relu")
    assert network.folded["mul_1"] == "folded into linear_2"


def test_scaled_input_is_read_as_it_is() -> None:
    program = Program(x=("n", 3))
    program.add("real_div", x="x", y=255.0)
    program.add("linear", x="real_div", weight=WEIGHT)
    network = check(program.function())
    assert steps(network) == "L"
    assert network.program.linears[0].operand == network.program.inputs[0]


def test_scale_before_two_layers() -> None:
    program = Program(x=("n", 3))
    program.add("mul", x="x", y=3.0)
    program.add("linear", x="mul", weight=WEIGHT)
    program.add("linear", x="mul", weight=WEIGHT)
    program.add("mul", x="linear_1", y="linear_2")
    assert steps(check(program.function())) == "LLA"


def test_mean_is_subtracted_before_operands_are_rounded() -> None:
    """In float16 1000.3 is 1000.5: the bias cannot repair that."""
    program = Program(x=("n", 3))
    program.add("sub", x="x", y=1000.0)
    program.add("linear", x="sub", weight=WEIGHT)
    network = check(program.function(), low=999, high=1001)
    assert steps(network) == "AL"


def test_factor_of_zero_stays() -> None:
    program = Program(x=("n", 3))
    program.add("mul", x="x", y=np.array([1.0, 0, 2]))
    program.add("linear", x="mul", weight=WEIGHT)
    assert steps(check(program.function())) == "AL"


def test_scale_before_one_part_of_a_concatenation() -> None:
    program = Program(x=("n", 2), y=("n", 1))
    program.add("sin", x="x")
    program.add("mul", x="sin", y=5.0)
    program.add("concat", values=["mul_1", "y"], axis=1)
    program.add("linear", x="concat_2", weight=WEIGHT)
    network = check(program.function())
    assert network.folded["mul_1"] == "folded into linear_3"
    assert "multiply" not in str(network.program.steps[0])


def test_folding_is_rounded_once() -> None:
    """Ten factors in a row are one number in float64 before they are rounded."""
    program = Program(x=("n", 3))
    last = program.add("linear", x="x", weight=WEIGHT)
    for _ in range(10):
        last = program.add("mul", x=last, y=np.float32(1.1))
    program.add("relu", x=last)
    (linear,) = check(program.function()).program.linears
    exact = WEIGHT.astype(np.float32) * np.float64(np.float32(1.1)) ** 10
    np.testing.assert_array_equal(linear.weight, exact.astype(np.float32))
