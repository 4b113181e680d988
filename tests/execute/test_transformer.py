import numpy as np
import pytest

from tests.execute.value_inference import assert_close, computed, inferred, random_array

MASKS = {
    "none": None,
    "float": random_array(5, 7, seed=4),
    "bool": np.arange(35).reshape(5, 7) % 3 != 1,
    "by-batch": random_array(2, 1, 5, 7, seed=5),
    "keys": random_array(1, 7, seed=6),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("batch", [(2,), (2, 3)])
def test_scaled_dot_product_attention(mask, batch):
    if mask == "by-batch" and batch == (2,):
        pytest.skip("a mask of rank 4 needs tensors of rank 4")
    given = {
        "query": random_array(*batch, 5, 4),
        "key": random_array(*batch, 7, 4, seed=1),
        "value": random_array(*batch, 7, 6, seed=2),
    }
    if MASKS[mask] is not None:
        given["attn_mask"] = MASKS[mask]
    operation = "scaled_dot_product_attention"
    assert_close(computed(operation, **given), inferred(operation, **given))
