"""Where the operations of a graph stand on a page: a layered drawing, from top to bottom.

Every operation stands one rank below the lowest of those that it reads. What an edge passes on its
way over several ranks is a bend, which takes a place among the operations, so that edges go between
them and not across. The order within a rank comes from the neighbours' mean positions
(barycentres), and so do the coordinates, kept apart by isotonic regression. All of it is linear in
operations and bends, but for sorting.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

LONGEST_ROUTE = 48
"""Ranks that an edge is routed over; a longer one is only told at its ends."""

BENDS_EACH = 8
"""Bends in the whole drawing, for each operation; a limit for graphs in which all is connected."""

GAP = 26.0
BEND_WIDTH = 6.0
STRAIGHT = 4.0
"""How much more the straightness of a bend counts than that of an operation."""

ALMOST = 12.0
"""Pixels by which an edge may lean without being seen to, and is made straight."""

SWEEPS = 8
"""Down and up in turn; after so many the order hardly changes."""

LARGE = 20_000
"""Operations and bends in a graph that gets half of the sweeps."""


@dataclass(frozen=True)
class Placement:
    """The middle of each node and its rank; `routes` are the bends of each edge, rank by rank.

    An edge over several ranks without bends is too long to be drawn whole.
    """

    x: tuple[int, ...]
    rank: tuple[int, ...]
    routes: tuple[tuple[int, ...], ...]


@dataclass
class Drawing:
    """Items (nodes, then bends) in their rows, with their neighbours one row up and down."""

    width: list[float]
    row: list[int]
    up: list[list[int]]
    down: list[list[int]]
    nodes: int
    rows: list[list[int]] = field(default_factory=list)
    x: list[float] = field(default_factory=list)

    def add_bend(self, row: int, above: int) -> int:
        """A new bend below an item."""
        self.width.append(BEND_WIDTH)
        self.row.append(row)
        self.up.append([above])
        self.down.append([])
        bend = len(self.row) - 1
        self.down[above].append(bend)
        return bend


def place(widths: Sequence[float], edges: Sequence[tuple[int, int]]) -> Placement:
    """Places nodes of these widths; every edge goes from a node to one with a higher number.

    >>> place([90, 90, 90], [(0, 1), (1, 2), (0, 2)]).rank
    (0, 1, 2)
    """
    rank = ranks(len(widths), edges)
    drawing, bends = drawing_of(widths, edges, rank)
    drawing.rows = [[] for _ in range(max(rank, default=-1) + 1)]
    for item, number in enumerate(drawing.row):
        drawing.rows[number].append(item)
    sweeps = SWEEPS if len(drawing.row) <= LARGE else SWEEPS // 2
    order_rows(drawing, sweeps)
    set_coordinates(drawing, sweeps)
    for row in drawing.rows:
        straighten(drawing, row)
    left = min((x - w / 2 for x, w in zip(drawing.x, drawing.width, strict=True)), default=0.0)
    x = [round(value - left) for value in drawing.x]
    routes = tuple(tuple(x[bend] for bend in route) for route in bends)
    return Placement(tuple(x[: len(widths)]), tuple(rank), routes)


def ranks(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    """The longest way to each node; one that reads nothing stands right above its first reader."""
    rank = [0] * count
    has_input = [False] * count
    for start, end in sorted(edges, key=lambda edge: edge[1]):
        rank[end] = max(rank[end], rank[start] + 1)
        has_input[end] = True
    nearest: dict[int, int] = {}
    for start, end in edges:
        if not has_input[start]:
            nearest[start] = min(nearest.get(start, rank[end]), rank[end])
    for node, reader in nearest.items():
        rank[node] = reader - 1
    return rank


def drawing_of(
    widths: Sequence[float], edges: Sequence[tuple[int, int]], rank: Sequence[int]
) -> tuple[Drawing, list[list[int]]]:
    """Nodes and bends, and the bends of each edge; edges from one node share theirs."""
    count = len(widths)
    drawing = Drawing(
        [float(width) for width in widths],
        list(rank),
        [[] for _ in range(count)],
        [[] for _ in range(count)],
        count,
    )
    chains: dict[int, list[int]] = {}
    routes: list[list[int]] = []
    for start, end in edges:
        length = rank[end] - rank[start]
        has_room = len(drawing.row) - count + length < BENDS_EACH * count + 1000
        if length > 1 and (length > LONGEST_ROUTE or not has_room):
            routes.append([])
            continue
        chain = chains.setdefault(start, [])
        while len(chain) < length - 1:
            chain.append(
                drawing.add_bend(rank[start] + len(chain) + 1, chain[-1] if chain else start)
            )
        route = chain[: length - 1]
        above = route[-1] if route else start
        drawing.down[above].append(end)
        drawing.up[end].append(above)
        routes.append(route)
    return drawing, routes


def order_rows(drawing: Drawing, sweeps: int) -> None:
    """Sorts each row by the mean position of the neighbours above, then below, in turn."""
    position = [0.0] * len(drawing.row)
    for row in drawing.rows:
        number_row(row, position)
    for sweep in range(sweeps):
        downwards = sweep % 2 == 0
        near = drawing.up if downwards else drawing.down
        for row in drawing.rows if downwards else reversed(drawing.rows):
            key = {
                item: sum(position[other] for other in near[item]) / len(near[item])
                if near[item]
                else position[item]
                for item in row
            }
            row.sort(key=key.__getitem__)
            number_row(row, position)


def number_row(row: Sequence[int], position: list[float]) -> None:
    """Positions within a row, from 0 to 1, so that rows of different lengths compare."""
    for place, item in enumerate(row):
        position[item] = (place + 0.5) / len(row)


def set_coordinates(drawing: Drawing, sweeps: int) -> None:
    """Moves the items of each row below, then above, their neighbours, in turn."""
    drawing.x = [0.0] * len(drawing.row)
    for row in drawing.rows:
        total = sum(drawing.width[item] + GAP for item in row)
        at = -total / 2
        for item in row:
            drawing.x[item] = at + (drawing.width[item] + GAP) / 2
            at += drawing.width[item] + GAP
    for sweep in range(sweeps + 1):
        downwards = sweep % 2 == 0  # also in the last one: chains hang straight below their start
        near = drawing.up if downwards else drawing.down
        for row in drawing.rows if downwards else reversed(drawing.rows):
            settle(drawing, row, near)


def settle(drawing: Drawing, row: Sequence[int], near: Sequence[Sequence[int]]) -> None:
    """Places a row so that its items are close to their neighbours' means, and apart."""
    x, width, nodes = drawing.x, drawing.width, drawing.nodes
    wanted, weights, offsets = [], [], []
    offset = 0.0
    for index, item in enumerate(row):
        if index:
            offset += (width[row[index - 1]] + width[item]) / 2 + GAP
        total = weight = 0.0
        for other in near[item]:
            pull = STRAIGHT if item >= nodes or other >= nodes else 1.0
            total += pull * x[other]
            weight += pull
        wanted.append((total / weight if weight else x[item]) - offset)
        weights.append(weight or 0.1)
        offsets.append(offset)
    for item, value, offset in zip(row, nondecreasing(wanted, weights), offsets, strict=True):
        x[item] = value + offset


