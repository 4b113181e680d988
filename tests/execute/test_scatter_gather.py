from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

from metal4conv.errors import UnsupportedModel
from metal4conv.execute import scatter_gather  # noqa: F401 (fills the table)
from metal4conv.execute.table import MIL_OPS
from tests.execute.symbols import symbolic

X = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5)

UPDATE = {
    "update": lambda old, new: new,
    "add": lambda old, new: old + new,
    "sub": lambda old, new: old - new,
    "mul": lambda old, new: old * new,
    "div": lambda old, new: old / new,
    "max": max,
    "min": min,
}


def run(name: str, *arguments: Any, opset: int = 18, **named: Any) -> Any:
    return MIL_OPS.lookup(name, opset)(*arguments, **named)


def ints(*values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32)


@pytest.mark.parametrize("name", ["gather", "gather_along_axis"])
def test_negative_indices_count_from_the_end_until_ios16(name: str) -> None:
    x = torch.tensor([1.0, 2.0, 3.0])
    assert run(name, x, ints(-1, 0), opset=16).tolist() == [3, 1]
    with pytest.raises(IndexError, match="-1 is out of range for an axis of 3"):
        run(name, x, ints(-1, 0), opset=17)


@pytest.mark.parametrize("opset", [15, 17])
def test_indices_behind_the_end(opset: int) -> None:
    for name, indices in (("gather", ints(3)), ("gather_nd", ints([3])), ("scatter", ints(3))):
        updates = [torch.ones(1)] if name == "scatter" else []
        with pytest.raises(IndexError, match="3 is out of range"):
            run(name, torch.zeros(3), indices, *updates, opset=opset)


@pytest.mark.parametrize("dtype", [torch.uint16, torch.int16, torch.uint8, torch.bool])
def test_gather_of_small_types(dtype: torch.dtype) -> None:
    x = torch.tensor([[0, 1], [1, 0]]).to(dtype)
    found = run("gather", x, torch.tensor([1], dtype=torch.uint16), 0)
    assert found.dtype == dtype
    assert found.to(torch.int32).tolist() == [[1, 0]]
    found = run("gather_along_axis", x, ints([1, 0]), 0)
    assert found.to(torch.int32).tolist() == [[1, 1]]


def test_gather_batched_by_loops() -> None:
    indices = np.array([[[0, 3], [2, 2]], [[1, 1], [0, 4]], [[4, 0], [3, 1]]], np.int32)
    found = run("gather", X, torch.from_numpy(indices), axis=2, batch_dims=1).numpy()
    expected = np.stack([X.numpy()[n][:, indices[n]] for n in range(3)])
    np.testing.assert_array_equal(found, expected)


def test_gather_nd_by_loops() -> None:
    indices = np.array([[[0, 3], [2, 2]], [[1, 1], [0, 0]]], np.int32)
    found = run("gather_nd", X, torch.from_numpy(indices)).numpy()
    assert found.shape == (2, 2, 5)
    for i, j in itertools.product(range(2), range(2)):
        np.testing.assert_array_equal(found[i, j], X.numpy()[tuple(indices[i, j])])


def test_gather_nd_batched_by_loops() -> None:
    indices = np.array([[[0], [3]], [[1], [1]], [[2], [0]]], np.int32)
    found = run("gather_nd", X, torch.from_numpy(indices), batch_dims=1).numpy()
    expected = np.stack([X.numpy()[n][indices[n, :, 0]] for n in range(3)])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", UPDATE)
def test_scatter_by_loops(mode: str) -> None:
    indices = [2, 0] if mode == "update" else [2, 0, 2]
    updates = torch.arange(1.0, 1 + 3 * len(indices) * 5).reshape(3, len(indices), 5)
    found = run("scatter", X, ints(*indices), updates, axis=-2, mode=mode)
    expected = X.numpy().copy()
    for a, (m, target), b in itertools.product(range(3), enumerate(indices), range(5)):
        new = updates[a, m, b].item()
        expected[a, target, b] = UPDATE[mode](expected[a, target, b], new)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("mode", UPDATE)
def test_scatter_along_axis_by_loops(mode: str) -> None:
    indices = np.array([[3, 1, 0], [2, 2, 1]] if mode != "update" else [[3, 1, 0], [2, 0, 1]])
    data = torch.arange(1.0, 9.0).reshape(2, 4)
    updates = torch.tensor([[2.0, 5.0, 4.0], [7.0, 0.5, 3.0]])
    found = run("scatter_along_axis", data, torch.from_numpy(indices), updates, 1, mode)
    expected = data.numpy().copy()
    for a, m in itertools.product(range(2), range(3)):
        at = a, indices[a, m]
        expected[at] = UPDATE[mode](expected[at], updates[a, m].item())
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("mode", UPDATE)
@pytest.mark.parametrize("indices", [[[2, 0], [1, 3]], [[[1], [3]]], 2], ids=str)
def test_scatter_by_indices_of_any_rank(indices: Any, mode: str) -> None:
    where = np.array(indices, np.int32)
    updates = np.arange(1, 1 + 3 * where.size * 5, dtype=np.float32).reshape(3, *where.shape, 5)
    given = torch.from_numpy(where), torch.from_numpy(updates)
    found = run("scatter", X, *given, axis=1, mode=mode)
    expected = X.numpy().copy()
    for a, at, b in itertools.product(range(3), np.ndindex(*where.shape), range(5)):
        target = a, where[at], b
        expected[target] = UPDATE[mode](expected[target], updates[(a, *at, b)])
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_scatter_of_updates_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"shape \(3, 2, 4\), expected \(3, 2, 5\)"):
        run("scatter", X, ints(0, 1), torch.zeros(3, 2, 4), 1, "add")


