"""Handing values over to operations: constants to tensors, tensors to Python values, and back.

A value is a torch tensor, or a *host array*: a small numpy array of dtype object that holds sizes
(Python numbers, or torch.SymInt and its kin in a symbolic run). Sizes stay on the host so that
arithmetic on them never freezes a symbolic size.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np
import torch
from torch.utils.dlpack import from_dlpack
from torch.utils.weak import WeakTensorKeyDictionary

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.devices import moved
from metal4conv.execute.host_numbers import as_int, saturated, wrapped
from metal4conv.execute.table import Bools, Floats, Ints, Operator, Tensors
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.program import Constant
from metal4conv.mil.weights import release_pages

HOST_ELEMENTS = 1024
"""Constants up to this many elements may take part in arithmetic on sizes."""

TORCH_DTYPES: dict[str, torch.dtype] = {
    "bool": torch.bool,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
    "int8": torch.int8,
    "int16": torch.int16,
    "int32": torch.int32,
    "int64": torch.int64,
    "uint8": torch.uint8,
    "uint16": torch.uint16,
    "uint32": torch.uint32,
    "uint64": torch.uint64,
    "int4": torch.int8,
    "uint1": torch.uint8,
    "uint2": torch.uint8,
    "uint3": torch.uint8,
    "uint4": torch.uint8,
    "uint6": torch.uint8,
}
"""Sub-byte integers are held one a byte."""

BIT_PATTERNS = {
    torch.bfloat16: torch.uint16,
    torch.float8_e4m3fn: torch.uint8,
    torch.float8_e5m2: torch.uint8,
}
"""Dtypes that numpy lacks, and what holds their bits there."""

NAME_OF_TORCH = {
    dtype: name for name, dtype in TORCH_DTYPES.items() if DTYPES[name].bits in (8, 16, 32, 64)
}

Convert = Callable[[Any], Any]
"""From a value to what an operation's parameter takes. (Any: a tensor or a host array.)"""


@cache
def parameters(operator: Operator) -> dict[str, tuple[str, bool]]:
    """Kind and optionality of each parameter of an operation, by its annotations."""
    hints = typing.get_type_hints(operator)
    found = {}
    for name, parameter in inspect.signature(operator).parameters.items():
        kind = KINDS.get(without_none(hints.get(name, Any)), "raw")
        found[name] = (kind, parameter.default is not parameter.empty)
    return found


def without_none(hint: Any) -> Any:
    """An annotation without its `| None`. (Any: annotations are objects of many kinds.)"""
    members = [member for member in typing.get_args(hint) if member is not type(None)]
    is_optional = type(None) in typing.get_args(hint)
    return members[0] if is_optional and len(members) == 1 else hint


KINDS: dict[Any, str] = {
    torch.Tensor: "tensor",
    Tensors: "tensors",
    list[Any]: "list",
    int: "scalar",
    float: "scalar",
    bool: "scalar",
    str: "text",
    Ints: "tuple",
    Floats: "tuple",
    Bools: "tuple",
}


def is_host(value: object) -> bool:
    """Whether a value is a host array."""
    return isinstance(value, np.ndarray)


def to_tensor(value: Any) -> torch.Tensor:
    """A value as a tensor; a host array of symbolic sizes becomes one of unknown values."""
    if isinstance(value, torch.Tensor):
        return value
    if not isinstance(value, np.ndarray):
        raise UnsupportedModel(f"a tensor was expected, found {type(value).__name__}")
    flat = value.reshape(-1).tolist()
    if any(isinstance(item, (torch.SymInt, torch.SymFloat, torch.SymBool)) for item in flat):
        kinds = (torch.SymFloat, float)
        is_float = any(isinstance(item, kinds) for item in flat)
        is_bool = all(isinstance(item, (torch.SymBool, bool)) for item in flat)
        dtype = torch.bool if is_bool else torch.float32 if is_float else torch.int32
        return torch.empty(value.shape, dtype=dtype)
    return moved(torch.from_numpy(np.array(flat, held_dtype(flat)).reshape(value.shape)))


def held_dtype(items: list[Any]) -> np.dtype[Any]:
    """The dtype of a tensor for Python numbers: bool, int32 or float32."""
    if items and all(isinstance(item, bool) for item in items):
        return np.dtype(np.bool_)
    if any(isinstance(item, float) for item in items):
        return np.dtype(np.float32)
    return np.dtype(np.int32)


def to_host(value: Any) -> np.ndarray:
    """A value as a host array: its elements as Python numbers."""
    if isinstance(value, np.ndarray):
        return value
    array = np.empty(tuple(value.shape), dtype=object)
    if array.ndim == 0:
        array[()] = value.item()
    else:
        array.reshape(-1)[:] = value.reshape(-1).tolist()
    return array


def to_scalar(value: Any) -> Any:
    """A value of one element as a Python number (or a symbolic one)."""
    found = only_element(value)
    if isinstance(found, str):
        raise UnsupportedModel(f"a number was expected, found the text {found[:100]!r}")
    return found


