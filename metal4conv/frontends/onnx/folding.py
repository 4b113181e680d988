"""Nodes on constants, computed at conversion by onnx's reference implementation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from metal4conv.frontends.onnx.functions import resolved_attributes
from metal4conv.frontends.onnx.tensors import ONNX_NAMES, PACKED
from metal4conv.frontends.onnx.value import Value, numpy_dtype

LARGEST = 1 << 26
"""Elements of a folded result; more would cost memory that the program does not."""

NEVER = frozenset(
    (
        "Bernoulli",
        "Constant",
        "DequantizeLinear",
        "Dropout",
        "If",
        "Loop",
        "Multinomial",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Scan",
    )
)
"""Random operators, those with subgraphs, and those whose constants stay compressed."""

GROWING = frozenset(("ConstantOfShape", "Expand", "Tile", "Range", "EyeLike", "Pad", "Resize"))
"""Operators whose result may be much larger than their inputs; these stay operations then."""


def fold_node(
    node: onnx.NodeProto,
    inputs: Sequence[Any],
    opset: int,
    outer: Mapping[str, onnx.AttributeProto],
) -> list[Value] | None:
    """The outputs of a node on constants; None for one that must be lowered."""
    if not inputs or node.op_type in NEVER or node.domain not in ("", "ai.onnx"):
        return None
    given = {}
    for name, item in zip(node.input, inputs, strict=True):
        if item is None:
            continue
        array = item.array if isinstance(item, Value) else None
        if array is None or item.dtype == "bfloat16":
            return None
        given[name] = packed(array, item.dtype)
    if not given or sum(array.size for array in given.values()) > LARGEST:
        return None
    if node.op_type in GROWING and is_large(node, inputs):
        return None
    call = onnx.NodeProto()
    call.CopyFrom(node)
    del call.attribute[:]
    call.attribute.extend(resolved_attributes(node, outer).values())
    try:
        evaluator = ReferenceEvaluator(call, opsets={"": opset})
        results = evaluator.run(None, given)
    except Exception:  # the reference raises many kinds; the lowering says what is wrong, if it is
        return None
    values = [value_of(item) for item in results]
    return None if any(item is None for item in values) else values  # type: ignore[return-value]


def value_of(result: Any) -> Value | None:  # Any: what the reference gives
    """A folded array as a value; None for what is no tensor that we hold."""
    array = np.asarray(result) if np.isscalar(result) else result
    if not isinstance(array, np.ndarray):
        return None
    if array.dtype.kind in "OUS":
        return Value("string", known=array.astype(object))
    name = "bool" if array.dtype.kind == "b" else array.dtype.name
    if name in PACKED:
        array = array.astype(numpy_dtype(name))
    return Value(name, known=array) if name in ONNX_NAMES.values() else None


def packed(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array of 2 or 4 bits in the dtype by which the reference knows it; others as they are."""
    if dtype not in PACKED:
        return array
    import ml_dtypes

    return array.astype(getattr(ml_dtypes, dtype))


def is_large(node: onnx.NodeProto, inputs: Sequence[Any]) -> bool:
    """Whether an operator would make a large constant of small ones."""
    sizes = inputs[0] if node.op_type == "ConstantOfShape" else inputs[-1]
    array = sizes.array if isinstance(sizes, Value) else None
    if array is None or array.dtype.kind not in "iu":
        return True
    return math.prod(abs(int(item)) for item in array.reshape(-1)) > 1 << 16
