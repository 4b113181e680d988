"""Liveness on programs that were worked out by hand."""

import random

import pytest

from metal4conv.layout.canonical import of_size, of_text
from metal4conv.layout.expression import evaluate
from metal4conv.layout.memory import (
    MOST_CANDIDATES,
    intermediate_bytes,
    largest_of,
    peak_bytes,
    tight_bytes,
)
from metal4conv.mil.program import (
    Block,
    Dimension,
    Function,
    ListType,
    Operation,
    StateType,
    TensorType,
    Value,
)

SIDES = {"h": Dimension(8, 512, 64), "w": Dimension(8, 512, 64)}


def operation(kind, output, shape, *reads, blocks=(), dtype="float16"):
    return Operation(
        kind, output, {"x": reads}, (Value(output, TensorType(dtype, shape)),), tuple(blocks)
    )


def function(operations, *outputs):
    return Function("main", "CoreML8", (), Block((), tuple(operations), outputs))


def peak_of(program, dimensions=None):
    amounts = intermediate_bytes(program, {})
    return peak_bytes(program.block, amounts, dimensions or {})


def test_a_skip_connection_keeps_its_value_alive():
    """Bytes: a 200, b 100, c 60. At a: 200; b: 300; c: 360; then b is dead, y is an output."""
    program = function(
        [
            operation("relu", "a", (100,), "x"),
            operation("conv", "b", (50,), "a"),
            operation("conv", "c", (30,), "b"),
            operation("add", "y", (100,), "a", "c"),
        ],
        "y",
    )
    assert peak_of(program) == 360
    assert sum(amount.constant for amount in intermediate_bytes(program, {}).values()) == 360


def test_without_it_only_neighbours_are_alive():
    """Bytes: a 200, b 100, c 60, d 40: 200, 300, 160, 100."""
    program = function(
        [
            operation("relu", "a", (100,), "x"),
            operation("conv", "b", (50,), "a"),
            operation("conv", "c", (30,), "b"),
            operation("conv", "d", (20,), "c"),
            operation("conv", "y", (100,), "d"),
        ],
        "y",
    )
    assert peak_of(program) == 300


def test_what_nobody_reads_dies_at_once_and_constants_do_not_count():
    program = function(
        [
            operation("const", "k", (1000,)),
            operation("constexpr_lut_to_dense", "l", (1000,), "k"),
            operation("relu", "a", (10,), "x", dtype="float32"),
            operation("relu", "b", (10,), "l", dtype="float32"),
            operation("relu", "y", (10,), "b"),
        ],
        "y",
    )
    assert peak_of(program) == 40


def test_a_loop_holds_its_variables_and_what_lives_around_it():
    """Around the loop a (20) and its result b (6); inside the variable i (6), then t (200)."""
    variable = Value("i", TensorType("float16", (3,)))
    body = Block(
        (variable,), (operation("mul", "t", (100,), "i"), operation("sum", "u", (3,), "t")), ("u",)
    )
    program = function(
        [
            operation("relu", "a", (10,), "x"),
            operation("while_loop", "b", (3,), "a", blocks=[body]),
            operation("add", "y", (10,), "a", "b"),
        ],
        "y",
    )
    assert peak_of(program) == 20 + 6 + 6 + 200


def test_an_inner_block_keeps_outer_values_alive():
    branch = Block((), (operation("relu", "t", (5,), "a"),), ("t",))
    program = function(
        [
            operation("relu", "a", (100,), "x"),
            operation("relu", "b", (7,), "x"),
            operation("cond", "y", (5,), "b", blocks=[branch, branch]),
        ],
        "y",
    )
    assert peak_of(program) == 200 + 14 + 10


def test_formulas_of_dynamic_sizes():
    """At c: a and b and c, 2*(8+4+1)*h*w; at d: c and d, 2*h*w + 2*30000."""
    program = function(
        [
            operation("relu", "a", (8, "h", "w"), "x"),
            operation("conv", "b", (4, "h", "w"), "a"),
            operation("add", "c", ("h", "w"), "a", "b"),
            operation("resize", "d", (30000,), "c"),
            operation("conv", "y", ("h", "w"), "d"),
        ],
        "y",
    )
    assert peak_of(program, SIDES) == "max(2*h*w+60000, 26*h*w)"


def test_unknown_sizes_give_no_estimate():
    assert intermediate_bytes(function([operation("nonzero", "a", ("?0", 1), "x")]), {}) is None
    assert tight_bytes(ListType(TensorType("float16", (3,)), None)) is None


def test_bytes_of_types():
    assert tight_bytes(TensorType("float32", (2, "h"))) == of_text("8*h")
    assert tight_bytes(TensorType("int4", (5,))) == of_size(3)
    assert tight_bytes(TensorType("bool", ())) == of_size(1)
    assert tight_bytes(ListType(TensorType("float16", (3,)), 4)) == of_size(24)
    assert tight_bytes(StateType(TensorType("float16", (3,)))) == of_size(0)


@pytest.mark.parametrize("seed", range(20))
def test_largest_is_exact_at_the_sampled_sizes_and_short(seed):
    draw = random.Random(seed)
    texts = [
        f"{draw.randint(0, 40)}*h*w+{draw.randint(0, 900)}*h+{draw.randint(0, 90000)}"
        f"+{draw.randint(0, 50)}*w*((h+{draw.randint(1, 3)})//4)"
        for _ in range(40)
    ]
    largest = largest_of(map(of_text, texts), SIDES)
    assert str(largest).count(",") < MOST_CANDIDATES
    for h in (8, 64, 512):
        for w in (8, 64, 512):
            sizes = {"h": h, "w": w}
            exact = max(evaluate(text, sizes) for text in texts)
            found = evaluate(largest, sizes)
            assert found >= exact
            if "max" in str(largest):
                assert found == exact
