"""Corrections of coremltools: a lowering that computes something else, slow checks, a crash."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from metal4conv.mil.dtypes import FLOAT16_MAX


def exact_reciprocals(function: Any) -> None:
    """Turns every `inverse` into a division, in place.

    coremltools' frontends lower a reciprocal to `inverse` with its default `epsilon`, which is
    1 / (x + 0.0001): 10 % too little at x = 0.001.

        y = inverse(x, epsilon=0.0001)      →      y = real_div(1.0, x)

    (Any: a coremltools Function or Block.)
    """
    from coremltools.converters.mil.mil import Builder, types

    for operation in list(function.operations):
        for block in operation.blocks:
            exact_reciprocals(block)
        if operation.op_type != "inverse":
            continue
        x = operation.x
        one = types.nptype_from_builtin(x.dtype)(1.0)
        with function:
            divided = Builder.real_div(x=one, y=x, before_op=operation, name=operation.name)
        function.replace_uses_of_var_after_op(operation, operation.outputs[0], divided)
        function.remove_ops([operation])


def exact_floors(function: Any) -> None:
    """Turns every `floor_div` of floats by 1 into a floor, in place.

    coremltools takes it for an operation that does nothing, as it is for integers: `x % 1.0`
    became x - x.

        y = floor_div(x, 1.0)      →      y = floor(real_div(x, 1.0))

    (Any: a coremltools Function or Block.)
    """
    from coremltools.converters.mil.mil import Builder, types

    for operation in list(function.operations):
        for block in operation.blocks:
            exact_floors(block)
        if operation.op_type != "floor_div" or not types.is_float(operation.x.dtype):
            continue
        if operation.y.val is None or not np.all(operation.y.val == 1):
            continue
        with function:
            quotient = Builder.real_div(x=operation.x, y=operation.y, before_op=operation)
            floor = Builder.floor(x=quotient, before_op=operation, name=operation.name)
        function.replace_uses_of_var_after_op(operation, operation.outputs[0], floor)
        function.remove_ops([operation])


@contextmanager
def fast_range_checks() -> Iterator[None]:
    """Within it, the pass that casts to float16 finds constants out of range faster.

    coremltools makes three arrays as large as each weight for it: 15 % of a ViT-B's conversion.
    It also takes constants beyond 1e38 for infinities that do no harm; as a factor they do: a
    mask `(1 - m) * -3.4e38` would be 0 * -inf, NaN, where nothing is hidden. Such a product stays
    in float32.
    """
    from coremltools.converters.mil.mil.passes.defs.quantization import FP16ComputePrecision

    original = FP16ComputePrecision.fp16_overflow

    def overflows(operation: Any) -> bool:
        """Whether a constant input may not fit; the original has the last word."""
        values = [
            var.op.val.val
            for inputs in operation.inputs.values()
            for var in (inputs if isinstance(inputs, (list, tuple)) else [inputs])
            if var.op is not None
            and var.op.op_type == "const"
            and var.is_tensor_or_scalar_of(dtype="fp32")
        ]
        if all(fits_float16(value) for value in values):
            return False
        if operation.op_type == "mul" and any(np.isfinite(value).all() for value in values):
            return True
        found: bool = original(operation)
        return found

    FP16ComputePrecision.fp16_overflow = staticmethod(overflows)
    try:
        yield
    finally:
        FP16ComputePrecision.fp16_overflow = staticmethod(original)


@contextmanager
def scalars_beside_layers() -> Iterator[None]:
    """Within it, the pass that adds to the bias of linear layers leaves scalars alone.

    coremltools asks for the last size of what is added to a layer with one output; a scalar such
    as the 1 of `layer(x) - 1` has none, and the pass failed.
    """
    from coremltools.converters.mil.mil.passes.defs.optimize_linear import fuse_linear_bias

    original = fuse_linear_bias._try_to_transform

    def try_to_transform(layer: Any, addition: Any, block: Any) -> bool:
        """Whether the addition became part of the layer. (Any: coremltools objects.)"""
        if 0 in (addition.x.rank, addition.y.rank):
            return False
        found: bool = original(layer, addition, block)
        return found

    fuse_linear_bias._try_to_transform = staticmethod(try_to_transform)
    try:
        yield
    finally:
        fuse_linear_bias._try_to_transform = staticmethod(original)


@contextmanager
def quick_reshapes() -> Iterator[None]:
    """Within it, coremltools infers the sizes of a reshaped tensor by one division.

    It solves an equation for each size, which takes minutes for sizes that the model computes.
    """
    from coremltools.converters.mil.mil.ops.defs.iOS15.tensor_transformation import reshape

    original = reshape.enforce_volumetric_constraint
    reshape.enforce_volumetric_constraint = staticmethod(with_open_size)
    try:
        yield
    finally:
        reshape.enforce_volumetric_constraint = staticmethod(original)


def with_open_size(volume: Any, sizes: Any) -> list[Any]:
    """The sizes, of which the one with a symbol of its own is found by the number of elements.

    (Any: numbers and sympy expressions.)

    >>> import sympy
    >>> height, rest = sympy.symbols("height rest")
    >>> with_open_size(12 * height, [3, height, rest])
    [3, height, 4]
    >>> with_open_size(1.0, [rest])
    [1]
    """
    import sympy

    found = list(sizes)
    # numpy's product of no sizes is the float 1.0
    volume = volume if isinstance(volume, sympy.Basic) else sympy.Integer(int(volume))
    known = volume.free_symbols
    places = [
        place for place, size in enumerate(found) if getattr(size, "free_symbols", set()) - known
    ]
    if len(places) != 1 or not found[places[0]].is_Symbol:
        return found
    others = math.prod(size for place, size in enumerate(found) if place != places[0])
    if others == 0:
        return found
    quotient = volume / others
    found[places[0]] = int(quotient) if quotient.is_Integer else quotient
    return found


def fits_float16(value: Any) -> bool:
    """Whether all elements are finite and within float16's range. (Any: an array or a number.)

    >>> fits_float16(np.float32([65504, -65504])), fits_float16(1e5), fits_float16(np.nan)
    (True, False, False)
    """
    array = np.asarray(value)
    return bool(array.size == 0 or (array.max() <= FLOAT16_MAX and array.min() >= -FLOAT16_MAX))
