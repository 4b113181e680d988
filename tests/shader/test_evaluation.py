"""Networks against numbers worked out by hand, and bounds against shaders that are simulated."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from metal4conv.errors import UsageError
from metal4conv.shader.element_functions import ELEMENT_FUNCTIONS
from metal4conv.shader.evaluation import evaluate, stored_weight
from metal4conv.shader.network import (
    FUNCTIONS,
    Assign,
    Call,
    Convolution,
    Element,
    Index,
    Linear,
    Network,
    Number,
    Pass,
    Piece,
    PointProgram,
    Port,
    Reduce,
    Step,
    Table,
    Vector,
)
from metal4conv.shader.options import Precision
from tests.shader.error_bounds import error_bound

X = Vector("x", 2)


def port(name: str, width: int, *, uniform: bool = False) -> Port:
    """A port of rows."""
    return Port(name, "float32", (1 if uniform else "n", width), (1,), uniform)


def network(*steps: Step) -> Network:
    """A network of x with two features; y is the last step's result."""
    last = steps[-1].result
    program = PointProgram((X,), steps, (last,))
    return Network(
        "net", (port("x", 2),), (port("y", last.width),), (Pass(program, ("x",), ("y",)),)
    )


def evaluated(*steps: Step) -> list[list[float]]:
    """The rows of y for two points."""
    rows = {"x": np.array([[1.0, 2.0], [3.0, -4.0]])}
    found: list[list[float]] = evaluate(network(*steps), rows)["y"].tolist()
    return found


def test_linear() -> None:
    weight = np.array([[1, 0], [2, 3], [0, -1]], np.float32)
    assert evaluated(Linear(Vector("y", 3), X, weight, "l")) == [[1, 8, -2], [3, -6, 4]]


def test_pieces_follow_one_another() -> None:
    y = Vector("y", 4)
    pieces = (
        Piece(0, 2, Call("multiply", (Element(X, Index(1, -1)), Number(10)))),
        Piece(2, 2, Call("add", (Element(X), Table(np.array([0.5, 1.5], np.float32))))),
    )
    assert evaluated(Assign(y, pieces, "a")) == [[20, 10, 1.5, 3.5], [-40, 30, 3.5, -2.5]]


def test_piece_of_constants_alone() -> None:
    pieces = (Piece(0, 2, Element(X)), Piece(2, 1, Number(1)))
    assert evaluated(Assign(Vector("y", 3), pieces, "a")) == [[1, 2, 1], [3, -4, 1]]


@pytest.mark.parametrize(
    ("operation", "wanted"),
    [
        ("sum", [1 + 20, 3 - 40]),
        ("minimum", [1, -40]),
        ("maximum", [20, 3]),
        ("product", [20, -120]),
    ],
)
def test_reductions(operation: str, wanted: list[float]) -> None:
    terms = Call("multiply", (Element(X), Table(np.array([1, 10], np.float32))))
    found = evaluated(Reduce(Vector("y", 1), operation, 2, terms, "r"))
    assert found == [[wanted[0]], [wanted[1]]]


def test_reduction_in_groups() -> None:
    """Two sums of three: of the elements 0, 0, 0 and 1, 1, 1."""
    terms = Element(X, Index(divisor=3))
    assert evaluated(Reduce(Vector("y", 2), "sum", 3, terms, "r")) == [[3, 6], [9, -12]]


def test_uniform_input_has_one_row() -> None:
    u = Vector("u", 1)
    step = Assign(
        Vector("y", 2), (Piece(0, 2, Call("multiply", (Element(X), Element(u, Index(0, 0))))),), "a"
    )
    made = Network(
        "net",
        (port("x", 2), port("u", 1, uniform=True)),
        (port("y", 2),),
        (Pass(PointProgram((X, u), (step,), (step.result,)), ("x", "u"), ("y",)),),
    )
    found = evaluate(made, {"x": np.ones((3, 2)), "u": np.array([[7.0]])})
    assert found["y"].tolist() == [[7, 7]] * 3
    with pytest.raises(UsageError, match='"u" takes one row'):
        evaluate(made, {"x": np.ones((3, 2)), "u": np.ones((3, 1))})
    with pytest.raises(UsageError, match="rows of 2 numbers"):
        evaluate(made, {"x": np.ones((3, 3)), "u": np.ones((1, 1))})


