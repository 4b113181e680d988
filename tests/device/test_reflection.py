from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metal4conv.device.reflection import (
    MOST_ITEMS,
    MPS_DATA_TYPES,
    ReflectedFunction,
    ReflectedTensor,
    append_table,
    append_text,
    append_vector,
    read_reflection,
    write_reflection,
)
from metal4conv.errors import DamagedFile
from metal4conv.layout.rules import DATA_TYPES

F16 = MPS_DATA_TYPES["float16"]
MAIN = ReflectedFunction(
    "main",
    (ReflectedTensor("color", (1, 3, -1, -1), F16), ReflectedTensor("größe", (), F16)),
    (ReflectedTensor("y", (1, 12), MPS_DATA_TYPES["bfloat16"]),),
)
OTHER = ReflectedFunction("other", (), ())

tensors = st.builds(
    ReflectedTensor,
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.lists(st.integers(-1, 2**31 - 1), max_size=6).map(tuple),
    st.sampled_from(list(MPS_DATA_TYPES.values())),
)
lists = st.lists(tensors, max_size=3).map(tuple)
functions = st.lists(
    st.builds(ReflectedFunction, st.text(st.characters(codec="utf-8"), max_size=8), lists, lists),
    max_size=3,
).map(tuple)


def test_each_type_of_a_tensor_has_one_of_mps() -> None:
    assert MPS_DATA_TYPES.keys() == DATA_TYPES.keys()
    for name, value in MPS_DATA_TYPES.items():
        assert value & 0xFFFF == 8 * DATA_TYPES[name].bytes


@given(functions)
def test_what_is_written_is_read(written: tuple[ReflectedFunction, ...]) -> None:
    assert read_reflection(write_reflection(written)) == written


@given(functions)
def test_another_reader_finds_the_same(written: tuple[ReflectedFunction, ...]) -> None:
    """Google's FlatBuffers runtime, which knows nothing of our reader, walks what we write."""
    oracle = pytest.importorskip("flatbuffers.table", reason="the flatbuffers package is missing")
    table = oracle.Table
    from flatbuffers import number_types as kinds

    data = write_reflection(written)

    def tables(parent, field):
        vector = parent.Offset(4 + 2 * field)
        start, count = parent.Vector(vector), parent.VectorLen(vector)
        assert start % 4 == 0
        return [table(data, parent.Indirect(start + 4 * number)) for number in range(count)]

    def text(parent, field):
        return parent.String(parent.Offset(4 + 2 * field) + parent.Pos).decode()

    def number(parent, field, kind):
        return parent.GetSlot(4 + 2 * field, 0, kind)

    def tensor(item):
        assert item.VectorLen(item.Offset(8)) == 0
        start, rank = item.Vector(item.Offset(6)), item.VectorLen(item.Offset(6))
        assert number(item, 3, kinds.Int32Flags) == rank
        shape = [item.Get(kinds.Int32Flags, start + 4 * place) for place in range(rank)]
        return ReflectedTensor(text(item, 0), tuple(shape), number(item, 4, kinds.Uint32Flags))

    from flatbuffers import encode, packer

    root = table(data, encode.Get(packer.uoffset, data, 0))
    assert root.Pos % 4 == 0
    assert number(root, 0, kinds.Int32Flags) == 1
    assert text(root, 1) == "mpsgraph"
    found = tuple(
        ReflectedFunction(
            text(item, 0), tuple(map(tensor, tables(item, 1))), tuple(map(tensor, tables(item, 2)))
        )
        for item in tables(root, 2)
    )
    assert found == written


def test_a_file_of_the_standard_builder_is_read() -> None:
    """The layout of other writers differs: back to front, shared vtables, defaults left out."""
    flatbuffers = pytest.importorskip("flatbuffers", reason="the flatbuffers package is missing")
    build = flatbuffers.Builder()

    def offsets(items):
        build.StartVector(4, len(items), 4)
        for item in reversed(items):
            build.PrependUOffsetTRelative(item)
        return build.EndVector()

    def tensor(name, shape, data_type):
        text = build.CreateString(name)
        build.StartVector(4, len(shape), 4)
        for size in reversed(shape):
            build.PrependInt32(size)
        sizes = build.EndVector()
        build.StartObject(5)
        build.PrependUOffsetTRelativeSlot(0, text, 0)
        build.PrependUOffsetTRelativeSlot(1, sizes, 0)
        build.PrependInt32Slot(3, len(shape), 0)
        build.PrependUint32Slot(4, data_type, 0)
        return build.EndObject()

    inputs = offsets([tensor("color", [1, 3, -1, -1], F16), tensor("größe", [], F16)])
    outputs = offsets([tensor("y", [1, 12], MPS_DATA_TYPES["bfloat16"])])
    name, kind = build.CreateString("main"), build.CreateString("mpsgraph")
    build.StartObject(3)
    build.PrependUOffsetTRelativeSlot(0, name, 0)
    build.PrependUOffsetTRelativeSlot(1, inputs, 0)
    build.PrependUOffsetTRelativeSlot(2, outputs, 0)
    items = offsets([build.EndObject()])
    build.StartObject(3)
    build.PrependInt32Slot(0, 1, 0)
    build.PrependUOffsetTRelativeSlot(1, kind, 0)
    build.PrependUOffsetTRelativeSlot(2, items, 0)
    build.Finish(build.EndObject())
    assert read_reflection(bytes(build.Output())) == (MAIN,)


