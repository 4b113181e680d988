"""In which order operations are put into float32: the most error for the fewest operations."""

from __future__ import annotations

import heapq
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from metal4conv.precision.model import ErrorModel, Flow

NOTHING = 1e-3
"""Below this part of the allowed error, the order hardly matters any more."""

SHARES = (0.6, 0.95)
"""Of the error that a value's rounding makes: how much of it those must take who are kept."""

LONGEST = 40
"""Operations that one step keeps at most."""


@dataclass(frozen=True)
class Move:
    """Operations that are kept together, and the error that the estimate leaves after them."""

    nodes: frozenset[int]
    left: float
    flow: str | None = None
    """The value that need not be rounded then."""


def rank(model: ErrorModel, forced: Collection[int]) -> list[Move]:
    """The moves one after the other, until nothing is left in float16.

    A move keeps a value in float32 from where it is made to where it is taken: with one end alone
    in float32 it is rounded all the same.
    """
    kept = set(forced)
    left = model.error(kept)
    moves: list[Move] = []
    waiting = [
        entry for flow in model.flows.values() if (entry := best_entry(model, flow, kept, 0))
    ]
    for number, weight in enumerate(model.weights):
        if weight > 0 and number not in kept:
            waiting.append((-weight, 0, f"#{number}", frozenset((number,))))
    heapq.heapify(waiting)
    version: dict[str, int] = {}
    while waiting and left > NOTHING:
        _, at, name, nodes = heapq.heappop(waiting)
        if at != version.get(name, 0):
            continue
        added = nodes - kept
        if not added:
            continue
        left = max(left - model.gain(kept, added), 0.0)
        kept |= added
        moves.append(Move(added, left, name if name in model.flows else None))
        renew(model, kept, added, version, waiting)
    rest = frozenset(n for n, node in enumerate(model.nodes) if node.eligible and n not in kept)
    return [*moves, Move(rest, 0.0)] if rest else moves


Entry = tuple[float, int, str, frozenset[int]]
"""What a heap holds: minus the gain of an operation, the version, the value, the operations."""


def renew(
    model: ErrorModel,
    kept: set[int],
    added: Collection[int],
    version: dict[str, int],
    waiting: list[Entry],
) -> None:
    """Puts new entries for values near the added operations onto the heap."""
    near = set[str]().union(*(model.touched[number] for number in added))
    makers = {model.flows[name].maker for name in near}
    takers = {edge.node for name in near for edge in model.flows[name].edges}
    around = {number for number in makers | takers if number is not None}
    for name in near.union(*(model.touched[number] for number in around)):
        version[name] = version.get(name, 0) + 1
        if entry := best_entry(model, model.flows[name], kept, version[name]):
            heapq.heappush(waiting, entry)
    for number in around - kept:
        name = f"#{number}"
        version[name] = version.get(name, 0) + 1
        gain = model.gain(kept, (number,))
        if gain > 0 and model.nodes[number].eligible:
            heapq.heappush(waiting, (-gain, version[name], name, frozenset((number,))))


def best_entry(model: ErrorModel, flow: Flow, kept: set[int], version: int) -> Entry | None:
    """The operations that keep a value in float32 at the best price."""
    best: Entry | None = None
    for share in SHARES:
        nodes = frozenset(ends(model, flow, share)) - kept
        if not nodes or len(nodes) > LONGEST:
            continue
        gain = model.gain(kept, nodes) / len(nodes)
        if gain > 0 and (best is None or -gain < best[0]):
            best = (-gain, version, flow.name, nodes)
    return best


def ends(model: ErrorModel, flow: Flow, share: float) -> set[int]:
    """Who makes a value, and who takes most of it.

    What only moves or chooses elements makes and takes nothing itself: those before and after it
    are added.
    """
    found: set[int] = set()
    add_makers(model, flow, found)
    add_takers(model, flow, share, found)
    return found


def add_makers(model: ErrorModel, flow: Flow, found: set[int]) -> None:
    """The node that makes a value and, through exact ones, those that make theirs."""
    waiting = [flow.name]
    while waiting and len(found) <= LONGEST:
        number = model.flows[waiting.pop()].maker
        if number is None or number in found:
            continue
        node = model.nodes[number]
        if node.eligible:
            found.add(number)
        if node.is_exact or node.is_view:
            waiting += node.activations


def add_takers(model: ErrorModel, flow: Flow, share: float, found: set[int]) -> None:
    """The nodes that take most of a value and, through exact ones, those that take theirs."""
    waiting, seen = [flow.name], set[str]()
    while waiting and len(found) <= LONGEST:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        here = model.flows[name]
        missing = share * sum(edge.error for edge in here.edges)
        for edge in sorted(here.edges, key=lambda edge: -edge.error):
            if missing <= 0:
                break
            missing -= edge.error
            node = model.nodes[edge.node]
            if node.eligible:
                found.add(edge.node)
            if node.is_exact or node.is_view:
                waiting += node.results


def shares(model: ErrorModel, kept: Collection[int]) -> Mapping[int, float]:
    """By node, the error that it alone adds when only it is made float16 again."""
    everything = set(kept)
    found = {}
    for number in everything:
        others = everything - {number}
        found[number] = model.gain(others, (number,))
    return found
