"""What stands within a TorchScript module: its values, where the code makes them, what they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from metal4conv.frontends.stack_traces import is_library
from metal4conv.frontends.toolkit import coremltools_with
from metal4conv.mil.correspondence import SourceValue

# Any throughout: TorchScript's modules, graphs, nodes and values carry no types

CALL = re.compile(r"^(?P<file>[^\n]+?)\((?P<line>\d+)\): (?P<function>\S+)$", re.MULTILINE)
"""A line of the stack that a traced module remembers for each of its nodes."""

EXCERPT = re.compile(
    r'File "(?P<file>[^"]*)", line (?P<line>\d+)\n(?P<text>.*?)<--- HERE', re.DOTALL
)
"""What a scripted module remembers: some lines of code, one of them underlined."""

OWN_CODE = 'Serialized   File "code/'
"""Begins what torch.jit.save wrote of the module's code in its own words."""

MODULE = re.compile(r"([^.()]+)\([^()]*\)")
"""A module in a path: its name and its class."""

NUMBERS = ("int", "float", "bool")
"""Types that a value may have beside `Tensor`."""

SKIPPED = ("prim::Constant", "prim::GetAttr")
"""Nodes that compute nothing."""


def script_graph(module: Any) -> Any:
    """The module as one graph without calls: the very graph that coremltools reads.

    Its values have the same names each time.
    """
    coremltools_with("pytorch")
    from coremltools.converters.mil.frontend.torch.torchscript_utils import _expand_and_optimize_ir

    with without_comparisons():
        return _expand_and_optimize_ir(module)[0]


@contextmanager
def without_comparisons() -> Iterator[None]:
    """Within it, coremltools does not compare each weight with itself, element by element.

    It takes 0.2 s for a vision transformer of four layers each time.
    """
    original = torch.equal
    torch.equal = lambda *tensors: True
    try:
        yield
    finally:
        torch.equal = original


def script_values(module: Any) -> tuple[SourceValue, ...]:
    """The tensors and numbers that the graph computes, in their order."""
    found = []
    for node, value in computed(script_graph(module)):
        line, code = line_of_range(node.sourceRange())
        found.append(
            SourceValue(value.debugName(), node.kind(), module_of(node) or None, line, code)
        )
    return tuple(found)


def computed(graph: Any) -> Iterator[tuple[Any, Any]]:
    """The nodes of a graph with each tensor or number that they compute."""
    for node in graph.nodes():
        if node.kind() in SKIPPED:
            continue
        for value in node.outputs():
            if is_tensor(value) or str(value.type()) in NUMBERS:
                yield node, value


def is_tensor(value: Any) -> bool:
    """Whether a value of a graph is a tensor."""
    return bool(value.type().isSubtypeOf(torch._C.TensorType.get()))


def module_of(node: Any) -> str:
    """The path of the module that a node belongs to.

    u(Upscaler).details(Sequential).0(Conv2d)   ->   u.details.0
    """
    return ".".join(match[1] for match in MODULE.finditer(node.getModuleHierarchy()))


def line_of_range(text: str) -> tuple[str | None, str | None]:
    """The innermost line of the model's code, as `file.py:12`, and its text where it is known.

    >>> line_of_range("/pip/dist-packages/relu.py(3): relu\\n/home/me/net.py(12): forward\\n")
    ('net.py:12', None)
    >>> line_of_range('  File "/home/me/net.py", line 7\\n    y = x\\n    z = y + 1\\n ~ <--- HERE')
    ('net.py:7', 'z = y + 1')
    """
    text = text.partition(OWN_CODE)[0]
    if excerpt := EXCERPT.search(text):
        if is_library(excerpt["file"]):
            return None, None
        lines = excerpt["text"].splitlines()
        return f"{Path(excerpt['file']).name}:{excerpt['line']}", lines[-2].strip() or None
    for call in CALL.finditer(text):
        if call["file"].endswith("torch/jit/_trace.py"):
            break  # further out is the code that traced the module
        if not is_library(call["file"]):
            return f"{Path(call['file']).name}:{call['line']}", None
    return None, None


def trace_script(
    module: Any, tensors: Sequence[torch.Tensor], names: Collection[str]
) -> dict[str, torch.Tensor]:
    """What the named values are for the module's inputs in their order."""
    graph = script_graph(module)
    count = len(list(graph.outputs()))
    wanted = [(node, value) for node, value in computed(graph) if value.debugName() in names]
    for node, value in wanted:
        graph.registerOutput(copy_of(graph, node, value) if is_tensor(value) else value)
    for _ in range(count):
        graph.eraseOutput(0)
    if not wanted:
        return {}
    run: Any = torch._C._jit_interpret_graph  # type: ignore[attr-defined]  # left out of the stubs
    found = run(graph, (module._c, *tensors))
    results = found if len(wanted) > 1 else (found,)
    return {
        value.debugName(): torch.as_tensor(result)
        for (_, value), result in zip(wanted, results, strict=True)
    }


def copy_of(graph: Any, node: Any, value: Any) -> Any:
    """A copy that is made at once after the node: a later node may write into the value."""
    copy = graph.create("aten::clone", [value, nothing_in(graph)], 1)
    copy.insertAfter(node)
    return copy.output()


def nothing_in(graph: Any) -> Any:
    """A constant None at the start of a graph."""
    constant = graph.create("prim::Constant")
    constant.output().setType(torch._C.NoneType.get())
    graph.prependNode(constant)
    return constant.output()
