from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.execute import tensor_transformation  # noqa: F401 (fills the table)
from metal4conv.execute.table import MIL_OPS
from tests.execute.symbols import symbolic

IMAGE = torch.arange(2 * 8 * 4 * 6, dtype=torch.float32).reshape(2, 8, 4, 6)


def run(name: str, *arguments: Any, opset: int = 18, **named: Any) -> Any:
    return MIL_OPS.lookup(name, opset)(*arguments, **named)


def test_depth_to_space_puts_the_block_outside() -> None:
    x = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7]).reshape(1, 8, 1, 1)
    # of 8 channels each block position takes two neighbours
    assert run("depth_to_space", x, 2).tolist() == [[[[0, 2], [4, 6]], [[1, 3], [5, 7]]]]


def test_pixel_shuffle_puts_the_block_inside() -> None:
    x = torch.tensor([0.0, 1, 2, 3, 4, 5, 6, 7]).reshape(1, 8, 1, 1)
    assert run("pixel_shuffle", x, 2).tolist() == [[[[0, 1], [2, 3]], [[4, 5], [6, 7]]]]


@pytest.mark.parametrize(
    ("there", "back"),
    [("depth_to_space", "space_to_depth"), ("pixel_shuffle", "pixel_unshuffle")],
)
def test_blocks_go_there_and_back(there: str, back: str) -> None:
    assert torch.equal(run(back, run(there, IMAGE, 2), 2), IMAGE)


def test_space_to_batch_by_loops() -> None:
    found = run("space_to_batch", IMAGE, (2, 3), (1, 1, 0, 3)).numpy()
    padded = np.pad(IMAGE.numpy(), ((0, 0), (0, 0), (1, 1), (0, 3)))
    assert found.shape == (12, 8, 3, 3)
    for row in range(2):
        for column in range(3):
            for n in range(2):
                part = padded[n, :, row::2, column::3]
                np.testing.assert_array_equal(found[(row * 3 + column) * 2 + n], part)


def test_batch_to_space_undoes_space_to_batch() -> None:
    there = run("space_to_batch", IMAGE, (2, 3), (1, 1, 0, 3))
    assert torch.equal(run("batch_to_space", there, (2, 3), (1, 1, 0, 3)), IMAGE)


def test_reshape_until_ios16_takes_zeros_by_position() -> None:
    assert run("reshape", IMAGE, (0, -1, 0, 2), opset=16).shape == (2, 24, 4, 2)
    with pytest.raises(ValueError, match="rank"):
        run("reshape", IMAGE, (0, -1), opset=16)


def test_reshape_to_too_few_elements() -> None:
    with pytest.raises(RuntimeError):
        run("reshape", IMAGE, (3, 5))


def test_reshape_like_documented_example() -> None:
    x = torch.arange(180.0)
    references = [torch.zeros(2, 3, 4), torch.zeros(1, 5, 6)]
    found = run("reshape_like", x, references, (0, 1), (2, 0), (False, True))
    assert found.shape == (2, 3, 5, 6)


def test_squeeze_leaves_larger_axes() -> None:
    assert run("squeeze", torch.zeros(1, 3, 1), (0, 1)).shape == (3, 1)


def test_reverse_sequence_like_tensorflow() -> None:
    x = torch.tensor([[1, 2, 3, 0], [4, 5, 6, 7]])
    found = run("reverse_sequence", x, torch.tensor([3, 2]), seq_axis=1, batch_axis=0)
    assert found.tolist() == [[3, 2, 1, 0], [5, 4, 6, 7]]
    found = run("reverse_sequence", x, torch.tensor([1, 2, 0, 2]), seq_axis=0, batch_axis=1)
    assert found.tolist() == [[1, 5, 3, 7], [4, 2, 6, 0]]


def test_slices_are_numpys() -> None:
    x = np.arange(7)
    ends = (-9, -7, -6, -1, 0, 2, 6, 7, 9, None)
    for begin in ends:
        for end in ends:
            for stride in (1, 3, -1, -2):
                found = run(
                    "slice_by_index",
                    torch.from_numpy(x),
                    (begin or 0,),
                    (end or 0,),
                    (stride,),
                    (begin is None,),
                    (end is None,),
                )
                assert found.tolist() == x[begin:end:stride].tolist(), (begin, end, stride)


def test_slice_index_out_of_range() -> None:
    with pytest.raises(IndexError):
        run("slice_by_index", torch.zeros(3), (3,), (0,), squeeze_mask=(True,))


def test_slice_update_leaves_its_input() -> None:
    x = torch.arange(6)
    found = run("slice_update", x, torch.tensor([10, 11]), (-1,), (0,), (-3,))
    assert found.tolist() == [0, 1, 11, 3, 4, 10]
    assert x.tolist() == [0, 1, 2, 3, 4, 5]


def test_sliding_windows_by_loops() -> None:
    found = run("sliding_windows", IMAGE, -2, 2, 2)
    assert found.shape == (2, 8, 2, 2, 6)
    for window in range(2):
        assert torch.equal(found[:, :, window], IMAGE[:, :, 2 * window : 2 * window + 2])


Make = Callable[[Any, Any], torch.Tensor]

