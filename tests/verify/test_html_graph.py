"""The graph of a function, and where its operations stand."""

from __future__ import annotations

import itertools
import random
import time
from collections import defaultdict

import numpy as np
import pytest

from metal4conv.mil.program import (
    Block,
    Constant,
    Function,
    ListType,
    Operation,
    StateType,
    TensorType,
    Value,
)
from metal4conv.verify.html.chart import error_chart
from metal4conv.verify.html.graph import graph_json, graph_of
from metal4conv.verify.html.placement import LONGEST_ROUTE, place, ranks

HALF = TensorType("float16", (4,))


def value(name: str) -> Value:
    return Value(name, HALF)


def operation(
    type: str, output: str, blocks: tuple[Block, ...] = (), **inputs: object
) -> Operation:
    """An operation with one output."""
    bound = {key: item if isinstance(item, tuple) else (item,) for key, item in inputs.items()}
    return Operation(type, f"{output}_op", bound, (value(output),), blocks)  # type: ignore[arg-type]


def constant(name: str, array: np.ndarray, file: str | None = None) -> Operation:
    """A constant with a name."""
    literal = Constant(TensorType(array.dtype.name, array.shape), lambda: array, file)
    return Operation("const", name, {}, (Value(name, literal.type),), attributes={"val": literal})


def function(*operations: Operation, outputs: tuple[str, ...] = ("y",)) -> Function:
    return Function("main", "CoreML8", (value("x"),), Block((), operations, outputs))


def links(found: Function) -> set[tuple[str, str]]:
    """The edges of a function's graph, by name; inputs and outputs of it with their kind."""
    graph = graph_of(found)
    names = [
        node.name if node.kind == "operation" else f"{node.kind} {node.name}"
        for node in graph.nodes
    ]
    assert all(start < end for start, end in graph.edges)
    return {(names[start], names[end]) for start, end in graph.edges}


def test_constants_are_no_nodes_and_small_ones_are_written_out() -> None:
    weight = np.zeros((64, 64), np.float16)
    main = function(
        constant("two", np.float32(2).reshape(())),
        constant("weight", weight, "weights.bin"),
        constant("mode", np.array("same", object)),
        operation("mul", "a", x="x", y="two"),
        operation("linear", "y", x="a", weight="weight", pad_type="mode"),
    )
    graph = graph_of(main)
    assert [node.name for node in graph.nodes] == ["x", "a", "y", "y"]
    assert links(main) == {("input x", "a"), ("a", "y"), ("y", "output y")}
    assert graph.nodes[1].inputs == [("x", [("x", 0)]), ("y", [("2.0", None)])]
    parameters = dict(graph.nodes[2].inputs)
    assert parameters["weight"] == [("weight: float16[64, 64]", None)]
    assert graph.nodes[2].inputs[0][0] == "x", "what is computed comes first"


def test_strings_lists_and_states() -> None:
    text = Constant(TensorType("string", ()), lambda: np.array("same", object))
    lists = Operation("make_list", "l", {}, (Value("l", ListType(HALF)),))
    state = Operation("read", "s", {"mode": (text,)}, (Value("s", StateType(HALF)),))
    graph = graph_of(function(lists, state, outputs=()))
    assert graph.nodes[1].outputs == [("l", "list of float16[4]")]
    assert graph.nodes[2].outputs == [("s", "state of float16[4]")]
    assert graph.nodes[2].inputs == [("mode", [('"same"', None)])]


def test_a_loop_gives_what_its_blocks_give() -> None:
    """What reads a loop's variable inside reads what the loop starts with, from outside."""
    body = Block((value("i"),), (operation("relu", "r", x="i"),), ("r",))
    condition = Block((value("j"),), (operation("greater", "c", x="j"),), ("c",))
    main = function(
        operation("tanh", "a", x="x"),
        operation("while_loop", "y", (condition, body), loop_vars=("a",)),
    )
    assert links(main) == {
        *{("input x", "a"), ("a", "c"), ("a", "r"), ("a", "y"), ("c", "y"), ("r", "y")},
        ("y", "output y"),
    }
    inner = next(node for node in graph_of(main).nodes if node.name == "r")
    assert inner.block == "while_loop y, block 2"


def test_branches_read_from_outside() -> None:
    yes = Block((), (operation("relu", "p", x="a"),), ("p",))
    no = Block((), (), ("a",))
    main = function(operation("tanh", "a", x="x"), operation("cond", "y", (yes, no), pred="x"))
    assert links(main) >= {("a", "p"), ("p", "y"), ("a", "y"), ("input x", "y")}


