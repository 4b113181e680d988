"""Which PyTorch operations can be converted, and lowerings for some that coremltools lacks."""

from __future__ import annotations

import re
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch.export import ExportedProgram

from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.toolkit import coremltools_with
from metal4conv.frontends.torch_lowerings import register_lowerings

FRAME = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*\n(?:\s+([^\n]+))?')


@dataclass(frozen=True)
class UnsupportedOperation:
    """An operation that cannot be converted, with the line of the model's code if it is known."""

    name: str
    place: str


@cache
def torch_operations() -> Any:
    """coremltools' table of PyTorch operations, with ours added. (Any: an untyped class.)"""
    coremltools_with("pytorch")
    from coremltools.converters.mil.frontend.torch.ops import _TORCH_OPS_REGISTRY

    if _TORCH_OPS_REGISTRY.get_func("alias") is None:
        register_missing()
        register_lowerings(_TORCH_OPS_REGISTRY)
    return _TORCH_OPS_REGISTRY


def register_missing() -> None:
    """Adds lowerings of operations that torch emits and coremltools 9.0 does not know."""
    from coremltools.converters.mil import register_torch_op
    from coremltools.converters.mil.frontend.torch.ops import _get_inputs
    from coremltools.converters.mil.mil import Builder

    @register_torch_op  # type: ignore[untyped-decorator]  # coremltools carries no types
    def alias(context: Any, node: Any) -> None:
        """Another name for the same tensor."""
        (x, *_) = _get_inputs(context, node)
        context.add(Builder.identity(x=x, name=node.name))


def unsupported_in_graph(program: ExportedProgram) -> list[UnsupportedOperation]:
    """The operations of an exported program that have no lowering, with their places."""
    known = torch_operations()
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    found = []
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        kind = kind_of(node.target)
        if known.get_func(sanitize_op_kind(kind)) is None:
            place = model_line(node.meta.get("stack_trace") or "") or f"node {node.name}"
            found.append(UnsupportedOperation(kind, place))
    return found


def check_supported(missing: Sequence[UnsupportedOperation]) -> None:
    """`UnsupportedModel` that names all operations without a lowering at once."""
    if not missing:
        return
    raise UnsupportedModel(
        f"{len(missing)} operations of the model cannot be converted: "
        + ", ".join(dict.fromkeys(item.name for item in missing)),
        where=[f"{item.name}: {item.place}" for item in missing],
        hint="replace them in the model, or move them out of it into the app",
    )


def kind_of(target: Any) -> str:
    """The name of an FX node's target: `aten::add.Tensor`, or a Python function's."""
    if hasattr(target, "name") and callable(target.name):
        return str(target.name())
    return getattr(target, "__name__", str(target))


def model_line(stack_trace: str) -> str | None:
    """The innermost line of the model's own code in a stack trace that torch recorded.

    >>> model_line('File "/m/net.py", line 7, in forward\\n    return torch.foo(x)')
    '/m/net.py:7: return torch.foo(x)'
    """
    installed = sysconfig.get_path("purelib")
    frames = FRAME.findall(stack_trace)
    own = [frame for frame in frames if not frame[0].startswith(installed)] or frames
    return f"{own[-1][0]}:{own[-1][1]}: {own[-1][2].strip()}" if own else None


def unsupported_in_script(module: Any) -> list[UnsupportedOperation]:
    """The same for a TorchScript module. (Any: it is untyped.)"""
    known = torch_operations()
    from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

    return [
        UnsupportedOperation(node.kind(), script_line(node))
        for node in all_nodes(module.inlined_graph)
        if node.kind() not in STRUCTURE and known.get_func(sanitize_op_kind(node.kind())) is None
    ]


STRUCTURE = {
    "prim::Constant",
    "prim::GetAttr",
    "prim::TupleConstruct",
    "prim::TupleUnpack",
    "prim::DictConstruct",
    "prim::RaiseException",
    "prim::SetAttr",
}


def all_nodes(block: Any) -> list[Any]:
    """The nodes of a TorchScript graph and of its inner blocks. (Any: they are untyped.)"""
    nodes = []
    for node in block.nodes():
        nodes.append(node)
        for inner in node.blocks():
            nodes += all_nodes(inner)
    return nodes


@contextmanager
def dictionaries_as_tuples() -> Iterator[None]:
    """Within it, coremltools takes a dictionary of a TorchScript module as a tuple of its values.

    It flattens tuples and lists among a graph's outputs, but knows no dictionaries.
    """
    from coremltools.converters.mil.frontend.torch import converter

    original = converter.flatten_graph_output_values

    def flatten(graph: Any) -> None:
        for node in graph.nodes:
            if node.kind == "dictconstruct":  # its inputs are keys and values in turn
                node.kind, node.inputs = "tupleconstruct", node.inputs[1::2]
        original(graph)

    converter.flatten_graph_output_values = flatten
    try:
        yield
    finally:
        converter.flatten_graph_output_values = original


def script_line(node: Any) -> str:
    """The line of code that TorchScript recorded for a node. (Any: it is untyped.)"""
    recorded = node.sourceRange()
    match = re.search(r"(\S+\.py)(?:\((\d+)\)|\", line (\d+))", recorded)
    if match:
        return f"{match[1]}:{match[2] or match[3]}"
    return f"module {node.scopeName()}" if node.scopeName() else "the module's forward"
