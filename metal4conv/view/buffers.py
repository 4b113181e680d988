"""Raw buffers: bytes as they stand in an `MTLBuffer`, with a layout manifest or without one.

Metal pads the rows of a tensor in a buffer: from one row of the innermost dimension to the next
it is a multiple of 64 bytes, and further dimensions follow without gaps. The array that is made
here is a view of the mapped file, in which padding is not visible.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from metal4conv.errors import DamagedFile, UsageError, did_you_mean
from metal4conv.layout.document import LayoutManifest, TensorLayout, manifest_from_json
from metal4conv.view.contents import Contents, Entry, check_file, last_part
from metal4conv.view.elements import TYPES, shape_problem, storage
from metal4conv.view.placement import Plan, longer, packed_strides, sizes_text, too_short


@dataclass(frozen=True)
class BufferOptions:
    """How a raw buffer is to be read, as the command line has it."""

    layout: str | None = None
    dims: Sequence[str] = ()
    shape: str | None = None
    dtype: str | None = None
    row_stride: int | None = None
    strides: str | None = None
    offset: int = 0
    innermost_first: bool = False


def flags_for_buffers(options: BufferOptions) -> list[str]:
    """Those of the given options that only a raw buffer has use for."""
    given = {
        "--layout": options.layout,
        "--dim": options.dims or None,
        "--shape": options.shape,
        "--row-stride": options.row_stride,
        "--strides": options.strides,
        "--offset": options.offset or None,
    }
    return [flag for flag, value in given.items() if value is not None]


def read_buffer(path: Path, options: BufferOptions, tensor: str | None) -> Contents:
    """The tensor in a raw buffer."""
    check_file(path)
    plan = manifest_plan(options, tensor) if options.layout else shape_plan(path, options)
    size = path.stat().st_size
    if plan.end > size:
        raise too_short(path, plan, size)
    findings = longer(path, plan, size)

    def load() -> np.ndarray:
        if 0 in plan.shape:
            return np.empty(plan.shape, storage(plan.dtype))
        whole = np.memmap(path, np.uint8, "r")
        array: np.ndarray = np.ndarray(
            plan.shape, storage(plan.dtype), whole, plan.offset, plan.strides
        )
        return array

    entry = Entry(plan.name, plan.dtype, plan.shape, load, metal=plan.metal())
    return Contents(path, "raw buffer", (entry,), named=False, findings=findings)


def manifest_plan(options: BufferOptions, tensor: str | None) -> Plan:
    """Where a tensor stands as its manifest says."""
    assert options.layout is not None
    given = {"--shape": options.shape, "--dtype": options.dtype, "--strides": options.strides}
    for flag, value in given.items():
        if value is not None:
            raise UsageError(f"{flag} is given, and --layout says it, too", where=flag)
    manifest = read_manifest(Path(options.layout))
    layout = named_tensor(manifest, tensor, options.layout)
    sized = manifest.at(parse_dims(options.dims, manifest, options.layout))
    layout = next(item for item in sized.tensors if item.name == layout.name)
    if layout.data_type is None or layout.buffer is None:
        raise UsageError(
            f'{layout.role} "{layout.name}" of {options.layout} is {layout.coreml.dtype}, '
            f"shape {sizes_text(layout.coreml.shape)}: Metal has no tensor of it in a buffer"
        )
    dimensions, strides = known_sizes(layout, sized, options.layout)
    element = layout.data_type.bytes
    shape, steps = dimensions[::-1], tuple(stride * element for stride in strides[::-1])
    if options.row_stride is not None:
        steps = packed_strides(shape, element, options.row_stride)
    length = shape[0] * steps[0] if shape else element
    return Plan(layout.name, layout.data_type.name, shape, steps, options.offset, length)


def read_manifest(path: Path) -> LayoutManifest:
    """The manifest in a file."""
    check_file(path)
    try:
        document = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is no JSON: {error}", hint="name a .layout.json file") from None
    try:
        return manifest_from_json(document)
    except DamagedFile as error:
        raise DamagedFile(f"{path}: {error.message}", hint="name a .layout.json file") from None


def named_tensor(manifest: LayoutManifest, name: str | None, where: str) -> TensorLayout:
    """The tensor of a manifest, by its name or a golden vector's, such as `case0/input/color`."""
    tensors = {tensor.name: tensor for tensor in manifest.tensors}
    if name is None:
        raise UsageError(
            f"which tensor of {where} is in the buffer?",
            where="--layout",
            hint=f"add --tensor NAME, one of: {', '.join(tensors)}",
        )
    found = tensors.get(name) or tensors.get(last_part(name))
    if found is None:
        raise UsageError(
            f'{where} has no tensor "{name}"', where="--tensor", hint=did_you_mean(name, tensors)
        )
    return found


