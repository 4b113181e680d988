"""Pictures in and out, in packages that coremltools converts, against numbers worked by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import metal4conv
from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.execute.images import picture_of_pixels, pixels_of_tensor, tensor_of_picture
from metal4conv.execute.interpreter import Executor
from metal4conv.execute.pipeline import Pipeline
from metal4conv.mil.interface import Feature
from metal4conv.mil.package import read_package
from metal4conv.mil.program import TensorType
from tests.mil.foreign import from_torch, save, tensor, toolkit

WIDTH, HEIGHT = 3, 2


class Shift(torch.nn.Module):
    """Each channel plus another number: 0, 100, 200 by its place in the tensor."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.tensor([0.0, 100.0, 200.0][: x.shape[1]]).reshape(1, -1, 1, 1)


def shifted(folder: Path, taken: str, given: str | None, **options: Any) -> Executor | Pipeline:
    """The executor of `Shift` between two layouts, a tensor without the second."""
    ct, _, _ = toolkit()
    channels = 1 if taken.startswith("GRAY") else 3
    shape = (1, channels, HEIGHT, WIDTH)
    outputs = [
        ct.TensorType("y")
        if given is None
        else ct.ImageType(name="y", color_layout=ct.colorlayout[given])
    ]
    options = {"scale": 1.0, "bias": 0 if channels == 1 else [0, 0, 0], **options}
    taken_type = ct.ImageType("x", shape=shape, color_layout=ct.colorlayout[taken], **options)
    path = from_torch(folder, Shift(), [torch.zeros(shape)], inputs=[taken_type], outputs=outputs)
    return metal4conv.load(path)


def colors() -> Image.Image:
    """A picture with another pixel at each place."""
    pixels = np.arange(HEIGHT * WIDTH * 3).reshape(HEIGHT, WIDTH, 3)
    return Image.fromarray(pixels.astype(np.uint8))


@pytest.mark.parametrize(
    ("taken", "given", "red", "green", "blue"),
    [
        ("RGB", "RGB", (0, 0), (1, 100), (2, 200)),
        ("BGR", "BGR", (0, 200), (1, 100), (2, 0)),
        ("RGB", "BGR", (2, 200), (1, 100), (0, 0)),  # the tensor's last channel is seen as red
        ("BGR", "RGB", (2, 0), (1, 100), (0, 200)),
    ],
)
def test_orders_of_channels(
    taken: str,
    given: str,
    red: tuple[int, int],
    green: tuple[int, int],
    blue: tuple[int, int],
    tmp_path: Path,
) -> None:
    executor = shifted(tmp_path, taken, given)
    found = executor.predict({"x": colors()})["y"]
    assert (found.mode, found.size) == ("RGB", (WIDTH, HEIGHT))
    for y in range(HEIGHT):
        for x in range(WIDTH):
            pixel = colors().getpixel((x, y))
            expected = tuple(pixel[channel] + add for channel, add in (red, green, blue))
            assert found.getpixel((x, y)) == expected
    np.testing.assert_array_equal(executor.predict({"x": np.array(colors())})["y"], found)


def test_scale_and_bias_are_the_programs(tmp_path: Path) -> None:
    executor = shifted(tmp_path, "BGR", None, scale=0.5, bias=[1, 2, 3])
    found = executor.predict({"x": Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30))})["y"]
    assert (found.dtype, found.shape) == (np.float32, (1, 3, HEIGHT, WIDTH))
    for channel, value in enumerate((30 / 2 + 1, 20 / 2 + 2 + 100, 10 / 2 + 3 + 200)):
        assert (found[0, channel] == value).all()


def test_gray_pictures(tmp_path: Path) -> None:
    executor = shifted(tmp_path, "GRAYSCALE", "GRAYSCALE", scale=2.0)
    given = Image.fromarray(np.array([[0, 1, 2], [100, 127, 128]], np.uint8))
    found = executor.predict({"x": given})["y"]
    assert found.mode == "L"
    assert np.array(found).tolist() == [[0, 2, 4], [200, 254, 255]]  # 256 is clipped


def test_gray_pictures_of_float16(tmp_path: Path) -> None:
    executor = shifted(tmp_path, "GRAYSCALE_FLOAT16", "GRAYSCALE_FLOAT16")
    numbers = np.array([[0.5, -7.25, 1000], [0.1, 3, 4]], np.float32)
    found = executor.predict({"x": Image.fromarray(numbers)})["y"]
    assert found.mode == "F"
    np.testing.assert_array_equal(np.array(found), numbers.astype(np.float16).astype(np.float32))
    pixels = executor.predict_arrays({"x": numbers})["y"]
    assert pixels.dtype == np.float16
    np.testing.assert_array_equal(pixels, numbers.astype(np.float16))


@pytest.mark.parametrize("size", [(WIDTH, HEIGHT + 1), (WIDTH - 1, HEIGHT), (HEIGHT, WIDTH)])
def test_nothing_is_resized(size: tuple[int, int], tmp_path: Path) -> None:
    executor = shifted(tmp_path, "RGB", None)
    with pytest.raises(UsageError, match=r'input "x", (width|height): size \d, expected \d'):
        executor.predict({"x": Image.new("RGB", size)})