def test_convolution_of_a_picture_by_hand() -> None:
    """The sum of a pixel and its left neighbour, of a picture with two columns and two rows."""
    weight = np.zeros((1, 1, 3, 3), np.float32)
    weight[0, 0, 1, :2] = 1
    sums = Vector("sums", 1)
    convolution = Convolution(sums, "x", weight, (1, 1), "c")
    made = Network(
        "net",
        (Port("x", "float32", (1, 1, 2, 2), (1,)),),
        (Port("y", "float32", (1, 1, 2, 2), (1,)),),
        (Pass(PointProgram((sums,), (), (sums,)), (), ("y",), convolution),),
    )
    rows = {"x": np.array([[1.0], [2.0], [4.0], [8.0]])}
    assert evaluate(made, rows, size=(2, 2))["y"].ravel().tolist() == [1, 3, 4, 12]
    with pytest.raises(UsageError, match="width and height"):
        evaluate(made, rows)
    with pytest.raises(UsageError, match="3 × 2 pixels has no 4 rows"):
        evaluate(made, rows, size=(3, 2))


HAND = {
    "erf": ([0.5], 0.5204998778130465),
    "gelu": ([1.0], 0.8413447460685429),
    "gelu_tanh": ([1.0], 0.8411919906082768),
    "gelu_sigmoid": ([1.0], 1 / (1 + math.exp(-1.702))),
    "softplus": ([100.0], 100.0),
    "sigmoid": ([-800.0], 0.0),
    "elu": ([-1.0, 2.0], 2 * (math.exp(-1) - 1)),
    "leaky_relu": ([-2.0, 0.25], -0.5),
    "modulo": ([-1.0, 3.0], 2.0),
    "floor_divide": ([-1.0, 3.0], -1.0),
    "round": ([2.5], 2.0),
    "select": ([0.0, 1.0, 2.0], 2.0),
    "clamp": ([5.0, 1.0, -1.0], -1.0),
    "truncate": ([-1.7], -1.0),
    "rsqrt": ([4.0], 0.5),
}


@pytest.mark.parametrize("name", HAND)
def test_functions(name: str) -> None:
    arguments, wanted = HAND[name]
    with np.errstate(all="ignore"):
        found = ELEMENT_FUNCTIONS[name](*(np.array([value]) for value in arguments))
    assert found[0] == pytest.approx(wanted, rel=1e-12, abs=1e-300)


def test_every_function_is_there() -> None:
    assert ELEMENT_FUNCTIONS.keys() == FUNCTIONS.keys()


def test_stored_weights() -> None:
    weight = np.array([[1, -0.4], [0, 0]], np.float32)
    assert stored_weight(weight, "float16")[0].tolist() == [1, float(np.float16(-0.4))]
    scale = float(np.float32(1 / 127))
    assert stored_weight(weight, "int8").tolist() == [[127 * scale, -51 * scale], [0, 0]]


# bounds


def mlp(widths: list[int], activation: str, seed: int = 0) -> Network:
    """Linear layers with biases; the activation between them."""
    generator = np.random.default_rng(seed)
    steps: list[Step] = []
    first = vector = Vector("x", widths[0])
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        weight = generator.normal(0, 1.4 / math.sqrt(inputs), (outputs, inputs))
        sums = Vector(f"sums_{number}", outputs)
        steps.append(Linear(sums, vector, weight.astype(np.float32), f"layer {number}"))
        bias = Table(generator.normal(0, 0.3, outputs).astype(np.float32))
        expression = Call("add", (Element(sums), bias))
        if number < len(widths) - 2:
            expression = Call(activation, (expression,))
        vector = Vector(f"layer_{number}", outputs)
        steps.append(Assign(vector, (Piece(0, outputs, expression),), f"layer {number}"))
    program = PointProgram((first,), tuple(steps), (vector,))
    return Network(
        "net",
        (port("x", widths[0]),),
        (port("y", widths[-1]),),
        (Pass(program, ("x",), ("y",)),),
    )


