"""Changes of one thing: in a package, in the code of a model, in an ONNX graph, in a Keras layer.

A package stays sound and its values keep their shapes. A fault is data; `helpers` applies it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.frontends.provenance import name_before_cast
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Constant, Operation
from metal4conv.mil.schema import deterministic_bytes
from metal4conv.mil.weights import RECORD

Message = Any  # protobuf classes carry no types
ArrayChange = Callable[[np.ndarray], Any]


class NothingChanged(Exception):
    """A fault that leaves a package as it is."""


class EditedPackage:
    """A copy of a package in which operations are changed, then written back."""

    def __init__(self, source: Path, folder: Path) -> None:
        shutil.copytree(source, folder)
        self.package: Package = read_package(folder)
        self.spec: Message = self.package.spec
        function = self.spec.mlProgram.functions["main"]
        self.block = function.block_specializations[function.opset]
        self.operations = self.package.function().block.operations

    def at(self, name: str) -> int:
        """The place of the operation that gives a value, see `operations_named`."""
        [found] = operations_named(self.operations, name)
        output = found.outputs[0].name
        return next(
            at
            for at, row in enumerate(self.block.operations)
            if len(row.outputs) and row.outputs[0].name == output
        )

    def constant(self, name: str) -> tuple[Message, Constant]:
        """The operation `const` of that name, and what it holds."""
        message = next(row for row in self.block.operations if is_constant(row, name))
        read = next(row for row in self.operations if is_constant(row, name))
        return message, read.attributes["val"]

    def value_name(self, name: str) -> str:
        """The package's own name of a value, which may end in a cast."""
        if name in [value.name for value in self.package.function().inputs]:
            return name
        [operation] = operations_named(self.operations, name)
        outputs = operation.outputs
        return next((row.name for row in outputs if is_named(row.name, name)), outputs[0].name)

    def change(self, name: str, parameter: str, change: ArrayChange) -> None:
        """Another value for a constant that an operation takes; others that take it keep theirs.

        A weight that it alone takes is changed where it stands, in the weight file.
        """
        at = self.at(name)
        binding = self.block.operations[at].inputs[parameter].arguments[0]
        message, constant = self.constant(binding.name)
        old = constant.value
        new = np.asarray(change(old.copy()), old.dtype)
        assert new.shape == old.shape
        if np.array_equal(new, old):
            raise NothingChanged(f"{name}: {parameter}")
        users = [
            row
            for row in self.block.operations
            for bound in row.inputs.values()
            for item in bound.arguments
            if item.name == binding.name
        ]
        if constant.file is not None and len(users) == 1:
            self.write_weight(constant, new)
            return
        copied = type(message).FromString(message.SerializeToString())
        copied.outputs[0].name = f"{binding.name}_changed_for_{name}"
        copied.attributes["name"].immediateValue.tensor.strings.values[0] = copied.outputs[0].name
        set_immediate(copied.attributes["val"], new, constant.type.dtype)
        binding.name = copied.outputs[0].name
        self.block.operations.insert(at, copied)

    def write_weight(self, constant: Constant, array: np.ndarray) -> None:
        """Overwrites a blob of the weight file."""
        assert constant.file is not None
        assert constant.offset is not None
        path = self.package.model_folder / constant.file.removeprefix("@model_path/")
        content = bytearray(path.read_bytes())
        _, _, size, start, _ = RECORD.unpack_from(content, constant.offset)
        data = np.ascontiguousarray(array).tobytes()
        assert len(data) == size
        content[start : start + size] = data
        path.unlink()  # the array above is a mapping of it
        path.write_bytes(content)

    def rebind(self, name: str, parameter: str, value: str, place: int = 0) -> None:
        """Another value for an input of an operation."""
        arguments = self.block.operations[self.at(name)].inputs[parameter].arguments
        new = self.value_name(value)
        assert arguments[place].name != new
        arguments[place].name = new

    def swap(self, name: str, first: str = "x", second: str = "y") -> None:
        """Two inputs of an operation in each other's place."""
        inputs = self.block.operations[self.at(name)].inputs
        one, two = inputs[first].arguments[0], inputs[second].arguments[0]
        one.name, two.name = two.name, one.name

    def reorder(self, name: str, order: Sequence[int]) -> None:
        """The values that are joined, in another order."""
        arguments = self.block.operations[self.at(name)].inputs["values"].arguments
        names = [arguments[place].name for place in order]
        for argument, new in zip(arguments, names, strict=True):
            argument.name = new

    def retype(self, name: str, kind: str, keep: Sequence[str] = ("x",)) -> None:
        """Another operation with those of the inputs that it knows."""
        message = self.block.operations[self.at(name)]
        message.type = kind
        for parameter in set(message.inputs) - set(keep):
            del message.inputs[parameter]

    def save(self) -> None:
        (self.package.model_folder / "model.mlmodel").write_bytes(deterministic_bytes(self.spec))


def is_constant(operation: Any, name: str) -> bool:
    """Whether an operation is the constant of a name. (Any: a message, or what is read of it.)"""
    return operation.type == "const" and operation.outputs[0].name == name


def is_named(value: str, name: str) -> bool:
    """Whether a value has a name, before casts to float16, or a name that ends so.

    >>> is_named("net_1_dense_1_BiasAdd_cast_fp16", "dense_1_BiasAdd"), is_named("add_1", "1")
    (True, True)
    """
    before = name_before_cast(value)
    return name == value or fnmatchcase(before, name) or before.endswith(f"_{name}")


