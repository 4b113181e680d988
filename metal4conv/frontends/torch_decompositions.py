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
LARGEST_SOFTPLUS = 20.0
"""Beyond it PyTorch's softplus is the identity by default, and float32 knows no difference."""

Result = Any
"""A tensor, or NotImplemented."""


def added(x: Tensor, y: Tensor | float, *, alpha: float = 1) -> Result:
    """x + alpha y."""
    return NotImplemented if alpha == 1 else aten.add(x, aten.mul(y, alpha))


def subtracted(x: Tensor, y: Tensor | float, *, alpha: float = 1) -> Result:
    """x - alpha y."""
    return NotImplemented if alpha == 1 else aten.sub(x, aten.mul(y, alpha))


def subtracted_from(x: Tensor, y: Tensor | float, alpha: float = 1) -> Result:
    """y - alpha x."""
    return NotImplemented if alpha == 1 else aten.rsub(aten.mul(x, alpha), y)


def gelu(x: Tensor, *, approximate: str = "none") -> Result:
    """GELU by a hyperbolic tangent, which the passes make one operation again."""
    if approximate != "tanh":
        return NotImplemented
    inner = (2 / torch.pi) ** 0.5 * (x + 0.044715 * aten.pow(x, 3))
    return 0.5 * x * (1 + aten.tanh(inner))


def softplus(x: Tensor, beta: float = 1, threshold: float = LARGEST_SOFTPLUS) -> Result:
    """log(1 + exp(beta x)) / beta, and x where beta x is beyond a threshold."""
    if beta == 1 and threshold >= LARGEST_SOFTPLUS:
        return NotImplemented
    scaled = aten.mul(x, beta)
    soft = aten.div(aten.softplus(scaled), beta)
    return (
        soft if threshold >= LARGEST_SOFTPLUS else aten.where(aten.gt(scaled, threshold), x, soft)
    )


def rms_norm(
    x: Tensor, shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Result:
    """Divided by the root of its mean square over the last dimensions.

    It is scaled by its largest element first, since squares of 256 are beyond float16; by the root
    of epsilon where that is larger, so that nothing below is above 1.
    """
    axes = list(range(-len(shape), 0))
    root = (torch.finfo(x.dtype).eps if eps is None else eps) ** 0.5
    scale = aten.clamp_min(aten.amax(aten.abs(x), axes, True), root)
    scaled, least = aten.div(x, scale), aten.div(root, scale)
    square = aten.mean(aten.mul(scaled, scaled), axes, True)
    found = aten.mul(scaled, aten.rsqrt(aten.add(square, aten.mul(least, least))))
    return found if weight is None else aten.mul(found, weight)


def pooled(pool: Any) -> Callable[..., Result]:
    """Maxima of windows whose stride is left out: they lie side by side. (Any: an operator.)"""

    def decomposed(
        x: Tensor, size: Sequence[int], stride: Sequence[int] = (), *rest: Any
    ) -> Result:
        return NotImplemented if len(stride) else pool(x, size, size, *rest)

    return decomposed


DECOMPOSITIONS: dict[Any, Callable[..., Result]] = {
    aten.add.Tensor: added,
    aten.add.Scalar: added,
    aten.sub.Tensor: subtracted,
    aten.sub.Scalar: subtracted,
    aten.rsub.Tensor: subtracted_from,
    aten.rsub.Scalar: subtracted_from,
    aten.gelu.default: gelu,
    aten.softplus.default: softplus,
    aten.rms_norm.default: rms_norm,
    aten.max_pool1d.default: pooled(aten.max_pool1d.default),
    aten.max_pool2d.default: pooled(aten.max_pool2d.default),
    aten.max_pool3d.default: pooled(aten.max_pool3d.default),
}
"""By the overload that an exported program has."""