def test_scatter_documented_example() -> None:
    data, updates = torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[5, 6, 7], [8, 9, 10]])
    found = run("scatter", data, ints(1, 0), updates, 0, "add")
    assert found.tolist() == [[9, 11, 13], [9, 11, 13]]


def test_scatter_divides_integers_towards_zero() -> None:
    found = run("scatter", torch.tensor([-7, 9]), ints(0, 1), torch.tensor([2, 2]), 0, "div")
    assert found.tolist() == [-3, 4]


def test_scatter_nd_by_loops() -> None:
    indices = np.array([[0, 3], [2, 2], [0, 3]], np.int32)
    updates = torch.arange(15.0).reshape(3, 5)
    found = run("scatter_nd", X, torch.from_numpy(indices), updates).numpy()
    expected = X.numpy().copy()
    for row, index in enumerate(indices):
        expected[tuple(index)] += updates[row].numpy()
    np.testing.assert_array_equal(found, expected)
    negative = run("scatter_nd", X, ints([-1, -1]), updates[:1], "update", opset=15)
    np.testing.assert_array_equal(negative[2, 3].numpy(), updates[0].numpy())


def test_unknown_mode() -> None:
    with pytest.raises(UnsupportedModel, match="xor"):
        run("scatter", torch.zeros(3), ints(0), torch.ones(1), 0, "xor")


def test_sizes_stay_symbolic() -> None:
    with symbolic() as symbols:
        h, w = symbols.h, symbols.w
        x = torch.empty(h, 4, w)
        index = torch.empty(h, 3, dtype=torch.int32)
        batched = run("gather", x, index, 2, 1)
        picked = run("gather", x, torch.tensor([1, 2]), -1)
        deep = run("gather_nd", x, torch.empty(7, 2, dtype=torch.int32))
        put = run("scatter_nd", x, torch.empty(7, 1, dtype=torch.int32), torch.empty(7, 4, w))
        for a, b in ((5, 7), (24, 40)):
            assert symbols.shape_at(batched, a, b) == (a, 4, 3)
            assert symbols.shape_at(picked, a, b) == (a, 4, 2)
            assert symbols.shape_at(deep, a, b) == (7, b)
            assert symbols.shape_at(put, a, b) == (a, 4, b)


SMALL = [torch.int8, torch.uint8, torch.int16, torch.uint16]


@pytest.mark.parametrize("indices", SMALL)
@pytest.mark.parametrize("dtype", SMALL)
def test_gathers_of_small_types_and_indices(dtype: torch.dtype, indices: torch.dtype) -> None:
    x = np.arange(12).reshape(3, 4)
    data = torch.from_numpy(x).to(dtype)
    places = torch.tensor([[2, 0], [1, 1], [0, 3]]).to(indices)
    rows = torch.tensor([2, 0]).to(indices)
    pairs = torch.tensor([[0, 3], [2, 1]]).to(indices)
    expected = {
        "gather": (run("gather", data, rows), x[[2, 0]]),
        "batched": (
            run("gather", data, places, 1, 1),
            np.take_along_axis(x, places.to(torch.int64).numpy(), 1),
        ),
        "along": (
            run("gather_along_axis", data, places, 1),
            np.take_along_axis(x, places.to(torch.int64).numpy(), 1),
        ),
        "nd": (run("gather_nd", data, pairs), x[[0, 2], [3, 1]]),
    }
    for name, (found, values) in expected.items():
        assert found.dtype == dtype, name
        np.testing.assert_array_equal(found.to(torch.int64).numpy(), values, name)


def test_indices_into_no_axes_take_everything() -> None:
    found = run("gather_nd", X, torch.zeros((2, 0), dtype=torch.int32))
    np.testing.assert_array_equal(found.numpy(), np.stack([X.numpy(), X.numpy()]))


def test_gather_of_nothing() -> None:
    none = torch.zeros((0,), dtype=torch.int32)
    assert run("gather", X, none, 1).shape == (3, 0, 5)
    assert run("gather_nd", X, torch.zeros((0, 2), dtype=torch.int32)).shape == (0, 5)
    assert run("gather", X[:0], torch.zeros((0, 2), dtype=torch.int32), 1, 1).shape == (0, 2, 5)
    updates = torch.zeros((0, 4, 5))
    np.testing.assert_array_equal(run("scatter", X, none, updates).numpy(), X.numpy())


def test_gather_by_a_scalar_drops_the_axis() -> None:
    assert run("gather", X, torch.tensor(2, dtype=torch.int32), 1).tolist() == X[:, 2].tolist()
    found = run("gather", torch.tensor([3, 5]), torch.tensor(1, dtype=torch.int32))
    assert (found.shape, found.item()) == ((), 5)


@pytest.mark.parametrize("dtype", [np.int32, np.float32, np.float16])
@pytest.mark.parametrize("mode", UPDATE)
def test_scatters_keep_the_dtype(mode: str, dtype: Any) -> None:
    data = np.array([[8, 6, 4], [2, 9, 5]], dtype)
    updates = np.array([[2, 3], [3, 2]], dtype)
    places = np.array([[2, 0], [1, 1]], np.int32)
    expected = data.astype(np.float64)
    for row in range(2):
        for column in range(2):
            if (row, column) == (1, 0) and mode == "update":
                continue  # the later of two updates of one element stays
            at = row, places[row, column]
            old = expected[at]
            expected[at] = UPDATE[mode](old, float(updates[row, column]))
            if dtype == np.int32 and (row, column) != (1, 0):
                expected[at] = np.trunc(expected[at])
    given = (torch.from_numpy(item) for item in (data, places, updates))
    found = run("scatter_along_axis", *given, axis=1, mode=mode)
    assert found.numpy().dtype == dtype
    np.testing.assert_allclose(found.numpy(), expected.astype(dtype), rtol=1e-3)
