"""Windows that slide over spatial axes: those of convolutions and of pooling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metal4conv.frontends.onnx.context import Context, set_shape
from metal4conv.frontends.onnx.value import Size, Value, is_static


@dataclass(frozen=True)
class Windows:
    """How windows lie over the spatial axes, which follow batch and channels."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...] | None
    """Before and after each axis; None where they follow from a dynamic size."""
    is_lower: bool = False
    """Where `pads` are None: the larger half lies before, not after."""

    @property
    def spans(self) -> list[int]:
        """How far a window reaches along each axis."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]

    @property
    def is_dilated(self) -> bool:
        return any(step > 1 for step in self.dilations)

    def padding(self) -> dict[str, Any]:
        """The padding as inputs of a MIL operation. (Any: text, numbers.)"""
        if self.pads is None:
            return {"pad_type": "same_lower" if self.is_lower else "same"}
        if not any(map(any, self.pads)):
            return {"pad_type": "valid"}
        return {"pad_type": "custom", "pad": [size for pair in self.pads for size in pair]}


def windows_of(
    ctx: Context,
    x: Value,
    kernel: Sequence[Size],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
) -> Windows:
    """The windows that a node's attributes describe."""
    rank = x.rank - 2
    if not 1 <= rank <= 3:
        raise ctx.unsupported(f"the input has {x.rank} axes; 3 to 5 can be converted")
    if len(kernel) != rank or not is_static(tuple(kernel)):
        raise ctx.unsupported(f"the kernel is {list(kernel)}; {rank} fixed sizes were expected")
    steps = tuple(strides or (1,) * rank)
    apart = tuple(dilations or (1,) * rank)
    sizes = tuple(int(size) for size in kernel)
    found = Windows(sizes, steps, apart, ((0, 0),) * rank)
    if len(steps) != rank or len(apart) != rank:
        raise ctx.unsupported(f"strides {list(steps)} or dilations {list(apart)} are not {rank}")
    if auto_pad == "VALID":
        return found
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        return same_windows(ctx, x, found, auto_pad == "SAME_LOWER")
    if auto_pad != "NOTSET":
        raise ctx.unsupported(f'auto_pad is "{auto_pad}", which is not known')
    given = list(pads or (0,) * (2 * rank))
    if len(given) != 2 * rank:
        raise ctx.unsupported(f"pads are {given}; {2 * rank} were expected")
    return Windows(sizes, steps, apart, tuple(zip(given[:rank], given[rank:], strict=True)))


def same_windows(ctx: Context, x: Value, windows: Windows, is_lower: bool) -> Windows:
    """The windows with padding that gives ceil(size / stride) of them."""
    totals: list[int | None] = []
    for size, step, span in zip(x.shape[2:], windows.strides, windows.spans, strict=True):
        if step == 1 or span == 1:
            totals.append(span - 1)
        elif is_static((size,)):
            totals.append(max((-(-int(size) // step) - 1) * step + span - int(size), 0))
        else:
            totals.append(None)
    kernel, strides, dilations = windows.kernel, windows.strides, windows.dilations
    if None in totals:
        return Windows(kernel, strides, dilations, None, is_lower)
    halves = [(total // 2, total - total // 2) for total in totals if total is not None]
    pads = tuple((after, before) if is_lower else (before, after) for before, after in halves)
    return Windows(kernel, strides, dilations, pads)


def padded(ctx: Context, x: Value, windows: Windows, fill: float = 0.0) -> tuple[Value, Windows]:
    """The value with its padding around it, and the windows over that, which have none."""
    bare = Windows(windows.kernel, windows.strides, windows.dilations, ((0, 0),) * (x.rank - 2))
    if windows.pads is not None:
        return pad_by(ctx, x, windows.pads, fill), bare
    before: list[Value | int] = []
    after: list[Value | int] = []
    for axis, (step, span) in enumerate(zip(windows.strides, windows.spans, strict=True), 2):
        size = ctx.size(x, axis)
        count = ctx.floor_div(ctx.add(size, step - 1), step)
        reach = ctx.add(ctx.mul(ctx.sub(count, 1), step), span)
        total = ctx.maximum(ctx.sub(reach, size), 0)
        half = ctx.floor_div(total, 2)
        rest = ctx.sub(total, half)
        before.append(rest if windows.is_lower else half)
        after.append(half if windows.is_lower else rest)
    pads = [item for pair in zip(before, after, strict=True) for item in pair]
    return pad_with(ctx, x, [0, 0, 0, 0, *pads], fill), bare


def pad_by(ctx: Context, x: Value, pads: Sequence[tuple[int, int]], fill: float = 0.0) -> Value:
    """The value with its last axes padded by fixed numbers."""
    if not any(map(any, pads)):
        return x
    sizes = [size for pair in pads for size in pair]
    return pad_with(ctx, x, [*[0] * (2 * (x.rank - len(pads))), *sizes], fill)


def pad_with(ctx: Context, x: Value, pads: Sequence[Value | int], fill: float) -> Value:
    """The value padded before and after each axis."""
    amounts = ctx.vector(pads)
    return ctx.unary("pad", x, pad=amounts, mode="constant", constant_val=np.float32(fill))


def tell_shape(x: Value, result: Value, windows: Windows) -> Value:
    """The result, with the sizes that windows over a dynamic size leave told to coremltools."""
    import sympy

    if is_static(result.shape):
        return result
    sizes = list(result.shape[:2])
    for axis, size in enumerate(x.shape[2:]):
        step, span = windows.strides[axis], windows.spans[axis]
        if windows.pads is None:
            count = sympy.ceiling(size / sympy.Integer(step))
        else:
            free = size + sum(windows.pads[axis]) - span
            count = free + 1 if step == 1 else sympy.floor(free / sympy.Integer(step)) + 1
        sizes.append(int(count) if getattr(count, "is_Integer", False) else count)
    set_shape(result, sizes)
    return result


def taps(ctx: Context, x: Value, axis: int, kernel: int, step: int, dilation: int) -> list[Value]:
    """What lies under each place of the windows along one axis of an already padded value."""
    span = (kernel - 1) * dilation + 1
    found = []
    for place in range(kernel):
        first, rest = place * dilation, span - 1 - place * dilation
        begin, end, stride = [0] * x.rank, [0] * x.rank, [1] * x.rank
        begin[axis], end[axis], stride[axis] = first, -rest, step
        found.append(
            ctx.unary(
                "slice_by_index",
                x,
                begin=begin,
                end=end,
                stride=stride,
                begin_mask=[number != axis for number in range(x.rank)],
                end_mask=[number != axis or not rest for number in range(x.rank)],
            )
        )
    return found
