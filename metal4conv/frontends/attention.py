"""Attention that a model writes out in products and a softmax becomes MIL's own operation.

    scores = matmul(mul(q, 0.5), mul(transpose(k, [0, 1, 3, 2]), 0.5))
    weights = softmax(add(scores, mask), axis=-1)           # mask: [[0, -inf], [0, 0]]
    y = matmul(weights, v)
        →
    y = scaled_dot_product_attention(q, k, v, mask)         # mask: [[true, false], [true, true]]

`scaled_dot_product_attention` divides by the root of q's width, 16 here; a model with another scale
keeps one `mul`, of q. A transpose of k that also brings its heads forward becomes one that only
does that. What `attention_masks` says holds for a mask that is no constant.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from metal4conv.frontends.attention_masks import (
    Emitter,
    Mask,
    Masks,
    Unfit,
    Var,
    check,
    check_mask,
    is_used,
    known_mask,
    masked_scores,
    without_nan,
)

log = logging.getLogger("metal4conv.frontends")

FUSED_SINCE = 18
"""The iOS version from which MIL has `scaled_dot_product_attention`."""


@dataclass(frozen=True)
class Attention:
    """The parts of a written-out attention."""

    query: Var
    key: Var
    key_order: tuple[int, ...]
    """The permutation that makes the key (…, keys, width)."""
    value: Var
    scale: float
    mask: Mask | None
    gives_zeros: bool
    """Whether a query that sees no key gives 0, not NaN."""

    @property
    def key_shape(self) -> tuple[Any, ...]:
        """The key's shape in that order."""
        return tuple(self.key.shape[axis] for axis in self.key_order)


def fuse_attention(program: Any) -> None:  # a coremltools Program
    """Replaces all written-out attention of a program for iOS18 or later, in place."""
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY

    if sum(map(fuse_block, program.functions.values())):
        PASS_REGISTRY["common::dead_code_elimination"](program)


def fuse_block(block: Any) -> int:  # a coremltools Block
    """Replaces the attention in a block and within; how often there was one."""
    operations = list(block.operations)
    found = sum(fuse_block(inner) for operation in operations for inner in operation.blocks)
    if not any(operation.op_type == "softmax" for operation in operations):
        return found
    masks = Masks()
    with block:
        for operation in operations:
            if operation.op_type != "matmul":
                continue
            try:
                parts = attention_of(operation)
            except Unfit as reason:
                log.debug("%s is no attention: %s", operation.name, reason)
                continue
            if parts is not None:
                replace_product(block, operation, parts, masks)
                found += 1
    return found


# finding -------------------------------------------------------------------------------------


def attention_of(product: Any) -> Attention | None:
    """The attention whose last product this is, None without a softmax.

    `Unfit` says why it cannot be replaced. (Any: a coremltools Operation.)
    """
    weights, gives_zeros = without_nan(product.x)
    softmax = weights.op
    if softmax is None or softmax.op_type != "softmax":
        return None
    check(not product.transpose_x.val and not product.transpose_y.val, "transposed values")
    check(softmax.axis.val % weights.rank == weights.rank - 1, "a softmax over another axis")
    check_private(weights, product, uses=3 if gives_zeros else 1)
    check_private(softmax.x, product)
    reasons = []
    for scores, mask in masked_scores(softmax.x):
        try:
            return with_scores(product, scores, mask, gives_zeros)
        except Unfit as reason:
            reasons.append(str(reason))
    raise Unfit("; ".join(reasons))


def with_scores(product: Any, scores: Var, mask: Mask | None, gives_zeros: bool) -> Attention:
    """The attention whose scores are a product of queries and keys, or a multiple of it."""
    scale = 1.0
    check_private(scores, product)
    while step := multiple(scores):
        scores, factor = step
        scale *= factor
        check_private(scores, product)
    first = made_by(scores, "matmul")
    check(not first.transpose_x.val, "transposed queries")
    query, factor = unscaled(first.x)
    scale *= factor
    key, factor = unscaled(first.y)
    scale *= factor
    order = tuple(range(key.rank))
    if not first.transpose_y.val:
        key, order, factor = untransposed(key)
        scale *= factor
    parts = Attention(query, key, order, product.y, scale, mask, gives_zeros)
    check_operands(parts)
    return parts


def untransposed(var: Var) -> tuple[Var, tuple[int, ...], float]:
    """What a (…, width, keys) was made of, the order that makes it (…, keys, width), its factor."""
    if var.op is not None and var.op.op_type == "reshape":
        key, factor = untransposed_matrices(var)
        return key, tuple(range(key.rank)), factor
    transpose = made_by(var, "transpose")
    *batch, width, length = (int(axis) % var.rank for axis in transpose.perm.val)
    key, factor = unscaled(transpose.x)
    return key, (*batch, length, width), factor


