"""An estimate of the error of each output for any choice of operations in float32.

Rounding errors are small and independent, so their mean squares add up: each value that is rounded
adds its rounding error times what the operations after it make of that. What an operation makes of
the error of its inputs was measured with rounded inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from metal4conv.precision.measuring import Energies, Measured
from metal4conv.precision.probing import Node

HOPELESS = 1e12
"""What stands for an error that is no number."""

FEW = 256
"""Among more numbers, chance evens out."""

WITHIN = 16
"""How many times what is within a loop or a branch rounds, as a guess."""


@dataclass
class Edge:
    """A node that takes a value: the error in the outputs, in units of the allowed one, that
    rounding the value there makes.
    """

    node: int
    error: float


@dataclass
class Flow:
    """A value: the node that gives it (None for an input), the nodes that take it."""

    name: str
    maker: int | None
    edges: list[Edge] = field(default_factory=list)
    border: float = 0.0
    """The error that rounding it makes in an output that it is itself."""

    @property
    def total(self) -> float:
        """The error of rounding it for all that take it."""
        return self.border + sum(edge.error for edge in self.edges)


@dataclass
class ErrorModel:
    """Errors in units of the allowed mean square error of the outputs."""

    nodes: Sequence[Node]
    flows: dict[str, Flow]
    weights: list[float]
    """The error that rounding a node's weights makes."""
    touched: list[set[str]]
    """The values that a node takes or gives."""

    def flow_error(self, flow: Flow, kept: Collection[int]) -> float:
        """The error that a value adds when the nodes `kept` are in float32."""
        maker = flow.maker
        if maker is not None and maker not in kept and self.nodes[maker].eligible:
            # what only chooses among rounded numbers rounds nothing more
            return 0.0 if self.nodes[maker].is_exact else flow.total
        return sum(
            edge.error
            for edge in flow.edges
            if edge.node not in kept and self.nodes[edge.node].eligible
        )

    def error(self, kept: Collection[int]) -> float:
        """The estimate for the outputs."""
        total = sum(self.flow_error(flow, kept) for flow in self.flows.values())
        return total + sum(error for number, error in enumerate(self.weights) if number not in kept)

    def gain(self, kept: set[int], added: Collection[int]) -> float:
        """How much less the error is with further nodes in float32."""
        names = set[str]().union(*(self.touched[number] for number in added))
        both = kept | set(added)
        found = sum(self.weights[number] for number in added if number not in kept)
        for name in names:
            flow = self.flows[name]
            found += self.flow_error(flow, kept) - self.flow_error(flow, both)
        return found


def error_model(nodes: Sequence[Node], run: Measured, outputs: Mapping[str, float]) -> ErrorModel:
    """The model of one case.

    `outputs` gives, by name, by what the sum of squares of an output's error is multiplied to be in
    units of the allowed error.
    """
    makers = {name: number for number, node in enumerate(nodes) for name in node.results}
    flows: dict[str, Flow] = {}
    for node in nodes:
        for name in (*node.activations, *node.results):
            flows.setdefault(name, Flow(name, makers.get(name)))
    reach = {name: outputs.get(name, 0.0) for name in flows}
    for name, flow in flows.items():
        flow.border = outputs.get(name, 0.0) * rounding_of(name, run)
    weights = [0.0] * len(nodes)
    for number in range(len(nodes) - 1, -1, -1):
        node = nodes[number]
        weights[number] = weighted(run.weights.get(number, {}), reach)
        if node.operation.blocks and node.eligible:
            rounding = {name: rounding_of(name, run) for name in node.results}
            weights[number] = WITHIN * weighted(rounding, reach)
        seen_through = sum(flows[result].total for result in node.results)
        for name, (error, gain) in passed_on(number, node, run, reach).items():
            if node.is_view:  # a cast at the border rounds, whatever is before it
                error = seen_through
            flows[name].edges.append(Edge(number, min(error, HOPELESS)))
            reach[name] += min(gain, HOPELESS)
    touched = [{*node.activations, *node.results} for node in nodes]
    return ErrorModel(nodes, flows, weights, touched)


def passed_on(
    number: int, node: Node, run: Measured, reach: Mapping[str, float]
) -> dict[str, tuple[float, float]]:
    """For each input of a node: the error that rounding it makes, and that of a unit of error."""
    found: dict[str, tuple[float, float]] = {}
    groups = [group for at, group in run.passed if at == number]
    for group in groups:
        error = weighted(run.passed[number, group], reach)
        total = sum(measured_rounding(name, run) for name in group)
        for name in group:
            if 0 < total < HOPELESS:
                gain = error / total
                found[name] = (gain * rounding_of(name, run), gain)
            else:
                found[name] = (error / len(group), by_size(node, group, run, reach))
            if node.operation.type in ("add", "sub"):
                gain = repeated(node, name, run, reach)
                found[name] = (gain * rounding_of(name, run), gain)
            if (number, name) in run.harmful:
                found[name] = (HOPELESS, found[name][1])
    for name in node.activations:
        if name not in found:
            gain = unmeasured(node, name, run, reach)
            found[name] = (gain * min(rounding_of(name, run), HOPELESS), gain)
    return found


def repeated(node: Node, name: str, run: Measured, reach: Mapping[str, float]) -> float:
    """What a unit of error of a term makes: it is in the sum as often as the term is repeated."""
    if name not in run.values or not run.values[name].size:
        return 0.0
    sizes = {result: float(run.values[result].size) for result in node.results}
    return weighted(sizes, reach) / run.values[name].size


def unmeasured(node: Node, name: str, run: Measured, reach: Mapping[str, float]) -> float:
    """What a unit of error of an input makes where no copy of the node ran."""
    if node.is_view:
        return sum(reach[result] for result in node.results)
    return by_size(node, (name,), run, reach)


def by_size(node: Node, group: Collection[str], run: Measured, reach: Mapping[str, float]) -> float:
    """The same if errors grow as the values do."""
    taken = sum(run.values[name].energy for name in group if name in run.values)
    given = {name: run.values[name].energy for name in node.results if name in run.values}
    return weighted(given, reach) / taken if taken > 0 else 0.0


def weighted(energies: Energies, reach: Mapping[str, float]) -> float:
    """The error in the outputs of errors in values."""
    return sum(energy * reach[name] for name, energy in energies.items())


def measured_rounding(name: str, run: Measured) -> float:
    """The sum of squares of what rounding a value changed."""
    figures = run.values.get(name)
    return 0.0 if figures is None else min(figures.rounding, HOPELESS)


def rounding_of(name: str, run: Measured) -> float:
    """The same as it may be another time: a few numbers can be near their rounded ones by chance.

    Numbers that float16 holds exactly are not there by chance.
    """
    measured = measured_rounding(name, run)
    figures = run.values.get(name)
    if figures is None or not measured or figures.size > FEW:
        return measured
    return max(measured, figures.typical)
