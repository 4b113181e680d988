"""Resizing, cropping and resampling of the last dimensions.

Sizes may be symbolic, so positions are computed by torch on index tensors. Linear interpolation
runs one dimension after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.scatter_gather import checked
from metal4conv.execute.table import EXACT_OPS, MIL_OPS, Ints

MODES = ("DEFAULT", "STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "UNALIGN_CORNERS", "OFFSET_CORNERS")


@MIL_OPS("resize_bilinear")
def resize_bilinear(
    x: Tensor,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """`x` with its last two dimensions resized by linear interpolation."""
    return linear_resize(x, (target_size_height, target_size_width), sampling_mode)


@EXACT_OPS("resize_nearest_neighbor")
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """`x` with its last two dimensions resized to the nearest element, counted from centres.

    That is TensorFlow's `half_pixel_centers`, unlike `upsample_nearest_neighbor`.
    """
    return nearest_resize(x, (target_size_height, target_size_width), from_centres)


@MIL_OPS("upsample_bilinear")
def upsample_bilinear_aligned(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
) -> Tensor:
    """`x` with its last two dimensions scaled by linear interpolation."""
    y: Tensor = upsample_bilinear(x, scale_factor_height, scale_factor_width, align_corners)
    return y


@MIL_OPS("upsample_bilinear", since=16)
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1,
    scale_factor_width: float = 1,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """`x` with its last two dimensions scaled; `half_pixel_centers` is `not align_corners`.

    Positions follow from the sizes, not from the scales (PyTorch's `recompute_scale_factor`).
    """
    if align_corners and half_pixel_centers:
        raise UnsupportedModel("align_corners and half_pixel_centers exclude each other")
    legacy = not align_corners and half_pixel_centers is False
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "DEFAULT" if legacy else "UNALIGN_CORNERS"
    return linear_resize(x, scaled(x, scale_factor_height, scale_factor_width), mode)


@EXACT_OPS("upsample_nearest_neighbor")
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1, scale_factor_width: float = 1
) -> Tensor:
    """`x` with its last two dimensions scaled, each element taken from where it starts."""
    factors = [float(scale_factor_height), float(scale_factor_width)]
    if all(factor.is_integer() for factor in factors):
        high, wide = (int(factor) for factor in factors)
        *batch, height, width = x.shape
        y = x.unsqueeze(-1).unsqueeze(-3).expand(*batch, height, high, width, wide)
        return y.reshape(*batch, height * high, width * wide)
    return nearest_resize(x, scaled(x, scale_factor_height, scale_factor_width), from_starts)


@MIL_OPS("resize", since=17)
def resize(
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """`x` with its last `resized_dims` dimensions resized to those of `shape`; 0 keeps a size.

    The nearest neighbor is the element closest to the position that the sampling mode gives, of
    two the later one. In the default mode it counts from centres, as `resize_nearest_neighbor`.
    """
    kept = x.shape[x.dim() - resized_dims :]
    wanted = shape[len(shape) - resized_dims :]
    sizes = [old if new == 0 else new for old, new in zip(kept, wanted, strict=True)]
    if interpolation_mode == "LINEAR":
        return linear_resize(x, sizes, sampling_mode)
    if interpolation_mode != "NEAREST_NEIGHBOR":
        raise UnsupportedModel(f'resize has no interpolation mode "{interpolation_mode}"')
    if sampling_mode not in NEAREST:
        raise UnsupportedModel(f'resizing has no sampling mode "{sampling_mode}"')
    return nearest_resize(x, sizes, NEAREST[sampling_mode])


@EXACT_OPS("crop")
def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """`x` without some rows and columns at its borders."""
    for axis, (before, after) in ((-2, crop_height), (-1, crop_width)):
        x = x.narrow(axis, before, x.shape[axis] - before - after)
    return x


@MIL_OPS("crop_resize")
def crop_resize_zeros(
    x: Tensor,
    roi: Tensor,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Boxes of the images, resized; `[N, B, C, h, w]`, or `[N, 1, C, h, w]` with image indices."""
    crops: Tensor = crop_resize_roi(
        x,
        roi,
        target_height,
        target_width,
        normalized_coordinates,
        spatial_scale,
        box_coordinate_mode,
        sampling_mode,
    )
    return crops


@MIL_OPS("crop_resize", since=16)
def crop_resize_roi(
    x: Tensor,
    roi: Tensor,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    """Boxes of the images, resized, with a value for what lies outside."""
    rows = roi.flatten(1)
    has_indices = rows.shape[1] == 5
    boxes = rows[:, -4:]
    options = (
        target_height,
        target_width,
        normalized_coordinates,
        spatial_scale,
        box_coordinate_mode,
        sampling_mode,
        pad_value,
    )
    crops: Tensor
    if has_indices:
        crops = crop_resize(x, boxes, rows[:, 0], *options)
        return crops.unsqueeze(1)
    count, images = boxes.shape[0], x.shape[0]
    indices = torch.arange(images, device=x.device).repeat(count)
    crops = crop_resize(x, boxes.repeat_interleave(images, dim=0), indices, *options)
    return crops.reshape(count, images, *crops.shape[1:])


@MIL_OPS("crop_resize", since=17)
def crop_resize(
    x: Tensor,
    boxes: Tensor,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    """Boxes of the images by index, resized: `[N, C, h, w]`.

    A position outside the image gives `pad_value`, as in TensorFlow's `crop_and_resize`. A box by
    its centre reaches half of its size to either side.
    """
    height, width = x.shape[-2:]
    (top, bottom), (left, right) = corners(boxes.to(x.dtype) * spatial_scale, box_coordinate_mode)
    if normalized_coordinates:
        top, bottom = top * (height - 1), bottom * (height - 1)
        left, right = left * (width - 1), right * (width - 1)
    rows = box_positions(top, bottom, target_height, sampling_mode)
    columns = box_positions(left, right, target_width, sampling_mode)
    if box_indices is None:
        box_indices = torch.arange(boxes.shape[0], device=x.device)
    inside = ((rows >= 0) & (rows <= height - 1)).unsqueeze(-1)
    inside = inside & ((columns >= 0) & (columns <= width - 1)).unsqueeze(-2)
    image = checked(box_indices, x.shape[0])[:, None, None]
    y0, y1, dy = neighbours(rows, height)
    x0, x1, dx = neighbours(columns, width)
    dy, dx = dy[:, :, None, None], dx[:, None, :, None]
    above, below = y0[:, :, None], y1[:, :, None]
    before, after = x0[:, None, :], x1[:, None, :]
    upper = torch.lerp(x[image, :, above, before], x[image, :, above, after], dx)
    lower = torch.lerp(x[image, :, below, before], x[image, :, below, after], dx)
    crops = torch.lerp(upper, lower, dy).movedim(-1, 1)
    return torch.where(inside.unsqueeze(1), crops, pad_value)


@MIL_OPS("resample")
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """`x` at positions `(column, row)`, interpolated or at the nearest element, halves upwards."""
    sampling_mode, padding_mode = sampling_mode.lower(), padding_mode.lower()
    coordinates_mode = coordinates_mode.lower()
    if sampling_mode not in ("bilinear", "nearest"):
        raise UnsupportedModel(f'resample has no sampling mode "{sampling_mode}"')
    plain = padding_mode == "border" or (padding_mode == "constant" and padding_value == 0)
    is_bilinear = sampling_mode == "bilinear"
    if is_bilinear and plain and coordinates_mode == "normalized_minus_one_to_one":
        padding = "border" if padding_mode == "border" else "zeros"
        grid = coordinates.to(x.dtype)
        return F.grid_sample(x, grid, sampling_mode, padding, align_corners)
    height, width = x.shape[-2:]
    columns, rows = coordinates.to(torch.float32).unbind(-1)
    columns = in_pixels(columns, width, coordinates_mode, align_corners)
    rows = in_pixels(rows, height, coordinates_mode, align_corners)
    if not is_bilinear:
        row, column = (rows + 0.5).floor(), (columns + 0.5).floor()
        return picked(x, row, column, padding_mode, padding_value)
    row, column = rows.floor(), columns.floor()
    dy, dx = (rows - row).unsqueeze(1), (columns - column).unsqueeze(1)
    options = (padding_mode, padding_value)
    upper = torch.lerp(picked(x, row, column, *options), picked(x, row, column + 1, *options), dx)
    lower = torch.lerp(
        picked(x, row + 1, column, *options), picked(x, row + 1, column + 1, *options), dx
    )
    return torch.lerp(upper, lower, dy)


@MIL_OPS("affine")
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """`x` at positions that a matrix `[a0, a1, a2, b0, b1, b2]` makes of the output's."""
    if coordinates_mode.lower() != "normalized_minus_one_to_one":
        raise UnsupportedModel(f'affine is not known here with coordinates "{coordinates_mode}"')
    batch, channels = x.shape[:2]
    matrix = transform_matrix.reshape(-1, 2, 3).expand(batch, 2, 3)
    grid = F.affine_grid(matrix, [batch, channels, output_height, output_width], align_corners)
    y: Tensor = resample(
        x, grid, sampling_mode, padding_mode, padding_value, coordinates_mode, align_corners
    )
    return y


def scaled(x: Tensor, high: float, wide: float) -> list[int]:
    """The last two sizes of `x` times two factors, rounded down.

    A factor is taken as the simplest fraction that rounds to the same float32, so that a symbolic
    size stays a formula of integers.
    """
    sizes = []
    for size, factor in zip(x.shape[-2:], (high, wide), strict=True):
        exact = Fraction(float(factor))
        simple = exact.limit_denominator(1024)
        fraction = simple if np.float32(float(simple)) == np.float32(factor) else exact
        sizes.append(size * fraction.numerator // fraction.denominator)
    return sizes


def linear_resize(x: Tensor, sizes: Sequence[int], mode: str) -> Tensor:
    """`x` with its last dimensions resized by linear interpolation."""
    if mode not in MODES:
        raise UnsupportedModel(f'resizing has no sampling mode "{mode}"')
    aligned = {"STRICT_ALIGN_CORNERS": True, "UNALIGN_CORNERS": False}.get(mode)
    if aligned is not None and len(sizes) == 2 and x.is_floating_point() and x.dim() > 2:
        planes = x.flatten(0, -3).unsqueeze(0)
        y: Tensor = torch.ops.aten.upsample_bilinear2d(planes, sizes, aligned)
        return y.reshape(*x.shape[:-2], *sizes)
    for axis, size in enumerate(sizes, x.dim() - len(sizes)):
        low, high, weight = neighbours(positions(x.shape[axis], size, mode), x.shape[axis])
        weight = weight.to(torch.float32).reshape(-1, *[1] * (x.dim() - axis - 1))
        x = torch.lerp(
            x.index_select(axis, low).to(torch.float32),
            x.index_select(axis, high).to(torch.float32),
            weight,
        )
    return x


def positions(old: int, new: int, mode: str) -> Tensor:
    """Where along a dimension of size `old` the elements of the resized one are taken from.

    The formulas are those of MIL's `resize_bilinear`; they may reach beyond the last element. In
    float64: what is left of a position in float32 behind its whole part is less than float32 holds.

    >>> positions(2, 5, "OFFSET_CORNERS").tolist()
    [0.1, 0.3, 0.5, 0.7, 0.9]
    """
    steps = torch.arange(new, dtype=torch.float64)
    if mode == "ALIGN_CORNERS" and isinstance(new, int) and new == 1:
        return steps + (old - 1) / 2
    match mode:
        case "DEFAULT":
            return steps * old / new
        case "UNALIGN_CORNERS":
            return (steps + 0.5) * old / new - 0.5
        case "OFFSET_CORNERS":
            return (steps + 0.5) * at_least_one(old - 1) / new
    return steps * (old - 1) / at_least_one(new - 1)


def at_least_one(size: int) -> int:
    """A size, or 1 where it is less, without asking a symbolic one."""
    larger: int = torch.sym_max(size, 1)  # type: ignore[no-untyped-call]
    return larger


def neighbours(where: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """The indices before and after positions, and the weight of the second."""
    where = where.clamp(0, size - 1)
    low = where.floor()
    return low.long(), (low + 1).clamp(max=size - 1).long(), where - low


def nearest_resize(x: Tensor, sizes: Sequence[int], source: Callable[[int, int], Tensor]) -> Tensor:
    """`x` with its last dimensions resized by choosing elements."""
    for axis, size in enumerate(sizes, x.dim() - len(sizes)):
        x = x.index_select(axis, source(x.shape[axis], size))
    return x


def from_starts(old: int, new: int) -> Tensor:
    """Indices by where elements start.

    >>> from_starts(2, 3).tolist()
    [0, 0, 1]
    """
    return torch.arange(new) * old // new


def from_centres(old: int, new: int) -> Tensor:
    """Indices by where elements have their centre.

    >>> from_centres(2, 3).tolist()
    [0, 1, 1]
    """
    return (torch.arange(new) * 2 + 1) * old // (2 * new)


def from_corners(old: int, new: int) -> Tensor:
    """The indices closest to positions from the first element to the last.

    >>> from_corners(3, 4).tolist(), from_corners(3, 1).tolist()
    ([0, 1, 1, 2], [0])
    """
    spaces = at_least_one(new - 1)
    return (torch.arange(new) * (2 * (old - 1)) + spaces) // (2 * spaces)


def from_corners_or_middle(old: int, new: int) -> Tensor:
    """The same, but a single element comes from the middle.

    >>> from_corners_or_middle(3, 1).tolist()
    [1]
    """
    if isinstance(new, int) and new == 1:
        return torch.full((1,), 0) + old // 2
    return from_corners(old, new)


def from_offset(old: int, new: int) -> Tensor:
    """The indices closest to the centres of parts of the way from the first element to the last.

    >>> from_offset(3, 4).tolist(), from_offset(1, 2).tolist()
    ([0, 1, 1, 2], [0, 0])
    """
    doubled = (torch.arange(new) * 2 + 1) * at_least_one(old - 1)
    return ((doubled + new) // (2 * new)).clamp(max=old - 1)


NEAREST: dict[str, Callable[[int, int], Tensor]] = {
    "DEFAULT": from_centres,
    "UNALIGN_CORNERS": from_centres,
    "STRICT_ALIGN_CORNERS": from_corners,
    "ALIGN_CORNERS": from_corners_or_middle,
    "OFFSET_CORNERS": from_offset,
}
"""Indices into a dimension of one size for another, by the sampling mode of `resize`."""


def corners(boxes: Tensor, mode: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Top and bottom, left and right of boxes `[N, 4]`."""
    first, second, third, fourth = boxes.unbind(-1)
    match mode:
        case "CORNERS_HEIGHT_FIRST":
            return (first, third), (second, fourth)
        case "CORNERS_WIDTH_FIRST":
            return (second, fourth), (first, third)
        case "CENTER_SIZE_HEIGHT_FIRST":
            rows = (first - third / 2, first + third / 2)
            return rows, (second - fourth / 2, second + fourth / 2)
        case "CENTER_SIZE_WIDTH_FIRST":
            rows = (second - fourth / 2, second + fourth / 2)
            return rows, (first - third / 2, first + third / 2)
    raise UnsupportedModel(f'crop_resize has no box coordinate mode "{mode}"')


def box_positions(start: Tensor, end: Tensor, count: int, mode: str) -> Tensor:
    """Positions `[N, count]` in the image at which boxes are sampled along one dimension.

    A box holds the elements at its start and end, so its size is one more than their distance.
    """
    start, extent = start.unsqueeze(-1), (end - start).unsqueeze(-1)
    steps = torch.arange(count, dtype=torch.float32, device=start.device)
    match mode:
        case "STRICT_ALIGN_CORNERS" | "ALIGN_CORNERS":
            if count == 1:
                return start + extent / 2 * (mode == "ALIGN_CORNERS")
            return start + steps * extent / (count - 1)
        case "DEFAULT":
            inner = steps * (extent + 1) / count
        case "UNALIGN_CORNERS":
            inner = (steps + 0.5) * (extent + 1) / count - 0.5
        case "OFFSET_CORNERS":
            return start + (steps + 0.5) * extent.clamp(min=1) / count
        case _:
            raise UnsupportedModel(f'crop_resize has no sampling mode "{mode}"')
    return start + torch.minimum(inner.clamp(min=0), extent.clamp(min=0))


def in_pixels(where: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Coordinates along a dimension as positions, 0 being the first element's centre."""
    match mode:
        case "unnormalized":
            return where
        case "normalized_minus_one_to_one":
            where = (where + 1) / 2
        case "normalized_zero_to_one":
            pass
        case _:
            raise UnsupportedModel(f'resample has no coordinates mode "{mode}"')
    return where * (size - 1) if align_corners else where * size - 0.5


def picked(x: Tensor, rows: Tensor, columns: Tensor, mode: str, value: float) -> Tensor:
    """Elements `[B, C, h, w]` of `x` at whole positions `[B, h, w]`, which may lie outside."""
    height, width = x.shape[-2:]
    row, column = inner_index(rows, height, mode), inner_index(columns, width, mode)
    places = (row * width + column).flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    found = x.flatten(2).gather(2, places).reshape(*x.shape[:2], *rows.shape[1:])
    if mode != "constant":
        return found
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return torch.where(inside.unsqueeze(1), found, value)


def inner_index(where: Tensor, size: int, mode: str) -> Tensor:
    """Indices within a dimension for whole positions that may lie outside."""
    match mode:
        case "constant" | "border":
            return where.clamp(0, size - 1).long()
        case "reflection":
            period = at_least_one(2 * size - 2)
            folded = where.long() % period
            return torch.minimum(folded, (period - folded) % period)
        case "symmetric":
            folded = where.long() % (2 * size)
            return torch.minimum(folded, 2 * size - 1 - folded)
    raise UnsupportedModel(f'resample has no padding mode "{mode}"')
