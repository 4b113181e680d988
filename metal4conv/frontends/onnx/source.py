"""ONNX sources: a model file, lowered to MIL by our own operators."""

from __future__ import annotations

import gc
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from metal4conv.errors import Metal4ConvError, UnsupportedModel, UsageError
from metal4conv.frontends.corrections import quick_reshapes
from metal4conv.frontends.lowering import (
    check_request,
    finish_program,
    tensor_types,
)
from metal4conv.frontends.names import feature_names
from metal4conv.frontends.onnx import operators
from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.functions import Functions
from metal4conv.frontends.onnx.graph import LOST, Scope, Walker
from metal4conv.frontends.onnx.model import OnnxModel, is_empty, read_onnx, subgraphs
from metal4conv.frontends.onnx.reference import Reference, open_reference
from metal4conv.frontends.onnx.tracing import graph_values, held_values
from metal4conv.frontends.onnx.value import Value
from metal4conv.frontends.provenance import Held
from metal4conv.frontends.shapes import resolve_inputs
from metal4conv.frontends.source import Lowered, LoweringRequest, SourceInput, SourceOptions
from metal4conv.frontends.toolkit import coremltools_with, quiet, without_bars
from metal4conv.mil.correspondence import SourceValue
from metal4conv.mil.program import Dimension
from metal4conv.report import Finding

HELD = {"int64": "int32", "uint64": "int32", "uint32": "int32", "float64": "float32"}
"""What becomes of the wide dtypes inside a program."""


LARGE = 1 << 28
"""Bytes of weights that are worth a pass of the garbage collector."""


