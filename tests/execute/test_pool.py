import itertools

import numpy as np
import pytest

from tests.execute.value_inference import assert_close, computed, random_array, symbolic_shapes

FUNCTIONS = {
    "max_pool": np.nanmax,
    "avg_pool": np.nanmean,
    "l2_pool": lambda window, axis: np.sqrt(np.nansum(window**2, axis=axis)),
}


def slow_pool(operation, x, sizes, strides, pads, counts, fill):
    """Pooling window by window; places that do not take part are NaN."""
    x = np.pad(x, [(0, 0), (0, 0), *pads], constant_values=fill)
    reach = [(n - 1) * s + k for n, s, k in zip(counts, strides, sizes, strict=True)]
    missing = [(0, max(0, r - n)) for r, n in zip(reach, x.shape[2:], strict=True)]
    x = np.pad(x, [(0, 0), (0, 0), *missing], constant_values=np.nan)
    y = np.zeros((*x.shape[:2], *counts))
    for place in itertools.product(*map(range, counts)):
        window = tuple(
            slice(at * s, at * s + k) for at, s, k in zip(place, strides, sizes, strict=True)
        )
        axes = tuple(range(2, x.ndim))
        y[(..., *place)] = FUNCTIONS[operation](x[(..., *window)], axis=axes)
    return y


@pytest.mark.parametrize("operation", sorted(FUNCTIONS))
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("excluded", [False, True])
def test_custom_padding(operation, rank, excluded):
    if operation == "l2_pool" and rank == 3:
        pytest.skip("l2_pool has one or two dimensions")
    x = random_array(2, 3, *(6, 7, 5)[:rank])
    sizes, strides = (3, 2, 2)[:rank], (2, 1, 2)[:rank]
    pads = [(1, 0), (0, 1), (1, 1)][:rank]
    counts = [
        (n + sum(p) - k) // s + 1
        for n, p, k, s in zip(x.shape[2:], pads, sizes, strides, strict=True)
    ]
    options = {"exclude_padding_from_average": excluded} if operation == "avg_pool" else {}
    fill = 0.0 if operation == "avg_pool" and not excluded else np.nan
    found = computed(
        operation,
        x=x,
        kernel_sizes=sizes,
        strides=strides,
        pad_type="custom",
        pad=tuple(itertools.chain(*pads)),
        **options,
    )
    assert_close(found, slow_pool(operation, x, sizes, strides, pads, counts, fill))


@pytest.mark.parametrize("operation", sorted(FUNCTIONS))
@pytest.mark.parametrize(
    ("size", "window", "stride", "pad", "count"),
    # counts worked out by hand from the definition; in the last two a window is left out
    [(6, 3, 2, 0, 3), (7, 3, 2, 1, 4), (6, 3, 2, 1, 4), (5, 2, 2, 1, 3), (5, 3, 3, 1, 2)],
)
def test_ceil_mode(operation, size, window, stride, pad, count):
    x = random_array(1, 2, size, size)
    found = computed(
        operation,
        x=x,
        kernel_sizes=(window, window),
        strides=(stride, stride),
        pad_type="custom",
        pad=(pad,) * 4,
        ceil_mode=True,
    )
    fill = 0.0 if operation == "avg_pool" else np.nan
    pads = [(pad, pad)] * 2
    sizes, strides, counts = (window,) * 2, (stride,) * 2, (count,) * 2
    assert_close(found, slow_pool(operation, x, sizes, strides, pads, counts, fill))


@pytest.mark.parametrize("operation", sorted(FUNCTIONS))
@pytest.mark.parametrize(("pad_type", "pads"), [("same", (0, 1)), ("same_lower", (1, 0))])
def test_same_padding(operation, pad_type, pads):
    x = random_array(1, 2, 6, 6)
    found = computed(operation, x=x, kernel_sizes=(3, 3), strides=(2, 2), pad_type=pad_type)
    fill = 0.0 if operation == "avg_pool" else np.nan
    expected = slow_pool(operation, x, (3, 3), (2, 2), [pads, pads], (3, 3), fill)
    assert_close(found, expected)


@pytest.mark.parametrize("operation", sorted(FUNCTIONS))
@pytest.mark.parametrize(
    "options",
    [
        {"pad_type": "valid"},
        {"pad_type": "same"},
        {"pad_type": "custom", "pad": (1, 1), "ceil_mode": True},
    ],
)
@pytest.mark.parametrize("rank", [1, 2])
def test_symbolic_sizes_stay_symbolic(operation, options, rank):
    if "pad" in options:
        options = options | {"pad": options["pad"] * rank}
    given = {
        "x": random_array(1, 2, *(17, 12)[:rank]),
        "kernel_sizes": (3,) * rank,
        "strides": (2,) * rank,
        **options,
    }
    symbolic, shapes = symbolic_shapes(operation, {"x": (2, 3)[:rank]}, **given)
    assert symbolic
    assert shapes == [computed(operation, **given).shape]


def test_ceil_mode_leaves_out_one_window_as_documented():
    """With padding wider than the window several windows would start behind the data."""
    x = random_array(1, 1, 4)
    found = computed(
        "max_pool", x=x, kernel_sizes=(2,), pad_type="custom", pad=(3, 3), ceil_mode=True
    )
    # ceil((4 + 6 - 2) / 1) + 1 = 9, and (9 - 1) * 1 >= 4 + 3, so one less
    assert found.shape == (1, 1, 8)


@pytest.mark.parametrize("operation", sorted(FUNCTIONS))
@pytest.mark.parametrize("shape", [(0, 2, 6), (1, 1, 1)])
def test_small_and_empty_tensors(operation, shape):
    x = np.ones(shape, np.float32)
    size = min(3, shape[-1])
    found = computed(operation, x=x, kernel_sizes=(size,), pad_type="valid")
    assert found.shape == (*shape[:2], shape[-1] - size + 1)


@pytest.mark.parametrize("operation", ["avg_pool", "max_pool"])
@pytest.mark.parametrize("pad_type", ["same", "same_lower"])
def test_same_padding_in_three_dimensions(operation, pad_type):
    x = random_array(1, 2, 5, 6, 4)
    sizes, strides, pads, counts = (3, 2, 4), (2, 1, 3), [], []
    for n, k, s in zip(x.shape[2:], sizes, strides, strict=True):
        counts.append(-(-n // s))
        total = max(0, (counts[-1] - 1) * s + k - n)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if pad_type == "same" else (more, less))
    fill = 0.0 if operation == "avg_pool" else np.nan
    expected = slow_pool(operation, x, sizes, strides, pads, counts, fill)
    found = computed(operation, x=x, kernel_sizes=sizes, strides=strides, pad_type=pad_type)
    assert_close(found, expected)
