"""Weights that are stored compressed, and quantization at run time.

iOS16 packs bits into bytes and gives the shape beside them; iOS18 has types of a few bits, which
come here one element a byte, and adds blocks of weights with their own scale or table.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.table import EXACT_OPS, MIL_OPS, Ints

QUANTIZED = {"int8": (-128, 127, torch.int8), "uint8": (0, 255, torch.uint8)}


@MIL_OPS("constexpr_affine_dequantize", since=16)
def constexpr_affine_dequantize(
    quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    """`scale * (quantized_data - zero_point)`, with parameters for all or along an axis."""
    values: Tensor = dequantize(quantized_data, scale, zero_point, axis)
    return values


@EXACT_OPS("constexpr_cast", since=16)
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """A float16 weight as float32."""
    if output_dtype != "fp32":
        raise UnsupportedModel(f'constexpr_cast makes fp32, not "{output_dtype}"')
    return source_val.to(torch.float32)


@EXACT_OPS("constexpr_lut_to_dense", since=16)
def constexpr_lut_to_dense_packed(indices: Tensor, lut: Tensor, shape: Ints) -> Tensor:
    """Elements of a table, by indices of 1, 2, 4, 6 or 8 bits in bytes, lowest bits first."""
    bits = (lut.shape[0] - 1).bit_length()
    return lut[unpack(indices, bits, math.prod(shape)).int()].reshape(shape)


@EXACT_OPS("constexpr_lut_to_dense", since=18)
def constexpr_lut_to_dense(indices: Tensor, lut: Tensor, vector_axis: int | None = None) -> Tensor:
    """Elements of tables, `lut`'s leading dimensions being blocks of `indices`.

    Elements that are vectors are laid out along `vector_axis`.
    """
    *blocks, palettes, vector = lut.shape
    outside = (indices >= palettes).any() if palettes < 256 else None
    if outside is not None and not isinstance(outside, FakeTensor) and bool(outside):
        raise IndexError(f"an index is out of range for tables of {palettes} elements")
    table = torch.arange(math.prod(blocks), device=lut.device).reshape(blocks) * palettes
    rows = over_blocks(indices, blocks).int() + one_a_block(table, indices)
    dense = lut.reshape(-1, vector)[rows.reshape(indices.shape)]
    if vector == 1:
        return dense.squeeze(-1)
    if vector_axis is None:
        raise UnsupportedModel("a table of vectors needs a vector_axis")
    axis = vector_axis % indices.dim()
    return dense.movedim(-1, axis + 1).flatten(axis, axis + 1)


@EXACT_OPS("constexpr_sparse_to_dense", since=16)
def constexpr_sparse_to_dense_packed(nonzero_data: Tensor, mask: Tensor, shape: Ints) -> Tensor:
    """Zeros with `nonzero_data` where a bit of `mask` is set, lowest bits first."""
    bits = unpack(mask, 1, math.prod(shape)).reshape(shape)
    dense: Tensor = constexpr_sparse_to_dense(nonzero_data, bits)
    return dense


@EXACT_OPS("constexpr_sparse_to_dense", since=18)
def constexpr_sparse_to_dense(nonzero_data: Tensor, mask: Tensor) -> Tensor:
    """Zeros with `nonzero_data` where `mask` is not zero."""
    zeros = torch.zeros(mask.shape, dtype=nonzero_data.dtype, device=mask.device)
    is_set = mask != 0
    count = is_set.sum()
    if not isinstance(count, FakeTensor) and int(count) != nonzero_data.numel():
        raise ValueError(f"{nonzero_data.numel()} values do not fit a mask of {int(count)} places")
    return zeros.masked_scatter(is_set, nonzero_data)


@MIL_OPS("constexpr_blockwise_shift_scale", since=18)
def constexpr_blockwise_shift_scale(
    data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> Tensor:
    """`scale * (data - offset)`, where `scale` and `offset` have one element a block of `data`."""
    values = over_blocks(data.to(scale.dtype), scale.shape)
    if offset is not None:
        values = values - one_a_block(offset.to(scale.dtype), data)
    return (values * one_a_block(scale, data)).reshape(data.shape)


@EXACT_OPS("constexpr_lut_to_sparse", since=18)
def constexpr_lut_to_sparse(
    indices_mask: Tensor,
    indices_nonzero_data: Tensor,
    lut: Tensor,
    vector_axis: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The mask and the values of a sparse weight whose values are indices into tables."""
    indices = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense = constexpr_lut_to_dense(indices, lut, vector_axis)
    vector, mask = lut.shape[-1], indices_mask
    if vector_axis is not None:
        mask = mask.repeat_interleave(vector, dim=vector_axis)
    return mask, select(dense, mask, indices_nonzero_data.shape[0] * vector)


