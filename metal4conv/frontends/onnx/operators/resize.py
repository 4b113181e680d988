"""Resizing of any axes: MIL's own operations where they give the same, else axis after axis.

An axis is resized by picking elements, or by weighted sums of some, at positions that are numbers
where all sizes are known, and else are computed while the model runs, by the same formulas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from metal4conv.frontends.onnx.context import Context, set_shape
from metal4conv.frontends.onnx.table import ONNX_OPS
from metal4conv.frontends.onnx.value import Size, Value, is_static

Math = Any
"""A Context, or PLAIN: arithmetic by the same names. Numbers are Values, or numpy's."""

Number = Any
"""A Value, or a number or array of numpy."""

HALF_PIXEL = ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
MOST_PARTS = 1024
"""The largest denominator of a scale that is taken for a fraction."""


class Plain:
    """numpy's arithmetic under the names of a Context's, so that formulas serve both.

    It is that of float32, as in programs and in onnxruntime: 3 / 0.6 is 5, and not a bit less.
    """

    add, sub, mul, div = np.add, np.subtract, np.multiply, np.divide
    maximum, minimum, where = np.maximum, np.minimum, staticmethod(np.where)
    equal, less = np.equal, np.less

    def unary(self, name: str, x: Number) -> Number:
        return {"floor": np.floor, "ceil": np.ceil, "abs": np.abs}[name](x)

    def cast(self, x: Number, dtype: str) -> Number:
        return np.asarray(x).astype(dtype)

    def expand_dims(self, x: Number, axes: Sequence[int]) -> Number:
        return np.expand_dims(x, tuple(axes))


PLAIN = Plain()


@dataclass(frozen=True)
class Manner:
    """How values between elements come about; the attributes of Resize."""

    mode: str
    coordinates: str
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    excludes_outside: bool = False
    antialias: bool = False
    extrapolation: float = 0.0


@dataclass(frozen=True)
class Side:
    """One axis to be resized. Its scale is `times / by`, which keeps quotients of sizes exact."""

    axis: int
    old: Number
    new: Number
    times: Number
    by: Number
    start: Number = 0.0
    end: Number = 1.0

    @property
    def is_plain(self) -> bool:
        """Whether all numbers are known."""
        numbers = (self.old, self.new, self.times, self.by, self.start, self.end)
        return not any(isinstance(item, Value) for item in numbers)

    @property
    def factor(self) -> int | None:
        """The scale, if it is a whole number."""
        if isinstance(self.times, Value) or isinstance(self.by, Value):
            return None
        scale = float(self.times) / float(self.by)
        return int(scale) if scale.is_integer() else None


# operators -----------------------------------------------------------------------------------


