"""Walks an ONNX graph, node by node; what cannot be lowered is collected and told at once.

A node whose inputs are all constants is folded with onnx's own reference implementation. One with
no lowering of its own is replaced by its function body, from the model or from the standard.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import onnx

from metal4conv.errors import Metal4ConvError, UnsupportedModel, first_line
from metal4conv.frontends.names import clean_name
from metal4conv.frontends.onnx.attributes import Attributes, attributes_of
from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.emitter import Place
from metal4conv.frontends.onnx.folding import fold_node
from metal4conv.frontends.onnx.functions import Functions
from metal4conv.frontends.onnx.schema import mixed_dtypes, result_dtypes
from metal4conv.frontends.onnx.table import ONNX_OPS, Lowering, qualified_name
from metal4conv.frontends.onnx.tensors import array_of
from metal4conv.frontends.onnx.value import Value

Opsets = Mapping[str, int]

FAILURES = (
    ValueError,
    NotImplementedError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
)
"""What coremltools and numpy raise for an operation that does not hold together."""


OLDEST = 7
"""Before it, operators broadcast by attributes."""


@cache
def keywords_of(handler: Lowering) -> tuple[str, ...]:
    """The attributes that a lowering takes."""
    parameters = inspect.signature(handler).parameters.values()
    return tuple(item.name for item in parameters if item.kind is item.KEYWORD_ONLY)


class Unavailable(Exception):
    """A value that there is not, since the node that gives it could not be lowered."""


@dataclass
class Scope:
    """The values of a graph by name; those of the graph around it are seen too."""

    values: dict[str, Any] = field(default_factory=dict)  # Any: a Value, a sequence, or None
    outer: Scope | None = None

    def __getitem__(self, name: str) -> Any:
        scope: Scope | None = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.outer
        raise KeyError(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self.values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self.values or (self.outer is not None and name in self.outer)


LOST = object()
"""Stands for an output of a node that could not be lowered."""


@dataclass
class Walker:
    """Lowers graphs into the current block of a program."""

    context: Context
    functions: Functions
    failures: list[Metal4ConvError] = field(default_factory=list)

    def lower_graph(
        self, graph: onnx.GraphProto, scope: Scope, opsets: Opsets, outer: Attributes | None = None
    ) -> list[Any]:
        """The outputs of a graph whose inputs and initializers stand in `scope`."""
        self.lower_nodes(graph.node, scope, opsets, outer or {}, "")
        return [scope[item.name] for item in graph.output]

    def lower_nodes(
        self,
        nodes: Iterable[onnx.NodeProto],
        scope: Scope,
        opsets: Opsets,
        outer: Mapping[str, onnx.AttributeProto],
        prefix: str,
    ) -> None:
        """Lowers nodes in their order; their outputs appear in `scope`."""
        for node in nodes:
            before = self.context.place
            opset = opsets.get("" if node.domain == "ai.onnx" else node.domain, 0)
            self.context.place = Place(
                qualified_name(node.domain, node.op_type),
                node.name,
                opset,
                tuple(f"{prefix}{name}" if name else "" for name in node.output),
            )
            try:
                outputs = self.lower_node(node, scope, opsets, outer)
            except Unavailable:
                outputs = [LOST] * len(node.output)
            except UnsupportedModel as error:
                self.failures.append(error)
                outputs = [LOST] * len(node.output)
            for name, value in zip(node.output, outputs, strict=False):
                if name:
                    scope[name] = value
            self.context.place = before

    def lower_node(
        self,
        node: onnx.NodeProto,
        scope: Scope,
        opsets: Opsets,
        outer: Mapping[str, onnx.AttributeProto],
    ) -> Sequence[Any]:
        """The outputs of a node: folded, lowered, or those of its function body."""
        inputs = [scope[name] if name else None for name in node.input]
        if any(item is LOST for item in inputs):
            raise Unavailable
        place = self.context.place
        if folded := fold_node(node, inputs, place.opset, outer):
            return folded
        attributes = attributes_of(node, outer)
        function = self.functions.of_model(node)
        if function is None and place.operator not in ONNX_OPS:
            function = self.functions.of_standard(node, inputs, place.opset, outer)
            if function is None:
                raise self.unknown_operator(node)
        if function is not None:
            return self.lower_function(node, function, inputs, opsets, outer)
        handler = ONNX_OPS.lookup(place.operator, place.opset)
        self.check_attributes(handler, attributes)
        around = self.context.lower_subgraph
        self.context.lower_subgraph = lambda graph, given: self.lower_body(
            graph, given, scope, opsets, outer
        )
        try:
            results = handler(self.context, *inputs, **attributes)
        except Metal4ConvError:
            raise
        except FAILURES as error:
            raise self.context.unsupported(self.failure(node, inputs, error)) from error
        finally:
            self.context.lower_subgraph = around
        outputs = results if isinstance(results, tuple) else (results,)
        stamped = self.stamped(node, inputs, outputs, attributes)
        return [self.named(item, name) for item, name in zip(stamped, place.outputs, strict=False)]

    def check_attributes(self, handler: Lowering, attributes: Attributes) -> None:
        """`UnsupportedModel` for an attribute that the operator does not have in this opset."""
        known = keywords_of(handler)
        for name in attributes:
            if name not in known:
                raise self.context.unsupported(
                    f'attribute "{name}" is not known in opset {self.context.place.opset}'
                    + (f" (known: {', '.join(known)})" if known else ""),
                    hint="export the model with opset 7 or newer"
                    if self.context.place.opset < OLDEST
                    else None,
                )

    def failure(self, node: onnx.NodeProto, inputs: Sequence[Any], error: Exception) -> str:
        """Why a lowering failed: operands of several dtypes, else what coremltools says."""
        given = [item.dtype if isinstance(item, Value) else None for item in inputs]
        if mixed := mixed_dtypes(node, self.context.place.opset, given):
            return f"{mixed}; ONNX takes one dtype for them"
        shapes = ", ".join(
            f'"{name}" {item.dtype}{list(item.shape)}'
            for name, item in zip(node.input, inputs, strict=True)
            if isinstance(item, Value)
        )
        return f"cannot be lowered with {shapes or 'no inputs'}: {first_line(error)}"

    def unknown_operator(self, node: onnx.NodeProto) -> UnsupportedModel:
        """The error for an operator without lowering and without function body."""
        name = qualified_name(node.domain, node.op_type)
        known = onnx.defs.has(node.op_type, node.domain)
        what = "cannot be converted" if known else "is not known here"
        return UnsupportedModel(
            f"ONNX operator {name} {what}",
            where=str(self.context.place),
            hint="replace it in the model, or move it out of the model into the app",
        )

    def stamped(
        self,
        node: onnx.NodeProto,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        attributes: Attributes,
    ) -> list[Any]:
        """The outputs with the dtypes that the operator's schema says."""
        given = [item.dtype if isinstance(item, Value) else None for item in inputs]
        dtypes = result_dtypes(node, self.context.place.opset, given, attributes, len(outputs))
        return [
            item.with_dtype(dtype)
            if isinstance(item, Value) and dtype and item.dtype != dtype
            else item
            for item, dtype in zip(outputs, dtypes, strict=True)
        ]

    def named(self, value: Any, name: str) -> Any:
        """The value, whose new variable has the name that the model gives it."""
        if isinstance(value, Value) and value.var is not None and name:
            self.context.name_result(value.var, clean_name(name))
        return value

    def lower_function(
        self,
        node: onnx.NodeProto,
        function: onnx.FunctionProto,
        inputs: Sequence[Any],
        around: Opsets,
        outer: Mapping[str, onnx.AttributeProto],
    ) -> list[Any]:
        """The outputs of a function's body with a node's inputs and attributes.

        A body that does not say the opset of a domain has that of the graph around it.
        """
        padded = [*inputs, *[None] * (len(function.input) - len(inputs))]
        scope = Scope(dict(zip(function.input, padded, strict=False)))
        given = self.functions.call_attributes(node, function, outer)
        opsets = {**around, **{item.domain: item.version for item in function.opset_import}}
        prefix = f"{next((name for name in self.context.place.outputs if name), node.name)}/"
        before = len(self.failures)
        self.lower_nodes(function.node, scope, opsets, given, prefix)
        if len(self.failures) > before:
            raise Unavailable
        wanted = list(function.output)[: len(node.output)]
        place = self.context.place
        return [
            self.named(scope[name], given)
            for name, given in zip(wanted, place.outputs, strict=False)
        ]

    def lower_body(
        self,
        graph: onnx.GraphProto,
        given: Sequence[Value],
        scope: Scope,
        opsets: Opsets,
        outer: Mapping[str, onnx.AttributeProto],
    ) -> list[Value]:
        """The outputs of a subgraph, lowered into the current block."""
        inner = Scope(outer=scope)
        for tensor in graph.initializer:
            found = array_of(tensor, self.functions.folder)
            inner[tensor.name] = Value(found.dtype, known=found.array)
        for item, value in zip(graph.input, given, strict=False):
            inner[item.name] = value
        before = len(self.failures)
        self.lower_nodes(graph.node, inner, opsets, outer, f"{self.context.place.name}/")
        if len(self.failures) > before:
            raise Unavailable
        results = [inner[item.name] for item in graph.output]
        if any(item is LOST for item in results):
            raise Unavailable
        return results

    def raise_failures(self) -> None:
        """One error for everything that could not be lowered."""
        if not self.failures:
            return
        if len(self.failures) == 1:
            raise self.failures[0]
        messages = list(dict.fromkeys(error.message for error in self.failures))
        places = [
            f"{place}: {error.message}" for error in self.failures for place in error.where[:1]
        ]
        raise UnsupportedModel(
            f"{len(self.failures)} nodes of the model cannot be converted: {'; '.join(messages)}",
            where=places,
            hint=next((error.hint for error in self.failures if error.hint), None),
        )
