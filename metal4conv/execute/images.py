"""Pictures as the tensors that programs take and give, and back.

Core ML hands a picture over as pixels in the order that the package declares, 0 to 255 each; what
scales and shifts them stands in the program. Nothing is resized and no mode is converted here:
a picture of another size or mode is refused, as coremltools and Core ML do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.interface import Feature

if TYPE_CHECKING:
    from PIL.Image import Image

MODES = {"RGB": "RGB", "BGR": "RGB", "GRAYSCALE": "L", "GRAYSCALE_FLOAT16": "F"}
"""The mode of the PIL picture for each layout; the order of the channels is ours to change."""


def tensor_of_picture(item: Feature, given: Any) -> np.ndarray:
    """A picture as (1, channels, height, width) in the declared order and dtype.

    `given` is a PIL picture of the mode in `MODES`, its pixels as an array, uint8 (height, width,
    3) in the order R, G, B or (height, width), or the tensor itself, which is left as it is.
    (Any: whatever a caller may pass.)
    """
    from PIL import Image

    mode = MODES[str(item.color)]
    if isinstance(given, Image.Image):
        if given.mode != mode:
            raise UsageError(
                f'input "{item.name}" is a picture of mode {given.mode}, expected {mode} for its '
                f"declared {item.color}",
                hint=f'convert it first: picture.convert("{mode}")',
            )
        pixels = np.asarray(given)
    else:
        pixels = np.asarray(given)
        if pixels.ndim == 4:
            return pixels
        check_pixels(item, pixels, mode)
    if item.color == "BGR":
        pixels = pixels[..., ::-1]
    planes = pixels.transpose(2, 0, 1) if pixels.ndim == 3 else pixels[None]
    return np.ascontiguousarray(planes[None], dtype=DTYPES[item.type.dtype].numpy)


def check_pixels(item: Feature, pixels: np.ndarray, mode: str) -> None:
    """Refuses an array that is no picture of this mode."""
    kinds = "f" if mode == "F" else "u"
    ranks = pixels.ndim == 3 and pixels.shape[2] == 3 if mode == "RGB" else pixels.ndim == 2
    is_right = pixels.dtype.kind in kinds and (mode == "F" or pixels.dtype.itemsize == 1)
    if ranks and is_right:
        return
    shape = "(height, width, 3)" if mode == "RGB" else "(height, width)"
    raise UsageError(
        f'input "{item.name}" is an array {pixels.dtype} {pixels.shape}, expected a PIL picture of '
        f"mode {mode}, an array {'float16' if mode == 'F' else 'uint8'} {shape}, or the tensor "
        f"{item.type}"
    )


def pixels_of_tensor(item: Feature, tensor: np.ndarray) -> np.ndarray:
    """The pixels of a picture: uint8 (height, width, 3) as R, G, B or (height, width), or float16.

    Values are clipped to 0 … 255 and rounded to the nearest with halves up, as the documentation
    of `vImageConvert_PlanarFtoPlanar8` has it; a NaN is 0.
    """
    channels = 3 if MODES[str(item.color)] == "RGB" else 1
    if tensor.ndim != 4 or tensor.shape[:2] != (1, channels):
        raise UnsupportedModel(
            f'picture "{item.name}" comes as a tensor of shape {tensor.shape}, expected '
            f"(1, {channels}, height, width) for {item.color}"
        )
    if item.color == "GRAYSCALE_FLOAT16":
        return np.ascontiguousarray(tensor[0, 0], dtype=np.float16)
    known = np.nan_to_num(tensor[0].astype(np.float32), nan=0, posinf=255, neginf=0)
    planes: np.ndarray = np.floor(np.clip(known, 0, 255) + np.float32(0.5)).astype(np.uint8)
    if channels == 1:
        return np.ascontiguousarray(planes[0])
    ordered = planes[::-1] if item.color == "BGR" else planes
    return np.ascontiguousarray(ordered.transpose(1, 2, 0))


def picture_of_pixels(pixels: np.ndarray) -> Image:
    """The PIL picture of `pixels_of_tensor`: mode RGB, L, or F for float16 pixels."""
    from PIL import Image

    return Image.fromarray(pixels.astype(np.float32) if pixels.dtype.kind == "f" else pixels)
