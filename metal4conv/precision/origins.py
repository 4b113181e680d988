"""What an operation of a finished package was when the converter decided on its precision.

Passes that come later join operations (sigmoid and mul are silu then), and make new ones.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from metal4conv.frontends.source import CastOperation
from metal4conv.mil.program import Function
from metal4conv.precision.eligible import inner_operations

Origins = Mapping[str, tuple[CastOperation, ...]]
"""The operations by the name of the package's operation that they became."""


def origins_of(
    function: Function, seen: Sequence[CastOperation]
) -> dict[str, tuple[CastOperation, ...]]:
    """The operations that became each of the package's; none for those that passes made anew.

    a = sigmoid(x);  y = mul(x, a)      →      y = silu(x)      gives {"y": (sigmoid, mul)}
    """
    values = {value.name for value in function.inputs}
    for operation in function.block.walk():
        values |= {value.name for value in operation.outputs}
        values |= {value.name for block in operation.blocks for value in block.inputs}
    makers = {name: item for item in seen for name in item.outputs}
    return {
        operation.name: joined([value.name for value in operation.outputs], makers, values)
        for operation in inner_operations(function.block)
    }


def joined(
    outputs: Sequence[str], makers: Mapping[str, CastOperation], values: Collection[str]
) -> tuple[CastOperation, ...]:
    """The operations from values of the package to values of the package."""
    waiting = list(outputs)
    found: dict[CastOperation, None] = {}
    while waiting:
        maker = makers.get(waiting.pop())
        if maker is None or maker in found:
            continue
        found[maker] = None
        waiting += [name for name in maker.inputs if name not in values]
    return tuple(reversed(found))
