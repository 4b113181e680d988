"""Why one operation may fail in float16, by what it takes and gives: reasons in words.

An operation that gives numbers in range can still fail on a device that computes its inside in
float16: a mean first sums, softplus takes an exponential. Those insides are worked out here from
the inputs. Products of matrices and convolutions are not: devices sum those in float32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.mil.program import Operation
from metal4conv.precision.eligible import TINY

LARGEST_EXPONENT = float(np.log(FLOAT16_MAX))
"""exp of more is beyond float16: 11.09."""

SMALLEST_NORMAL = 2.0**-14
"""Below it float16 loses digits with each halving."""

Arrays = Mapping[str, np.ndarray]
"""The tensors that an operation takes, by parameter; the first of several."""


def float16_reason(
    operation: Operation, inputs: Arrays, outputs: Mapping[str, np.ndarray]
) -> str | None:
    """Why float16 cannot hold what an operation takes, gives, or computes inside; None if it can.

    `inputs` are float32 arrays by parameter, numbers such as `epsilon` and `axes` among them;
    what is not known may be left out.

    >>> mean = Operation("reduce_mean", "m", {}, ())
    >>> x = np.full((1, 4096), 100, np.float32)
    >>> float16_reason(mean, {"x": x, "axes": np.int32([1])}, {"m": x[:, :1]})
    "it sums 4,096 elements to 4.1e+05 before it divides, beyond float16's 65,504"
    """
    return (
        range_reason(operation, inputs, outputs)
        or inner_reason(operation, inputs)
        or tiny_reason(operation, inputs)
    )


def range_reason(
    operation: Operation, inputs: Arrays, outputs: Mapping[str, np.ndarray]
) -> str | None:
    """Values beyond float16 among what an operation takes and gives."""
    for name, array in inputs.items():
        if beyond_range(array):
            if hides(operation, name, array):
                continue
            return f"its input {name} reaches {reach(array)}, beyond float16's 65,504"
    for array in outputs.values():
        if beyond_range(array):
            return f"its result reaches {reach(array)}, beyond float16's 65,504"
    return None


def hides(operation: Operation, parameter: str, array: np.ndarray) -> bool:
    """Whether numbers beyond float16 only hide scores from a softmax.

    As float16's -inf they have the weight 0, too, as long as each row has another number.

    >>> soft = Operation("softmax", "p", {}, ())
    >>> hides(soft, "x", np.float32([[0, -3e38]])), hides(soft, "x", np.float32([[-3e38, -3e38]]))
    (True, False)
    """
    if operation.type != "softmax" or parameter != "x":
        return False
    # the axis is mostly the last; another one only makes the answer more careful
    highest = array.max(axis=-1) if array.ndim else array
    return bool((np.abs(highest) <= FLOAT16_MAX).all() and (array <= FLOAT16_MAX).all())


def inner_reason(operation: Operation, inputs: Arrays) -> str | None:
    """What an operation computes inside that is beyond float16, although its result is not."""
    find = INSIDES.get(operation.type)
    x = inputs.get("x")
    if find is None or x is None or x.dtype.kind != "f" or not x.size:
        return None
    with np.errstate(all="ignore"):
        return find(operation, inputs, x.astype(np.float32, copy=False))


def tiny_reason(operation: Operation, inputs: Arrays) -> str | None:
    """Numbers that become 0 in float16 where 0 has no quotient, root or logarithm."""
    epsilon = inputs.get("epsilon")
    if epsilon is not None and epsilon.size == 1 and 0 < float(epsilon.flat[0]) < TINY:
        return f"its epsilon {float(epsilon.flat[0]):.1e} is below float16's smallest number 6e-08"
    parameter = DIVISORS.get(operation.type)
    array = inputs.get(parameter) if parameter else None
    if array is None or array.dtype.kind != "f":
        return None
    if parameter == "x" and epsilon is not None and epsilon.size and epsilon.flat[0] >= TINY:
        return None
    lost = vanishing(array)
    if not lost:
        return None
    what = WORDS.get(operation.type, "divides by")
    smallest = np.abs(array)[array != 0].min()
    return f"it {what} numbers down to {smallest:.1e}, which are 0 in float16"


DIVISORS = {"real_div": "y", "inverse": "x", "rsqrt": "x", "log": "x"}
WORDS = {"rsqrt": "takes the inverse root of", "log": "takes the logarithm of"}


def beyond_range(array: np.ndarray) -> bool:
    """Whether a finite number is beyond float16.

    >>> beyond_range(np.float32([1, 1e5])), beyond_range(np.float32([1, np.inf]))
    (True, False)
    """
    if array.dtype.kind != "f" or not array.size:
        return False
    if max(float(array.max()), -float(array.min())) <= FLOAT16_MAX:
        return False  # the common case, without arrays as large as this one
    size = np.abs(array)
    return bool(((size > FLOAT16_MAX) & np.isfinite(size)).any())


def vanishing(array: np.ndarray) -> int:
    """How many numbers are 0 in float16 that are not 0.

    >>> vanishing(np.float32([0, 1e-9, 1]))
    1
    """
    return int(((array != 0) & (np.abs(array) < TINY / 2)).sum())


def is_tiny(array: np.ndarray) -> bool:
    """Whether the numbers of an array are so small that float16 has lost digits of all of them."""
    if array.dtype.kind != "f" or not array.size:
        return False
    return 0 < max(float(array.max()), -float(array.min())) < SMALLEST_NORMAL


def reach(array: np.ndarray) -> str:
    """The finite number farthest from 0, in short.

    >>> reach(np.float32([1, -70000, np.inf]))
    '-7.0e+04'
    """
    finite = array[np.isfinite(array)]
    return f"{float(finite[np.argmax(np.abs(finite))]):.1e}"


def axes_of(inputs: Arrays, rank: int) -> tuple[int, ...]:
    """The axes that an operation reduces, all of them without `axes`."""
    axes = inputs.get("axes")
    if axes is None or not axes.size:
        return tuple(range(rank))
    return tuple(sorted({int(axis) % rank for axis in axes.reshape(-1)}))


def summed(values: np.ndarray, axes: tuple[int, ...]) -> tuple[float, int]:
    """The largest sum over the axes of numbers that are not negative, and of how many."""
    count = int(np.prod([values.shape[axis] for axis in axes])) if axes else 1
    return float(values.sum(axis=axes, dtype=np.float64).max()), count


def plain_sum(operation: Operation, inputs: Arrays, x: np.ndarray) -> str | None:
    """Sums and means; parts of a sum can be beyond float16 although the whole is not."""
    total, count = summed(np.abs(x), axes_of(inputs, x.ndim))
    then = " before it divides" if operation.type == "reduce_mean" else ", all taken positive"
    return sum_reason(total, count, "elements", then)


def square_sum(operation: Operation, inputs: Arrays, x: np.ndarray) -> str | None:
    """Sums of squares."""
    total, count = summed(np.square(x, dtype=np.float64), axes_of(inputs, x.ndim))
    return sum_reason(total, count, "squares", "")


def last_three_squares(operation: Operation, inputs: Arrays, x: np.ndarray) -> str | None:
    """The sum of squares of `l2_norm`."""
    axes = tuple(range(max(x.ndim - 3, 0), x.ndim))
    total, count = summed(np.square(x, dtype=np.float64), axes)
    return sum_reason(total, count, "squares", "")


def variance_sum(operation: Operation, inputs: Arrays, x: np.ndarray) -> str | None:
    """The sum of elements, then that of squares of differences, of a normalization."""
    default = tuple(range(2, x.ndim)) if operation.type == "instance_norm" else None
    axes = default if default is not None else axes_of(inputs, x.ndim)
    if not axes:
        return None
    largest = float(np.abs(x).max())
    total, count = summed(np.abs(x), axes)
    if largest <= FLOAT16_MAX and (reason := sum_reason(total, count, "elements", "")):
        return f"{reason}, for the mean"
    centred = x - x.mean(axis=axes, keepdims=True, dtype=np.float64)
    total, count = summed(np.square(centred), axes)
    reason = sum_reason(total, count, "squares", "")
    return None if reason is None else f"{reason}, for the variance"


def exponential(operation: Operation, inputs: Arrays, x: np.ndarray) -> str | None:
    """exp of what softplus takes: log(1 + exp(x))."""
    beta = inputs.get("beta")
    highest = float(x.max() if beta is None else (x * np.abs(beta).max()).max())
    if highest <= LARGEST_EXPONENT:
        return None
    return f"it takes exp({highest:.1f}) inside, which float16 cannot hold beyond exp(11.09)"


def exponential_sum(operation: Operation, inputs: Arrays, x: np.ndarray) -> str | None:
    """The sum of exponentials whose logarithm is wanted."""
    highest = float(x.max())
    if highest <= LARGEST_EXPONENT:
        return None
    return f"it sums exp({highest:.1f}), which float16 cannot hold beyond exp(11.09)"


def sum_reason(total: float, count: int, what: str, then: str) -> str | None:
    """A sum in words if it is beyond float16."""
    if total <= FLOAT16_MAX:
        return None
    return f"it sums {count:,} {what} to {total:.1e}{then}, beyond float16's 65,504"


Inside = Callable[[Operation, Arrays, np.ndarray], "str | None"]
INSIDES: dict[str, Inside] = {
    "reduce_mean": plain_sum,
    "reduce_sum": plain_sum,
    "reduce_l1_norm": plain_sum,
    "reduce_log_sum": plain_sum,
    "reduce_sum_square": square_sum,
    "reduce_l2_norm": square_sum,
    "reduce_log_sum_exp": exponential_sum,
    "l2_norm": last_three_squares,
    "layer_norm": variance_sum,
    "instance_norm": variance_sum,
    "softplus": exponential,
    "softplus_parametric": exponential,
}
"""Operations that compute something larger than what they give."""
