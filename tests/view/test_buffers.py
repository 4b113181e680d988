"""Raw buffers: rows lose their padding, and sizes that do not fit are explained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from metal4conv.device.emulator import open_api
from metal4conv.device.protocol import TensorPlan
from metal4conv.device.tensors import fill, make_tensor
from metal4conv.errors import DamagedFile, Metal4ConvError, UsageError
from metal4conv.layout.rules import buffer_strides
from metal4conv.mil.program import Dimension
from metal4conv.view.buffers import BufferOptions, parse_shape, read_buffer, read_manifest
from metal4conv.view.pictures import picture_of
from tests.layout.manifests import manifest_with

HEIGHT, WIDTH = 50, 30
PICTURE = (
    np.random.default_rng(0).integers(0, 256, (1, 3, HEIGHT, WIDTH)).astype(np.float16) / 255
).astype(np.float16)
ROWS = 3 * HEIGHT
ROW_BYTES, PADDED_BYTES = 2 * WIDTH, 64


def padded(array: np.ndarray, row_bytes: int = PADDED_BYTES, fill: int = 0xAB) -> bytes:
    """What a tensor in a buffer looks like: each row of the innermost dimension padded."""
    rows = np.ascontiguousarray(array).reshape(-1, array.shape[-1]).view(np.uint8)
    whole = np.full((len(rows), row_bytes), fill, np.uint8)
    whole[:, : rows.shape[1]] = rows
    return whole.tobytes()


@pytest.fixture
def buffer(tmp_path: Path) -> Path:
    """The picture in a buffer, as Metal has it."""
    path = tmp_path / "color.bin"
    path.write_bytes(padded(PICTURE))
    return path


@pytest.fixture
def layout(tmp_path: Path) -> str:
    """A manifest of several tensors."""
    manifest = manifest_with(
        [
            ("color", "input", "float16", (1, 3, "h", "w")),
            ("ids", "input", "int64", (4,)),
            ("bias", "input", "bfloat16", (5,)),
            ("out", "output", "float16", (1, 3, "2*h", "2*w")),
        ],
        {"h": Dimension(16, 64, 16), "w": Dimension(16, 64, 32, step=2)},
    )
    path = tmp_path / "net.layout.json"
    path.write_text(json.dumps(manifest.to_json()), "utf-8")
    return str(path)


def sized(layout: str, **options: object) -> BufferOptions:
    """Options with the manifest and the picture's size."""
    return BufferOptions(layout=layout, dims=("h=50", "w=30"), **options)  # type: ignore[arg-type]


def test_padding_is_undone_with_the_manifest(buffer: Path, layout: str) -> None:
    contents = read_buffer(buffer, sized(layout), "color")
    entry = contents.entries[0]
    assert (entry.name, entry.dtype, entry.shape) == ("color", "float16", PICTURE.shape)
    assert entry.values().tobytes() == PICTURE.tobytes()
    assert contents.findings == ()
    pixels, expected = picture_of(entry.values()), picture_of(PICTURE)
    assert pixels is not None
    assert expected is not None
    assert pixels.tobytes() == expected.tobytes()


def test_without_the_manifest_the_picture_is_sheared(buffer: Path) -> None:
    contents = read_buffer(buffer, BufferOptions(shape="1x3x50x30", dtype="float16"), None)
    found = contents.entries[0].values()
    sheared = np.frombuffer(padded(PICTURE), np.float16)[: PICTURE.size].reshape(PICTURE.shape)
    assert found.tobytes() == sheared.tobytes()
    assert found.tobytes() != PICTURE.tobytes()
    # each row begins two elements of padding later than the one above
    np.testing.assert_array_equal(found[0, 0, 1, 2:], PICTURE[0, 0, 1, :-2])
    (finding,) = contents.findings
    assert "has 9600 bytes, of which 9000 are shown: 150 rows of 60 bytes" in finding.message
    assert finding.hint == "this looks like rows of 64 bytes: pass --row-stride 64"


def test_the_hint_is_right(buffer: Path) -> None:
    options = BufferOptions(shape="1x3x50x30", dtype="float16", row_stride=64)
    contents = read_buffer(buffer, options, None)
    assert contents.entries[0].values().tobytes() == PICTURE.tobytes()
    assert contents.findings == ()


def test_metal_has_the_dimensions_the_other_way_round(buffer: Path, layout: str) -> None:
    metal = read_buffer(buffer, sized(layout), "color").entries[0].metal
    assert metal is not None
    assert metal.dimensions == (30, 50, 3, 1)
    assert metal.strides == buffer_strides((30, 50, 3, 1), 2) == (1, 32, 1600, 4800)
    assert (metal.row_bytes, metal.offset, metal.byte_length) == (64, 0, 9600)
    options = BufferOptions(shape="30x50x3x1", dtype="float16", row_stride=64, innermost_first=True)
    assert read_buffer(buffer, options, None).entries[0].values().tobytes() == PICTURE.tobytes()


