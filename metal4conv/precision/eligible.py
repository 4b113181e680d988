"""Which operations and literals the converter makes float16: the rules of coremltools' pass.

The search must know them to say in advance what a package with some operations in float32 gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from metal4conv.mil.dtypes import FLOAT16_MAX
from metal4conv.mil.program import Block, Constant, ConstantList, Function, Operation, TensorType

TINY = float(np.finfo(np.float16).smallest_subnormal)

NEVER = frozenset(
    (
        *("const", "cast", "while_loop", "cond", "make_list", "list_gather", "list_scatter"),
        *("list_read", "list_write", "list_length", "read_state", "coreml_update_state"),
    )
)
"""Operations that are never made float16; those in their blocks are."""

WIDE_PARAMETERS = {
    **dict.fromkeys(("elu", "leaky_relu", "prelu", "thresholded_relu"), ("alpha",)),
    **dict.fromkeys(
        ("clamped_relu", "linear_activation", "scaled_tanh", "sigmoid_hard", "softplus_parametric"),
        ("alpha", "beta"),
    ),
    **dict.fromkeys(("inverse", "log", "rsqrt"), ("epsilon",)),
}
"""Parameters that stay float32 from iOS 17 on."""

RECURRENT = ("gru", "lstm", "rnn")
"""Operations without a float16 form before iOS 17."""

ALWAYS_WIDE = {
    "classify": ("probabilities",),
    "constexpr_affine_dequantize": ("zero_point",),
    "crop_resize": ("spatial_scale",),
    **dict.fromkeys(
        ("upsample_bilinear", "upsample_nearest_neighbor"),
        ("scale_factor_height", "scale_factor_width"),
    ),
}
"""Parameters that have no float16 form."""

INFINITE = 1e38
"""Constants from here on count as infinities, which do no harm as long as they are not a factor."""

FEW_ELEMENTS = 400
"""Up to so many elements, a constant that is not 0 does not become 0."""

Named = Mapping[str, Constant]
"""Constants of a function by the name of their value."""


def constants_of(function: Function) -> dict[str, Constant]:
    """The values of all `const` operations, also in inner blocks."""
    return {
        operation.outputs[0].name: operation.attributes["val"]
        for operation in function.block.walk()
        if operation.type == "const" and "val" in operation.attributes
    }


def is_float(type: object, *dtypes: str) -> bool:
    """Whether a type is that of a float tensor, of one of the dtypes if there are any."""
    wanted = dtypes or ("float32", "float16")
    return isinstance(type, TensorType) and type.dtype in wanted


def becomes_float16(parameter: str, operation: Operation, opset: int) -> bool:
    """Whether a float32 argument of this parameter is cast.

    >>> becomes_float16("alpha", Operation("elu", "y", {}, ()), 17)
    False
    """
    if parameter in ALWAYS_WIDE.get(operation.type, ()):
        return False
    if opset < 17 and operation.type in RECURRENT:
        return False
    if opset < 16 and (operation.type, parameter) == ("resample", "coordinates"):
        return False
    return opset < 17 or parameter not in WIDE_PARAMETERS.get(operation.type, ())


def can_be_float16(operation: Operation, constants: Named) -> bool:
    """Whether the converter makes an operation float16 unless it is told not to."""
    return operation.type not in NEVER and overflowing_constant(operation, constants) is None


def overflowing_constant(operation: Operation, constants: Named) -> float | None:
    """The constant beyond float16 for which the converter itself keeps an operation in float32."""
    found = [item for item in literals(operation, constants) if item.type.dtype == "float32"]
    arrays = [constant.value for constant in found if constant.element_count]
    for array in arrays:
        size = np.abs(array)
        beyond = size > FLOAT16_MAX
        if not beyond.any():
            continue
        if operation.type == "mul" and np.isfinite(array).all():
            return float(array.flat[int(np.argmax(size))])
        within = beyond & (size < INFINITE)
        if within.any():
            return float(array[within].flat[0])
    return None


def literals(operation: Operation, constants: Named) -> Iterator[Constant]:
    """The constants among the arguments of an operation, named or not."""
    for group in operation.inputs.values():
        for argument in group:
            if isinstance(argument, str):
                if argument in constants:
                    yield constants[argument]
            elif isinstance(argument, Constant):
                yield argument
            elif isinstance(argument, ConstantList):
                yield from argument.items


def float16_values(array: np.ndarray) -> np.ndarray:
    """A float32 constant as the converter writes it in float16.

    >>> float16_values(np.float32([0.1, 1e-9, 0, 1e38])).tolist()
    [0.0999755859375, 5.960464477539063e-08, 0.0, inf]
    """
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float16)
    if array.size >= FEW_ELEMENTS:
        return narrow
    lost = (np.abs(narrow) <= TINY) & (np.abs(array) > 0)
    return np.where(lost, np.copysign(np.float16(TINY), array).astype(np.float16), narrow)


def inner_operations(block: Block) -> Iterator[Operation]:
    """The operations that are no constants, also those in inner blocks."""
    return (operation for operation in block.walk() if operation.type != "const")
