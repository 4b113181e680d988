"""Control flow: branches, loops, and lists that grow while a loop runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metal4conv.errors import UnsupportedModel, did_you_mean
from metal4conv.execute.marshal import to_scalar, to_tensor
from metal4conv.execute.table import EXACT_OPS, Ints

Branch = Callable[..., tuple[Any, ...]]
"""A nested block: called with its inputs, it gives its outputs."""


@EXACT_OPS("cond")
def cond(pred: Any, blocks: tuple[Branch, Branch]) -> tuple[Any, ...]:
    """The outputs of the first block if `pred` holds, else those of the second."""
    return blocks[0]() if bool(to_scalar(pred)) else blocks[1]()


@EXACT_OPS("while_loop")
def while_loop(loop_vars: list[Any], blocks: tuple[Branch, Branch]) -> tuple[Any, ...]:
    """Runs the body (the second block) on the loop's variables while the first gives true."""
    state = tuple(loop_vars)
    while bool(to_scalar(blocks[0](*state)[0])):
        state = blocks[1](*state)
    return state


@EXACT_OPS("make_list")
def make_list(
    elem_shape: Any,
    init_length: int = 1,
    dynamic_length: bool = True,
    dtype: str = "fp32",
) -> list[Tensor | None]:
    """A list of `init_length` elements, all zeros.

    `elem_shape` may hold names of unknown sizes: then the first written element decides the shape
    of all others.
    """
    sizes = static_sizes(elem_shape)
    if sizes is None:
        return [None] * init_length
    if dtype not in ELEMENT_DTYPES:
        raise UnsupportedModel(
            f'lists of dtype "{dtype}" are not known', hint=did_you_mean(dtype, ELEMENT_DTYPES)
        )
    zeros = torch.zeros(sizes, dtype=ELEMENT_DTYPES[dtype])
    return [zeros] * init_length


ELEMENT_DTYPES = {
    "bool": torch.bool,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "int32": torch.int32,
}
"""The dtypes that `make_list` knows, by its own names."""


def static_sizes(elem_shape: Any) -> tuple[int, ...] | None:
    """The sizes of a list's elements, None when one of them is a name.

    >>> static_sizes([torch.tensor(2), "rows"]), static_sizes(torch.tensor(2))
    (None, (2,))
    """
    items = elem_shape if isinstance(elem_shape, list) else [elem_shape]
    if any(isinstance(item, str) for item in items):
        return None
    return tuple(int(size) for item in items for size in torch.as_tensor(item).reshape(-1))


@EXACT_OPS("list_write")
def list_write(ls: Any, index: int, value: Any) -> list[Tensor | None]:
    """The list with `value` at `index`; it grows with zeros when the index lies behind its end.

    The list is copied, since a loop may still need the old one.
    """
    element = to_tensor(value)
    zeros = torch.zeros_like(element)
    grown = [zeros if item is None else item for item in ls]
    grown += [zeros] * (index + 1 - len(grown))
    grown[index] = element
    return grown


@EXACT_OPS("list_read")
def list_read(ls: Any, index: int) -> Tensor:
    """The element at `index`."""
    if not -len(ls) <= index < len(ls):
        raise UnsupportedModel(f"element {index} of a list of {len(ls)} was never written")
    element: Tensor | None = ls[index]
    if element is None:
        raise UnsupportedModel(
            f"element {index} of a list of {len(ls)} was never written, and its shape is unknown"
        )
    return element


@EXACT_OPS("list_gather")
def list_gather(ls: Any, indices: Ints) -> Tensor:
    """The elements at `indices`, stacked along a new first dimension."""
    if not indices:
        written = [element for element in ls if element is not None]
        if not written:
            raise UnsupportedModel("elements of unknown shape cannot be stacked to an empty tensor")
        empty: Tensor = written[0].new_empty((0, *written[0].shape))
        return empty
    return torch.stack([list_read(ls, index) for index in indices])


@EXACT_OPS("list_scatter")
def list_scatter(ls: Any, indices: Ints, value: Tensor) -> list[Tensor | None]:
    """The list with the slices of `value` along its first dimension at `indices`."""
    grown = list(ls)
    for index, element in zip(indices, value, strict=True):
        grown = list_write(grown, index, element)
    return grown


@EXACT_OPS("list_length")
def list_length(ls: Any) -> Tensor:
    """The number of elements, written or not."""
    return torch.tensor(len(ls), dtype=torch.int32)