def untransposed_matrices(var: Var) -> tuple[Var, float]:
    """What PyTorch's newer ONNX exporter transposes as one batch of matrices, and its factor.

    reshape(transpose(reshape(k, [12, 7, 8]), [0, 2, 1]), [3, 4, 8, 7])     →   k: (3, 4, 7, 8)
    """
    transpose = made_by(var.op.x, "transpose")
    perm = [int(axis) % transpose.x.rank for axis in transpose.perm.val]
    *batch, width, length = range(transpose.x.rank)
    check(perm == [*batch, length, width], f"{var.name} is no batch of transposed matrices")
    matrices, factor = unscaled(transpose.x)
    key = made_by(matrices, "reshape").x
    *batch, length, width = key.shape
    is_whole = tuple(matrices.shape[-2:]) == (length, width)
    is_whole = is_whole and tuple(var.shape) == (*batch, width, length)
    check(is_whole, f"{var.name} is shaped in between")
    key, more = unscaled(key)
    return key, factor * more


def unscaled(var: Var) -> tuple[Var, float]:
    """The variable before it was multiplied by numbers, and their product."""
    total = 1.0
    while step := multiple(var):
        var, factor = step
        total *= factor
    return var, total


def multiple(var: Var) -> tuple[Var, float] | None:
    """What a variable is a multiple of, and the factor; None for one that is no multiple."""
    operation = var.op
    if operation is None or operation.op_type not in ("mul", "real_div"):
        return None
    inner, number = operation.x, operation.y
    if operation.op_type == "mul" and number.val is None:
        inner, number = number, inner
    if number.val is None or np.size(number.val) != 1 or tuple(inner.shape) != tuple(var.shape):
        return None
    factor = np.ravel(number.val)[0].item()
    if not math.isfinite(factor) or not factor:
        return None
    return inner, factor if operation.op_type == "mul" else 1 / factor


def made_by(var: Var, operation_type: str) -> Any:  # a coremltools Operation
    """The operation that gives a variable; `Unfit` unless it is of this type."""
    kind = "nothing" if var.op is None else var.op.op_type
    check(kind == operation_type, f"{var.name} is made by {kind}, not by {operation_type}")
    return var.op


def check_private(var: Var, product: Any, uses: int = 1) -> None:
    """`Unfit` for what is used elsewhere too, or is computed in another block."""
    is_near = var.op is not None and var.op.enclosing_block is product.enclosing_block
    check(is_near, f"{var.name} is computed in another block")
    check(is_used(var, uses), f"{var.name} is used elsewhere")


def check_operands(parts: Attention) -> None:
    """`Unfit` for shapes and dtypes that MIL's operation does not take."""
    from coremltools.converters.mil.mil import types

    query, key, value = tuple(parts.query.shape), parts.key_shape, tuple(parts.value.shape)
    shapes = f"queries {query}, keys {key}, values {value}"
    check(len(query) == len(key) == len(value) >= 3, shapes)
    check(query[:-2] == key[:-2] == value[:-2] and key[-2] == value[-2], shapes)
    check(query[-1] == key[-1] and isinstance(query[-1], (int, np.integer)), shapes)
    dtypes = {parts.query.dtype, parts.key.dtype, parts.value.dtype}
    if parts.mask is not None:
        check_mask(parts.mask, (*query[:-1], key[-2]))
    if parts.mask is not None and parts.mask.added is not None:
        dtypes.add(parts.mask.added.dtype)
    check(len(dtypes) == 1 and dtypes <= {types.fp16, types.fp32}, "the dtypes differ")


# replacing -----------------------------------------------------------------------------------


def replace_product(block: Any, product: Any, parts: Attention, masks: Masks) -> None:
    """Puts MIL's attention in the last product's place; what that needed may be left unused."""
    from coremltools.converters.mil.mil import types

    emit = Emitter(product, product.name)
    query, key, mask, visible = parts.query, parts.key, None, None
    number = types.nptype_from_builtin(query.dtype)
    ratio = parts.scale * math.sqrt(query.shape[-1])
    if not math.isclose(ratio, 1.0, rel_tol=1e-6):
        query = emit("mul", x=query, y=number(ratio))
    if parts.key_order != tuple(range(key.rank)):
        key = emit("transpose", x=key, perm=parts.key_order)
    if parts.mask is not None:
        if parts.mask.array is not None:
            mask = known_mask(parts.mask.array)
        elif parts.gives_zeros:
            mask, visible = masks.with_all_keys(parts.mask.added, product)
        else:
            mask = masks.with_nan(parts.mask.added, product)
    given = {"query": query, "key": key, "value": parts.value, "attn_mask": mask}
    inputs = {name: var for name, var in given.items() if var is not None}
    result = emit("scaled_dot_product_attention", **inputs)
    if visible is not None:
        result = emit("mul", x=result, y=visible)
    result.name = result.op.name = product.name
    block.replace_uses_of_var_after_op(product, product.outputs[0], result)
