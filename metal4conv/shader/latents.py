"""Latents: an input's features as an image, which the shader samples from textures.

`--latents NAME=FILE` names the input and an array of H×W×C in a `.npy` file, `.npz` or
`.safetensors` file (`FILE:TENSOR` where it holds several), or `.png` files separated by commas,
whose channels follow one another. uint8 stands for value/255, floats for themselves.
"""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from safetensors import SafetensorError, safe_open

from metal4conv.errors import (
    DamagedFile,
    UnsupportedModel,
    UsageError,
    did_you_mean,
    first_line,
)
from metal4conv.shader.network import Network, Port

PICTURE_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
"""Kinds of PNG, as Pillow names them, whose numbers are eight bits each."""

LARGEST_SIDE = 16384
"""Texels along a side of a 2D texture: Metal feature set tables, from family Apple3 on."""

EXPECTED = "expected .safetensors or .npz (FILE:TENSOR), .npy, or .png files separated by commas"


@dataclass(frozen=True)
class LatentsOption:
    """What one `--latents` says."""

    text: str
    input: str
    files: tuple[Path, ...]
    tensor: str | None = None

    @property
    def where(self) -> str:
        """The place that messages name."""
        return f"--latents {self.text}"


@dataclass(frozen=True, eq=False)
class Latents:
    """Features of an input as an image: `array` is H×W×C, uint8 (value/255) or float16.

    `rounding` is the largest difference that float16 made; `files` is what was read.
    """

    input: str
    array: np.ndarray
    files: tuple[Path, ...] = ()
    rounding: float = 0.0

    @property
    def height(self) -> int:
        """Rows of texels."""
        return int(self.array.shape[0])

    @property
    def width(self) -> int:
        """Texels of a row."""
        return int(self.array.shape[1])

    @property
    def channels(self) -> int:
        """Features of a texel."""
        return int(self.array.shape[2])


def parse_latents(text: str) -> LatentsOption:
    """The parts of `NAME=FILE[:TENSOR]` or `NAME=A.png,B.png`.

    >>> option = parse_latents("uv=maps/all.npz:wall:0")
    >>> option.input, [path.name for path in option.files], option.tensor
    ('uv', ['all.npz'], 'wall:0')
    >>> [path.name for path in parse_latents("uv=a.png,b.png").files]
    ['a.png', 'b.png']
    """
    name, separator, rest = text.partition("=")
    if not (name and separator and rest):
        raise UsageError(
            f'"{text}" does not say which input the latents are for',
            where=f"--latents {text}",
            hint="write NAME=FILE, where NAME is an input of the network",
        )
    if found := re.fullmatch(r"(.+?\.(?:safetensors|npz)):(.+)", rest, re.IGNORECASE):
        return LatentsOption(text, name, (Path(found[1]),), found[2])
    pictures = re.split(r"(?<=\.png),", rest, flags=re.IGNORECASE)
    return LatentsOption(text, name, tuple(map(Path, pictures)))


def latents_of(options: Sequence[LatentsOption], network: Network) -> tuple[Latents, ...]:
    """What several `--latents` name, each for another input of the network.

    `UnsupportedModel` where a convolution reads the neighbours of a pixel: its passes read images.
    """
    for number, option in enumerate(options):
        if option.input in {earlier.input for earlier in options[:number]}:
            raise UsageError(f'input "{option.input}" has latents twice', where=option.where)
    if options and not network.is_pointwise:
        layers = [item.convolution.label for item in network.passes if item.convolution]
        raise UnsupportedModel(
            "latents are sampled for networks that see one point at a time; "
            f'convolution "{layers[0]}" of this one reads the pixels around it',
            where=options[0].where,
            hint="leave --latents out: the compute functions read the input from a buffer",
        )
    return tuple(read_latents(option, network.inputs) for option in options)


def read_latents(option: LatentsOption, ports: Sequence[Port]) -> Latents:
    """The array that an option names, checked against the network's input."""
    port = port_of(option, ports)
    array = read_array(option)
    shape = "×".join(map(str, array.shape)) or "no dimensions"
    if array.ndim == 2 and port.width == 1:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[-1] != port.width:
        raise UsageError(
            f"expected latents of height×width×{port.width}, as many features as input "
            f'"{port.name}" has; got {shape}',
            where=option.where,
            hint=shape_hint(array.shape, port.width),
        )
    if 0 in array.shape or max(array.shape[:2]) > LARGEST_SIDE:
        raise UsageError(
            f"textures of 1 to {LARGEST_SIDE} texels a side are possible; got {shape}",
            where=option.where,
        )
    stored = as_stored(array, option)
    rounding = 0.0
    if stored.dtype != np.uint8:
        rounding = float(np.abs(stored.astype(np.float64) - array).max())
    return Latents(port.name, stored, option.files, rounding)


def port_of(option: LatentsOption, ports: Sequence[Port]) -> Port:
    """The input that an option names; one that is the same for all points has no texture."""
    for port in ports:
        if port.name != option.input:
            continue
        if port.uniform:
            raise UsageError(
                f'input "{port.name}" is one row for all points, which no texture can give',
                where=option.where,
                hint="bind its buffer, or export the network with a row for each point",
            )
        return port
    raise UsageError(
        f'the network has no input "{option.input}"',
        where=option.where,
        hint=did_you_mean(option.input, [port.name for port in ports]),
    )


def shape_hint(shape: tuple[int, ...], width: int) -> str | None:
    """What to do about an array whose last axis does not hold the features.

    >>> shape_hint((8, 128, 64), 8)
    'the first axis seems to hold the features: save it as height×width×features'
    """
    if len(shape) == 3 and shape[0] == width:
        return "the first axis seems to hold the features: save it as height×width×features"
    if len(shape) > 3 and shape[-1] == width:
        return "save one image, without further axes before its height"
    return None


