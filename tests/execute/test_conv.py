import itertools

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
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


@pytest.mark.parametrize("each", [1, 6])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_quantized(each, rank):
    x = random_array(1, 4, *(5, 6, 7)[:rank])
    random = np.random.default_rng(1)
    weight = random.integers(0, 256, (6, 2, *(3, 2, 2)[:rank]), np.uint8)
    scale, offset = random_array(each, seed=2), random_array(each, seed=3)
    shape = (each, *[1] * (rank + 1))
    found = computed(
        "conv_quantized",
        x=x,
        weight=weight,
        bias=np.arange(6, dtype=np.uint8),
        quantization_type="linear",
        quant_scale=scale,
        quant_bias=offset,
        groups=2,
    )
    values = weight * scale.reshape(shape) + offset.reshape(shape)
    plain = slow_conv(x, values, [(0, 0)] * rank, (1,) * rank, (1,) * rank, groups=2)
    expected = plain + np.arange(6).reshape(-1, *[1] * rank)
    assert_close(found, expected, tolerance=2e-3)  # sums of numbers around 500


def test_conv_quantized_has_no_table():
    one = np.ones(1, np.float32)
    given = {"x": random_array(1, 1, 3), "weight": np.ones((1, 1, 1), np.uint8)}
    given |= {"quant_scale": one, "quant_bias": one}
    with pytest.raises(UnsupportedModel, match='no input for the "lut"'):
        computed("conv_quantized", **given, quantization_type="lut")
    with pytest.raises(UnsupportedModel, match="9"):
        computed("conv_quantized", **given, quantization_type="linear", nbits=9)


def slow_transposed(x, weight, strides, dilations, groups):
    """The full transposed convolution in any number of dimensions, by the definition."""
    rank = x.ndim - 2
    windows = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    sizes = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, windows, strict=True)]
    outputs, inputs = weight.shape[1], x.shape[1] // groups
    y = np.zeros((x.shape[0], outputs * groups, *sizes))
    for place in itertools.product(*map(range, x.shape[2:])):
        for tap in itertools.product(*map(range, weight.shape[2:])):
            at = tuple(place[i] * strides[i] + tap[i] * dilations[i] for i in range(rank))
            for group in range(groups):
                channels = slice(group * inputs, (group + 1) * inputs)
                to = slice(group * outputs, (group + 1) * outputs)
                y[(slice(None), to, *at)] += (
                    x[(slice(None), channels, *place)] @ weight[(channels, slice(None), *tap)]
                )
    return y


@pytest.mark.parametrize("pad_type", ["valid", "same", "custom", "output"])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_conv_transpose_of_each_rank(rank, groups, pad_type):
    x = random_array(2, 4, *(4, 3, 2)[:rank])
    weight = random_array(4, 3, *(3, 4, 2)[:rank], seed=1)
    bias = random_array(3 * groups, seed=2)
    strides, dilations = (2, 1, 2)[:rank], (1, 2, 1)[:rank]
    full = slow_transposed(x, weight, strides, dilations, groups)
    full = full + bias.reshape(-1, *[1] * rank)
    windows = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    options, cuts = {"pad_type": pad_type}, [(0, 0)] * rank
    match pad_type:
        case "same":
            totals = [k - s for k, s in zip(windows, strides, strict=True)]
            cuts = [(total // 2, total - total // 2) for total in totals]
        case "custom":
            cuts = [(1, 0), (0, 2), (0, 0)][:rank]
            options["pad"] = tuple(itertools.chain(*cuts))
        case "output":
            sizes = [size - 1 for size in full.shape[2:]]
            cuts = [(0, 1)] * rank
            options = {"output_shape": (2, 3 * groups, *sizes)}
    found = computed(
        "conv_transpose",
        x=x,
        weight=weight,
        bias=bias,
        strides=strides,
        dilations=dilations,
        groups=groups,
        **options,
    )
    inner = tuple(slice(a, n - b) for (a, b), n in zip(cuts, full.shape[2:], strict=True))
    assert_close(found, full[(slice(None), slice(None), *inner)], tolerance=2e-5)


@pytest.mark.parametrize("pad_type", ["same", "same_lower"])
@pytest.mark.parametrize("rank", [1, 3])
def test_same_padding_of_conv_in_one_and_three_dimensions(rank, pad_type):
    x, weight = random_array(1, 2, *(6, 5, 4)[:rank]), random_array(3, 2, *(4, 3, 2)[:rank], seed=1)
    strides, dilations = (2, 1, 3)[:rank], (1, 2, 1)[:rank]
    pads = []
    for n, k, s, d in zip(x.shape[2:], weight.shape[2:], strides, dilations, strict=True):
        total = max(0, (-(-n // s) - 1) * s + (k - 1) * d + 1 - n)
        less, more = total // 2, total - total // 2
        pads.append((less, more) if pad_type == "same" else (more, less))
    found = computed(
        "conv", x=x, weight=weight, pad_type=pad_type, strides=strides, dilations=dilations
    )
    assert_close(found, slow_conv(x, weight, pads, strides, dilations))
