"""The weights' file: every constant array of a network, padded, aligned and in its stored type.

A linear layer's weight lies as matmul2d's right operand wants it when it is transposed
(`MPPTensorOpsMatMul2d.h`): extents (inputs, outputs), which is the source's `weight[output][input]`
row by row. Inputs are padded with zeros to a multiple of 32, as a static inner extent that is none
loses its remainder, outputs to a multiple of 16.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.layout.expression import align
from metal4conv.layout.rules import DATA_TYPES
from metal4conv.report import Finding
from metal4conv.shader.document import BlockRole, WeightBlock
from metal4conv.shader.network import Convolution, Linear, Network, Table
from metal4conv.shader.options import ShaderOptions
from metal4conv.shader.weight_arrays import (
    OUTPUT_MULTIPLE,
    check_finite,
    convolution_array,
    float16_finding,
    linear_array,
    quantized,
)
from metal4conv.shader.weight_names import Weighted, biases_of, tables_of, weighted_steps

BLOCK_ALIGNMENT = 128
"""Bytes: every block begins at a multiple, which any tensor and any vector type may."""

MOST_BUFFERS = 31
"""MTL4ArgumentTable.h: buffers and tensors that a function is given."""

MOST_INLINE_PARAMETERS = 4096
"""More numbers make a source that compilers are slow to read."""

NUMPY_TYPES: Mapping[str, type[np.generic]] = {
    "float32": np.float32,
    "float16": np.float16,
    "int8": np.int8,
}


@dataclass(frozen=True)
class PackedWeights:
    """The blocks in order of use, and the bytes of the file.

    `of` finds the block of a layer's weight and of a table by identity, `scales` that of the
    scales of an int8 weight. `findings` tell what a smaller type loses.
    """

    blocks: tuple[WeightBlock, ...]
    data: bytes
    of: Mapping[Linear | Table | Convolution, WeightBlock]
    scales: Mapping[Linear | Convolution, WeightBlock]
    findings: tuple[Finding, ...] = ()

    def stored(self, block: WeightBlock) -> np.ndarray:
        """What a block holds, without padding, as float32; an int8 weight times its scales.

        The shape is the block's `used`, outermost first: (outputs, inputs) for a linear layer.
        """
        held = block_array(block, self.data)
        scale = self.scale_of(block)
        if scale is None:
            return held.astype(np.float32)
        scales = block_array(scale, self.data)
        by_output = scales[:, None] if len(block.dimensions) == 2 else scales
        return np.asarray(held.astype(np.float32) * by_output, np.float32)

    def scale_of(self, block: WeightBlock) -> WeightBlock | None:
        """The block with the scales of an int8 weight."""
        if block.role != "weight":
            return None
        name = scale_name(block.name)
        return next((scale for scale in self.scales.values() if scale.name == name), None)


def scale_name(weight: str) -> str:
    """The block with the scales of an int8 weight.

    >>> scale_name("w12")
    's12'
    """
    return f"s{weight.removeprefix('w')}"


def block_array(block: WeightBlock, data: bytes) -> np.ndarray:
    """The numbers of a block in their stored type, without padding, outermost dimension first."""
    part = data[block.offset : block.offset + block.byte_length]
    whole = np.frombuffer(part, NUMPY_TYPES[block.dtype]).reshape(block.dimensions[::-1])
    return whole[tuple(slice(size) for size in reversed(block.used))]


@dataclass(frozen=True, eq=False)
class Content:
    """An array on its way into the file: padded, outermost dimension first."""

    name: str
    layer: str
    role: BlockRole
    dtype: str
    array: np.ndarray
    used: tuple[int, ...]
    owner: Linear | Table | Convolution
    is_tensor: bool = False


def pack_weights(network: Network, options: ShaderOptions) -> PackedWeights:
    """The weights' file of a network.

    Blocks are named `w0`, `w1`, … after the layer that they belong to, `b0` where a table is that
    layer's bias, `s0` for its scales; tables besides are `t0`, `t1`, …. Linear weights are in the
    options' precision, everything else float32. With `tensors` "handle", the weights of linear
    layers are bound from buffer index 1 on. `UnsupportedModel` for what the precision cannot hold.
    """
    contents, findings = [], []
    for content, finding in network_contents(network, options):
        contents.append(content)
        findings += [finding] if finding else []
    check_inline(contents, options)
    check_slots(network, options, contents)
    blocks: list[WeightBlock] = []
    data = bytearray()
    for content in contents:
        block = block_of(content, len(data))
        if content.is_tensor and binds_tensors(network, options):
            block = replace(block, index=1 + sum(made.index is not None for made in blocks))
        blocks.append(block)
        data += content.array.astype(NUMPY_TYPES[content.dtype]).tobytes()
        data += bytes(align(len(data), BLOCK_ALIGNMENT) - len(data))
    pairs = list(zip(contents, blocks, strict=True))
    return PackedWeights(
        blocks=tuple(blocks),
        data=bytes(data),
        of={content.owner: block for content, block in pairs if content.role != "scale"},
        scales={
            content.owner: block
            for content, block in pairs
            if content.role == "scale" and not isinstance(content.owner, Table)
        },
        findings=tuple(findings),
    )


def binds_tensors(network: Network, options: ShaderOptions) -> bool:
    """Whether the host binds an MTLTensor for each linear weight.

    The plain path reads the weights' buffer, and passes with convolutions make all tensors
    themselves.
    """
    pointwise = all(one.convolution is None for one in network.passes)
    return options.tensors == "handle" and options.has_matmul2d and pointwise


def block_of(content: Content, offset: int) -> WeightBlock:
    """The block of an array without gaps, innermost dimension first as Metal counts."""
    dimensions = content.array.shape[::-1]
    data_type = DATA_TYPES[content.dtype]
    return WeightBlock(
        name=content.name,
        layer=content.layer,
        role=content.role,
        dtype=content.dtype,
        raw_data_type=data_type.raw,
        offset=offset,
        byte_length=content.array.size * data_type.bytes,
        dimensions=dimensions,
        strides=tuple(math.prod(dimensions[:axis]) for axis in range(len(dimensions))),
        used=content.used,
    )


def check_inline(contents: list[Content], options: ShaderOptions) -> None:
    """Only few numbers may stand in the source."""
    count = sum(math.prod(content.used) for content in contents)
    if options.inline_weights and count > MOST_INLINE_PARAMETERS:
        raise UsageError(
            f"the network has {count:,} parameters, and at most {MOST_INLINE_PARAMETERS:,} may "
            "stand in the source",
            where="--inline-weights",
            hint="leave the option out: the weights become a file of their own",
        )


def check_slots(network: Network, options: ShaderOptions, contents: list[Content]) -> None:
    """A function takes the weights' buffer, its parameters, tensors, inputs and outputs."""
    ports = len(network.inputs) + len(network.outputs)
    tensors = sum(content.is_tensor for content in contents)
    if ports + 2 > MOST_BUFFERS:
        raise UnsupportedModel(
            f"the network has {ports} inputs and outputs, and a function is given at most "
            f"{MOST_BUFFERS - 2} beside its weights and parameters",
            where=f'network "{network.name}"',
            hint="concatenate inputs or outputs",
        )
    if binds_tensors(network, options) and ports + 2 + tensors > MOST_BUFFERS:
        raise UsageError(
            f"{tensors} weights as tensors, {ports} inputs and outputs, weights and parameters are "
            f"{ports + 2 + tensors} buffers, and a function is given at most {MOST_BUFFERS}",
            where="--tensors handle",
            hint="use --tensors inline, which makes the tensors in one buffer",
        )