@ONNX_OPS("Resize", since=18)
def resize(
    ctx: Context,
    X: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
    *,
    antialias: int = 0,
    axes: list[int] | None = None,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    keep_aspect_ratio_policy: str = "stretch",
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Value:
    """`X` with some axes resized, by scales or to sizes."""
    manner = Manner(
        mode,
        coordinate_transformation_mode,
        nearest_mode,
        cubic_coeff_a,
        bool(exclude_outside),
        bool(antialias),
        extrapolation_value,
    )
    chosen = [ctx.axis(axis, X.rank) for axis in (range(X.rank) if axes is None else axes)]
    if sizes is not None and (sizes.shape[0] != 0 or scales is None):
        sides = sides_by_sizes(ctx, X, chosen, sizes)
        if keep_aspect_ratio_policy != "stretch":
            sides = kept_in_shape(ctx, sides, keep_aspect_ratio_policy)
    elif scales is not None:
        sides = sides_by_scales(ctx, X, chosen, scales)
    else:
        raise ctx.unsupported("neither scales nor sizes are given")
    if manner.coordinates == "tf_crop_and_resize":
        if roi is None:
            raise ctx.unsupported("tf_crop_and_resize needs a roi")
        sides = [cropped(ctx, side, roi, place, len(sides)) for place, side in enumerate(sides)]
    return resized(ctx, X, sides, manner)


@ONNX_OPS("Resize", since=11)
def resize_all_axes(
    ctx: Context,
    X: Value,
    roi: Value | None = None,
    scales: Value | None = None,
    sizes: Value | None = None,
    *,
    coordinate_transformation_mode: str = "half_pixel",
    cubic_coeff_a: float = -0.75,
    exclude_outside: int = 0,
    extrapolation_value: float = 0.0,
    mode: str = "nearest",
    nearest_mode: str = "round_prefer_floor",
) -> Value:
    return resize(
        ctx,
        X,
        roi,
        scales,
        sizes,
        coordinate_transformation_mode=coordinate_transformation_mode,
        cubic_coeff_a=cubic_coeff_a,
        exclude_outside=exclude_outside,
        extrapolation_value=extrapolation_value,
        mode=mode,
        nearest_mode=nearest_mode,
    )


@ONNX_OPS("Resize", since=10)
def resize_from_starts(ctx: Context, X: Value, scales: Value, *, mode: str = "nearest") -> Value:
    """Positions are index / scale. A nearest element is the one before, of fewer ones the next.

    That is what onnxruntime does; the standard was silent before opset 11.
    """
    sides = sides_by_scales(ctx, X, list(range(X.rank)), scales)
    array = scales.array
    shrinks = array is not None and bool((array < 1).any())
    nearest = "ceil" if shrinks else "floor"
    return resized(ctx, X, sides, Manner(mode, "asymmetric", nearest))


@ONNX_OPS("Upsample", since=9)
def upsample(ctx: Context, X: Value, scales: Value, *, mode: str = "nearest") -> Value:
    return resize_from_starts(ctx, X, scales, mode=mode)


@ONNX_OPS("Upsample", since=7)
def upsample_by_attribute(
    ctx: Context, X: Value, *, mode: str = "nearest", scales: list[float]
) -> Value:
    return upsample(ctx, X, ctx.value(np.array(scales, np.float32)), mode=mode)


# what is resized to what ---------------------------------------------------------------------


def size_number(ctx: Context, x: Value, axis: int) -> Number:
    """The size of an axis: a number, or an int64 scalar."""
    size = x.shape[axis]
    return int(size) if is_static((size,)) else ctx.size(x, axis)


def sides_by_sizes(ctx: Context, x: Value, axes: Sequence[int], sizes: Value) -> list[Side]:
    """Axes resized to sizes. A new size that is a multiple of the old one gives a whole scale."""
    known = sizes.sizes
    sides = []
    for place, axis in enumerate(axes):
        old = size_number(ctx, x, axis)
        if known is not None and is_static((known[place],)):
            new: Number = int(known[place])
        else:
            new = ctx.element(sizes, place)
        factor = None if known is None else whole_factor(x.shape[axis], known[place])
        times, by = (new, old) if factor is None else (factor, 1)
        sides.append(Side(axis, old, new, times, by))
    return sides


def whole_factor(old: Size, new: Size) -> int | None:
    """How often a size goes into another one, if that is the same whole number for all sizes."""
    if is_static((old, new)):
        return None
    import sympy

    quotient = sympy.simplify(sympy.sympify(new) / old)
    return int(quotient) if quotient.is_Integer else None


def sides_by_scales(ctx: Context, x: Value, axes: Sequence[int], scales: Value) -> list[Side]:
    """Axes resized by scales; new sizes are rounded down, from products in float32."""
    array = scales.array
    sides = []
    for place, axis in enumerate(axes):
        old = size_number(ctx, x, axis)
        if array is None:
            given = ctx.element(scales, place)
            length = ctx.mul(given, float32(ctx, old))
            new: Number = ctx.cast(ctx.unary("floor", length), "int64")
            sides.append(Side(axis, old, new, given, 1))
            continue
        scale = simple_fraction(np.float32(array[place]))
        factor = float(np.float32(array[place]))
        if not isinstance(old, Value):
            new = int(np.floor(np.float32(array[place]) * np.float32(old)))
        elif scale == 1:
            new = old
        elif scale.denominator > MOST_PARTS:
            length = ctx.mul(ctx.cast(old, "float32"), factor)
            new = ctx.cast(ctx.unary("floor", length), "int64")
        else:
            new = ctx.mul(old, scale.numerator)
            new = ctx.floor_div(new, scale.denominator) if scale.denominator > 1 else new
        sides.append(Side(axis, old, new, factor, 1))
    return sides


def simple_fraction(scale: np.float32) -> Fraction:
    """The simplest fraction that rounds to a scale, so that dynamic sizes stay integers.

    >>> simple_fraction(np.float32(0.6))
    Fraction(3, 5)
    """
    exact = Fraction(float(scale))
    simple = exact.limit_denominator(MOST_PARTS)
    return simple if np.float32(float(simple)) == scale else exact


def kept_in_shape(ctx: Context, sides: Sequence[Side], policy: str) -> list[Side]:
    """The axes with one scale for all: the smallest, or the largest."""
    if policy not in ("not_larger", "not_smaller"):
        raise ctx.unsupported(f'keep_aspect_ratio_policy is "{policy}", which is not known')
    m: Math = PLAIN if all(side.is_plain for side in sides) else ctx
    choose = m.minimum if policy == "not_larger" else m.maximum
    scale: Number = None
    for side in sides:
        own = m.div(number(m, side.times), number(m, side.by))
        scale = own if scale is None else choose(scale, own)
    found = []
    for side in sides:
        length = m.unary("floor", m.add(m.mul(scale, number(m, side.old)), 0.5))
        new = m.cast(length, "int64")
        found.append(replace(side, new=int(new) if m is PLAIN else new, times=scale, by=1))
    return found


def cropped(ctx: Context, side: Side, roi: Value, place: int, count: int) -> Side:
    """The axis with the part of it that is resized, in parts of its length."""
    array = roi.array
    if array is not None:
        return replace(side, start=float(array[place]), end=float(array[place + count]))
    return replace(side, start=ctx.element(roi, place), end=ctx.element(roi, place + count))


def float32(ctx: Context, x: Number) -> Value:
    """A number or integer scalar as a float32 scalar."""
    return ctx.cast(x, "float32") if isinstance(x, Value) else ctx.value(np.float32(x))


def number(m: Math, x: Number) -> Number:
    """A number for formulas."""
    return np.float32(x) if m is PLAIN else float32(m, x)


# resizing ------------------------------------------------------------------------------------


def resized(ctx: Context, x: Value, sides: Sequence[Side], manner: Manner) -> Value:
    """The value with some axes resized; integers are interpolated as floats."""
    if manner.mode not in ("nearest", "linear", "cubic"):
        raise ctx.unsupported(f'mode is "{manner.mode}", expected nearest, linear or cubic')
    sides = [side for side in sides if not is_same(side, manner)]
    if not x.is_float and manner.mode != "nearest":
        held = resized(ctx, ctx.cast(x, "float32"), sides, manner)
        return ctx.cast(saturated(ctx, ctx.unary("round", held), x.dtype), x.dtype)
    if any(side.is_plain and side.new < 1 for side in sides):
        raise ctx.unsupported("an axis is resized to 0 elements, which Core ML has not")
    last = [side for side in sides if side.axis >= x.rank - 2]
    if x.is_float and x.rank >= 3 and last:
        found = native(ctx, x, last, manner)
        if found is not None:
            x, sides = found, [side for side in sides if side not in last]
    for side in sides:
        x = along_axis(ctx, x, side, manner)
    return x


def is_same(side: Side, manner: Manner) -> bool:
    """Whether the axis stays as it is."""
    if manner.coordinates == "tf_crop_and_resize" and (side.start, side.end) != (0.0, 1.0):
        return False
    return side.factor == 1 or (side.is_plain and side.times == side.by)


def saturated(ctx: Context, x: Value, dtype: str) -> Value:
    """Floats within the range of an integer dtype."""
    bounds = np.iinfo(dtype) if dtype in ("int8", "uint8", "int16", "uint16") else None
    if bounds is None:
        return x
    return ctx.minimum(ctx.maximum(x, float(bounds.min)), float(bounds.max))


def native(ctx: Context, x: Value, sides: Sequence[Side], manner: Manner) -> Value | None:
    """MIL's own resizing of the last two axes, where it gives what ONNX says; else None."""
    if all(side.factor for side in sides):
        found = upsampled(ctx, x, sides, manner)
        if found is not None:
            return found
    if all(side.is_plain for side in sides):
        return resized_to_numbers(ctx, x, sides, manner)
    return resized_to_values(ctx, x, sides, manner)


def upsampled(ctx: Context, x: Value, sides: Sequence[Side], manner: Manner) -> Value | None:
    """Whole scales, whatever the sizes are.

    Then the position of a result's centre is closest to the element that it lies in.
    """
    factors = {side.axis - x.rank: side.factor or 1 for side in sides}
    high, wide = (np.float32(factors.get(axis, 1)) for axis in (-2, -1))
    scales = {"scale_factor_height": high, "scale_factor_width": wide}
    where = manner.coordinates
    if manner.mode == "nearest":
        takes_own = (
            (where in HALF_PIXEL and manner.nearest.startswith("round"))
            or (where == "asymmetric" and manner.nearest == "floor")
            or (where == "tf_half_pixel_for_nn" and manner.nearest == "floor")
        )
        if not takes_own:
            return None
        result = ctx.unary("upsample_nearest_neighbor", x, **scales)
    elif manner.mode == "linear" and where in (*HALF_PIXEL, "align_corners", "asymmetric"):
        centres = {} if ctx.target < 16 else {"half_pixel_centers": where in HALF_PIXEL}
        if where == "asymmetric" and not centres:
            return None
        aligned = where == "align_corners"
        result = ctx.unary("upsample_bilinear", x, align_corners=aligned, **scales, **centres)
    else:
        return None
    sizes = [size * factors.get(axis - x.rank, 1) for axis, size in enumerate(x.shape)]
    set_shape(result, sizes)
    return result


def resized_to_numbers(
    ctx: Context, x: Value, sides: Sequence[Side], manner: Manner
) -> Value | None:
    """Fixed sizes, where MIL's positions are those of ONNX."""
    if not is_static(x.shape[-2:]):
        return None
    targets = {side.axis - x.rank: int(side.new) for side in sides}
    high, wide = (targets.get(axis, int(x.shape[axis])) for axis in (-2, -1))
    size = {"target_size_height": high, "target_size_width": wide}
    if manner.mode == "nearest":
        for side in sides:
            own = (np.arange(side.new) * 2 + 1) * side.old // (2 * side.new)
            if not np.array_equal(own, nearest_index(PLAIN, side, manner)):
                return None
        return ctx.unary("resize_nearest_neighbor", x, **size)
    if manner.mode != "linear" or manner.coordinates == "tf_crop_and_resize":
        return None
    if manner.antialias and any(side.times < side.by for side in sides):
        return None
    for mode in ("UNALIGN_CORNERS", "STRICT_ALIGN_CORNERS", "DEFAULT"):
        if all(has_positions(side, manner, mode) for side in sides):
            return ctx.unary("resize_bilinear", x, sampling_mode=mode, **size)
    return None


def has_positions(side: Side, manner: Manner, mode: str) -> bool:
    """Whether a sampling mode of MIL has the positions of an axis."""
    steps = np.arange(side.new)
    if mode == "UNALIGN_CORNERS":
        own = (steps + 0.5) * side.old / side.new - 0.5
    elif mode == "DEFAULT":
        own = steps * side.old / side.new
    else:
        own = steps * (side.old - 1) / max(side.new - 1, 1)
    wanted = positions(PLAIN, steps.astype(np.float32), side, manner.coordinates)
    last = side.old - 1
    return bool(np.allclose(own.clip(0, last), wanted.clip(0, last), rtol=0, atol=1e-5))


def resized_to_values(
    ctx: Context, x: Value, sides: Sequence[Side], manner: Manner
) -> Value | None:
    """Sizes that are computed while the model runs, by MIL's `resize` from iOS17 on."""
    modes = {
        "half_pixel": "UNALIGN_CORNERS",
        "align_corners": "STRICT_ALIGN_CORNERS",
        "asymmetric": "DEFAULT",
    }
    mode = modes.get(manner.coordinates)
    is_by_sizes = all(side.times is side.new and side.by is side.old for side in sides)
    if manner.mode != "linear" or manner.antialias or mode is None or not is_by_sizes:
        return None
    if ctx.target < 17 or is_static(tuple(x.shape[-2:])):
        return None
    targets = {side.axis - x.rank: side.new for side in sides}
    shape = ctx.vector([targets.get(axis, 0) for axis in (-2, -1)])
    return ctx.unary(
        "resize",
        x,
        shape=shape,
        resized_dims=np.uint32(2),
        interpolation_mode="LINEAR",
        sampling_mode=mode,
    )


# along one axis ------------------------------------------------------------------------------


def along_axis(ctx: Context, x: Value, side: Side, manner: Manner) -> Value:
    """The value resized along one axis."""
    m: Math = PLAIN if side.is_plain else ctx
    outside: Number = None
    if manner.coordinates == "tf_crop_and_resize":
        where = positions(m, steps_of(m, side), side, manner.coordinates)
        last = m.sub(number(m, side.old), 1.0)
        low, high = m.less(where, 0.0), m.less(last, where)
        outside = low | high if m is PLAIN else ctx.binary("logical_or", low, high)
    if manner.mode == "nearest":
        index = m.cast(nearest_index(m, side, manner), "int32")
        result = picked(ctx, x, index, side.axis)
    elif manner.antialias:
        result = by_matrix(ctx, m, x, side, manner)
    else:
        result = by_taps(ctx, m, x, side, manner)
    if outside is None or (m is PLAIN and not outside.any()):
        return result
    is_out: Value = ctx.value(outside) if m is PLAIN else outside
    is_out = ctx.expand_dims(is_out, [axis for axis in range(x.rank) if axis != side.axis])
    fill = manner.extrapolation if x.is_float else int(manner.extrapolation)
    return ctx.where(is_out, ctx.value(fill, x.dtype), result)


def steps_of(m: Math, side: Side) -> Number:
    """The indices of the results, as floats."""
    if m is PLAIN:
        return np.arange(side.new, dtype=np.float32)
    return m.cast(m.range(0, side.new), "float32")


def positions(m: Math, steps: Number, side: Side, coordinates: str) -> Number:
    """Where along the old axis results lie, 0 being the first element's centre."""
    times, by, old = number(m, side.times), number(m, side.by), number(m, side.old)
    length = m.div(m.mul(times, old), by)
    is_one = m.equal(length, 1.0)
    spaces = m.where(is_one, 1.0, m.sub(length, 1.0))

    def unscaled(x: Number) -> Number:
        return m.div(m.mul(x, by), times)

    match coordinates:
        case "asymmetric":
            return unscaled(steps)
        case "half_pixel":
            return m.sub(unscaled(m.add(steps, 0.5)), 0.5)
        case "tf_half_pixel_for_nn":
            return unscaled(m.add(steps, 0.5))
        case "pytorch_half_pixel":
            return m.where(is_one, -0.5, m.sub(unscaled(m.add(steps, 0.5)), 0.5))
        case "half_pixel_symmetric":
            part = m.sub(1.0, m.div(number(m, side.new), length))
            offset = m.sub(m.mul(m.mul(old, 0.5), part), 0.5)
            return m.add(unscaled(m.add(steps, 0.5)), offset)
        case "align_corners":
            return m.where(is_one, 0.0, m.div(m.mul(steps, m.sub(old, 1.0)), spaces))
        case "tf_crop_and_resize":
            start, end = number(m, side.start), number(m, side.end)
            extent = m.mul(m.sub(end, start), m.sub(old, 1.0))
            inner = m.where(is_one, m.mul(extent, 0.5), m.div(m.mul(steps, extent), spaces))
            return m.add(inner, m.mul(start, m.sub(old, 1.0)))
    raise ValueError(f'coordinate_transformation_mode "{coordinates}" is not known')


def clamped(m: Math, x: Number, old: Number) -> Number:
    """Positions within the axis."""
    return m.maximum(m.minimum(x, m.sub(number(m, old), 1.0)), 0.0)


def nearest_index(m: Math, side: Side, manner: Manner) -> Number:
    """The elements that are picked."""
    where = positions(m, steps_of(m, side), side, manner.coordinates)
    match manner.nearest:
        case "floor":
            found = m.unary("floor", where)
        case "ceil":
            found = m.unary("ceil", where)
        case "round_prefer_floor":
            found = m.unary("ceil", m.sub(where, 0.5))
        case "round_prefer_ceil":
            found = m.unary("floor", m.add(where, 0.5))
        case _:
            raise ValueError(f'nearest_mode "{manner.nearest}" is not known')
    return clamped(m, found, side.old)


def picked(ctx: Context, x: Value, index: Number, axis: int) -> Value:
    """Elements along an axis."""
    result: Value = ctx.emit("gather", x=x, indices=index, axis=axis, dtype=x.dtype)
    return result


def by_taps(ctx: Context, m: Math, x: Value, side: Side, manner: Manner) -> Value:
    """Weighted sums of the two or four elements around each position."""
    where = positions(m, steps_of(m, side), side, manner.coordinates)
    low = m.unary("floor", where)
    part = m.sub(where, low)
    if manner.mode == "linear":
        weights = [m.sub(1.0, part), part]
        places = [low, m.add(low, 1.0)]
    else:
        places = [m.add(low, float(step)) for step in (-1, 0, 1, 2)]
        weights = [
            cubic(m, m.unary("abs", m.sub(where, place)), manner.cubic_a) for place in places
        ]
    if manner.excludes_outside:
        weights = inner_weights(m, weights, places, side)
    result: Value | None = None
    shape = [axis for axis in range(x.rank) if axis != side.axis]
    for place, weight in zip(places, weights, strict=True):
        index = m.cast(clamped(m, place, side.old), "int32")
        factor = ctx.value(weight.astype(np.float32)) if m is PLAIN else weight
        term = ctx.mul(picked(ctx, x, index, side.axis), ctx.expand_dims(factor, shape))
        result = term if result is None else ctx.add(result, term)
    assert result is not None
    return result


def inner_weights(
    m: Math, weights: Sequence[Number], places: Sequence[Number], side: Side
) -> list[Number]:
    """The weights, 0 for elements that there are not, with a sum of 1."""
    found: list[Number] = []
    total: Number = None
    for weight, place in zip(weights, places, strict=True):
        is_inside = m.equal(place, clamped(m, place, side.old))
        found.append(m.where(is_inside, weight, 0.0))
        total = found[-1] if total is None else m.add(total, found[-1])
    return [m.div(weight, total) for weight in found]


def cubic(m: Math, distance: Number, a: float) -> Number:
    """Keys' weight of an element at a distance."""
    inner = m.mul(m.mul(distance, distance), m.sub(m.mul(distance, a + 2), a + 3))
    outer = m.mul(m.sub(m.mul(m.add(m.mul(distance, a), -5 * a), distance), -8 * a), distance)
    near = m.add(inner, 1.0)
    far = m.where(m.less(distance, 2.0), m.sub(outer, 4 * a), 0.0)
    return m.where(m.less(1.0, distance), far, near)


def by_matrix(ctx: Context, m: Math, x: Value, side: Side, manner: Manner) -> Value:
    """Weighted sums of all elements that a result covers, as a product with a matrix.

    The axis is widened by its outermost elements, since weights reach beyond it.
    """
    where = positions(m, steps_of(m, side), side, manner.coordinates)
    scale = m.minimum(m.div(number(m, side.times), number(m, side.by)), 1.0)
    reach = 1.0 if manner.mode == "linear" else 2.0
    margin = m.add(m.unary("ceil", m.div(reach, scale)), 1.0)
    if m is PLAIN:
        places = np.arange(-margin, side.old + margin)
    else:
        margin = m.cast(margin, "int64")
        places = m.cast(m.range(m.mul(margin, -1), m.add(margin, side.old)), "float32")
    gaps = m.sub(m.expand_dims(where, [1]), m.expand_dims(places, [0]))
    distance = m.mul(m.unary("abs", gaps), scale)
    if manner.mode == "linear":
        weights = m.maximum(m.sub(1.0, distance), 0.0)
    else:
        weights = cubic(m, distance, manner.cubic_a)
    inside = m.equal(places, clamped(m, places, side.old))
    if manner.excludes_outside:
        weights = m.where(m.expand_dims(inside, [0]), weights, 0.0)
    if m is PLAIN:
        index = places.clip(0, side.old - 1).astype(int)
        matrix = np.zeros((len(where), side.old))
        for column, place in enumerate(index):
            matrix[:, place] += weights[:, column] / weights.sum(axis=1)
        return multiplied(ctx, x, ctx.value(matrix.astype(np.float32)), side.axis)
    total = ctx.unary("reduce_sum", weights, axes=[1], keep_dims=True)
    wide = picked(ctx, x, ctx.cast(clamped(m, places, side.old), "int32"), side.axis)
    return multiplied(ctx, wide, ctx.div(weights, total), side.axis)


def multiplied(ctx: Context, x: Value, matrix: Value, axis: int) -> Value:
    """The product of a matrix with each vector along an axis."""
    if axis == x.rank - 2:
        return ctx.unary("matmul", matrix, y=x).with_dtype(x.dtype)
    order = [place for place in range(x.rank) if place != axis] + [axis]
    moved = ctx.transpose(x, order)
    if moved.rank == 1:
        moved = ctx.expand_dims(moved, [0])
    result = ctx.unary("matmul", moved, y=matrix, transpose_y=True)
    if x.rank == 1:
        return ctx.squeeze(result, [0])
    return ctx.transpose(result, [order.index(place) for place in range(x.rank)])