SYMBOLIC: dict[str, tuple[Make, Callable[[int, int], tuple[int, ...]]]] = {
    "reshape -1": (
        lambda x, s: run("reshape", x, (1, 4, -1)),
        lambda h, w: (1, 4, h * w),
    ),
    "reshape 0": (lambda x, s: run("reshape", x, (2, -1, 0, 0)), lambda h, w: (2, 2, h, w)),
    "reshape by sizes": (
        lambda x, s: run("reshape", x, (2, 2, s.h, -1)),
        lambda h, w: (2, 2, h, w),
    ),
    "expand_dims": (lambda x, s: run("expand_dims", x, (0, -1)), lambda h, w: (1, 1, 4, h, w, 1)),
    "squeeze": (lambda x, s: run("squeeze", x, (0,)), lambda h, w: (4, h, w)),
    "transpose": (lambda x, s: run("transpose", x, (0, 2, 3, 1)), lambda h, w: (1, h, w, 4)),
    "depth_to_space": (lambda x, s: run("depth_to_space", x, 2), lambda h, w: (1, 1, 2 * h, 2 * w)),
    "pixel_shuffle": (lambda x, s: run("pixel_shuffle", x, 2), lambda h, w: (1, 1, 2 * h, 2 * w)),
    "slice": (
        lambda x, s: run("slice_by_index", x, (0, 1, 1, 0), (1, 3, s.h, -1), (1, 1, 2, 1)),
        lambda h, w: (1, 2, h // 2, w - 1),
    ),
    "slice cut": (
        lambda x, s: run("slice_by_index", x, (0, 0, -5, 0), (1, 4, 2**31 - 1, 10)),
        lambda h, w: (1, 4, min(h, 5), min(w, 10)),
    ),
    "slice backwards": (
        lambda x, s: run(
            "slice_by_index", x, (0, 0, -1, 3), (1, 4, 0, 0), (1, 1, -1, -2), end_mask=(False,) * 4
        ),
        lambda h, w: (1, 4, h - 1, (min(w, 4)) // 2),
    ),
    "slice_by_size": (
        lambda x, s: run("slice_by_size", x, (0, 1, 2, 0), (1, -1, -1, s.w - 1)),
        lambda h, w: (1, 3, h - 2, w - 1),
    ),
    "sliding_windows": (
        lambda x, s: run("sliding_windows", x, 2, 3, 2),
        lambda h, w: (1, 4, (h - 3) // 2 + 1, 3, w),
    ),
}


@pytest.mark.parametrize("case", SYMBOLIC)
def test_sizes_stay_symbolic(case: str) -> None:
    make, expected = SYMBOLIC[case]
    with symbolic() as symbols:
        found = make(torch.empty(1, 4, symbols.h, symbols.w), symbols)
        for h, w in ((5, 7), (24, 40), (33, 8)):
            assert symbols.shape_at(found, h, w) == expected(h, w)


SMALL = [torch.bool, torch.int8, torch.uint8, torch.int16, torch.uint16, torch.float16]


@pytest.mark.parametrize("dtype", SMALL)
def test_moves_of_small_types(dtype: torch.dtype) -> None:
    """torch lacks kernels for some of them; MIL's iOS17 has all of these."""
    x = np.array([[3, 1, 7], [0, 9, 5]])
    data = torch.from_numpy(x).to(dtype)
    expected = data.to(torch.float64).numpy()
    lengths = torch.tensor([2, 1], dtype=torch.int8)
    turned = expected.copy()
    turned[0, :2] = turned[0, 1::-1]
    updated = expected.copy()
    updated[:, 1::-1] = expected[:, :2]
    cases = {
        "reverse": (run("reverse", data, (1,)), expected[:, ::-1]),
        "reverse_sequence": (run("reverse_sequence", data, lengths, 1, 0), turned),
        "slice_by_index": (
            run("slice_by_index", data, (0, -1), (2, -4), (1, -2)),
            expected[:, ::-2],
        ),
        "slice_by_size": (run("slice_by_size", data, (1, -2), (-1, 2)), expected[1:, 1:]),
        "slice_update": (
            run("slice_update", data, data[:, :2], (0, 1), (2, -4), (1, -1)),
            updated,
        ),
        "sliding_windows": (
            run("sliding_windows", data, 1, 2),
            np.stack([expected[:, :2], expected[:, 1:]], 1),
        ),
        "transpose": (run("transpose", data, (1, 0)), expected.T),
        "reshape": (run("reshape", data, (3, -1)), expected.reshape(3, 2)),
        "expand_dims": (run("expand_dims", data, (1,)), expected[:, None]),
        "squeeze": (run("squeeze", data[:1], (0,)), expected[0]),
    }
    for name, (found, values) in cases.items():
        assert found.dtype == dtype, name
        np.testing.assert_array_equal(found.to(torch.float64).numpy(), values, name)


def test_a_slice_leaves_its_input() -> None:
    x = torch.arange(4).to(torch.uint16)
    run("slice_update", x, x[:2], (3,), (1,), (-1,))
    assert x.to(torch.int32).tolist() == [0, 1, 2, 3]


def test_pixels_of_an_empty_batch() -> None:
    x = torch.zeros(0, 8, 4, 6)
    assert run("depth_to_space", x, 2).shape == (0, 2, 8, 12)
    assert run("space_to_depth", x, 2).shape == (0, 32, 2, 3)
    assert run("pixel_shuffle", x, 2).shape == (0, 2, 8, 12)
    assert run("pixel_unshuffle", x, 2).shape == (0, 32, 2, 3)
