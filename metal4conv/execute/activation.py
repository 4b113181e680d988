"""Activations: elementwise functions of one tensor, some with constant parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.table import EXACT_OPS, MIL_OPS, ROUNDED_OPS


@MIL_OPS("clamped_relu")
def clamped_relu(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`x` where it is not negative, else `alpha * x`; never more than `beta`."""
    return F.leaky_relu(x, alpha).clamp(max=beta)


@ROUNDED_OPS("elu")
def elu(x: Tensor, alpha: float) -> Tensor:
    """`x` where it is positive, else `alpha * (e^x - 1)`."""
    return F.elu(x, alpha)


@ROUNDED_OPS("gelu")
def gelu(x: Tensor, mode: str = "EXACT") -> Tensor:
    """Gaussian error linear unit, exact or by one of two approximations."""
    match mode.upper():
        case "EXACT":
            return F.gelu(x)
        case "TANH_APPROXIMATION":
            return F.gelu(x, approximate="tanh")
        case "SIGMOID_APPROXIMATION":
            wide = x.float()
            return (wide * torch.sigmoid(wide * 1.702)).to(x.dtype)
    raise UnsupportedModel(f'gelu has no mode "{mode}"')


@ROUNDED_OPS("leaky_relu")
def leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` where it is not negative, else `alpha * x`."""
    return F.leaky_relu(x, alpha)


@MIL_OPS("linear_activation")
def linear_activation(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha * x + beta`."""
    return x * alpha + beta


@MIL_OPS("prelu")
def prelu(x: Tensor, alpha: Tensor) -> Tensor:
    """`x` where it is positive, else `x` times its channel's `alpha`."""
    return torch.where(x > 0, x, x * per_channel(alpha, x))


@EXACT_OPS("relu")
def relu(x: Tensor) -> Tensor:
    """`x` where it is positive, else 0."""
    return F.relu(x)


@EXACT_OPS("relu6")
def relu6(x: Tensor) -> Tensor:
    """`x` limited to 0..6."""
    return F.relu6(x)


@MIL_OPS("scaled_tanh")
def scaled_tanh(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha * tanh(beta * x)`."""
    return torch.tanh(x * beta) * alpha


@ROUNDED_OPS("sigmoid")
def sigmoid(x: Tensor) -> Tensor:
    """`1 / (1 + e^-x)`."""
    return torch.sigmoid(x)


@MIL_OPS("sigmoid_hard")
def sigmoid_hard(x: Tensor, alpha: float, beta: float) -> Tensor:
    """`alpha * x + beta` limited to 0..1."""
    return (x * alpha + beta).clamp(0, 1)


@ROUNDED_OPS("silu")
def silu(x: Tensor) -> Tensor:
    """`x * sigmoid(x)`."""
    return F.silu(x)


@MIL_OPS("softmax")
def softmax(x: Tensor, axis: int = -1) -> Tensor:
    """Exponentials along an axis, divided by their sum."""
    return torch.softmax(x, axis)


@ROUNDED_OPS("softplus")
def softplus(x: Tensor) -> Tensor:
    """`log(1 + e^x)`, without overflow."""
    return F.softplus(x)


@MIL_OPS("softplus_parametric")
def softplus_parametric(x: Tensor, alpha: Tensor, beta: Tensor) -> Tensor:
    """`alpha * log(1 + e^(beta * x))` with parameters by channel, without overflow."""
    return F.softplus(x * per_channel(beta, x)) * per_channel(alpha, x)


@MIL_OPS("softsign")
def softsign(x: Tensor) -> Tensor:
    """`x / (1 + |x|)`."""
    return F.softsign(x)


@MIL_OPS("thresholded_relu")
def thresholded_relu(x: Tensor, alpha: float) -> Tensor:
    """`x` where it is at least `alpha`, else 0."""
    return torch.where(x >= alpha, x, torch.zeros_like(x))


def per_channel(parameter: Tensor, x: Tensor) -> Tensor:
    """A parameter of shape `[C]`, shaped to be broadcast over axis 1 of `x`."""
    return parameter.reshape(-1, *[1] * (x.dim() - 2))
