"""Operations that no shader can do, with the reason; whatever their shapes are."""

from __future__ import annotations

from collections.abc import Iterable

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.program import Function, Operation, TensorType
from metal4conv.shader.limits import ML_PASS

ATTENTION = (
    "is attention, in which each point reads all others; in a shader each point is on its own"
)
RECURRENT = (
    "is a recurrent layer, in which each step waits for the one before; a shader computes all "
    "points at once and in any order"
)
CONTROL = "is a loop or a branch, or works on a list; a shader evaluates one straight line"
STATE = "keeps a state from one prediction to the next; a shader keeps nothing"
RANDOM = "draws random numbers; a shader has to give the same for the same input"
OTHER_POINTS = (
    "gives another number of pixels than it takes; a shader computes one output for each input "
    "pixel"
)
NEIGHBOURS = "reads neighbouring pixels; in a shader each point is on its own"
STATISTICS = "normalizes by statistics of all points of an image; in a shader a point knows itself"
ORDER = "sorts, counts or moves elements by their values; in a shader their places are fixed"

REASONS = {
    **dict.fromkeys(("scaled_dot_product_attention",), ATTENTION),
    **dict.fromkeys(("lstm", "gru", "rnn"), RECURRENT),
    **dict.fromkeys(
        (
            "while_loop",
            "cond",
            "make_list",
            "list_read",
            "list_write",
            "list_gather",
            "list_scatter",
            "list_length",
        ),
        CONTROL,
    ),
    **dict.fromkeys(("read_state", "write_state", "coreml_update_state"), STATE),
    **dict.fromkeys(
        ("random_bernoulli", "random_categorical", "random_normal", "random_uniform"), RANDOM
    ),
    **dict.fromkeys(
        (
            "resize",
            "resize_bilinear",
            "resize_nearest_neighbor",
            "upsample_bilinear",
            "upsample_nearest_neighbor",
            "crop",
            "crop_resize",
            "conv_transpose",
            "depth_to_space",
            "space_to_depth",
            "pixel_shuffle",
            "pixel_unshuffle",
            "space_to_batch",
            "batch_to_space",
        ),
        OTHER_POINTS,
    ),
    **dict.fromkeys(
        ("avg_pool", "max_pool", "l2_pool", "resample", "affine", "sliding_windows"), NEIGHBOURS
    ),
    "instance_norm": STATISTICS,
    **dict.fromkeys(
        (
            "argsort",
            "topk",
            "non_zero",
            "non_maximum_suppression",
            "one_hot",
            "reduce_argmax",
            "reduce_argmin",
            "scatter",
            "scatter_along_axis",
            "scatter_nd",
            "classify",
        ),
        ORDER,
    ),
}
"""What the sentence "operation X …" goes on with."""


def check_operations(operations: Iterable[Operation]) -> None:
    """`UnsupportedModel` for an operation that no shader can do; further ones are named beside."""
    found = [operation for operation in operations if operation.type in REASONS]
    if not found:
        return
    first = found[0]
    same = [str(operation) for operation in found if operation.type == first.type]
    raise UnsupportedModel(
        f"operation {first} {REASONS[first.type]}",
        where=[f"operation {text}" for text in same[:10]],
        hint=ML_PASS,
    )


def check_input_types(function: Function, operations: Iterable[Operation]) -> None:
    """`UnsupportedModel` for inputs that are not numbers, or integers that are no numbers but
    indices: those have to be cast before anything else is done with them.
    """
    readers = list(operations)
    for value in function.inputs:
        if not isinstance(value.type, TensorType):
            raise UnsupportedModel(f'input "{value.name}" {STATE}', hint=ML_PASS)
        if value.type.dtype.startswith("float"):
            continue
        for operation in readers:
            if value.name in operation.value_names and operation.type not in ("cast", "shape"):
                raise UnsupportedModel(
                    f'input "{value.name}" is {value.type.dtype} and read by operation '
                    f"{operation}; a shader takes floats, and looks nothing up by an index",
                    where=f"operation {operation}",
                    hint="give the model the floats that the indices stand for, or cast the input "
                    f"to float first; otherwise {ML_PASS}",
                )
