from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.errors import UnsupportedModel
from metal4conv.execute import tensor_operation  # noqa: F401 (fills the table)
from metal4conv.execute.table import MIL_OPS
from tests.execute.symbols import symbolic


def run(name: str, *arguments: Any, opset: int = 18, **named: Any) -> Any:
    return MIL_OPS.lookup(name, opset)(*arguments, **named)


def test_cumsum_exclusive() -> None:
    x = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert run("cumsum", x, -1, exclusive=True).tolist() == [[0, 1, 3], [0, 4, 9]]
    assert run("cumsum", x, 1, True, True).tolist() == [[5, 3, 0], [11, 6, 0]]
    assert run("cumsum", x.int(), 0).dtype == torch.int32


def test_fill_dtypes() -> None:
    assert run("fill", (2,), 3).dtype == torch.int32
    assert run("fill", (2,), True).dtype == torch.bool
    assert run("fill", (2,)).dtype == torch.float32


def test_one_hot() -> None:
    indices = torch.tensor([2, 0, 5], dtype=torch.int32)
    assert run("one_hot", indices, 3).tolist() == [[0, 0, 1], [1, 0, 0], [0, 0, 0]]
    found = run("one_hot", indices, 3, axis=0, on_value=0.5, off_value=-1.0)
    assert found.tolist() == [[-1, 0.5, -1], [-1, -1, -1], [0.5, -1, -1]]


def test_pad_of_every_type() -> None:
    found = run("pad", torch.tensor([1, 2], dtype=torch.int32), (1, 2), constant_val=7)
    assert found.tolist() == [7, 1, 2, 7, 7]
    assert found.dtype == torch.int32
    assert run("pad", torch.tensor([True]), (0, 1)).tolist() == [True, False]


def test_unknown_pad_mode() -> None:
    with pytest.raises(UnsupportedModel, match="wrap"):
        run("pad", torch.zeros(2), (1, 1), "wrap")


def test_range_without_numbers() -> None:
    assert run("range_1d", 3, 3, 1).tolist() == []
    assert run("range_1d", 1, 3, 1).tolist() == []
    assert run("range_1d", 1.0, 3.0, 0.5).tolist() == []


def test_equal_elements_sort_by_index() -> None:
    x = torch.tensor([1.0, 3.0, 1.0, 3.0])
    assert run("argsort", x).tolist() == [1, 3, 0, 2]
    assert run("argsort", x, ascending=True).tolist() == [0, 2, 1, 3]
    values, indices = run("topk", x, 3)
    assert values.tolist() == [3, 3, 1]
    assert indices.tolist() == [1, 3, 0]


def test_topk_of_ios17() -> None:
    x = torch.tensor([[3, 1], [2, 5]], dtype=torch.uint16)
    values, indices = run("topk", x, -1, 0, True, output_indices_dtype="uint16")
    assert (values.dtype, indices.dtype) == (torch.uint16, torch.uint16)
    assert values.int().tolist() == [[2, 1], [3, 5]]
    assert indices.int().tolist() == [[1, 0], [0, 1]]


def test_concat_interleaved_documented_example() -> None:
    first = torch.tensor([[1, 2], [3, 4], [5, 6]])
    second = torch.tensor([[7, 8], [9, 10], [11, 12]])
    found = run("concat", [first, second], 0, interleave=True)
    assert found.tolist() == [[1, 2], [7, 8], [3, 4], [9, 10], [5, 6], [11, 12]]


def test_concat_of_scalars() -> None:
    assert run("concat", [torch.tensor(1), torch.tensor(2)], 0).tolist() == [1, 2]


def test_split_that_does_not_fit() -> None:
    with pytest.raises(ValueError, match="7 elements"):
        run("split", torch.zeros(7), 0, 2)
    with pytest.raises(ValueError, match=r"7 elements .* \(3, 3\)"):
        run("split", torch.zeros(7), 0, split_sizes=(3, 3))