@MIL_OPS("constexpr_sparse_blockwise_shift_scale", since=18)
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mask and the values of a sparse weight whose values are quantized by block."""
    data = constexpr_sparse_to_dense(nonzero_data, data_mask)
    dense = constexpr_blockwise_shift_scale(data, scale, offset)
    return data_mask, select(dense, data_mask, nonzero_data.shape[0])


@MIL_OPS("quantize", since=17)
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """`round(input / scale) + zero_point`, halves to even, limited to the integer type.

    NaN becomes 0, as in `cast`.
    """
    if output_dtype not in QUANTIZED:
        raise UnsupportedModel(f'quantize makes int8 or uint8, not "{output_dtype}"')
    low, high, dtype = QUANTIZED[output_dtype]
    values = torch.round(input / along(scale, input, axis))
    if zero_point is not None:
        values = values + along(zero_point, input, axis)
    return torch.nan_to_num(values, nan=0.0).clamp(low, high).to(dtype)


@MIL_OPS("dequantize", since=17)
def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """`scale * (input - zero_point)`, with parameters for all or along an axis."""
    values = input.to(scale.dtype)
    if zero_point is not None:
        values = values - along(zero_point.to(scale.dtype), input, axis)
    return values * along(scale, input, axis)


def along(parameter: Tensor, data: Tensor, axis: int | None) -> Tensor:
    """A scalar, or a vector shaped to be broadcast along an axis of `data`."""
    if parameter.dim() == 0 or axis is None:
        return parameter
    shape = [1] * data.dim()
    shape[axis] = -1
    return parameter.reshape(shape)


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Integers of `bits` bits out of bytes, the first in the lowest bits.

    >>> unpack(torch.tensor([0b01101100, 0b11], dtype=torch.uint8), 2, 5).tolist()
    [0, 3, 2, 1, 3]
    """
    if bits == 8:
        return packed[:count]
    part = bits if 8 % bits == 0 else 2  # six bits are three times two
    shifts = torch.arange(0, 8, part, dtype=torch.uint8, device=packed.device)
    parts: Tensor = (packed.unsqueeze(-1) >> shifts) & (2**part - 1)
    if part == bits:
        return parts.reshape(-1)[:count]
    several = parts.reshape(-1)[: count * bits // part].reshape(-1, bits // part)
    digits = [2**at for at in range(0, bits, part)]
    weights = torch.tensor(digits, dtype=torch.uint8, device=packed.device)
    return (several * weights).sum(dim=-1, dtype=torch.uint8)


def over_blocks(data: Tensor, blocks: tuple[int, ...] | list[int]) -> Tensor:
    """`data` with each dimension split into blocks and places within: `[b0, n0, b1, n1, …]`."""
    pairs = zip(blocks, data.shape, strict=True)
    return data.reshape([size for block, full in pairs for size in (block, full // block)])


def one_a_block(parameter: Tensor, data: Tensor) -> Tensor:
    """A tensor of one element a block, shaped to be broadcast over `over_blocks(data, …)`."""
    if parameter.dim() != data.dim():
        raise UnsupportedModel(
            f"blocks have rank {parameter.dim()}, the data they belong to has rank {data.dim()}"
        )
    return parameter.reshape([size for block in parameter.shape for size in (block, 1)])


def select(dense: Tensor, mask: Tensor, count: int) -> Tensor:
    """The elements where `mask` is not zero, whose number is known."""
    places = torch.nonzero_static(mask.reshape(-1), size=count).squeeze(-1)
    return dense.reshape(-1)[places]
