"""Fragment functions, textures and samplers of the stand-in, against texels worked out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from metal4conv.shader.document import Argument, Attachment, SamplerLayout, TextureLayout
from metal4conv.shader.host import HostShader
from tests.shader.pieces import STAGE_IN, fragment

PICTURE = Argument("picture", "texture", 0, "", "latents", "picture")
SAMPLER = Argument("how", "sampler", 0, "", "sampler")
COLOUR = (Attachment(0, "", "c", 0, 4),)

PLACES = fragment(
    "places",
    STAGE_IN,
    colours=(Attachment(0, "first", "c", 0, 4), Attachment(1, "second", "d", 1, 2)),
)
SAMPLED = fragment("sampled", STAGE_IN, PICTURE, SAMPLER, colours=COLOUR)
SMOOTH = fragment("smooth", STAGE_IN, PICTURE, colours=COLOUR)
TEXELS = fragment("texels", STAGE_IN, PICTURE, colours=COLOUR)
ALONE = fragment("alone", STAGE_IN, colours=COLOUR)

NEAREST = SamplerLayout("nearest", "clamp_to_edge")

ROW = np.array([[[0, 255, 51, 102], [255, 0, 51, 204]]], np.uint8)
"""Two texels beside each other: red 0 and 1, green 1 and 0, blue 0.2, alpha 0.4 and 0.8."""


def layout(texels: np.ndarray, pixel_format: tuple[str, int]) -> TextureLayout:
    """What the manifest says of a texture with these texels."""
    height, width, _ = texels.shape
    return TextureLayout(
        *("picture", "x", (0, 1, 2, 3), *pixel_format, width, height, 0),
        bytes_per_row=texels.nbytes // height,
        byte_length=texels.nbytes,
    )


@pytest.fixture(scope="module")
def draw(shader_of: Callable[..., HostShader]) -> Callable[..., np.ndarray]:
    """Draws the picture of one function: height × width × 4."""
    shader = shader_of(
        *("pictures.metal", PLACES, SAMPLED, SMOOTH, TEXELS, ALONE),
        outputs={"c": 4, "d": 3},
        constants=("pictures_doubled", "pictures_shifted"),
        textures=(layout(ROW, ("rgba8Unorm", 70)),),
        sampler=SamplerLayout(),
    )

    def run(
        name: str,
        size: tuple[int, int],
        texels: np.ndarray = ROW,
        sampler: SamplerLayout = NEAREST,
    ) -> np.ndarray:
        formats = {"uint8": ("rgba8Unorm", 70), "float16": ("rgba16Float", 115)}
        texture = layout(texels, formats[texels.dtype.name])
        manifest = replace(shader.manifest, textures=(texture,), sampler=sampler)
        changed = replace(shader, manifest=manifest, library=shader.opened())
        found = changed.run(name, {}, size, textures={"picture": texels.tobytes()})
        return found["c"].reshape(size[1], size[0], 4)

    return run


def near(found: np.ndarray, expected: Sequence[float]) -> None:
    """That the numbers are those."""
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-6)


def test_where_pixels_are(shader_of: Callable[..., HostShader]) -> None:
    shader = shader_of(
        *("pictures.metal", PLACES),
        outputs={"c": 4, "d": 3},
        constants=("pictures_doubled", "pictures_shifted"),
    )
    plain = shader.run("places", {}, (4, 2))
    near(plain["c"][5], (1.5 / 4, 1.5 / 2, 1.5, 1.5))
    near(plain["d"][:, 1], [0.5, 1.5, 2.5, 3.5] * 2)
    assert np.isnan(plain["d"][:, 0]).all()  # no attachment writes it
    # both constants are true where the fast path is asked for
    near(shader.run("places", {}, (4, 2), use_matmul2d=True)["c"][5], (100.75, 101.5, 103, 103))


def test_the_nearest_texel(draw: Callable[..., np.ndarray]) -> None:
    found = draw("sampled", (4, 1))
    near(found[0, :, 0], (0, 0, 1, 1))
    near(found[0, 0], (0, 1, 0.2, 0.4))


@pytest.mark.parametrize(
    ("address", "red"),
    [
        # at a quarter of a texel from the left edge: the texel and what is beside it
        ("clamp_to_edge", (0, 0.25, 0.75, 1)),
        ("repeat", (0.25, 0.25, 0.75, 0.75)),
        ("clamp_to_zero", (0, 0.25, 0.75, 0.75)),
        ("mirrored_repeat", (0, 0.25, 0.75, 1)),
    ],
)
def test_between_texels(
    address: str, red: tuple[float, ...], draw: Callable[..., np.ndarray]
) -> None:
    found = draw("sampled", (4, 1), sampler=SamplerLayout("linear", address))
    near(found[0, :, 0], red)


def test_a_sampler_in_the_source(draw: Callable[..., np.ndarray]) -> None:
    # half of the picture further, and around its edge
    near(draw("smooth", (2, 1))[0, :, 0], (1, 0))


def test_between_rows(draw: Callable[..., np.ndarray]) -> None:
    texels = np.zeros((2, 2, 4), np.float16)
    texels[..., 0] = [[0, 1], [10, 20]]
    linear = SamplerLayout("linear", "clamp_to_edge")
    near(draw("sampled", (1, 1), texels, linear)[0, 0], ((0 + 1 + 10 + 20) / 4, 0, 0, 0))


def test_reading_texels(draw: Callable[..., np.ndarray]) -> None:
    found = draw("texels", (3, 1))
    near(found[0, 0], (0, float(np.float16(1)), float(np.float16(0.2)), float(np.float16(0.4)) + 2))
    near(found[0, 2], (0, 0, 0, 2))  # beyond it


def test_a_cooperative_tensor_of_one_thread(draw: Callable[..., np.ndarray]) -> None:
    near(draw("alone", (2, 1)), (0, 0.5, 1, 1.5, 0, 1.5, 3, 4.5))
