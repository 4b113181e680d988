"""TensorFlow operations that coremltools' frontend lacks or gets wrong, in terms of MIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from coremltools import target
from coremltools.converters.mil.frontend.tensorflow import ops as library
from coremltools.converters.mil.frontend.tensorflow.tf_op_registry import _TF_OPS_REGISTRY
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with

# Any throughout: coremltools' context, parsed nodes and values carry no types

TO_NCHW, TO_NHWC = [0, 3, 1, 2], [0, 2, 3, 1]


def register_operations() -> frozenset[str]:
    """Puts our operations into coremltools' table; the names of all that can be converted."""
    _TF_OPS_REGISTRY.update(OPERATIONS)
    return frozenset(_TF_OPS_REGISTRY)


def erfc(context: Any, node: Any) -> None:
    """1 - erf(x); Keras 3 writes its exact GELU with it."""
    x = context[node.inputs[0]]
    context.add(node.name, mb.sub(x=1.0, y=mb.erf(x=x), name=node.name))


def expm1(context: Any, node: Any) -> None:
    """exp(x) - 1; CELU is written with it."""
    x = context[node.inputs[0]]
    context.add(node.name, mb.sub(x=mb.exp(x=x), y=1.0, name=node.name))


def resize_bilinear(context: Any, node: Any) -> None:
    """Bilinear resizing to any size.

    coremltools adds 1e-4 to the size where it is no multiple, and fails on `shape(x)[1:3] * 2`.
    """
    x, size = context[node.inputs[0]], context[node.inputs[1]]
    align, half = (node.attr.get(key, False) for key in ("align_corners", "half_pixel_centers"))
    image = mb.transpose(x=x, perm=TO_NCHW)
    factors = shape_factors(size, x)
    if factors is not None and is_current_opset_version_compatible_with(target.iOS16):
        resized = mb.upsample_bilinear(
            x=image,
            scale_factor_height=float(factors[0]),
            scale_factor_width=float(factors[1]),
            align_corners=align,
            half_pixel_centers=half,
        )
    elif is_current_opset_version_compatible_with(target.iOS17) and not is_multiple(size, x):
        mode = "STRICT_ALIGN_CORNERS" if align else "UNALIGN_CORNERS" if half else "DEFAULT"
        resized = mb.resize(x=image, shape=size, resized_dims=np.uint32(2), sampling_mode=mode)
    else:
        library.ResizeBilinear(context, node)
        return
    context.add(node.name, mb.transpose(x=resized, perm=TO_NHWC, name=node.name))


def resize_nearest(context: Any, node: Any) -> None:
    """Picks pixels: repeats them for whole factors, else gathers them by constant positions.

    coremltools interpolates where the result is smaller, and fails on `shape(x)[1:3] * 2`.
    """
    x, size = context[node.inputs[0]], context[node.inputs[1]]
    align, half = (node.attr.get(key, False) for key in ("align_corners", "half_pixel_centers"))
    factors = shape_factors(size, x)
    if factors is None and is_multiple(size, x):
        factors = size.val / np.array(x.shape[1:3])
    if factors is not None and not align and all(factor == int(factor) for factor in factors):
        resized = mb.upsample_nearest_neighbor(
            x=mb.transpose(x=x, perm=TO_NCHW),
            scale_factor_height=int(factors[0]),
            scale_factor_width=int(factors[1]),
        )
        context.add(node.name, mb.transpose(x=resized, perm=TO_NHWC, name=node.name))
        return
    if size.val is None or not has_plain_sizes(x):
        raise NotImplementedError("nearest resizing of a dynamic size by no whole factor")
    for axis, new in ((1, int(size.val[0])), (2, int(size.val[1]))):
        picked = nearest_positions(int(x.shape[axis]), new, align=align, half=half)
        x = mb.gather(x=x, indices=picked, axis=axis)
    context.add(node.name, mb.identity(x=x, name=node.name))


def nearest_positions(old: int, new: int, *, align: bool, half: bool) -> np.ndarray:
    """The element that TensorFlow takes for each new position (resize_nearest_neighbor_op.cc)."""
    steps = np.arange(new, dtype=np.float32)
    if align and new > 1:
        positions = np.floor(steps * np.float32((old - 1) / (new - 1)) + np.float32(0.5))
    else:
        offset = np.float32(0.5 if half else 0)
        positions = np.floor((steps + offset) * np.float32(old / new))
    picked: np.ndarray = np.minimum(positions, old - 1).astype(np.int32)
    return picked


def shape_factors(size: Any, x: Any) -> np.ndarray | None:
    """The constants (2, 2) in `shape(x)[1:3] * 2`, None where the size is something else."""
    multiply = size.op
    if size.val is not None or multiply is None or multiply.op_type != "mul":
        return None
    for own, factor in ((multiply.x, multiply.y), (multiply.y, multiply.x)):
        if factor.val is not None and is_spatial_shape(own, x):
            return np.broadcast_to(factor.val, (2,))
    return None


def is_spatial_shape(value: Any, x: Any) -> bool:
    """Whether `value` is `shape(x)[1:3]`."""
    piece = value.op
    if piece is None or piece.op_type != "slice_by_index":
        return False
    shape = piece.x.op
    if shape is None or shape.op_type != "shape" or shape.x is not x:
        return False
    bounds = (piece.begin.val, piece.end.val)
    return all(bound is not None for bound in bounds) and [int(b[0]) for b in bounds] == [1, 3]


def is_multiple(size: Any, x: Any) -> bool:
    """Whether a constant size is a whole multiple of the input's own, which is constant too."""
    if size.val is None or not has_plain_sizes(x):
        return False
    return all(new % length == 0 for new, length in zip(size.val, x.shape[1:3], strict=True))


def has_plain_sizes(x: Any) -> bool:
    """Whether height and width are numbers."""
    return all(isinstance(length, (int, np.integer)) for length in x.shape[1:3])


OPERATIONS = {
    "Erfc": erfc,
    "Expm1": expm1,
    "ResizeBilinear": resize_bilinear,
    "ResizeNearestNeighbor": resize_nearest,
}