@dataclass(frozen=True)
class OnnxSource:
    """An ONNX model with settled sizes."""

    model: OnnxModel
    inputs: tuple[SourceInput, ...]
    """Under the names that the package has; `model.inputs` has the model's own, in that order,
    and those without elements.
    """
    outputs: tuple[str, ...]
    dimensions: Mapping[str, Dimension]
    findings: tuple[Finding, ...]
    framework: str = field(default="onnx", init=False)
    kind: str = field(default="model", init=False)
    cache: dict[str, Reference] = field(default_factory=dict, init=False, repr=False)

    @property
    def name(self) -> str:
        """The default name of the package."""
        return self.model.path.stem

    @property
    def files(self) -> tuple[Path, ...]:
        """The model's file and those of its external data."""
        return self.model.files

    @property
    def reference(self) -> Reference:
        """What runs the model as it is: onnxruntime, or onnx's own evaluator."""
        if "reference" not in self.cache:
            self.cache["reference"] = open_reference(self.model)
        return self.cache["reference"]

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's outputs by name, floats as float32."""
        results = self.reference.run(self.feeds(inputs))
        return dict(zip(self.outputs, results, strict=True))

    def feeds(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The model's inputs by its own names, those without elements too."""
        feeds = {own: inputs[item.name] for own, item in self.given_inputs()}
        for name, value in self.model.empty_inputs.items():
            assert value.known is not None
            feeds[name] = value.known
        return feeds

    def given_inputs(self) -> Iterator[tuple[str, SourceInput]]:
        """The model's own names of the package's inputs, and these."""
        own = [item.name for item in self.model.inputs if not is_empty(item)]
        return zip(own, self.inputs, strict=True)

    def lower(self, request: LoweringRequest, work_folder: Path) -> Lowered:
        """The model as Core ML; all nodes that cannot be converted are named at once."""
        toolkit = coremltools_with("none")
        check_request(request)
        with quiet(), without_bars(), quick_reshapes():
            program, walker, held = self.lower_program(toolkit, request)
            walker.raise_failures()
            lowered = finish_program(
                program,
                "milinternal",
                self.inputs,
                request.output_names or self.outputs,
                request,
                work_folder,
                held,
            )
        del program, walker
        if self.weight_bytes > LARGE:
            gc.collect()  # a program is full of cycles, which would hold its weights for long
        return replace(lowered, findings=(*lowered.findings, *self.constant_findings()))

    def values(self) -> tuple[SourceValue, ...]:
        """The values of the model's graph."""
        return graph_values(self.model.proto.graph)

    def trace(
        self, inputs: Mapping[str, np.ndarray], names: Collection[str]
    ) -> dict[str, np.ndarray]:
        """What the values of the model's graph are, floats as float32; it runs as `predict`."""
        wanted = [row.name for row in self.values() if row.name in names]
        if not wanted:
            return {}
        results = open_reference(self.model, wanted).run(self.feeds(inputs))
        return dict(zip(wanted, results, strict=True))

    def lower_program(
        self, toolkit: Any, request: LoweringRequest
    ) -> tuple[Any, Walker, list[Held]]:
        """A coremltools Program before any pass, the walker with what it could not lower, and
        which variables hold which of the graph's values.

        (Any: coremltools carries no types.)
        """
        from coremltools.converters.mil.converter import _reset_conversion_state
        from coremltools.converters.mil.mil import Builder, Function, Program

        _reset_conversion_state()
        operators.load()
        types = tensor_types(toolkit, [widened(item) for item in self.inputs], self.dimensions)
        placeholders = {
            item.name: Builder.placeholder(kind.shape.symbolic_shape, dtype=kind.dtype)
            for item, kind in zip(self.inputs, types, strict=True)
        }
        version = getattr(toolkit.target, request.target)
        names = {
            symbol: size
            for item, kind in zip(self.inputs, types, strict=True)
            for size, symbol in zip(item.type.shape, kind.shape.symbolic_shape, strict=False)
            if isinstance(size, str)
        }
        context = Context(
            int(request.target.removeprefix("iOS")),
            positive=frozenset(names),
            dimension_names=names,
        )
        walker = Walker(context, Functions(self.model.proto.functions, self.model.path.parent))
        program = Program()
        with Function(placeholders, opset_version=version) as function:
            scope = Scope(dict(self.model.initializers))
            context.reserve([*placeholders, *self.outputs])
            scope.values |= self.model.empty_inputs
            for own, item in self.given_inputs():
                value = Value(item.type.dtype, function.inputs[item.name])
                scalar = item.type.shape == ()
                scope[own] = context.squeeze(value, [0]) if scalar else value
            results = walker.lower_graph(self.model.proto.graph, scope, self.model.opsets)
            if walker.failures:
                return program, walker, []
            function.set_outputs([self.output_var(context, item) for item in results])
        program.add_function("main", function)
        function.set_input_types(tuple(types))
        return program, walker, held_values(self.model.proto.graph, scope)

    def output_var(self, context: Context, value: Any) -> Any:
        """The variable of an output. (Any: coremltools carries no types.)"""
        if value is LOST or not isinstance(value, Value):
            raise UnsupportedModel("an output of the model is no tensor")
        return context.var(value)

    @property
    def weight_bytes(self) -> int:
        """The bytes of all initializers."""
        arrays = [value.known for value in self.model.initializers.values()]
        return sum(array.nbytes for array in arrays if array is not None)

    def describe(self) -> dict[str, object]:
        """Operators by type, parameters, and what cannot be converted."""
        counts = Counter(
            f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            for node in nodes_of(self.model.proto.graph)
        )
        return {
            "operations": dict(sorted(counts.items())),
            "parameters": sum(math.prod(value.shape) for value in self.model.initializers.values()),
            "unsupported": [
                {"operation": error.message, "where": "; ".join(error.where)}
                for error in self.failures()
            ],
        }

    def failures(self) -> list[Metal4ConvError]:
        """What stands in the way of a conversion."""
        toolkit = coremltools_with("none")
        with quiet(), without_bars(), quick_reshapes():
            return self.lower_program(toolkit, LoweringRequest())[1].failures

    def constant_findings(self) -> list[Finding]:
        """Says which wide dtypes of constants became narrower ones."""
        found = Counter(
            value.dtype for value in self.model.initializers.values() if value.dtype in HELD
        )
        return [
            Finding(
                "info",
                f"{dtype}-constants",
                f"{count} {dtype} constants are {HELD[dtype]} in the package",
            )
            for dtype, count in sorted(found.items())
        ]


def widened(item: SourceInput) -> SourceInput:
    """An input as the program has it before any pass: small floats are float32."""
    dtype = "float32" if "float" in item.type.dtype else item.type.dtype
    return replace(item, type=replace(item.type, dtype=dtype))


def nodes_of(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """All nodes of a graph and of the graphs within."""
    for node in graph.node:
        yield node
        for inner in subgraphs(node):
            yield from nodes_of(inner)


def open_onnx(path: Path, options: SourceOptions) -> OnnxSource:
    """The model in an ONNX file; what its inputs leave open comes from the options."""
    for given, option in ((options.signature, "--signature"), (options.weights, "--weights")):
        if given is not None:
            raise UsageError(
                "an ONNX model comes with its weights and has one function", where=option
            )
    model = read_onnx(path)
    own = [item for item in model.inputs if not is_empty(item)]
    names, outputs, renamed = feature_names([item.name for item in own], list(model.outputs))
    declared = [replace(item, name=name) for item, name in zip(own, names, strict=True)]
    inputs, dimensions, findings = resolve_inputs(declared, options, fix_batch=True)
    left_out = tuple(
        Finding(
            "info",
            "empty-input",
            f'input "{name}" has no elements, so it is none of the package',
            where=name,
        )
        for name in model.empty_inputs
    )
    return OnnxSource(model, inputs, outputs, dimensions, (*renamed, *findings, *left_out))
