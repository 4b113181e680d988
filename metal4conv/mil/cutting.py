"""Parts of a package as packages: some operations, fed with values that the rest would have given.

Program before and after a cut to `b` and `c`, with `c` as output and `a` bypassed:

    main(x) { w = const(…);  a = relu(x);  b = mul(a, w);  c = exp(b);  y = tanh(c)   } -> y
    main(x) { w = const(…);                b = mul(x, w);  c = exp(b)                 } -> c

Sizes are plain numbers in the part, those that its values had in a run. A value that Core ML takes
no array for is cast on the border: a bool is an int32 outside, and so is an int8; before
specification version 7 a float16 is a float32. A single number becomes a constant.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.blobs import copy_blobs
from metal4conv.mil.border import border_dtype, can_be_input, can_be_literal, can_be_output
from metal4conv.mil.correspondence import KEY as CORRESPONDENCE_KEY
from metal4conv.mil.dataflow import Dataflow, dataflow
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.interface import LAYOUT_KEY
from metal4conv.mil.messages import (
    add_constant,
    describe,
    fill_sizes,
    literals,
    set_name,
    set_type,
)
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import TensorType, Value
from metal4conv.mil.schema import new_model
from metal4conv.mil.writer import write_package

WEIGHTS = "@model_path/weights/weight.bin"


@dataclass(frozen=True)
class Cut:
    """A part of a function: operations by their place, the values that it gives.

    `bypassed` names for a value the one that is read in its place.
    """

    operations: frozenset[int]
    outputs: tuple[str, ...]
    bypassed: Mapping[str, str] = field(default_factory=dict)

    def resolve(self, value: str) -> str:
        """The value that is read where the program reads `value`.

        >>> Cut(frozenset(), (), {"c": "b", "b": "a"}).resolve("c")
        'a'
        """
        while value in self.bypassed:
            value = self.bypassed[value]
        return value


@dataclass(frozen=True)
class Part:
    """A package of a part; `inputs` and `outputs` name the value of the whole by feature."""

    package: Package
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]


def border_values(flow: Dataflow, cut: Cut) -> tuple[str, ...]:
    """The values that a part reads from outside, inputs of the function first."""
    made = {value.name for place in cut.operations for value in flow.operations[place].outputs}
    reads = {
        cut.resolve(name)
        for place in sorted(cut.operations)
        for name in flow.reads[place]
        if not flow.is_constant(cut.resolve(name))
    } - made
    given = [value.name for value in flow.function.inputs if value.name in reads]
    others = sorted(reads.difference(given), key=lambda name: flow.makers[name])
    return (*given, *others)


def cut_package(
    package: Package,
    cut: Cut,
    fed: Mapping[str, np.ndarray],
    folder: Path,
    *,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    function: str | None = None,
) -> Part:
    """Writes a part of a function as a package with one function, `main`.

    `fed` has an array for each of `border_values`: its shape is that of the input. `shapes` are
    those of other values where the program leaves sizes open. `folder` must not exist.
    """
    flow = dataflow(package.function(function))
    spec = new_model()
    spec.specificationVersion = package.specification_version
    copy_metadata(package.spec.description.metadata, spec.description.metadata)
    builder = PartBuilder(package, flow, cut, spec)
    known = {name: tuple(array.shape) for name, array in fed.items()}
    builder.build(fed, {**(shapes or {}), **known})
    with tempfile.TemporaryDirectory() as work:
        moved = move_blobs(package, builder.block, Path(work) / "weight.bin")
        write_package(folder, spec, Path(work) if moved else None)
    made = read_package(folder)
    made.interface()  # checks that program and features fit each other
    return Part(made, builder.inputs, builder.outputs)


def add_outputs(package: Package, values: Collection[str], folder: Path) -> Part:
    """Writes the whole package, in which these values of its default function are outputs, too."""
    flow = dataflow(package.function())
    spec = new_model()
    spec.CopyFrom(package.spec)
    given = tuple(flow.function.block.outputs)
    builder = PartBuilder(package, flow, Cut(frozenset(flow.working), tuple(values)), spec)
    for name in values:
        if name not in given:
            builder.add_output(name, {})
    with tempfile.TemporaryDirectory() as work:
        for file in package.weight_files():
            (Path(work) / file.name).write_bytes(file.read_bytes())
        write_package(folder, spec, Path(work))
    made = read_package(folder)
    made.interface()
    inputs = {value.name: value.name for value in flow.function.inputs}
    return Part(made, inputs, {**{name: name for name in given}, **builder.outputs})


def copy_metadata(source: Any, target: Any) -> None:
    """Takes over what still holds of a part: not the layout of the whole, nor its origins.

    (Any: protobuf messages.)
    """
    target.CopyFrom(source)
    for key in (LAYOUT_KEY, CORRESPONDENCE_KEY):
        target.userDefined.pop(key, None)


class PartBuilder:
    """Fills the function `main` of a new `Model` message. (Any: protobuf messages.)"""

    def __init__(self, package: Package, flow: Dataflow, cut: Cut, spec: Any) -> None:
        self.version = package.specification_version
        self.flow = flow
        self.cut = cut
        message = package.spec.mlProgram.functions[flow.function.name]
        self.source = message.block_specializations[message.opset]
        self.description = spec.description
        for row in spec.description.functions:
            if row.name == flow.function.name:
                self.description = row
        self.inputs: dict[str, str] = {}
        self.outputs: dict[str, str] = {}
        self.names = {*flow.types, *(value.name for value in flow.function.inputs)}
        program = spec.mlProgram
        if not program.functions:
            program.version = package.spec.mlProgram.version
            self.function = program.functions["main"]
            self.function.opset = message.opset
        else:
            self.function = program.functions[flow.function.name]
        self.block = self.function.block_specializations[self.function.opset]

    def build(self, fed: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Inputs, operations and outputs."""
        for name in border_values(self.flow, self.cut):
            self.add_border(name, fed[name])
        kept = self.cut.operations | self.needed_constants()
        for place, message in enumerate(self.source.operations):
            if place not in kept:
                continue
            made = self.block.operations.add()
            made.CopyFrom(message)
            rename_reads(made, self.cut, set())
            for output in made.outputs:
                fill_sizes(output.type, shapes.get(output.name))
        for name in self.cut.outputs:
            self.add_output(name, shapes)

    def needed_constants(self) -> frozenset[int]:
        """The constants that the part reads, also those that make others."""
        names = {
            self.cut.resolve(name)
            for place in self.cut.operations
            for name in self.flow.reads[place]
        }
        found: set[int] = set()
        todo = [self.flow.makers[name] for name in names if self.flow.is_constant(name)]
        while todo:
            place = todo.pop()
            if place not in found:
                found.add(place)
                todo += [self.flow.makers[name] for name in self.flow.reads[place]]
        return frozenset(found)

    def add_border(self, name: str, array: np.ndarray) -> None:
        """An input for a value, or a constant."""
        type = self.flow.tensor_type(name)
        if type is None:
            raise UnsupportedModel(
                f'the value "{name}" is no tensor, so the program cannot be cut before it'
            )
        if not type.shape and array.size == 1:
            array = array.reshape(())  # a run gives a single number as an array of one
        if not can_be_input(type, array.shape, self.version):
            self.add_literal(name, type, array)
            return
        dtype = border_dtype(type.dtype, self.version)
        assert dtype is not None
        feature = name if dtype == type.dtype else self.fresh(f"{name}_as_{dtype}")
        self.inputs[feature] = name
        shape = tuple(array.shape)
        set_type(self.function.inputs.add(name=feature).type, TensorType(dtype, shape))
        describe(self.description.input.add(name=feature), dtype, shape)
        if feature != name:
            self.add_cast(feature, Value(name, TensorType(type.dtype, shape)))

    def add_literal(self, name: str, type: TensorType, array: np.ndarray) -> None:
        """A constant with the value that the program had there."""
        if not can_be_literal(type, array.shape):
            raise UnsupportedModel(
                f'the value "{name}", {type}, can be no input, so the program cannot be cut '
                "before it"
            )
        add_constant(self.block, name, TensorType(type.dtype, tuple(array.shape)), array)

    def add_output(self, name: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """An output for a value."""
        type = self.flow.tensor_type(name)
        if type is None or not can_be_output(type, self.version):
            raise UnsupportedModel(f'the value "{name}" can be no output: it is {type}')
        dtype = border_dtype(type.dtype, self.version)
        assert dtype is not None
        feature = name
        shape = shapes.get(name, type.shape) if type.shape else ()
        if dtype != type.dtype:
            feature = self.fresh(f"{name}_as_{dtype}")
            self.add_cast(name, Value(feature, TensorType(dtype, shape)))
        self.outputs[feature] = name
        self.block.outputs.append(feature)
        plain = tuple(size for size in shape if isinstance(size, int))
        known = plain if len(plain) == len(shape) else ()
        describe(self.description.output.add(name=feature), dtype, known)

    def add_cast(self, source: str, target: Value) -> None:
        """`target = cast(source)`, with the name of the dtype as a constant."""
        type = target.type
        assert isinstance(type, TensorType)
        spelling = self.fresh(f"{target.name}_dtype")
        text = np.array(DTYPES[type.dtype].cast, dtype=object)
        add_constant(self.block, spelling, TensorType("string", ()), text)
        made = self.block.operations.add(type="cast")
        made.inputs["x"].arguments.add(name=source)
        made.inputs["dtype"].arguments.add(name=spelling)
        set_type(made.outputs.add(name=target.name).type, type)
        set_name(made, target.name)

    def fresh(self, name: str) -> str:
        """The name, or one made of it that no value has."""
        while name in self.names:
            name += "_"
        self.names.add(name)
        return name


def rename_reads(message: Any, cut: Cut, hidden: set[str]) -> None:
    """Makes an operation read what stands in for bypassed values. (Any: a protobuf message.)

    `hidden` are names that a block around it gives to values of its own.
    """
    if not cut.bypassed:
        return
    for argument in message.inputs.values():
        for binding in argument.arguments:
            if binding.WhichOneof("binding") == "name" and binding.name not in hidden:
                binding.name = cut.resolve(binding.name)
    for block in message.blocks:
        own = hidden | {value.name for value in block.inputs}
        for inner in block.operations:
            rename_reads(inner, cut, own)
            own |= {value.name for value in inner.outputs}
        for number, name in enumerate(block.outputs):
            if name not in own:
                block.outputs[number] = cut.resolve(name)


def move_blobs(package: Package, block: Any, target: Path) -> bool:
    """Writes the weights of a block into a file of their own; False where it has none.

    (Any: a protobuf message.)
    """
    found = [
        value
        for operation in block.operations
        for value in literals(operation)
        if value.WhichOneof("value") == "blobFileValue"
    ]
    if not found:
        return False
    blobs = [(value.blobFileValue.fileName, int(value.blobFileValue.offset)) for value in found]
    offsets = copy_blobs(package.model_folder, blobs, target)
    for value, blob in zip(found, blobs, strict=True):
        value.blobFileValue.fileName = WEIGHTS
        value.blobFileValue.offset = offsets[blob]
    return True
