"""Against coremltools' own decompression, and the examples of its documentation."""

import numpy as np
import pytest

from tests.execute.value_inference import assert_close, computed, inferred, random_array

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_affine_dequantize(axis):
    data = RANDOM.integers(0, 255, (2, 3, 4), np.uint8)
    size = data.shape[axis]
    scale = np.linspace(0.1, 1, size, dtype=np.float32)
    zero_point = np.arange(size, dtype=np.uint8)
    shape = [size if at == axis % 3 else 1 for at in range(3)]
    found = computed(
        "constexpr_affine_dequantize",
        quantized_data=data,
        zero_point=zero_point,
        scale=scale,
        axis=axis,
    )
    expected = (data.astype(np.float32) - zero_point.reshape(shape)) * scale.reshape(shape)
    assert_close(found, expected)


def test_cast():
    found = computed("constexpr_cast", source_val=np.array([1.5], np.float16), output_dtype="fp32")
    assert found.dtype == np.float32
    assert_close(found, [1.5])


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 8])
def test_packed_table(bits):
    lut = random_array(2**bits)
    indices = RANDOM.integers(0, 2**bits, 15)
    digits = [(index >> bit) & 1 for index in indices for bit in range(bits)]
    packed = np.packbits(digits, bitorder="little")
    found = computed("constexpr_lut_to_dense", 16, indices=packed, lut=lut, shape=(3, 5))
    assert_close(found, lut[indices].reshape(3, 5))


def test_table_with_blocks():
    indices = np.array([2, 3, 3, 0, 1, 0, 3, 0, 2, 1, 0, 3], np.uint8).reshape(6, 2)
    lut = np.array([1, 5, 9, 13, 2, 10, 18, 26], np.float32).reshape(2, 1, 4, 1)
    expected = [[9, 13], [13, 1], [5, 1], [26, 2], [18, 10], [2, 26]]
    assert_close(computed("constexpr_lut_to_dense", indices=indices, lut=lut), expected)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_table_of_vectors(axis):
    from coremltools.optimize import _utils

    indices = RANDOM.integers(0, 4, (4, 2, 6), np.uint8)
    lut = random_array(2, 1, 3, 4, 3)
    found = computed("constexpr_lut_to_dense", indices=indices, lut=lut, vector_axis=axis)
    assert_close(found, _utils.lut_to_dense(indices, lut, axis))


def test_packed_sparse():
    found = computed(
        "constexpr_sparse_to_dense",
        16,
        nonzero_data=np.array([7, 8], np.int8),
        mask=np.array([0b01100], np.uint8),
        shape=(5,),
    )
    assert found.dtype == np.int8
    assert_close(found, [0, 0, 7, 8, 0])


MASK = np.array([[1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 1, 1], [1, 1, 0, 0]], np.uint8)


def test_sparse():
    data = random_array(9)
    expected = np.zeros((4, 4), np.float32)
    expected[MASK != 0] = data
    assert_close(computed("constexpr_sparse_to_dense", nonzero_data=data, mask=MASK), expected)


def test_sparse_with_scales():
    mask, values = computed(
        "constexpr_sparse_blockwise_shift_scale",
        data_mask=MASK,
        nonzero_data=np.array([10, 11, 3, 4, 5, 6, 7, 8, 9], np.int8),
        scale=np.array([[0.1, 0.2, 0.3, 0.4]], np.float32),
        offset=np.array([[1, 2, 3, 4]], np.int8),
    )
    assert_close(mask, MASK)
    assert_close(values, np.array([0.9, 1.8, 0.2, 0.4, 0.6, 0.9, 1.2, 0.7, 1.4], np.float32))


@pytest.mark.parametrize(
    ("vector", "axis"), [(1, None), (2, 0), (2, 1)], ids=["scalars", "rows", "columns"]
)
def test_sparse_with_table(vector, axis):
    indices = np.array([0, 1, 1, 0, 1, 1, 0, 0, 1], np.uint8)
    lut = np.array([2, 3], np.float32).repeat(vector).reshape(1, 1, 2, vector)
    lut = lut + np.arange(vector, dtype=np.float32) * 10
    mask, values = computed(
        "constexpr_lut_to_sparse",
        indices_mask=MASK,
        indices_nonzero_data=indices,
        lut=lut,
        vector_axis=axis,
    )
    dense = np.full((4, 4, vector), np.nan)
    dense[MASK != 0] = lut[0, 0, indices]
    if axis is not None:
        shape = (8, 4) if axis == 0 else (4, 8)
        dense = np.moveaxis(dense, -1, axis + 1).reshape(shape)
    dense = dense.reshape(mask.shape)
    assert_close(mask, ~np.isnan(dense))
    assert_close(values, dense[~np.isnan(dense)])


