"""torch.export: what an exported program declares, and exporting a module with dynamic sizes."""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from metal4conv.errors import UnsupportedModel, UsageError, did_you_mean, first_line
from metal4conv.frontends.shapes import DeclaredInput
from metal4conv.frontends.source import SourceInput, SourceOptions
from metal4conv.frontends.spec import InputSpec
from metal4conv.frontends.toolkit import coremltools_with, quiet
from metal4conv.frontends.torch_decompositions import DECOMPOSITIONS
from metal4conv.frontends.torch_factory import FactoryProduct, is_installed_file, user_frame
from metal4conv.mil.program import Dimension, Shape

USUAL_NAMES = {4: {0: "n", 2: "h", 3: "w"}, 3: {0: "n", 1: "t"}, 2: {0: "n", 1: "t"}}
"""How dynamic dimensions are called by an input's rank, where the program does not name them."""

LARGEST = 2**31 - 1


def prepare_program(program: ExportedProgram) -> ExportedProgram:
    """The program in core operations (the training dialect is lowered too)."""
    lowered: ExportedProgram = program.run_decompositions(dict(DECOMPOSITIONS))
    return lowered


SMALL_FLOATS = (torch.float16, torch.bfloat16)


def widen_small_floats(program: ExportedProgram) -> None:
    """Makes float32 of all smaller floats in a program, in place.

    coremltools does not know bfloat16; from float16 weights it makes float16 operations, whatever
    precision is asked for.
    """

    def widened(value: Any) -> Any:  # a tensor, a dtype, or whatever else an operation takes
        if isinstance(value, torch.dtype) and value in SMALL_FLOATS:
            return torch.float32
        if not isinstance(value, torch.Tensor) or value.dtype not in SMALL_FLOATS:
            return value
        wide = value.detach().float()
        is_parameter = isinstance(value, torch.nn.Parameter)
        return torch.nn.Parameter(wide, requires_grad=False) if is_parameter else wide

    for tensors in (program.state_dict, program.constants):
        tensors.update({name: widened(value) for name, value in tensors.items()})
    for node in program.graph.nodes:
        node.args = torch.fx.node.map_aggregate(node.args, widened)
        node.kwargs = torch.fx.node.map_aggregate(node.kwargs, widened)
        if "val" in node.meta:
            node.meta["val"] = torch.utils._pytree.tree_map(widened, node.meta["val"])
    program.graph_module.recompile()


def declared_inputs(program: ExportedProgram) -> list[DeclaredInput]:
    """The user's inputs of an exported program, with their dynamic sizes by name."""
    from metal4conv.frontends.torch import DTYPES

    values = {
        node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"
    }
    names: dict[sympy.Expr, str] = {}
    declared = []
    for item in program.graph_signature.input_specs:
        if item.kind is not InputKind.USER_INPUT:
            continue
        name = item.arg.name
        value = values.get(name)
        if not isinstance(value, torch.Tensor):
            raise UnsupportedModel(
                f'input "{name}" of the exported program is no tensor', hint="export it as a tensor"
            )
        shape: list[int | str | None] = []
        dimensions: dict[str, Dimension] = {}
        for axis, size in enumerate(value.shape):
            if isinstance(size, int):
                shape.append(size)
                continue
            expression = size.node.expr
            label = names.get(expression) or fresh_name(name, axis, value.dim(), names.values())
            names[expression] = label
            dimensions[label] = dimension_of(program, name, axis, size)
            shape.append(label)
        declared.append(DeclaredInput(name, DTYPES[value.dtype], tuple(shape), dimensions))
    if not declared:
        raise UnsupportedModel("the exported program takes no inputs")
    return declared


def fresh_name(name: str, axis: int, rank: int, taken: Any) -> str:
    """A name for a dynamic size: h and w of an image, else by input and axis."""
    usual = USUAL_NAMES.get(rank, {}).get(axis)
    label = usual if usual and usual not in taken else f"{name}_{axis}"
    return re.sub(r"\W", "_", label)


