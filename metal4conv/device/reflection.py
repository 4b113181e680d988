"""Reading and writing `reflection.fb`: the functions of a Metal package, their tensors and types.

The file is a FlatBuffer without a published schema. The one used here was worked out from files
that Apple's tools wrote: root {0: int32 version, 1: string kind, 2: [Function]}; Function
{0: string name, 1: [Tensor] inputs, 2: [Tensor] outputs}; Tensor {0: string name, 1: [int32] shape,
2: a vector that was always empty, 3: int32 rank, 4: uint32 MPSDataType}. Every field takes 4 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from metal4conv.errors import DamagedFile

VERSION = 1
KIND = "mpsgraph"

MPS_DATA_TYPES = {
    "float32": 0x10000020,
    "float16": 0x10000010,
    "bfloat16": 0x80000010,
    "int8": 0x20000008,
    "uint8": 0x00000008,
    "int16": 0x20000010,
    "uint16": 0x00000010,
    "int32": 0x20000020,
    "uint32": 0x00000020,
}
"""`MPSDataType` of `MPSCoreTypes.h`, for the element types that a tensor can have."""

MOST_ITEMS = 1 << 20
"""Functions, tensors, sizes and characters: where offsets meet, a file gives more than it holds."""


@dataclass(frozen=True)
class ReflectedTensor:
    """An input or output; `shape` is outermost first, -1 where a size is dynamic."""

    name: str
    shape: tuple[int, ...]
    mps_data_type: int


@dataclass(frozen=True)
class ReflectedFunction:
    """A function of a package; `main` in all that were seen."""

    name: str
    inputs: tuple[ReflectedTensor, ...]
    outputs: tuple[ReflectedTensor, ...]


def read_reflection(data: bytes) -> tuple[ReflectedFunction, ...]:
    """The functions of a `reflection.fb`; `DamagedFile` with the place when it is not one."""
    return ReflectionReader(data).functions()


class ReflectionReader:
    """Reads tables whose every offset may be wrong; `place` says which part is being read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.items = 0

    def functions(self) -> tuple[ReflectedFunction, ...]:
        root = self.target(0, "the root")
        version = self.int32(root, 0, "the version")
        kind = self.text(root, 1, "the kind")
        if (version, kind) != (VERSION, KIND):
            raise DamagedFile(
                f'the reflection has version {version} and kind "{kind[:40]}", '
                f'expected version {VERSION} and kind "{KIND}"'
            )
        return tuple(
            self.function(table, f"function {number}")
            for number, table in enumerate(self.tables(root, 2, "the functions"))
        )

    def function(self, table: int, place: str) -> ReflectedFunction:
        return ReflectedFunction(
            self.text(table, 0, f"the name of {place}"),
            self.tensors(table, 1, f"of {place}", "input"),
            self.tensors(table, 2, f"of {place}", "output"),
        )

    def tensors(self, table: int, field: int, of: str, role: str) -> tuple[ReflectedTensor, ...]:
        return tuple(
            self.tensor(item, f"{role} {number} {of}")
            for number, item in enumerate(self.tables(table, field, f"the {role}s {of}"))
        )

    def tensor(self, table: int, place: str) -> ReflectedTensor:
        name = self.text(table, 0, f"the name of {place}")
        start, count = self.vector(table, 1, f"the shape of {place}")
        shape = struct.unpack_from(f"<{count}i", self.data, start)
        rank = self.int32(table, 3, f"the rank of {place}")
        if rank != count or any(size < -1 for size in shape):
            raise DamagedFile(f"{place} has the shape {shape[:20]} and the rank {rank}")
        data_type = self.int32(table, 4, f"the data type of {place}") & 0xFFFFFFFF
        return ReflectedTensor(name, shape, data_type)

    def tables(self, table: int, field: int, place: str) -> list[int]:
        """Where the tables of a vector are."""
        start, count = self.vector(table, field, place)
        return [self.target(start + 4 * number, place) for number in range(count)]

    def text(self, table: int, field: int, place: str) -> str:
        """A string; empty where the field is missing."""
        start, length = self.vector(table, field, place, item_bytes=1)
        try:
            return self.data[start : start + length].decode("utf-8")
        except UnicodeDecodeError:
            raise DamagedFile(f"{place} is no UTF-8 text, at byte {start}") from None

    def vector(self, table: int, field: int, place: str, item_bytes: int = 4) -> tuple[int, int]:
        """Where the items of a vector start, and how many there are; 0 without the field."""
        at = self.field(table, field, place)
        if at is None:
            return 0, 0
        start = self.target(at, place)
        count = self.number("<I", start, place)
        self.check(start + 4, count * item_bytes, place)
        self.items += count
        if self.items > MOST_ITEMS:
            raise DamagedFile(f"the reflection has more than {MOST_ITEMS} items, at {place}")
        return start + 4, count

    def int32(self, table: int, field: int, place: str) -> int:
        """A number; FlatBuffers leave out a field that is 0."""
        at = self.field(table, field, place)
        return 0 if at is None else self.number("<i", at, place)

    def field(self, table: int, field: int, place: str) -> int | None:
        """Where a field of a table is, None where the table does not have it."""
        fields = table - self.number("<i", table, place)
        entry = 4 + 2 * field
        if entry + 2 > self.number("<H", fields, place):
            return None
        offset = self.number("<H", fields + entry, place)
        return table + offset if offset else None

    def target(self, at: int, place: str) -> int:
        """Where an offset leads; it counts from its own place."""
        return at + self.number("<I", at, place)

    def number(self, form: str, at: int, place: str) -> int:
        """A number of the given `struct` form."""
        self.check(at, struct.calcsize(form), place)
        return int(struct.unpack_from(form, self.data, at)[0])

    def check(self, at: int, size: int, place: str) -> None:
        """`DamagedFile` when `size` bytes from `at` on are not all in the file."""
        if at < 0 or at + size > len(self.data):
            raise DamagedFile(
                f"the reflection ends before {place}: {size} bytes at {at}, "
                f"the file has {len(self.data)}"
            )


