"""Frozen `.pb` graphs, as TensorFlow 1 and `convert_variables_to_constants` write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metal4conv.errors import DamagedFile, UnsupportedModel, UsageError
from metal4conv.frontends.names import feature_names
from metal4conv.frontends.tensorflow_model import (
    TensorFlowModel,
    declared_input,
)
from metal4conv.frontends.tensorflow_runtime import load_tensorflow, reading

VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp", "ReadVariableOp"})
NO_OUTPUT = frozenset({"NoOp", "Assert", "Const", "Placeholder", "Print", "PrintV2"})

# Any throughout: TensorFlow carries no types


def read_frozen_graph(path: Path) -> TensorFlowModel:
    """The graph; its placeholders are the inputs, the nodes that no other one reads the outputs."""
    tensorflow = load_tensorflow()
    content = path.read_bytes()
    definition = tensorflow.compat.v1.GraphDef()
    if path.name == "saved_model.pb":
        raise UsageError(
            f"{path} is part of a SavedModel", hint=f"name its folder: {path.parent or '.'}"
        )
    with reading(path):
        definition.ParseFromString(content)
    check_graph(path, definition)
    sinks = sink_names(definition)
    feeds = [node.name for node in definition.node if node.op == "Placeholder"]
    with reading(path):
        function = import_graph(definition, feeds, sinks)
    inputs, outputs, findings = feature_names(feeds, [name.rpartition("/")[2] for name in sinks])

    def call(tensors: Sequence[Any]) -> Sequence[Any]:
        results: Sequence[Any] = function(*tensors)
        return results

    placeholders = zip(inputs, function.inputs, strict=True)
    return TensorFlowModel(
        "frozen graph",
        path.stem,
        (path,),
        tuple(declared_input(name, tensor) for name, tensor in placeholders),
        outputs,
        call,
        constant_elements(definition),
        findings,
    )


def check_graph(path: Path, definition: Any) -> None:
    """An error for a file without nodes, or with variables instead of constants."""
    if not definition.node or not any(node.op == "Placeholder" for node in definition.node):
        raise DamagedFile(
            f"{path} is not a frozen TensorFlow graph: it has no inputs",
            hint="a SavedModel is converted by naming its folder",
        )
    variables = [node.name for node in definition.node if node.op in VARIABLES]
    if variables:
        raise UnsupportedModel(
            f"{path} is a graph whose variables are not frozen: {len(variables)} of them",
            where=[f"variable {name}" for name in variables[:5]],
            hint="freeze it with its checkpoint, or save a SavedModel",
        )


def sink_names(definition: Any) -> list[str]:
    """The nodes whose results no other node reads, in the file's order."""
    read = {name.lstrip("^").partition(":")[0] for node in definition.node for name in node.input}
    return [
        node.name for node in definition.node if node.name not in read and node.op not in NO_OUTPUT
    ]


def import_graph(definition: Any, feeds: Sequence[str], fetches: Sequence[str]) -> Any:
    """The graph as a function of its placeholders."""
    tensorflow = load_tensorflow()
    v1 = tensorflow.compat.v1
    wrapped = v1.wrap_function(lambda: v1.import_graph_def(definition, name=""), [])
    graph = wrapped.graph
    return wrapped.prune(
        [graph.get_tensor_by_name(f"{name}:0") for name in feeds],
        [tensor for name in fetches for tensor in graph.get_operation_by_name(name).outputs],
    )


def constant_elements(definition: Any) -> int:
    """The number of elements of all float constants, which is what the variables became."""
    count = 0
    for node in definition.node:
        tensor = node.attr["value"].tensor
        if node.op == "Const" and tensor.dtype in (1, 2, 19):
            sizes = [dimension.size for dimension in tensor.tensor_shape.dim]
            elements = 1
            for size in sizes:
                elements *= size
            count += elements
    return count
