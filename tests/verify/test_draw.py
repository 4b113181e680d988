import numpy as np
import pytest

from metal4conv.errors import UsageError
from metal4conv.frontends.source import SourceInput
from metal4conv.mil.program import Dimension, TensorType
from metal4conv.verify.arrays import round_to_package
from metal4conv.verify.draw import draw_cases, golden_origin, predict_cases
from metal4conv.verify.golden import golden_bytes
from tests.verify.fakes import FakeSource, tanh


def an_input(name, dtype, *shape, value_range=None):
    return SourceInput(name, TensorType(dtype, shape), value_range)


IMAGE = an_input("image", "float32", 1, 3, 32, 24)
NOISE = an_input("noise", "float32", 64, 64)


def first(item, **options):
    return draw_cases([item], {}, **options).cases[0].inputs[item.name]


@pytest.mark.parametrize("shape", [(2, 3, 32, 24), (2, 32, 24, 4)])
def test_pictures_are_smooth_within_0_and_1(shape):
    picture = first(an_input("x", "float32", *shape))
    assert picture.shape == shape
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() <= 1
    assert picture.std() > 0.1
    axis = 2 if shape[1] == 3 else 1
    assert np.abs(np.diff(picture, axis=axis)).mean() < picture.std()
    np.testing.assert_array_equal(picture, picture.astype(np.float16).astype(np.float32))


def test_other_floats_are_standard_normal():
    values = first(NOISE)
    assert abs(values.mean()) < 0.1
    assert abs(values.std() - 1) < 0.05


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (50, 20)])
def test_a_given_range_holds(shape):
    values = first(an_input("n", "float32", *shape, value_range=(-3, -1)))
    assert -3 <= values.min() < -2 < values.max() <= -1


def test_arrays_depend_on_seed_case_and_name_only():
    both = draw_cases([IMAGE, NOISE], {}, seed=3).cases
    turned = draw_cases([NOISE, IMAGE], {}, seed=3).cases
    for one, other in zip(both, turned, strict=True):
        np.testing.assert_array_equal(one.inputs["image"], other.inputs["image"])
    assert not np.array_equal(both[0].inputs["noise"], both[1].inputs["noise"])
    assert not np.array_equal(both[0].inputs["noise"], first(NOISE, seed=4))


def test_draws_are_rounded_to_the_package():
    values = first(NOISE, input_dtypes={"noise": "float16"})
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, values.astype(np.float16).astype(np.float32))


def test_too_large_for_float16():
    item = an_input("x", "float32", 8, value_range=(1e5, 2e5))
    with pytest.raises(UsageError, match="65504"):
        draw_cases([item], {}, input_dtypes={"x": "float16"})
    with pytest.raises(UsageError, match="int8"):
        round_to_package(np.array([300]), "int8", "x")


def test_integers_without_a_range_are_warned_about():
    drawn = draw_cases([an_input("ids", "int64", 1, "n")], {"n": Dimension(1, 8, 4)})
    assert {value for case in drawn.cases for value in case.inputs["ids"].ravel()} <= {0, 1}
    assert drawn.findings[0].severity == "warning"
    assert "-i ids:1xn:int64:0..999" in drawn.findings[0].hint


def test_integers_within_a_range():
    drawn = draw_cases([an_input("ids", "int64", 5000, value_range=(0, 9))], {})
    assert drawn.findings == ()
    assert set(drawn.cases[0].inputs["ids"]) == set(range(10))


@pytest.mark.parametrize("bounds", [(0, 2**31), (0.2, 0.8), (-(2**40), 0)])
def test_impossible_integer_ranges(bounds):
    with pytest.raises(UsageError, match="ids"):
        draw_cases([an_input("ids", "int64", 4, value_range=bounds)], {})


def test_bytes_and_booleans():
    assert first(an_input("p", "uint8", 1, 16, 16, 3)).max() > 200
    assert set(first(an_input("m", "bool", 64))) == {True, False}
    assert first(an_input("s", "float32")).shape == ()


def test_outputs_count_against_the_limit():
    item = an_input("x", "float32", 1, 3, "h", 64)
    sizes = {"h": Dimension(8, 4096, 64, step=8)}
    limit = 2**20

    def output_bytes(at):
        return 4 * 12 * at["h"] * 64

    drawn = draw_cases([item], sizes, limit_bytes=limit, output_bytes=output_bytes)
    source = FakeSource(lambda inputs: {"y": np.repeat(inputs["x"], 4, axis=1)}, (item,))
    cases = predict_cases(source, drawn.cases)
    assert limit / 2 < len(golden_bytes(cases, golden_origin(source, "n", "", 0))) <= limit
    assert drawn.findings[0].code == "golden-capped"


def test_predicted_floats_are_float32_and_renamed():
    cases = draw_cases([NOISE], {}).cases
    source = FakeSource(lambda inputs: {"y": inputs["noise"].astype(np.float64)}, (NOISE,))
    outputs = predict_cases(source, cases, {"y": "color"})[0].outputs
    assert outputs["color"].dtype == np.float32


def test_an_error_of_the_source_names_the_case():
    with pytest.raises(KeyError) as error:
        predict_cases(FakeSource(tanh, (NOISE,)), draw_cases([NOISE], {}).cases)
    assert "case 0" in error.value.__notes__[0]


def test_origin_names_framework_and_versions():
    origin = golden_origin(FakeSource(tanh), "net", "ab", 0)
    assert origin.source == "pytorch factory"
    assert {"metal4conv", "numpy"} <= set(origin.versions)
