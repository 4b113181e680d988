"""What one run of a function takes: memory of its intermediate values, and arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metal4conv.layout.flops import function_flops
from metal4conv.layout.memory import ZERO, intermediate_bytes, peak_bytes
from metal4conv.layout.polynomial import Polynomial
from metal4conv.layout.sizes import Size, size_of
from metal4conv.mil.interface import Interface
from metal4conv.mil.program import Dimension, Function, TensorType, ValueType

LONGEST_FORMULA = 600
"""Longer ones would say nothing to a reader, and swell the package's metadata."""


@dataclass(frozen=True)
class Costs:
    """Numbers or formulas, None where a size is only known when the program runs.

    `peak_bytes` is the most that is alive at once, `total_bytes` the sum over all values.
    """

    peak_bytes: Size | None
    total_bytes: Size | None
    flops: Size | None


def value_types(function: Function, interface: Interface) -> dict[str, ValueType]:
    """The types of all values by name, sizes of a dynamic function as formulas.

    Only a dynamic function needs the executor, and with it torch.
    """
    types: dict[str, ValueType] = {value.name: value.type for value in function.inputs}
    for operation in function.block.walk():
        for value in operation.outputs:
            types[value.name] = value.type
        for block in operation.blocks:
            types |= {value.name: value.type for value in block.inputs}
    if not interface.dimensions:
        return types
    from metal4conv.execute.symbolic import infer_types

    shapes = {feature.name: feature.type.shape for feature in interface.inputs}
    inputs = {
        value.name: TensorType(value.type.dtype, shapes.get(value.name, value.type.shape))
        for value in function.inputs
        if isinstance(value.type, TensorType)
    }
    inferred: dict[str, TensorType] = infer_types(function, inputs, interface.dimensions)
    return {**types, **inferred}


def function_costs(
    function: Function, types: Mapping[str, ValueType], dimensions: Mapping[str, Dimension]
) -> Costs:
    """Memory and arithmetic of a function whose values have these types."""
    flops = short_size(function_flops(function, types))
    amounts = intermediate_bytes(function, types)
    if amounts is None:
        return Costs(None, None, flops)
    highest = peak_bytes(function.block, amounts, dimensions)
    total = short_size(sum(amounts.values(), ZERO))
    return Costs(short(highest), total, flops)


def short_size(polynomial: Polynomial | None) -> Size | None:
    """A number or formula, None for one that is too long to be of use."""
    return None if polynomial is None else short(size_of(polynomial))


def short(size: Size) -> Size | None:
    """The size, None for a formula that is too long to be of use."""
    return None if isinstance(size, str) and len(size) > LONGEST_FORMULA else size
