"""Sequences and optionals that are resolved at conversion, also through branches and loops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, opened, operations, parsed

PAIR = {"x": draw(2, 3), "w": draw(2, 3, seed=1)}


def net(body: str, inputs: str = "float[n, 3] x, float[n, 3] w", outputs: str = "y") -> str:
    declared = ", ".join(f"float {name}" for name in outputs.split())
    return f"net ({inputs}) => ({declared}) {{ {body} }}"


@pytest.mark.parametrize(
    "body",
    [
        """s = SequenceConstruct (x, w)
           y = ConcatFromSequence <axis = -1> (s)""",
        """s = SequenceConstruct (x, w)
           y = ConcatFromSequence <axis = -1, new_axis = 1> (s)""",
        """e = SequenceEmpty ()
           s = SequenceInsert (e, x)
           first = Constant <value = int64 {0}> ()
           t = SequenceInsert (s, w, first)
           y = ConcatFromSequence <axis = 1> (t)""",
        """s = SequenceConstruct (x, w, x)
           place = Constant <value = int64 {-3}> ()
           t = SequenceErase (s, place)
           y = ConcatFromSequence <axis = 1> (t)""",
        """s = SequenceConstruct (x, w, x)
           t = SequenceErase (s)
           last = Constant <value = int64 {-1}> ()
           y = SequenceAt (t, last)""",
        """s = SequenceConstruct (x, w, x)
           count = SequenceLength (s)
           factor = Cast <to = 1> (count)
           y = Mul (x, factor)""",
        """s = SequenceConstruct (x, w)
           t = SequenceMap (s, x) <body = each (float[k, 3] a, float[k, 3] b) => (float[k, 3] c) {
               c = Add (a, b)
           }>
           y = ConcatFromSequence <axis = 1> (t)""",
        """o = Optional (x)
           has = OptionalHasElement (o)
           y = If (has) <then_branch = yes () => (float[k, 3] a) { a = OptionalGetElement (o) },
                         else_branch = no () => (float[k, 3] b) { b = Neg (w) }>""",
        """o = Optional <type = tensor(float)> ()
           has = OptionalHasElement (o)
           y = If (has) <then_branch = yes () => (float[k, 3] a) { a = OptionalGetElement (o) },
                         else_branch = no () => (float[k, 3] b) { b = Neg (w) }>""",
    ],
)
def test_sequences(body: str, tmp_path: Path) -> None:
    has_type = "<type" in body
    made = parsed(net(body.replace("<type = tensor(float)> ", "")))
    for item in made.graph.output:
        item.type.tensor_type.ClearField("shape")
    if has_type:  # ONNX's text has no types as attributes
        kind = helper.make_tensor_type_proto(TensorProto.FLOAT, None)
        made.graph.node[0].attribute.append(helper.make_attribute("type", kind))
    check(made, tmp_path, PAIR, {name: array[:1] for name, array in PAIR.items()}, dims=["n=1..4"])


@pytest.mark.parametrize(
    ("split", "keepdims"),
    [("", 1), ("", 0), ("int64 {2}", 1), ("int64[2] {1, 4}", 1), ("int64[2] {1, 4}", 0)],
)
@pytest.mark.parametrize("axis", [1, -1])
def test_split_to_sequence(split: str, keepdims: int, axis: int, tmp_path: Path) -> None:
    constant = f"sizes = Constant <value = {split}> ()" if split else ""
    body = f"""{constant}
        s = SplitToSequence <axis = {axis}, keepdims = {keepdims}> (x {", sizes" if split else ""})
        one = Constant <value = int64 {{1}}> ()
        zero = Constant <value = int64 {{0}}> ()
        y = SequenceAt (s, one)
        z = SequenceAt (s, zero)"""
    made = parsed(net(body, "float[n, 5] x", "y z"))
    for item in made.graph.output:
        item.type.tensor_type.ClearField("shape")
    check(made, tmp_path, {"x": draw(3, 5)}, dims=["n=1..4"])


def test_a_position_that_is_computed(tmp_path: Path) -> None:
    made = parsed(
        net("s = SequenceConstruct (x, w)  y = SequenceAt (s, place)",
            "float[n, 3] x, float[n, 3] w, int64 place")
    )  # fmt: skip
    made.graph.output[0].type.tensor_type.ClearField("shape")
    cases = [{**PAIR, "place": np.array(place)} for place in (0, 1, -1)]
    check(made, tmp_path, *cases, dims=["n=1..4"])


LOOP = """yes = Constant <value = bool {{1}}> ()
    {count}
    e = SequenceEmpty ()
    s = Loop ({trips}, yes, e) <body = step (int64 i, bool before, seq(float[k, 3]) a)
        => (bool after, seq(float[k, 3]) b) {{
        number = Cast <to = 1> (i)
        row = Add (x, number)
        b = SequenceInsert (a, row)
        after = Identity (before)
    }}>
    y = ConcatFromSequence <axis = 0> (s)"""


def test_a_loop_that_fills_a_sequence(tmp_path: Path) -> None:
    count = "count = Constant <value = int64 {20}> ()"
    made = parsed(net(LOOP.format(count=count, trips="count"), "float[n, 3] x"))
    made.graph.output[0].type.tensor_type.ClearField("shape")
    package = check(made, tmp_path, {"x": draw(2, 3)}, dims=["n=1..4"])
    assert "while_loop" not in operations(package)


@pytest.mark.parametrize("start", ["e = SequenceEmpty ()", "e = SequenceConstruct (x)"])
@pytest.mark.parametrize(
    "end",
    [
        "y = ConcatFromSequence <axis = 0> (s)",
        "y = ConcatFromSequence <axis = 1> (s)",
        "y = ConcatFromSequence <axis = 1, new_axis = 1> (s)",
        "last = Constant <value = int64 {-1}> ()  y = SequenceAt (s, last)",
        "count = SequenceLength (s)  whole = Cast <to = 1> (count)  y = Mul (x, whole)",
    ],
)
def test_a_sequence_of_unknown_length(start: str, end: str, tmp_path: Path) -> None:
    body = LOOP.format(count="", trips="trips").replace("e = SequenceEmpty ()", start)
    body = body.replace("y = ConcatFromSequence <axis = 0> (s)", end)
    made = parsed(net(body, "float[n, 3] x, int64 trips"))
    made.graph.output[0].type.tensor_type.ClearField("shape")
    cases = [{"x": draw(n, 3), "trips": np.array(trips)} for n, trips in ((1, 1), (2, 3))]
    check(made, tmp_path, *cases, dims=["n=1..4"])


def test_sequences_that_do_more_than_grow_are_refused(tmp_path: Path) -> None:
    body = LOOP.format(count="", trips="trips").replace(
        "b = SequenceInsert (a, row)", "c = SequenceInsert (a, row)  b = SequenceInsert (c, row)"
    )
    made = parsed(net(body, "float[n, 3] x, int64 trips"))
    with pytest.raises(UnsupportedModel, match="only while the model runs"):
        packaged(opened(made, tmp_path, dims=["n=1..4"]), tmp_path)


@pytest.mark.parametrize("is_equal", [True, False])
def test_sequences_from_branches(is_equal: bool, tmp_path: Path) -> None:
    other = "w, x" if is_equal else "w"
    made = parsed(
        net(
            f"""s = If (flag) <
                   then_branch = yes () => (seq(float[k, 3]) a) {{ a = SequenceConstruct (x, w) }},
                   else_branch = no () => (seq(float[k, 3]) b) {{
                       b = SequenceConstruct ({other})
                   }}>
                y = ConcatFromSequence <axis = 1> (s)""",
            "float[n, 3] x, float[n, 3] w, bool flag",
        )
    )
    made.graph.output[0].type.tensor_type.ClearField("shape")
    if is_equal:
        cases = [{**PAIR, "flag": np.array(flag)} for flag in (True, False)]
        check(made, tmp_path, *cases, dims=["n=1..4"])
        return
    with pytest.raises(UnsupportedModel, match=r"gives sequence\(tensor, tensor\), the other"):
        packaged(opened(made, tmp_path, dims=["n=1..4"]), tmp_path)


def test_positions_out_of_range_are_refused(tmp_path: Path) -> None:
    body = """s = SequenceConstruct (x, w)
              place = Constant <value = int64 {2}> ()
              y = SequenceAt (s, place)"""
    with pytest.raises(UnsupportedModel, match="position 2 in a sequence of 2"):
        packaged(opened(parsed(net(body)), tmp_path, dims=["n=1..4"]), tmp_path)