def test_what_leads_only_to_outputs_that_differ() -> None:
    main = function(
        operation("tanh", "stem", x="x"),
        operation("relu", "left", x="stem"),
        operation("abs", "right", x="stem"),
        outputs=("left", "right"),
    )

    def suspects(**passed: bool) -> list[str]:
        judged = {name: {"passed": item} for name, item in passed.items()}
        nodes = graph_json(graph_of(main), {}, {}, judged)["nodes"]
        return [node["name"] for node in nodes if node.get("suspect")]

    assert suspects(left=False, right=True) == ["left"]
    assert suspects(left=False, right=False) == [], "all differ, which says nothing of where"
    assert suspects(left=True, right=True) == []


def random_edges(count: int, seed: int) -> list[tuple[int, int]]:
    """A chain with branches, joints, and values that are read far below."""
    draw = random.Random(seed)
    edges = {(max(0, number - draw.choice((1, 1, 1, 2, 5))), number) for number in range(1, count)}
    for number in range(12, count):
        if draw.random() < 0.3:
            edges.add((number - draw.randint(2, 12), number))
        if draw.random() < 0.02:
            edges.add((draw.randint(0, number - 1), number))
    return sorted(edges)


@pytest.mark.parametrize("seed", range(6))
def test_nodes_stand_below_what_they_read_and_apart(seed: int) -> None:
    count = 40 + 60 * seed
    edges = random_edges(count, seed)
    widths = [random.Random(seed + number).randint(60, 200) for number in range(count)]
    found = place(widths, edges)
    assert all(found.rank[start] < found.rank[end] for start, end in edges)
    rows: dict[int, list[int]] = defaultdict(list)
    for node, rank in enumerate(found.rank):
        rows[rank].append(node)
    assert sorted(rows) == list(range(len(rows)))
    for row in rows.values():
        row.sort(key=lambda node: found.x[node])
        for left, right in itertools.pairwise(row):
            assert found.x[right] - found.x[left] > (widths[left] + widths[right]) / 2
    for (start, end), route in zip(edges, found.routes, strict=True):
        length = found.rank[end] - found.rank[start]
        assert len(route) == (length - 1 if length <= LONGEST_ROUTE else 0)


def test_bends_keep_clear_of_nodes() -> None:
    edges = [*((number, number + 1) for number in range(20)), (0, 20)]
    found = place([150] * 21, edges)
    route = found.routes[edges.index((0, 20))]
    assert len(route) == 19
    beside = [abs(x - found.x[node]) for node, x in enumerate(route, 1)]
    assert min(beside) > 75
    assert len({found.x[node] for node in range(1, 20)}) == 1, "the chain is straight"


def test_what_reads_nothing_stands_above_its_reader() -> None:
    chain = [(number, number + 1) for number in range(1, 9)]
    assert ranks(10, sorted([*chain, (0, 9)])) == [7, 0, 1, 2, 3, 4, 5, 6, 7, 8]


def test_two_thousand_operations_are_placed_quickly_and_twenty_thousand_at_all() -> None:
    seconds = {}
    for count in (2_000, 20_000):
        edges = random_edges(count, 0)
        start = time.process_time()
        place([150] * count, edges)
        seconds[count] = time.process_time() - start
    assert seconds[2_000] < 2
    assert seconds[20_000] < 30


def test_a_value_that_all_read() -> None:
    count = 3000
    edges = [(0, number) for number in range(1, count)]
    edges += [(number, number + 1) for number in range(1, count - 1)]
    start = time.process_time()
    found = place([150] * count, sorted(edges))
    assert time.process_time() - start < 10
    assert sum(len(route) > 0 for route in found.routes) == LONGEST_ROUTE - 1


@pytest.mark.parametrize("edges", [[], [(0, 1)]])
def test_small_graphs(edges: list[tuple[int, int]]) -> None:
    assert len(place([100] * 2, edges).x) == 2
    assert place([], []).x == ()


def row(name: str, error: float | None, **more: object) -> dict[str, object]:
    empty = {"local_error": None, "local_error_declared": None, "nan": 0, "inf": 0, "jump": False}
    return {"name": name, "error": error, **empty, **more}


def test_chart() -> None:
    rows = [row("a", 1e-3), row("b", None), row("c", 0.0), row("d", 1e-1, jump=True, nan=3)]
    chart = error_chart(rows, "d")
    assert chart is not None
    assert chart.rows == (0, 2, 3), "what was not compared is left out"
    assert [name for name, _ in chart.series] == ["running"]
    assert chart.svg.count('class="first"') == 2
    assert 'class="dots broken"' in chart.svg
    heights = [
        float(y)
        for y in chart.svg.split('class="line" d="M')[1]
        .split('"')[0]
        .replace("L", " ")
        .split()[1::2]
    ]
    assert heights[1] > heights[0] > heights[2], "no error is at the bottom"


def test_nothing_to_chart() -> None:
    assert error_chart([], None) is None
    assert error_chart([row("a", None)], None) is None
