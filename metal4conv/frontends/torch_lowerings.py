"""Lowerings of PyTorch operations in place of coremltools', which lose some of their arguments.

Those of coremltools take the default for an argument that they do not know, or refuse it. Ours
serve exported programs and TorchScript alike.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from metal4conv.frontends.torch_arguments import (
    Context,
    Lowering,
    Node,
    Var,
    argument,
    number,
    passed_on,
)
from metal4conv.frontends.torch_recurrent import register_recurrent
from metal4conv.frontends.torch_resizing import RESIZING, with_matrices

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


def cosine_similarity(context: Context, node: Node) -> None:
    """The product of two vectors, each divided by its length, or by epsilon where that is more."""
    from coremltools.converters.mil.mil import Builder

    axis = number(context, node, 2, "dim", 1)
    epsilon = np.float32(number(context, node, 3, "eps", 1e-8))

    def unit(x: Var) -> Var:
        length = Builder.reduce_l2_norm(x=x, axes=[axis], keep_dims=True)
        return Builder.real_div(x=x, y=Builder.maximum(x=length, y=epsilon))

    units = [unit(argument(context, node, at, key)) for at, key in ((0, "x1"), (1, "x2"))]
    product = Builder.mul(x=units[0], y=units[1])
    context.add(Builder.reduce_sum(x=product, axes=[axis], name=node.name))


def interpolation(context: Context, node: Node) -> None:
    """lerp: from one tensor to another by a weight, which is a number or a tensor."""
    from coremltools.converters.mil.frontend.torch.ops import promote_input_dtypes
    from coremltools.converters.mil.mil import Builder

    start, end, weight = promote_input_dtypes(
        [argument(context, node, at, key) for at, key in enumerate(("self", "end", "weight"))]
    )
    way = Builder.mul(x=Builder.sub(x=end, y=start), y=weight)
    context.add(Builder.add(x=start, y=way, name=node.name))


def true_divide(context: Context, node: Node) -> None:
    """A quotient, which is a float also of integers."""
    from coremltools.converters.mil.mil import Builder

    x, y = (as_float(argument(context, node, at, key)) for at, key in ((0, "self"), (1, "other")))
    context.add(Builder.real_div(x=x, y=y, name=node.name))


def as_float(x: Any) -> Any:  # a variable or a number
    """A float as it is, integers and booleans as float32."""
    from coremltools.converters.mil.mil import Builder, types

    if not hasattr(x, "dtype") or types.is_float(x.dtype):
        return x
    return Builder.cast(x=x, dtype="fp32")


def with_dtype(original: Lowering, positions: tuple[int, ...]) -> Lowering:
    """Sums, means and the like with a dtype: their input is cast first.

    `positions` are those that dtype may have; an argument there is one if it is the last.
    """
    from coremltools.converters.mil.frontend.torch.utils import NUM_TO_DTYPE_STRING
    from coremltools.converters.mil.mil import Builder

    def lower(context: Context, node: Node) -> None:
        inputs, keywords = list(node.inputs), dict(node.kwinputs or {})
        dtype = number(context, node, len(inputs), "dtype")
        keywords.pop("dtype", None)
        if len(inputs) - 1 in positions:
            dtype = number(context, node, len(inputs) - 1, "")
            inputs.pop()
        if dtype is not None:
            name = f"{node.name}_input"
            x = argument(context, node, 0, "self")
            context.add(Builder.cast(x=x, dtype=NUM_TO_DTYPE_STRING[int(dtype)]), name)
            inputs[0] = name
        original(context, passed_on(node, inputs, keywords))

    return lower


def with_correction(original: Lowering, corrected: Lowering) -> Lowering:
    """var and std: TorchScript calls them the same when they have a number instead of a flag."""

    def lower(context: Context, node: Node) -> None:
        correction = number(context, node, 2, "correction")
        has_number = correction is not None and not isinstance(correction, (bool, np.bool_))
        (corrected if has_number and len(node.inputs) == 4 else original)(context, node)

    return lower


def of_all(original: Lowering) -> Lowering:
    """argmax and argmin, which without a dimension count through the whole tensor."""
    from coremltools.converters.mil.mil import Builder

    def lower(context: Context, node: Node) -> None:
        if number(context, node, 1, "dim") is not None:
            original(context, node)
            return
        x = argument(context, node, 0, "self")
        flat = Builder.reshape(x=x, shape=[-1])
        reduce = Builder.reduce_argmax if node.kind == "argmax" else Builder.reduce_argmin
        found = reduce(x=flat, axis=0, keep_dims=True)
        if number(context, node, 2, "keepdim", False):
            found = Builder.reshape(x=found, shape=[1] * x.rank)
        else:
            found = Builder.squeeze(x=found, axes=[0])
        context.add(found, node.name)

    return lower


def of_statistics(original: Lowering, batch_norm: Lowering) -> Lowering:
    """instance_norm, which with statistics of its own is a batch norm."""

    def lower(context: Context, node: Node) -> None:
        if number(context, node, 5, "use_input_stats", True):
            original(context, node)
        else:
            batch_norm(context, passed_on(node, list(node.inputs), kind="batch_norm"))

    return lower


def register_lowerings(table: Any) -> None:
    """Puts ours in coremltools' table. (Any: an untyped class.)"""
    known = table.name_to_func_mapping
    for kind, scaled in (("add", 1), ("sub", 1), ("rsub", 0)):
        known[kind] = with_alpha(known[kind], scaled)
    for kind, positions in DTYPES_AT.items():
        known[kind] = with_dtype(known[kind], positions)
    for kind in ("argmax", "argmin"):
        known[kind] = of_all(known[kind])
    for kind in ("var", "std"):
        known[kind] = with_correction(known[kind], known[f"{kind}.correction"])
    known["instance_norm"] = of_statistics(known["instance_norm"], known["batch_norm"])
    for kind in RESIZING:
        for name in (kind, f"{kind}.vec"):
            known[name] = with_matrices(known.get(name))
    known.update(LOWERINGS)
    register_recurrent(known)


DTYPES_AT = {
    "sum": (1, 3),
    "mean": (1, 3),
    "sum.dim_intlist": (3,),
    "mean.dim": (3,),
    "cumsum": (2,),
    "cumprod": (2,),
    "softmax": (2,),
    "log_softmax": (2,),
}
"""Where TorchScript passes a dtype, by the name in coremltools' table."""

LOWERINGS: dict[str, Lowering] = {
    "addmm": product_and_sum,
    "baddbmm": product_and_sum,
    "softplus": softplus,
    "rms_norm": rms_norm,
    "cosine_similarity": cosine_similarity,
    "lerp": interpolation,
    "lerp.scalar": interpolation,
    "lerp.tensor": interpolation,
    "true_divide": true_divide,
}
"""By the name in coremltools' table."""
