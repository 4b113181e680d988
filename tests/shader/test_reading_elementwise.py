"""Operations on elements, each alone behind a point's features, against the executor."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.shader.network import Assign, Call, Network
from metal4conv.shader.reading_elementwise import BINARY, UNARY
from tests.shader.programs import Program, check

POSITIVE = {"sqrt", "log", "rsqrt", "pow"}
WITHIN_ONE = {"acos", "asin", "atanh"}


def ranges(name: str) -> dict[str, float]:
    """Where a function is defined and tame."""
    if name in POSITIVE:
        return {"low": 0.1, "high": 3}
    return {"low": -0.9, "high": 0.9} if name in WITHIN_ONE else {}


def only_expression(network: Network) -> Call:
    """The one expression of a network with one step."""
    (step,) = network.program.steps
    assert isinstance(step, Assign)
    (piece,) = step.pieces
    assert isinstance(piece.expression, Call)
    return piece.expression


@pytest.mark.parametrize("name", sorted(UNARY.keys() - {"logical_not"}))
def test_one_value(name: str) -> None:
    program = Program(x=("n", 3))
    program.add(name, x="x")
    network = check(program.function(), **ranges(name))
    assert only_expression(network).function == UNARY[name]


@pytest.mark.parametrize("name", sorted(BINARY))
def test_two_values(name: str) -> None:
    program = Program(x=("n", 3), y=("n", 3))
    is_logical = name.startswith("logical")
    gives_bool = (
        is_logical
        or name in ("equal", "not_equal")
        or name.split("_")[0]
        in (
            "less",
            "greater",
        )
    )
    left, right = "x", "y"
    if is_logical:
        left = program.add("greater", x="x", y=0.5, dtype="bool")
        right = program.add("less", x="y", y=0.5, dtype="bool")
    found = program.add(name, x=left, y=right, dtype="bool" if gives_bool else "float32")
    if gives_bool:
        program.add("select", cond=found, a=2.0, b=3.0)
    check(program.function(), **ranges(name))


CASES = {
    "clamped_relu": {"alpha": 0.1, "beta": 1.5},
    "clip": {"alpha": -0.5, "beta": 1.0},
    "elu": {"alpha": 0.7},
    "gelu": {},
    "inverse": {"epsilon": 3.0},
    "leaky_relu": {"alpha": 0.1},
    "linear_activation": {"alpha": 0.3, "beta": 0.2},
    "log": {"epsilon": 0.1},
    "relu6": {},
    "rsqrt": {"epsilon": 0.1},
    "scaled_tanh": {"alpha": 0.3, "beta": 2.0},
    "sigmoid_hard": {"alpha": 0.3, "beta": 0.2},
    "square": {},
    "threshold": {"alpha": 0.3},
    "thresholded_relu": {"alpha": 0.3},
    "atanh": {},
}


@pytest.mark.parametrize("name", CASES)
def test_parameters(name: str) -> None:
    program = Program(x=("n", 3))
    program.add(name, x="x", **CASES[name])
    check(program.function(), **ranges(name))


@pytest.mark.parametrize(
    ("mode", "function"),
    [
        ("EXACT", "gelu"),
        ("TANH_APPROXIMATION", "gelu_tanh"),
        ("SIGMOID_APPROXIMATION", "gelu_sigmoid"),
    ],
)
def test_gelu(mode: str, function: str) -> None:
    program = Program(x=("n", 3))
    program.add("gelu", x="x", mode=f"={mode}")
    assert only_expression(check(program.function())).function == function


def test_crossed_clip_gives_its_upper_bound() -> None:
    program = Program(x=("n", 3))
    program.add("clip", x="x", alpha=1.0, beta=-1.0)
    check(program.function())


@pytest.mark.parametrize("exponent", [-1.0, -0.5, 0.5, 1.0, 2.0, 3.0, 2.5])
def test_powers(exponent: float) -> None:
    program = Program(x=("n", 3))
    program.add("pow", x="x", y=exponent)
    program.add("add", x="pow", y=1.0)
    network = check(program.function(), low=0.3, high=2)
    functions = str(network.program.steps)
    assert ("'power'" in functions) == (exponent == 2.5)


def test_power_of_several_exponents() -> None:
    program = Program(x=("n", 3))
    program.add("pow", x="x", y=np.array([1.0, 2, 3]))
    check(program.function(), low=0.3, high=2)


@pytest.mark.parametrize("name", ["prelu", "softplus_parametric"])
def test_parameters_by_channel(name: str) -> None:
    program = Program(x=(1, 3, "h", "w"))
    more = {"beta": np.array([0.5, 1, 2])} if name == "softplus_parametric" else {}
    program.add(name, x="x", alpha=np.array([0.1, 0.2, 0.3]), **more)
    check(program.function())


def test_prelu_of_one_slope_is_leaky() -> None:
    program = Program(x=(1, 3, "h", "w"))
    program.add("prelu", x="x", alpha=np.array([0.25] * 3))
    assert only_expression(check(program.function())).function == "leaky_relu"


def test_casts() -> None:
    program = with_cast(Program(x=("n", 3)), "x", "whole", "int32")
    program = with_cast(program, "whole", "back", "fp32")
    program.add("add", x="back", y="x")
    check(program.function())


def test_booleans() -> None:
    program = with_cast(Program(x=("n", 3)), "x", "flags", "bool")
    program.add("logical_not", x="flags", dtype="bool", name="others")
    program = with_cast(program, "others", "numbers", "fp32")
    program.add("mul", x="numbers", y=2.0)
    inputs = {"x": np.array([[0, 1, -2], [0.5, 0, 0]], np.float32)}
    check(program.function(), inputs)


def test_integer_input_that_is_cast_at_once() -> None:
    program = with_cast(Program(int_x=("n", 3)), "int_x", "floats", "fp32")
    program.add("mul", x="floats", y=0.5)
    check(program.function(), low=-9, high=9)


def test_integer_division_is_cut() -> None:
    program = with_cast(Program(x=("n", 3)), "x", "whole", "int32")
    program.add("real_div", x="whole", y=2, dtype="int32", name="halves")
    program = with_cast(program, "halves", "y", "fp32")
    check(program.function(), low=-9, high=9)


def with_cast(program: Program, source: str, name: str, dtype: str) -> Program:
    """The program with a cast, whose parameter has the name of the builder's own."""
    held = {"fp32": "float32"}.get(dtype, dtype)
    program.add_named("cast", {"x": source, "dtype": f"={dtype}"}, name=name, dtype=held)
    return program


def test_epsilon_that_is_lost_is_left_out() -> None:
    program = Program(x=("n", 3))
    program.add("add", x="x", y=1e-3)
    program.add("rsqrt", x="add", epsilon=1e-12)
    (found,) = only_expression(check(program.function(), low=0.1, high=2)).arguments
    assert isinstance(found, Call)
    assert [type(item).__name__ for item in found.arguments] == ["Element", "Number"]


def test_value_used_twice_is_computed_once() -> None:
    program = Program(x=("n", 3))
    program.add("sigmoid", x="x")
    program.add("sin", x="sigmoid")
    program.add("add", x="sigmoid", y="sin_1")
    network = check(program.function())
    assert [step.result.name for step in network.program.steps] == ["sigmoid", "add_2"]


def test_long_chain_is_cut() -> None:
    """An expression that fills a page says nothing."""
    program = Program(x=("n", 3))
    last = "x"
    for number in range(20):
        last = program.add("sin" if number % 2 else "cos", x=last)
    network = check(program.function())
    assert [step.label for step in network.program.steps] == ["cos_12", "sin_19"]