def dimension_of(program: ExportedProgram, name: str, axis: int, size: torch.SymInt) -> Dimension:
    """The range of a size: a symbol, or a multiple of one, which is a step."""
    expression = size.node.expr
    step, symbol = expression.as_coeff_Mul()
    if not symbol.is_Symbol:
        raise UnsupportedModel(
            f'input "{name}" has the size {expression} in dimension {axis}',
            hint="export it with sizes that are dimensions, or multiples of one: 8 * Dim(...)",
        )
    known = program.range_constraints.get(symbol)
    low = max(1, int(known.lower)) if known else 1
    high = int(known.upper) if known and known.upper.is_finite and known.upper < LARGEST else None
    step = int(step)
    hint = size.node._hint
    default = int(hint) if hint is not None else low * step
    return Dimension(low * step, None if high is None else high * step, default, step)


def output_names(program: ExportedProgram) -> tuple[str, ...]:
    """Names of the outputs: keys of a dictionary, fields of a tuple with names, or numbers."""
    user = [
        item for item in program.graph_signature.output_specs if item.kind is OutputKind.USER_OUTPUT
    ]
    mutated = len(program.graph_signature.output_specs) - len(user)
    if mutated:
        raise UnsupportedModel(
            f"the model changes {mutated} of its buffers or inputs when it runs",
            hint="return the new values as outputs, and pass them in again as inputs",
        )
    spec = program.call_spec.out_spec
    return names_of_spec(spec, len(user))


def names_of_spec(spec: Any, count: int) -> tuple[str, ...]:
    """Names for flattened outputs by their structure (a pytree spec, which is untyped)."""
    children = list(spec.children()) if callable(getattr(spec, "children", None)) else []
    keys = spec.context
    if spec.type is not None and len(children) == count and count:
        if isinstance(keys, (list, tuple)) and keys and isinstance(keys[0], (list, tuple)):
            keys = keys[0]  # transformers' ModelOutput keeps (keys, …)
        if isinstance(keys, (list, tuple)) and len(keys) == count:
            return tuple(re.sub(r"\W", "_", str(key)) for key in keys)
        fields = getattr(keys, "_fields", None)
        if fields and len(fields) == count:
            return tuple(fields)
    return ("output",) if count == 1 else tuple(f"output_{index}" for index in range(count))


def export_module(
    module: torch.nn.Module, specs: Sequence[InputSpec], options: SourceOptions
) -> ExportedProgram:
    """A module as an exported program in which the dimensions named by `specs` are dynamic.

    torch.export says when the network cannot vary one of them, and at which line.
    """
    examples = [example_tensor(spec, options) for spec in specs]
    arguments = dict(zip((spec.name for spec in specs), examples, strict=True))
    ranges = {name: row for name, row in options.dimensions.items() if isinstance(row, Dimension)}

    def export(varied: Mapping[str, Dimension]) -> ExportedProgram:
        dynamic = dynamic_shapes(specs, varied)
        shapes = dynamic if any(dynamic.values()) else None
        with quiet(), whole_traces():
            return torch.export.export(module, (), arguments, dynamic_shapes=shapes, strict=False)

    try:
        return export(ranges)
    except Exception as error:  # torch.export raises many kinds, and so does the user's forward
        frozen = [name for name, row in ranges.items() if not succeeds(export, {name: row})]
        if frozen and succeeds(export, {}):
            raise frozen_error(error, frozen, ranges) from error
        raise export_error(error, ranges) from error


