"""The graph of a function as nodes and edges, placed, for the page's script to draw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from metal4conv.layout.memory import is_constant
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.program import (
    Argument,
    Block,
    Constant,
    ConstantDictionary,
    ConstantList,
    DictionaryType,
    Function,
    ListType,
    Operation,
    StateType,
    TensorType,
    Value,
    ValueType,
)
from metal4conv.report import drop_none
from metal4conv.verify.html.placement import place

Json = dict[str, Any]  # Any: a JSON object

MOST_SHOWN = 8
"""Elements of a literal that are written out."""

LONGEST_LITERAL = 60
MOST_ARGUMENTS = 64
"""Of one parameter; the rest is counted."""

NARROWEST, WIDEST = 84, 216
LETTER = 6.8
"""Pixels of a letter in a node; the script cuts names that turn out wider."""

WRITTEN = frozenset(("bool", "float16", "float32", "float64", "string"))
"""Literals that are written out, beside integers; others are bit patterns."""


@dataclass
class Node:
    """An operation, or an input or output of the function."""

    name: str
    type: str
    kind: str
    inputs: list[tuple[str, list[tuple[str, int | None]]]] = field(default_factory=list)
    """By parameter what it is bound to: a text, and the node that computes it."""
    outputs: list[tuple[str, str]] = field(default_factory=list)
    """Names and types."""
    block: str | None = None
    """The loop or branch that it stands in."""

    @property
    def width(self) -> float:
        """Enough for its type, and for its name where that is short."""
        letters = max(len(self.type) * 1.18, min(len(self.name), 28))
        return min(max(letters * LETTER + 22, NARROWEST), WIDEST)


@dataclass
class Graph:
    """Nodes in an order in which they can run, and edges between their numbers."""

    nodes: list[Node] = field(default_factory=list)
    edges: dict[tuple[int, int], None] = field(default_factory=dict)
    maker: dict[str, int] = field(default_factory=dict)
    """The number of the node that computes a value."""
    constants: dict[str, str] = field(default_factory=dict)
    """What stands for the constants that have names."""

    def add(self, node: Node) -> int:
        """The number of a new node, which computes its outputs, and its edges."""
        number = len(self.nodes)
        self.nodes.append(node)
        for _, arguments in node.inputs:
            for _, source in arguments:
                if source is not None:
                    self.edges[source, number] = None
        self.maker.update({name: number for name, _ in node.outputs})
        return number


def graph_of(function: Function) -> Graph:
    """The operations of a function but for constants, with its inputs and outputs."""
    graph = Graph()
    for value in function.inputs:
        graph.add(Node(value.name, "input", "input", outputs=[value_row(value)]))
    add_block(graph, function.block, None)
    for name in function.block.outputs:
        source = graph.maker.get(name)
        graph.add(Node(name, "output", "output", [("value", [(name, source)])]))
    return graph


def add_block(graph: Graph, block: Block, within: str | None) -> None:
    """Adds operations; those in an operation's blocks come first, since it gives their results."""
    for operation in block.operations:
        if is_constant(operation):
            graph.constants.update(constant_texts(operation))
            continue
        rows = [
            (parameter, argument_rows(graph, arguments))
            for parameter, arguments in operation.inputs.items()
        ]
        # what is computed first, as in the model's code
        rows.sort(key=lambda row: (row[1] and row[1][0][1] is None, row[0]))
        for number, inner in enumerate(operation.blocks):
            bind_block(graph, operation, inner)
            place = f"{operation.type} {operation.outputs[0].name if operation.outputs else ''}"
            add_block(graph, inner, f"{place}, block {number + 1}")
            results = [(name, graph.maker.get(name)) for name in inner.outputs]
            rows.append((f"results of block {number + 1}", results))
        outputs = [value_row(value) for value in operation.outputs]
        name = outputs[0][0] if outputs else operation.name
        graph.add(Node(name, operation.type, "operation", rows, outputs, within))


def bind_block(graph: Graph, operation: Operation, block: Block) -> None:
    """Lets the inputs of a loop's blocks stand for what the loop starts with."""
    starts = operation.inputs.get("loop_vars", ())
    for value, start in zip(block.inputs, starts, strict=False):
        if isinstance(start, str) and start in graph.maker:
            graph.maker[value.name] = graph.maker[start]


def constant_texts(operation: Operation) -> dict[str, str]:
    """By name what a constant is: a small one written out, the name and type of a large one."""
    literal = operation.attributes.get("val")
    if operation.type == "const" and literal is not None and is_small(literal):
        return {value.name: literal_text(literal) for value in operation.outputs}
    return {value.name: f"{value.name}: {type_text(value.type)}" for value in operation.outputs}


def argument_rows(graph: Graph, arguments: tuple[Argument, ...]) -> list[tuple[str, int | None]]:
    """What a parameter is bound to, as text, with the node that computes it."""
    return [argument_row(graph, argument) for argument in arguments]


