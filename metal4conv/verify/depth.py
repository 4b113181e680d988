"""How many float16 operations that round lie on the longest path to each output of a function."""

from __future__ import annotations

from collections.abc import Mapping

from metal4conv.mil.program import Block, Function, Operation, TensorType

CHOOSING = frozenset(("clip", "max_pool", "threshold"))
"""Operations that only choose values, although the executor runs them in float32."""

AS_THEY_ARE = frozenset(
    """
    _const_symbolic abs argsort band_part batch_to_space ceil concat cond const
    constexpr_cast constexpr_lut_to_dense constexpr_lut_to_sparse constexpr_sparse_to_dense
    coreml_update_state crop depth_to_space equal expand_dims fill fill_like flatten2d floor
    gather gather_along_axis gather_nd greater greater_equal identity less less_equal
    list_gather list_length list_read list_scatter list_write logical_and logical_not
    logical_or logical_xor make_list maximum minimum non_zero not_equal one_hot pad
    pixel_shuffle pixel_unshuffle read_state reduce_argmax reduce_argmin reduce_max
    reduce_min relu relu6 reshape reshape_like resize_nearest_neighbor reverse
    reverse_sequence round select shape sign slice_by_index slice_by_size slice_update
    sliding_windows space_to_batch space_to_depth split squeeze stack tile topk transpose
    upsample_nearest_neighbor while_loop write_state
    """.split()  # noqa: SIM905  # one a line would hide the rest of the file
)
"""Those that the executor runs in float16 as they are: `execute.table.is_exact`, by name.

The table itself comes with torch, which a Mac that only runs packages need not have.
"""

REPEATS = {"while_loop": 16, "lstm": 16, "gru": 16, "rnn": 16}
"""How often a round of these counts; the real number is known only when they run."""


def float16_depths(function: Function) -> dict[str, int]:
    """The depth of each output; 0 where no float16 operation rounds on the way to it."""
    known = {value.name: 0 for value in function.inputs}
    walk_block(function.block, known)
    return {name: known[name] for name in function.block.outputs}


def walk_block(block: Block, known: dict[str, int]) -> int:
    """Adds the depths of all values in a block to `known`; gives the largest of its outputs."""
    for operation in block.operations:
        depth = operation_depth(operation, known)
        known.update({value.name: depth for value in operation.outputs})
    return max((known.get(name, 0) for name in block.outputs), default=0)


def operation_depth(operation: Operation, known: Mapping[str, int]) -> int:
    """The depth of an operation's outputs."""
    start = max(
        (known.get(argument, 0) for argument in operation.value_names),
        default=0,
    )
    repeats = REPEATS.get(operation.type, 1)
    if not operation.blocks:
        return start + (repeats if rounds(operation) else 0)
    inner = 0
    for block in operation.blocks:
        inside = dict(known) | {value.name: start for value in block.inputs}
        inner = max(inner, walk_block(block, inside) - start)
    return start + repeats * max(inner, 0)


def rounds(operation: Operation) -> bool:
    """Whether an operation rounds its result to float16.

    What compression loses belongs to the weights.
    """
    if operation.type == "const" or operation.type.startswith("constexpr_"):
        return False
    if operation.type in CHOOSING or operation.type in AS_THEY_ARE:
        return False
    return any(
        isinstance(value.type, TensorType) and value.type.dtype == "float16"
        for value in operation.outputs
    )
