"""Numbers that coremltools' own tests expect of Core ML, and slow loops in numpy."""

import math
from fractions import Fraction

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.execute.image_resizing import MODES
from tests.execute.value_inference import assert_close, computed, random_array, symbolic_shapes

ROW = np.array([0, 1], np.float32).reshape(1, 1, 2)
COUNTED = np.arange(1, 17, dtype=np.float32).reshape(1, 1, 4, 4)
SQUARE = np.array([11, 22, 33, 44], np.float32).reshape(1, 1, 2, 2)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("STRICT_ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
        ("ALIGN_CORNERS", [0, 0.25, 0.5, 0.75, 1]),
        ("DEFAULT", [0, 0.4, 0.8, 1, 1]),
        ("OFFSET_CORNERS", [0.1, 0.3, 0.5, 0.7, 0.9]),
        ("UNALIGN_CORNERS", [0, 0.1, 0.5, 0.9, 1]),
    ],
)
def test_sampling_modes(mode, expected):
    sizes = {"target_size_height": 1, "target_size_width": 5}
    found = computed("resize_bilinear", x=ROW, **sizes, sampling_mode=mode)
    assert_close(found, [[expected]])
    options = {"shape": (1, 1, 5), "resized_dims": 2, "sampling_mode": mode}
    assert_close(computed("resize", x=ROW, **options), [[expected]])


@pytest.mark.parametrize(
    ("mode", "expected"), [("STRICT_ALIGN_CORNERS", 1), ("ALIGN_CORNERS", 8.5), ("DEFAULT", 1)]
)
def test_one_element_is_a_corner_or_the_middle(mode, expected):
    assert_close(computed("resize_bilinear", x=COUNTED, sampling_mode=mode), [[[[expected]]]])


def test_weights_are_exact_far_from_the_first_element():
    """Between 100 and -50 at two thirds lies 0; positions in float32 are off by 1e-6 there."""
    row = np.array([*[0] * 18, 100, -50], np.float32)
    whole, rest = np.divmod(np.arange(30) * 20, 30)
    after = np.minimum(whole + 1, 19)
    exact = row[whole] + (row[after].astype(np.float64) - row[whole]) * rest / 30
    sizes = {"target_size_height": 1, "target_size_width": 30}
    x = row.reshape(1, 1, 1, 20)
    found = computed("resize_bilinear", x=x, **sizes, sampling_mode="DEFAULT")
    np.testing.assert_allclose(found.ravel(), exact, rtol=1e-6, atol=2e-5)


def test_resize_bilinear_in_both_dimensions():
    x = random_array(2, 3, 5, 7)
    rows = np.minimum(np.arange(8) * 5 / 8, 4)
    columns = np.minimum(np.arange(4) * 7 / 4, 6)
    tall = np.apply_along_axis(lambda line: np.interp(rows, np.arange(5), line), 2, x)
    expected = np.apply_along_axis(lambda line: np.interp(columns, np.arange(7), line), 3, tall)
    found = computed("resize_bilinear", x=x, target_size_height=8, target_size_width=4)
    assert_close(found, expected)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"scale_factor_width": 3}, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ({"scale_factor_width": 2.6, "align_corners": False}, [0, 0.1, 0.5, 0.9, 1]),
        ({"scale_factor_width": 3, "align_corners": False}, [0, 0, 1 / 3, 2 / 3, 1, 1]),
        (
            {"scale_factor_width": 3, "align_corners": False, "half_pixel_centers": False},
            [0, 1 / 3, 2 / 3, 1, 1, 1],
        ),
    ],
)
def test_upsample_bilinear(options, expected):
    assert_close(computed("upsample_bilinear", x=ROW, **options), [[expected]])


def test_upsample_bilinear_refuses_both_corners_and_centers():
    with pytest.raises(UnsupportedModel, match="exclude"):
        computed("upsample_bilinear", x=ROW, half_pixel_centers=True)


