"""What stands within a frozen TensorFlow graph: its values, their layers, what they are."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from metal4conv.frontends.tensorflow_runtime import load_tensorflow
from metal4conv.mil.correspondence import SourceValue

# Any throughout: protobuf classes and TensorFlow carry no types

NO_VALUE = frozenset({"NoOp", "Assert", "Placeholder", "Const"})
"""Operations that compute nothing. An Identity is a value, often with the name of a layer."""

CALLS = re.compile(r"(Stateful)?PartitionedCall(_\d+)?")
"""Parts of a path that inlined calls leave behind."""

LOOPS = frozenset({"If", "StatelessIf", "While", "StatelessWhile"})
"""Operations whose outputs coremltools counts in its own way; what reads them is a node too."""

SPACED = frozenset({"ExpandDims", "Conv2D", "DepthwiseConv2dNative", "Squeeze"})
"""What may stand between SpaceToBatchND and BatchToSpaceND, which together are a dilation."""


def graph_values(definition: Any) -> tuple[SourceValue, ...]:
    """The first output of each node of the main graph, in an order in which they can be computed.

    Further outputs, `name:1`, follow it.
    """
    counts = output_counts(definition)
    return tuple(
        SourceValue(f"{node.name}:{index}" if index else node.name, node.op, layer_of(node.name))
        for node in sorted_nodes(definition)
        if node.op not in NO_VALUE | LOOPS
        for index in range(counts[node.name])
    )


def layer_of(name: str) -> str | None:
    """The layer of a node, which is the path before its name without the calls around it.

    >>> layer_of("StatefulPartitionedCall/net_1/conv2d_1/convolution"), layer_of("add")
    ('net_1/conv2d_1', None)
    """
    parts = name.split("/")[:-1]
    return "/".join(part for part in parts if not CALLS.fullmatch(part)) or None


def sorted_nodes(definition: Any) -> Iterator[Any]:
    """The nodes of the main graph, each after what it reads."""
    nodes = {node.name: node for node in definition.node}
    done: set[str] = set()
    for first in definition.node:
        pending = [first]
        while pending:
            node = pending[-1]
            missing = [nodes[name] for name in read_names(node) if name not in done]
            if node.name not in done and missing:
                pending += reversed(missing)
                continue
            pending.pop()
            if node.name not in done:
                done.add(node.name)
                yield node


def read_names(node: Any) -> list[str]:
    """The names of the nodes that a node reads or waits for."""
    return [text.lstrip("^").partition(":")[0] for text in node.input]


def output_counts(definition: Any) -> Mapping[str, int]:
    """How many outputs each node has that are read by others, and at least one."""
    counts = dict.fromkeys((node.name for node in definition.node), 1)
    for node in definition.node:
        for text in node.input:
            name, _, index = text.partition(":")
            if index:
                counts[name] = max(counts[name], int(index) + 1)
    return counts


def changed_nodes(definition: Any) -> set[str]:
    """The nodes to which coremltools gives another value under the same name.

    SpaceToBatchND, Conv2D and BatchToSpaceND become one dilated convolution with the name of the
    second, which holds the value of the last.
    """
    changed: set[str] = set()
    for node in sorted_nodes(definition):
        reads = set(read_names(node))
        if node.op == "SpaceToBatchND" or (node.op in SPACED and reads & changed):
            changed.add(node.name)
    return changed


def trace_graph(
    definition: Any, inputs: Sequence[str], tensors: Sequence[Any], names: Collection[str]
) -> dict[str, np.ndarray]:
    """What the named tensors are for the placeholders `inputs`; floats as float32."""
    known = [row.name for row in graph_values(definition) if row.name in names]
    v1 = load_tensorflow().compat.v1
    whole = v1.wrap_function(lambda: v1.import_graph_def(definition, name=""), [])
    wanted = {name: tensor_of(whole.graph, name) for name in known}
    arrays = {name: tensor for name, tensor in wanted.items() if is_array(tensor)}
    feeds = [tensor_of(whole.graph, name) for name in inputs]
    results = whole.prune(feeds, list(arrays.values()))(*tensors) if arrays else []
    return {name: widened(result.numpy()) for name, result in zip(arrays, results, strict=True)}


def tensor_of(graph: Any, name: str) -> Any:
    """The tensor of a graph that a value's name stands for."""
    return graph.get_tensor_by_name(name if ":" in name else f"{name}:0")


def is_array(tensor: Any) -> bool:
    """Whether a tensor holds numbers: lists and texts do not."""
    dtype = tensor.dtype
    return bool(dtype.is_floating or dtype.is_integer or dtype.is_bool)


def widened(array: np.ndarray) -> np.ndarray:
    """An array, floats as float32."""
    tensorflow = load_tensorflow()
    is_float = tensorflow.as_dtype(array.dtype).is_floating
    return array.astype(np.float32) if is_float else array