def test_what_the_emulated_gpu_has_in_a_buffer(tmp_path: Path, layout: str) -> None:
    manifest = read_manifest(Path(layout)).at({"h": 50, "w": 30})
    color = manifest.tensors[0]
    assert color.data_type is not None
    assert color.buffer is not None
    plan = TensorPlan(
        *("color", "input", 0, color.data_type.raw),
        dimensions=tuple(map(int, color.dimensions)),
        strides=tuple(map(int, color.buffer.strides)),
        byte_length=int(color.buffer.byte_length),
        is_dynamic=True,
    )
    api = open_api()
    api.register()
    made = make_tensor(api, api.metal.MTLCreateSystemDefaultDevice(), plan, "buffer")
    fill(api, made, PICTURE)
    path = tmp_path / "dump.bin"
    path.write_bytes(made.buffer.data.tobytes())
    contents = read_buffer(path, sized(layout), "color")
    assert contents.findings == ()
    assert contents.entries[0].values().tobytes() == PICTURE.tobytes()


def test_output_of_another_size(tmp_path: Path, layout: str) -> None:
    array = np.arange(3 * 100 * 60, dtype=np.float16).reshape(1, 3, 100, 60)
    path = tmp_path / "out.bin"
    path.write_bytes(padded(array, 128))
    entry = read_buffer(path, sized(layout), "case0/output/out").entries[0]
    assert entry.name == "out"
    assert entry.values().tobytes() == array.tobytes()


