"""Operations that pick elements by index, or put them there.

Until iOS16 negative indices count from the end. From iOS17 on they are out of range, like those
behind the end. What a device does with an index out of range is undefined unless
`validate_indices` is set; here it is always an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.table import EXACT_OPS, MIL_OPS, Ints

Place = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""From data, index, updates and axis to the data with its updates; index has the updates' shape."""


def wrapped(indices: Tensor, size: int) -> Tensor:
    """Indices into an axis of `size` elements, negative ones counted from the end."""
    indices = indices.long()
    return checked(torch.where(indices < 0, indices + size, indices), size)


def checked(indices: Tensor, size: int) -> Tensor:
    """Indices into an axis of `size` elements; one out of range is an error."""
    indices = indices.long()
    outside = torch.logical_or(indices < 0, indices >= size)
    if not isinstance(outside, FakeTensor) and bool(outside.any()):
        first = indices[outside][0].item()
        raise IndexError(f"index {first} is out of range for an axis of {size} elements")
    return indices


SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32}


def signed(x: Tensor) -> Tensor:
    """The same bits in a type whose elements torch can pick: it leaves out most unsigned ones."""
    return x.view(SIGNED[x.dtype]) if x.dtype in SIGNED else x


def wrapped_each(indices: Tensor, sizes: Ints) -> Tensor:
    """`wrapped` for indices whose last axis runs over several axes."""
    if not sizes:
        return indices.long()
    each = zip(indices.unbind(-1), sizes, strict=True)
    return torch.stack([wrapped(index, size) for index, size in each], -1)


def checked_each(indices: Tensor, sizes: Ints) -> Tensor:
    """`checked` for indices whose last axis runs over several axes."""
    if not sizes:
        return indices.long()
    each = zip(indices.unbind(-1), sizes, strict=True)
    return torch.stack([checked(index, size) for index, size in each], -1)


