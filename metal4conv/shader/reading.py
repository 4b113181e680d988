"""A network of a MIL function: what `shader` knows of a converted model.

Nothing in a program says which axes count points and which hold features, so the plausible
readings are tried one after the other, and the first that goes through is right: in another one
an operation would mix points. A program that mixes them in all is refused, with what the most
plausible reading came upon.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.marshal import as_numpy
from metal4conv.execute.plan import make_plan
from metal4conv.execute.symbolic import infer_types
from metal4conv.mil.dataflow import Dataflow, dataflow
from metal4conv.mil.interface import Interface
from metal4conv.mil.program import Dimension, Function, Operation, Shape, TensorType
from metal4conv.shader import (  # fill the table
    reading_elementwise,
    reading_layers,
    reading_movement,
    reading_reductions,
)
from metal4conv.shader.axes import (
    Known,
    as_text,
    feature_axes_of,
    input_points,
    same_points,
)
from metal4conv.shader.contents import finished, vector_content
from metal4conv.shader.convolution_padding import with_own_padding
from metal4conv.shader.convolution_reading import NoImage, passes_of
from metal4conv.shader.folding import fold
from metal4conv.shader.limits import ML_PASS, TooLarge, check_limits, check_width
from metal4conv.shader.network import (
    Convolution,
    Network,
    Pass,
    PointProgram,
    Port,
    Step,
    Vector,
)
from metal4conv.shader.reader import Reader, constant_array
from metal4conv.shader.refusals import check_input_types, check_operations

FAMILIES = (reading_elementwise, reading_layers, reading_movement, reading_reductions)
"""The modules whose functions are in the table of readers."""

MOST_READINGS = 100
"""Of several inputs each has several readings; more combinations than these are not plausible."""

FeatureAxes = tuple[int, ...]


def read_network(function: Function, name: str, interface: Interface | None = None) -> Network:
    """The network that a function is, for each point on its own.

    `interface` names the dynamic sizes, which the function itself only numbers. `UnsupportedModel`
    names the operation that does not fit, the limit, and the way out.
    """
    flow = dataflow(function)
    operations = [
        flow.operations[place] for place in sorted(flow.ancestors(function.block.outputs))
    ]
    check_operations(operations)
    check_input_types(function, operations)
    shapes = input_shapes(function, interface)
    types = value_types(function, shapes, interface)
    constants = constant_values(function, flow)
    padded = with_own_padding(operations, constants, function.block.outputs)
    source = Source(function, name, shapes, types, constants, padded, unread(flow, padded))
    failures: list[tuple[int, UnsupportedModel]] = []
    for number, axes in enumerate(readings(source)):
        reader = Reader(types, source.constants, source.uses, function.opset_version)
        try:
            return network_as_read(source, axes, reader)
        except UnsupportedModel as error:
            if number == 0 and isinstance(error, TooLarge):
                raise
            failures.append((reader.read, error))
    raise most_telling(failures)


class OtherPoints(UnsupportedModel):
    """Inputs that count other points, as far as this reading takes their axes for points."""


class UniformOutput(UnsupportedModel):
    """An output that is the same for all points."""


def most_telling(failures: Sequence[tuple[int, UnsupportedModel]]) -> UnsupportedModel:
    """What to say of a function that no reading fits: the error of the reading that came furthest,
    given with the number of operations it had read.

    That inputs have other points is only said where it is plausible, and the way out of it, to take
    all of an input's axes for features, leads to an output without points.
    """
    first = failures[0][1]
    others = [row for row in failures if not isinstance(row[1], (OtherPoints, NoImage))]
    best = max(others or failures, key=lambda failure: failure[0])[1]
    is_mismatch = isinstance(first, OtherPoints) and isinstance(best, UniformOutput)
    return first if is_mismatch else best


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


def readings(source: Source) -> Iterator[dict[str, FeatureAxes]]:
    """Which axes of each input may hold features, the most plausible first."""
    shapes = list(source.shapes.values())
    is_alone = len(shapes) == 1 or all(len(shape) == 1 for shape in shapes)
    choices = [plausible_axes(shape, is_alone=is_alone) for shape in shapes]
    numbers = itertools.product(*(range(len(choice)) for choice in choices))
    ordered = sorted(itertools.islice(numbers, 10 * MOST_READINGS), key=sum)
    for picks in ordered[:MOST_READINGS]:
        axes = (choice[pick] for choice, pick in zip(choices, picks, strict=True))
        yield dict(zip(source.shapes, axes, strict=True))


def plausible_axes(shape: Shape, *, is_alone: bool = True) -> list[FeatureAxes]:
    """The axes that may hold an input's features: one, the shorter the more plausible; several
    behind the points; none; all where another input may count the points. One axis alone rather
    counts points than not.

    >>> plausible_axes((1, 3, "h", "w"))
    [(1,), ()]
    >>> plausible_axes((3, 3), is_alone=False)
    [(1,), (0,), (0, 1), ()]
    >>> plausible_axes((9,)), plausible_axes((9,), is_alone=False)
    ([(), (0,)], [(0,), ()])
    """
    rank = len(shape)
    fixed = [axis for axis, size in enumerate(shape) if isinstance(size, int)]
    single = [axis for axis in (rank - 1, 1, 0) if axis in fixed and shape[axis] != 1]
    if rank > 2:
        single.sort(key=lambda axis: int(shape[axis]))
    ones = [axis for axis in (rank - 1, 1) if axis in fixed and shape[axis] == 1]
    suffixes = [tuple(range(first, rank)) for first in range(rank - 2, -1, -1)]
    if is_alone and suffixes and shape[0] != 1:
        suffixes.pop()
    wanted: list[FeatureAxes] = [(axis,) for axis in (*single, *ones)]
    wanted += [axes for axes in suffixes if all(axis in fixed for axis in axes)]
    wanted.insert(0 if is_alone and rank == 1 else len(wanted), ())
    found: dict[tuple[bool, ...], FeatureAxes] = {}
    for axes in wanted:
        found.setdefault(input_points(shape, axes), axes)
    return list(found.values())


def network_as_read(source: Source, axes: Mapping[str, FeatureAxes], reader: Reader) -> Network:
    """The network when these axes of the inputs hold features."""
    reader.names.keep(dict.fromkeys([*source.shapes, *source.function.block.outputs]))
    ports, vectors = read_inputs(source, axes, reader)
    for operation in source.operations:
        reader.read_operation(operation)
    reader.operation = None
    outputs = {
        name: output_port(source, name, reader)
        for name in dict.fromkeys(source.function.block.outputs)
    }
    results = {name: vector for name, (_, vector) in outputs.items()}
    folded = fold(reader.steps, list(results.values()), reader.names.free)
    steps = [finished(step) for step in folded.steps]
    network = Network(
        source.name,
        ports,
        tuple(port for port, _ in outputs.values()),
        passes(vectors, steps, results),
        {**source.unread, **reader.folded, **folded.folded},
    )
    check_limits(network)
    return network


def read_inputs(
    source: Source, axes: Mapping[str, FeatureAxes], reader: Reader
) -> tuple[tuple[Port, ...], dict[str, Vector]]:
    """The ports of the inputs and their vectors, which become the reader's first values."""
    points = {name: input_points(shape, axes[name]) for name, shape in source.shapes.items()}
    counted = {
        name: [size for size, is_point in zip(shape, points[name], strict=True) if is_point]
        for name, shape in source.shapes.items()
    }
    reader.points = next((sizes for sizes in counted.values() if sizes), [])
    if not reader.points and any(len(s) > 1 and s[0] != 1 for s in source.shapes.values()):
        raise UnsupportedModel("no axis of any input counts points", hint=ML_PASS)
    ports, vectors = [], {}
    for name, shape in source.shapes.items():
        if counted[name] and not same_points(counted[name], reader.points):
            raise OtherPoints(
                f'input "{name}" of shape {as_text(shape)} has other points than the inputs before '
                f"it, {as_text(tuple(counted[name]))} and not {as_text(tuple(reader.points))}",
                where=f'input "{name}"',
                hint="give all inputs the same number of points, or one row for all of them",
            )
        is_uniform = bool(reader.points) and not counted[name]
        dtype = source.types[name].dtype
        port = Port(name, dtype, shape, axes[name], is_uniform)
        check_width(port.width, f'input "{name}" of shape {as_text(shape)}')
        vectors[name] = reader.vector(name, port.width)
        reader.values[name] = Known(shape, points[name], vector_content(vectors[name]), name)
        ports.append(port)
    return tuple(ports), vectors


