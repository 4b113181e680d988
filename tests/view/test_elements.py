"""Element types that numpy lacks, against PyTorch, which has them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from metal4conv.errors import UsageError
from metal4conv.view.elements import SMALLEST_NORMAL, decoded, storage

EIGHT_BITS = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}


@pytest.mark.parametrize("name", EIGHT_BITS)
def test_each_byte_of_float8(name: str) -> None:
    bits = np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(bits).view(EIGHT_BITS[name]).float().numpy()
    found = decoded(bits, name)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(np.signbit(found[128]), True)  # -0


def test_each_bfloat16() -> None:
    bits = np.arange(65536, dtype=np.uint16)
    expected = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16).float().numpy()
    np.testing.assert_array_equal(decoded(bits, "bfloat16"), expected)


def test_what_numpy_has_is_left_as_it_is() -> None:
    array = np.arange(3, dtype=np.int8)
    assert decoded(array, "int8") is array


@pytest.mark.parametrize("name", SMALLEST_NORMAL)
def test_smallest_normal_numbers(name: str) -> None:
    kept = getattr(torch, name)
    assert SMALLEST_NORMAL[name] == torch.finfo(kept).smallest_normal


def test_unknown_type() -> None:
    with pytest.raises(UsageError, match='no element type "flot16"') as error:
        storage("flot16")
    assert 'did you mean "float16"?' in str(error.value)