@pytest.mark.parametrize("length", range(0, 300, 7))
def test_a_truncated_file_is_damaged(length: int) -> None:
    data = write_reflection([MAIN])
    assert len(data) > 300
    with pytest.raises(DamagedFile, match=r"the reflection ends before|has version 0"):
        read_reflection(data[:length])


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_damaged(data: bytes) -> None:
    read_or_damaged(data)


@given(st.data())
def test_changed_bytes_are_read_or_damaged(data: st.DataObject) -> None:
    """A number anywhere in the file, small, at a limit, or any."""
    changed = bytearray(write_reflection([MAIN, OTHER]))
    values = st.one_of(
        st.integers(0, 600),
        st.sampled_from([0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFC]),
        st.integers(0, 2**32 - 1),
    )
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) // 2 - 2)) * 2
        struct.pack_into("<I", changed, at, data.draw(values))
    read_or_damaged(bytes(changed))


def read_or_damaged(data: bytes) -> None:
    try:
        found = read_reflection(data)
    except DamagedFile:
        return
    assert read_reflection(write_reflection(found)) == found


def test_offsets_that_meet_do_not_multiply() -> None:
    """20,000 functions that share 20,000 inputs, in 160 KB, are not 400 million tensors."""
    data = bytearray(4)
    root = append_table(data, 0, (1, 0, 0))
    append_text(data, root[1], "mpsgraph")
    items = append_vector(data, root[2], [0] * 20_000)
    function = append_table(data, items[0], (0, 0, 0))
    shared = items[0] + struct.unpack_from("<I", data, items[0])[0]
    for at in items:
        struct.pack_into("<I", data, at, shared - at)
    append_text(data, function[0], "main")
    inputs = append_vector(data, function[1], [0] * 20_000)
    append_vector(data, function[2], [])
    tensor = len(data) + 16
    append_table(data, inputs[0], (0, 0, 0, 0, F16))
    append_text(data, tensor + 4, "x")
    append_vector(data, tensor + 8, [])
    append_vector(data, tensor + 12, [])
    for at in inputs:
        struct.pack_into("<I", data, at, tensor - at)
    started = time.monotonic()
    with pytest.raises(DamagedFile, match=f"more than {MOST_ITEMS} items"):
        read_reflection(bytes(data))
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        (0, 2, 'version 2 and kind "mpsgraph", expected version 1'),
        (1, None, 'kind "mpsgrap?"'),
    ],
)
def test_another_version_is_not_read(field: int, value: int | None, message: str) -> None:
    data = bytearray(write_reflection([MAIN]))
    if value is not None:
        root = struct.unpack_from("<I", data, 0)[0]
        struct.pack_into("<i", data, root + 4 + 4 * field, value)
    else:
        data = data.replace(b"mpsgraph", b"mpsgrap?")
    with pytest.raises(DamagedFile) as caught:
        read_reflection(bytes(data))
    assert message in caught.value.message


def test_a_shape_that_contradicts_its_rank_is_damaged() -> None:
    data = write_reflection([ReflectedFunction("main", (ReflectedTensor("x", (7, 9), F16),), ())])
    changed = data.replace(struct.pack("<iI", 2, F16), struct.pack("<iI", 3, F16))
    assert changed != data
    with pytest.raises(DamagedFile, match=r"input 0 of function 0 has the shape \(7, 9\)"):
        read_reflection(changed)


def test_a_name_that_is_no_text_is_damaged() -> None:
    data = write_reflection([MAIN]).replace(b"color", b"c\xff\xfeor")
    with pytest.raises(DamagedFile, match="the name of input 0 of function 0 is no UTF-8 text"):
        read_reflection(data)


def test_the_same_functions_give_the_same_bytes() -> None:
    assert write_reflection([MAIN, OTHER]) == write_reflection([MAIN, OTHER])
