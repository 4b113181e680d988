"""What is known of a function before it is read: shapes, types, constants, what is not needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metal4conv.execute.marshal import as_numpy
from metal4conv.execute.plan import make_plan
from metal4conv.execute.symbolic import infer_types
from metal4conv.mil.dataflow import Dataflow
from metal4conv.mil.interface import Interface
from metal4conv.mil.program import Dimension, Function, Operation, Shape, TensorType
from metal4conv.shader.reader import constant_array


@dataclass(frozen=True)
class Source:
    """A function to be read: the shapes of its inputs, the types and constants in it, the
    operations that its outputs need, and what became of others.
    """

    function: Function
    name: str
    shapes: Mapping[str, Shape]
    types: Mapping[str, TensorType]
    constants: Mapping[str, np.ndarray]
    operations: tuple[Operation, ...]
    unread: Mapping[str, str]

    @property
    def uses(self) -> Counter[str]:
        """How often each value is read, sizes of it not counted."""
        reads = Counter(
            name
            for operation in self.operations
            if operation.type != "shape"
            for name in operation.value_names
        )
        return reads + Counter(self.function.block.outputs)


def unread(flow: Dataflow, read: Sequence[Operation]) -> dict[str, str]:
    """What becomes of the operations that are not read, by their names."""
    names = {operation.name for operation in read}
    needed = flow.ancestors(flow.function.block.outputs)
    found = {}
    for place, operation in enumerate(flow.operations):
        if operation.type == "const" or operation.name in names:
            continue
        if place in flow.constants:
            found[operation.name] = "a constant"
        elif place in needed:
            found[operation.name] = "part of the convolution after it"
        else:
            found[operation.name] = "not needed for any output"
    return found


def input_shapes(function: Function, interface: Interface | None) -> dict[str, Shape]:
    """The shapes of the inputs, with the names of dynamic sizes where those are known."""
    shapes = {
        value.name: value.type.shape
        for value in function.inputs
        if isinstance(value.type, TensorType)
    }
    if interface is not None:
        named = {item.name: item.type.shape for item in interface.inputs}
        for name, shape in shapes.items():
            if name in named and len(named[name]) == len(shape):
                shapes[name] = named[name]
    return shapes


def value_types(
    function: Function, shapes: Mapping[str, Shape], interface: Interface | None
) -> dict[str, TensorType]:
    """The types of all values; dynamic sizes are formulas over those of the inputs."""
    declared = {
        value.name: value.type
        for operation in function.block.operations
        for value in operation.outputs
        if isinstance(value.type, TensorType)
    }
    inputs = {
        value.name: TensorType(value.type.dtype, shapes[value.name])
        for value in function.inputs
        if isinstance(value.type, TensorType)
    }
    if not any(type.is_dynamic for type in (*declared.values(), *inputs.values())):
        return {**declared, **inputs}
    names = {size for shape in shapes.values() for size in shape if isinstance(size, str)}
    known = {} if interface is None else dict(interface.dimensions)
    dimensions = {name: known.get(name, Dimension(1, None, 1)) for name in names}
    return {**declared, **infer_types(function, inputs, dimensions)}


def constant_values(function: Function, flow: Dataflow) -> dict[str, np.ndarray]:
    """All values that depend on no input, such as weights that are stored compressed."""
    found = {}
    for place in flow.constants:
        operation = flow.operations[place]
        if operation.type == "const":
            found[operation.outputs[0].name] = constant_array(operation.attributes["val"])
    computed = {
        flow.operations[place].name
        for place in flow.constants
        if flow.operations[place].type != "const"
    }
    if not computed:
        return found
    plan = make_plan(function)
    values = dict(plan.constants)
    for step in plan.steps:
        if step.operation.name in computed:
            step.run(values)
            for value in step.operation.outputs:
                if isinstance(value.type, TensorType):
                    found[value.name] = as_numpy(values[value.name], value.type.dtype)
    return found