def network_contents(
    network: Network, options: ShaderOptions
) -> Iterator[tuple[Content, Finding | None]]:
    """The arrays in order of use, each once, with what its type loses."""
    biases = biases_of(network)
    layer = tables = 0
    seen: set[Table] = set()
    for step in weighted_steps(network):
        if isinstance(step, Linear | Convolution):
            yield from weight_contents(step, layer, options, network.is_pointwise)
            layer += 1
            continue
        for table in tables_of(step):
            if table in seen:
                continue
            seen.add(table)
            if table in biases:
                name, label = biases[table]
                yield table_content(table, f"b{name}", label, "bias"), None
            else:
                yield table_content(table, f"t{tables}", step.label, "table"), None
                tables += 1


def table_content(table: Table, name: str, layer: str, role: BlockRole) -> Content:
    """A table, padded so that whole vectors and tiles may be read."""
    return vector_content(name, layer, role, table.values, table)


def vector_content(
    name: str, layer: str, role: BlockRole, values: np.ndarray, owner: Linear | Table | Convolution
) -> Content:
    """A float32 array of one dimension, padded with zeros to a multiple of 16."""
    flat = np.asarray(values, np.float32).reshape(-1)
    padded = np.pad(flat, (0, align(flat.size, OUTPUT_MULTIPLE) - flat.size))
    return Content(name, layer, role, "float32", padded, (flat.size,), owner)


def weight_contents(
    step: Weighted, number: int, options: ShaderOptions, may_be_bound: bool
) -> Iterator[tuple[Content, Finding | None]]:
    """A layer's weight in the options' precision, then its scales where it is int8.

    Networks with convolutions make all tensors in the weights' buffer, so the host binds none.
    """
    check_finite(step)
    outputs_first = np.asarray(step.weight, np.float32)
    finding = None
    if options.precision == "int8":
        outputs_first, scales = quantized(outputs_first)
    elif options.precision == "float16":
        finding = float16_finding(step)
    if isinstance(step, Linear):
        array, used = linear_array(outputs_first)
    else:
        array, used = convolution_array(outputs_first)
    is_tensor = isinstance(step, Linear) and may_be_bound
    yield (
        Content(
            f"w{number}", step.label, "weight", options.precision, array, used, step, is_tensor
        ),
        finding,
    )
    if options.precision == "int8":
        yield vector_content(f"s{number}", step.label, "scale", scales, step), None
