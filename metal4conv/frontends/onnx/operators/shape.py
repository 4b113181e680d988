"""Operators that change shapes and move elements without picking any."""

from __future__ import annotations

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Value, is_static


@ONNX_OPS("Shape")
def shape(ctx: Context, data: Value, *, end: int | None = None, start: int = 0) -> Value:
    """The sizes from axis `start` to before `end`."""
    sizes = ctx.shape(data)
    chosen = range(data.rank)[start:end]
    if len(chosen) == data.rank:
        return sizes
    if sizes.array is not None:
        return ctx.value(sizes.array[chosen.start : chosen.stop])
    return ctx.slice_axis(sizes, 0, chosen.start, chosen.stop)


@ONNX_OPS("Reshape", since=5)
def reshape(ctx: Context, data: Value, shape: Value, *, allowzero: int = 0) -> Value:
    """The elements in another shape; 0 keeps the size that is there, unless `allowzero` is set."""
    sizes = shape.sizes
    if sizes is None:
        return ctx.reshape(data, shape)
    rows: list[int | Value] = []
    for axis, size in enumerate(sizes):
        if is_static((size,)):
            rows.append(ctx.size(data, axis) if size == 0 and not allowzero else int(size))
        else:
            rows.append(ctx.element(shape, axis))
    return ctx.reshape(data, rows)


@ONNX_OPS("Transpose")
def transpose(ctx: Context, data: Value, *, perm: list[int] | None = None) -> Value:
    """The axes in another order, by default the reverse one."""
    return ctx.transpose(data, list(perm) if perm is not None else list(range(data.rank))[::-1])
