"""Compute functions in the shared library that stands in for a source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metal4conv.device.compute_protocol import StandIn, StandInArgument, StandInFunction
from metal4conv.device.emulator.compute_objects import Size
from metal4conv.device.emulator.memory import Buffer, Tensor


@dataclass(frozen=True)
class Bound:
    """A parameter with what it is given: a buffer from `offset` on, a tensor, or bytes of
    threadgroup memory."""

    argument: StandInArgument
    resource: Buffer | Tensor | None
    offset: int
    memory_bytes: int


def run_function(
    stand_in: StandIn,
    function: StandInFunction,
    bound: Sequence[Bound],
    constants: Mapping[str, bool],
    threadgroups: Size,
    threads: Size,
) -> None:
    """Runs a function for all threads."""
    raise NotImplementedError