def as_stored(array: np.ndarray, option: LatentsOption) -> np.ndarray:
    """The array as textures hold it: uint8 stays, float32 is rounded to float16."""
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype not in (np.float16, np.float32):
        raise UsageError(
            f"latents are uint8, float16 or float32; got {array.dtype}",
            where=option.where,
            hint="save floats as float32, or numbers from 0 to 1 as uint8 of value × 255",
        )
    with np.errstate(over="ignore"):
        stored = array.astype(np.float16)
    if not np.isfinite(stored).all():
        row, column, channel = np.argwhere(~np.isfinite(stored))[0]
        raise UsageError(
            f"the latent [{row}, {column}, {channel}] is {array[row, column, channel]}; a texture "
            f"holds float16, finite numbers up to {np.finfo(np.float16).max:.0f}",
            where=option.where,
            hint="scale the latents down, and the first layer's weights up",
        )
    return np.ascontiguousarray(stored)


def read_array(option: LatentsOption) -> np.ndarray:
    """The array in an option's files."""
    for path in option.files:
        if not path.is_file():
            raise UsageError(f"no such file: {path}", where=option.where, hint=EXPECTED)
    first, *more = option.files
    match first.suffix.lower():
        case ".png":
            return read_pictures(option)
        case ".npy" if not more:
            return read_npy(first)
        case ".npz" if not more:
            return read_npz(first, option)
        case ".safetensors" if not more:
            with open_safetensors(first) as tensors:
                return read_member(TensorsOf(tensors), first, sorted(tensors.keys()), option)
    raise UsageError(f"cannot read latents from {first}", where=option.where, hint=EXPECTED)


def read_npy(path: Path) -> np.ndarray:
    """The array of an `.npy` file."""
    with path.open("rb") as file:
        array = load(file, path)
        if not isinstance(array, np.ndarray):
            raise DamagedFile(f"{path} is an archive, not an .npy file")
        return array


def read_npz(path: Path, option: LatentsOption) -> np.ndarray:
    """The array of an `.npz` file that the option names."""
    with path.open("rb") as file:
        archive = load(file, path)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DamagedFile(f"{path} is one array, not an .npz file")
        return read_member(archive, path, archive.files, option)


def load(file: BinaryIO, path: Path) -> Any:
    """What numpy reads from an open file, which it would leave open. (Any: an array or archive.)"""
    try:
        return np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        kind = path.suffix.lower()
        raise DamagedFile(f"{path} is no readable {kind} file: {first_line(error)}") from None


def open_safetensors(path: Path) -> AbstractContextManager[Any]:
    """A file of tensors. (Any: safetensors has no types.)"""
    try:
        opened: AbstractContextManager[Any] = safe_open(path, framework="numpy")
    except (SafetensorError, OSError) as error:
        raise DamagedFile(f"{path} is no readable .safetensors file: {first_line(error)}") from None
    return opened


@dataclass(frozen=True)
class TensorsOf:
    """The tensors of an open `.safetensors` file by `[]`. (Any: safetensors has no types.)"""

    file: Any

    def __getitem__(self, name: str) -> np.ndarray:
        array: np.ndarray = self.file.get_tensor(name)
        return array


def read_member(
    arrays: Mapping[str, np.ndarray] | TensorsOf,
    path: Path,
    names: Sequence[str],
    option: LatentsOption,
) -> np.ndarray:
    """The array that the option names, or the only one there is."""
    if option.tensor is None and len(names) != 1:
        raise UsageError(
            f"{path} holds {len(names)} arrays",
            where=option.where,
            hint=f"name one as {path}:NAME; {did_you_mean('', names)}",
        )
    name = names[0] if option.tensor is None else option.tensor
    if name not in names:
        raise UsageError(
            f'{path} holds no array "{name}"',
            where=option.where,
            hint=did_you_mean(name, names),
        )
    try:
        return arrays[name]
    # what numpy has no type for, such as bfloat16, raises a TypeError or an AttributeError
    except (ValueError, OSError, TypeError, AttributeError, KeyError, zipfile.BadZipFile) as error:
        raise DamagedFile(f'cannot read "{name}" from {path}: {first_line(error)}') from None


def read_pictures(option: LatentsOption) -> np.ndarray:
    """The channels of all pictures, one after the other; colour profiles mean nothing here."""
    pictures = [read_picture(path, option) for path in option.files]
    sizes = {picture.shape[:2] for picture in pictures}
    if len(sizes) > 1:
        told = ", ".join(
            f"{path.name} {picture.shape[1]}×{picture.shape[0]}"
            for path, picture in zip(option.files, pictures, strict=True)
        )
        raise UsageError(f"the pictures differ in size: {told}", where=option.where)
    return np.concatenate(pictures, axis=2)


def read_picture(path: Path, option: LatentsOption) -> np.ndarray:
    """The pixels of one picture, H×W×channels, uint8."""
    if path.suffix.lower() != ".png":
        raise UsageError(f"{path} is no .png file", where=option.where, hint=EXPECTED)
    try:
        with warnings.catch_warnings():
            # about sizes that are usual for textures
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=["PNG"]) as picture:
                mode = picture.mode
                pixels = np.asarray(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedFile(f"{path} is no readable PNG: {first_line(error)}") from None
    if mode not in PICTURE_CHANNELS:
        raise UsageError(
            f"{path} is a PNG of Pillow's mode {mode}",
            where=option.where,
            hint="save it as grey, RGB or RGBA with 8 bits a channel, or as an .npy file",
        )
    return pixels.reshape(*pixels.shape[:2], PICTURE_CHANNELS[mode])