@pytest.mark.parametrize("precision", ["float16", "int8", "float32"])
@pytest.mark.parametrize("activation", ["relu", "sin", "gelu", "tanh", "silu", "softplus"])
def test_bound_holds_and_is_close(activation: str, precision: Precision) -> None:
    """In float16 the bound is hardly more than the error that there is."""
    made = mlp([8, 32, 32, 6], activation)
    inputs = {"x": np.random.default_rng(1).uniform(-1, 1, (200, 8)).astype(np.float32)}
    exact = evaluate(made, inputs)["y"]
    error = np.abs(evaluate(made, inputs, np.float32, precision=precision)["y"] - exact)
    bound = error_bound(made, inputs, precision)["y"]
    assert (error <= bound).all()
    assert bound.mean() < error.mean() * (1000 if precision == "float32" else 2)


def test_bound_holds_for_a_careless_shader(monkeypatch: pytest.MonkeyPatch) -> None:
    """Functions that are off by some units in the last place, and sums of single terms."""
    made = mlp([8, 32, 32, 6], "tanh")
    generator = np.random.default_rng(2)
    inputs = {"x": generator.uniform(-1, 1, (50, 8)).astype(np.float32)}
    exact = evaluate(made, inputs)["y"]
    bound = error_bound(made, inputs, "float16")["y"]

    def careless(x: np.ndarray) -> np.ndarray:
        return np.float32(np.tanh(x) * (1 + generator.uniform(-8, 8, x.shape) * 2**-24))

    def one_by_one(rows: np.ndarray, weight: np.ndarray) -> np.ndarray:
        order = generator.permutation(rows.shape[1])
        total = np.zeros((len(rows), len(weight)), np.float32)
        for k in order:
            total = total + rows[:, k, None] * weight[None, :, k]
        return total

    rows = inputs["x"]
    for step in made.program.steps:
        if isinstance(step, Linear):
            halves = rows.astype(np.float16).astype(np.float32)
            rows = one_by_one(halves, stored_weight(step.weight, "float16").astype(np.float32))
        elif isinstance(step, Assign):
            expression = step.pieces[0].expression
            assert isinstance(expression, Call)
            inner = expression if expression.function == "add" else expression.arguments[0]
            assert isinstance(inner, Call)
            table = inner.arguments[1]
            assert isinstance(table, Table)
            rows = rows + table.values
            rows = careless(rows) if expression.function == "tanh" else rows
    assert (np.abs(rows - exact) <= bound).all()


def test_bound_without_a_bias_is_broken() -> None:
    """What is off by a bias is far outside."""
    made = mlp([8, 32, 32, 6], "relu")
    inputs = {"x": np.random.default_rng(1).uniform(-1, 1, (50, 8)).astype(np.float32)}
    bound = error_bound(made, inputs, "float16")["y"]
    assert bound.max() < 0.01


def test_bound_where_float16_overflows_is_infinite() -> None:
    made = network(Linear(Vector("y", 2), X, np.eye(2, dtype=np.float32), "l"))
    inputs = {"x": np.array([[1.0, 70000.0], [1.0, 2.0]])}
    found = error_bound(made, inputs, "float16")["y"]
    assert np.isinf(found[0]).all()
    assert (found[1] < 1e-5).all()
    assert np.isfinite(error_bound(made, inputs, "float32")["y"]).all()


def test_bound_where_a_function_may_be_undefined_is_infinite() -> None:
    thirds = Vector("thirds", 2)
    made = network(
        Linear(thirds, X, np.eye(2, dtype=np.float32), "l"),
        Assign(Vector("y", 2), (Piece(0, 2, Call("log", (Element(thirds),))),), "a"),
    )
    found = error_bound(made, {"x": np.array([[0.0, 1.0]])}, "float16")["y"]
    assert np.isinf(found[0, 0])
    assert found[0, 1] < 1e-5


def test_length_of_a_vector_is_not_undefined() -> None:
    """A sum of squares is not negative, however it is rounded."""
    halves = Vector("halves", 2)
    squares = Vector("squares", 1)
    made = network(
        Linear(halves, X, np.array([[1, 0], [0, 1]], np.float32), "l"),
        Reduce(squares, "sum", 2, Call("multiply", (Element(halves), Element(halves))), "r"),
        Assign(Vector("y", 1), (Piece(0, 1, Call("sqrt", (Element(squares),))),), "a"),
    )
    found = error_bound(made, {"x": np.array([[1e-3, 0.0]])}, "float16")["y"]
    assert found[0, 0] < 1e-5