BOXES = torch.tensor([[[0, 0, 2, 2], [0.5, 0, 2, 2], [5, 5, 2, 2], [5, 5, 0, 0], [5.0, 5.5, 2, 2]]])
SCORES = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.0], [0.75, 0.5]]])
# boxes 0 and 1 overlap by 3 of 5, as do 2 and 4; box 3 has no area


@pytest.mark.parametrize(
    ("iou", "score", "per_class", "expected"),
    [
        (0.5, 0.0, False, [0, 4, 3]),
        (0.5, 0.0, True, [0, 1, 4, 3]),
        (0.7, 0.0, False, [0, 1, 4, 2]),
        (0.5, 0.65, False, [0, 4]),
        (0.5, 2.0, False, [0]),
    ],
)
def test_non_maximum_suppression(
    iou: float, score: float, per_class: bool, expected: list[int]
) -> None:
    boxes, scores, indices, counts = run(
        "non_maximum_suppression", BOXES, SCORES, iou, score, 4, per_class, opset=15
    )
    missing = 4 - len(expected)
    assert indices.tolist() == [expected + [-1] * missing]
    assert counts.tolist() == [len(expected)]
    assert torch.equal(boxes[0, : len(expected)], BOXES[0, expected])
    assert torch.equal(scores[0, : len(expected)], SCORES[0, expected])
    assert not boxes[0, len(expected) :].any()


def test_non_maximum_suppression_of_ios17() -> None:
    boxes, scores, indices = run("non_maximum_suppression", BOXES.mT, SCORES.mT, 0.5, 5, opset=17)
    assert (boxes.shape, scores.shape) == ((1, 4, 5), (1, 2, 5))
    assert indices.tolist() == [[0, 4, 3, -1, -1]]
    np.testing.assert_array_equal(boxes[0, :, 1], [5.0, 5.5, 2, 2])


Make = Callable[[Any, Any], Any]