@pytest.mark.parametrize(
    ("high", "wide", "expected"),
    [
        (1, 2, [[1.5, 1.5, -2.5, -2.5, 3.5, 3.5]]),
        (1.0, 1.0, [[1.5, -2.5, 3.5]]),
        (3.17, 0.67, [[1.5, -2.5]] * 3),
        (2.0, 1.12, [[1.5, -2.5, 3.5]] * 2),
    ],
)
def test_upsample_nearest_neighbor(high, wide, expected):
    x = np.array([[[[1.5, -2.5, 3.5]]]], np.float32)
    scales = {"scale_factor_height": high, "scale_factor_width": wide}
    assert_close(computed("upsample_nearest_neighbor", x=x, **scales), [[expected]])


def test_nearest_neighbor_counts_from_centres():
    x = np.array([-6.174, 9.371], np.float32).reshape(1, 1, 2, 1)
    a, b = -6.174, 9.371
    expected = [[[[a, a], [b, b], [b, b]]]]
    sizes = {"target_size_height": 3, "target_size_width": 2}
    assert_close(computed("resize_nearest_neighbor", x=x, **sizes), expected)
    options = {"resized_dims": 2, "interpolation_mode": "NEAREST_NEIGHBOR"}
    assert_close(computed("resize", x=x, shape=(1, 1, 3, 2), **options), expected)
    assert_close(computed("resize", x=x, shape=(1, 3, 0), **options), [[[[a], [b], [b]]]])


def test_crop():
    found = computed("crop", x=COUNTED, crop_height=(0, 1), crop_width=(1, 1))
    assert_close(found, [[[[2, 3], [6, 7], [10, 11]]]])


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        (2, [1, 1, 2, 2], [[6, 7], [10, 11]]),
        (1, [1, 1, 2, 2], [[8.5]]),
        (2, [2, 2, 1, 1], [[11, 10], [7, 6]]),
        (3, [1, 1, 2, 2], [[6, 6.5, 7], [8, 8.5, 9], [10, 10.5, 11]]),
    ],
)
def test_crop_resize(size, box, expected):
    options = {"target_height": size, "target_width": size, "sampling_mode": "ALIGN_CORNERS"}
    boxes = np.array([box], np.float32)
    assert_close(computed("crop_resize", x=COUNTED, boxes=boxes, **options), [[expected]])
    roi = boxes.reshape(1, 1, 4, 1, 1)
    for version in (15, 16):
        found = computed("crop_resize", version, x=COUNTED, roi=roi, **options)
        assert_close(found, [[[expected]]])


def test_crop_resize_pads_outside():
    boxes = np.array([[0.1, 0.3, 1.3, 1], [0.5, 1.8, 1, 0.3], [0, 0.4, 0.6, 0.7]], np.float32)
    options = {
        "target_height": 2,
        "target_width": 2,
        "normalized_coordinates": True,
        "sampling_mode": "ALIGN_CORNERS",
        "pad_value": 10.0,
    }
    expected = [3.1, 5.2, 10, 10, 10, 7.9, 10, 13.9, 2.2, 3.1, 9.4, 10.3]
    expected = np.array(expected).reshape(3, 1, 2, 2)
    indices = np.zeros(3, np.int32)
    found = computed("crop_resize", x=COUNTED, boxes=boxes, box_indices=indices, **options)
    assert_close(found, expected)
    roi = np.concatenate([np.zeros((3, 1), np.float32), boxes], axis=1).reshape(3, 1, 5, 1, 1)
    assert_close(computed("crop_resize", 16, x=COUNTED, roi=roi, **options), expected[:, None])


@pytest.mark.parametrize(
    ("mode", "box"),
    [
        ("CORNERS_WIDTH_FIRST", [0, 1, 2, 3]),
        ("CENTER_SIZE_HEIGHT_FIRST", [2, 1, 2, 2]),
        ("CENTER_SIZE_WIDTH_FIRST", [1, 2, 2, 2]),
    ],
)
def test_box_coordinates(mode, box):
    found = computed(
        "crop_resize",
        x=COUNTED,
        boxes=np.array([box], np.float32),
        target_height=3,
        target_width=3,
        sampling_mode="STRICT_ALIGN_CORNERS",
        box_coordinate_mode=mode,
    )
    assert_close(found, COUNTED[:, :, 1:, :3])


