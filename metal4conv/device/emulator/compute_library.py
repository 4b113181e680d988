"""Compute functions in the shared library that stands in for a source.

The library exports `metal4conv_run`, which takes the structures below: those of the stand-in's
`driver.h`.
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

KINDS = {"buffer": 0, "tensor": 1, "texture": 2, "sampler": 3, "threadgroup": 4, "builtin": 6}
"""Values of the driver's `bound`, of what a compute function is given."""

ADDRESSES = {0: 1, 2: 2, 3: 3, 4: 0}
"""The driver's address modes by MTLSamplerAddressMode."""

Resource = Buffer | Tensor | Texture | SamplerState

MESSAGE_BYTES = 1024
MOST_DIMENSIONS = 4


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


class DriverBinding(ctypes.Structure):
    """`binding` of driver.h."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("builtin", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("dimensions", ctypes.c_int * MOST_DIMENSIONS),
        ("strides", ctypes.c_int * MOST_DIMENSIONS),
        *((name, ctypes.c_int) for name in ("rank", "width", "height", "bytes_per_row")),
        *((name, ctypes.c_int) for name in ("pixel_format", "filter", "address")),
    )


class DriverDispatch(ctypes.Structure):
    """`dispatch` of driver.h."""

    _fields_ = (
        ("entry", ctypes.c_int),
        ("constants", ctypes.c_int),
        ("bindings", ctypes.POINTER(DriverBinding)),
        ("binding_count", ctypes.c_int),
        ("targets", ctypes.c_void_p),
        ("target_count", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("threads", ctypes.c_int * 2),
        ("groups", ctypes.c_int * 2),
        ("first", ctypes.c_int),
        ("count", ctypes.c_int),
        ("message", ctypes.c_char_p),
    )


@cache
def loaded(path: str) -> Any:  # Any: a C function
    """The function `metal4conv_run` of a library."""
    run = ctypes.CDLL(path).metal4conv_run
    run.argtypes = (ctypes.POINTER(DriverDispatch),)
    run.restype = ctypes.c_int
    return run


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
    bindings = (DriverBinding * len(bound))(*map(driver_binding, bound))
    message = ctypes.create_string_buffer(MESSAGE_BYTES)
    bits = sum(1 << index for name, index in stand_in.constants.items() if constants[name])
    dispatch = DriverDispatch(
        entry=function.number,
        constants=bits,
        bindings=bindings,
        binding_count=len(bound),
        threads=(threads.width, threads.height),
        groups=(threadgroups.width, threadgroups.height),
        count=threadgroups.count,
        message=ctypes.cast(message, ctypes.c_char_p),
    )
    status = loaded(stand_in.library)(ctypes.byref(dispatch))
    if status:
        said = message.value.decode("utf-8", "replace") or f"the library gave {status}"
        raise StandInFailed(f"{function.name}: {said}")


def driver_binding(given: Bound) -> DriverBinding:
    """A parameter as the library takes it."""
    argument, resource = given.argument, given.resource
    row = DriverBinding(
        kind=KINDS[argument.kind],
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
            row.filter, row.address = values["minFilter"], ADDRESSES[values["sAddressMode"]]
    return row


def set_memory(row: DriverBinding, memory: np.ndarray, offset: int) -> None:
    """Where a resource's bytes are, and how many from there on."""
    row.data = memory.ctypes.data + offset
    row.bytes = memory.nbytes - offset


def tight(dimensions: Sequence[int]) -> tuple[int, ...]:
    """The strides of a tensor in memory of its own.

    >>> tight((4, 3, 2))
    (1, 4, 12)
    """
    return tuple(int(step) for step in np.cumprod((1, *dimensions[:-1])))
