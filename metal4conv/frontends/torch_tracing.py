"""What stands within an exported program: its values, where the code makes them, what they are."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind

from metal4conv.frontends.stack_traces import line_of_trace
from metal4conv.mil.correspondence import SourceValue


def program_values(program: ExportedProgram) -> tuple[SourceValue, ...]:
    """The nodes that compute tensors, in their order."""
    return tuple(
        value_of_node(node)
        for node in program.graph.nodes
        if node.op == "call_function" and gives_tensors(node.meta.get("val"))
    )


def gives_tensors(value: object) -> bool:
    """Whether what a node gives is a tensor. Several come as a list, and one by one after it."""
    return isinstance(value, torch.Tensor)


def value_of_node(node: torch.fx.Node) -> SourceValue:
    """A node with its module and the line of the model's code that it comes from."""
    modules = list(node.meta.get("nn_module_stack", {}).values())
    path = str(modules[-1][0]) if modules else ""
    line, code = line_of_trace(node.meta.get("stack_trace") or "")
    return SourceValue(node.name, str(node.target), path or None, line, code)


class Watched(torch.fx.Interpreter):
    """Runs a graph and keeps what some of its nodes give."""

    def __init__(self, module: torch.fx.GraphModule, names: Collection[str]) -> None:
        super().__init__(module)
        self.names = set(names)
        self.found: dict[str, torch.Tensor] = {}

    def run_node(self, n: torch.fx.Node) -> Any:  # Any: whatever a node gives
        result = super().run_node(n)
        if n.name in self.names and isinstance(result, torch.Tensor):
            # a later node may write into it
            self.found[n.name] = result.clone()
        return result


def trace_program(
    program: ExportedProgram, tensors: Sequence[torch.Tensor], names: Collection[str]
) -> dict[str, torch.Tensor]:
    """What the named nodes give for the user's inputs in their order."""
    watched = Watched(program.graph_module, names)
    watched.run(*lifted_inputs(program, iter(tensors)), enable_io_processing=False)
    return watched.found


def lifted_inputs(
    program: ExportedProgram, tensors: Iterator[torch.Tensor]
) -> Iterator[torch.Tensor | None]:
    """The inputs of the program's graph: parameters, buffers and constants are among them."""
    for item in program.graph_signature.input_specs:
        if item.kind is InputKind.USER_INPUT:
            yield next(tensors)
        elif item.target in program.state_dict:
            yield program.state_dict[item.target]
        else:
            yield program.constants[item.target] if item.target else None
