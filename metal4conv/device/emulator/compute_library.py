"""Compute functions in the shared library that stands in for a source.

`metal4conv.stand_in` has its interface.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from metal4conv.device.compute_protocol import StandIn, StandInArgument, StandInFunction
from metal4conv.device.emulator.compute_objects import Size
from metal4conv.device.emulator.memory import Buffer, SamplerState, Tensor, Texture, numbers_of
from metal4conv.stand_in import ADDRESSES, KINDS, MESSAGE_BYTES, Binding, Dispatch, loaded

ADDRESS_MODES = {0: "clamp_to_edge", 2: "repeat", 3: "mirrored_repeat", 4: "clamp_to_zero"}
"""By MTLSamplerAddressMode."""

Resource = Buffer | Tensor | Texture | SamplerState


class StandInFailed(Exception):
    """The library found something wrong while a function ran."""


@dataclass(frozen=True)
class Bound:
    """A parameter with what it is given: a buffer from `offset` on, another resource, or bytes of
    threadgroup memory."""

    argument: StandInArgument
    resource: Resource | None
    offset: int
    memory_bytes: int


@cache
def entry_of(library: str) -> Any:  # Any: a C function
    """The function of a library's file."""
    return loaded(library).metal4conv_run


def run_function(
    stand_in: StandIn,
    function: StandInFunction,
    bound: Sequence[Bound],
    constants: Mapping[str, bool],
    threadgroups: Size,
    threads: Size,
) -> None:
    """Runs a function for all threads; `StandInFailed` has the library's words."""
    if threads.depth != 1 or threadgroups.depth != 1:
        raise StandInFailed(f"{function.name}: dispatches have two dimensions here")
    bindings = (Binding * len(bound))(*map(driver_binding, bound))
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    bits = sum(1 << index for name, index in stand_in.constants.items() if constants[name])
    dispatch = Dispatch(
        entry=function.number,
        constants=bits,
        bindings=bindings,
        binding_count=len(bound),
        threads=(threads.width, threads.height),
        groups=(threadgroups.width, threadgroups.height),
        count=threadgroups.count,
        message=ctypes.addressof(message),
    )
    status = entry_of(stand_in.library)(ctypes.byref(dispatch))
    if status:
        said = message.value.decode("utf-8", "replace") or f"the library gave {status}"
        raise StandInFailed(f"{function.name}: {said}")


def driver_binding(given: Bound) -> Binding:
    """A parameter as the library takes it."""
    argument, resource = given.argument, given.resource
    row = Binding(
        kind=KINDS.index(argument.kind),
        builtin=argument.builtin,
        name=argument.name.encode(),
        bytes=given.memory_bytes,
    )
    match resource:
        case Buffer():
            set_memory(row, resource.data, given.offset)
        case Tensor():
            set_memory(row, resource.memory, resource.bufferOffset())
            strides = resource.strides()
            steps = numbers_of(strides) if strides else tight(resource.numbers)
            row.rank = len(resource.numbers)
            row.dimensions[: row.rank] = resource.numbers
            row.strides[: row.rank] = steps
        case Texture(values=values):
            set_memory(row, resource.data, 0)
            row.width, row.height = values["width"], values["height"]
            row.bytes_per_row, row.pixel_format = resource.bytes_per_row, values["pixelFormat"]
        case SamplerState(values=values):
            row.filter, row.address = (
                values["minFilter"],
                ADDRESSES.index(ADDRESS_MODES[values["sAddressMode"]]),
            )
    return row


def set_memory(row: Binding, memory: np.ndarray, offset: int) -> None:
    """Where a resource's bytes are, and how many from there on."""
    row.data = memory.ctypes.data + offset
    row.bytes = memory.nbytes - offset


def tight(dimensions: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor in memory of its own.

    >>> tight((4, 3, 2))
    (1, 4, 12)
    """
    return tuple(int(step) for step in np.cumprod((1, *dimensions[:-1])))
