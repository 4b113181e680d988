"""A program in which each operation stands several times: exact, and with something rounded.

One run of it gives what each operation alone does to rounded inputs and weights.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from metal4conv.mil.program import (
    Argument,
    Constant,
    Function,
    Operation,
    TensorType,
    Value,
    ValueType,
)
from metal4conv.precision.eligible import (
    NEVER,
    Named,
    becomes_float16,
    can_be_float16,
    constants_of,
    float16_values,
    inner_operations,
    is_float,
)
from metal4conv.precision.mixing import cast_operation
from metal4conv.verify.depth import AS_THEY_ARE, CHOOSING

VIEWS = frozenset(("reshape", "transpose", "expand_dims", "squeeze", "identity", "cast"))
"""Operations that give the elements that they take."""

EXACT = AS_THEY_ARE | CHOOSING
"""Operations whose results on float16 numbers are float16 numbers."""

MOST_PROBED = 3
"""With more inputs, all of them are rounded at once."""


@dataclass(frozen=True)
class Node:
    """An operation of the main block as the search sees it.

    `activations` are the float values that it takes, each once, `results` those that it gives.
    """

    operation: Operation
    activations: tuple[str, ...]
    results: tuple[str, ...]
    eligible: bool
    """Whether the converter makes it float16."""

    @property
    def name(self) -> str:
        """The name by which it is kept in float32."""
        return self.operation.name

    @property
    def parts(self) -> tuple[str, ...]:
        """What is in float32 with it: itself, or all operations on floats in its blocks."""
        if not self.operation.blocks:
            return (self.name,)
        types = dict[str, ValueType]()
        for inner in (self.operation, *inner_of(self.operation)):
            given = [*inner.outputs, *(value for block in inner.blocks for value in block.inputs)]
            types |= {value.name: value.type for value in given}
        return tuple(
            item.name
            for item in inner_of(self.operation)
            if item.type not in NEVER
            if any(is_float(value.type) for value in item.outputs)
            or any(is_float(types.get(name)) for name in names_in(item))
        )

    @property
    def is_exact(self) -> bool:
        """Whether it rounds nothing that is not rounded already."""
        return self.operation.type in EXACT and not self.operation.blocks

    @property
    def is_view(self) -> bool:
        """Whether it only passes elements on."""
        return self.operation.type in VIEWS


@dataclass(frozen=True)
class Probe:
    """A copy of the operation `node`: `rounded` are the inputs that it takes rounded, none of them
    when it is the weights.
    """

    node: int
    rounded: tuple[str, ...]


@dataclass
class Probing:
    """The program with copies, and which of its operations are copies of what."""

    function: Function
    nodes: list[Node]
    probes: dict[str, Probe] = field(default_factory=dict)
    """By the name of the copy."""
    named: dict[str, int] = field(default_factory=dict)
    """The node by the operation's name."""


def make_nodes(function: Function, known: Collection[str] | None = None) -> list[Node]:
    """The operations of the main block that depend on inputs, in their order.

    `known` are those whose precision the converter can be told; None for all of them.
    """
    constants = constants_of(function)
    varying = {value.name: value.type for value in function.inputs}
    nodes = []
    for operation in function.block.operations:
        if operation.type == "const":
            continue
        taken = dict.fromkeys(names_in(operation))
        if is_constant(operation, varying, taken):
            continue  # computed once, when the program is loaded
        varying.update({value.name: value.type for value in operation.outputs})
        activations = tuple(name for name in taken if is_float(varying.get(name)))
        results = tuple(value.name for value in operation.outputs if is_float(value.type))
        eligible = any(
            can_be_float16(item, constants) and (known is None or item.name in known)
            for item in ([operation] if not operation.blocks else inner_of(operation))
        )
        floats = bool(activations or results)
        nodes.append(Node(operation, activations, results, eligible and floats))
    return nodes


def inner_of(operation: Operation) -> list[Operation]:
    """The operations in the blocks of a loop or a branch."""
    return [inner for block in operation.blocks for inner in inner_operations(block)]


def is_constant(operation: Operation, varying: Collection[str], taken: Collection[str]) -> bool:
    """Whether an operation on constants gives the same each time."""
    if operation.blocks or operation.type.startswith(("random_", "make_list", "read_state")):
        return False
    return not any(name in varying for name in taken)


def names_in(operation: Operation) -> list[str]:
    """The names of the values that an operation takes, also in its blocks."""
    found = list(operation.value_names)
    for block in operation.blocks:
        found += [name for inner in block.walk() for name in names_in(inner)]
        found += block.outputs
    return found