def test_offset(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "heap.bin"
    path.write_bytes(b"\xcd" * 256 + padded(PICTURE))
    entry = read_buffer(path, sized(layout, offset=256), "color").entries[0]
    assert entry.values().tobytes() == PICTURE.tobytes()
    path.write_bytes(b"\xcd" * 256 + padded(PICTURE)[:-100])
    with pytest.raises(DamagedFile, match="takes 9856 at --offset 256"):
        read_buffer(path, sized(layout, offset=256), "color")


def test_last_padding_may_be_missing(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "color.bin"
    path.write_bytes(padded(PICTURE)[:-4])
    assert read_buffer(path, sized(layout), "color").entries[0].values().tobytes() == (
        PICTURE.tobytes()
    )
    path.write_bytes(padded(PICTURE)[:-5])
    with pytest.raises(DamagedFile, match="has 9595 bytes"):
        read_buffer(path, sized(layout), "color")


def test_truncated(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "color.bin"
    path.write_bytes(padded(PICTURE)[:5000])
    with pytest.raises(DamagedFile) as error:
        read_buffer(path, sized(layout), "color")
    assert (
        'has 5000 bytes; tensor "color" of float16, shape (1, 3, 50, 30), takes 9600: '
        "150 rows of 64 bytes (30 elements of 2 bytes are 60, 4 are padding)"
    ) in error.value.message
    assert error.value.hint == "the buffer is truncated, or of another size"


def test_tight_rows_are_recognized(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "color.bin"
    path.write_bytes(PICTURE.tobytes())
    with pytest.raises(DamagedFile) as error:
        read_buffer(path, sized(layout), "color")
    assert error.value.hint == ("this looks like tight rows, without padding: pass --row-stride 60")
    entry = read_buffer(path, sized(layout, row_stride=60), "color").entries[0]
    assert entry.values().tobytes() == PICTURE.tobytes()


@pytest.mark.parametrize(
    ("dtype", "size", "hint"),
    [
        ("float32", 9000, "that many elements of int16 or uint16 or float16 or bfloat16 fit"),
        ("float32", 4500, "elements of bool or int8 or uint8 or float8_e4m3fn or float8_e5m2 fit"),
        ("float16", 4, "the buffer is truncated, or of another size"),
    ],
)
def test_another_type_is_recognized(tmp_path: Path, dtype: str, size: int, hint: str) -> None:
    path = tmp_path / "color.bin"
    path.write_bytes(bytes(size))
    with pytest.raises(DamagedFile) as error:
        read_buffer(path, BufferOptions(shape="3x50x30", dtype=dtype), None)
    assert hint in str(error.value.hint)


def test_lines_of_a_texture_are_recognized(tmp_path: Path) -> None:
    texture = np.random.default_rng(1).integers(0, 256, (7, 5, 4)).astype(np.uint8)
    path = tmp_path / "texture.bin"
    path.write_bytes(padded(texture.reshape(7, 20), 32))
    contents = read_buffer(path, BufferOptions(shape="7x5x4", dtype="uint8"), None)
    assert contents.findings[0].hint == "this looks like lines of 32 bytes: pass --strides 32,4,1"
    options = BufferOptions(shape="7x5x4", dtype="uint8", strides="32,4,1")
    contents = read_buffer(path, options, None)
    assert contents.entries[0].values().tobytes() == texture.tobytes()
    assert contents.findings == ()
    reverse = BufferOptions(shape="4x5x7", dtype="uint8", strides="1,4,32", innermost_first=True)
    assert read_buffer(path, reverse, None).entries[0].values().tobytes() == texture.tobytes()


def test_rounding_up_needs_no_warning(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "bias.bin"
    path.write_bytes(np.array([0x3F80] * 5, np.uint16).tobytes() + bytes(118))
    contents = read_buffer(path, BufferOptions(layout=layout, dims=("h=16", "w=16")), "bias")
    assert contents.findings == ()
    assert contents.entries[0].values().tolist() == [1.0] * 5
    path.write_bytes(bytes(1000))
    contents = read_buffer(path, BufferOptions(layout=layout, dims=("h=16", "w=16")), "bias")
    assert "has 1000 bytes, of which 10 are shown" in contents.findings[0].message


def test_fixed_sizes_need_no_dimension(tmp_path: Path, layout: str) -> None:
    path = tmp_path / "bias.bin"
    path.write_bytes(bytes(10))
    assert read_buffer(path, BufferOptions(layout=layout), "bias").entries[0].shape == (5,)


@pytest.mark.parametrize("shape", ["0x3", "3x0", "0"])
def test_no_elements(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "empty.bin"
    path.write_bytes(b"")
    entry = read_buffer(path, BufferOptions(shape=shape, dtype="float32"), None).entries[0]
    assert entry.values().size == 0


def test_shapes() -> None:
    assert parse_shape("3x4") == parse_shape("3,4") == parse_shape("(3, 4)") == (3, 4)
    assert parse_shape("4 × 3", innermost_first=True) == (3, 4)


WRONG: dict[str, tuple[dict[str, object], str | None, str]] = {
    "no_options": ({}, None, "so it is a raw buffer"),
    "no_dtype": ({"shape": "3x4"}, None, "--shape needs the type"),
    "bad_shape": ({"shape": "3xhxw", "dtype": "float16"}, None, 'shape "3xhxw" cannot be read'),
    "negative": ({"shape": "3x-4", "dtype": "float16"}, None, "cannot be read"),
    "bad_dtype": ({"shape": "3", "dtype": "half"}, None, 'no element type "half"'),
    "short_row": (
        {"shape": "3x50x30", "dtype": "float16", "row_stride": 59},
        None,
        "a row of 30 elements takes 60 bytes, more than 59",
    ),
    "few_strides": (
        {"shape": "3x4", "dtype": "int8", "strides": "4"},
        None,
        'strides "4" cannot be read',
    ),
    "both_strides": (
        {"shape": "3x4", "dtype": "int8", "strides": "4,1", "row_stride": 4},
        None,
        "--strides says it, too",
    ),
    "dim_without_layout": (
        {"shape": "3", "dtype": "int8", "dims": ("h=3",)},
        None,
        "--dim gives sizes to the dimensions of --layout",
    ),
    "no_tensor": ({"layout": True}, None, "which tensor of"),
    "wrong_tensor": ({"layout": True}, "colour", 'has no tensor "colour"'),
    "no_metal_type": ({"layout": True}, "ids", "Metal has no tensor of it"),
    "no_size": ({"layout": True}, "color", "h and w of .* have no number"),
    "one_size": ({"layout": True, "dims": ("h=16",)}, "color", "and w of .* has no number"),
    "wrong_dim": ({"layout": True, "dims": ("x=16",)}, "color", 'no dynamic dimension "x"'),
    "bad_dim": ({"layout": True, "dims": ("h=a",)}, "color", 'dimension "h=a" cannot be read'),
    "size_not_allowed": (
        {"layout": True, "dims": ("h=16", "w=17")},
        "color",
        "dimension w cannot be 17, allowed is 16 to 64 in steps of 2",
    ),
    "layout_and_shape": ({"layout": True, "shape": "3"}, "color", "--shape is given"),
    "layout_and_strides": ({"layout": True, "strides": "3"}, "color", "--strides is given"),
    "layout_and_dtype": ({"layout": True, "dtype": "int8"}, "color", "--dtype is given"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_options(name: str, buffer: Path, layout: str) -> None:
    options, tensor, message = WRONG[name]
    given = {**options, "layout": layout} if "layout" in options else options
    with pytest.raises(UsageError, match=message):
        read_buffer(buffer, BufferOptions(**given), tensor)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": "metal4conv.layout/1"}', "[" * 9999])
def test_damaged_manifest(text: str, buffer: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.layout.json"
    path.write_text(text, "utf-8")
    with pytest.raises(DamagedFile, match=r"bad\.layout\.json"):
        read_buffer(buffer, BufferOptions(layout=str(path)), "color")


def test_missing_files(buffer: Path, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.json")
    with pytest.raises(Metal4ConvError, match="no such file"):
        read_buffer(buffer, BufferOptions(layout=missing), "color")