def parse_dims(dims: Sequence[str], manifest: LayoutManifest, where: str) -> dict[str, int]:
    """The sizes that `--dim` options give."""
    sizes = {}
    for text in dims:
        name, equals, size = text.partition("=")
        if not equals or not size.isdecimal():
            raise UsageError(
                f'dimension "{text}" cannot be read',
                where="--dim",
                hint="write a number: --dim h=720",
            )
        if name not in manifest.dimensions:
            raise UsageError(
                f'{where} has no dynamic dimension "{name}"',
                where=f"--dim {text}",
                hint=did_you_mean(name, manifest.dimensions),
            )
        sizes[name] = int(size)
    return sizes


def known_sizes(
    layout: TensorLayout, manifest: LayoutManifest, where: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Dimensions and strides in numbers; `UsageError` for a dimension without one."""
    assert layout.buffer is not None
    sizes = (*layout.dimensions, *layout.buffer.strides)
    numbers = [size for size in sizes if isinstance(size, int)]
    if len(numbers) < len(sizes):
        missing = [name for name in manifest.dimensions if name not in manifest.sizes]
        example = " ".join(f"--dim {k}={v.default}" for k, v in manifest.dimensions.items())
        raise UsageError(
            f'tensor "{layout.name}" has dimensions {sizes_text(layout.dimensions, "[]")}, '
            f"and {' and '.join(missing)} of {where} {'has' if len(missing) == 1 else 'have'} "
            "no number",
            where="--dim",
            hint=f"say which size the buffer was made for, such as {example}",
        )
    rank = len(layout.dimensions)
    return tuple(numbers[:rank]), tuple(numbers[rank:])


def shape_plan(path: Path, options: BufferOptions) -> Plan:
    """Where a tensor stands as `--shape` and its neighbours say."""
    if options.shape is None:
        raise UsageError(
            f"{path} is no .npy, .npz or .safetensors file and no trace, so it is a raw buffer",
            hint="say what is in it: --layout NET.layout.json --tensor NAME, "
            "or --shape 3x720x1280 --dtype float16",
        )
    if options.dtype is None:
        raise UsageError(
            "--shape needs the type of the elements",
            where="--shape",
            hint=f"add --dtype, one of: {', '.join(TYPES)}",
        )
    if options.dims:
        raise UsageError("--dim gives sizes to the dimensions of --layout", where="--dim")
    shape = parse_shape(options.shape, innermost_first=options.innermost_first)
    element = storage(options.dtype).itemsize
    if problem := shape_problem(shape, element):
        raise UsageError(f'shape "{options.shape}" has {problem}', where="--shape")
    if options.strides is not None:
        if options.row_stride is not None:
            raise UsageError("--row-stride is given, and --strides says it, too", where="--strides")
        steps = parse_strides(options.strides, shape, innermost_first=options.innermost_first)
    else:
        steps = packed_strides(shape, element, options.row_stride)
    ends = [size * step for size, step in zip(shape, steps, strict=True)]
    length = math.prod(shape) and max([element, *ends])
    return Plan("", options.dtype, shape, steps, options.offset, length)


def parse_shape(text: str, *, innermost_first: bool = False) -> tuple[int, ...]:
    """A shape with its outermost dimension first.

    >>> parse_shape("4x6x3"), parse_shape("6,4", innermost_first=True)
    ((4, 6, 3), (4, 6))
    """
    words = re.split(r"\s*[x×,]\s*", text.strip().strip("()[]"))
    if not all(re.fullmatch(r"[0-9]+", word) for word in words):
        raise UsageError(
            f'shape "{text}" cannot be read', where="--shape", hint="write numbers: 3x720x1280"
        )
    sizes = tuple(map(int, words))
    return sizes[::-1] if innermost_first else sizes


def parse_strides(
    text: str, shape: Sequence[int], *, innermost_first: bool = False
) -> tuple[int, ...]:
    """Strides in bytes with the outermost dimension first, one for each dimension."""
    words = re.split(r"\s*,\s*", text.strip().strip("()[]"))
    if not all(re.fullmatch(r"[0-9]+", word) for word in words) or len(words) != len(shape):
        raise UsageError(
            f'strides "{text}" cannot be read',
            where="--strides",
            hint=f"write {len(shape)} numbers of bytes with commas, one for each dimension",
        )
    steps = tuple(map(int, words))
    return steps[::-1] if innermost_first else steps
