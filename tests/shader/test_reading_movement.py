"""What moves features about against the executor; points stay where they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.shader.network import Assign, Element, Index, Network
from metal4conv.shader.reading import read_network
from tests.shader.programs import Program, check

MOVES: dict[str, tuple[tuple[int | str, ...], list[tuple[str, dict[str, Any]]]]] = {
    "reshape": (("n", 12), [("reshape", {"shape": np.array([-1, 3, 4])})]),
    "reshape_points": ((1, "h", "w", 3), [("reshape", {"shape": np.array([-1, 3])})]),
    "reshape_pixels": ((1, 3, 4, 5), [("reshape", {"shape": np.array([1, 3, 20])})]),
    "expand": (("n", 4), [("expand_dims", {"axes": np.array([1, -1])})]),
    "squeeze": (("n", 1, 4, 1), [("squeeze", {"axes": np.array([1, 3])})]),
    "squeeze_all": ((1, 6, 1, 4), [("squeeze", {})]),
    "flatten2d": (("n", 2, 3), [("flatten2d", {"axis": 1})]),
    "transpose": (("n", 2, 3), [("transpose", {"perm": np.array([0, 2, 1])})]),
    "channels_last": ((1, 3, "h", "w"), [("transpose", {"perm": np.array([0, 2, 3, 1])})]),
    "reverse": (("n", 2, 3), [("reverse", {"axes": np.array([2])})]),
    "slice": (
        ("n", 8),
        [("slice_by_index", {
            "begin": np.array([0, 1]), "end": np.array([0, 7]), "stride": np.array([1, 2]),
            "begin_mask": np.array([True, False]), "end_mask": np.array([True, False]),
        })],
    ),
    "slice_backwards": (
        (6, 8),
        [("slice_by_index", {
            "begin": np.array([0, -1]), "end": np.array([6, 2]), "stride": np.array([1, -2]),
        })],
    ),
    "slice_one": (
        ("n", 3, 4),
        [("slice_by_index", {
            "begin": np.array([0, 1, 0]), "end": np.array([0, 2, 0]),
            "end_mask": np.array([True, False, True]),
            "squeeze_mask": np.array([False, True, False]),
        })],
    ),
    "slice_by_size": (
        (6, 8), [("slice_by_size", {"begin": np.array([0, -3]), "size": np.array([-1, 3])})]
    ),
    "gather": (("n", 8), [("gather", {"indices": np.array([5, 0, 5]), "axis": 1})]),
    "gather_one": (("n", 8), [("gather", {"indices": np.int32(5), "axis": 1})]),
    "gather_table": (("n", 4), [("gather", {"indices": np.array([[0, 1], [3, 2]]), "axis": -1})]),
    "tile": (("n", 3), [("tile", {"reps": np.array([1, 2])})]),
    "tile_computed": (("n", 3), [("sin", {}), ("tile", {"reps": np.array([1, 2])})]),
    "pad": (
        ("n", 3),
        [("pad", {"pad": np.array([1, 2]), "mode": "=constant", "constant_val": 0.5})],
    ),
    "pad_reflect": (("n", 5), [("pad", {"pad": np.array([2, 1]), "mode": "=reflect"})]),
    "pad_replicate": (("n", 5), [("pad", {"pad": np.array([2, 1]), "mode": "=replicate"})]),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_move(name: str) -> None:
    shape, operations = MOVES[name]
    program = Program(x=shape)
    last = "x"
    for type, arguments in operations:
        last = program.add(type, x=last, **arguments)
    check(program.function())


def only_index(network: Network) -> Index:
    """Where the elements of a network that only moves them come from."""
    (step,) = network.program.steps
    assert isinstance(step, Assign)
    (piece,) = step.pieces
    assert isinstance(piece.expression, Element)
    return piece.expression.index


def test_transposed_features_are_an_index() -> None:
    program = Program(x=("n", 3))
    program.add("expand_dims", x="x", axes=np.array([2]))
    program.add("tile", x="expand_dims", reps=np.array([1, 1, 4]))
    program.add("reshape", x="tile_1", shape=np.array([-1, 12]))
    assert only_index(check(program.function())) == Index(divisor=4)


def test_every_other_feature_is_an_index() -> None:
    shape, operations = MOVES["slice"]
    program = Program(x=shape)
    program.add(operations[0][0], x="x", **operations[0][1])
    assert only_index(check(program.function())) == Index(1, 2)


def test_parts_of_a_split() -> None:
    program = Program(x=("n", 6))
    parts = program.add("split", x="x", split_sizes=np.array([1, 3, 2]), axis=1, outputs=3)
    program.add("sin", x=parts[1])
    check(program.function(parts[2], "sin_1", parts[0]))


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_stack(axis: int) -> None:
    program = Program(x=("n", 3), y=("n", 3))
    program.add("sin", x="x")
    program.add("stack", values=["sin", "y"], axis=axis)
    if axis == 0:
        check(program.function())
    else:
        program.add("linear", x="stack_1", weight=np.eye(2 if axis != 1 else 3))
        check(program.function())


@pytest.mark.parametrize("interleave", [False, True])
def test_concatenation_along_the_first_axis_of_features(interleave: bool) -> None:
    program = Program(x=("n", 3, 4), y=("n", 3, 4))
    program.add("cos", x="x")
    program.add("concat", values=["cos", "y"], axis=1, interleave=interleave)
    check(program.function())


def test_concatenation_along_the_last_axis_of_features() -> None:
    program = Program(x=("n", 3, 4), y=("n", 3, 2))
    program.add("cos", x="x")
    program.add("concat", values=["cos", "y"], axis=2)
    program.add("reshape", x="concat_1", shape=np.array([-1, 18]))
    check(program.function())


def test_concatenation_is_one_step_with_pieces() -> None:
    program = Program(x=("n", 3), y=("n", 2))
    program.add("sin", x="x")
    program.add("concat", values=["x", "sin", "y"], axis=1)
    program.add("linear", x="concat_1", weight=np.ones((2, 8)))
    step, _ = check(program.function()).program.steps
    assert isinstance(step, Assign)
    assert [(piece.offset, piece.width) for piece in step.pieces] == [(0, 3), (3, 3), (6, 2)]


def test_concatenation_with_a_constant() -> None:
    program = Program(x=(6, 3))
    program.add("concat", values=["x", program.constant("ones", np.ones((6, 1)))], axis=1)
    check(program.function())


def test_concatenation_of_slices_of_one_vector_is_an_index() -> None:
    program = Program(x=("n", 6))
    parts = program.add("split", x="x", num_splits=2, axis=1, outputs=2)
    program.add("concat", values=[parts[1], parts[0]], axis=1)
    assert only_index(check(program.function())) == Index(table=(3, 4, 5, 0, 1, 2))


def test_interleaved_sines_and_cosines() -> None:
    """More stretches than pieces are worth: computed one after the other, then put in order."""
    program = Program(x=("n", 12))
    program.add("sin", x="x")
    program.add("cos", x="x")
    program.add("stack", values=["sin", "cos_1"], axis=2)
    program.add("reshape", x="stack_2", shape=np.array([-1, 24]))
    first, second = check(program.function()).program.steps
    assert isinstance(first, Assign)
    assert len(first.pieces) == 2
    assert isinstance(second, Assign)


def test_interleaved_values_before_a_layer_move_its_columns() -> None:
    program = Program(x=("n", 12))
    program.add("sin", x="x")
    program.add("cos", x="x")
    program.add("stack", values=["sin", "cos_1"], axis=2)
    program.add("reshape", x="stack_2", shape=np.array([-1, 24]))
    weight = np.random.default_rng(0).uniform(-1, 1, (3, 24))
    program.add("linear", x="reshape_3", weight=weight)
    encoding, linear = check(program.function()).program.steps
    assert isinstance(encoding, Assign)
    assert len(encoding.pieces) == 2
    columns = np.concatenate([weight[:, 0::2], weight[:, 1::2]], axis=1)
    np.testing.assert_allclose(linear.weight, columns, rtol=1e-6)


def points_and(program: Program, rest: list[int]) -> str:
    """The number of points of `x` and further sizes, as programs compute them."""
    program.add("shape", x="x", dtype="int32")
    count = program.add("gather", x="shape", indices=np.array([0]), axis=0, dtype="int32")
    values = [count, program.constant("rest", np.array(rest))]
    found: str = program.add("concat", values=values, axis=0, dtype="int32", name="sizes")
    return found


def test_uniform_value_for_each_point() -> None:
    program = Program(x=("n", 3), y=(1, 2))
    reps = points_and(program, [1])
    program.add("tile", x="y", reps=reps)
    program.add("concat", values=["x", "tile_4"], axis=1)
    network = check(program.function())
    assert [port.uniform for port in network.inputs] == [False, True]


def test_ones_for_each_point() -> None:
    program = Program(x=("n", 3))
    full = points_and(program, [1])
    program.add("fill", shape=full, value=0.5)
    program.add("concat", values=["x", "fill_4"], axis=1)
    check(program.function())


def test_fill_like() -> None:
    program = Program(x=("n", 3))
    program.add("fill_like", ref_tensor="x", value=0.5)
    program.add("mul", x="x", y="fill_like")
    check(program.function())


def test_reshape_by_sizes() -> None:
    program = Program(x=("n", 12))
    full = points_and(program, [3, 4])
    program.add("reshape", x="x", shape=full)
    program.add("linear", x="reshape_4", weight=np.ones((2, 4)))
    check(program.function())


REFUSED: dict[str, tuple[tuple[int | str, ...], str, dict[str, Any], str]] = {
    "reshape": ((5, 8), "reshape", {"shape": np.array([4, 10])}, "joins points with features"),
    "transpose": (
        ("h", "w", 3), "transpose", {"perm": np.array([1, 0, 2])}, "puts the points into another"
    ),
    "slice": (
        ("n", 3),
        "slice_by_index",
        {"begin": np.array([0, 0]), "end": np.array([2, 3])},
        "takes a part of axis 0",
    ),
    "gather": ((7, 3), "gather", {"indices": np.array([1, 2]), "axis": 0}, "picks single points"),
    "reverse": (("n", 3), "reverse", {"axes": np.array([0])}, "turns axis 0 around"),
    "tile": (("n", 3), "tile", {"reps": np.array([2, 1])}, "repeats axis 0"),
    "pad": (("n", 3), "pad", {"pad": np.array([1, 0, 0, 0])}, "pads axis 0"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_moves_points_is_refused(name: str) -> None:
    shape, type, arguments, message = REFUSED[name]
    program = Program(x=shape)
    first = program.add("linear", x="x", weight=np.eye(int(shape[-1])))
    program.add(type, x=first, name="move", **arguments)
    program.add("linear", x="move", weight=np.ones((2, 10 if name == "reshape" else 3)))
    with pytest.raises(UnsupportedModel, match=message) as caught:
        read_network(program.function(), "net")
    assert f"operation move ({type})" in caught.value.message
