"""Pooling in one to three spatial dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from metal4conv.execute.conv import innermost_first, paddings, symmetric
from metal4conv.execute.table import MIL_OPS, Ints

AVERAGES: dict[int, Callable[..., Tensor]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
MAXIMA: dict[int, Callable[..., Tensor]] = {2: F.max_pool2d, 3: F.max_pool3d}


@dataclass(frozen=True)
class Windows:
    """Where pooling looks: padding before and after, and what "ceil" adds after that."""

    rank: int
    sizes: Ints
    strides: Ints
    pads: list[tuple[int, int]]
    overhangs: list[int] | None

    @property
    def ends(self) -> list[tuple[int, int]]:
        """Padding before and after with the overhang."""
        if self.overhangs is None:
            return self.pads
        pairs = zip(self.pads, self.overhangs, strict=True)
        return [(before, after + over) for (before, after), over in pairs]

    @property
    def padding(self) -> Ints | None:
        """The padding, where torch's own pooling can do it."""
        padding = symmetric(self.ends)
        if padding is None or any(2 * p > k for p, k in zip(padding, self.sizes, strict=True)):
            return None
        return padding


@MIL_OPS("avg_pool")
def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
    exclude_padding_from_average: bool = False,
) -> Tensor:
    """The mean of each window.

    What "ceil" adds beyond the padding is never part of a mean, as in PyTorch.
    """
    windows = find_windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    average, strides = AVERAGES[windows.rank], windows.strides
    if windows.overhangs is None and windows.padding is not None:
        counts = not exclude_padding_from_average
        return average(x, kernel_sizes, strides, windows.padding, count_include_pad=counts)
    means = average(F.pad(x, innermost_first(windows.ends)), kernel_sizes, strides)
    if windows.overhangs is None and not exclude_padding_from_average:
        return means
    counted = torch.ones((1, 1, *x.shape[2:]), dtype=x.dtype, device=x.device)
    value = 0.0 if exclude_padding_from_average else 1.0
    counted = F.pad(counted, innermost_first(windows.pads), value=value)
    if windows.overhangs is not None:
        counted = F.pad(counted, innermost_first([(0, over) for over in windows.overhangs]))
    return means / average(counted, kernel_sizes, strides)


@MIL_OPS("l2_pool")
def l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The square root of the sum of squares of each window."""
    windows = find_windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    squares = F.pad(x * x, innermost_first(windows.ends))
    means = AVERAGES[windows.rank](squares, kernel_sizes, windows.strides)
    return torch.sqrt(means * math.prod(kernel_sizes))


@MIL_OPS("max_pool")
def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """The maximum of each window; padding never wins."""
    windows = find_windows(x, kernel_sizes, pad_type, strides, pad, ceil_mode)
    padding: int | Ints | None = windows.padding
    if padding is None:
        x, padding = F.pad(x, innermost_first(windows.ends), value=-math.inf), 0
    if windows.rank > 1:
        return MAXIMA[windows.rank](x, kernel_sizes, windows.strides, padding)
    # max_pool1d freezes a symbolic size
    before = padding[0] if isinstance(padding, tuple) else padding
    plane = x.unsqueeze(2)
    y = F.max_pool2d(plane, (1, *kernel_sizes), (1, *windows.strides), (0, before))
    return y.squeeze(2)


def find_windows(
    x: Tensor,
    sizes: Ints,
    pad_type: str,
    strides: Ints | None,
    pad: Ints | None,
    ceil_mode: bool,
) -> Windows:
    """The windows of a pooling operation."""
    rank = x.dim() - 2
    strides = strides or (1,) * rank
    pads = paddings(pad_type.lower(), pad, x.shape[2:], sizes, strides)
    overhangs = find_overhangs(x.shape[2:], sizes, strides, pads) if ceil_mode else None
    return Windows(rank, sizes, strides, pads, overhangs)


def find_overhangs(
    sizes: Sequence[int], windows: Ints, strides: Ints, pads: Sequence[tuple[int, int]]
) -> list[int]:
    """By how much the last window of each dimension reaches beyond the padding in "ceil" mode.

    One window that would start in the padding after the data is left out, where there is any.

    >>> find_overhangs((6,), (3,), (2,), [(0, 0)])
    [1]
    """
    overhangs = []
    for size, window, stride, (before, after) in zip(sizes, windows, strides, pads, strict=True):
        padded = size + before + after
        count = (padded - window + stride - 1) // stride + 1
        if after > window - stride and before + after > 0:
            starts = (size + before + stride - 1) // stride
            fewer = torch.sym_max(count - 1, starts)  # type: ignore[no-untyped-call]
            count = torch.sym_min(count, fewer)  # type: ignore[no-untyped-call]
        overhangs.append((count - 1) * stride + window - padded)
    return overhangs
