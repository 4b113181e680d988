"""Windows and resizing: formulas, real shapes and MIL's documented sizes agree at random sizes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from metal4conv.execute.image_resizing import MODES
from tests.execute.properties import NAMES, QUICK, Data, SizeOf, check, sizes_of

PAD_TYPES = st.sampled_from(["valid", "same", "same_lower", "custom"])
SMALL = st.integers(1, 3)


def each(rank: int, numbers: st.SearchStrategy[int]) -> st.SearchStrategy[list[int]]:
    """A number for each dimension."""
    return st.lists(numbers, min_size=rank, max_size=rank)


def window_count(
    size: int, window: int, stride: int, pad_type: str, pads: list[int], ceil: bool = False
) -> int:
    """The documented size of a convolution or pooling along one dimension."""
    if pad_type in ("same", "same_lower"):
        return -(-size // stride)
    before, after = pads if pad_type == "custom" else (0, 0)
    if not ceil:
        return (size + before + after - window) // stride + 1
    count = -(-(size + before + after - window) // stride) + 1
    behind = (count - 1) * stride >= size + before and before + after > 0
    return count - behind


@QUICK
@given(SMALL, PAD_TYPES, st.integers(1, 2), st.data())
def test_conv(rank: int, pad_type: str, groups: int, data: Any) -> None:
    kernel, strides, dilations = (data.draw(each(rank, SMALL)) for _ in range(3))
    pads = data.draw(each(2 * rank, st.integers(0, 2)))
    windows = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    names = NAMES[:rank]
    largest = max(windows)
    sizes = data.draw(sizes_of(names, largest))
    weight = np.zeros((4, 4 // groups, *kernel), np.float32)

    def shape(x: np.ndarray) -> tuple[int, ...]:
        spatial = [
            window_count(x.shape[axis + 2], windows[axis], strides[axis], pad_type,
                         pads[2 * axis : 2 * axis + 2])
            for axis in range(rank)
        ]  # fmt: skip
        return (2, 4, *spatial)

    inputs = {"x": Data((2, 4, *names)), "weight": weight, "groups": groups, "pad_type": pad_type}
    inputs |= {"strides": strides, "dilations": dilations}
    if pad_type == "custom":
        inputs["pad"] = pads
    check("conv", inputs, sizes, shape, rank=rank + 2, smallest=dict.fromkeys(names, largest))


@QUICK
@given(SMALL, st.sampled_from(["valid", "same", "custom"]), st.data())
def test_conv_transpose(rank: int, pad_type: str, data: Any) -> None:
    kernel, strides, dilations = (data.draw(each(rank, SMALL)) for _ in range(3))
    pads = data.draw(each(2 * rank, st.integers(0, 1)))
    windows = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    names = NAMES[:rank]
    sizes = data.draw(sizes_of(names, 3))

    def shape(x: np.ndarray) -> tuple[int, ...]:
        spatial = []
        for axis, (k, s) in enumerate(zip(windows, strides, strict=True)):
            size = x.shape[axis + 2]
            cut = sum(pads[2 * axis : 2 * axis + 2]) if pad_type == "custom" else 0
            spatial.append(size * s if pad_type == "same" else (size - 1) * s + k - cut)
        return (1, 6, *spatial)

    inputs = {
        "x": Data((1, 4, *names)),
        "weight": np.zeros((4, 3, *kernel), np.float32),
        "pad_type": pad_type,
        "strides": strides,
        "dilations": dilations,
        "groups": 2,
    }
    if pad_type == "custom":
        inputs["pad"] = pads
    smallest = dict.fromkeys(names, 3)
    check("conv_transpose", inputs, sizes, shape, rank=rank + 2, smallest=smallest)


@QUICK
@given(SMALL, PAD_TYPES, st.booleans(), st.data())
def test_pools(rank: int, pad_type: str, ceil_mode: bool, data: Any) -> None:
    ceil_mode = ceil_mode and pad_type in ("valid", "custom") and rank < 3
    kernel, strides = data.draw(each(rank, st.integers(1, 4))), data.draw(each(rank, SMALL))
    pads = [pad for k in kernel for pad in [data.draw(st.integers(0, k // 2))] * 2]
    names = NAMES[:rank]
    sizes = data.draw(sizes_of(names, 4))

    def shape(x: np.ndarray) -> tuple[int, ...]:
        spatial = [
            window_count(x.shape[axis + 2], kernel[axis], strides[axis], pad_type,
                         pads[2 * axis : 2 * axis + 2], ceil_mode)
            for axis in range(rank)
        ]  # fmt: skip
        return (1, 2, *spatial)

    inputs = {"x": Data((1, 2, *names)), "kernel_sizes": kernel, "strides": strides}
    inputs |= {"pad_type": pad_type, "ceil_mode": ceil_mode}
    if pad_type == "custom":
        inputs["pad"] = pads
    operations = ["avg_pool", "max_pool", "l2_pool"][: 3 if rank < 3 else 2]
    operation = data.draw(st.sampled_from(operations))
    check(operation, inputs, sizes, shape, rank=rank + 2, smallest=dict.fromkeys(names, 4))


@QUICK
@given(st.sampled_from(["LINEAR", "NEAREST_NEIGHBOR"]), st.sampled_from(MODES), st.data())
def test_resize(interpolation: str, mode: str, data: Any) -> None:
    count = data.draw(st.integers(1, 3))
    wanted = data.draw(each(count, st.integers(0, 5)))
    sizes = data.draw(sizes_of(NAMES[:3]))
    inputs = {"x": Data(("a", "b", "c")), "shape": wanted, "resized_dims": np.uint32(count)}
    inputs |= {"interpolation_mode": interpolation, "sampling_mode": mode}

    def shape(x: np.ndarray) -> tuple[int, ...]:
        kept = x.shape[3 - count :]
        return (
            *x.shape[: 3 - count],
            *[old if new == 0 else new for old, new in zip(kept, wanted, strict=True)],
        )

    check("resize", inputs, sizes, shape, rank=3)


@QUICK
@given(st.sampled_from(["LINEAR", "NEAREST_NEIGHBOR"]), st.sampled_from(MODES), st.data())
def test_resize_to_the_size_of_another(interpolation: str, mode: str, data: Any) -> None:
    sizes = data.draw(sizes_of(NAMES, 2))
    inputs = {"x": Data(("a", "b")), "resized_dims": np.uint32(2)}
    inputs |= {"shape": [SizeOf("y", 0), SizeOf("y", 1)], "interpolation_mode": interpolation}
    check(
        "resize",
        inputs | {"sampling_mode": mode},
        sizes,
        lambda x, y: y.shape,
        rank=2,
        others={"y": Data(("c", "d"))},
        smallest=dict.fromkeys(NAMES, 2),
    )


@QUICK
@given(
    st.sampled_from([0.5, 0.7, 1.0, 1.5, 2.0, 2.25, 3.0]), st.sampled_from([1, 2, 0.5]), st.data()
)
def test_upsampling(high: float, wide: float, data: Any) -> None:
    sizes = data.draw(sizes_of(["a", "b"], 2))
    scales = {
        "scale_factor_height": np.float32(high),
        "scale_factor_width": np.float32(wide) if isinstance(wide, float) else wide,
    }

    def shape(x: np.ndarray) -> tuple[int, ...]:
        # 0.7 as float32 is a little below, so that 10 * 0.7 is 7 only if it is meant exactly
        return (1, 2, math.floor(round(x.shape[2] * high, 6)), math.floor(x.shape[3] * wide))

    inputs = {"x": Data((1, 2, "a", "b")), **scales}
    smallest = {"a": 2, "b": 2}
    check("upsample_nearest_neighbor", inputs, sizes, shape, rank=4, smallest=smallest)
    aligned = data.draw(st.booleans())
    check(
        "upsample_bilinear",
        inputs | {"align_corners": aligned},
        sizes,
        shape,
        rank=4,
        smallest=smallest,
    )


@QUICK
@given(each(4, st.integers(0, 2)), st.data())
def test_crop(borders: list[int], data: Any) -> None:
    sizes = data.draw(sizes_of(["a", "b"], 5))
    top, bottom, left, right = borders
    check(
        "crop",
        {"x": Data((2, "a", "b")), "crop_height": [top, bottom], "crop_width": [left, right]},
        sizes,
        lambda x: x[:, top : x.shape[1] - bottom, left : x.shape[2] - right],
        rank=3,
        smallest={"a": 5, "b": 5},
    )


@settings(QUICK, max_examples=8)
@given(st.sampled_from(MODES), st.integers(1, 4), st.integers(1, 4), st.data())
def test_crop_resize_and_resample(mode: str, high: int, wide: int, data: Any) -> None:
    sizes = data.draw(sizes_of(["a", "b", "c"], 2))
    boxes = np.array([[0, 0, 1, 1], [1, 0, 0, 1]], np.float32)
    smallest = dict.fromkeys(["a", "b", "c"], 2)
    check(
        "crop_resize",
        {"x": Data(("c", 3, "a", "b")), "boxes": boxes, "box_indices": np.array([1, 0], np.int32)}
        | {"target_height": high, "target_width": wide, "sampling_mode": mode},
        sizes,
        lambda x: (2, 3, high, wide),
        rank=4,
        smallest=smallest,
    )
    check(
        "resample",
        {"x": Data((2, 3, "a", "b")), "coordinates": Data((2, "c", 4, 2))}
        | {"sampling_mode": "bilinear", "padding_mode": "border", "padding_value": np.float32(0)}
        | {"coordinates_mode": "unnormalized", "align_corners": True},
        sizes,
        lambda x, coordinates: (2, 3, coordinates.shape[1], 4),
        rank=4,
        smallest=smallest,
    )
