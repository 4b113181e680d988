import math

import numpy as np
import pytest

from metal4conv.frontends.source import SourceInput
from metal4conv.mil.program import TensorType
from metal4conv.verify.compare import compare_outputs
from metal4conv.verify.draw import draw_cases
from metal4conv.verify.tolerance import GivenTolerance, Tolerance, choose_tolerance

STRICT = Tolerance(1e-4, 0.0)


def compare(expected, actual, tolerance=STRICT):
    return compare_outputs("y", np.asarray(expected), np.asarray(actual), tolerance)


def codes(result):
    return [problem.code for problem in result.problems]


def half(array):
    return array.astype(np.float16).astype(np.float32)


def judged(expected, actual, depth):
    """The codes for a float16 package."""
    tolerance = choose_tolerance(expected, "float16", depth)
    return codes(compare(expected, actual.astype(np.float16), tolerance))


def test_figures_worked_by_hand():
    result = compare([0.0, 3.0, 4.0], [0.0, 3.0, 5.0])
    assert result.max_absolute_error == 1.0
    assert result.max_relative_error == 0.25
    assert result.rms_error == pytest.approx(math.sqrt(1 / 3))
    assert result.psnr == pytest.approx(20 * math.log10(4 / math.sqrt(1 / 3)))
    assert result.cosine == pytest.approx((9 + 20) / (5 * math.sqrt(34)))
    assert (result.out_of_tolerance, result.share_out) == (1, pytest.approx(1 / 3))
    assert result.worst_index == (2,)
    assert codes(result) == ["out-of-tolerance"]
    assert "[2]: expected 4, got 5" in result.problems[0].message


def test_relative_error_does_not_explode_near_zero():
    assert compare([1e-9, 1.0], [0.0, 1.0]).max_relative_error == pytest.approx(1e-7)


def test_equal_arrays():
    result = compare([1.0, 2.0], [1.0, 2.0])
    assert (result.psnr, result.cosine, result.passed) == (math.inf, pytest.approx(1), True)


def test_same_nan_and_infinity_are_equal():
    special = [np.nan, np.inf, -np.inf, 1.0]
    result = compare(special, special)
    assert result.passed
    assert (result.expected.nan, result.actual.inf) == (1, 2)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_a_number_that_became_none(wrong):
    result = compare([1.0, 2.0, 3.0], [1.0, wrong, 3.0])
    assert codes(result) == ["output-not-finite", "out-of-tolerance"]
    assert (result.out_of_tolerance, result.worst_index) == (1, (1,))
    assert result.max_absolute_error == 0.0


def test_nan_that_became_a_number():
    assert codes(compare([1.0, np.nan], [1.0, 2.0])) == ["out-of-tolerance"]
    assert codes(compare([1.0, np.inf], [1.0, -np.inf])) == ["out-of-tolerance"]


def test_all_nan_is_constant_output():
    result = compare([1.0, 2.0], [np.nan, np.nan])
    assert codes(result) == ["constant-output", "output-not-finite", "out-of-tolerance"]
    assert result.psnr is None


def test_float16_overflow_is_named():
    expected = np.array([1.0, 70000.0], np.float32)
    with np.errstate(over="ignore"):
        result = compare(expected, expected.astype(np.float16))
    assert codes(result)[0] == "float16-overflow"


def test_shape_and_dtype_come_before_values():
    assert codes(compare(np.zeros((1, 2)), np.zeros((2, 1)))) == ["output-shape"]
    assert codes(compare([0.5, 1.0], [0, 1])) == ["output-dtype"]
    assert compare(np.float32(2), np.array([2.0])).passed
    assert compare(np.zeros((0, 3)), np.zeros((0, 3))).passed


def test_constant_output_fails_within_any_tolerance():
    loose = Tolerance(10.0, 0.0)
    assert codes(compare([0.1, 0.2], [0.15, 0.15], loose)) == ["constant-output"]
    assert compare([0.5, 0.5], [0.5, 0.5], loose).passed
    assert compare([0.1], [0.2], loose).passed


def test_constant_within_rounding_is_fine():
    expected = np.array([1.0, 1.0001], np.float32)
    assert compare(expected, expected.astype(np.float16), Tolerance(1e-2, 0)).passed


def test_integers_are_compared_exactly():
    tolerance = choose_tolerance(np.array([1, 2]), "int32", 100)
    assert codes(compare([1, 2], [1, 3], tolerance)) == ["out-of-tolerance"]
    assert compare([True, False], [1, 0], tolerance).passed
    loose = choose_tolerance(np.array([1, 2]), "int32", 0, GivenTolerance(atol=1))
    assert compare([1, 2], [1, 3], loose).passed


def test_float32_allows_1e_4_of_the_magnitude():
    expected = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    tolerance = choose_tolerance(expected, "float32", 0)
    assert compare(expected, expected + np.float32(9e-5), tolerance).passed
    wrong = expected.copy()
    wrong[17] += 5e-4
    assert compare(expected, wrong, tolerance).worst_index == (17,)


