"""Loops whose condition reads the iteration counter, rewritten so that coremltools keeps it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

LOOPS = ("While", "StatelessWhile")
PADDING = 2
INT32 = 3  # DataType.DT_INT32

# Any throughout: protobuf classes carry no types


def keep_loop_counters(definition: Any) -> None:
    """Gives each loop two unused leading variables, in place.

    TensorFlow's first two loop variables are the counter and its limit. coremltools drops the first
    two, though the condition reads them wherever the limit counts (Keras's LSTM and GRU do it).

        while(counter, limit, x)              if counter < limit: counter + 1, limit, …
        while(pad, pad, counter, limit, x)    the same, and both pads as they are
    """
    functions = {item.signature.name: item for item in definition.library.function}
    blocks = [definition.node, *(item.node_def for item in functions.values())]
    loops = [node for nodes in blocks for node in nodes if node.op in LOOPS]
    if not loops:
        return
    shift_reads(definition, functions.values())
    parts = {loop.attr[role].func.name: role for loop in loops for role in ("cond", "body")}
    for name, role in parts.items():
        pad_function(functions[name], results=role == "body")
    pad_loops(definition.node, unused_name(definition), "")
    for function in functions.values():
        pad_loops(function.node_def, "loop_padding", ":output:0")


BLOCKS = {"cond": "condition", "body": "body", "then_branch": "then", "else_branch": "else"}
"""Attributes of loops and branches that name a function, and what we call that."""


def name_blocks(definition: Any) -> None:
    """Names the functions of loops and branches by their order of use, in place.

    TensorFlow numbers them through the process, and the numbers would get into the package.
    """
    functions = {item.signature.name: item for item in definition.library.function}
    names: dict[str, str] = {}
    pending = list(definition.node)
    while pending:
        node = pending.pop(0)
        for key, role in BLOCKS.items():
            old = node.attr[key].func.name if key in node.attr else ""
            if old in functions and old not in names:
                names[old] = f"metal4conv_{role}_{len(names)}"
                pending += functions[old].node_def
    for node in (*definition.node, *(n for item in functions.values() for n in item.node_def)):
        for value in node.attr.values():
            if value.func.name in names:
                value.func.name = names[value.func.name]
    for item in functions.values():
        item.signature.name = names.get(item.signature.name, item.signature.name)


@contextmanager
def known_to_tensorflow(definition: Any) -> Iterator[None]:
    """Within it TensorFlow finds the functions of the graph, which is where coremltools asks."""
    from tensorflow.python.eager.context import context

    added = []
    try:
        for function in definition.library.function:
            context().add_function_def(function)
            added.append(function.signature.name)
        yield
    finally:
        for name in added:
            context().remove_function(name)


def unused_name(definition: Any) -> str:
    """A name for the padding that no node has."""
    taken = {node.name for node in definition.node}
    name = "loop_padding"
    while name in taken:
        name += "_"
    return name


def pad_function(function: Any, *, results: bool) -> None:
    """Adds the leading arguments to a condition or a body; a body returns them too."""
    arguments = list(function.signature.input_arg)
    del function.signature.input_arg[:]
    names = [f"loop_padding_{index}" for index in range(PADDING)]
    for name in names:
        function.signature.input_arg.add(name=name, type=INT32)
    function.signature.input_arg.extend(arguments)
    shift_argument_attributes(function)
    if not results:
        return
    outputs = [(item.type, function.ret[item.name]) for item in function.signature.output_arg]
    for name in names:
        node = function.node_def.add(name=f"{name}_kept", op="Identity", input=[name])
        node.attr["T"].type = INT32
    outputs = [(INT32, f"{name}_kept:output:0") for name in names] + outputs
    del function.signature.output_arg[:]
    function.ret.clear()
    for index, (type_number, result) in enumerate(outputs):
        # coremltools finds result 3 by a name that ends so
        name = f"loop_identity_{index}" if index else "loop_identity"
        function.signature.output_arg.add(name=name, type=type_number)
        function.ret[name] = result


def shift_argument_attributes(function: Any) -> None:
    """What is noted about arguments by their position moves along."""
    noted = {index: row.SerializeToString() for index, row in function.arg_attr.items()}
    function.arg_attr.clear()
    for index, content in noted.items():
        function.arg_attr[index + PADDING].ParseFromString(content)


def shift_reads(definition: Any, functions: Iterable[Any]) -> None:
    """Whoever reads result 0 of a loop reads result 2 from now on.

    The graph writes `loop:0` or `loop`, a function `loop:output:0`.
    """
    loops = {node.name for node in definition.node if node.op in LOOPS}
    for node in definition.node:
        for index, text in enumerate(node.input):
            name, _, position = text.partition(":")
            if name in loops:
                node.input[index] = f"{name}:{int(position or 0) + PADDING}"
    for function in functions:
        inner = {node.name for node in function.node_def if node.op in LOOPS}
        for node in function.node_def:
            node.input[:] = [shifted(text, inner) for text in node.input]
        for key in list(function.ret):
            function.ret[key] = shifted(function.ret[key], inner)


def shifted(text: str, loops: set[str]) -> str:
    """A reference inside a function, moved on when it reads a loop.

    >>> shifted("rnn/while:output:3", {"rnn/while"}), shifted("add:z:0", {"rnn/while"})
    ('rnn/while:output:5', 'add:z:0')
    """
    match = re.fullmatch(r"([^:]+):output:(\d+)", text)
    if match is None or match[1] not in loops:
        return text
    return f"{match[1]}:output:{int(match[2]) + PADDING}"


def pad_loops(nodes: Any, pad: str, suffix: str) -> None:
    """Two more inputs, types and shapes for the loops among `nodes`, and the constant they read."""
    loops = [node for node in nodes if node.op in LOOPS]
    for node in loops:
        node.input[:] = [pad + suffix] * PADDING + list(node.input)
        types = node.attr["T"].list.type
        types[:] = [INT32] * PADDING + list(types)
        for key in ("output_shapes", "_output_shapes"):
            if key in node.attr and node.attr[key].list.shape:
                shapes = list(node.attr[key].list.shape)
                del node.attr[key].list.shape[:]
                for _ in range(PADDING):
                    node.attr[key].list.shape.add()
                node.attr[key].list.shape.extend(shapes)
    if loops:
        constant = nodes.add(name=pad, op="Const")
        constant.attr["dtype"].type = INT32
        constant.attr["value"].tensor.dtype = INT32
        constant.attr["value"].tensor.int_val.append(0)
        constant.attr["value"].tensor.tensor_shape.SetInParent()
