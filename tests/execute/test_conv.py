import itertools

import numpy as np
import pytest

from tests.execute.value_inference import assert_close, computed, random_array, symbolic_shapes


def slow_conv(x, weight, pads, strides, dilations, groups=1):
    """A convolution, one output position after the other."""
    x = np.pad(x, [(0, 0), (0, 0), *pads])
    windows = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    sizes = [(n - k) // s + 1 for n, k, s in zip(x.shape[2:], windows, strides, strict=True)]
    y = np.zeros((x.shape[0], weight.shape[0], *sizes))
    channels, outputs = weight.shape[1], weight.shape[0] // groups
    for place in itertools.product(*map(range, sizes)):
        starts = [at * s for at, s in zip(place, strides, strict=True)]
        window = tuple(
            slice(a, a + k, d) for a, k, d in zip(starts, windows, dilations, strict=True)
        )
        for group in range(groups):
            part = x[:, group * channels : (group + 1) * channels][(..., *window)]
            kernels = weight[group * outputs : (group + 1) * outputs]
            axes = list(range(1, x.ndim))
            y[(slice(None), slice(group * outputs, (group + 1) * outputs), *place)] = np.tensordot(
                part, kernels, (axes, axes)
            )
    return y


def slow_conv_transpose(x, weight, strides, dilations=(1, 1)):
    """The full transposed convolution in two dimensions, without groups."""
    windows = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, windows, strict=True)]
    y = np.zeros((x.shape[0], weight.shape[1], *sizes))
    for i, j in itertools.product(range(x.shape[2]), range(x.shape[3])):
        top, left = i * strides[0], j * strides[1]
        y[
            :,
            :,
            top : top + windows[0] : dilations[0],
            left : left + windows[1] : dilations[1],
        ] += np.tensordot(x[:, :, i, j], weight, ([1], [0]))
    return y


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_of_each_rank(rank):
    x = random_array(2, 4, *(5, 6, 7)[:rank])
    weight = random_array(6, 2, *(3, 2, 3)[:rank], seed=1)
    bias = random_array(6, seed=2)
    pads = [(1, 0), (0, 2), (1, 1)][:rank]
    strides, dilations = (2, 1, 2)[:rank], (1, 2, 1)[:rank]
    found = computed(
        "conv",
        x=x,
        weight=weight,
        bias=bias,
        pad_type="custom",
        pad=tuple(itertools.chain(*pads)),
        strides=strides,
        dilations=dilations,
        groups=2,
    )
    expected = slow_conv(x, weight, pads, strides, dilations, groups=2)
    assert_close(found, expected + bias.reshape(-1, *[1] * rank))


@pytest.mark.parametrize(
    ("pad_type", "pads"), [("valid", (0, 0)), ("same", (0, 1)), ("same_lower", (1, 0))]
)
def test_padding_by_name(pad_type, pads):
    x, weight = random_array(1, 2, 6, 6), random_array(3, 2, 3, 3, seed=1)
    found = computed("conv", x=x, weight=weight, pad_type=pad_type, strides=(2, 2))
    assert_close(found, slow_conv(x, weight, [pads, pads], (2, 2), (1, 1)))


def test_same_padding_with_stride_above_the_window_drops_no_output():
    x, weight = random_array(1, 1, 7, 7), np.ones((1, 1, 1, 1), np.float32)
    found = computed("conv", x=x, weight=weight, pad_type="same", strides=(3, 3))
    assert_close(found, x[:, :, ::3, ::3])


@pytest.mark.parametrize(
    ("options", "cut"),
    [
        ({}, np.s_[:, :, :, :]),
        ({"pad_type": "custom", "pad": (1, 1, 1, 1)}, np.s_[:, :, 1:-1, 1:-1]),
        ({"pad_type": "custom", "pad": (0, 1, 1, 0)}, np.s_[:, :, :-1, 1:]),
        ({"pad_type": "same"}, np.s_[:, :, :-1, :-1]),
        (
            {"pad_type": "custom", "pad": (1, 1, 1, 1), "output_shape": (1, 3, 8, 10)},
            np.s_[:, :, 1:, 1:],
        ),
    ],
)
def test_conv_transpose(options, cut):
    x, weight = random_array(1, 2, 4, 5), random_array(2, 3, 3, 3, seed=1)
    found = computed("conv_transpose", x=x, weight=weight, strides=(2, 2), **options)
    assert_close(found, slow_conv_transpose(x, weight, (2, 2))[cut])


def test_conv_transpose_appends_what_the_output_shape_asks_for():
    x, weight = random_array(1, 2, 4, 4), random_array(2, 3, 2, 2, seed=1)
    bias = random_array(3, seed=2)
    given = {"x": x, "weight": weight, "bias": bias, "strides": (3, 3), "pad_type": "same"}
    full = slow_conv_transpose(x, weight, (3, 3))
    expected = np.pad(full, [(0, 0), (0, 0), (0, 1), (0, 1)]) + bias.reshape(-1, 1, 1)
    assert_close(computed("conv_transpose", **given), expected)
    assert_close(computed("conv_transpose", **given, output_shape=(1, 3, 12, 12)), expected)


def test_conv_transpose_with_groups_and_dilations():
    x, weight = random_array(1, 4, 4, 5), random_array(4, 1, 3, 2, seed=1)
    found = computed("conv_transpose", x=x, weight=weight, dilations=(2, 1), groups=2)
    halves = [
        slow_conv_transpose(x[:, at : at + 2], weight[at : at + 2], (1, 1), (2, 1)) for at in (0, 2)
    ]
    assert_close(found, np.concatenate(halves, axis=1))


@pytest.mark.parametrize("operation", ["conv", "conv_transpose"])
@pytest.mark.parametrize(
    "options",
    [
        {"pad_type": "same", "strides": (2, 2)},
        {"pad_type": "same"},
        {"pad_type": "custom", "pad": (0, 1, 2, 0), "strides": (2, 1)},
    ],
)
def test_symbolic_sizes_stay_symbolic(operation, options):
    given = {"x": random_array(1, 4, 13, 18), "weight": random_array(4, 4, 3, 3), **options}
    symbolic, shapes = symbolic_shapes(operation, {"x": (2, 3)}, **given)
    assert symbolic
    assert shapes == [computed(operation, **given).shape]