@pytest.mark.parametrize("mode", ["DEFAULT", "UNALIGN_CORNERS", "OFFSET_CORNERS"])
def test_a_box_around_everything_is_a_resize(mode):
    x = random_array(2, 3, 4, 6)
    boxes = np.array([[0, 0, 3, 5], [0, 0, 3, 5]], np.float32)
    options = {"target_height": 5, "target_width": 4, "sampling_mode": mode}
    sizes = {"target_size_height": 5, "target_size_width": 4, "sampling_mode": mode}
    expected = computed("resize_bilinear", x=x, **sizes)
    assert_close(computed("crop_resize", x=x, boxes=boxes, **options), expected)
    roi = boxes[:1].reshape(1, 1, 4, 1, 1)
    assert_close(computed("crop_resize", 16, x=x, roi=roi, **options), expected[None])


@pytest.mark.parametrize(
    ("sampling", "padding", "value", "coordinates", "align", "expected"),
    [
        (
            "bilinear",
            "constant",
            6.17,
            "normalized_minus_one_to_one",
            True,
            [8.585, 6.17, 27.5, 6.17],
        ),
        ("nearest", "border", -1.0, "unnormalized", False, [11, 11, 11, 44]),
        ("bilinear", "reflection", -1.0, "normalized_zero_to_one", True, [22, 36.3, 11, 34.1]),
        ("nearest", "symmetric", -1.0, "normalized_zero_to_one", False, [22, 33, 11, 33]),
        ("bilinear", "constant", 0.0, "normalized_minus_one_to_one", True, [5.5, 0, 27.5, 0]),
        ("bilinear", "border", 0.0, "normalized_minus_one_to_one", True, [11, 11, 27.5, 44]),
        ("bilinear", "border", 0.0, "unnormalized", True, [11, 11, 11, 44]),
    ],
)
def test_resample(sampling, padding, value, coordinates, align, expected):
    places = np.array([-1, -2, -3.7, -1, 0, 0, 3.5, 1.2], np.float32).reshape(1, 2, 2, 2)
    found = computed(
        "resample",
        x=SQUARE,
        coordinates=places,
        sampling_mode=sampling,
        padding_mode=padding,
        padding_value=value,
        coordinates_mode=coordinates,
        align_corners=align,
    )
    assert_close(found, np.array(expected).reshape(1, 1, 2, 2))


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (3, 3, [10.752501, 2.5025, 0, 1.98, 0, 0, 0, 0, 0]),
        (2, 5, [10.752501, 5.94, 2.5025, 0.44, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_affine(height, width, expected):
    found = computed(
        "affine",
        x=SQUARE,
        transform_matrix=np.array([[-1, -2, -3.7, -1, 3.5, 1.2]], np.float32),
        output_height=height,
        output_width=width,
        sampling_mode="bilinear",
        padding_mode="constant",
        padding_value=0.0,
        coordinates_mode="normalized_minus_one_to_one",
        align_corners=True,
    )
    assert_close(found, np.array(expected).reshape(1, 1, height, width))


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("upsample_nearest_neighbor", {"scale_factor_height": 2, "scale_factor_width": 3}),
        ("upsample_nearest_neighbor", {"scale_factor_height": 1.5, "scale_factor_width": 0.7}),
        ("upsample_bilinear", {"scale_factor_height": 2.5, "scale_factor_width": 2}),
        ("upsample_bilinear", {"align_corners": False, "half_pixel_centers": False}),
        ("crop", {"crop_height": (1, 2), "crop_width": (0, 3)}),
    ],
)
def test_symbolic_sizes_stay_symbolic(operation, options):
    given = {"x": random_array(1, 2, 17, 12), **options}
    symbolic, shapes = symbolic_shapes(operation, {"x": (2, 3)}, **given)
    assert symbolic
    assert shapes == [computed(operation, **given).shape]


