"""Checks of what is given to a package against what it declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.execute.images import tensor_of_picture
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.interface import Feature
from metal4conv.mil.program import Dimension, TensorType


def check_names(
    given: Collection[str], declared: Mapping[str, TensorType], optional: Collection[str]
) -> None:
    """`UsageError` for an input that there is not, or one that is missing."""
    for name in given:
        if name not in declared:
            raise UsageError(
                f'the package has no input "{name}"', hint=did_you_mean(name, declared)
            )
    for name, type in declared.items():
        if name not in given and name not in optional:
            raise UsageError(f'input "{name}" is missing: expected {type}')


def given_array(item: Feature, value: Any) -> np.ndarray:
    """What was given for an input, as an array. (Any: whatever a caller may pass.)"""
    if item.kind == "image":
        return tensor_of_picture(item, value)
    reason = type(value).__name__
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # nested lists of different lengths
        reason = str(error)
    else:
        if array.dtype != object:
            return array
        if isinstance(value, np.ndarray):
            reason = "its elements are Python objects"
    raise UsageError(
        f'input "{item.name}" cannot be read as an array: {reason}; expected {item.type}'
    )


def default_array(
    item: Feature, dimensions: Mapping[str, Dimension], sizes: Mapping[str, int]
) -> np.ndarray:
    """An optional input that is left out: its default everywhere.

    A size is what it is in the inputs that were given (`sizes`), or else the default one.
    """
    shape = [
        sizes.get(size, dimensions[size].default) if isinstance(size, str) else size
        for size in item.type.shape
    ]
    value = 0 if item.default is None else item.default
    return np.full(shape, value, DTYPES[item.type.dtype].numpy)


def check_input(
    item: Feature,
    array: np.ndarray,
    dimensions: Mapping[str, Dimension],
    sizes: dict[str, int],
) -> np.ndarray:
    """The array with the declared dtype; what does not fit the declaration is refused.

    `sizes` collects the dynamic sizes of all inputs: one name has one size.
    """
    if array.ndim == 0 and len(item.type.shape) == 1:
        array = array.reshape(1)
    if array.ndim != len(item.type.shape):
        raise UsageError(
            f'input "{item.name}" has {array.ndim} dimensions {array.shape}, expected '
            f"{len(item.type.shape)}: {item.type}"
        )
    if item.enumerated and array.shape not in item.enumerated:
        shapes = ", ".join(map(str, item.enumerated[:8]))
        raise UsageError(f'input "{item.name}" has shape {array.shape}, expected one of {shapes}')
    for axis, (found, wanted) in enumerate(zip(array.shape, item.type.shape, strict=True)):
        check_size(item, axis, found, wanted, dimensions, sizes)
    return to_declared(item, array)


def check_size(
    item: Feature,
    axis: int,
    found: int,
    wanted: int | str,
    dimensions: Mapping[str, Dimension],
    sizes: dict[str, int],
) -> None:
    """Refuses a size that the declaration does not allow."""
    names = {2: "height", 3: "width"} if item.kind == "image" else {}
    where = f'input "{item.name}", {names.get(axis, f"dimension {axis}")}'
    if isinstance(wanted, int):
        if found != wanted:
            raise UsageError(f"{where}: size {found}, expected {wanted} ({item.type})")
        return
    allowed = dimensions[wanted]
    if not allowed.allows(found):
        raise UsageError(f'{where}: size {found} for "{wanted}", allowed is {allowed}')
    if sizes.setdefault(wanted, found) != found:
        raise UsageError(
            f'{where}: size {found} for "{wanted}", which is {sizes[wanted]} in another input'
        )


def to_declared(item: Feature, array: np.ndarray) -> np.ndarray:
    """The array in the declared dtype, as Core ML converts it; a float never becomes an integer."""
    wanted = np.dtype(DTYPES[item.type.dtype].numpy)
    if array.dtype == wanted:
        return np.ascontiguousarray(array)
    if wanted.kind == "f" and array.dtype.kind in "fiub":
        return np.ascontiguousarray(array, dtype=wanted)
    if wanted.kind in "iu" and array.dtype.kind in "iub":
        if array.size and not within(array, wanted):
            raise UsageError(
                f'input "{item.name}" holds values from {array.min()} to {array.max()}, which '
                f"{wanted.name} cannot hold"
            )
        return np.ascontiguousarray(array, dtype=wanted)
    raise UsageError(
        f'input "{item.name}" has dtype {array.dtype}, expected {wanted.name}',
        hint=f"convert it first: array.astype('{wanted.name}')",
    )


def check_state(state: Mapping[str, np.ndarray], declared: Mapping[str, TensorType]) -> None:
    """Refuses states that are not those of `make_state()`: they are updated in place."""
    hint = "take it from make_state()"
    for name in state:
        if name not in declared:
            raise UsageError(
                f'the package has no state "{name}"', hint=did_you_mean(name, declared)
            )
    for name, type in declared.items():
        array = state.get(name)
        shape = tuple(int(size) for size in type.shape)
        expected = f'state "{name}" must be an array of shape {shape} and dtype {type.dtype}'
        if not isinstance(array, np.ndarray):
            found = "nothing" if array is None else f"a value of type {array.__class__.__name__}"
            raise UsageError(f"{expected}, found {found}", hint=hint)
        if array.shape != shape or array.dtype != np.dtype(DTYPES[type.dtype].numpy):
            raise UsageError(f"{expected}, found {array.dtype} {array.shape}", hint=hint)
        if not array.flags.writeable:
            raise UsageError(f"{expected} that can be written to", hint=hint)


def within(array: np.ndarray, wanted: np.dtype) -> bool:
    """Whether an integer dtype holds all elements.

    >>> within(np.array([300]), np.dtype("uint8"))
    False
    """
    if array.dtype.kind == "b":
        return True
    limits = np.iinfo(wanted)
    return bool(int(array.min()) >= limits.min and int(array.max()) <= limits.max)
