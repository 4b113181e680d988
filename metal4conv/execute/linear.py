"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from metal4conv.execute.table import MIL_OPS, Tensors


@MIL_OPS("linear")
def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x @ weight.T + bias`; from iOS 17 on integer weights may meet floats."""
    dtype = torch.promote_types(x.dtype, weight.dtype)
    x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    if dtype.is_floating_point:
        return F.linear(x, weight, bias)
    y = integer_product(x, weight.transpose(0, 1))
    return y if bias is None else y + bias


@MIL_OPS("matmul")
def matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """Product of batches of matrices, as numpy does it; vectors are never transposed.

    From iOS 17 on one side may hold integers and the other floats.
    """
    if x.dtype != y.dtype:
        dtype = torch.promote_types(x.dtype, y.dtype)
        x, y = x.to(dtype), y.to(dtype)
    left = x.transpose(-1, -2) if transpose_x and x.dim() > 1 else x
    right = y.transpose(-1, -2) if transpose_y and y.dim() > 1 else y
    if not x.is_floating_point():
        return integer_product(left, right)
    return torch.matmul(left, right)


def integer_product(left: Tensor, right: Tensor) -> Tensor:
    """Product of batches of integer matrices, which torch has on the CPU alone."""
    if left.device.type == "cpu":
        return torch.matmul(left, right)
    rows = left.unsqueeze(0) if left.dim() == 1 else left
    columns = right.unsqueeze(-1) if right.dim() == 1 else right
    terms = rows.unsqueeze(-1) * columns.unsqueeze(-3)
    product = terms.sum(dim=-2, dtype=left.dtype)
    product = product.squeeze(-2) if left.dim() == 1 else product
    return product.squeeze(-1) if right.dim() == 1 else product


@MIL_OPS("einsum")
def einsum(values: Tensors, equation: str) -> Tensor:
    """Sum of products by an equation; sizes 1 of batch dimensions are broadcast.

    MIL knows `nchw,nwhu->nchu` and `chw,whu->chu`, in whatever letters.
    """
    return torch.einsum(equation.replace(" ", ""), values)
