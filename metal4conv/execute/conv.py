"""Convolutions and their transposes, in one to three spatial dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.table import MIL_OPS, Ints

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@MIL_OPS("conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """The convolution of `x` with `weight`, `[C_out, C_in / groups, *kernel]`."""
    rank = x.dim() - 2
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    windows = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pads = paddings(pad_type, pad, x.shape[2:], windows, strides)
    padding = symmetric(pads)
    if padding is None:
        x, padding = F.pad(x, innermost_first(pads)), (0,) * rank
    return CONVOLUTIONS[rank](x, weight, bias, strides, padding, dilations, groups)


@MIL_OPS("conv_quantized")
def conv_quantized(
    x: Tensor,
    weight: Tensor,
    quantization_type: str,
    quant_scale: Tensor,
    quant_bias: Tensor,
    bias: Tensor | None = None,
    nbits: int = 8,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """A convolution whose weight is `weight * quant_scale + quant_bias`.

    Scale and bias have one element, or one for each output channel. The operation has no input for
    the table of quantization type "lut".
    """
    if quantization_type != "linear":
        raise UnsupportedModel(f'conv_quantized has no input for the "{quantization_type}" type')
    if not 1 <= nbits <= 8:
        raise UnsupportedModel(f"conv_quantized has 1 to 8 bits, not {nbits}")
    channels = (-1, *[1] * (weight.dim() - 1))
    scales, offsets = (item.to(x.dtype).reshape(channels) for item in (quant_scale, quant_bias))
    values = weight.to(x.dtype) * scales + offsets
    added = None if bias is None else bias.to(x.dtype)
    y: Tensor = conv(x, values, added, strides, pad_type, pad, dilations, groups)
    return y


@MIL_OPS("conv_transpose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """The transposed convolution of `x` with `weight`, `[C_in, C_out / groups, *kernel]`.

    Padding cuts the full result. What `output_shape`, or "same" with a stride above the window,
    asks for beyond the full result is appended and holds the bias.
    """
    rank = x.dim() - 2
    strides = strides or (1,) * rank
    dilations = dilations or (1,) * rank
    windows = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, windows, strict=True)]
    wanted = output_shape[-rank:] if output_shape else None
    cuts = []
    for axis in range(rank):
        over = full[axis] - wanted[axis] if wanted else windows[axis] - strides[axis]
        cuts.append(cut(pad_type, pad, axis, over, is_fixed=wanted is not None))
    extra = [max(0, -after) for _, after in cuts]
    cuts = [(before, max(0, after)) for before, after in cuts]
    padding = symmetric(cuts)
    function = TRANSPOSED[rank]
    if padding is not None:
        return function(x, weight, bias, strides, padding, extra, groups, dilations)
    y = function(x, weight, bias, strides, 0, extra, groups, dilations)
    for axis, (before, after) in enumerate(cuts):
        y = y.narrow(axis + 2, before, y.shape[axis + 2] - before - after)
    return y


def cut(
    pad_type: str, pad: Ints | None, axis: int, over: int, *, is_fixed: bool
) -> tuple[int, int]:
    """How much to cut from the full transposed convolution before and after.

    `over` is by how much the full result exceeds the output, for "same" or when the output's size
    `is_fixed`. A negative number says how much is missing.
    """
    match pad_type:
        case "same":
            before = max(0, over) // 2
            return before, over - before
        case "same_lower":
            before = max(0, over) - max(0, over) // 2
            return before, over - before
        case "custom" if pad:
            before, after = pad[2 * axis : 2 * axis + 2]
            return before, over - before if is_fixed else after
        case "valid" | "custom":
            return 0, over if is_fixed else 0
    raise UnsupportedModel(f'padding "{pad_type}" is not known')


def paddings(
    pad_type: str, pad: Ints | None, sizes: Sequence[int], windows: Sequence[int], strides: Ints
) -> list[tuple[int, int]]:
    """Padding before and after each spatial dimension; `windows` are dilated kernel sizes."""
    rank = len(windows)
    if min(strides, default=1) < 1:
        raise UnsupportedModel(f"the strides are {list(strides)}, expected at least 1 each")
    match pad_type:
        case "valid":
            return [(0, 0)] * rank
        case "custom":
            pad = pad or (0,) * (2 * rank)
            return [(pad[2 * axis], pad[2 * axis + 1]) for axis in range(rank)]
        case "same":
            totals = same_totals(sizes, windows, strides)
            return [(total // 2, total - total // 2) for total in totals]
        case "same_lower":
            totals = same_totals(sizes, windows, strides)
            return [(total - total // 2, total // 2) for total in totals]
    raise UnsupportedModel(f'padding "{pad_type}" is not known')


def same_totals(sizes: Sequence[int], windows: Sequence[int], strides: Ints) -> list[int]:
    """The padding of each dimension that gives `ceil(size / stride)` results.

    It does not depend on the size where the stride or the window is 1.

    >>> same_totals((7, 8), (3, 3), (1, 2))
    [2, 1]
    """
    totals = []
    for size, window, stride in zip(sizes, windows, strides, strict=True):
        if stride == 1 or window == 1:
            totals.append(window - 1)
            continue
        total = (size + stride - 1) // stride * stride - size + window - stride
        if window < stride:
            total = torch.sym_max(total, 0)  # type: ignore[no-untyped-call]
        totals.append(total)
    return totals


def symmetric(pads: Sequence[tuple[int, int]]) -> Ints | None:
    """One padding a dimension, where those before and after are equal plain numbers."""
    for before, after in pads:
        if not (isinstance(before, int) and isinstance(after, int) and 0 <= before == after):
            return None
    return tuple(before for before, _ in pads)


def innermost_first(pads: Sequence[tuple[int, int]]) -> list[int]:
    """Paddings in torch's order.

    >>> innermost_first([(1, 2), (3, 4)])
    [3, 4, 1, 2]
    """
    return [size for pair in reversed(pads) for size in pair]
