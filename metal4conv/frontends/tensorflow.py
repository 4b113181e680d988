"""TensorFlow sources: SavedModel folders, Keras files, and frozen graphs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.frontends.graphdef import read_frozen_graph
from metal4conv.frontends.keras import read_keras
from metal4conv.frontends.lowering import (
    check_request,
    finish_program,
    target_version,
    tensor_types,
)
from metal4conv.frontends.savedmodel import read_saved_model
from metal4conv.frontends.shapes import resolve_inputs
from metal4conv.frontends.source import Lowered, LoweringRequest, SourceInput, SourceOptions
from metal4conv.frontends.tensorflow_graph import (
    FrozenGraph,
    conversion_errors,
    freeze,
    program_from_graph,
)
from metal4conv.frontends.tensorflow_model import TensorFlowModel
from metal4conv.frontends.tensorflow_runtime import first_line, load_tensorflow
from metal4conv.frontends.tensorflow_tracing import graph_values, trace_graph
from metal4conv.frontends.toolkit import coremltools_with, quiet, without_bars
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.program import Dimension
from metal4conv.report import Finding


@dataclass(frozen=True)
class TensorFlowSource:
    """A TensorFlow function with settled sizes."""

    model: TensorFlowModel
    inputs: tuple[SourceInput, ...]
    dimensions: Mapping[str, Dimension]
    findings: tuple[Finding, ...]
    function: Any  # a tf.types.experimental.ConcreteFunction
    framework: str = field(default="tensorflow", init=False)

    @property
    def kind(self) -> str:
        """What the model came in."""
        return self.model.kind

    @property
    def name(self) -> str:
        """The default name of the package."""
        return self.model.name

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the outputs, in the model's order."""
        return self.model.outputs

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that were read."""
        return self.model.files

    @cached_property
    def graph(self) -> FrozenGraph:
        """The model as one graph without variables and calls."""
        with quiet():
            return freeze(self.function)

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's outputs by name, computed by TensorFlow on the CPU."""
        tensorflow = load_tensorflow()
        with quiet():
            try:
                results = self.function(*self.tensors(inputs))
            except (tensorflow.errors.OpError, ValueError) as error:
                raise UsageError(
                    f"the model cannot run on these inputs: {first_line(error)}"
                ) from error
        return {name: result.numpy() for name, result in zip(self.outputs, results, strict=True)}

    def lower(self, request: LoweringRequest, work_folder: Path) -> Lowered:
        """The model as Core ML; all operations that cannot be converted are named at once."""
        toolkit = coremltools_with("tensorflow")
        check_request(request)
        if missing := self.graph.missing_operations():
            raise UnsupportedModel(
                f"{len(missing)} operations of the model cannot be converted: "
                + ", ".join(dict.fromkeys(item.name for item in missing)),
                where=[f"{item.name}: {item.place}" for item in missing],
                hint="replace them in the model, or move them out of it into the app",
            )
        with quiet(), without_bars(), conversion_errors(self.dimensions):
            types = tensor_types(toolkit, self.inputs, self.dimensions)
            program, held = program_from_graph(self.graph, types, target_version(request))
            return finish_program(
                program,
                "tensorflow2",
                self.inputs,
                request.output_names or self.outputs,
                request,
                work_folder,
                held,
            )

    def values(self) -> tuple[SourceValue, ...]:
        """The values of the frozen graph."""
        return graph_values(self.graph.definition)

    def trace(
        self, inputs: Mapping[str, np.ndarray], names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """What the values of the frozen graph are, computed by TensorFlow on the CPU."""
        with quiet():
            own = [item.name for item in self.inputs]
            return trace_graph(self.graph.definition, own, self.tensors(inputs), names)

    def tensors(self, inputs: Mapping[str, np.ndarray]) -> list[Any]:
        """The inputs as TensorFlow's tensors in their order. (Any: TensorFlow has no types.)"""
        tensorflow = load_tensorflow()
        return [
            tensorflow.constant(np.asarray(inputs[item.name], item.type.dtype))
            for item in self.inputs
        ]

    def describe(self) -> dict[str, object]:
        """Operations by type, parameters, and what cannot be converted."""
        return {
            "operations": self.graph.operation_counts(),
            "parameters": self.model.parameters,
            "unsupported": [
                {"operation": item.name, "where": item.place}
                for item in self.graph.missing_operations()
            ],
        }


def open_saved_model(path: Path, options: SourceOptions) -> TensorFlowSource:
    """A SavedModel folder; `--signature` picks one of its functions."""
    return settle_sizes(read_saved_model(path, options.signature), options)


def open_keras(path: Path, options: SourceOptions) -> TensorFlowSource:
    """A `.keras` or `.h5` file."""
    return settle_sizes(read_keras(path, trust=options.trust), options)


def open_frozen_graph(path: Path, options: SourceOptions) -> TensorFlowSource:
    """A frozen `.pb` graph."""
    return settle_sizes(read_frozen_graph(path), options)


def settle_sizes(model: TensorFlowModel, options: SourceOptions) -> TensorFlowSource:
    """The model traced with the sizes that it and the user say."""
    if options.signature is not None and model.kind != "SavedModel":
        raise UsageError(f"a {model.kind} has no signatures", where="--signature")
    if options.weights is not None:
        raise UsageError(
            f"a {model.kind} comes with its weights", where="--weights", hint="leave --weights out"
        )
    if not model.inputs:
        raise UnsupportedModel("the model has no inputs, so it always gives the same outputs")
    inputs, dimensions, findings = resolve_inputs(model.inputs, options, fix_batch=True)
    function = trace(model, inputs)
    return TensorFlowSource(model, inputs, dimensions, (*model.findings, *findings), function)


def trace(model: TensorFlowModel, inputs: tuple[SourceInput, ...]) -> Any:
    """The model as a concrete function of its inputs in order; named sizes stay dynamic.

    (Any: TensorFlow carries no types.)
    """
    tensorflow = load_tensorflow()
    specs = [
        tensorflow.TensorSpec(
            [None if isinstance(size, str) else size for size in item.type.shape],
            item.type.dtype,
            item.name,
        )
        for item in inputs
    ]

    def call(*tensors: Any) -> list[Any]:
        return [
            tensorflow.identity(result) for result in model.call(tensors)
        ]  # an output that is an input would have no node of its own

    try:
        with quiet():
            return tensorflow.function(call, autograph=False).get_concrete_function(*specs)
    except (tensorflow.errors.OpError, ValueError, TypeError, RuntimeError) as error:
        shapes = [f'input "{item.name}": {item.type}' for item in inputs]
        raise UsageError(
            f"the model does not work with these sizes: {first_line(error)}", where=shapes
        ) from error
