"""Lowerings of PyTorch operations in place of coremltools', which lose some of their arguments.

Those of coremltools take the default for an argument that they do not know, or refuse it. Ours
serve exported programs and TorchScript alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from metal4conv.frontends.torch_arguments import Context, Node, Var, argument, number, passed_on

Lowering = Callable[[Context, Node], None]

LARGEST_SOFTPLUS = 20.0
"""Beyond it PyTorch's softplus is the identity by default, and float32 knows no difference."""


def with_alpha(original: Lowering, scaled: int) -> Lowering:
    """add, sub and rsub, whose second number (of rsub the first one) is multiplied by alpha."""

    def lower(context: Context, node: Node) -> None:
        alpha = number(context, node, 2, "alpha", 1)
        inputs = list(node.inputs[:2])
        if alpha != 1:
            other = argument(context, node, scaled, "other")
            name = f"{node.name}_scaled"
            context.add(multiplied(other, alpha), name)
            inputs[scaled] = name
        original(context, passed_on(node, inputs))

    return lower


def multiplied(x: Var, factor: Any) -> Var:
    """A variable times a number, in the type that PyTorch gives it."""
    from coremltools.converters.mil.frontend.torch.ops import promote_input_dtypes
    from coremltools.converters.mil.mil import Builder

    return Builder.mul(**dict(zip("xy", promote_input_dtypes([x, plain(factor)]), strict=True)))


def plain(value: Any) -> Any:
    """A number of Python or numpy as one that coremltools takes for a constant."""
    value = np.asarray(value).item()
    return np.float32(value) if isinstance(value, float) else np.int32(value)


def product_and_sum(context: Context, node: Node) -> None:
    """addmm and baddbmm: beta times a tensor, and alpha times a product of two."""
    from coremltools.converters.mil.frontend.torch.ops import promote_input_dtypes
    from coremltools.converters.mil.mil import Builder

    bias, left, right = (argument(context, node, at, "") for at in range(3))
    beta, alpha = (number(context, node, at, key, 1) for at, key in ((3, "beta"), (4, "alpha")))
    found = Builder.matmul(x=left, y=right)
    if alpha != 1:
        found = multiplied(found, alpha)
    if beta != 1:
        bias = multiplied(bias, beta)
    x, y = promote_input_dtypes([bias, found])
    context.add(Builder.add(x=x, y=y, name=node.name))


def softplus(context: Context, node: Node) -> None:
    """log(1 + exp(beta x)) / beta, and x where beta x is beyond a threshold."""
    from coremltools.converters.mil.mil import Builder

    x = argument(context, node, 0, "self")
    beta = float(number(context, node, 1, "beta", 1))
    threshold = float(number(context, node, 2, "threshold", LARGEST_SOFTPLUS))
    if beta == 1 and threshold >= LARGEST_SOFTPLUS:
        context.add(Builder.softplus(x=x, name=node.name))
        return
    scaled = Builder.mul(x=x, y=np.float32(beta))
    soft = Builder.real_div(x=Builder.softplus(x=scaled), y=np.float32(beta))
    if threshold < LARGEST_SOFTPLUS:
        soft = Builder.select(cond=Builder.greater(x=scaled, y=np.float32(threshold)), a=x, b=soft)
    context.add(soft, node.name)


def rms_norm(context: Context, node: Node) -> None:
    """Divided by the root of its mean square over the last dimensions.

    It is scaled by its largest element first, since squares of 256 are beyond float16; by the root
    of epsilon where that is larger, so that nothing below is above 1.
    """
    from coremltools.converters.mil.mil import Builder

    x, weight = argument(context, node, 0, "input"), argument(context, node, 2, "weight")
    axes = list(range(-len(number(context, node, 1, "normalized_shape")), 0))
    epsilon = number(context, node, 3, "eps", np.finfo(np.float32).eps)
    root = np.float32(float(epsilon) ** 0.5)
    largest = Builder.reduce_max(x=Builder.abs(x=x), axes=axes, keep_dims=True)
    scale = Builder.maximum(x=largest, y=root)
    scaled, least = Builder.real_div(x=x, y=scale), Builder.real_div(x=root, y=scale)
    squares = Builder.mul(x=scaled, y=scaled)
    square = Builder.reduce_mean(x=squares, axes=axes, keep_dims=True)
    mean = Builder.add(x=square, y=Builder.mul(x=least, y=least))
    found = Builder.mul(x=scaled, y=Builder.rsqrt(x=mean))
    context.add(found if weight is None else Builder.mul(x=found, y=weight), node.name)


def register_lowerings(table: Any) -> None:
    """Puts ours in coremltools' table. (Any: an untyped class.)"""
    for kind, scaled in (("add", 1), ("sub", 1), ("rsub", 0)):
        table.set_func_by_name(with_alpha(table.get_func(kind), scaled), kind)
    for name, lowering in LOWERINGS.items():
        table.set_func_by_name(lowering, name)


LOWERINGS: dict[str, Lowering] = {
    "addmm": product_and_sum,
    "baddbmm": product_and_sum,
    "softplus": softplus,
    "rms_norm": rms_norm,
}
"""By the name in coremltools' table."""