SYMBOLIC: dict[str, tuple[Make, Callable[[int, int], tuple[int, ...]]]] = {
    "concat": (lambda x, s: run("concat", [x, x], -1), lambda h, w: (1, 4, h, 2 * w)),
    "interleave": (lambda x, s: run("concat", [x, x], 2, True), lambda h, w: (1, 4, 2 * h, w)),
    "stack": (lambda x, s: run("stack", [x, x], 0), lambda h, w: (2, 1, 4, h, w)),
    "tile": (lambda x, s: run("tile", x, (1, 2, 1, 3)), lambda h, w: (1, 8, h, 3 * w)),
    "tile by sizes": (
        lambda x, s: run("tile", torch.empty(1, 1), (s.h, s.w)),
        lambda h, w: (h, w),
    ),
    "fill": (lambda x, s: run("fill", (s.h, 2, s.w), 1.5), lambda h, w: (h, 2, w)),
    "fill_like": (lambda x, s: run("fill_like", x, True), lambda h, w: (1, 4, h, w)),
    "pad": (lambda x, s: run("pad", x, (1, 2, 3, 4)), lambda h, w: (1, 4, h + 3, w + 7)),
    "pad by sizes": (
        lambda x, s: run("pad", x, (0, 0, 0, 0, 0, s.h, 0, 7)),
        lambda h, w: (1, 4, 2 * h, w + 7),
    ),
    "reflect": (
        lambda x, s: run("pad", x, (1, 2, 3, 4), "reflect"),
        lambda h, w: (1, 4, h + 3, w + 7),
    ),
    "replicate": (
        lambda x, s: run("pad", x, (0, 0, 3, 4), "replicate"),
        lambda h, w: (1, 4, h, w + 7),
    ),
    "cumsum": (lambda x, s: run("cumsum", x, 2, True, True), lambda h, w: (1, 4, h, w)),
    "band_part": (lambda x, s: run("band_part", x, 1, 2), lambda h, w: (1, 4, h, w)),
    "one_hot": (lambda x, s: run("one_hot", x, s.h, 1), lambda h, w: (1, h, 4, h, w)),
    "topk": (lambda x, s: run("topk", x, 3, 2)[0], lambda h, w: (1, 4, 3, w)),
    "flatten2d": (lambda x, s: run("flatten2d", x, -1), lambda h, w: (4 * h, w)),
    "split": (lambda x, s: run("split", x, 2, 2)[1], lambda h, w: (1, 4, h // 2, w)),
    "range_1d": (lambda x, s: run("range_1d", s.h, 1, 2), lambda h, w: (h // 2,)),
}


@pytest.mark.parametrize("case", SYMBOLIC)
def test_sizes_stay_symbolic(case: str) -> None:
    make, expected = SYMBOLIC[case]
    with symbolic() as symbols:
        found = make(torch.empty(1, 4, symbols.h, symbols.w), symbols)
        for h, w in ((6, 7), (24, 40), (32, 9)):
            assert symbols.shape_at(found, h, w) == expected(h, w)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(("exclusive", "reverse"), [(True, True), (True, False), (False, True)])
def test_cumsum_by_numpy(dtype: Any, axis: int, exclusive: bool, reverse: bool) -> None:
    x = np.arange(1, 13).reshape(3, 4).astype(dtype)
    ordered = np.flip(x, axis) if reverse else x
    sums = np.cumsum(ordered, axis, dtype=dtype)
    if exclusive:
        sums = sums - ordered
    expected = np.flip(sums, axis) if reverse else sums
    found = run("cumsum", torch.from_numpy(x), axis, exclusive, reverse).numpy()
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, expected)


def test_cumsum_of_nothing() -> None:
    for exclusive in (False, True):
        assert run("cumsum", torch.zeros(0, 3), 0, exclusive).shape == (0, 3)


def test_a_range_without_steps() -> None:
    with pytest.raises(ValueError, match="steps of 0"):
        run("range_1d", 5, 0, 0)
    with pytest.raises(ValueError, match="steps of 0"):
        run("range_1d", 5.0, 0.0, 0.0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "float16"])
@pytest.mark.parametrize("ascending", [False, True])
def test_topk_of_each_dtype(dtype: str, ascending: bool) -> None:
    x = np.array([[3, 100, 3, 0], [7, 1, 127, 7]], dtype)
    order = np.argsort(x if ascending else -x.astype(np.float64), axis=-1, kind="stable")[:, :3]
    values, indices = run("topk", torch.from_numpy(x), 3, -1, ascending)
    assert values.numpy().dtype == dtype
    np.testing.assert_array_equal(indices.numpy(), order)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, order, -1))


def test_a_constant_is_its_value() -> None:
    for name in ("const", "_const_symbolic"):
        assert run(name, val=torch.tensor([1, 2])).tolist() == [1, 2]


def test_non_zero_of_each_rank() -> None:
    assert run("non_zero", torch.zeros(2, 3)).shape == (0, 2)
    assert run("non_zero", torch.tensor([0.0, math.nan, -1.0])).tolist() == [[1], [2]]
    assert run("non_zero", torch.tensor([[True, False], [False, True]])).tolist() == [
        [0, 0],
        [1, 1],
    ]


def test_non_maximum_suppression_of_no_boxes() -> None:
    boxes, scores, indices, counts = run(
        "non_maximum_suppression", BOXES[:, :0], SCORES[:, :0], 0.5, 0.0, 3, opset=15
    )
    assert (boxes.shape, scores.shape) == ((1, 3, 4), (1, 3, 2))
    assert (indices.tolist(), counts.tolist()) == ([[-1, -1, -1]], [0])


def test_select_broadcasts() -> None:
    cond = torch.tensor([[True], [False]])
    found = run("select", cond, torch.tensor([1, 2], dtype=torch.int32), ints(9))
    assert (found.tolist(), found.dtype) == ([[1, 2], [9, 9]], torch.int32)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)
