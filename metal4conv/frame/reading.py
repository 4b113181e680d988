"""Reads a frame from its TOML file; `document` describes the format."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from metal4conv.errors import UsageError, did_you_mean
from metal4conv.frame.document import FORMAT, Frame, Heap, Resource
from metal4conv.frame.fields import Fields, toml_text
from metal4conv.frame.passes import read_passes
from metal4conv.frame.synchronization import read_residency, read_synchronization
from metal4conv.layout.rules import DATA_TYPES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = (
    *("format", "frames_in_flight", "mode", "dims", "texture", "buffer", "tensor", "heap"),
    *("pass", "barrier", "fence", "event", "residency_set"),
)
SHARED_KEYS = ("name", "copies", "storage", "written_elsewhere", "read_elsewhere")
KEYS = {
    "texture": (*SHARED_KEYS, "usage", "bytes", "heap", "heap_offset", "drawable"),
    "buffer": (*SHARED_KEYS, "bytes", "heap", "heap_offset"),
    "tensor": (
        *(*SHARED_KEYS, "usage", "dtype", "shape", "dimensions", "buffer", "offset", "strides"),
    ),
}
USAGES = {
    "texture": ("shader_read", "shader_write", "render_target"),
    "tensor": ("compute", "render", "machine_learning"),
}
MOST_FRAMES = 8
MOST_COPIES = 16


def read_frame(path: str | Path, sizes: Mapping[str, int] | None = None) -> Frame:
    """The frame of a file, with other numbers for some of its dimensions."""
    table = Fields(toml_of(Path(path)), str(path), TOP)
    found = table.text("format")
    if found != FORMAT:
        table.fail(
            "format",
            f'expected format = "{FORMAT}", got {toml_text(found) if found else "none"}',
            "metal4conv frame --help shows a small frame",
        )
    dims = read_dims(table, sizes or {})
    heaps = read_heaps(table, dims)
    resources = read_resources(table, dims, heaps)
    passes = read_passes(table, dims, resources, heaps, Path(path).parent)
    return Frame(
        file=str(path),
        sizes=dims,
        in_flight=table.count("frames_in_flight", 1, least=1, most=MOST_FRAMES),
        plan=table.choice("mode", ("check", "plan"), "check") == "plan",
        resources=resources,
        heaps=heaps,
        passes=passes,
        synchronization=read_synchronization(table, passes),
        residency=read_residency(table, passes, (*resources, *heaps)),
    )


def toml_of(path: Path) -> dict[str, Any]:  # Any: TOML values
    """What a TOML file holds."""
    if not path.is_file():
        there = "is no file" if path.exists() else "is not there"
        what = "is a folder" if path.is_dir() else there
        raise UsageError(f"{path} {what}", hint="name a frame's TOML file")
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not TOML: {error}") from None


def read_dims(table: Fields, given: Mapping[str, int]) -> dict[str, int]:
    """The frame's dimensions, with the given numbers in the place of the file's."""
    names = table.mapping("dims")
    dims = Fields(names, f"{table.place}: [dims]", names)
    known = {name: dims.count(name, 1, least=1) for name in names}
    for name, size in given.items():
        if size < 1:
            raise UsageError(f"expected 1 or more, got {size}", where=f"--dim {name}={size}")
        if name not in known:
            raise UsageError(
                f'the frame has no dimension "{name}"',
                where=f"--dim {name}={size}",
                hint=did_you_mean(name, known),
            )
    return {**known, **given}


def read_heaps(table: Fields, sizes: Mapping[str, int]) -> dict[str, Heap]:
    """The heaps by name."""
    heaps: dict[str, Heap] = {}
    for place, row in numbered(table, "heap"):
        fields = Fields(row, place, ("name", "bytes", "copies"), sizes)
        name = fields.name()
        if name in heaps:
            fields.fail("name", f'there are two heaps "{name}"')
        copies = fields.count("copies", 1, least=1, most=MOST_COPIES)
        heaps[name] = Heap(name, fields.size("bytes", least=1), copies)
    return heaps


def read_resources(
    table: Fields, sizes: Mapping[str, int], heaps: Mapping[str, Heap]
) -> dict[str, Resource]:
    """The textures, buffers and tensors by name."""
    found: dict[str, Resource] = {}
    for kind in ("texture", "buffer", "tensor"):
        for place, row in numbered(table, kind):
            fields = Fields(row, place, KEYS[kind], sizes)
            resource = read_resource(fields, kind, heaps, found)
            if resource.name in found or resource.name in heaps:
                fields.fail("name", f'there is another "{resource.name}"')
            found[resource.name] = resource
    return found


def numbered(table: Fields, key: str) -> Iterable[tuple[str, object]]:
    """The tables of an array, with what an error calls them."""
    for number, row in enumerate(table.tables(key), 1):
        name = row.get("name") if isinstance(row, dict) else None
        shown = f'"{name}"' if isinstance(name, str) and name else f"number {number}"
        yield f"{table.place}: [[{key}]] {shown}", row


def read_resource(
    fields: Fields, kind: str, heaps: Mapping[str, Heap], known: Mapping[str, Resource]
) -> Resource:
    """One resource."""
    heap, buffer, copies = read_owner(fields, heaps, known)
    usage = frozenset(fields.words("usage", USAGES[kind])) if "usage" in fields else None
    storage = fields.choice("storage", ("shared", "private")) if "storage" in fields else None
    if heap is not None and "bytes" not in fields:
        fields.fail("heap", "what is placed in a heap needs its bytes", "give the key bytes")
    return Resource(
        name=fields.name(),
        kind=kind,  # type: ignore[arg-type]  # a key of KEYS
        usage=usage,
        copies=copies,
        storage=storage,
        bytes=fields.size("bytes"),
        heap=heap,
        heap_offset=fields.size("heap_offset") or 0,
        buffer=buffer,
        offset=fields.size("offset") or 0,
        **read_shape(fields),
        written_elsewhere=fields.flag("written_elsewhere"),
        read_elsewhere=fields.flag("read_elsewhere"),
        drawable=fields.flag("drawable"),
    )


def read_owner(
    fields: Fields, heaps: Mapping[str, Heap], known: Mapping[str, Resource]
) -> tuple[str | None, str | None, int]:
    """The heap or buffer that a resource lives in, and how many copies there are."""
    heap, buffer = fields.text("heap"), fields.text("buffer")
    if heap is not None and heap not in heaps:
        fields.fail("heap", f'there is no heap "{heap}"', did_you_mean(heap, heaps))
    buffers = [name for name, item in known.items() if item.kind == "buffer"]
    if buffer is not None and buffer not in buffers:
        fields.fail("buffer", f'there is no buffer "{buffer}"', did_you_mean(buffer, buffers))
    for key, owner, what in (("heap_offset", heap, "heap"), ("offset", buffer, "buffer")):
        if key in fields and owner is None:
            fields.fail(key, f"an offset needs a {what}", f"name it with the key {what}")
    if heap is None and buffer is None:
        return None, None, fields.count("copies", 1, least=1, most=MOST_COPIES)
    if "copies" in fields:
        owner = f'heap "{heap}"' if heap is not None else f'buffer "{buffer}"'
        fields.fail("copies", "it has the copies of what it lives in", f"give them to the {owner}")
    return heap, buffer, heaps[heap].copies if heap is not None else known[buffer or ""].copies


def read_shape(fields: Fields) -> dict[str, Any]:  # Any: arguments of Resource
    """Element type, dimensions and strides of a tensor, as far as they are told."""
    if "shape" in fields and "dimensions" in fields:
        fields.fail("dimensions", "shape and dimensions say the same, in opposite order; keep one")
    dtype = fields.choice("dtype", DATA_TYPES) if "dtype" in fields else None
    shape = fields.size_list("shape")
    dimensions = fields.size_list("dimensions") if shape is None else shape[::-1]
    return {"dtype": dtype, "dimensions": dimensions, "strides": fields.size_list("strides")}
