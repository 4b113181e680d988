"""The interface of a shared library that stands in for a shader: what `metal4conv_run` takes.

The structures are those of the stand-in's `driver.h`. The shader's runner and the emulator of
Metal both call such libraries.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

KINDS = ("buffer", "tensor", "texture", "sampler", "threadgroup", "stage_in", "builtin")
"""Of arguments, as `driver.h` numbers them."""

BUILTINS = (
    *("thread_position_in_grid", "thread_position_in_threadgroup", "thread_index_in_threadgroup"),
    *("threadgroup_position_in_grid", "threads_per_threadgroup", "threadgroups_per_grid"),
    *("threads_per_grid", "thread_index_in_simdgroup", "simdgroup_index_in_threadgroup"),
    *("simdgroups_per_threadgroup", "threads_per_simdgroup", "position"),
    "dispatch_threads_per_threadgroup",
)
"""Attributes of parameters, as `driver.h` numbers them."""

FILTERS = ("nearest", "linear")
ADDRESSES = ("clamp_to_zero", "clamp_to_edge", "repeat", "mirrored_repeat", "clamp_to_border")

MESSAGE_BYTES = 1024
"""Of the text that tells what went wrong."""


class Binding(ctypes.Structure):
    """`binding` of driver.h."""

    _fields_ = (
        ("kind", ctypes.c_int),
        ("builtin", ctypes.c_int),
        ("data", ctypes.c_void_p),
        ("bytes", ctypes.c_uint64),
        ("name", ctypes.c_char_p),
        ("dimensions", ctypes.c_int * 4),
        ("strides", ctypes.c_int * 4),
        ("rank", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("bytes_per_row", ctypes.c_int),
        ("pixel_format", ctypes.c_int),
        ("filter", ctypes.c_int),
        ("address", ctypes.c_int),
    )


class Target(ctypes.Structure):
    """`target` of driver.h."""

    _fields_ = (
        ("rows", ctypes.c_void_p),
        ("row_width", ctypes.c_int),
        ("first", ctypes.c_int),
        ("channels", ctypes.c_int),
    )


class Dispatch(ctypes.Structure):
    """`dispatch` of driver.h."""

    _fields_ = (
        ("entry", ctypes.c_int),
        ("constants", ctypes.c_int),
        ("bindings", ctypes.POINTER(Binding)),
        ("binding_count", ctypes.c_int),
        ("targets", ctypes.POINTER(Target)),
        ("target_count", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("threads", ctypes.c_int * 2),
        ("groups", ctypes.c_int * 2),
        ("first", ctypes.c_int),
        ("count", ctypes.c_int),
        ("message", ctypes.c_void_p),
    )


def loaded(library: Path | str) -> ctypes.CDLL:
    """A library of this process whose `metal4conv_run` gives 0 where all went well."""
    found = ctypes.CDLL(str(library))
    found.metal4conv_run.argtypes = (ctypes.POINTER(Dispatch),)
    found.metal4conv_run.restype = ctypes.c_int
    return found
