"""Reading layers: products with constant matrices, 1×1 convolutions, normalizations."""

from __future__ import annotations

import math

import numpy as np

from metal4conv.shader.axes import Known, MixedPoints
from metal4conv.shader.convolution_reading import (
    ConvolutionArguments,
    NoImage,
    is_spatial,
    spatial_convolution,
)
from metal4conv.shader.limits import ML_PASS
from metal4conv.shader.network import Vector
from metal4conv.shader.reader import READERS, Reader

Ints = tuple[int, ...]


@READERS("linear")
def linear(reader: Reader, x: Known, weight: Known, bias: Known | None = None) -> Known:
    """`x @ weight.T + bias` over the last axis."""
    matrix = reader.constant(weight, "weight")
    added = None if bias is None else reader.constant(bias, "bias")
    return reader.contracted(x, -1, matrix, added)


@READERS("matmul")
def matmul(
    reader: Reader, x: Known, y: Known, *, transpose_x: bool = False, transpose_y: bool = False
) -> Known:
    """A product of matrices, one of them constant, or both of features alone."""
    if y.content.constant is not None:
        right = matrix_of(reader, y, transpose_y)
        left = last_two_swapped(reader, x) if transpose_x and len(x.shape) > 1 else x
        found = reader.contracted(left, -1, right[None] if right.ndim == 1 else right.T)
    elif x.content.constant is not None:
        matrix = matrix_of(reader, x, transpose_x)
        value = last_two_swapped(reader, y) if transpose_y and len(y.shape) > 1 else y
        axis = -1 if len(y.shape) == 1 else -2
        found = reader.contracted(value, axis, np.atleast_2d(matrix))
    else:
        found = product_of_features(reader, x, y, transpose_x, transpose_y)
    return reader.reshaped(found, reader.output_shape())


def matrix_of(reader: Reader, value: Known, is_transposed: bool) -> np.ndarray:
    """A constant matrix or vector; axes of size 1 in front of it are left out."""
    array = reader.constant(value, "matrix")
    batch = math.prod(array.shape[:-2])
    if array.ndim > 2 and batch != 1:
        raise reader.refused(
            f"operation {reader.operation} multiplies by {batch} matrices of shape "
            f"{list(array.shape[-2:])} in a batch, expected one",
            f"use one matrix for all points, or {ML_PASS}",
        )
    matrix = array.reshape(array.shape[-2:])
    return matrix.T if is_transposed and matrix.ndim == 2 else matrix


def last_two_swapped(reader: Reader, value: Known) -> Known:
    """A value with its last two axes swapped."""
    rank = len(value.shape)
    return reader.transposed(value, [*range(rank - 2), rank - 1, rank - 2])


def product_of_features(
    reader: Reader, x: Known, y: Known, transpose_x: bool, transpose_y: bool
) -> Known:
    """A product of two computed matrices of each point, such as a rotation of a direction.

    Where what is summed over are points, or both have points of their own, it is attention, or the
    like of it; also where nothing says that the rows are not what a model has many of.
    """
    summed = [(x, -2 if transpose_x and len(x.shape) > 1 else -1)]
    summed.append((y, -1 if transpose_y or len(y.shape) == 1 else -2))
    both = not x.is_uniform and not y.is_uniform and any((*x.points[-2:], *y.points[-2:]))
    is_one_sample = not reader.points and min(map(int, reader.output_shape()[-2:]), default=1) > 1
    if both or is_one_sample or any(value.points[axis] for value, axis in summed):
        raise MixedPoints(
            "multiplies two computed matrices whose rows or columns are points, as attention "
            "does: every point would read all others"
        )
    left, right = reader.kept(x), reader.kept(y)
    if len(left.shape) == 1:
        left = reader.reshaped(left, (1, *left.shape))
    elif transpose_x:
        left = last_two_swapped(reader, left)
    if len(right.shape) == 1:
        right = reader.reshaped(right, (*right.shape, 1))
    elif transpose_y:
        right = last_two_swapped(reader, right)
    rank = len(right.shape)
    columns = reader.transposed(right, [*range(rank - 2), rank - 1, rank - 2])
    rows = reader.reshaped(left, (*left.shape[:-1], 1, left.shape[-1]))
    others = reader.reshaped(columns, (*columns.shape[:-2], 1, *columns.shape[-2:]))
    terms = reader.call("multiply", rows, others)
    return reader.reduced("sum", terms, [-1], keep=False)