RGB = Feature("x", TensorType("float32", (1, 3, HEIGHT, WIDTH)), "image", color="RGB")
GRAY = Feature("x", TensorType("float32", (1, 1, HEIGHT, WIDTH)), "image", color="GRAYSCALE")
HALF = Feature("x", TensorType("float16", (1, 1, 2, 3)), "image", color="GRAYSCALE_FLOAT16")


@pytest.mark.parametrize(
    ("feature", "given", "message"),
    [
        (RGB, Image.new("L", (3, 2)), "picture of mode L, expected RGB for its declared RGB"),
        (RGB, Image.new("RGBA", (3, 2)), "picture of mode RGBA, expected RGB"),
        (GRAY, Image.new("RGB", (3, 2)), "picture of mode RGB, expected L"),
        (HALF, Image.new("L", (3, 2)), "picture of mode L, expected F for its declared GRAYSCALE_"),
        (RGB, np.zeros((2, 3, 3), np.float32), r"array float32 \(2, 3, 3\), expected a PIL pic"),
        (RGB, np.zeros((2, 3), np.uint8), r"an array uint8 \(height, width, 3\), or the tensor"),
        (RGB, np.zeros((3, 2, 3, 4, 5), np.uint8), r"array uint8 \(3, 2, 3, 4, 5\)"),
        (RGB, np.zeros((2, 3, 4), np.uint8), r"array uint8 \(2, 3, 4\)"),
        (GRAY, np.zeros((2, 3, 1), np.uint8), r"an array uint8 \(height, width\)"),
        (GRAY, np.zeros((2, 3), np.uint16), "array uint16"),
        (HALF, np.zeros((2, 3), np.uint8), r"an array float16 \(height, width\)"),
        (RGB, "picture.png", "is an array <U11"),
    ],
)
def test_what_is_no_picture_of_the_layout(feature: Feature, given: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tensor_of_picture(feature, given)


def test_a_tensor_is_left_as_it_is() -> None:
    given = np.arange(18, dtype=np.float32).reshape(1, 3, 2, 3)
    feature = Feature("x", RGB.type, "image", color="BGR")
    np.testing.assert_array_equal(tensor_of_picture(feature, given), given)


def test_values_are_rounded_with_halves_up_and_clipped() -> None:
    values = [-3, -0.6, 0.49, 0.5, 1.5, 2.5, 254.49, 254.5, 255.4, 300, np.inf, -np.inf, np.nan]
    tensor = np.array(values, np.float32).reshape(1, 1, 1, -1)
    expected = [0, 0, 0, 1, 2, 3, 254, 255, 255, 255, 255, 0, 0]
    pixels = pixels_of_tensor(GRAY, tensor)
    assert pixels.dtype == np.uint8
    assert pixels.tolist() == [expected]
    assert np.array(picture_of_pixels(pixels)).tolist() == [expected]


@pytest.mark.parametrize("shape", [(1, 1, 2, 3), (3, 2, 3), (2, 3, 2, 3), (1, 4, 2, 3)])
def test_a_tensor_that_is_no_picture(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnsupportedModel, match=r'picture "x" comes as a tensor of shape'):
        pixels_of_tensor(RGB, np.zeros(shape, np.float32))


def test_pictures_of_a_range_of_sizes(tmp_path: Path) -> None:
    ct, _, _ = toolkit()
    shape = (1, 3, ct.RangeDim(2, 8, default=4), ct.RangeDim(3, 9, default=5))
    path = from_torch(
        tmp_path,
        Shift(),
        [torch.zeros(1, 3, 4, 5)],
        inputs=[ct.ImageType("x", shape=shape)],
        outputs=[ct.ImageType(name="y")],
    )
    executor = metal4conv.load(path)
    for size in ((3, 2), (9, 8), (4, 7)):
        found = executor.predict({"x": Image.new("RGB", size, (1, 2, 3))})["y"]
        assert found.size == size
        assert (np.array(found) == [1, 102, 203]).all()
    for size, message in (
        ((10, 4), 'width: size 10 for "x_3", allowed is 3..9@5'),
        ((4, 1), 'height: size 1 for "x_2", allowed is 2..8@4'),
    ):
        with pytest.raises(UsageError, match=message):
            executor.predict({"x": Image.new("RGB", size)})


def test_coremltools_predicts_with_pictures(tmp_path: Path) -> None:
    ct, mb, _ = toolkit()
    path = save(
        tmp_path,
        lambda x: mb.reduce_sum(x=x, axes=[2, 3], keep_dims=False, name="y"),
        [tensor((1, 3, HEIGHT, WIDTH))],
        inputs=[ct.ImageType("x", shape=(1, 3, HEIGHT, WIDTH), color_layout=ct.colorlayout.BGR)],
    )
    assert read_package(path).interface().inputs[0].color == "BGR"
    metal4conv.enable_predict()
    try:
        model = ct.models.MLModel(str(path))
        found = model.predict({"x": Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3))})
        assert found["y"].tolist() == [[18, 12, 6]]
        with pytest.raises(RuntimeError, match="height: size 5, expected 2"):
            model.predict({"x": Image.new("RGB", (WIDTH, 5))})
    finally:
        metal4conv.disable_predict()