def probing(function: Function, known: Collection[str] | None = None) -> Probing:
    """The float32 function with copies of its operations. Program before and after:

    main(x: fp32) {  y: fp32 = linear(x, weight=w)  }
    main(x: fp32) {
        y = linear(x, weight=w)
        h: fp16 = cast(x, "fp16");  r: fp32 = cast(h, "fp32");  y1 = linear(r, weight=w)
        y2 = linear(x, weight=w rounded to float16)  }
    """
    nodes = make_nodes(function, known)
    found = Probing(function, nodes, named={node.name: n for n, node in enumerate(nodes)})
    maker = ProbeMaker(found, constants_of(function), function.opset_version)
    numbers = {id(node.operation): number for number, node in enumerate(nodes)}
    operations: list[Operation] = []
    for operation in function.block.operations:
        operations.append(operation)
        number = numbers.get(id(operation))
        if number is not None and is_probed(nodes[number]):
            operations += maker.copies(number)
    found.function = replace(function, block=replace(function.block, operations=tuple(operations)))
    return found


def probed_groups(node: Node) -> list[tuple[str, ...]]:
    """The inputs of a node that are rounded together.

    Sums and choices pass the errors of all inputs on alike.
    """
    if not node.activations:
        return []
    alike = node.is_exact or node.operation.type in ("add", "sub")
    if alike or len(node.activations) > MOST_PROBED:
        return [node.activations]
    return [(name,) for name in node.activations]


def is_probed(node: Node) -> bool:
    """Whether copies of an operation tell anything."""
    kind = node.operation.type
    if not node.eligible or node.is_view or not node.results or node.operation.blocks:
        return False
    return not kind.startswith(("random_", "list_", "read_state", "write_state"))


@dataclass
class ProbeMaker:
    """Makes copies of operations."""

    found: Probing
    constants: Named
    opset: int
    rounded: dict[str, str] = field(default_factory=dict)
    """The rounded form of a value."""
    weights: dict[Constant, Constant] = field(default_factory=dict)
    count: int = 0

    def copies(self, number: int) -> list[Operation]:
        """The copies of a node, and the casts that they need."""
        node = self.found.nodes[number]
        made: list[Operation] = []
        for group in probed_groups(node):
            for name in group:
                made += self.rounding(name)
            renamed = {name: self.rounded[name] for name in group}
            made.append(self.copy(number, renamed, {}, group))
        if weights := self.rounded_weights(node):
            made.append(self.copy(number, {}, weights, ()))
        return made

    def rounding(self, name: str) -> list[Operation]:
        """The two casts that round a value, unless they are there."""
        if name in self.rounded:
            return []
        self.rounded[name] = f"{name}:rounded"
        type = TensorType("float32", ())
        half, whole = f"{name}:half", self.rounded[name]
        return [
            cast_operation(name, half, type, "float16"),
            cast_operation(half, whole, type, "float32"),
        ]

    def rounded_weights(self, node: Node) -> dict[Constant | str, Constant]:
        """The constants of an operation that rounding changes, by what names them."""
        found: dict[Constant | str, Constant] = {}
        for parameter, group in node.operation.inputs.items():
            if not becomes_float16(parameter, node.operation, self.opset):
                continue
            for argument in group:
                constant = argument if isinstance(argument, Constant) else None
                if isinstance(argument, str):
                    constant = self.constants.get(argument)
                if constant is None or constant.type.dtype != "float32":
                    continue
                if not is_float16_exact(constant):
                    assert isinstance(argument, (str, Constant))
                    found[argument] = self.rounded_constant(constant)
        return found

    def rounded_constant(self, constant: Constant) -> Constant:
        """A float32 constant with the values that it has in float16."""
        if constant not in self.weights:
            self.weights[constant] = Constant(constant.type, partial(load_rounded, constant))
        return self.weights[constant]

    def copy(
        self,
        number: int,
        renamed: Mapping[str, str],
        weights: Mapping[Constant | str, Constant],
        group: tuple[str, ...],
    ) -> Operation:
        """The operation of a node under another name, with other arguments."""
        operation = self.found.nodes[number].operation

        def changed(argument: Argument) -> Argument:
            if isinstance(argument, (str, Constant)) and argument in weights:
                return weights[argument]
            return renamed.get(argument, argument) if isinstance(argument, str) else argument

        self.count += 1
        name = f"{operation.name}:{self.count}"
        self.found.probes[name] = Probe(number, group)
        return replace(
            operation,
            name=name,
            inputs={key: tuple(map(changed, row)) for key, row in operation.inputs.items()},
            outputs=tuple(
                Value(f"{value.name}:{self.count}", value.type) for value in operation.outputs
            ),
        )


def load_rounded(constant: Constant) -> np.ndarray:
    """A constant's values after float16, in float32."""
    return float16_values(constant.load()).astype(np.float32)


def is_float16_exact(constant: Constant) -> bool:
    """Whether float16 holds all values of a constant."""
    array = constant.load()
    return bool((float16_values(array).astype(np.float32) == array).all())
