"""Random numbers: of the same distributions, not the same numbers as another runtime's.

A seed is a float in ONNX and an integer in MIL; without one MIL draws other numbers each time.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from metal4conv.frontends.onnx.context import Context
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.tensors import type_name
from metal4conv.frontends.onnx.value import Value


@ONNX_OPS("RandomNormal")
def random_normal(
    ctx: Context,
    *,
    dtype: int = 1,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
    shape: list[int],
) -> Value:
    sizes = ctx.value(np.array(shape, np.int64))
    return drawn(ctx, "random_normal", sizes, dtype, seed, mean=mean, stddev=scale)


@ONNX_OPS("RandomNormalLike")
def random_normal_like(
    ctx: Context,
    input: Value,
    *,
    dtype: int | None = None,
    mean: float = 0.0,
    scale: float = 1.0,
    seed: float | None = None,
) -> Value:
    sizes = ctx.shape(input)
    kind = input.dtype if dtype is None else dtype
    return drawn(ctx, "random_normal", sizes, kind, seed, mean=mean, stddev=scale)


@ONNX_OPS("RandomUniform")
def random_uniform(
    ctx: Context,
    *,
    dtype: int = 1,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
    shape: list[int],
) -> Value:
    sizes = ctx.value(np.array(shape, np.int64))
    return drawn(ctx, "random_uniform", sizes, dtype, seed, low=low, high=high)


@ONNX_OPS("RandomUniformLike")
def random_uniform_like(
    ctx: Context,
    input: Value,
    *,
    dtype: int | None = None,
    high: float = 1.0,
    low: float = 0.0,
    seed: float | None = None,
) -> Value:
    sizes = ctx.shape(input)
    kind = input.dtype if dtype is None else dtype
    return drawn(ctx, "random_uniform", sizes, kind, seed, low=low, high=high)


@ONNX_OPS("Bernoulli")
def bernoulli(
    ctx: Context, input: Value, *, dtype: int | None = None, seed: float | None = None
) -> Value:
    """1 with the probability that each element says, else 0."""
    numbers = drawn(ctx, "random_uniform", ctx.shape(input), 1, seed, low=0.0, high=1.0)
    chosen = ctx.less(numbers, input.with_dtype("float32"))
    return ctx.cast(chosen, input.dtype if dtype is None else type_name(dtype))


@ONNX_OPS("Multinomial")
def multinomial(
    ctx: Context,
    input: Value,
    *,
    dtype: int = 6,
    sample_size: int = 1,
    seed: float | None = None,
) -> Value:
    """Classes drawn with replacement by their logarithms of probabilities: (batch, samples)."""
    found: Value = ctx.emit(
        "random_categorical", x=input, mode="logits", size=sample_size, seed=whole_seed(seed)
    )
    return ctx.cast(found.with_dtype("float32"), type_name(dtype))


def drawn(
    ctx: Context,
    operation: str,
    shape: Value,
    dtype: int | str,
    seed: float | None,
    **distribution: float,
) -> Value:
    """Numbers of a distribution; those without dimensions are drawn as one element."""
    name = dtype if isinstance(dtype, str) else type_name(dtype)
    if "float" not in name:
        raise ctx.unsupported(f"random numbers are floats, not {name}")
    rank = int(shape.shape[0])
    sizes = shape if rank else ctx.value(np.array([1], np.int64))
    limits: dict[str, Any] = {key: np.float32(item) for key, item in distribution.items()}
    numbers: Value = ctx.emit(operation, shape=sizes, seed=whole_seed(seed), **limits)
    return (numbers if rank else ctx.squeeze(numbers, [0])).with_dtype(name)


def whole_seed(seed: float | None) -> np.int32:
    """A seed of MIL's, which is not negative; -1 for none."""
    if seed is None:
        return np.int32(-1)
    return np.int32(np.float32(seed).view(np.int32) & 0x7FFFFFFF)
