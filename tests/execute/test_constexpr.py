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
