"""Gathers, reductions, products and sorting: formulas, real shapes and numpy at random sizes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.execute.properties import NAMES, QUICK, Data, axes_of, check, shapes, sizes_of

SMALLEST = 3
"""Axes that are indexed have at least so many elements, so that indices below it are good."""


def at_least(shape: Any) -> dict[str, int]:
    return {size: SMALLEST for size in shape if isinstance(size, str)}


@QUICK
@given(shapes(1, 3, SMALLEST), st.integers(0, 2), st.data())
def test_gather(case: Any, index_rank: int, data: Any) -> None:
    shape, sizes = case
    axis = data.draw(axes_of(shape))
    indices = Data(("d", 2)[:index_rank], "int32", high=SMALLEST)
    sizes = [{**item, "d": 1 + index} for index, item in enumerate(sizes)]
    opset = data.draw(st.sampled_from(["CoreML5", "CoreML6", "CoreML7", "CoreML8"]))
    check(
        "gather",
        {"x": Data(shape), "indices": indices, "axis": axis},
        sizes,
        lambda x, indices: np.take(x, indices, axis),
        rank=len(shape) - 1 + index_rank,
        opset=opset,
        smallest=at_least(shape),
    )


@QUICK
@given(st.integers(1, 2), st.integers(0, 2), st.data())
def test_gather_with_batches(batch_dims: int, inner: int, data: Any) -> None:
    names = NAMES[: batch_dims + 1]
    axis = batch_dims
    sizes = data.draw(sizes_of(names, SMALLEST))
    indices = Data((*names[:batch_dims], 2, 3)[: batch_dims + inner], "int32", high=SMALLEST)

    def picked(x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        found = np.zeros((*indices.shape, *x.shape[axis + 1 :]))
        for place in np.ndindex(*indices.shape):
            found[place] = x[place[:batch_dims]][indices[place]]
        return found

    check(
        "gather",
        {"x": Data((*names, 2)), "indices": indices, "axis": axis, "batch_dims": batch_dims},
        sizes,
        picked,
        rank=batch_dims + inner + 1,
        smallest=at_least(names),
    )


@QUICK
@given(shapes(1, 3, SMALLEST), st.integers(0, 2), st.data())
def test_scatter(case: Any, index_rank: int, data: Any) -> None:
    shape, sizes = case
    axis = data.draw(axes_of(shape))
    places = ("d", 2)[:index_rank]
    sizes = [{**item, "d": 1 + index} for index, item in enumerate(sizes)]
    before = axis % len(shape)
    updates = Data((*shape[:before], *places, *shape[before + 1 :]))

    def added(data: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        result = data.copy()
        for place in np.ndindex(*updates.shape):
            behind = before + indices.ndim
            at = (*place[:before], indices[place[before:behind]], *place[behind:])
            result[at] += updates[place]
        return result

    indices = Data(places, "int32", high=SMALLEST)
    check(
        "scatter",
        {"data": Data(shape), "indices": indices, "updates": updates, "axis": axis},
        sizes,
        added,
        rank=len(shape),
        smallest=at_least(shape),
    )


@QUICK
@given(shapes(1, 3, SMALLEST), st.data())
def test_gather_and_scatter_along_axis(case: Any, data: Any) -> None:
    shape, sizes = case
    axis = data.draw(axes_of(shape))
    places = list(shape)
    places[axis] = 2
    indices = Data(tuple(places), "int32", high=SMALLEST)
    smallest = at_least(shape)
    check(
        "gather_along_axis",
        {"x": Data(shape), "indices": indices, "axis": axis},
        sizes,
        lambda x, indices: np.take_along_axis(x, indices, axis),
        rank=len(shape),
        smallest=smallest,
    )

    def added(data: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        result = data.copy()
        for place in np.ndindex(*indices.shape):
            at = list(place)
            at[axis] = indices[place]
            result[tuple(at)] += updates[place]
        return result

    updates = Data(tuple(places))
    check(
        "scatter_along_axis",
        {"data": Data(shape), "indices": indices, "updates": updates, "axis": axis},
        sizes,
        added,
        rank=len(shape),
        smallest=smallest,
    )


@settings(QUICK, max_examples=8)
@given(st.integers(1, 3), st.data())
def test_gather_nd_and_scatter_nd(depth: int, data: Any) -> None:
    names = NAMES[:3]
    sizes = [{**item, "d": 2} for item in data.draw(sizes_of(names, SMALLEST))]
    indices = Data(("d", depth), "int32", high=SMALLEST)
    smallest = at_least(names)
    check(
        "gather_nd",
        {"x": Data(names), "indices": indices},
        sizes,
        lambda x, indices: np.stack([x[tuple(index)] for index in indices]),
        rank=4 - depth,
        smallest=smallest,
    )

    def added(data: np.ndarray, indices: np.ndarray, updates: np.ndarray) -> np.ndarray:
        result = data.copy()
        for index, update in zip(indices, updates, strict=True):
            result[tuple(index)] += update
        return result

    inputs = {"data": Data(names), "indices": indices, "updates": Data(("d", *names[depth:]))}
    check("scatter_nd", inputs, sizes, added, rank=3, smallest=smallest)


@QUICK
@given(shapes(), st.booleans(), st.data())
def test_reductions(case: Any, keep: bool, data: Any) -> None:
    shape, sizes = case
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
    dtype = data.draw(st.sampled_from(["float32", "int32"]))
    name, oracle = data.draw(
        st.sampled_from([("sum", np.sum), ("max", np.max), ("min", np.min), ("prod", np.prod)])
    )
    signed = [axis - data.draw(st.sampled_from([0, len(shape)])) for axis in sorted(axes)]
    check(
        f"reduce_{name}",
        {"x": Data(shape, dtype, high=3), "axes": signed, "keep_dims": keep},
        sizes,
        lambda x: oracle(x, axis=tuple(axes), keepdims=keep),
        results=[dtype],
        rank=len(shape) - (0 if keep else len(axes)),
    )
    axis = data.draw(axes_of(shape))
    check(
        "reduce_argmax",
        {"x": Data(shape), "axis": axis, "keep_dims": keep},
        sizes,
        lambda x: np.argmax(x, axis=axis, keepdims=keep),
        results=["int32"],
        rank=len(shape) - (not keep),
    )


@QUICK
@given(st.booleans(), st.booleans(), st.integers(0, 2), st.integers(0, 2), st.data())
def test_matmul(turn_x: bool, turn_y: bool, left: int, right: int, data: Any) -> None:
    sizes = data.draw(sizes_of(["a", "b", "c", "d"]))
    batch = ("d", 3)
    ones = [data.draw(st.booleans()) for _ in range(left)]
    x_batch = [1 if one else size for one, size in zip(ones, batch[2 - left :], strict=True)]
    x = (*x_batch, *(("b", "a") if turn_x else ("a", "b")))
    y = (*batch[2 - right :], *(("c", "b") if turn_y else ("b", "c")))
    check(
        "matmul",
        {"x": Data(x), "y": Data(y), "transpose_x": turn_x, "transpose_y": turn_y},
        sizes,
        lambda x, y: np.matmul(
            np.swapaxes(x, -1, -2) if turn_x else x, np.swapaxes(y, -1, -2) if turn_y else y
        ),
        rank=2 + max(left, right),
    )


@QUICK
@given(shapes(), st.data())
def test_broadcasting(case: Any, data: Any) -> None:
    shape, sizes = case
    start = data.draw(st.integers(0, len(shape)))
    other = tuple(1 if data.draw(st.booleans()) else size for size in shape[start:])
    dtype = data.draw(st.sampled_from(["float32", "int32", "float16"]))
    name, oracle = data.draw(
        st.sampled_from([("add", np.add), ("sub", np.subtract), ("maximum", np.maximum)])
    )
    first, second = data.draw(st.permutations([shape, other]))
    check(
        name,
        {"x": Data(first, dtype), "y": Data(second, dtype)},
        sizes,
        oracle_by_name(oracle),
        results=[dtype],
        rank=len(shape),
    )
    check(
        "less",
        {"x": Data(first, dtype), "y": Data(second, dtype)},
        sizes,
        oracle_by_name(np.less),
        results=["bool"],
        rank=len(shape),
    )


def oracle_by_name(function: Any) -> Any:
    return lambda x, y: function(x, y)


@QUICK
@given(shapes(1, 3, SMALLEST), st.booleans(), st.data())
def test_sorting(case: Any, ascending: bool, data: Any) -> None:
    shape, sizes = case
    axis = data.draw(axes_of(shape))
    k = data.draw(st.sampled_from([-1, 1, 2, 3]))

    def order(x: np.ndarray) -> np.ndarray:
        return np.argsort(x if ascending else -x, axis=axis, kind="stable")

    def best(x: np.ndarray) -> list[np.ndarray]:
        indices = np.take(order(x), range(x.shape[axis] if k == -1 else k), axis)
        return [np.take_along_axis(x, indices, axis), indices]

    inputs = {"x": Data(shape), "axis": axis, "ascending": ascending}
    options = {"rank": len(shape), "smallest": at_least(shape)}
    check("argsort", inputs, sizes, order, results=["int32"], **options)
    check("topk", inputs | {"k": k}, sizes, best, results=["float32", "int32"], **options)


@settings(QUICK, max_examples=8)
@given(shapes(2, 4), st.booleans(), st.booleans(), st.data())
def test_sums_and_bands(case: Any, exclusive: bool, reverse: bool, data: Any) -> None:
    shape, sizes = case
    axis = data.draw(axes_of(shape, negative=False))
    lower, upper = (data.draw(st.integers(-1, 3)) for _ in range(2))

    def summed(x: np.ndarray) -> np.ndarray:
        ordered = np.flip(x, axis) if reverse else x
        sums = np.cumsum(ordered, axis) - (ordered if exclusive else 0)
        return np.flip(sums, axis) if reverse else sums

    def band(x: np.ndarray) -> np.ndarray:
        kept = x if upper < 0 else np.tril(x, upper)
        return kept if lower < 0 else np.triu(kept, -lower)

    inputs = {"x": Data(shape), "axis": axis, "exclusive": exclusive, "reverse": reverse}
    check("cumsum", inputs, sizes, summed, rank=len(shape))
    check("band_part", {"x": Data(shape), "lower": lower, "upper": upper}, sizes, band,
          rank=len(shape))  # fmt: skip
    check(
        "flatten2d",
        {"x": Data(shape), "axis": axis},
        sizes,
        lambda x: x.reshape(int(np.prod(x.shape[:axis])), -1),
        rank=2,
    )


@QUICK
@given(st.integers(-3, 2), st.integers(1, 5), st.data())
def test_one_hot(axis: int, count: int, data: Any) -> None:
    sizes = data.draw(sizes_of(["a", "b"]))
    check(
        "one_hot",
        {"indices": Data(("a", "b"), "int32"), "one_hot_vector_size": count, "axis": axis}
        | {"on_value": np.float32(2), "off_value": np.float32(-1)},
        sizes,
        lambda indices: np.where(
            np.moveaxis(indices[..., None] == np.arange(count), -1, axis), 2.0, -1.0
        ),
        rank=3,
    )


@settings(QUICK, max_examples=8)
@given(st.permutations([0, 1]), st.data())
def test_reverse_sequence(axes: list[int], data: Any) -> None:
    sizes = data.draw(sizes_of(["a", "b"], 9))
    sequence, batch = axes
    names = ("a", "b")

    def turned(x: np.ndarray, lengths: np.ndarray) -> np.ndarray:
        result = np.moveaxis(x.copy(), batch, 0)
        for row, length in zip(result, lengths, strict=True):
            row[:length] = row[:length][::-1].copy()
        return np.moveaxis(result, 0, batch)

    check(
        "reverse_sequence",
        {"x": Data(names), "lengths": Data((names[batch],), "int32")}
        | {"seq_axis": sequence, "batch_axis": batch},
        sizes,
        turned,
        rank=2,
        smallest={"a": 9, "b": 9},
    )


@settings(QUICK, max_examples=6)
@pytest.mark.parametrize("masked", [False, True])
@given(data=st.data())
def test_attention(masked: bool, data: Any) -> None:
    sizes = data.draw(sizes_of(NAMES))

    def attention(query: Any, key: Any, value: Any, attn_mask: Any = 0.0) -> np.ndarray:
        scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1]) + attn_mask
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        return weights / weights.sum(-1, keepdims=True) @ value

    inputs = {
        "query": Data((2, "a", "b", 4), high=2),
        "key": Data((2, "a", "c", 4), high=2),
        "value": Data((2, "a", "c", "d")),
    }
    if masked:
        inputs["attn_mask"] = Data(("b", "c"))
    check("scaled_dot_product_attention", inputs, sizes, attention, rank=4)


@settings(QUICK, max_examples=10)
@given(shapes(3, 4), st.data())
def test_normalizations(case: Any, data: Any) -> None:
    shape, sizes = case
    shape = (shape[0], 3, *shape[2:])
    axis = data.draw(axes_of(shape))

    def normal(x: np.ndarray, axes: Any) -> np.ndarray:
        centred = x - x.mean(axes, keepdims=True)
        return centred / np.sqrt(x.var(axes, keepdims=True) + 1e-5)

    def softmax(x: np.ndarray) -> np.ndarray:
        e = np.exp(x - x.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    x = {"x": Data(shape)}
    rank = len(shape)
    check("softmax", x | {"axis": axis}, sizes, softmax, rank=rank)
    check("layer_norm", x | {"axes": [axis]}, sizes, lambda x: normal(x, axis), rank=rank)
    spatial = tuple(range(2, rank))
    check("instance_norm", x, sizes, lambda x: normal(x, spatial), rank=rank)
