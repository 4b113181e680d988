"""From a model in its framework to a Core ML specification, through coremltools' parts.

`coremltools.convert` is not used: it validates the whole program after each of its 107 passes,
which is a third of the time of converting a vision transformer, and knows nothing of our inputs
and outputs. The parts are the same: frontend, pass pipelines, backend.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.frontends.attention import FUSED_SINCE, fuse_attention
from metal4conv.frontends.borders import set_borders
from metal4conv.frontends.corrections import (
    exact_floors,
    exact_reciprocals,
    fast_range_checks,
    scalars_beside_layers,
)
from metal4conv.frontends.mixed import kept_in_float32
from metal4conv.frontends.names import RESERVED
from metal4conv.frontends.provenance import (
    Held,
    followed,
    recorded_values,
    settle,
    surviving_values,
)
from metal4conv.frontends.shapes import INTEGERS
from metal4conv.frontends.source import Lowered, LoweringRequest, SourceInput
from metal4conv.frontends.toolkit import Framework, coremltools_with, quiet, without_bars
from metal4conv.mil.program import Dimension
from metal4conv.mil.schema import deterministic_bytes
from metal4conv.report import Finding

TARGETS = ("iOS15", "iOS16", "iOS17", "iOS18")
"""Opsets by their iOS version; iOS18 is macOS 15. The newest one (iOS 26) has crashed Apple's
package builder and is left out until it does not."""

UNBOUNDED = 2**31 - 1
"""Core ML refuses a range without an upper bound in an ML Program; this stands for one."""


def lower_model(
    model: Any,  # what coremltools' frontend takes
    *,
    convert_from: str,
    inputs: Sequence[SourceInput],
    outputs: Sequence[str] | None,
    dimensions: Mapping[str, Dimension],
    request: LoweringRequest,
    work_folder: Path,
) -> Lowered:
    """The specification and weights of a model that a coremltools frontend can read.

    `outputs` renames the outputs in their order; None keeps the frontend's names.
    """
    framework: Framework = "pytorch" if convert_from == "pytorch" else "tensorflow"
    toolkit = coremltools_with(framework)
    check_request(request)
    with quiet(), without_bars():
        frontend_inputs = tensor_types(toolkit, inputs, dimensions)
        with recorded_values() as held:
            program = run_frontend(model, convert_from, frontend_inputs, request)
        return finish_program(program, convert_from, inputs, outputs, request, work_folder, held)


def finish_program(
    program: Any,  # a coremltools Program, fresh from its frontend
    convert_from: str,
    inputs: Sequence[SourceInput],
    outputs: Sequence[str] | None,
    request: LoweringRequest,
    work_folder: Path,
    held: list[Held],
) -> Lowered:
    """Sets the border of the program, runs the passes and the backend.

    `held` says which of its variables hold which values of the source, and is emptied.
    """
    check_words([item.name for item in inputs], outputs or ())
    origins = settle(program, held)
    with followed(origins):
        findings = transform(program, convert_from, inputs, outputs, request)
    values = surviving_values(program.functions["main"], origins)
    return replace(write_specification(program, request, work_folder, findings), values=values)


def transform(
    program: Any,  # a coremltools Program, as above
    convert_from: str,
    inputs: Sequence[SourceInput],
    outputs: Sequence[str] | None,
    request: LoweringRequest,
) -> list[Finding]:
    """Runs all passes; what to know of the border."""
    # operations that we add have no place in the source; coremltools would refuse them
    for function in program.functions.values():
        function._essential_scope_sources.clear()
        exact_reciprocals(function)
        exact_floors(function)
    frontend, main, backend = pipelines(convert_from, request)
    run_passes(program, frontend)
    # coremltools' frontend for PyTorch keeps attention whole
    if convert_from != "pytorch" and int(request.target.removeprefix("iOS")) >= FUSED_SINCE:
        fuse_attention(program)
    findings = set_borders(program.functions["main"], inputs, outputs, request)
    with fast_range_checks(), scalars_beside_layers(), kept_in_float32(request):
        run_passes(program, main)
    run_passes(program, backend)
    check_ranks(program.functions["main"])
    program._check_early_error_out_for_invalid_program()
    return findings


def check_words(inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """`UsageError` for a name that is a word of MIL: coremltools would change it in silence."""
    for role, names in (("input", inputs), ("output", outputs)):
        for name in RESERVED.intersection(names):
            raise UsageError(
                f'{role} "{name}": this is a word of MIL, and no name',
                hint="rename the argument of the model"
                if role == "input"
                else "name the outputs with --output",
            )


MOST_DIMENSIONS = 5
"""What Core ML takes of a tensor in an ML Program."""


def check_ranks(function: Any) -> None:
    """`UnsupportedModel` for values of more dimensions than Core ML takes.

    (Any: a coremltools Function.)
    """
    from coremltools.converters.mil.mil import types

    large = [
        f"{var.name} ({operation.op_type}): {var.rank} dimensions"
        for operation in function.operations
        for var in operation.outputs
        if types.is_tensor(var.sym_type) and var.rank > MOST_DIMENSIONS
        if operation.op_type != "const"
    ]
    if large:
        raise UnsupportedModel(
            f"Core ML's tensors have at most {MOST_DIMENSIONS} dimensions",
            where=large[:MOST_DIMENSIONS],
            hint="write the model with tensors of fewer dimensions",
        )


def check_request(request: LoweringRequest) -> None:
    """`UsageError` for a target or a combination that there is not."""
    if request.target not in TARGETS:
        raise UsageError(
            f'there is no target "{request.target}"',
            where="--target",
            hint=f"one of: {', '.join(TARGETS)}",
        )
    if request.target == "iOS15" and "float16" in (
        request.io_dtype,
        *request.input_dtypes.values(),
    ):
        raise UsageError(
            "iOS15 packages cannot have float16 inputs and outputs",
            where="--target",
            hint="take --target iOS16 or newer, or --io-precision float32",
        )


def tensor_types(
    toolkit: Any, inputs: Sequence[SourceInput], dimensions: Mapping[str, Dimension]
) -> list[Any]:  # coremltools TensorType
    """The inputs in coremltools' words; one range object a dimension, so that equal sizes stay
    known to be equal.
    """
    ranges = {
        name: toolkit.RangeDim(
            lower_bound=row.minimum,
            upper_bound=UNBOUNDED if row.maximum is None else row.maximum,
            default=row.default,
        )
        for name, row in dimensions.items()
    }
    types = element_types()
    return [
        toolkit.TensorType(
            name=item.name,
            shape=tuple(ranges[size] if isinstance(size, str) else size for size in item.type.shape)
            or (1,),
            dtype=types[item.type.dtype],
        )
        for item in inputs
    ]


def element_types() -> dict[str, Any]:
    """coremltools' element types by our names, as its frontends take them for inputs."""
    from coremltools.converters.mil.mil import types

    return {
        "float16": types.fp16,
        "float32": types.fp32,
        "float64": types.fp32,
        "bool": types.bool,
        "bfloat16": types.fp32,
        **dict.fromkeys(INTEGERS, types.int32),
    }