@contextmanager
def whole_traces() -> Iterator[None]:
    """Within it, torch.export notes the lines of functions that a forward calls, too.

    By itself it keeps the lines of methods called forward alone.
    """
    tracer: Any = torch.fx.Tracer  # what is replaced is none of its interface
    original = getattr(tracer, "_filter_traceback_frames", None)
    if original is None:
        yield
        return
    is_installed = cache(lambda name: is_installed_file(Path(name).resolve()))

    def kept(self: Any, summary: traceback.StackSummary) -> traceback.StackSummary:
        start = next((at for at, frame in enumerate(summary) if frame.name == "forward"), None)
        frames = [] if start is None else summary[start:]
        own = [frame for frame in frames if not is_installed(frame.filename)]
        return traceback.StackSummary.from_list(own) if own else original(self, summary)

    tracer._filter_traceback_frames = kept
    try:
        yield
    finally:
        tracer._filter_traceback_frames = original


def succeeds(
    export: Callable[[Mapping[str, Dimension]], object], varied: Mapping[str, Dimension]
) -> bool:
    """Whether the module can be exported when only these dimensions vary."""
    try:
        export(varied)
    except Exception:  # whatever it is, it was not there with other dimensions
        return False
    return True


def forward_parameters(module: torch.nn.Module) -> tuple[list[str], list[str]]:
    """The names that a module's forward takes, and those without a default."""
    parameters = inspect.signature(module.forward).parameters.values()
    plain = [
        item for item in parameters if item.kind in (item.POSITIONAL_OR_KEYWORD, item.KEYWORD_ONLY)
    ]
    return [item.name for item in plain], [
        item.name for item in plain if item.default is item.empty
    ]


def complete_specs(made: FactoryProduct, options: SourceOptions) -> list[InputSpec]:
    """What `-i` says about each input of a factory's module, the rest from its examples."""
    from metal4conv.frontends.torch import DTYPES

    names, required = forward_parameters(made.module)
    given = {spec.name: spec for spec in options.inputs}
    for name in given:
        if name not in names:
            raise UsageError(
                f'the model has no input "{name}"', where="--input", hint=did_you_mean(name, names)
            )
    examples = made.examples
    specs = []
    for name in names:
        if name not in given and name not in examples:
            if name in required:
                raise UsageError(
                    f'the shape of input "{name}" is not known',
                    hint=f"give it with -i {name}:1x3x256x256, or let the factory return example "
                    "inputs",
                )
            continue
        example = examples.get(name)
        spec = given.get(name, InputSpec(name))
        if isinstance(example, torch.Tensor):
            shape = spec.shape if spec.shape is not None else tuple(example.shape)
            check_rank(name, shape, tuple(example.shape))
            spec = replace(spec, shape=shape, dtype=spec.dtype or DTYPES[example.dtype])
        elif example is not None and name not in given:
            raise UnsupportedModel(
                f'example input "{name}" is a {type(example).__name__}, expected a tensor'
            )
        if spec.shape is None:
            raise UsageError(
                f'the shape of input "{name}" is not known',
                hint=f"give it with -i {name}:1x3x256x256",
            )
        specs.append(spec)
    return specs


def check_rank(name: str, shape: Shape, example: Shape) -> None:
    """`UsageError` when a given shape has another rank than the factory's example."""
    if len(shape) != len(example):
        raise UsageError(
            f'input "{name}" was given the shape {shape} with {len(shape)} dimensions, the model '
            f"takes {len(example)}: {example}",
            where="--input",
        )


def example_tensor(spec: InputSpec, options: SourceOptions) -> torch.Tensor:
    """A tensor to export with: dynamic sizes at their default, which must not be 0 or 1."""
    sizes = []
    for size in spec.shape or ():
        if isinstance(size, int):
            sizes.append(size)
            continue
        row = options.dimensions.get(size)
        if row is None:
            raise UsageError(
                f'dimension "{size}" of input "{spec.name}" has no range',
                hint=f"give one: --dim {size}=64..1024",
            )
        sizes.append(row if isinstance(row, int) else example_size(row))
    dtype = getattr(torch, source_dtype(spec.dtype))
    return torch.zeros(sizes, dtype=dtype)


