"""Operations that stay in float32 in a package that is float16 otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.frontends.provenance import name_before_cast
from metal4conv.frontends.source import CastOperation, LoweringRequest

MIXED = "mixed"
"""The precision of a request that says which operations stay in float32."""


@contextmanager
def kept_in_float32(request: LoweringRequest) -> Iterator[None]:
    """Within it, the pass that casts to float16 leaves the request's operations as they are.

    A name is that of the operation, or of a value that it gives, in the float32 program or in the
    float16 one. `UsageError` for names that the program has not when the pass runs.
    """
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    names = request.float32_operations
    wanted = {*names, *map(name_before_cast, names)}
    known: dict[str, None] = {}
    original = FP16ComputePrecision.is_valid_op

    def is_cast(self: Any, operation: Any) -> bool:
        if operation.op_type == "const":
            return bool(original(self, operation))
        if request.cast_operations is not None:
            request.cast_operations.append(recorded(operation))
            return False
        found = {operation.name, *(var.name for var in operation.outputs)}
        if operation.op_type != "cast":
            known.update(dict.fromkeys(sorted(found)))
        return not (found & wanted) and bool(original(self, operation))

    FP16ComputePrecision.is_valid_op = is_cast
    try:
        yield
    finally:
        FP16ComputePrecision.is_valid_op = original
    for name in names:
        if name not in known and name_before_cast(name) not in known:
            raise UsageError(
                f'there is no operation "{name}" to keep in float32',
                where="--precision",
                hint=did_you_mean(name, known),
            )


def recorded(operation: Any) -> CastOperation:
    """What to know of an operation later. (Any: a coremltools Operation.)"""
    taken = [
        var.name
        for group in operation.inputs.values()
        for var in (group if isinstance(group, (list, tuple)) else [group])
    ]
    given = tuple(var.name for var in operation.outputs)
    return CastOperation(operation.name, operation.op_type, tuple(taken), given)
