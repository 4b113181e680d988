"""Reading reductions over the features of a point, and softmax, which is made of such."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from metal4conv.shader.axes import Known
from metal4conv.shader.reader import READERS, Reader, Reading
from metal4conv.shader.reading_elementwise import square

Ints = tuple[int, ...]
Reduction = Callable[[Reader, Known, Sequence[int], bool], Known]


def plain_reduction(operation: str) -> Reduction:
    """A reduction that is a step as it is."""
    return lambda reader, x, axes, keep: reader.reduced(operation, x, axes, keep)


def mean(reader: Reader, x: Known, axes: Sequence[int], keep: bool) -> Known:
    """The sum divided by the number of elements."""
    total = reader.reduced("sum", x, axes, keep)
    result = reader.call("multiply", total, 1 / math.prod(x.grid_shape[axis] for axis in axes))
    return reader.call("truncate", result) if "int" in reader.output_dtype() else result


def sum_square(reader: Reader, x: Known, axes: Sequence[int], keep: bool) -> Known:
    """The sum of squares."""
    return reader.reduced("sum", square(reader, x), axes, keep)


def l1_norm(reader: Reader, x: Known, axes: Sequence[int], keep: bool) -> Known:
    """The sum of absolute values."""
    return reader.reduced("sum", reader.call("abs", x), axes, keep)


def l2_norm(reader: Reader, x: Known, axes: Sequence[int], keep: bool) -> Known:
    """The square root of the sum of squares."""
    return reader.call("sqrt", sum_square(reader, x, axes, keep))


def log_sum(reader: Reader, x: Known, axes: Sequence[int], keep: bool) -> Known:
    """The logarithm of the sum."""
    return reader.call("log", reader.reduced("sum", x, axes, keep))


def log_sum_exp(reader: Reader, x: Known, axes: Sequence[int], keep: bool) -> Known:
    """The logarithm of the sum of exponentials, without overflow."""
    once = reader.kept(x)
    largest = reader.reduced("maximum", once, axes)
    powers = reader.call("exp", reader.call("subtract", once, largest))
    found = reader.call("add", reader.call("log", reader.reduced("sum", powers, axes)), largest)
    return found if keep else reader.reshaped(found, reader.output_shape())


REDUCTIONS: dict[str, Reduction] = {
    "reduce_sum": plain_reduction("sum"),
    "reduce_max": plain_reduction("maximum"),
    "reduce_min": plain_reduction("minimum"),
    "reduce_prod": plain_reduction("product"),
    "reduce_mean": mean,
    "reduce_sum_square": sum_square,
    "reduce_l1_norm": l1_norm,
    "reduce_l2_norm": l2_norm,
    "reduce_log_sum": log_sum,
    "reduce_log_sum_exp": log_sum_exp,
}


def reading(reduction: Reduction) -> Reading:
    """The reading of a reduction, by default over all axes."""

    def read(
        reader: Reader, x: Known, *, axes: Ints | None = None, keep_dims: bool = False
    ) -> Known:
        over = range(len(x.shape)) if axes is None else [x.axis(axis) for axis in axes]
        return reduction(reader, x, list(over), keep_dims)

    return read


for name, reduction in REDUCTIONS.items():
    READERS.add(name, reading(reduction))


@READERS("softmax")
def softmax(reader: Reader, x: Known, *, axis: int = -1) -> Known:
    """Exponentials along an axis of features, divided by their sum."""
    once = reader.kept(x)
    largest = reader.reduced("maximum", once, [axis])
    powers = reader.kept(reader.call("exp", reader.call("subtract", once, largest)), "powers")
    return reader.call("divide", powers, reader.reduced("sum", powers, [axis]))