def test_blocks_with_scales():
    data = RANDOM.integers(-8, 8, (4, 6)).astype(np.int8)
    scale, offset = random_array(2, 3), np.arange(6, dtype=np.int8).reshape(2, 3)
    wide = [np.kron(item, np.ones((2, 2))) for item in (scale, offset)]
    found = computed("constexpr_blockwise_shift_scale", data=data, scale=scale, offset=offset)
    assert_close(found, (data - wide[1]) * wide[0])


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 1])
def test_quantize(dtype, axis):
    x = random_array(2, 3, 4) * 20
    size = () if axis is None else (3,)
    scale = np.full(size, 0.5, np.float32) if axis is None else np.float32([0.1, 0.5, 2])
    zero_point = np.full(size, 5, dtype)
    given = {"input": x, "zero_point": np.asarray(zero_point), "scale": np.asarray(scale)}
    options = {"axis": axis} if axis is not None else {}
    found = computed("quantize", **given, output_dtype=dtype, **options)
    typed = given | {"scale": scale[()], "zero_point": zero_point[()]}
    expected = inferred("quantize", **typed, output_dtype=dtype, **options)
    assert found.dtype == dtype
    assert_close(found, expected)
    back = computed("dequantize", **given | {"input": found}, **options)
    shape = (1, 3, 1) if axis is not None else ()
    assert_close(back, (found.astype(np.float32) - 5) * scale.reshape(shape))


def test_a_mask_that_does_not_fit_its_values():
    for count in (8, 10):
        with pytest.raises(ValueError, match=f"{count} values do not fit a mask of 9 places"):
            computed("constexpr_sparse_to_dense", nonzero_data=random_array(count), mask=MASK)
    packed = {"mask": np.array([0b111], np.uint8), "shape": (5,)}
    with pytest.raises(ValueError, match="2 values do not fit a mask of 3 places"):
        computed("constexpr_sparse_to_dense", 16, nonzero_data=random_array(2), **packed)


def test_an_index_beyond_its_table():
    """With two tables it would silently be an element of the next."""
    indices, lut = np.array([[1], [4]], np.uint8), random_array(2, 1, 4, 1)
    with pytest.raises(IndexError, match="tables of 4 elements"):
        computed("constexpr_lut_to_dense", indices=indices, lut=lut)


@pytest.mark.parametrize("vector", [1, 2, 3])
@pytest.mark.parametrize("blocks", [(1, 1), (2, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 6, 8])
def test_tables_of_each_kind(bits, blocks, vector):
    from coremltools.optimize import _utils

    indices = RANDOM.integers(0, 2**bits, (4, 6), np.uint8)
    lut = random_array(*blocks, 2**bits, vector)
    for axis in (0, 1) if vector > 1 else (None, 0):
        found = computed("constexpr_lut_to_dense", indices=indices, lut=lut, vector_axis=axis)
        assert_close(found, _utils.lut_to_dense(indices, lut, axis))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32", "float16"])
@pytest.mark.parametrize("blocks", [(1, 1, 1), (4, 1, 2), (2, 3, 1), (4, 3, 2)])
def test_blocks_of_each_kind(blocks, dtype):
    from coremltools.converters.mil.mil.ops.defs.iOS18.compression import (
        constexpr_blockwise_shift_scale as theirs,
    )

    data = RANDOM.integers(0, 16, (4, 3, 2)).astype(dtype)
    scale, offset = random_array(*blocks), RANDOM.integers(0, 5, blocks).astype(dtype)
    for given in (None, offset, offset.astype(np.float32) / 2):
        found = computed("constexpr_blockwise_shift_scale", data=data, scale=scale, offset=given)
        assert found.dtype == np.float32
        assert_close(found, theirs.decompress(data, scale, given))


def test_joint_compression_step_by_step():
    """Sparse indices into a table of int8, whose elements are scaled by block."""
    mask, values = computed(
        "constexpr_lut_to_sparse",
        indices_mask=MASK,
        indices_nonzero_data=np.array([0, 1, 1, 0, 1, 1, 0, 0, 1], np.uint8),
        lut=np.array([20, 30], np.int8).reshape(1, 1, 2, 1),
    )
    assert values.dtype == np.int8
    scaled_mask, scaled = computed(
        "constexpr_sparse_blockwise_shift_scale",
        data_mask=mask,
        nonzero_data=values,
        scale=np.array([[0.1], [0.2], [0.3], [0.4]], np.float32),
    )
    dense = computed("constexpr_sparse_to_dense", nonzero_data=scaled, mask=scaled_mask)
    expected = [[2, 3, 0, 0], [6, 4, 6, 0], [0, 0, 9, 6], [8, 12, 0, 0]]
    assert_close(dense, np.array(expected, np.float32))


def test_quantize_at_the_ends():
    x = np.array([np.nan, np.inf, -np.inf, 2.5, 3.5, -2.5], np.float32)
    found = computed("quantize", input=x, scale=np.array(1, np.float32), output_dtype="int8")
    assert found.tolist() == [0, 127, -128, 2, 4, -2]
