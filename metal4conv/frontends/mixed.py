"""Operations that stay in float32 in a package that is float16 otherwise."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.frontends.provenance import name_before_cast

MIXED = "mixed"
"""The precision of a request that says which operations stay in float32."""


@contextmanager
def kept_in_float32(names: Collection[str]) -> Iterator[None]:
    """Within it, the pass that casts to float16 leaves operations of these names as they are.

    A name is that of the operation, or of a value that it gives, in the float32 program or in the
    float16 one. `UsageError` for names that the program has not when the pass runs.
    """
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    wanted = {*names, *map(name_before_cast, names)}
    known: dict[str, None] = {}
    original = FP16ComputePrecision.is_valid_op

    def is_cast(self: Any, operation: Any) -> bool:
        found = {operation.name, *(var.name for var in operation.outputs)}
        if operation.op_type not in ("const", "cast"):
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