def write_reflection(functions: Sequence[ReflectedFunction]) -> bytes:
    """A `reflection.fb` with these functions; the same bytes for the same functions.

    >>> x = ReflectedTensor("x", (1, -1), MPS_DATA_TYPES["float16"])
    >>> main = ReflectedFunction("main", (x,), ())
    >>> read_reflection(write_reflection([main])) == (main,)
    True
    """
    data = bytearray(4)
    root = append_table(data, 0, (VERSION, 0, 0))
    append_text(data, root[1], KIND)
    places = append_vector(data, root[2], [0] * len(functions))
    for at, function in zip(places, functions, strict=True):
        append_function(data, at, function)
    align(data)
    return bytes(data)


def append_function(data: bytearray, at: int, function: ReflectedFunction) -> None:
    """Appends a function, to which the offset at `at` leads then."""
    name, inputs, outputs = append_table(data, at, (0, 0, 0))
    append_text(data, name, function.name)
    for field, tensors in ((inputs, function.inputs), (outputs, function.outputs)):
        places = append_vector(data, field, [0] * len(tensors))
        for place, tensor in zip(places, tensors, strict=True):
            append_tensor(data, place, tensor)


def append_tensor(data: bytearray, at: int, tensor: ReflectedTensor) -> None:
    """Appends a tensor, to which the offset at `at` leads then."""
    rank, data_type = len(tensor.shape), tensor.mps_data_type
    name, shape, empty, _, _ = append_table(data, at, (0, 0, 0, rank, data_type))
    append_text(data, name, tensor.name)
    append_vector(data, shape, tensor.shape)
    append_vector(data, empty, ())


def append_table(data: bytearray, at: int, values: Sequence[int]) -> list[int]:
    """Appends a table of 4-byte fields, to which the offset at `at` leads; where its fields are.

    The offsets of the fields stand before it: their own size, the table's, one for each field.
    """
    align(data)
    size = 4 + 4 * len(values)
    offsets = struct.pack(f"<{len(values)}H", *range(4, size, 4))
    fields = len(data)
    data += struct.pack("<HH", 4 + len(offsets), size) + offsets
    align(data)
    table = len(data)
    lead(data, at, table)
    data += struct.pack("<i", table - fields)
    data += b"".join(struct.pack("<I", value & 0xFFFFFFFF) for value in values)
    return list(range(table + 4, table + size, 4))


def append_vector(data: bytearray, at: int, values: Sequence[int]) -> list[int]:
    """Appends a vector of 4-byte items, to which the offset at `at` leads; where its items are."""
    align(data)
    start = len(data)
    lead(data, at, start)
    data += struct.pack("<I", len(values))
    data += b"".join(struct.pack("<I", value & 0xFFFFFFFF) for value in values)
    return list(range(start + 4, len(data), 4))


def append_text(data: bytearray, at: int, text: str) -> None:
    """Appends a string, to which the offset at `at` leads then; a null byte ends it."""
    align(data)
    lead(data, at, len(data))
    encoded = text.encode("utf-8")
    data += struct.pack("<I", len(encoded)) + encoded + b"\0"


def lead(data: bytearray, at: int, target: int) -> None:
    """Makes the offset at `at` lead to `target`."""
    struct.pack_into("<I", data, at, target - at)


def align(data: bytearray) -> None:
    """Fills up to a multiple of 4 bytes, as every number in the file needs it."""
    data += bytes(-len(data) % 4)