def output_port(source: Source, name: str, reader: Reader) -> tuple[Port, Vector]:
    """An output with the vector that holds it."""
    where = f'output "{name}"'
    known = reader.values.get(name)
    if known is None:
        raise UnsupportedModel(
            f'output "{name}" does not depend on any input\'s numbers, so that there is nothing to '
            "evaluate",
            where=where,
            hint="take it out of the model's outputs",
        )
    dtype = source.types[name].dtype
    if not dtype.startswith("float"):
        raise UnsupportedModel(
            f'output "{name}" is {dtype}, a shader gives floats',
            where=where,
            hint="cast it to float in the model",
        )
    if reader.points and known.is_uniform:
        raise UniformOutput(
            f'output "{name}" of shape {as_text(known.shape)} is not one row for each point of the '
            f"inputs, {as_text(tuple(reader.points))}",
            where=where,
            hint=f"compute it on the CPU once and give it to the shader as a uniform, or {ML_PASS}",
        )
    axes = feature_axes_of(known)
    return Port(name, dtype, known.shape, axes), reader.exact_vector(known.content, name)


def passes(
    inputs: Mapping[str, Vector],
    steps: Sequence[Step | Convolution],
    outputs: Mapping[str, Vector],
) -> tuple[Pass, ...]:
    """One pass with all steps, or several where there are spatial convolutions."""
    if any(isinstance(step, Convolution) for step in steps):
        return passes_of(inputs, steps, outputs)
    plain = tuple(step for step in steps if not isinstance(step, Convolution))
    program = PointProgram(tuple(inputs.values()), plain, tuple(outputs.values()))
    return (Pass(program, tuple(inputs), tuple(outputs)),)
