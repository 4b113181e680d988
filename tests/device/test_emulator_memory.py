"""The emulated GPU's memory against numpy: strides, slices, padding, and what stays untouched."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metal4conv.device.emulator.memory import POISON
from metal4conv.device.emulator.rules import BrokenRule
from tests.device.emulated import Pass, tight

RAW = {"float32": 3, "float16": 16, "int32": 29, "int8": 45, "uint16": 41}

sizes = st.lists(st.integers(1, 5), max_size=5).map(tuple)
dtypes = st.sampled_from(sorted(RAW))
backings = st.sampled_from(["device", "buffer"])


def padded_strides(dimensions: tuple[int, ...], size: int) -> tuple[int, ...]:
    """Worked out for itself: rows of 64 bytes, all else packed."""
    row = -(-dimensions[0] * size // 64) * 64 // size if dimensions else 0
    return tuple(
        1 if at == 0 else row * math.prod(dimensions[1:at]) for at in range(len(dimensions))
    )


def cpu_strides(draw: st.DrawFn, dimensions: tuple[int, ...]) -> tuple[int, ...]:
    """Strides of CPU memory with gaps of any length."""
    strides: list[int] = []
    for at in range(len(dimensions)):
        gap = draw(st.integers(0, 3)) if at else 0
        strides.append(strides[-1] * dimensions[at - 1] + gap if at else 1)
    return tuple(strides)


def make(dtype: str, dimensions: tuple[int, ...], backing: str) -> tuple[Pass, object]:
    """A tensor, and the pass that keeps its buffer."""
    run = Pass(Path("no package"))
    descriptor = run.tensor_descriptor(1, dataType=RAW[dtype])
    descriptor.setDimensions_(run.extents(*dimensions))
    if backing == "device":
        return run, run.device.newTensorWithDescriptor_error_(descriptor, None)[0]
    strides = padded_strides(dimensions, np.dtype(dtype).itemsize)
    descriptor.setStrides_(run.extents(*strides))
    buffer = run.device.newBufferWithLength_options_(1 << 18, 0)
    run.kept.append(buffer)
    return run, buffer.newTensorWithDescriptor_offset_error_(descriptor, 0, None)[0]


def values(dtype: str, dimensions: tuple[int, ...], first: int = 0) -> np.ndarray:
    """Different numbers at all places, as far as the type goes."""
    count = math.prod(dimensions)
    return (np.arange(first, first + count) % 120).astype(dtype).reshape(dimensions[::-1])


def write(run: Pass, tensor, array: np.ndarray, origin: tuple[int, ...]) -> None:
    dimensions = array.shape[::-1]
    tensor.replaceSliceOrigin_sliceDimensions_withBytes_strides_(
        run.extents(*origin),
        run.extents(*dimensions),
        array.tobytes(),
        run.extents(*tight(dimensions)),
    )


def window(origin: tuple[int, ...], dimensions: tuple[int, ...]) -> tuple[slice, ...]:
    """The index of a slice in a numpy array, outermost dimension first."""
    pairs = zip(origin, dimensions, strict=True)
    return tuple(slice(low, low + count) for low, count in pairs)[::-1]


@given(st.data(), dtypes, sizes, backings)
def test_slices_go_where_numpy_puts_them(data, dtype, dimensions, backing):
    run, tensor = make(dtype, dimensions, backing)
    expected = values(dtype, dimensions)
    write(run, tensor, expected, (0,) * len(dimensions))
    origin = tuple(data.draw(st.integers(0, size - 1)) for size in dimensions)
    part = tuple(
        data.draw(st.integers(1, size - low)) for size, low in zip(dimensions, origin, strict=True)
    )
    piece = values(dtype, part, first=50)
    write(run, tensor, piece, origin)
    expected[window(origin, part)] = piece
    np.testing.assert_array_equal(run.read(tensor, expected), expected)


@given(st.data(), dtypes, sizes, backings)
def test_cpu_memory_with_gaps_keeps_its_gaps(data, dtype, dimensions, backing):
    run, tensor = make(dtype, dimensions, backing)
    expected = values(dtype, dimensions)
    write(run, tensor, expected, (0,) * len(dimensions))
    strides = cpu_strides(data.draw, dimensions)
    size = np.dtype(dtype).itemsize
    last = sum((count - 1) * stride for count, stride in zip(dimensions, strides, strict=True))
    memory = bytearray(b"\x77" * ((last + 1) * size))
    tensor.getBytes_strides_fromSliceOrigin_sliceDimensions_(
        memory,
        run.extents(*strides),
        run.extents(*(0 for _ in dimensions)),
        run.extents(*dimensions),
    )
    touched: set[int] = set()
    for place in np.ndindex(*dimensions):
        at = sum(index * stride for index, stride in zip(place, strides, strict=True)) * size
        assert bytes(memory[at : at + size]) == expected[place[::-1]].tobytes()
        touched |= set(range(at, at + size))
    assert all(memory[at] == 0x77 for at in set(range(len(memory))) - touched)


@given(dtypes, sizes)
def test_a_buffer_holds_rows_at_64_bytes_and_its_padding_stays(dtype, dimensions):
    run, tensor = make(dtype, dimensions, "buffer")
    expected = values(dtype, dimensions)
    write(run, tensor, expected, (0,) * len(dimensions))
    size = np.dtype(dtype).itemsize
    strides = padded_strides(dimensions, size)
    memory = run.kept[0].contents().as_buffer(run.kept[0].length())
    touched: set[int] = set()
    for place in np.ndindex(*dimensions):
        at = sum(index * stride for index, stride in zip(place, strides, strict=True)) * size
        assert memory[at : at + size].tobytes() == expected[place[::-1]].tobytes()
        touched |= set(range(at, at + size))
    end = max(touched) + 65
    assert all(memory[at] == POISON for at in set(range(end)) - touched)


def test_what_the_app_writes_into_a_buffer_is_in_its_tensor():
    run, tensor = make("float32", (3, 2), "buffer")
    memory = np.frombuffer(run.kept[0].contents().as_buffer(128), np.float32)
    memory[:3], memory[16:19] = (1, 2, 3), (4, 5, 6)
    found = run.read(tensor, np.empty((2, 3), np.float32))
    np.testing.assert_array_equal(found, [[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("strides", [(1, 9), (1, 0), (1, -10), (1,), (2, 20), (0, 10)])
def test_cpu_rows_that_overlap_or_run_backwards_are_refused(strides):
    run, tensor = make("float16", (10, 2), "device")
    with pytest.raises(BrokenRule, match="cpu-strides"):
        tensor.getBytes_strides_fromSliceOrigin_sliceDimensions_(
            bytearray(400), run.extents(*strides), run.extents(0, 0), run.extents(10, 2)
        )


@pytest.mark.parametrize(
    ("origin", "dimensions"),
    [
        ((-1, 0), (2, 1)),
        ((0, 0), (0, 1)),
        ((0, 0), (11, 1)),
        ((9, 1), (1, 2)),
        ((0,), (10,)),
        ((0, 0, 0), (1, 1, 1)),
        ((0,), (1, 1)),
    ],
)
def test_slices_outside_the_tensor_are_refused(origin, dimensions):
    run, tensor = make("float16", (10, 2), "device")
    with pytest.raises(BrokenRule, match="slice-bounds"):
        tensor.getBytes_strides_fromSliceOrigin_sliceDimensions_(
            bytearray(400),
            run.extents(*tight(dimensions)),
            run.extents(*origin),
            run.extents(*dimensions),
        )


def test_modes_are_packed_into_resource_options():
    run = Pass(Path("no package"))
    descriptor = run.tensor_descriptor(10, storageMode=2, cpuCacheMode=1, hazardTrackingMode=1)
    assert descriptor.resourceOptions() == 0b01_0010_0001
    descriptor.setResourceOptions_(0)
    modes = descriptor.storageMode(), descriptor.cpuCacheMode(), descriptor.hazardTrackingMode()
    assert modes == (0, 0, 0)


def test_a_new_descriptor_has_the_header_s_defaults():
    run = Pass(Path("no package"))
    descriptor = run.metal.MTLTensorDescriptor.alloc().init()
    dimensions = descriptor.dimensions()
    assert (dimensions.rank(), dimensions.extentAtDimensionIndex_(0)) == (1, 1)
    assert dimensions.extentAtDimensionIndex_(1) == -1
    assert descriptor.strides() is None
    assert (descriptor.dataType(), descriptor.usage(), descriptor.resourceOptions()) == (3, 3, 0)