def run_frontend(
    model: Any, convert_from: str, frontend_inputs: list[Any], request: LoweringRequest
) -> Any:
    """A coremltools Program in float32, before any pass. (Any: coremltools carries no types.)"""
    from coremltools.converters.mil.converter import ConverterRegistry, _reset_conversion_state

    _reset_conversion_state()
    frontend = ConverterRegistry.frontends[convert_from]()
    return frontend(
        model,
        inputs=frontend_inputs,
        outputs=None,
        specification_version=target_version(request),
        convert_from=convert_from,
        convert_to="mlprogram",
        debug=False,
    )


def target_version(request: LoweringRequest) -> Any:
    """The specification version of the target (an enum of coremltools)."""
    from coremltools import target

    return getattr(target, request.target).value


def pipelines(convert_from: str, request: LoweringRequest) -> tuple[Any, Any, Any]:
    """The frontend's, the common, and the backend's passes."""
    from coremltools import PassPipeline
    from coremltools.converters.mil.converter import _construct_other_pipelines

    main = PassPipeline()
    # int16 arithmetic on indices saves nothing here and overflows with large dynamic sizes
    main.remove_passes({"common::add_int16_cast"})
    if convert_from == "milinternal":
        # operators of ONNX wrap negative indices themselves, where there may be any
        main.remove_passes({"common::guard_negative_gather_indices"})
    if request.precision == "float32":
        main.remove_passes({"common::add_fp16_cast"})
    frontend, backend = _construct_other_pipelines(main, convert_from, "mlprogram")
    return frontend, main, backend


def run_passes(program: Any, pipeline: Any) -> None:
    """Applies the passes; the program is checked once at the end, not after each of them."""
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    for name in pipeline.passes:
        step = PASS_REGISTRY[name]
        step.set_options(pipeline.get_options(name))
        try:
            step(program)
        except Exception as error:
            error.add_note(f"while running the pass {name}")
            raise
    program.validate()


def write_specification(
    program: Any, request: LoweringRequest, work_folder: Path, findings: Sequence[Finding]
) -> Lowered:
    """Runs the backend: weights go to a folder, the rest becomes a `Model` message."""
    from coremltools.converters.mil.backend.mil.load import load as run_backend
    from coremltools.converters.mil.converter import _reset_conversion_state

    weights_folder = work_folder / "weights"
    weights_folder.mkdir(parents=True, exist_ok=True)
    spec = run_backend(
        program, weights_dir=str(weights_folder), specification_version=target_version(request)
    )
    _reset_conversion_state()
    main = spec.mlProgram.functions["main"]
    if not main.inputs:
        raise UnsupportedModel("the model has no inputs that its outputs depend on")
    return Lowered(deterministic_bytes(spec), weights_folder, tuple(findings))
