"""Reads an ONNX file and checks that it holds together before anything is lowered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from metal4conv.errors import DamagedFile, UnsupportedModel, did_you_mean
from metal4conv.frontends.onnx.tensors import array_of, external_files, type_name
from metal4conv.frontends.onnx.value import MIL_DTYPE, Value, numpy_dtype
from metal4conv.frontends.shapes import DeclaredInput, identifier

HINT = "export or copy the model again"


@dataclass(frozen=True)
class OnnxModel:
    """A model whose graph is sound: every value is given before it is used."""

    path: Path
    proto: onnx.ModelProto
    inputs: tuple[DeclaredInput, ...]
    initializers: dict[str, Value] = field(repr=False)

    @property
    def opsets(self) -> dict[str, int]:
        """The opset version of each domain; that of the standard operators is `""`."""
        return {
            "" if item.domain == "ai.onnx" else item.domain: item.version
            for item in self.proto.opset_import
        }

    @property
    def empty_inputs(self) -> dict[str, Value]:
        """Inputs with a size of 0, which have one value only, and which no package can have."""
        return {
            item.name: Value(
                item.dtype or "float32",
                known=np.zeros(
                    tuple(map(fixed_size, item.shape or ())), numpy_dtype(item.dtype or "float32")
                ),
            )
            for item in self.inputs
            if is_empty(item)
        }

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs in their order."""
        return tuple(item.name for item in self.proto.graph.output)

    @property
    def files(self) -> tuple[Path, ...]:
        """The model's file and those of its external data."""
        return (self.path, *external_files(self.proto, self.path.parent))


def read_onnx(path: Path) -> OnnxModel:
    """The model in a file; tensors in other files are mapped, not copied."""
    proto = parse(path)
    graph = proto.graph
    if not graph.output:
        raise DamagedFile(f"{path} is damaged, or no ONNX model: its graph has no outputs")
    check_graph(graph, set(), path)
    initializers = {}
    for tensor in graph.initializer:
        found = array_of(tensor, path.parent)
        initializers[tensor.name] = Value(found.dtype, known=found.array)
    for sparse in graph.sparse_initializer:
        initializers[sparse.values.name] = dense(sparse, path.parent)
    inputs = [item for item in graph.input if item.name not in initializers]
    declared = tuple(declared_input(item) for item in inputs)
    for item in graph.output:
        check_held(item, "output")
    return OnnxModel(path, proto, declared, initializers)


def parse(path: Path) -> onnx.ModelProto:
    """The message in a file; `DamagedFile` for what is none."""
    try:
        proto = onnx.load_model(str(path), load_external_data=False)
    except DecodeError as error:
        raise DamagedFile(f"{path} is damaged or truncated: {error}", hint=HINT) from None
    if not proto.opset_import:
        raise DamagedFile(f"{path} is damaged, or no ONNX model: it names no opset", hint=HINT)
    return proto


def dense(sparse: onnx.SparseTensorProto, folder: Path) -> Value:
    """A sparse tensor with its zeros."""
    values = array_of(sparse.values, folder)
    places = array_of(sparse.indices, folder).array
    array = np.zeros(tuple(sparse.dims), values.array.dtype)
    if places.ndim == 1:
        array.reshape(-1)[places] = values.array
    else:
        array[tuple(places.T)] = values.array
    return Value(values.dtype, known=array)


def declared_input(item: onnx.ValueInfoProto) -> DeclaredInput:
    """An input as the model declares it; a `dim_param` is a dimension's name."""
    check_held(item, "input")
    tensor = item.type.tensor_type
    if not tensor.HasField("shape"):
        return DeclaredInput(item.name, type_name(tensor.elem_type), None)
    sizes: list[int | str | None] = []
    for axis, dimension in enumerate(tensor.shape.dim):
        if dimension.HasField("dim_value"):
            if dimension.dim_value < 0:
                raise DamagedFile(
                    f'input "{item.name}", axis {axis}: size {dimension.dim_value}', hint=HINT
                )
            sizes.append(dimension.dim_value)
        else:
            sizes.append(identifier(dimension.dim_param) if dimension.dim_param else None)
    return DeclaredInput(item.name, type_name(tensor.elem_type), tuple(sizes))


def is_empty(item: DeclaredInput) -> bool:
    """Whether an input has no elements."""
    return 0 in (item.shape or ())


def fixed_size(size: int | str | None) -> int:
    """A size of an input without elements; a dynamic one counts as 1."""
    return size if isinstance(size, int) else 1


def check_held(item: onnx.ValueInfoProto, role: str) -> None:
    """`UnsupportedModel` for an input or output that is no tensor, or one of an odd type."""
    kind = item.type.WhichOneof("value")
    what = (kind or "").removesuffix("_type") or "nothing known"
    if kind == "tensor_type":
        what = type_name(item.type.tensor_type.elem_type)
        if what in MIL_DTYPE or (what == "undefined" and role == "output"):
            return
    elif kind is None and role == "output":
        return
    raise UnsupportedModel(
        f'{role} "{item.name}" is {what}, which a MIL program cannot hold',
        hint="move what handles it out of the model into the app",
    )


def check_graph(graph: onnx.GraphProto, outer: set[str], path: Path) -> None:
    """`DamagedFile` for a value that nothing gives, that is given twice, or that needs itself."""
    known = {*outer, *(item.name for item in graph.input)}
    known |= {tensor.name for tensor in graph.initializer}
    known |= {sparse.values.name for sparse in graph.sparse_initializer}
    given: dict[str, onnx.NodeProto] = {}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in given:
                raise DamagedFile(
                    f'{path}: "{name}" is the output of two nodes, {node_text(given[name])} and '
                    f"{node_text(node)}",
                    hint=HINT,
                )
            given[name] = node
    for node in graph.node:
        for name in filter(None, node.input):
            if name not in known:
                raise missing_value(name, node, given, known, path)
        known.update(node.output)
        for subgraph in subgraphs(node):
            check_graph(subgraph, known, path)
    for item in graph.output:
        if item.name not in known:
            raise DamagedFile(
                f'{path}: no node gives the output "{item.name}"',
                hint=did_you_mean(item.name, known),
            )


def missing_value(
    name: str,
    node: onnx.NodeProto,
    given: dict[str, onnx.NodeProto],
    known: Iterable[str],
    path: Path,
) -> DamagedFile:
    """Why a node's input is not there: unknown, or computed later, from the node itself."""
    if name in given:
        reason = f"is the output of {node_text(given[name])}, which comes later: a cycle"
        return DamagedFile(
            f'{path}: input "{name}" {reason}, or nodes out of order', where=node_text(node)
        )
    return DamagedFile(
        f'{path}: input "{name}" of {node_text(node)} is given by nothing',
        where=node_text(node),
        hint=did_you_mean(name, [item for item in known if item]),
    )


def node_text(node: onnx.NodeProto) -> str:
    """A node as an error names it."""
    outputs: Sequence[str] = [name for name in node.output if name]
    return f'node "{node.name or ", ".join(outputs)}" ({node.op_type})'


def subgraphs(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    """The branches and bodies of a node."""
    found = [item.g for item in node.attribute if item.type == onnx.AttributeProto.GRAPH]
    for item in node.attribute:
        found += item.graphs
    return found
