"""Indices as numpy has them, and errors that say which word is wrong."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.errors import UsageError
from metal4conv.view.slices import parse_slice, slice_text

ARRAY = np.arange(2 * 5 * 7 * 3).reshape(2, 5, 7, 3)

LIKE_NUMPY = {
    "0": ARRAY[0],
    "1,2,3,0": ARRAY[1, 2, 3, 0],
    "0,:,:,1": ARRAY[0, :, :, 1],
    "...,2": ARRAY[..., 2],
    "1,...,-1": ARRAY[1, ..., -1],
    "...": ARRAY,
    ":": ARRAY,
    "-1,1:4": ARRAY[-1, 1:4],
    "0,::2,::-1": ARRAY[0, ::2, ::-1],
    "[:, 4:1:-1, -3:]": ARRAY[:, 4:1:-1, -3:],
    "0,-100:100": ARRAY[0, -100:100],
    "0,": ARRAY[0,],
}


@pytest.mark.parametrize("text", LIKE_NUMPY)
def test_like_numpy(text: str) -> None:
    index = parse_slice(text, ARRAY.shape)
    np.testing.assert_array_equal(ARRAY[index], LIKE_NUMPY[text])
    again = parse_slice(slice_text(index), ARRAY.shape)
    assert again == index


def test_innermost_first_is_the_other_way_round() -> None:
    index = parse_slice("1,2:4,...,0", ARRAY.shape, innermost_first=True)
    np.testing.assert_array_equal(ARRAY[index], ARRAY[0, :, 2:4, 1])
    assert slice_text(index, innermost_first=True) == "1,2:4,:,0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0,0,0,0", "names 5 dimensions, the tensor has 4"),
        ("2", "index 2 of .* is out of range: dimension 0 has size 2"),
        ("0,-6", "index -6 of .* is out of range: dimension 1 has size 5"),
        ("0,5:", "picks nothing of dimension 1, which has size 5"),
        ("0,3:2", "picks nothing of dimension 1"),
        ("0,::0", "step of 0"),
        ("a", '"a" of "a" cannot be read'),
        ("0,None", '"None" of "0,None" cannot be read'),
        ("__import__('os')", "cannot be read"),
        ("0,1.5", "cannot be read"),
        ("...,0,...", "more than one"),
        ("", "cannot be read"),
    ],
)
def test_errors(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        parse_slice(text, ARRAY.shape)
    assert error.value.where == ("--slice",)


def test_errors_count_dimensions_as_the_user_does() -> None:
    with pytest.raises(UsageError, match=r"index 3 of .* dimension 0 has size 3"):
        parse_slice("3", ARRAY.shape, innermost_first=True)


def test_a_scalar_has_no_dimensions() -> None:
    assert parse_slice("...", ()) == ()
    with pytest.raises(UsageError, match="names 1 dimensions, the tensor has 0"):
        parse_slice("0", ())