def test_given_tolerances_replace_the_rules():
    expected = np.linspace(0, 1, 11, dtype=np.float32)
    given = choose_tolerance(expected, "float16", 9, GivenTolerance(atol=0.5, rtol=0.0))
    assert (given.atol, given.rtol, given.min_psnr, given.outlier_share) == (0.5, 0.0, None, 0.0)
    exact = choose_tolerance(expected, "float16", 9, GivenTolerance(rtol=0.0))
    assert (exact.atol, exact.rtol) == (0.0, 0.0)
    psnr = choose_tolerance(expected, "float16", 9, GivenTolerance(min_psnr=99.0))
    assert codes(compare(expected, half(expected + 1e-3), psnr)) == ["psnr-too-low"]


def test_one_outlier_in_ten_thousand_is_tolerated_in_float16():
    expected = np.random.default_rng(0).standard_normal(20000).astype(np.float32)
    bound = choose_tolerance(expected, "float16", 25)
    actual = expected.copy()
    actual[5] += 2 * (bound.atol + bound.rtol * abs(actual[5]))
    assert judged(expected, actual, 25) == []
    actual[6] += 5 * (bound.atol + bound.rtol * abs(actual[6]))
    assert judged(expected, actual, 25) == ["out-of-tolerance"]


def picture():
    item = SourceInput("x", TensorType("float32", (1, 3, 48, 48)))
    return draw_cases([item], {}).cases[0].inputs["x"]


WRONG = {
    "a row up": lambda image: np.roll(image, 1, axis=2),
    "a column left": lambda image: np.roll(image, -1, axis=3),
    "transposed": lambda image: image.swapaxes(2, 3),
    "channels reversed": lambda image: image[:, ::-1],
    "clipped": lambda image: np.minimum(image, 0.9),
    "2 % brighter": lambda image: image * 1.02,
    "border lost": lambda image: np.pad(image[:, :, 1:-1], ((0, 0), (0, 0), (1, 1), (0, 0))),
    "one pixel lost": lambda image: np.where(np.arange(48) == image.argmax() % 48, 0, image),
}


@pytest.mark.parametrize("depth", [1, 20])
@pytest.mark.parametrize("name", WRONG)
def test_wrong_pictures_fail(name, depth):
    image = picture()
    assert judged(image, image, depth) == []
    assert judged(image, WRONG[name](image), depth)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978846 * (x + 0.044715 * x**3)))


def perceptron(layers, activation, rounded):
    """Wide layers with float16 rounding after each operation where `rounded` says so."""
    random = np.random.default_rng(1)
    x = random.standard_normal((256, 64)).astype(np.float32)
    for _ in range(layers):
        weight = (random.standard_normal((64, 64)) * np.sqrt(2 / 64)).astype(np.float32)
        x = rounded(rounded(x) @ rounded(weight))
        x = rounded(activation(x))
    return x


@pytest.mark.parametrize("layers", [1, 4, 12])
def test_simulated_float16_passes_and_another_activation_does_not(layers):
    expected = perceptron(layers, gelu, lambda array: array)
    assert judged(expected, perceptron(layers, gelu, half), 2 * layers) == []
    relu = perceptron(layers, lambda x: np.maximum(x, 0), half)
    assert judged(expected, relu, 2 * layers)


def attention_network(layers, rounded, width=96, tokens=48):
    """Blocks of a vision transformer with one head."""
    random = np.random.default_rng(2)

    def weight(rows, columns):
        return rounded((random.standard_normal((rows, columns)) * 0.05).astype(np.float32))

    def norm(x):
        centred = x - x.mean(-1, keepdims=True)
        return rounded(centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5))

    x = rounded(random.standard_normal((tokens, width)).astype(np.float32))
    for _ in range(layers):
        y = norm(x)
        q, k, v = (rounded(y @ weight(width, width)) for _ in range(3))
        scores = rounded(rounded(q @ k.T) * np.float32(width**-0.5))
        powers = np.exp(scores - scores.max(-1, keepdims=True))
        y = rounded(rounded(powers / powers.sum(-1, keepdims=True)) @ v)
        x = rounded(x + rounded(y @ weight(width, width)))
        y = rounded(gelu(rounded(norm(x) @ weight(width, 4 * width))))
        x = rounded(x + rounded(y @ weight(4 * width, width)))
    return norm(x)


def test_a_transformer_of_12_layers_passes_in_float16():
    expected = attention_network(12, lambda array: array)
    actual = attention_network(12, half)
    assert judged(expected, actual, 12 * 12 + 1) == []
    assert judged(expected, np.roll(actual, 1, axis=0), 12 * 12 + 1)
    assert judged(expected, attention_network(11, half), 12 * 12 + 1)