def nearest(mode, old, new):
    """Where the elements come from: the sampling positions of `resize_bilinear`, halves upwards."""
    delta = Fraction(max(1, old - 1), new)
    spacing = {
        "STRICT_ALIGN_CORNERS": Fraction(old - 1, max(1, new - 1)),
        "ALIGN_CORNERS": Fraction(old - 1, max(1, new - 1)),
        "OFFSET_CORNERS": delta,
        "UNALIGN_CORNERS": Fraction(old, new),
    }[mode]
    start = {"OFFSET_CORNERS": delta / 2, "UNALIGN_CORNERS": spacing / 2 - Fraction(1, 2)}
    first = start.get(mode, Fraction(0))
    if mode == "ALIGN_CORNERS" and new == 1:
        first = Fraction(old - 1, 2)
    points = [min(old - 1, max(0, first + at * spacing)) for at in range(new)]
    return [min(old - 1, math.floor(point + Fraction(1, 2))) for point in points]


@pytest.mark.parametrize(
    "mode", ["STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "OFFSET_CORNERS", "UNALIGN_CORNERS"]
)
@pytest.mark.parametrize("old", [1, 2, 3, 5])
@pytest.mark.parametrize("new", [1, 2, 3, 4, 7, 10])
def test_nearest_neighbor_in_each_sampling_mode(mode, old, new):
    x = random_array(2, old)
    options = {"interpolation_mode": "NEAREST_NEIGHBOR", "sampling_mode": mode}
    found = computed("resize", x=x, shape=(new,), resized_dims=1, **options)
    np.testing.assert_array_equal(found, x[:, nearest(mode, old, new)])


def test_nearest_neighbor_of_integers_is_exact():
    x = np.array([[2**24 + 1, -7]], np.int32)
    options = {"interpolation_mode": "NEAREST_NEIGHBOR"}
    found = computed("resize", x=x, shape=(4,), resized_dims=1, **options)
    assert found.tolist() == [[2**24 + 1, 2**24 + 1, -7, -7]]


def test_an_unknown_sampling_mode_of_nearest_neighbor():
    options = {"interpolation_mode": "NEAREST_NEIGHBOR", "sampling_mode": "SOME"}
    with pytest.raises(UnsupportedModel, match="SOME"):
        computed("resize", x=ROW, shape=(3,), resized_dims=1, **options)


@pytest.mark.parametrize("index", [-1, 1])
def test_crop_resize_of_an_image_that_is_not_there(index):
    boxes = np.array([[0, 0, 1, 1]], np.float32)
    with pytest.raises(IndexError, match=f"index {index} is out of range"):
        computed("crop_resize", x=COUNTED, boxes=boxes, box_indices=np.array([index], np.int32))


def test_modes_of_affine_in_capitals():
    """coremltools compares them without case."""
    given = {
        "x": SQUARE,
        "transform_matrix": np.array([[1, 0, 0, 0, 1, 0]], np.float32),
        "output_height": 2,
        "output_width": 2,
        "padding_value": 0.0,
        "align_corners": True,
        "sampling_mode": "BILINEAR",
        "padding_mode": "CONSTANT",
        "coordinates_mode": "NORMALIZED_MINUS_ONE_TO_ONE",
    }
    assert_close(computed("affine", **given), SQUARE)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("interpolation", ["LINEAR", "NEAREST_NEIGHBOR"])
def test_resize_to_its_own_size_changes_nothing(mode, interpolation):
    x = random_array(1, 2, 3, 4)
    options = {"interpolation_mode": interpolation, "sampling_mode": mode}
    found = computed("resize", x=x, shape=(3, 0), resized_dims=2, **options)
    if mode == "OFFSET_CORNERS" and interpolation == "LINEAR":
        assert found.shape == x.shape  # its positions lie between the elements
    else:
        assert_close(found, x)


def test_resize_of_an_empty_batch():
    x = np.zeros((0, 2, 3, 4), np.float32)
    for name, options in [
        ("resize_bilinear", {"target_size_height": 5, "target_size_width": 2}),
        ("resize_nearest_neighbor", {"target_size_height": 5, "target_size_width": 2}),
    ]:
        assert computed(name, x=x, **options).shape == (0, 2, 5, 2)
