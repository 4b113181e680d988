"""States: buffers that survive between predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.table import EXACT_OPS
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.program import TensorType


@dataclass
class State:
    """A state's current value."""

    value: Tensor


def empty_state(name: str, type: TensorType) -> np.ndarray:
    """What a state holds before the first call: zeros."""
    shape = tuple(int(size) for size in type.shape)
    try:
        return np.zeros(shape, DTYPES[type.dtype].numpy)
    except (MemoryError, ValueError):  # numpy's own limits are ValueErrors
        raise UnsupportedModel(
            f'state "{name}", {type}, needs more memory than there is here'
        ) from None


@EXACT_OPS("read_state", since=18)
def read_state(input: Any) -> Tensor:
    """The state's current value; later updates do not change what was read."""
    return as_state(input).value


@EXACT_OPS("coreml_update_state", since=18)
def coreml_update_state(state: Any, value: Tensor) -> Tensor:
    """Puts `value` into the state, and gives it."""
    write_state(state, value)
    return value


@EXACT_OPS("write_state", since=18)
def write_state_operation(input: Any, data: Tensor) -> tuple[()]:
    """Puts `data` into the state; this is how packages on disk write the update."""
    write_state(input, data)
    return ()


def write_state(state: Any, value: Tensor) -> None:
    """Replaces the state's value, never its shape."""
    held = as_state(state)
    if held.value.shape != value.shape:
        raise UnsupportedModel(
            f"a state of shape {tuple(held.value.shape)} was given {tuple(value.shape)}"
        )
    held.value = value


def as_state(value: Any) -> State:
    """The state itself; anything else in its place is a damaged program."""
    if not isinstance(value, State):
        raise UnsupportedModel(f"a state was expected, found {type(value).__name__}")
    return value