def to_text(value: Any) -> str:
    """A value of one element that is a text, such as the name of a mode."""
    found = only_element(value)
    if not isinstance(found, str):
        raise UnsupportedModel(f"a text was expected, found {found}")
    return found


def only_element(value: Any) -> Any:
    """The Python value of a tensor or array of one element; anything else as it is."""
    if not isinstance(value, (torch.Tensor, np.ndarray)):
        return value
    if 0 in value.shape:
        raise UnsupportedModel("one value was expected, found none")
    flat = value.reshape(-1)
    return flat[0].item() if isinstance(flat, torch.Tensor) else flat.tolist()[0]


def to_tuple(value: Any) -> tuple[Any, ...]:
    """A value of rank 0 or 1 as a tuple of Python numbers (or symbolic ones).

    Pairs, such as some operations' paddings, come one after the other.
    """
    if isinstance(value, (torch.Tensor, np.ndarray)):
        if value.ndim > 2:  # torch takes minutes over the elements of a large symbolic tensor
            shape = ", ".join(map(str, value.shape))
            raise UnsupportedModel(f"a list of numbers was expected, found the shape ({shape})")
        return tuple(value.reshape(-1).tolist())
    return tuple(value)


CONVERT: dict[str, Convert] = {
    "tensor": to_tensor,
    "scalar": to_scalar,
    "text": to_text,
    "tuple": to_tuple,
    "raw": lambda value: value,
}


def constant_tensor(constant: Constant) -> torch.Tensor:
    """A constant as a tensor that shares its memory (a mapped file stays mapped).

    From a file it is loaded anew: what had to be unpacked goes with the tensor.
    """
    array = constant.value if constant.file is None else constant.load()
    tensor = tensor_from_array(array, constant.type.dtype)
    if constant.file is not None:
        FROM_FILE[tensor] = array
    return tensor


FROM_FILE = WeakTensorKeyDictionary()
"""The arrays, mostly mapped, of tensors that `constant_tensor` made of a file."""


def release(arguments: Iterable[Any]) -> None:
    """Gives back the memory of weights that are not needed as they stand in the file.

    (Any: constant arguments, tensors and lists of them among others.)
    """
    for item in arguments:
        if isinstance(item, list):
            release(item)
        elif isinstance(item, torch.Tensor) and item in FROM_FILE:
            release_pages(FROM_FILE[item])


def tensor_from_array(array: np.ndarray, dtype: str) -> torch.Tensor:
    """A numpy array, which may be read-only, as a tensor of our dtype without copying it."""
    wanted = TORCH_DTYPES[dtype]
    if array.size == 0 or array.dtype == object:
        return torch.empty(array.shape, dtype=wanted)
    # DLPack, since from_numpy warns about read-only arrays; nobody here writes into a constant
    tensor = from_dlpack(np.ascontiguousarray(array).reshape(array.shape))
    return tensor if tensor.dtype == wanted else tensor.view(wanted)


def constant_host(constant: Constant) -> np.ndarray:
    """A small constant as a host array."""
    array = np.empty(constant.value.shape, dtype=object)
    if array.ndim == 0:
        array[()] = constant.value.item()
    else:
        array.reshape(-1)[:] = constant.value.reshape(-1).tolist()
    return array


def host_to_dtype(value: np.ndarray, dtype: str) -> np.ndarray:
    """A host array in a declared dtype, as a tensor of that dtype would hold it.

    Floats are rounded, or cut off to the closest integer; integers wrap around.
    """
    rounded = value.copy()
    flat = rounded.reshape(-1)
    held = np.dtype(DTYPES[dtype].numpy) if dtype in ("float16", "float32") else None
    is_integer = dtype.startswith(("int", "uint"))
    for index, item in enumerate(flat.tolist()):
        if isinstance(item, float) and held is not None:
            with np.errstate(over="ignore"):  # what is too large is infinite
                flat[index] = float(held.type(item))
        elif is_integer and isinstance(item, float):
            flat[index] = saturated(item, dtype)
        elif is_integer and isinstance(item, torch.SymFloat):
            flat[index] = as_int(item)
        elif is_integer and isinstance(item, int) and not isinstance(item, bool):
            flat[index] = wrapped(item, dtype)
    return rounded


def as_numpy(value: Any, dtype: str) -> np.ndarray:
    """A value as an array of the declared dtype, in memory that nobody else has.

    Without its own memory, who writes into an output would write into an input or a weight.
    """
    held = np.dtype(DTYPES[dtype].numpy)
    wanted = TORCH_DTYPES.get(dtype)
    if isinstance(value, torch.Tensor) and {value.dtype, wanted} & BIT_PATTERNS.keys():
        value = value.to(wanted)
        value = value.view(BIT_PATTERNS.get(value.dtype, value.dtype))
    array = value.detach().cpu().numpy() if isinstance(value, torch.Tensor) else to_host(value)
    own = np.ascontiguousarray(array.astype(held, copy=False))
    return own if own.base is None else own.copy()
