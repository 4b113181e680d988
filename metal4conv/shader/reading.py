"""A network of a MIL function: what `shader` knows of a converted model.

Nothing in a program says which axes count points and which hold features, so the plausible
readings are tried one after the other, and the first that goes through is right: in another one
an operation would mix points. A program that mixes them in all is refused, with what the most
plausible reading came upon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.dataflow import dataflow
from metal4conv.mil.interface import Interface
from metal4conv.mil.program import Function, Shape
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
from metal4conv.shader.convolution_reading import passes_of
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
from metal4conv.shader.plausible import (
    FeatureAxes,
    OtherPoints,
    UniformOutput,
    most_telling,
    readings,
)
from metal4conv.shader.program_values import (
    Source,
    constant_values,
    input_shapes,
    unread,
    value_types,
)
from metal4conv.shader.reader import Reader
from metal4conv.shader.refusals import check_input_types, check_operations

FAMILIES = (reading_elementwise, reading_layers, reading_movement, reading_reductions)
"""The modules whose functions are in the table of readers."""


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
    for number, axes in enumerate(readings(shapes)):
        reader = Reader(types, source.constants, source.uses, function.opset_version)
        try:
            return network_as_read(source, axes, reader)
        except UnsupportedModel as error:
            if number == 0 and isinstance(error, TooLarge):
                raise
            failures.append((reader.read, error))
    check_features(shapes)
    raise most_telling(failures)


def check_features(shapes: Mapping[str, Shape]) -> None:
    """`UnsupportedModel` for an input whose features, by their usual places, are not counted."""
    for name, shape in shapes.items():
        places = {len(shape) - 1, 1} if len(shape) > 1 else set()
        sizes = [shape[place] for place in sorted(places)]
        if sizes and all(isinstance(size, str) for size in sizes):
            raise UnsupportedModel(
                f'input "{name}" ({", ".join(map(str, shape))}) has {sizes[-1]} features a point, '
                "a size that is known only when the app runs; a shader is written for one number",
                where=f'input "{name}"',
                hint=f"give it one: --dim {sizes[-1]}=…; only points may be any number",
            )


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
