"""Checks of what is given to a package against what it declares."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.interface import Feature
from metal4conv.mil.program import Dimension, TensorType


def check_names(
    given: Mapping[str, np.ndarray], declared: Mapping[str, TensorType], optional: Collection[str]
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
    where = f'input "{item.name}", dimension {axis}'
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


def within(array: np.ndarray, wanted: np.dtype) -> bool:
    """Whether an integer dtype holds all elements.

    >>> within(np.array([300]), np.dtype("uint8"))
    False
    """
    if array.dtype.kind == "b":
        return True
    limits = np.iinfo(wanted)
    return bool(int(array.min()) >= limits.min and int(array.max()) <= limits.max)
