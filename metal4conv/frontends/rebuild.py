"""A package built again for other input shapes: coremltools infers every type anew."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metal4conv.errors import Metal4ConvError, UnsupportedModel, first_line
from metal4conv.frontends.lowering import (
    element_types,
    run_passes,
    tensor_types,
    write_specification,
)
from metal4conv.frontends.source import Lowered, LoweringRequest, SourceInput
from metal4conv.frontends.toolkit import coremltools_with, quiet, without_bars
from metal4conv.mil.package import Package
from metal4conv.mil.program import Dimension

TARGET_OF_SPECIFICATION = {6: "iOS15", 7: "iOS16", 8: "iOS17", 9: "iOS18", 10: "iOS26"}


def rebuild_package(
    package: Package,
    inputs: Sequence[SourceInput],
    dimensions: Mapping[str, Dimension],
    work_folder: Path,
) -> Lowered:
    """The package's program with inputs of these shapes.

    What became constant is folded, so that a dynamic package made fixed has the operations of one
    that was converted fixed.
    """
    target = TARGET_OF_SPECIFICATION.get(package.specification_version)
    if target is None:
        raise UnsupportedModel(
            f"{package.path} has specification version {package.specification_version}, which "
            "cannot be reshaped"
        )
    if len(package.program.functions) != 1:
        raise UnsupportedModel(
            f"{package.path} has {len(package.program.functions)} functions; only packages "
            "with one can be reshaped"
        )
    toolkit = coremltools_with("none")
    request = LoweringRequest(target)
    with quiet(), without_bars():
        types = tensor_types(toolkit, inputs, dimensions)
        try:
            program = load_program(package, inputs, types)
            run_passes(program, cleanup_pipeline())
        except Metal4ConvError:
            raise
        except (
            ValueError,
            AssertionError,
            NotImplementedError,
            KeyError,
            TypeError,
            MemoryError,
        ) as error:
            reason = first_line(error)
            raise UnsupportedModel(
                f"{package.path} cannot be built with these shapes: {reason}",
                where=getattr(error, "__notes__", ()),
            ) from error
        return write_specification(program, request, work_folder, ())


def load_program(package: Package, inputs: Sequence[SourceInput], types: Sequence[Any]) -> Any:
    """A coremltools Program of the package. (Any: coremltools carries no types.)"""
    from coremltools.converters.mil.frontend.milproto import load as milproto
    from coremltools.converters.mil.mil import Function, Placeholder, Program

    message = type(package.spec)()
    message.CopyFrom(package.spec)
    name = package.default_function
    found = message.mlProgram.functions[name]
    block = found.block_specializations[found.opset]
    forget_shapes(block)
    context = milproto.TranscriptionContext(str(package.model_folder / "weights"))
    elements = element_types()
    placeholders = {}
    program_dtypes = {value.name: value.type for value in package.function(name).inputs}
    for item, tensor_type in zip(inputs, types, strict=True):
        declared = program_dtypes[item.name]
        dtype = elements[getattr(declared, "dtype", item.type.dtype)]
        placeholders[item.name] = Placeholder(
            sym_shape=tensor_type.shape.symbolic_shape, dtype=dtype, name=item.name
        )
        context.register_var_with_name(item.name, placeholders[item.name].outputs[0])
    version = milproto._target(package.specification_version)
    program = Program()
    with Function(placeholders, opset_version=version) as function:
        milproto._load_block(context, block)
    program.add_function(name, function)
    function.set_input_types(tuple(types))
    rename_outputs(function, block.outputs)
    return program


def forget_shapes(block: Any) -> None:
    """Makes all sizes of operations' outputs unknown; they are inferred again. (Any: protobuf.)"""
    for operation in block.operations:
        if operation.type == "const" or operation.type.startswith("constexpr_"):
            continue
        for output in operation.outputs:
            for dimension in output.type.tensorType.dimensions:
                dimension.unknown.variadic = False
        for inner in operation.blocks:
            forget_shapes(inner)


def rename_outputs(function: Any, names: Sequence[str]) -> None:
    """Gives the outputs the names that they had; building made up new ones."""
    for var, name in zip(function.outputs, names, strict=True):
        var.name = name


def cleanup_pipeline() -> Any:
    """The common passes without those that change precision, then those of the backend."""
    from coremltools import PassPipeline

    pipeline = PassPipeline()
    pipeline.remove_passes({"common::add_fp16_cast", "common::add_int16_cast"})
    backend = PassPipeline.get_pipeline("backend_mlprogram")
    pipeline.passes = [*pipeline.passes, *backend.passes]
    return pipeline