@EXACT_OPS("gather")
def gather(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """Slices of `x` along `axis`, picked by `indices`."""
    return picked(x, wrapped(indices, x.shape[axis]), axis % x.ndim)


@EXACT_OPS("gather", since=16)
def gather_batched(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0) -> Tensor:
    """The same, where the first `batch_dims` axes of both run in parallel."""
    return picked_batched(x, wrapped(indices, x.shape[axis]), axis % x.ndim, batch_dims)


@EXACT_OPS("gather", since=17)
def gather_validated(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> Tensor:
    """The same, where negative indices are out of range."""
    return picked_batched(x, checked(indices, x.shape[axis]), axis % x.ndim, batch_dims)


def picked(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Slices along an axis; the shape of `indices` takes the place of the axis."""
    flat = torch.index_select(signed(x), axis, indices.reshape(-1)).view(x.dtype)
    return flat.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


def picked_batched(x: Tensor, indices: Tensor, axis: int, batch_dims: int) -> Tensor:
    """Slices along an axis, for each element of the first `batch_dims` axes by its own indices."""
    if batch_dims == 0:
        return picked(x, indices, axis)
    batch, before, after = x.shape[:batch_dims], x.shape[batch_dims:axis], x.shape[axis + 1 :]
    inner = indices.shape[batch_dims:]
    count = math.prod(batch)
    rows = x.movedim(axis, batch_dims).reshape(count, x.shape[axis], *before, *after)
    which = torch.arange(count, device=x.device).unsqueeze(-1)
    found = rows[which, indices.reshape(count, math.prod(inner))]
    found = found.reshape(*batch, *inner, *before, *after)
    source = list(range(batch_dims, batch_dims + len(inner)))
    target = [axis + position for position in range(len(inner))]
    return found.movedim(source, target)


@EXACT_OPS("gather_along_axis")
def gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0) -> Tensor:
    """Elements of `x`; `indices`, of the result's shape, says where each lies along `axis`."""
    return picked_along(x, wrapped(indices, x.shape[axis]), axis)


@EXACT_OPS("gather_along_axis", since=17)
def gather_along_axis_validated(
    x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool = False
) -> Tensor:
    """The same, where negative indices are out of range."""
    return picked_along(x, checked(indices, x.shape[axis]), axis)


def picked_along(x: Tensor, indices: Tensor, axis: int) -> Tensor:
    """Elements along an axis, one for each index."""
    return torch.gather(signed(x), axis, indices).view(x.dtype)


@EXACT_OPS("gather_nd")
def gather_nd(x: Tensor, indices: Tensor) -> Tensor:
    """Slices of `x`; the last axis of `indices` holds one index for each leading axis of `x`."""
    sizes = x.shape[: indices.shape[-1]]
    return picked_nd(x, wrapped_each(indices, sizes), 0)


@EXACT_OPS("gather_nd", since=16)
def gather_nd_batched(x: Tensor, indices: Tensor, batch_dims: int = 0) -> Tensor:
    """The same, where the first `batch_dims` axes of both run in parallel."""
    sizes = x.shape[batch_dims : batch_dims + indices.shape[-1]]
    return picked_nd(x, wrapped_each(indices, sizes), batch_dims)


@EXACT_OPS("gather_nd", since=17)
def gather_nd_validated(
    x: Tensor, indices: Tensor, batch_dims: int = 0, validate_indices: bool = False
) -> Tensor:
    """The same, where negative indices are out of range."""
    sizes = x.shape[batch_dims : batch_dims + indices.shape[-1]]
    return picked_nd(x, checked_each(indices, sizes), batch_dims)


def picked_nd(x: Tensor, indices: Tensor, batch_dims: int) -> Tensor:
    """Slices of `x` by indices into the axes behind `batch_dims`."""
    depth = batch_dims + indices.shape[-1]
    batch = math.prod(x.shape[:batch_dims])
    inner = math.prod(x.shape[batch_dims:depth])
    rest = x.shape[depth:]
    rows = x.reshape(batch * inner, *rest)
    flat = flat_index(indices, x.shape[batch_dims:depth])
    first = torch.arange(batch, device=x.device).reshape(
        *x.shape[:batch_dims], *(1,) * (flat.ndim - batch_dims)
    )
    return picked(rows, flat + first * inner, 0)


def flat_index(indices: Tensor, sizes: Ints) -> Tensor:
    """Indices into several axes, as in the last axis of `indices`, as one into all of them."""
    flat = indices.new_zeros(indices.shape[:-1])
    for index, size in zip(indices.unbind(-1), sizes, strict=True):
        flat = flat * size + index
    return flat


def with_quotient(data: Tensor, index: Tensor, updates: Tensor, axis: int) -> Tensor:
    """Data divided by its updates; integers are cut towards zero."""
    divisor = torch.ones_like(data).scatter_reduce(axis, index, updates, "prod")
    rounding = None if data.is_floating_point() else "trunc"
    return torch.div(data, divisor, rounding_mode=rounding)


PLACE: dict[str, Place] = {
    "update": lambda data, index, updates, axis: data.scatter(axis, index, updates),
    "add": lambda data, index, updates, axis: data.scatter_add(axis, index, updates),
    "sub": lambda data, index, updates, axis: data.scatter_add(axis, index, -updates),
    "mul": lambda data, index, updates, axis: data.scatter_reduce(axis, index, updates, "prod"),
    "div": with_quotient,
    "max": lambda data, index, updates, axis: data.scatter_reduce(axis, index, updates, "amax"),
    "min": lambda data, index, updates, axis: data.scatter_reduce(axis, index, updates, "amin"),
}
"""What becomes of an element and its updates, by `mode`."""


def placed(data: Tensor, index: Tensor, updates: Tensor, axis: int, mode: str) -> Tensor:
    """Data with its updates; `index`, of their shape, says where each lies along `axis`."""
    place = PLACE.get(mode)
    if place is None:
        raise UnsupportedModel(f'mode "{mode}" is not known here', hint=", ".join(PLACE))
    return place(data, index, updates, axis)


def placed_slices(data: Tensor, index: Tensor, updates: Tensor, axis: int, mode: str) -> Tensor:
    """Data with updates of whole slices; `index` says where each lies along `axis`.

    The shape of `index` stands in the updates in the place of the axis. The documentation has
    rank 1 alone, coremltools' type inference and Core ML take any.
    """
    wanted = (*data.shape[:axis], *index.shape, *data.shape[axis + 1 :])
    if not isinstance(updates, FakeTensor) and tuple(updates.shape) != wanted:
        raise ValueError(f"updates have shape {tuple(updates.shape)}, expected {wanted}")
    rank = index.ndim
    changes = updates.flatten(axis, axis + rank - 1) if rank else updates.unsqueeze(axis)
    along = index.reshape(-1, *(1,) * (data.ndim - axis - 1))
    return placed(data, along.expand(changes.shape), changes, axis, mode)


def placed_nd(data: Tensor, indices: Tensor, updates: Tensor, mode: str) -> Tensor:
    """Data with updates of whole slices, by indices into its leading axes."""
    depth = indices.shape[-1]
    rest = data.shape[depth:]
    rows = data.reshape(math.prod(data.shape[:depth]), *rest)
    flat = flat_index(indices, data.shape[:depth]).reshape(-1)
    changes = updates.reshape(flat.shape[0], *rest)
    return placed_slices(rows, flat, changes, 0, mode).reshape(data.shape)


@MIL_OPS("scatter")
def scatter(
    data: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, mode: str = "add"
) -> Tensor:
    """Data with slices along `axis` changed by `updates`, at `indices`."""
    index = wrapped(indices, data.shape[axis])
    return placed_slices(data, index, updates, axis % data.ndim, mode)


@MIL_OPS("scatter", since=17)
def scatter_validated(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """The same, where negative indices are out of range."""
    index = checked(indices, data.shape[axis])
    return placed_slices(data, index, updates, axis % data.ndim, mode)


@MIL_OPS("scatter_along_axis")
def scatter_along_axis(
    data: Tensor, indices: Tensor, updates: Tensor, axis: int = 0, mode: str = "add"
) -> Tensor:
    """Data with elements changed by `updates`; `indices`, of their shape, is where along `axis`."""
    return placed(data, wrapped(indices, data.shape[axis]), updates, axis, mode)


@MIL_OPS("scatter_along_axis", since=17)
def scatter_along_axis_validated(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """The same, where negative indices are out of range."""
    return placed(data, checked(indices, data.shape[axis]), updates, axis, mode)


@MIL_OPS("scatter_nd")
def scatter_nd(data: Tensor, indices: Tensor, updates: Tensor, mode: str = "add") -> Tensor:
    """Data with slices changed; the last axis of `indices` indexes its leading axes."""
    index = wrapped_each(indices, data.shape[: indices.shape[-1]])
    return placed_nd(data, index, updates, mode)


@MIL_OPS("scatter_nd", since=17)
def scatter_nd_validated(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """The same, where negative indices are out of range."""
    index = checked_each(indices, data.shape[: indices.shape[-1]])
    return placed_nd(data, index, updates, mode)