@READERS("conv")
def conv(
    reader: Reader,
    x: Known,
    weight: Known,
    bias: Known | None = None,
    *,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Known:
    """A convolution: a linear layer for each pixel where its kernel is one pixel."""
    kernel = reader.constant(weight, "weight")
    added = None if bias is None else reader.constant(bias, "bias")
    rank = kernel.ndim - 2
    arguments = ConvolutionArguments(
        str(reader.operation),
        reader.label,
        kernel,
        strides or (1,) * rank,
        pad_type,
        pad or (0,) * (2 * rank),
        dilations or (1,) * rank,
        groups,
    )
    if is_spatial(kernel):
        return spatial(reader, x, arguments, added)
    check_pointwise(reader, arguments)
    return reader.contracted(x, 1, grouped_matrix(kernel, groups), added)


def check_pointwise(reader: Reader, arguments: ConvolutionArguments) -> None:
    """`UnsupportedModel` for a convolution of single pixels that gives another number of them."""
    is_padded = arguments.pad_type == "custom" and any(arguments.pad)
    if not is_padded and all(stride == 1 for stride in arguments.strides):
        return
    found = f"padding {list(arguments.pad)}" if is_padded else f"strides {list(arguments.strides)}"
    raise reader.refused(
        f"operation {reader.operation} is a 1×1 convolution with {found}, which gives another "
        "number of pixels than it takes; a shader computes one output for each input pixel",
        f"use stride 1 without padding, or {ML_PASS}",
    )


def grouped_matrix(kernel: np.ndarray, groups: int) -> np.ndarray:
    """The matrix, outputs × inputs, of a convolution of single pixels in groups.

    >>> grouped_matrix(np.array([[2.0], [3.0]]).reshape(2, 1, 1, 1), 2).tolist()
    [[2.0, 0.0], [0.0, 3.0]]
    """
    outputs, inputs = kernel.shape[:2]
    each = outputs // groups
    matrix = np.zeros((outputs, inputs * groups))
    for group in range(groups):
        rows = slice(group * each, (group + 1) * each)
        columns = slice(group * inputs, (group + 1) * inputs)
        matrix[rows, columns] = kernel[rows].reshape(each, inputs)
    return matrix


def spatial(
    reader: Reader, x: Known, arguments: ConvolutionArguments, bias: np.ndarray | None
) -> Known:
    """A convolution of pixels with their neighbours, which begins a pass of its own."""
    if len(x.shape) != 4 or x.points[1] or not (x.points[2] or x.points[3]) or x.points[0]:
        raise NoImage(
            f"operation {reader.operation} convolves pixels of an image, but takes a value of "
            f"shape {list(x.shape)} whose points are not its rows and columns; expected "
            "(1, channels, height, width)",
            where=reader.where(reader.operation),
            hint=f"export it for one image at a time, or {ML_PASS}",
        )
    outputs = len(arguments.weight)
    result = reader.vector(reader.result_name("sums"), outputs)
    operand = Vector("image", x.content.width)
    template = spatial_convolution(arguments, operand, result)
    content = reader.convolved(x, arguments.weight, template)
    found = Known((x.shape[0], outputs, *x.shape[2:]), x.points, content)
    if bias is None or not bias.any():
        return found
    return reader.call("add", found, bias.reshape(-1, 1, 1))


@READERS("batch_norm")
def batch_norm(
    reader: Reader,
    x: Known,
    mean: Known,
    variance: Known,
    gamma: Known | None = None,
    beta: Known | None = None,
    *,
    epsilon: float = 1e-5,
) -> Known:
    """`x` normalized by given statistics of its channels, axis 1: a scale and a shift."""
    scale = 1 / np.sqrt(reader.constant(variance, "variance") + epsilon)
    if gamma is not None:
        scale = scale * reader.constant(gamma, "gamma")
    shift = -reader.constant(mean, "mean") * scale
    if beta is not None:
        shift = shift + reader.constant(beta, "beta")
    shape = (-1, *[1] * (len(x.shape) - 2))
    scaled = reader.call("multiply", x, scale.reshape(shape))
    return reader.call("add", scaled, shift.reshape(shape))


@READERS("layer_norm")
def layer_norm(
    reader: Reader,
    x: Known,
    gamma: Known | None = None,
    beta: Known | None = None,
    *,
    axes: Ints | None = None,
    epsilon: float = 1e-5,
) -> Known:
    """`x` normalized over axes of features; `gamma` and `beta` have the axes' shape."""
    over = sorted(x.axis(axis) for axis in (axes if axes is not None else range(len(x.shape))))
    count = math.prod(x.grid_shape[axis] for axis in over)
    once = reader.kept(x)
    mean = reader.call("multiply", reader.reduced("sum", once, over), 1 / count)
    centred = reader.call("subtract", once, reader.kept(mean, "mean"))
    centred = reader.kept(centred, "centred")
    squares = reader.reduced("sum", reader.call("multiply", centred, centred), over)
    variance = reader.call("multiply", squares, 1 / count)
    factor = reader.call("rsqrt", reader.call("add", variance, epsilon))
    result = reader.call("multiply", centred, reader.kept(factor, "factor"))
    shape = [x.grid_shape[axis] if axis in over else 1 for axis in range(len(x.shape))]
    if gamma is not None:
        result = reader.call("multiply", result, reader.constant(gamma, "gamma").reshape(shape))
    if beta is not None:
        result = reader.call("add", result, reader.constant(beta, "beta").reshape(shape))
    return result


@READERS("l2_norm")
def l2_norm(reader: Reader, x: Known, *, epsilon: float = 1e-6) -> Known:
    """`x` divided by the root of the sum of squares over its last three dimensions."""
    once = reader.kept(x)
    squares = reader.reduced("sum", reader.call("multiply", once, once), [-3, -2, -1])
    factor = reader.call("rsqrt", reader.call("add", squares, epsilon))
    return reader.call("multiply", once, reader.kept(factor, "factor"))
