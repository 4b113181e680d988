"""Which uses of memory race, by brute force: every pair, every byte, every path.

Written from the same description of Metal 4 as the tool, and without its code: an explicit graph
with an edge for each two things that a barrier orders, and a search through it for each pair.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from tests.frame.sketches import Encoder, Order, Sketch, Use


class Node(NamedTuple):
    """What one stage of a step does, in a frame."""

    frame: int
    encoder: int
    step: int
    stage: str


class Point(NamedTuple):
    """Its start or its end."""

    node: Node
    is_end: bool


Edges = dict[Point, list[tuple[Point, int | None]]]
"""Where one gets from a point, and the visibility on the way: None changes nothing."""


Pair = tuple[int, int, int]
"""Two items by number, and the frames between them."""


def races(sketch: Sketch, mended: dict[Pair, int] | None = None) -> set[Pair]:
    """Pairs that conflict and are unordered, if some were put in order with some visibility."""
    edges = graph(sketch)
    last = sketch.in_flight - 1
    for (first_number, second_number, ago), level in (mended or {}).items():
        for frame in range(ago, sketch.in_flight):
            start = nodes(sketch, frame - ago)[first_number]
            edges[Point(start, True)].append(
                (Point(nodes(sketch, frame)[second_number], False), level)
            )
    everything = [node for frame in range(last + 1) for node in nodes(sketch, frame)]
    numbers = {node[1:]: number for number, node in enumerate(nodes(sketch, 0))}
    found = set()
    for first in everything:
        states: dict[Point, set[tuple[bool, bool, bool]]] | None = None
        for second in nodes(sketch, last):
            if first >= second and not is_before(first, second):
                continue
            needs = conflict(sketch, first, second)
            if not needs:
                continue
            states = states or search(edges, Point(first, True))
            arrived = states.get(Point(second, False), set())
            if not all(any(satisfies(need, state) for state in arrived) for need in needs):
                pair = (numbers[first[1:]], numbers[second[1:]], last - first.frame)
                found.add(pair)
    return found


def nodes(sketch: Sketch, frame: int) -> list[Node]:
    """The nodes of a frame, in order."""
    return [
        Node(frame, number, step, stage)
        for number, encoder in enumerate(sketch.encoders)
        for step, work in enumerate(encoder.steps)
        for stage in work.stages
    ]


def is_before(first: Node, second: Node) -> bool:
    """Whether one is listed before the other; of a step, in order of its stages."""
    stages = ("vertex", "fragment", "blit", "dispatch", "machine_learning", "cpu")
    return (*first[:3], stages.index(first.stage)) < (*second[:3], stages.index(second.stage))


def conflict(sketch: Sketch, first: Node, second: Node) -> set[str]:
    """What the second one needs of the first, from all bytes that both touch."""
    if first == second or not is_before(first, second):
        return set()
    needs: set[str] = set()
    together = first[:2] == second[:2]
    for a in touched(sketch, first):
        for b in touched(sketch, second):
            if a[:2] != b[:2] or a[4] <= b[3] or b[4] <= a[3]:
                continue
            if together and a[5] in "al" and b[5] in "al":
                continue
            aliased = a[2] != b[2]
            reads, writes = b[5] in "rl", b[5] in "wal"
            if a[5] in "wal" and aliased:
                needs |= {"alias"} if writes else set()
            elif a[5] in "wal" and reads:
                common = set(range(max(a[3], b[3]), min(a[4], b[4])))
                seen = common - replaced_bytes(sketch, first, second, b)
                needs.add("visible" if seen else "flushed")
            elif a[5] in "wal" and writes:
                needs.add("flushed")
            if a[5] in "rl" and writes:
                needs.add("done")
    return needs


def replaced_bytes(sketch: Sketch, first: Node, second: Node, read: Bytes) -> set[int]:
    """The bytes of a read that are written, as the same content, between two nodes."""
    return {
        number
        for frame in range(first.frame, second.frame + 1)
        for node in nodes(sketch, frame)
        if is_before(first, node) and is_before(node, second)
        for found in touched(sketch, node)
        if found[5] in "wal" and found[:3] == read[:3]
        for number in range(found[3], found[4])
    }


Bytes = tuple[str, int, str, int, int, str]
"""Allocation, copy, root, begin, end, mode."""


def touched(sketch: Sketch, node: Node) -> list[Bytes]:
    """The bytes that a node touches."""
    encoder = sketch.encoders[node.encoder]
    work = encoder.steps[node.step]
    found = [bytes_of(sketch, use, node.frame) for use in work.uses if use.stage == node.stage]
    if encoder.kind == "machine_learning":
        heap = work.heap or f"own of {encoder.name} {node.step}"
        found.append((f"values {heap}", 0, heap, 0, 1, "w"))
    return found


def bytes_of(sketch: Sketch, use: Use, frame: int) -> Bytes:
    """The bytes of a use, in the copy of its frame."""
    place = sketch.places[use.resource]
    copy = (frame - use.ago) % place.copies
    return (place.allocation, copy, place.root, place.begin, place.end, use.mode)


def satisfies(need: str, state: tuple[bool, bool, bool]) -> bool:
    """Whether a path that has this state gives what is needed."""
    flushed, visible, alias = state
    return {"done": True, "flushed": flushed, "visible": visible, "alias": alias}[need]


def search(edges: Edges, start: Point) -> dict[Point, set[tuple[bool, bool, bool]]]:
    """All points that come after one, with the states of the paths: flushed, visible, alias."""
    found: dict[Point, set[tuple[bool, bool, bool]]] = defaultdict(set)
    todo = [(start, (False, True, False))]
    while todo:
        point, state = todo.pop()
        if state in found[point]:
            continue
        found[point].add(state)
        flushed, visible, alias = state
        for target, level in edges.get(point, []):
            if level is None:
                todo.append((target, state))
            else:
                todo.append(
                    (target, (flushed or level > 0, visible and level > 0, alias or level > 1))
                )
    return found


def graph(sketch: Sketch) -> Edges:
    """All edges between points of the frames that may run at once."""
    edges: Edges = defaultdict(list)
    everything = [node for frame in range(sketch.in_flight) for node in nodes(sketch, frame)]
    for node in everything:
        edges[Point(node, False)].append((Point(node, True), None))
        if node.stage == "vertex":
            fragment = node._replace(stage="fragment")
            edges[Point(node, False)].append((Point(fragment, False), None))
            edges[Point(node, True)].append((Point(fragment, True), None))
    for a in everything:
        for b in everything:
            for order in sketch.orders:
                if orders(sketch, order, a, b):
                    level = order.level if order.form not in ("fence", "event") else 2
                    edges[Point(a, True)].append((Point(b, False), level))
            if through_cpu(sketch, a, b):
                edges[Point(a, True)].append((Point(b, False), 2))
            if a.stage == b.stage == "cpu" and a < b:
                edges[Point(a, True)].append((Point(b, False), 2))
    return edges


def orders(sketch: Sketch, order: Order, a: Node, b: Node) -> bool:
    """Whether a barrier, fence or event, in any of the frames, puts one node before another."""
    first, second = sketch.encoders[a.encoder], sketch.encoders[b.encoder]
    if "cpu" in (a.stage, b.stage):
        return False
    if order.form == "event":
        return any(
            first.queue == named(sketch, order.first).queue
            and second.queue == named(sketch, order.second).queue
            and a[:2] <= (frame - order.ago, sketch.position(order.first))
            and b[:2] >= (frame, sketch.position(order.second))
            for frame in range(order.ago, sketch.in_flight)
        )
    if first.queue != second.queue or a.stage not in order.after or b.stage not in order.before:
        return False
    if order.form == "fence":
        same = (first.name, second.name) == (order.first, order.second)
        return same and a[:2] < b[:2]
    own = sketch.position(order.second)
    if second.queue != sketch.encoders[own].queue:
        return False
    if order.form == "encoder":
        able = a.stage != "fragment"  # no barrier within a pass waits for fragments
        return able and a[:2] == b[:2] and a.encoder == own and a.step < order.step <= b.step
    for frame in range(sketch.in_flight):
        here = (frame, own)
        if (
            order.form == "consumer"
            and a[:2] < here
            and (b[:2] > here or (b[:2] == here and b.step >= order.step))
        ):
            return True
        if (
            order.form == "producer"
            and b[:2] > here
            and (a[:2] < here or (a[:2] == here and a.step <= order.step))
        ):
            return True
    return False


def named(sketch: Sketch, name: str) -> Encoder:
    """A pass by its name."""
    return sketch.encoders[sketch.position(name)]


def through_cpu(sketch: Sketch, a: Node, b: Node) -> bool:
    """Whether the CPU puts one node before another: by a commit, or by waiting."""
    if a.stage == "cpu":
        return b.stage != "cpu" and a[:2] < b[:2]
    if b.stage != "cpu":
        return False
    queue = sketch.encoders[a.encoder].queue
    return any(
        named(sketch, name).queue == queue
        and a[:2] <= (b.frame - ago, sketch.position(name))
        and b.frame >= ago
        for name, ago in sketch.encoders[b.encoder].waits
    )
