"""The arrays that `run` takes: files of one or many, golden vectors, pictures, random numbers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import DamagedFile, UsageError, did_you_mean
from metal4conv.frontends.source import SourceInput
from metal4conv.inspection import parse_number
from metal4conv.mil.interface import Feature, Interface
from metal4conv.verify.arrays import draw_array, generator, round_to_package
from metal4conv.verify.given import read_arrays
from metal4conv.verify.golden import FORMAT, read_golden, read_safetensors

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
KNOWN_FILES = ".npz, .safetensors, or NAME=FILE with a .npy file or a picture"

Given = dict[str, Any]
"""Inputs by name. (Any: arrays, and PIL pictures.)"""


def read_inputs(options: Iterable[str], interface: Interface, case: int = 0) -> Given:
    """The inputs that `--input` options name; `case` picks one of golden vectors."""
    names = [item.name for item in interface.inputs]
    given: Given = {}
    for option in options:
        name, separator, file = option.partition("=")
        # a path may hold "=", an input's name has no dot before it
        if separator and not Path(option).exists():
            if name not in names:
                raise UsageError(
                    f'the package has no input "{name}"',
                    where=f"--input {option}",
                    hint=did_you_mean(name, names),
                )
            found = {name: read_value(Path(file))}
        else:
            found = read_named(Path(option), case)
        for key, value in found.items():
            if key in given:
                raise UsageError(f'input "{key}" is given twice', where=f"--input {option}")
            given[key] = value
    return given


def read_named(path: Path, case: int = 0) -> dict[str, np.ndarray]:
    """Arrays by name, of an `.npz` or `.safetensors` file."""
    match path.suffix.lower():
        case ".npz":
            return read_arrays(path)
        case ".safetensors":
            return read_tensors(path, case)
    if not path.is_file():
        raise UsageError(f"no such file: {path}", hint=f"expected {KNOWN_FILES}")
    raise UsageError(f"{path} holds no named arrays", hint=f"expected {KNOWN_FILES}")


def read_tensors(path: Path, case: int) -> dict[str, np.ndarray]:
    """The tensors of a file, or the inputs of one case where it holds golden vectors."""
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    try:
        metadata, arrays = read_safetensors(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} is no readable .safetensors file: {error}") from None
    if metadata.get("format") != FORMAT:
        return arrays
    cases = read_golden(path).cases
    if not 0 <= case < len(cases):
        raise UsageError(
            f"{path} has no case {case}", where="--case", hint=f"it has 0 to {len(cases) - 1}"
        )
    return dict(cases[case].inputs)


def read_value(path: Path) -> Any:
    """One value: the array of an `.npy` file, or a picture. (Any: a PIL picture.)"""
    if not path.is_file():
        raise UsageError(f"no such file: {path}")
    if path.suffix.lower() in PICTURES:
        return read_picture(path)
    if path.suffix.lower() != ".npy":
        raise UsageError(f"{path} is no .npy file and no picture", hint=f"expected {KNOWN_FILES}")
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise DamagedFile(f"{path} is no readable .npy file: {error}") from None


def read_picture(path: Path) -> Any:
    """A picture, its pixels read. (Any: a PIL picture, whose package is imported here.)"""
    from PIL import Image

    try:
        with Image.open(path) as picture:
            picture.load()
            return picture.copy()
    except (OSError, ValueError, SyntaxError) as error:
        raise DamagedFile(f"{path} is no readable picture: {error}") from None


def parse_sizes(dims: Iterable[str], interface: Interface) -> dict[str, int]:
    """The size of each dynamic dimension: what `--dim` says, else its default."""
    sizes = {name: dimension.default for name, dimension in interface.dimensions.items()}
    for text in dims:
        name, size = parse_number(text)
        if name not in sizes:
            raise UsageError(
                f'the package has no dynamic dimension "{name}"',
                where=f"--dim {text}",
                hint=did_you_mean(name, sizes),
            )
        sizes[name] = size
    return sizes


def draw_inputs(
    interface: Interface, given: Mapping[str, Any], sizes: Mapping[str, int], seed: int
) -> Given:
    """Random values for the inputs that are not given, as golden vectors are drawn."""
    return {
        item.name: draw_input(item, sizes, seed)
        for item in interface.inputs
        if item.name not in given
    }


def draw_input(item: Feature, sizes: Mapping[str, int], seed: int) -> np.ndarray:
    """Random values for one input; a picture's are whole numbers from 0 to 255."""
    random = generator(seed, 0, item.name)
    drawn = draw_array(SourceInput(item.name, item.type), sizes, random)
    if item.kind == "image":
        drawn = np.round(drawn * 255).astype(drawn.dtype)
    return round_to_package(drawn, item.type.dtype, item.name)
