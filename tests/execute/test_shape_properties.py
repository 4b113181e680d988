"""Operations that move elements: formulas, real shapes and numpy agree at random sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.execute.properties import (
    QUICK,
    Data,
    SizeOf,
    axes_of,
    check,
    shapes,
    sizes_of,
)

data = st.data()


@QUICK
@given(shapes(), data)
def test_reshape_by_zeros_and_one_rest(case: Any, data: Any) -> None:
    shape, sizes = case
    rest = data.draw(st.integers(0, len(shape) - 1))
    wanted = [
        -1 if axis == rest else data.draw(st.sampled_from([0, size])) if size in range(9) else 0
        for axis, size in enumerate(shape)
    ]
    opset = data.draw(st.sampled_from(["CoreML6", "CoreML8"]))
    given_inputs = {"x": Data(shape), "shape": wanted}
    check("reshape", given_inputs, sizes, lambda x: x, rank=len(shape), opset=opset)


@QUICK
@given(shapes(), data)
def test_reshape_counts_zeros_from_the_right(case: Any, data: Any) -> None:
    shape, sizes = case
    kept = data.draw(st.integers(0, len(shape) - 1))
    ones = data.draw(st.integers(0, 2))
    wanted = [1] * ones + [-1] + [0] * kept
    inner = len(shape) - kept
    check(
        "reshape",
        {"x": Data(shape), "shape": wanted},
        sizes,
        lambda x: x.reshape((1,) * ones + (math.prod(x.shape[:inner]),) + x.shape[inner:]),
        rank=len(wanted),
    )


@QUICK
@given(shapes(2, 4), data)
def test_reshape_by_sizes_of_the_input(case: Any, data: Any) -> None:
    shape, sizes = case
    order = data.draw(st.permutations(range(len(shape))))
    rest = data.draw(st.integers(0, len(shape) - 1))
    wanted = [-1 if place == rest else SizeOf("x", axis) for place, axis in enumerate(order)]
    check(
        "reshape",
        {"x": Data(shape), "shape": wanted},
        sizes,
        lambda x: x.reshape([x.shape[axis] for axis in order]),
        rank=len(shape),
    )


@QUICK
@given(shapes(2, 4), data)
def test_reshape_like(case: Any, data: Any) -> None:
    shape, sizes = case
    cut = data.draw(st.integers(0, len(shape)))
    flat = Data((math.prod(size for size in shape if isinstance(size, int)), *names_of(shape)))
    inputs = {
        "x": flat,
        "ref_tensors": [Data(shape), Data(shape)],
        "begins": (0, cut),
        "ends": (cut, 0),
        "end_masks": (False, True),
    }
    check(
        "reshape_like",
        inputs,
        sizes,
        lambda x, ref_tensors0, ref_tensors1: x.reshape(ref_tensors0.shape),
        rank=len(shape),
    )


def names_of(shape: Any) -> list[str]:
    return [size for size in shape if isinstance(size, str)]


POSITION = st.integers(-8, 8)


@QUICK
@given(shapes(), data)
def test_slice_by_index(case: Any, data: Any) -> None:
    shape, sizes = case
    rank = len(shape)
    flags = st.lists(st.booleans(), min_size=rank, max_size=rank)
    begin, end = (data.draw(st.lists(POSITION, min_size=rank, max_size=rank)) for _ in range(2))
    stride = data.draw(st.lists(st.sampled_from([1, 2, 3, -1, -2]), min_size=rank, max_size=rank))
    begin_mask, end_mask = data.draw(flags), data.draw(flags)
    index = tuple(
        slice(None if no_begin else low, None if no_end else high, step)
        for low, high, step, no_begin, no_end in zip(
            begin, end, stride, begin_mask, end_mask, strict=True
        )
    )
    inputs = {"x": Data(shape, "int32"), "begin": begin, "end": end, "stride": stride}
    inputs |= {"begin_mask": begin_mask, "end_mask": end_mask}
    check("slice_by_index", inputs, sizes, lambda x: x[index], results=["int32"], rank=rank)


@QUICK
@given(shapes(2, 4), data)
def test_slice_by_index_drops_axes(case: Any, data: Any) -> None:
    shape, sizes = case
    rank = len(shape)
    dropped = data.draw(st.lists(st.booleans(), min_size=rank, max_size=rank))
    begin = [data.draw(st.sampled_from([0, -1])) for _ in shape]
    inputs = {"x": Data(shape), "begin": begin, "end": [0] * rank, "squeeze_mask": dropped}
    inputs |= {"end_mask": [True] * rank}
    index = tuple(
        low if drop else slice(low, None) for low, drop in zip(begin, dropped, strict=True)
    )
    check("slice_by_index", inputs, sizes, lambda x: x[index], rank=rank - sum(dropped))


@QUICK
@given(shapes(smallest=3), data)
def test_slice_by_size(case: Any, data: Any) -> None:
    shape, sizes = case
    begin = [data.draw(st.integers(-3, 2)) for _ in shape]
    size = [
        data.draw(st.sampled_from([-1, *range(4 - low if low >= 0 else 1 - low)])) for low in begin
    ]
    index = tuple(
        slice(low, None if n == -1 or (low < 0 and low + n >= 0) else low + n)
        for low, n in zip(begin, size, strict=True)
    )
    inputs = {"x": Data(shape), "begin": begin, "size": size}
    smallest = dict.fromkeys(names_of(shape), 3)
    check("slice_by_size", inputs, sizes, lambda x: x[index], rank=len(shape), smallest=smallest)


@QUICK
@given(shapes(), data)
def test_concat(case: Any, data: Any) -> None:
    shape, sizes = case
    axis = data.draw(axes_of(shape))
    interleave = data.draw(st.booleans())
    other = list(shape)
    if not interleave:
        other[axis] = 3
    values = [Data(shape), Data(tuple(other)), Data(shape)]

    def joined(**arrays: np.ndarray) -> np.ndarray:
        every = list(arrays.values())
        if not interleave:
            return np.concatenate(every, axis)
        place = axis % len(shape)
        full = [n * 3 if at == place else n for at, n in enumerate(every[0].shape)]
        return np.stack(every, place + 1).reshape(full)

    inputs = {"values": values, "axis": axis, "interleave": interleave}
    check("concat", inputs, sizes, joined, rank=len(shape))


@QUICK
@given(shapes(high=3), data)
def test_stack(case: Any, data: Any) -> None:
    shape, sizes = case
    axis = data.draw(st.integers(-len(shape) - 1, len(shape)))
    inputs = {"values": [Data(shape), Data(shape)], "axis": axis}
    check(
        "stack", inputs, sizes, lambda **given: np.stack(list(given.values()), axis),
        rank=len(shape) + 1,
    )  # fmt: skip


@QUICK
@given(shapes(), data)
def test_split_into_equal_parts(case: Any, data: Any) -> None:
    shape, _ = case
    axis, parts = data.draw(axes_of(shape)), data.draw(st.integers(1, 3))
    shape = tuple("a" if at == axis % len(shape) else 2 for at in range(len(shape)))
    sizes = data.draw(sizes_of(["a"], step=parts))
    check(
        "split",
        {"x": Data(shape), "axis": axis, "num_splits": parts},
        sizes,
        lambda x: np.split(x, parts, axis),
        results=["float32"] * parts,
        rank=len(shape),
        step={"a": parts},
    )


@QUICK
@given(st.lists(st.integers(0, 4), min_size=1, max_size=4), sizes_of(["a"]))
def test_split_into_sizes(parts: list[int], sizes: Any) -> None:
    check(
        "split",
        {"x": Data(("a", sum(parts))), "axis": -1, "split_sizes": parts},
        sizes,
        lambda x: np.split(x, np.cumsum(parts)[:-1], -1),
        results=["float32"] * len(parts),
        rank=2,
    )


@QUICK
@given(shapes(), data)
def test_tile(case: Any, data: Any) -> None:
    shape, sizes = case
    times = [data.draw(st.integers(1, 3)) for _ in shape]
    check(
        "tile", {"x": Data(shape), "reps": times}, sizes, lambda x: np.tile(x, times),
        rank=len(shape),
    )  # fmt: skip


@QUICK
@given(shapes(), data)
def test_expand_dims_and_squeeze(case: Any, data: Any) -> None:
    shape, sizes = case
    axes = data.draw(st.lists(st.integers(0, len(shape)), min_size=1, max_size=1))
    rank = len(shape) + 1
    check(
        "expand_dims",
        {"x": Data(shape), "axes": axes},
        sizes,
        lambda x: np.expand_dims(x, axes),
        rank=rank,
    )
    wide = (*shape[: axes[0]], 1, *shape[axes[0] :])
    negative = [axes[0] - rank]
    check(
        "squeeze",
        {"x": Data(wide), "axes": negative},
        sizes,
        lambda x: np.squeeze(x, axes[0]),
        rank=len(shape),
    )


@QUICK
@given(shapes(), data)
def test_transpose_and_reverse(case: Any, data: Any) -> None:
    shape, sizes = case
    order = list(data.draw(st.permutations(range(len(shape)))))
    check(
        "transpose",
        {"x": Data(shape), "perm": order},
        sizes,
        lambda x: x.transpose(order),
        rank=len(shape),
    )
    check(
        "reverse", {"x": Data(shape), "axes": order[:1]}, sizes,
        lambda x: np.flip(x, order[0]), rank=len(shape),
    )  # fmt: skip


@QUICK
@given(shapes(smallest=4), st.sampled_from(["constant", "reflect", "replicate"]), data)
def test_pad(case: Any, mode: str, data: Any) -> None:
    shape, sizes = case
    count = data.draw(st.integers(1, len(shape)))
    pads = [(data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3))) for _ in range(count)]
    every = [(0, 0)] * (len(shape) - count) + pads
    options = {"constant_values": 7.0} if mode == "constant" else {}
    named = {"constant": "constant", "reflect": "reflect", "replicate": "edge"}[mode]
    inputs = {"x": Data(shape), "pad": [n for pair in pads for n in pair], "mode": mode}
    check(
        "pad",
        inputs | {"constant_val": 7.0},
        sizes,
        lambda x: np.pad(x, every, named, **options),
        rank=len(shape),
        smallest=dict.fromkeys(names_of(shape), 4),
    )


@QUICK
@given(shapes(smallest=3), st.integers(1, 3), st.integers(1, 3), data)
def test_sliding_windows(case: Any, size: int, stride: int, data: Any) -> None:
    shape, sizes = case
    axis = data.draw(axes_of(shape))

    def windows(x: np.ndarray) -> np.ndarray:
        place = axis % x.ndim
        every = np.lib.stride_tricks.sliding_window_view(x, size, place)
        return np.moveaxis(
            np.take(every, range(0, every.shape[place], stride), place), -1, place + 1
        )

    check(
        "sliding_windows",
        {"x": Data(shape), "axis": axis, "size": size, "stride": stride},
        sizes,
        windows,
        rank=len(shape) + 1,
        smallest=dict.fromkeys(names_of(shape), 3),
    )


@settings(QUICK, max_examples=5)
@given(st.integers(1, 3), st.integers(1, 2), data)
def test_blocks_to_channels_and_back(block: int, channels: int, data: Any) -> None:
    sizes = data.draw(sizes_of(["b", "c", "d"], step=block))
    step = {"c": block, "d": block}
    pixels = Data(("b", channels, "c", "d"))

    def inner(x: np.ndarray) -> np.ndarray:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // block, block, w // block, block).transpose(0, 1, 3, 5, 2, 4)
        return parts.reshape(n, -1, h // block, w // block)

    def outer(x: np.ndarray) -> np.ndarray:
        n, c, h, w = x.shape
        parts = x.reshape(n, c, h // block, block, w // block, block).transpose(0, 3, 5, 1, 2, 4)
        return parts.reshape(n, -1, h // block, w // block)

    check(
        "pixel_unshuffle", {"x": pixels, "downscale_factor": block}, sizes, inner, rank=4, step=step
    )
    check("space_to_depth", {"x": pixels, "block_size": block}, sizes, outer, rank=4, step=step)
    folded = Data(("b", channels * block * block, "c", "d"))
    for name, parameter, undo in [
        ("pixel_shuffle", "upscale_factor", inner),
        ("depth_to_space", "block_size", outer),
    ]:
        check(
            name,
            {"x": folded, parameter: block},
            sizes,
            lambda x: (x.shape[0], channels, x.shape[2] * block, x.shape[3] * block),
            rank=4,
        )
        back = np.arange(2 * channels * (3 * block) ** 2).reshape(2, channels, 3 * block, 3 * block)
        check(name, {"x": undo(back).astype(np.float32), parameter: block}, [{}],
              lambda back=back: back, rank=4)  # fmt: skip


@settings(QUICK, max_examples=8)
@given(st.integers(1, 3), st.integers(1, 3), data)
def test_blocks_to_the_batch_and_back(rows: int, columns: int, data: Any) -> None:
    sizes = data.draw(sizes_of(["a", "b"]))
    inputs = {"x": Data(("a", 2, rows * 2, "b")), "block_shape": [rows, columns]}
    pads = {"paddings": np.array([[rows, 0], [0, columns]])}
    step = {"b": columns}
    sizes = [{"a": item["a"], "b": item["b"] * columns} for item in sizes]
    check(
        "space_to_batch",
        inputs | pads,
        sizes,
        lambda x: (x.shape[0] * rows * columns, 2, 3, x.shape[3] // columns + 1),
        rank=4,
        step=step,
    )
    sizes = [{"a": item["a"] * rows * columns, "b": item["b"]} for item in sizes]
    inputs["x"] = Data(("a", 2, 3, "b"))
    check(
        "batch_to_space",
        inputs | {"crops": np.array([[1, 0], [0, 0]])},
        sizes,
        lambda x: (x.shape[0] // (rows * columns), 2, 3 * rows - 1, x.shape[3] * columns),
        rank=4,
        step={"a": rows * columns},
    )


@QUICK
@given(shapes(1, 3), st.integers(-3, 3), st.sampled_from([1, 2, 3]), data)
def test_range_and_fill_by_sizes(case: Any, start: int, step: int, data: Any) -> None:
    shape, sizes = case
    size = SizeOf("x", data.draw(axes_of(shape, negative=False)))
    others = {"x": Data(shape)}
    check(
        "fill",
        {"shape": [size, 2], "value": 4},
        sizes,
        lambda x: np.full((x.shape[size.axis], 2), 4),
        results=["int32"],
        rank=2,
        others=others,
    )
    check(
        "range_1d",
        {"start": start, "end": size, "step": step},
        sizes,
        lambda x: np.arange(start, x.shape[size.axis], step),
        results=["int32"],
        rank=1,
        others=others,
        smallest=dict.fromkeys(names_of(shape), 1),
    )
