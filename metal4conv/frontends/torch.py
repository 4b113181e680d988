"""PyTorch sources: exported programs, TorchScript files, and factories in Python code."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram

from metal4conv.errors import (
    DamagedFile,
    UnsupportedModel,
    UntrustedFile,
    UsageError,
    first_line,
    last_line,
)
from metal4conv.frontends.lowering import lower_model
from metal4conv.frontends.script_tracing import script_values, trace_script, without_comparisons
from metal4conv.frontends.shapes import DeclaredInput, resolve_inputs
from metal4conv.frontends.source import (
    Lowered,
    LoweringRequest,
    SourceInput,
    SourceOptions,
    check_archive,
)
from metal4conv.frontends.toolkit import quiet
from metal4conv.frontends.torch_errors import lowering_errors
from metal4conv.frontends.torch_export import (
    complete_specs,
    declared_inputs,
    export_module,
    names_of_spec,
    output_names,
    prepare_program,
    renamed_inputs,
    source_dtype,
    widen_small_floats,
)
from metal4conv.frontends.torch_factory import load_factory
from metal4conv.frontends.torch_keywords import unread_keywords_refused
from metal4conv.frontends.torch_operations import (
    check_supported,
    dictionaries_as_tuples,
    unsupported_in_graph,
    unsupported_in_script,
)
from metal4conv.frontends.torch_strings import strings_apart_from_names
from metal4conv.frontends.torch_tracing import program_values, trace_program
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.program import Dimension, TensorType
from metal4conv.report import Finding

DTYPES = {
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
    torch.float64: "float64",
    torch.int64: "int64",
    torch.int32: "int32",
    torch.int16: "int16",
    torch.int8: "int8",
    torch.uint8: "uint8",
    torch.bool: "bool",
}


@dataclass(frozen=True)
class ExportedSource:
    """An exported program, read from a `.pt2` file or exported from a factory's module."""

    kind: str
    name: str
    program: ExportedProgram
    inputs: tuple[SourceInput, ...]
    outputs: tuple[str, ...]
    dimensions: Mapping[str, Dimension]
    files: tuple[Path, ...]
    findings: tuple[Finding, ...] = ()
    module: torch.nn.Module | None = None
    """What a factory made. The program itself refuses the smallest sizes, so this runs instead."""
    framework: str = field(default="pytorch", init=False)

    @cached_property
    def program_module(self) -> torch.nn.Module:
        """The program as a module that can be called."""
        return self.program.module()

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's outputs by name, in float32."""
        tensors = as_tensors(self.inputs, inputs)
        with quiet(), torch.inference_mode():
            if self.module is not None:
                names = (item.name for item in self.inputs)
                results = self.module(**dict(zip(names, tensors, strict=True)))
            else:
                args, named = torch.utils._pytree.tree_unflatten(
                    tensors, self.program.call_spec.in_spec
                )
                results = self.program_module(*args, **named)
        return as_arrays(results, self.outputs)

    @cached_property
    def lowered_program(self) -> ExportedProgram:
        """The program in core operations, which is what the converter takes."""
        with quiet():
            lowered = prepare_program(self.program)
        output_names(lowered)  # the training dialect does not say yet what the model changes
        return lowered

    def lower(self, request: LoweringRequest, work_folder: Path) -> Lowered:
        """The program as Core ML; all operations that cannot be converted are named at once."""
        program = self.lowered_program
        check_supported(unsupported_in_graph(program))
        with (
            renamed_inputs(self.inputs, self.dimensions),
            lowering_errors(self.values),
            unread_keywords_refused(),
            strings_apart_from_names(),
        ):
            return lower_model(
                program,
                convert_from="pytorch",
                inputs=self.inputs,
                outputs=request.output_names or self.outputs,
                dimensions=self.dimensions,
                request=request,
                work_folder=work_folder,
            )

    def values(self) -> tuple[SourceValue, ...]:
        """The nodes of the program in core operations."""
        return program_values(self.lowered_program)

    def trace(
        self, inputs: Mapping[str, np.ndarray], names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """What the nodes of the program in core operations give; floats as float32."""
        tensors = as_tensors(self.inputs, inputs)
        with quiet(), torch.inference_mode():
            found = trace_program(self.lowered_program, tensors, names)
        return {name: as_array(tensor) for name, tensor in found.items()}

    def describe(self) -> dict[str, object]:
        """Operations by type, parameters, and what cannot be converted."""
        counts: dict[str, int] = {}
        for node in self.lowered_program.graph.nodes:
            if node.op == "call_function":
                counts[str(node.target)] = counts.get(str(node.target), 0) + 1
        return {
            "operations": dict(sorted(counts.items())),
            "parameters": sum(value.numel() for value in self.program.state_dict.values()),
            "unsupported": [
                {"operation": item.name, "where": item.place}
                for item in unsupported_in_graph(self.lowered_program)
            ],
        }


@dataclass(frozen=True)
class ScriptSource:
    """A TorchScript module."""

    name: str
    module: Any  # torch.jit.ScriptModule is untyped
    inputs: tuple[SourceInput, ...]
    outputs: tuple[str, ...]
    dimensions: Mapping[str, Dimension]
    files: tuple[Path, ...]
    findings: tuple[Finding, ...] = ()
    framework: str = field(default="pytorch", init=False)
    kind: str = field(default="TorchScript", init=False)

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The module's outputs by name, in float32."""
        with quiet(), torch.inference_mode():
            return as_arrays(self.module(*as_tensors(self.inputs, inputs)), self.outputs)

    def lower(self, request: LoweringRequest, work_folder: Path) -> Lowered:
        """The module as Core ML; all operations that cannot be converted are named at once."""
        check_supported(unsupported_in_script(self.module))
        with dictionaries_as_tuples(), without_comparisons(), lowering_errors(self.values):
            return lower_model(
                self.module,
                convert_from="pytorch",
                inputs=self.inputs,
                outputs=request.output_names or self.outputs,
                dimensions=self.dimensions,
                request=request,
                work_folder=work_folder,
            )

    def values(self) -> tuple[SourceValue, ...]:
        """The values of the module's graph."""
        with quiet():
            return script_values(self.module)

    def trace(
        self, inputs: Mapping[str, np.ndarray], names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """What the values of the module's graph are; floats as float32."""
        with quiet(), torch.inference_mode():
            found = trace_script(self.module, as_tensors(self.inputs, inputs), names)
        return {name: as_array(tensor) for name, tensor in found.items()}

    def describe(self) -> dict[str, object]:
        """Operations by type, parameters, and what cannot be converted."""
        counts: dict[str, int] = {}
        for node in self.module.inlined_graph.nodes():
            counts[node.kind()] = counts.get(node.kind(), 0) + 1
        skipped = ("prim::Constant", "prim::GetAttr")
        return {
            "operations": {key: counts[key] for key in sorted(counts) if key not in skipped},
            "parameters": sum(value.numel() for value in self.module.state_dict().values()),
            "unsupported": [
                {"operation": item.name, "where": item.place}
                for item in unsupported_in_script(self.module)
            ],
        }


def open_exported_program(path: Path, options: SourceOptions) -> ExportedSource:
    """The program in a `.pt2` file; what its declaration leaves open comes from the options."""
    check_exported_archive(path, trust=options.trust)
    try:
        with quiet():
            program = torch.export.load(str(path))
            drop_derived_ranges(program)
            widen_small_floats(program)
    except Exception as error:  # torch raises whatever its many readers do
        raise unreadable_program(path, error) from error
    inputs, dimensions, findings = resolve_inputs(
        declared_inputs(program), options, fix_batch=False
    )
    return ExportedSource(
        "exported program",
        path.stem,
        program,
        inputs,
        output_names(program),
        dimensions,
        (path,),
        findings,
    )


UNKNOWN_CLASS = re.compile(r"namedtuple class (\S+) because|Deserializing (\S+) in pytree")


def unreadable_program(path: Path, error: Exception) -> DamagedFile | UnsupportedModel:
    """Why torch.export.load failed: a class that only the author's code knows, or damage.

    It only logs the reason, so the archive is read once more without it.
    """
    from torch.export.pt2_archive._package import load_pt2

    text = first_line(error)
    try:
        with quiet():
            load_pt2(str(path))
    except Exception as reason:  # torch raises whatever its many readers do
        text = first_line(reason)
        if match := UNKNOWN_CLASS.search(text):
            return UnsupportedModel(
                f"{path} takes or returns a {match[1] or match[2]}, a class that is not known here",
                hint="take tensors and return a dictionary or a tuple of them, or name the "
                "factory of the model instead: file.py:factory",
            )
    return DamagedFile(
        f"{path} cannot be read as an exported program: {text}",
        hint="export it again with torch.export.save of this PyTorch version "
        f"({torch.__version__})",
    )


def drop_derived_ranges(program: ExportedProgram) -> None:
    """Removes ranges of multiples of a symbol, on which torch 2.13's decomposition stumbles.

    torch.export.load puts them where only symbols belong.
    """
    from torch._export.utils import _get_shape_env_from_gm

    environment = _get_shape_env_from_gm(program.graph_module)
    for ranges in (program._range_constraints, environment.var_to_range if environment else {}):
        for expression in [key for key in ranges if not key.is_Symbol]:
            del ranges[expression]


def open_factory(text: str, options: SourceOptions) -> ExportedSource:
    """The module that a factory makes, exported with the inputs and dimensions of the options."""
    made = load_factory(text, options)
    specs = complete_specs(made, options)
    program = export_module(made.module, specs, options)
    declared = [DeclaredInput(spec.name, source_dtype(spec.dtype), None) for spec in specs]
    inputs, dimensions, findings = resolve_inputs(
        declared, replace(options, inputs=tuple(specs)), fix_batch=False
    )
    return ExportedSource(
        "factory",
        made.name,
        program,
        inputs,
        output_names(program),
        dimensions,
        made.files,
        findings,
        made.module,
    )


def open_torchscript(path: Path, options: SourceOptions) -> ScriptSource:
    """The module in a TorchScript file; it says nothing of shapes, so the options must."""
    check_archive(path)
    try:
        with quiet():
            module = torch.jit.load(str(path), map_location="cpu").eval().float()  # type: ignore[no-untyped-call]
    except Exception as error:  # torch raises whatever its many readers do
        raise DamagedFile(
            f"{path} cannot be read as TorchScript: {first_line(error)}",
            hint="save the model again with torch.jit.save",
        ) from error
    declared = [
        DeclaredInput(value.debugName().partition(".")[0], None, None)
        for value in list(module.graph.inputs())[1:]
    ]
    if not declared:
        raise UnsupportedModel(f"{path}: the module takes no inputs")
    # the module was made float32, so its inputs are too
    specs = tuple(replace(spec, dtype=source_dtype(spec.dtype)) for spec in options.inputs)
    inputs, dimensions, findings = resolve_inputs(
        declared, replace(options, inputs=specs), fix_batch=False
    )
    outputs = script_outputs(path, module, inputs, dimensions)
    return ScriptSource(path.stem, module, inputs, outputs, dimensions, (path,), findings)


def script_outputs(
    path: Path,
    module: Any,  # torch.jit.ScriptModule is untyped
    inputs: tuple[SourceInput, ...],
    dimensions: Mapping[str, Dimension],
) -> tuple[str, ...]:
    """Names of a TorchScript module's outputs, found by running it once on zeros."""
    zeros = {
        item.name: np.zeros(
            [default_size(size, dimensions) for size in item.type.shape], item.type.dtype
        )
        for item in inputs
    }
    try:
        with quiet(), torch.inference_mode():
            results = module(*as_tensors(inputs, zeros))
    except Exception as error:  # whatever the user's module raises
        shapes = ", ".join(f"{item.name}: {item.type}" for item in inputs)
        raise UsageError(
            f"{path} does not run with the inputs {shapes}: {last_line(error)}",
            hint="check the shapes and dtypes given with -i",
        ) from error
    flat, spec = torch.utils._pytree.tree_flatten(results)
    return names_of_spec(spec, len(flat))


def default_size(size: int | str, dimensions: Mapping[str, Dimension]) -> int:
    """A size as a number: a named one at its default."""
    return dimensions[size].default if isinstance(size, str) else size


def check_exported_archive(path: Path, *, trust: bool) -> None:
    """`UntrustedFile` when an archive holds pickles that could run code.

    torch.export.load falls back to unrestricted unpickling, so each pickle is tried with the
    restricted reader first.
    """
    check_archive(path)
    if trust:
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                check_member(path, archive, name)
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise DamagedFile(f"{path} is damaged or truncated: {error}") from None


def check_member(path: Path, archive: zipfile.ZipFile, name: str) -> None:
    """Refuses a member of an archive that is, or announces, an unrestricted pickle."""
    hint = "export the model again with this version of PyTorch, or pass --trust if you made it"
    if name.endswith("_config.json"):
        rows = json.loads(archive.read(name)).get("config", {}).values()
        if any(row.get("use_pickle") for row in rows):
            raise UntrustedFile(f"{path} holds pickled tensors ({name})", hint=hint)
    if name.endswith(".pt") and archive.getinfo(name).file_size:
        try:
            torch.load(io.BytesIO(archive.read(name)), weights_only=True)
        except Exception as error:  # the restricted reader refuses with several kinds
            raise UntrustedFile(
                f"{path} holds a pickle that could run code ({name})", hint=hint
            ) from error


def as_tensors(
    declared: tuple[SourceInput, ...], inputs: Mapping[str, np.ndarray]
) -> list[torch.Tensor]:
    """The inputs in their declared order and dtype."""
    return [
        torch.from_numpy(np.array(inputs[item.name])).to(getattr(torch, item.type.dtype))
        for item in declared
    ]


def as_arrays(results: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Flattened outputs by name; floats as float32. (Any: whatever the user's module returns.)"""
    flat, _ = torch.utils._pytree.tree_flatten(results)
    tensors = [item for item in flat if isinstance(item, torch.Tensor)]
    return {name: as_array(value) for name, value in zip(names, tensors, strict=True)}


def as_array(tensor: torch.Tensor) -> np.ndarray:
    """A tensor as an array; floats as float32."""
    wide = tensor.float() if tensor.is_floating_point() else tensor
    array: np.ndarray = wide.detach().cpu().numpy()
    return array


def type_of(tensor: torch.Tensor) -> TensorType:
    """A tensor's type with plain sizes."""
    return TensorType(DTYPES[tensor.dtype], tuple(tensor.shape))