def argument_row(graph: Graph, argument: Argument) -> tuple[str, int | None]:
    """One argument: a value's name, or what a constant is."""
    if not isinstance(argument, str):
        return literal_text(argument), None
    return graph.constants.get(argument, argument), graph.maker.get(argument)


def is_small(literal: Constant) -> bool:
    """Whether a literal can be written out: few elements, and no bit patterns."""
    is_known = literal.type.dtype in WRITTEN or "int" in literal.type.dtype
    return literal.file is None and literal.element_count <= MOST_SHOWN and is_known


def literal_text(literal: Constant | ConstantList | ConstantDictionary) -> str:
    """A small literal written out, the type of a large one."""
    if isinstance(literal, ConstantList):
        return f"{len(literal.items)} constants"
    if isinstance(literal, ConstantDictionary):
        return f"dictionary of {len(literal.keys)} constants"
    if not is_small(literal):
        return str(literal.type)
    value = literal.value.tolist()
    text = f'"{value}"' if literal.type.dtype == "string" else str(value)
    return text if len(text) <= LONGEST_LITERAL else f"{text[:LONGEST_LITERAL]}…"


def value_row(value: Value) -> tuple[str, str]:
    """A value's name and type."""
    return value.name, type_text(value.type)


def type_text(type: ValueType) -> str:
    """A type in words.

    >>> type_text(StateType(TensorType("float16", (1, "h"))))
    'state of float16[1, h]'
    """
    match type:
        case TensorType():
            return str(type)
        case StateType():
            return f"state of {type.tensor}"
        case ListType():
            return f"list of {type.element}"
        case DictionaryType():
            return f"dictionary of {type.value} by {type.key}"
    return ", ".join(type_text(member) for member in type.members)


def graph_json(
    graph: Graph,
    places: Mapping[str, Json],
    measured: Mapping[str, Json],
    judged: Mapping[str, Json],
) -> Json:
    """The graph for the script; what a node does not have is left out.

    `places` are the source's values by the names of the package's, `measured` what a report says
    about operations by name, `judged` what it says about outputs.
    """
    failing = {name for name, row in judged.items() if not row["passed"]}
    suspects = leading_only_to(graph, failing)
    edges = list(graph.edges)
    # of one width, so that what stands in a row of rows stands in columns
    widest = max((node.width for node in graph.nodes), default=0)
    placed = place([widest] * len(graph.nodes), edges)
    nodes = [
        drop_none(
            {
                "name": node.name,
                "type": node.type,
                "kind": None if node.kind == "operation" else node.kind,
                "inputs": list(input_rows(node)) or None,
                "outputs": [list(row) for row in node.outputs] or None,
                "block": node.block,
                "x": placed.x[number],
                "rank": placed.rank[number],
                "width": round(node.width),
                "place": places.get(node.name),
                "measured": measured.get(node.name) if node.kind == "operation" else None,
                "judged": judged.get(node.name) if node.kind == "output" else None,
                "failing": (node.kind == "output" and node.name in failing) or None,
                "suspect": number in suspects or None,
            }
        )
        for number, node in enumerate(graph.nodes)
    ]
    routes = [[*edge, *route] for edge, route in zip(edges, placed.routes, strict=True)]
    return {"nodes": nodes, "edges": routes}


def leading_only_to(graph: Graph, failing: set[str]) -> set[int]:
    """Operations that lead to outputs that differ, and to no other; none where all differ."""
    before: dict[int, list[int]] = {}
    for start, end in graph.edges:
        before.setdefault(end, []).append(start)
    ends = {number: node for number, node in enumerate(graph.nodes) if node.kind == "output"}
    wrong = {number for number, node in ends.items() if node.name in failing}
    if len(wrong) == len(ends):
        return set()
    right = ancestors(before, set(ends) - wrong)
    found = ancestors(before, wrong) - right
    return {number for number in found if graph.nodes[number].kind == "operation"}


def ancestors(before: Mapping[int, list[int]], ends: set[int]) -> set[int]:
    """All nodes from which an edge leads, over others, to one of these."""
    found: set[int] = set()
    waiting = list(ends)
    while waiting:
        for number in before.get(waiting.pop(), ()):
            if number not in found:
                found.add(number)
                waiting.append(number)
    return found


def input_rows(node: Node) -> Iterator[list[Any]]:  # Any: JSON
    """The parameters of a node; of very many arguments the first."""
    for parameter, arguments in node.inputs:
        shown = [[text, -1 if source is None else source] for text, source in arguments]
        more = len(shown) - MOST_ARGUMENTS
        yield [parameter, [*shown[:MOST_ARGUMENTS], *([[f"and {more} more", -1]] * (more > 0))]]


def place_json(value: SourceValue) -> Json:
    """A source value in the words of a report of `debug`."""
    return {
        "name": value.name,
        "operator": value.operator,
        "module": value.module,
        "line": value.line,
        "code": value.code,
    }
