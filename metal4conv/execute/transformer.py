"""Attention."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from metal4conv.execute.table import MIL_OPS


@MIL_OPS("scaled_dot_product_attention", since=18)
def scaled_dot_product_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
) -> Tensor:
    """`softmax(query @ key.T / sqrt(E) + mask) @ value`.

    A boolean mask is true where an element takes part.
    """
    mask = attn_mask
    if mask is not None and mask.dim() < 2:
        mask = mask.unsqueeze(0)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
