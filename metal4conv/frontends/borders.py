"""The border of a program: names, dtypes and ranks of its inputs and outputs.

A Metal tensor holds no bool and no 64-bit element, and has at least one dimension. What the source
takes or gives beyond that is cast inside the model, and a finding says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.frontends.names import clean_name
from metal4conv.frontends.source import LoweringRequest, SourceInput
from metal4conv.report import Finding

BORDER_DTYPE = {
    "bool": "int32",
    "int64": "int32",
    "uint64": "int32",
    "uint32": "int32",
    "float64": "float32",
}
"""What stands at the border for a source dtype that no tensor can hold."""

MIL_SPELLING = {"float16": "fp16", "float32": "fp32", "int32": "int32", "bool": "bool"}


def set_borders(
    function: Any,
    inputs: Sequence[SourceInput],
    outputs: Sequence[str] | None,
    request: LoweringRequest,
) -> list[Finding]:
    """Gives inputs and outputs their names and dtypes in place; what was cast is reported.

    Program before and after, for a float16 border:

        main(x: fp32, mask: bool) {   y: fp32 = select(mask, x, 0)   }
        main(x: fp16, mask: int32) {
            inner = select(cast(mask, bool), cast(x, fp32), 0);   y: fp16 = cast(inner, fp16)
        }

    (Any: a coremltools Function.)
    """
    findings = [*cast_inputs(function, inputs, request)]
    findings += set_outputs(function, outputs, request.io_dtype)
    return findings


def border_dtype(dtype: str, float_dtype: str) -> str:
    """The dtype at the border for a value that has `dtype` inside the program.

    >>> border_dtype("float32", "float16"), border_dtype("bool", "float16")
    ('float16', 'int32')
    """
    if "float" in dtype:
        return float_dtype
    return "int32"


def cast_inputs(
    function: Any, inputs: Sequence[SourceInput], request: LoweringRequest
) -> list[Finding]:
    """Changes the dtype of inputs and casts back inside. (Any: a coremltools Function.)"""
    from coremltools.converters.mil.backend.mil.passes.adjust_io_to_supported_types import (
        _adjust_var_dtype_helper,
    )
    from coremltools.converters.mil.mil import Builder, types

    findings = []
    for item in inputs:
        var = function.inputs[item.name]
        inside = types.builtin_to_string(var.dtype)
        float_dtype = request.input_dtypes.get(item.name, request.io_dtype)
        wanted = MIL_SPELLING[border_dtype(item.type.dtype, float_dtype)]
        if cast := source_cast(item.type.dtype):
            findings.append(input_finding(item.name, item.type.dtype, cast))
        if inside == wanted:
            continue
        _adjust_var_dtype_helper(var, types.string_to_builtin(wanted))
        with function:
            first = next(iter(function.operations), None)
            back = Builder.cast(x=var, dtype=inside, before_op=first)
            function.replace_uses_of_var_after_op(
                anchor_op=back.op,
                old_var=var,
                new_var=back,
                force_replace=True,
                no_check_var_types=True,
            )
    return findings


def source_cast(dtype: str) -> str | None:
    """What an input's dtype becomes when no tensor can hold it, None when one can."""
    return BORDER_DTYPE.get(dtype)


def input_finding(name: str, found: str, cast: str) -> Finding:
    """Says that an input of the package has another dtype than the source's."""
    return Finding(
        "info",
        f"{found}-input-cast",
        f'input "{name}" is {found} in the source; a Metal tensor cannot hold that, so the '
        f"package takes {cast} and casts inside",
        where=name,
    )


def set_outputs(function: Any, names: Sequence[str] | None, float_dtype: str) -> list[Finding]:
    """Renames, casts and shapes the outputs. (Any: a coremltools Function.)"""
    from coremltools.converters.mil.mil import Builder, types

    found = list(function.outputs)
    if names is not None and len(names) != len(found):
        raise UsageError(
            f"the model has {len(found)} outputs, {len(names)} names were given", where="--output"
        )
    wanted_names = list(names) if names is not None else [var.name for var in found]
    if len(set(wanted_names)) != len(wanted_names):
        raise UsageError(f"outputs have equal names: {', '.join(wanted_names)}", where="--output")
    if "" in wanted_names or len(set(map(clean_name, wanted_names))) != len(wanted_names):
        raise UsageError(
            f"outputs cannot be told apart by these names: {', '.join(map(repr, wanted_names))}",
            where="--output",
            hint="names in a package are letters, digits and _; whatever else they have becomes _",
        )
    findings: list[Finding] = []
    results: list[Any] = []
    taken = set(function.inputs)
    with function:
        for var, name in zip(found, wanted_names, strict=True):
            if name in taken:
                raise UsageError(
                    f'the name "{name}" is an input and an output', hint="rename it with --output"
                )
            inside = types.builtin_to_string(var.dtype)
            if inside not in ("fp16", "fp32", "int32", "bool", *INTEGERS):
                raise UnsupportedModel(f'output "{name}" is {inside}, which no tensor can hold')
            wanted = MIL_SPELLING[float_dtype] if inside.startswith("fp") else "int32"
            if inside == "bool":
                findings.append(output_finding(name, "bool", "int32"))
            result = var
            if not var.shape:
                result = Builder.reshape(x=result, shape=[1])
            if inside != wanted:
                result = Builder.cast(x=result, dtype=wanted)
            if result is var and needs_own_value(function, var, results):
                result = Builder.identity(x=var)
            results.append(result)
        free_names(function, set(wanted_names))
        for result, name in zip(results, wanted_names, strict=True):
            result.name = name
            result.op.name = name
        function.set_outputs(results)
    return findings


INTEGERS = ("int8", "uint8", "int16", "uint16")


def needs_own_value(function: Any, var: Any, earlier: Sequence[Any]) -> bool:
    """Whether an output is an input too, or an output twice, or a constant."""
    is_input = any(var is item for item in function.inputs.values())
    return is_input or any(var is item for item in earlier) or var.op.op_type == "const"


def free_names(function: Any, wanted: set[str]) -> None:
    """Renames values inside that have a name which an output is to have."""
    for operation in function.operations:
        for var in operation.outputs:
            if var.name in wanted:
                var.name = f"{var.name}_inner"
        if operation.name in wanted:
            operation.name = f"{operation.name}_inner"


def output_finding(name: str, found: str, cast: str) -> Finding:
    """Says that an output of the package has another dtype than the source's."""
    return Finding(
        "info",
        f"{found}-output-cast",
        f'output "{name}" is {found} in the source; a Metal tensor cannot hold that, so the '
        f"package gives {cast}",
        where=name,
    )
