"""Arithmetic of a program: two floating point operations for each multiply-accumulate.

Counted are convolutions, matrix products, attention and recurrent layers, where nearly all
arithmetic of a network is. The body of a loop counts once, of a condition both branches count.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from metal4conv.layout.polynomial import Polynomial, constant_polynomial
from metal4conv.layout.sizes import is_unknown, product_polynomial
from metal4conv.mil.program import (
    Argument,
    Constant,
    Function,
    Operation,
    Shape,
    TensorType,
    ValueType,
)


@dataclass(frozen=True)
class Operands:
    """One operation and what is known of the values it reads; `LookupError` for what is not."""

    operation: Operation
    types: Mapping[str, ValueType]
    literals: Mapping[str, Constant]

    @property
    def output(self) -> Shape:
        """The shape of the first output."""
        return self.shape_of(self.operation.outputs[0].name)

    def shape(self, parameter: str, position: int = 0) -> Shape:
        """The shape of a parameter, or of one of its arguments."""
        return self.shape_of(self.operation.inputs[parameter][position])

    def shape_of(self, argument: Argument) -> Shape:
        """The shape of a value or literal."""
        if isinstance(argument, Constant):
            return argument.type.shape
        type = self.types[argument] if isinstance(argument, str) else None
        if not isinstance(type, TensorType):
            raise LookupError(f"{self.operation} has an operand that is no tensor")
        if any(map(is_unknown, type.shape)):
            raise LookupError(f"{self.operation} has an operand of unknown size")
        return type.shape

    def text(self, parameter: str) -> str:
        """The value of a parameter that is a literal string."""
        argument = self.operation.inputs[parameter][0]
        literal = self.literals[argument] if isinstance(argument, str) else argument
        if not isinstance(literal, Constant):
            raise LookupError(f"{self.operation} has no literal {parameter}")
        return str(literal.value.item())


def convolution_products(operands: Operands) -> Polynomial:
    """Per output element, one for each weight of its channel: `(out, in/groups, kernel…)`."""
    return product_polynomial((*operands.output, *operands.shape("weight")[1:]))


def transposed_convolution_products(operands: Operands) -> Polynomial:
    """Per input element, one for each weight of its channel: `(in, out/groups, kernel…)`."""
    return product_polynomial((*operands.shape("x"), *operands.shape("weight")[1:]))


def linear_products(operands: Operands) -> Polynomial:
    """Per output element, one for each input feature."""
    return product_polynomial((*operands.output, operands.shape("x")[-1]))


def matrix_products(operands: Operands) -> Polynomial:
    """Per output element, one for each inner size.

    The inner size is the one of `x`'s last two that is not the output's row count; where both are
    equal it does not matter which, so `transpose_x` need not be known.
    """
    left, out = operands.shape("x"), operands.output
    transposed = len(left) > 1 and len(out) > 1 and left[-2] != out[-2]
    return product_polynomial((*out, left[-2] if transposed else left[-1]))


def einsum_products(operands: Operands) -> Polynomial:
    """The product of the sizes of all letters of the equation."""
    terms = operands.text("equation").partition("->")[0].split(",")
    sizes = {
        letter: size
        for position, letters in enumerate(terms)
        for letter, size in zip(letters.strip(), operands.shape("values", position), strict=True)
    }
    return product_polynomial(sizes.values())


def attention_products(operands: Operands) -> Polynomial:
    """Queries by keys, then weights by values: `(…, queries, features)` each."""
    *rows, features = operands.output
    keys, query_features = operands.shape("key")[-2], operands.shape("query")[-1]
    scores = product_polynomial((*rows, keys, query_features))
    return scores + product_polynomial((*rows, keys, features))


def recurrent_products(operands: Operands) -> Polynomial:
    """Per step and sequence, one for each weight; `x` is `(steps, batch, features)`."""
    weights = [key for key in operands.operation.inputs if key.startswith("weight_")]
    elements = sum(prod(map(int, operands.shape(key))) for key in weights)
    return product_polynomial((*operands.shape("x")[:2], elements))


COUNTED: dict[str, Callable[[Operands], Polynomial]] = {
    "conv": convolution_products,
    "conv_transpose": transposed_convolution_products,
    "linear": linear_products,
    "matmul": matrix_products,
    "einsum": einsum_products,
    "scaled_dot_product_attention": attention_products,
    "lstm": recurrent_products,
    "gru": recurrent_products,
    "rnn": recurrent_products,
}


def function_flops(function: Function, types: Mapping[str, ValueType]) -> Polynomial | None:
    """The floating point operations of one run, None where a size is not known before it.

    `types` holds the types of all values by name.
    """
    total = constant_polynomial(0)
    literals: dict[str, Constant] = {}
    try:
        for operation in function.block.walk():
            if operation.type == "const" and "val" in operation.attributes:
                literals[operation.outputs[0].name] = operation.attributes["val"]
            elif operation.type in COUNTED:
                total += COUNTED[operation.type](Operands(operation, types, literals))
    except (LookupError, ValueError):
        return None
    return total.scaled(2)
