"""If, Loop and Scan: written out, or as MIL's cond and while_loop; sizes that a loop changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metal4conv import load
from metal4conv.errors import UnsupportedModel
from tests.frontends.helpers import packaged
from tests.frontends.onnx.models import check, draw, opened, operations, parsed

FLAG = {True: np.array(True), False: np.array(False)}


def test_if_runs_one_branch(tmp_path: Path) -> None:
    made = parsed(
        """net (bool flag, float[n, 3] x) => (float[n, 3] y) {
             two = Constant <value = float {2.0}> ()
             y = If (flag) <then_branch = yes () => (float[n, 3] a) { a = Mul (x, two) },
                            else_branch = no () => (float[n, 3] b) { b = Sub (x, two) }>
           }"""
    )
    cases = [{"flag": FLAG[yes], "x": draw(n, 3)} for yes in (True, False) for n in (1, 4)]
    package = check(made, tmp_path, *cases, dims=["n=1..8"])
    assert "cond" in operations(package)


def test_if_on_a_constant_has_only_that_branch(tmp_path: Path) -> None:
    made = parsed(
        """net (float[2, 3] x) => (float[2, 3] y) {
             sizes = Shape (x)
             rows = Constant <value = int64[2] {2, 3}> ()
             same = Equal (sizes, rows)
             whole = Cast <to = 6> (same)
             axes = Constant <value = int64[1] {0}> ()
             least = ReduceMin <keepdims = 0> (whole, axes)
             flag = Cast <to = 9> (least)
             y = If (flag) <then_branch = yes () => (float[2, 3] a) { a = Relu (x) },
                            else_branch = no () => (float[2, 3] b) { b = Abs (x) }>
           }"""
    )
    package = check(made, tmp_path, {"x": draw(2, 3)})
    assert "cond" not in operations(package)
    assert "relu" in operations(package)


def test_branches_of_different_sizes(tmp_path: Path) -> None:
    made = parsed(
        """net (bool flag, float[2, 3] x) => (float[m, 3] y, float[m, 3] z) {
             y = If (flag) <then_branch = yes () => (float[2, 3] a) { a = Identity (x) },
                            else_branch = no () => (float[4, 3] b) { b = Concat <axis = 0> (x, x) }>
             z = Relu (y)
           }"""
    )
    check(made, tmp_path, *({"flag": FLAG[yes], "x": draw(2, 3)} for yes in FLAG))


def test_branches_of_different_ranks_are_refused(tmp_path: Path) -> None:
    made = parsed(
        """net (bool flag, float[2, 3] x) => (float[...] y) {
             flat = Constant <value = int64[1] {6}> ()
             y = If (flag) <then_branch = yes () => (float[2, 3] a) { a = Identity (x) },
                            else_branch = no () => (float[6] b) { b = Reshape (x, flat) }>
           }""".replace("float[...]", "float")
    )
    made.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(UnsupportedModel, match="2 dimensions in one branch and 1 in the other"):
        packaged(opened(made, tmp_path), tmp_path)


LOOP = """net (int64 trips, float[2] x) => (float[2] y, float[k, 2] rows) {{
    yes = Constant <value = bool {{1}}> ()
    {trips}
    y, rows = Loop ({count}, {start}, x) <body = step (int64 i, bool before, float[2] a)
        => (bool after, float[2] b, float[2] row) {{
        number = Cast <to = 1> (i)
        b = Add (a, number)
        row = Identity (b)
        {after}
    }}>
}}"""
GOES_ON = "after = Identity (before)"


@pytest.mark.parametrize("trips", [1, 3, 16])
def test_short_loops_are_written_out(trips: int, tmp_path: Path) -> None:
    constant = f"count = Constant <value = int64 {{{trips}}}> ()"
    made = parsed(LOOP.format(trips=constant, count="count", start="yes", after=GOES_ON))
    package = check(made, tmp_path, {"trips": np.array(0), "x": draw(2)})
    assert "while_loop" not in operations(package)


def test_long_loops_are_loops(tmp_path: Path) -> None:
    constant = "count = Constant <value = int64 {40}> ()"
    made = parsed(LOOP.format(trips=constant, count="count", start="", after=GOES_ON))
    package = check(made, tmp_path, {"trips": np.array(0), "x": draw(2)})
    assert operations(package).count("while_loop") == 1


def test_trips_that_are_computed(tmp_path: Path) -> None:
    made = parsed(LOOP.format(trips="", count="trips", start="yes", after=GOES_ON))
    check(made, tmp_path, *({"trips": np.array(trips), "x": draw(2)} for trips in (0, 1, 5)))


@pytest.mark.parametrize("count", ["", "most", "few"])
def test_loops_that_end_on_a_condition(count: str, tmp_path: Path) -> None:
    constants = """most = Constant <value = int64 {9223372036854775807}> ()
                   few = Constant <value = int64 {2}> ()"""
    after = """end = Constant <value = float {12.0}> ()
               all = ReduceSum <keepdims = 0> (b)
               after = Less (all, end)"""
    made = parsed(LOOP.format(trips=constants, count=count, start="yes", after=after))
    cases = [{"trips": np.array(0), "x": np.full(2, start, np.float32)} for start in (0, 20)]
    check(made, tmp_path, *cases)


def test_conditions_that_are_known_only_later(tmp_path: Path) -> None:
    """The first iterations are numbers, so is their condition."""
    after = """three = Constant <value = int64 {3}> ()
               after = Less (i, three)"""
    constant = "count = Constant <value = int64 {9}> ()"
    made = parsed(LOOP.format(trips=constant, count="count", start="yes", after=after))
    package = check(made, tmp_path, {"trips": np.array(0), "x": draw(2)})
    assert "while_loop" not in operations(package)


def test_loops_that_never_start(tmp_path: Path) -> None:
    constant = "count = Constant <value = int64 {0}> ()"
    made = parsed(LOOP.format(trips=constant, count="count", start="", after=GOES_ON))
    package, _ = packaged(opened(made, tmp_path), tmp_path)
    found = load(package).predict({"trips": np.zeros(1, np.int32), "x": draw(2)})
    np.testing.assert_array_equal(found["y"], draw(2))
    assert found["rows"].shape == (0, 2)


def test_endless_loops_are_refused(tmp_path: Path) -> None:
    made = parsed(LOOP.format(trips="", count="", start="", after=GOES_ON))
    with pytest.raises(UnsupportedModel, match="never ends"):
        packaged(opened(made, tmp_path), tmp_path)


def test_a_loop_that_lets_a_value_grow(tmp_path: Path) -> None:
    made = parsed(
        """net (int64 trips, float[n, 2] x) => (float[m, 2] y) {
             yes = Constant <value = bool {1}> ()
             y = Loop (trips, yes, x) <body = step (int64 i, bool before, float[k, 2] a)
                 => (bool after, float[l, 2] b) {
                 b = Concat <axis = 0> (a, x)
                 after = Identity (before)
             }>
           }"""
    )
    cases = [{"trips": np.array(trips), "x": draw(n, 2)} for trips, n in ((0, 1), (1, 3), (4, 2))]
    check(made, tmp_path, *cases, dims=["n=1..8"])


def test_loops_within_loops_and_values_from_outside(tmp_path: Path) -> None:
    made = parsed(
        """net (int64 outer, int64 inner, float[n] x, float[n] w) => (float[n] y, float[p] sums) {
             yes = Constant <value = bool {1}> ()
             y, sums = Loop (outer, yes, x) <body = step (int64 i, bool before, float[n] a)
                 => (bool after, float[n] b, float total) {
                 b = Loop (inner, yes, a) <body = turn (int64 j, bool held, float[n] c)
                     => (bool holds, float[n] d) {
                     part = Mul (w, c)
                     d = Sub (x, part)
                     holds = Identity (held)
                 }>
                 total = ReduceSum <keepdims = 0> (b)
                 after = Identity (before)
             }>
           }"""
    )
    cases = [
        {"outer": np.array(outer), "inner": np.array(inner), "x": draw(n), "w": draw(n, seed=1)}
        for outer, inner, n in ((1, 1, 1), (3, 2, 4))
    ]
    check(made, tmp_path, *cases, dims=["n=1..8"])


def test_carried_flags_and_integers(tmp_path: Path) -> None:
    made = parsed(
        """net (int64 trips, bool[2] x) => (bool[2] y, int32 n, bool[k, 2] rows) {
             yes = Constant <value = bool {1}> ()
             zero = Constant <value = int32 {0}> ()
             one = Constant <value = int32 {1}> ()
             y, n, rows = Loop (trips, yes, x, zero)
                 <body = step (int64 i, bool before, bool[2] a, int32 m)
                 => (bool after, bool[2] b, int32 l, bool[2] row) {
                 b = Not (a)
                 l = Add (m, one)
                 row = Identity (a)
                 after = Identity (before)
             }>
           }"""
    )
    flags = np.array([True, False])
    check(made, tmp_path, *({"trips": np.array(trips), "x": flags} for trips in (1, 4)))


SCAN = """net (float[2] start, float{shape} x, float{shape} w) => (float[2] end, float[k, 2] y) {{
    end, y = Scan <num_scan_inputs = 2, {more} body = step (float[2] a, float[2] b, float[2] c)
        => (float[2] d, float[2] row) {{
        part = Mul (b, c)
        d = Add (a, part)
        row = Sub (d, b)
    }}> (start, x, w)
}}"""


def scanned(*shape: int) -> dict[str, np.ndarray]:
    return {"start": draw(2), "x": draw(*shape, seed=1), "w": draw(*shape, seed=2)}


@pytest.mark.parametrize("length", [1, 3, 20])
def test_scan(length: int, tmp_path: Path) -> None:
    made = parsed(SCAN.format(shape=f"[{length}, 2]", more=""))
    package = check(made, tmp_path, scanned(length, 2))
    assert ("while_loop" in operations(package)) == (length > 16)


def test_scan_over_a_dynamic_size(tmp_path: Path) -> None:
    made = parsed(SCAN.format(shape="[n, 2]", more=""))
    check(made, tmp_path, scanned(1, 2), scanned(7, 2), dims=["n=1..8"])


@pytest.mark.parametrize("length", [3, 20])
def test_scan_along_other_axes_and_backwards(length: int, tmp_path: Path) -> None:
    more = """scan_input_axes = [1, -1], scan_input_directions = [0, 1],
              scan_output_axes = [-1], scan_output_directions = [1],"""
    made = parsed(SCAN.format(shape=f"[2, {length}]", more=more))
    check(made, tmp_path, scanned(2, length))


BATCHES = """net (int64[b] lengths, float[b, 2] start, float[b, n, 2] x)
        => (float[b, 2] end, float[b, n, 2] y) {{
    end, y = Scan <num_scan_inputs = 1, directions = [{direction}],
        body = step (float[2] a, float[2] c) => (float[2] d, float[2] row) {{
        d = Add (a, c)
        row = Mul (d, c)
    }}> ({lengths}, start, x)
}}"""


@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("lengths", ["", "lengths"])
@pytest.mark.parametrize("dims", [["b=2", "n=3"], ["b=1..4", "n=1..8"]])
def test_scan_of_opset_8(direction: int, lengths: str, dims: list[str], tmp_path: Path) -> None:
    made = parsed(BATCHES.format(direction=direction, lengths=lengths), opset=8)
    package, _ = packaged(opened(made, tmp_path, dims=dims), tmp_path)
    start, x, given = draw(2, 2), draw(2, 3, 2), np.array([3, 2])
    found = load(package).predict({"lengths": given.astype(np.int32), "start": start, "x": x})
    for place, row in enumerate(x):
        own = row[: given[place]] if lengths else row
        own = own[::-1] if direction else own
        sums = start[place] + np.cumsum(own, 0)
        np.testing.assert_allclose(found["end"][place], sums[-1], rtol=1e-5)
        np.testing.assert_allclose(found["y"][place, : len(own)], sums * own, rtol=1e-5)
        assert not found["y"][place, len(own) :].any()