def straighten(drawing: Drawing, row: Sequence[int]) -> None:
    """Moves items that stand almost below a neighbour right below it, where there is room."""
    x, width = drawing.x, drawing.width
    for index, item in enumerate(row):
        shifts = [x[other] - x[item] for other in drawing.up[item]]
        shift = min(shifts, key=abs, default=0.0)
        beside = [row[other] for other in (index - 1, index + 1) if 0 <= other < len(row)]
        has_room = all(
            abs(x[item] + shift - x[other]) >= (width[item] + width[other]) / 2 + GAP / 2
            for other in beside
        )
        if abs(shift) <= ALMOST and has_room:
            x[item] += shift


def nondecreasing(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nondecreasing numbers that are closest to these, by weighted least squares.

    >>> nondecreasing([1.0, 4.0, 2.0, 5.0], [1.0, 1.0, 1.0, 1.0])
    [1.0, 3.0, 3.0, 5.0]
    """
    blocks: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (value, weight, 1)
        while blocks and blocks[-1][0] > block[0]:
            mean, heavy, count = blocks.pop()
            total = heavy + block[1]
            block = ((mean * heavy + block[0] * block[1]) / total, total, count + block[2])
        blocks.append(block)
    return [mean for mean, _, count in blocks for _ in range(count)]