def source_dtype(dtype: str | None) -> str:
    """The dtype that a source runs in: float16 at the border is float32 inside the source.

    >>> source_dtype("float16")
    'float32'
    """
    return "float32" if dtype in (None, "float16", "bfloat16", "float64") else str(dtype)


def example_size(row: Dimension) -> int:
    """A size that torch.export does not mistake for a fixed one (it specializes 0 and 1)."""
    if row.default > 1:
        return row.default
    larger = [value for value in row.values if value > 1]
    return larger[0] if larger else max(2, 2 * row.step)


def dynamic_shapes(
    specs: Sequence[InputSpec], dimensions: Mapping[str, Dimension]
) -> dict[str, dict[int, Any]]:
    """torch.export's description of the dynamic sizes, by input and axis."""
    symbols: dict[str, Any] = {}
    for name, row in dimensions.items():
        step = row.step
        low = max(1, row.minimum // step)
        high = None if row.maximum is None else row.maximum // step
        if high is not None and high <= 1:
            continue
        symbol = torch.export.Dim(name if step == 1 else f"{name}_steps", min=low, max=high)
        symbols[name] = symbol if step == 1 else step * symbol
    return {
        spec.name: {
            axis: symbols[size]
            for axis, size in enumerate(spec.shape or ())
            if isinstance(size, str) and size in symbols
        }
        for spec in specs
    }


def frozen_error(
    error: Exception, names: Sequence[str], ranges: Mapping[str, Dimension]
) -> UnsupportedModel:
    """Which dimensions the network cannot vary, what it is tied to, and where."""
    listed = ", ".join(f'"{name}"' for name in names)
    subject = "the dimension" if len(names) == 1 else "the dimensions"
    sizes = ", ".join(f"{name}={example_size(ranges[name])}" for name in names)
    is_constant = re.search(r"specialized it to be a constant", str(error)) is not None
    reason = first_line(error)
    return UnsupportedModel(
        f"the network cannot vary {subject} {listed}: "
        + (
            f"it works only with {sizes}" if is_constant else f"it works with {sizes}, but {reason}"
        ),
        where=user_frame(error),
        hint="give a number, or a step that the network needs (64..256/8), or change the model so "
        "that it reads the size from its input",
    )


def export_error(error: Exception, ranges: Mapping[str, Dimension]) -> UnsupportedModel:
    """torch.export's error in our words, with the line of the model's code."""
    first = first_line(error)
    sizes = ", ".join(f"{name}={example_size(row)}" for name, row in ranges.items())
    return UnsupportedModel(
        f"the model cannot be exported{f' with {sizes}' if sizes else ''}: "
        f"{type(error).__name__}: {first}",
        where=user_frame(error),
        hint="the default of a dimension must be a size that the model takes: --dim "
        f"{next(iter(ranges))}=64..512@256"
        if sizes
        else None,
    )


@contextmanager
def renamed_inputs(
    inputs: Sequence[SourceInput], dimensions: Mapping[str, Dimension]
) -> Iterator[None]:
    """Within it, coremltools takes our inputs instead of deriving them from the program.

    It refuses sizes that are multiples of a dimension, and gives ranges no default.
    """
    from metal4conv.frontends.lowering import tensor_types

    toolkit = coremltools_with("pytorch")
    from coremltools.converters.mil.frontend.torch import exir_utils

    original = exir_utils._construct_ct_input_types_from_torch_user_inputs

    def ours(program: ExportedProgram, user_inputs: Mapping[str, torch.Tensor]) -> list[Any]:
        types = tensor_types(toolkit, inputs, dimensions)
        for item, name in zip(types, user_inputs, strict=True):
            item.name = name
        return types

    exir_utils._construct_ct_input_types_from_torch_user_inputs = ours
    try:
        yield
    finally:
        exir_utils._construct_ct_input_types_from_torch_user_inputs = original
