"""A frozen TensorFlow graph: made from a function, looked into, and read by coremltools."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.provenance import Held, recorded_nodes
from metal4conv.frontends.tensorflow_loops import (
    keep_loop_counters,
    known_to_tensorflow,
    name_blocks,
)
from metal4conv.frontends.tensorflow_runtime import first_line, load_tensorflow
from metal4conv.frontends.tensorflow_tracing import changed_nodes

SKIPPED = frozenset({"NoOp", "Assert", "Placeholder", "Const", "Identity"})
"""Operations that compute nothing."""

WRITES = re.compile(r"Assign\w*Variable\w*|Assign|AssignAdd|AssignSub|Resource(Apply|Scatter)\w*")
"""Operations that write a variable."""

LOOSE = frozenset({"If", "StatelessIf", "While", "StatelessWhile", "PartitionedCall"})
"""Operations that coremltools' graph passes rewrite before its table of operations is asked."""


@dataclass(frozen=True)
class MissingOperation:
    """An operation that cannot be converted, and the node that needs it."""

    name: str
    place: str


@dataclass(frozen=True)
class FrozenGraph:
    """A graph whose variables have become constants and whose calls are inlined.

    `definition` is a GraphDef (Any: protobuf classes carry no types), `outputs` are its nodes.
    """

    definition: Any
    outputs: tuple[str, ...]

    def nodes(self) -> list[Any]:
        """All nodes, those of branches and loop bodies after the main graph's."""
        nodes = list(self.definition.node)
        for function in self.definition.library.function:
            nodes += function.node_def
        return nodes

    def operation_counts(self) -> dict[str, int]:
        """How often each operation stands in the graph, in alphabetical order."""
        counts = Counter(node.op for node in self.nodes() if node.op not in SKIPPED)
        return dict(sorted(counts.items()))

    def missing_operations(self) -> list[MissingOperation]:
        """The operations that coremltools' frontend has no converter for."""
        known = known_operations() | SKIPPED | LOOSE
        return [MissingOperation(n.op, f"node {n.name}") for n in self.nodes() if n.op not in known]


def known_operations() -> frozenset[str]:
    """TensorFlow operations that can be converted, ours among them."""
    from metal4conv.frontends.tensorflow_ops import register_operations
    from metal4conv.frontends.toolkit import coremltools_with

    coremltools_with("tensorflow")
    return register_operations()


def freeze(function: Any) -> FrozenGraph:  # Any: a tf.types.experimental.ConcreteFunction
    """The graph of a function, its variables as constants, all calls inlined, constants folded.

    y = StatefulPartitionedCall(x, w)  ->  y = MatMul(x, Const)
    """
    from tensorflow.lite.python.util import get_grappler_config, run_graph_optimizations
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    tensorflow = load_tensorflow()
    check_variables_stay(function.graph)
    frozen = convert_variables_to_constants_v2(
        function, lower_control_flow=False, aggressive_inlining=True
    )
    definition = run_graph_optimizations(
        frozen.graph.as_graph_def(add_shapes=True),
        [tensor for tensor in frozen.inputs if tensor.dtype != tensorflow.resource],
        frozen.outputs,
        config=get_grappler_config(["constfold", "dependency", "debug_stripper"]),
        graph=frozen.graph,
    )
    keep_loop_counters(definition)
    name_blocks(definition)
    return FrozenGraph(definition, tuple(tensor.op.name for tensor in frozen.outputs))


def check_variables_stay(graph: Any) -> None:  # Any: a tf.Graph
    """`UnsupportedModel` when the model writes its variables: they become constants here."""
    definition = graph.as_graph_def()
    nodes = [node for item in definition.library.function for node in item.node_def]
    writers = [node for node in (*definition.node, *nodes) if WRITES.fullmatch(node.op)]
    if writers:
        raise UnsupportedModel(
            "the model changes its own variables when it runs",
            where=[f"node {node.name} ({node.op})" for node in writers],
            hint="make what changes an input and an output of the model",
        )


def program_from_graph(
    graph: FrozenGraph, inputs: Sequence[Any], version: Any
) -> tuple[Any, list[Held]]:
    """A coremltools Program before any pass, and which of its variables hold which nodes' values.

    `inputs` are coremltools TensorTypes, `version` is its target. (Any: coremltools carries no
    types.)
    """
    import coremltools
    from coremltools.converters.mil.frontend.tensorflow2.load import TF2Loader

    loader = TF2Loader(
        graph.definition,
        inputs=list(inputs),
        outputs=[coremltools.TensorType(name=name) for name in graph.outputs],
        specification_version=version,
        use_default_fp16_io=False,
    )
    with known_to_tensorflow(graph.definition), recorded_nodes() as held:
        program = loader.load()
    changed = changed_nodes(graph.definition)
    return program, [(var, name) for var, name in held if name not in changed]


@contextmanager
def conversion_errors(dynamic: Iterable[str]) -> Iterator[None]:
    """Within it what coremltools raises becomes `UnsupportedModel`, which names the node.

    Loops and resizing often convert with fixed sizes only: `dynamic` are the dimensions to try.
    """
    try:
        yield
    except CONVERSION_ERRORS as error:
        fixed = " ".join(f"--dim {name}=NUMBER" for name in dynamic)
        raise UnsupportedModel(
            f"the model cannot be converted: {first_line(error) or type(error).__name__}",
            where=failed_node(error.__traceback__),
            hint=f"try fixed sizes: {fixed}" if fixed else None,
        ) from error


CONVERSION_ERRORS = (
    ValueError,
    NotImplementedError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
)


def failed_node(trace: TracebackType | None) -> str | None:
    """The node that coremltools was converting when it failed."""
    place = None
    while trace is not None:
        if trace.tb_frame.f_code.co_name == "convert_graph":
            node = trace.tb_frame.f_locals.get("node")
            place = f"node {node.name} ({node.op})" if node is not None else place
        trace = trace.tb_next
    return place
