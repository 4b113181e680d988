"""Operations of exported programs whose arguments coremltools drops, written as others.

Its lowerings read positional arguments; of those that PyTorch takes by keyword alone, and of some
others, they take the default, and the package would compute something else. A decomposition that
does not apply gives NotImplemented, and the operation stays as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
Result = Any
"""A tensor, or NotImplemented."""


def gelu(x: Tensor, *, approximate: str = "none") -> Result:
    """GELU by a hyperbolic tangent, which the passes make one operation again."""
    if approximate != "tanh":
        return NotImplemented
    inner = (2 / torch.pi) ** 0.5 * (x + 0.044715 * aten.pow(x, 3))
    return 0.5 * x * (1 + aten.tanh(inner))


def pooled(pool: Any) -> Callable[..., Result]:
    """Maxima of windows whose stride is left out: they lie side by side. (Any: an operator.)"""

    def decomposed(
        x: Tensor, size: Sequence[int], stride: Sequence[int] = (), *rest: Any
    ) -> Result:
        return NotImplemented if len(stride) else pool(x, size, size, *rest)

    return decomposed


DECOMPOSITIONS: dict[Any, Callable[..., Result]] = {
    aten.gelu.default: gelu,
    aten.max_pool1d.default: pooled(aten.max_pool1d.default),
    aten.max_pool2d.default: pooled(aten.max_pool2d.default),
    aten.max_pool3d.default: pooled(aten.max_pool3d.default),
}
"""By the overload that an exported program has."""
