"""Normalizations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metal4conv.execute.table import MIL_OPS, Ints


@MIL_OPS("batch_norm")
def batch_norm(
    x: Tensor,
    mean: Tensor,
    variance: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """`x` normalized by given statistics of its channels, axis 1."""
    return F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=epsilon)


@MIL_OPS("instance_norm")
def instance_norm(
    x: Tensor,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """`x` normalized over the spatial dimensions of each channel.

    torch's own `instance_norm` refuses images of one pixel; a group norm of one channel a group
    does not.
    """
    return torch.group_norm(x, x.shape[1], gamma, beta, epsilon)


@MIL_OPS("layer_norm")
def layer_norm(
    x: Tensor,
    axes: Ints | None = None,
    gamma: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-5,
) -> Tensor:
    """`x` normalized over `axes`, by default over all; `gamma` and `beta` have the axes' shape."""
    rank = x.dim()
    positive = sorted(axis % rank for axis in axes) if axes is not None else list(range(rank))
    if positive == list(range(rank - len(positive), rank)):
        return F.layer_norm(x, x.shape[positive[0] :], gamma, beta, epsilon)
    variance, mean = torch.var_mean(x, dim=positive, correction=0, keepdim=True)
    y = (x - mean) * torch.rsqrt(variance + epsilon)
    shape = [x.shape[axis] if axis in positive else 1 for axis in range(rank)]
    if gamma is not None:
        y = y * gamma.reshape(shape)
    if beta is not None:
        y = y + beta.reshape(shape)
    return y


@MIL_OPS("l2_norm")
def l2_norm(x: Tensor, epsilon: float = 1e-6) -> Tensor:
    """`x` divided by the square root of the sum of squares over its last three dimensions."""
    return x / torch.sqrt((x * x).sum(dim=(-3, -2, -1), keepdim=True) + epsilon)


@MIL_OPS("local_response_norm")
def local_response_norm(
    x: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """`x` divided by a power of the mean square of `size` neighbouring channels.

    The mean counts channels outside the tensor as zeros. Of an even `size` the larger half lies
    before the channel, as in the frameworks that MIL's operation comes from.
    """
    spatial = [0, 0] * (x.dim() - 2)
    squares = F.pad(x * x, [*spatial, size // 2, (size - 1) // 2])
    sums = squares.unfold(1, size, 1).sum(dim=-1)
    return x / (sums * (alpha / size) + k) ** beta