def operations_named(operations: Sequence[Operation], name: str) -> list[Operation]:
    """The operations that give a value of a name; those whose own name it is go first.

    A value that is called like its operation's type gets a number when it is cast. With `type:`
    in front it is the type of the operations.
    """
    computing = [row for row in operations if row.type not in ("const", "cast")]
    if name.startswith("type:"):
        return [row for row in computing if row.type == name.removeprefix("type:")]
    if found := [row for row in computing if name in [value.name for value in row.outputs]]:
        return found
    for whole in (name, f"{name}_0"):
        if found := [row for row in computing if whole in names_before_casts(row)]:
            return found
    return [row for row in computing if any(is_named(v.name, name) for v in row.outputs)]


def names_before_casts(operation: Operation) -> list[str]:
    """The names of an operation's outputs, before casts to float16."""
    return [name_before_cast(value.name) for value in operation.outputs]


def set_immediate(message: Message, array: np.ndarray, dtype: str) -> None:
    """Replaces what a `Value` message holds by an array of its type."""
    message.ClearField("blobFileValue")
    message.immediateValue.Clear()
    tensor = message.immediateValue.tensor
    flat = array.reshape(-1)
    match dtype:
        case "float32":
            tensor.floats.values.extend(flat.tolist())
        case "int32":
            tensor.ints.values.extend(flat.tolist())
        case "bool":
            tensor.bools.values.extend(flat.tolist())
        case "string":
            tensor.strings.values.extend(flat.tolist())
        case _:
            assert DTYPES[dtype].bits >= 8
            tensor.bytes.values = np.ascontiguousarray(array).tobytes()


@dataclass(frozen=True)
class PackageFault:
    """A change of one operation of the package, after the conversion."""

    operation: str
    change: Callable[[EditedPackage, str], None]

    def apply(self, source: Path, folder: Path) -> None:
        """Writes the faulty copy of a package."""
        edited = EditedPackage(source, folder)
        self.change(edited, self.operation)
        edited.save()


def sets(operation: str, **values: Any) -> PackageFault:
    """Other attributes: padding, an axis, an epsilon, a bound."""

    def change(edited: EditedPackage, name: str) -> None:
        for parameter, value in values.items():
            edited.change(name, parameter, lambda old, new=value: np.broadcast_to(new, old.shape))

    return PackageFault(operation, change)


def weight(operation: str, change: ArrayChange, parameter: str = "weight") -> PackageFault:
    """Another weight, of the same shape."""
    return PackageFault(operation, lambda edited, name: edited.change(name, parameter, change))


def swapped(operation: str, first: str = "x", second: str = "y") -> PackageFault:
    """Operands in each other's place."""
    return PackageFault(operation, lambda edited, name: edited.swap(name, first, second))


def takes(operation: str, parameter: str, value: str, place: int = 0) -> PackageFault:
    """Another value as an operand."""
    return PackageFault(
        operation, lambda edited, name: edited.rebind(name, parameter, value, place)
    )


def joins(operation: str, *order: int) -> PackageFault:
    """Another order in which values are joined."""
    return PackageFault(operation, lambda edited, name: edited.reorder(name, order))


def becomes(operation: str, kind: str, *keep: str) -> PackageFault:
    """Another operation in its place."""
    return PackageFault(operation, lambda edited, name: edited.retype(name, kind, keep or ("x",)))


@dataclass(frozen=True)
class CodeFault:
    """An edit of the model's code, whose old text stands there once."""

    old: str
    new: str

    def apply(self, text: str) -> str:
        """The edited text."""
        assert text.count(self.old) == 1, f"{self.old!r} stands there {text.count(self.old)} times"
        return text.replace(self.old, self.new)


@dataclass(frozen=True)
class GraphFault:
    """A change of an ONNX model."""

    change: Callable[[Any], None]
    """Edits a `ModelProto`."""


def onnx_node(model: Any, output: str) -> Any:
    """The node that gives a value, in an ONNX model. (Any: protobuf messages.)"""
    return next(node for node in model.graph.node if output in node.output)


def node_attribute(output: str, **values: Any) -> GraphFault:
    """Other attributes of the node that gives a value."""

    def change(model: Any) -> None:
        from onnx import helper

        node = onnx_node(model, output)
        kept = [item for item in node.attribute if item.name not in values]
        made = [helper.make_attribute(name, value) for name, value in values.items()]
        del node.attribute[:]
        node.attribute.extend([*kept, *made])

    return GraphFault(change)


def node_type(output: str, kind: str, **attributes: Any) -> GraphFault:
    """Another operator with the same inputs."""

    def change(model: Any) -> None:
        from onnx import helper

        node = onnx_node(model, output)
        node.op_type = kind
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(*item) for item in attributes.items())

    return GraphFault(change)


def node_inputs(output: str, *order: int) -> GraphFault:
    """The inputs of a node in another order."""

    def change(model: Any) -> None:
        node = onnx_node(model, output)
        names = [node.input[place] for place in order]
        del node.input[:]
        node.input.extend(names)

    return GraphFault(change)


def node_takes(output: str, place: int, value: str) -> GraphFault:
    """Another value as an input of a node."""

    def change(model: Any) -> None:
        node = onnx_node(model, output)
        assert node.input[place] != value
        node.input[place] = value

    return GraphFault(change)


def initializer(name: str, change: ArrayChange) -> GraphFault:
    """Another weight of an ONNX model."""

    def edit(model: Any) -> None:
        from onnx import numpy_helper

        found = next(row for row in model.graph.initializer if row.name == name)
        old = numpy_helper.to_array(found)
        found.CopyFrom(numpy_helper.from_array(np.asarray(change(old.copy()), old.dtype), name))

    return GraphFault(edit)


@dataclass(frozen=True)
class LayerFault:
    """A change of a Keras model: of a layer's configuration, or of one of its weights."""

    layer: str
    config: tuple[tuple[str, Any], ...] = ()
    weight: int = 0
    change: ArrayChange | None = None


Fault = PackageFault | CodeFault | GraphFault | LayerFault
