"""Files of arrays: each format, each type, and files that are damaged or hostile."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from metal4conv.errors import DamagedFile, Metal4ConvError, UntrustedFile, UsageError
from metal4conv.execute.tracing import Seen, Trace, write_npz
from metal4conv.mil.program import Operation
from metal4conv.view.buffers import BufferOptions
from metal4conv.view.contents import Contents
from metal4conv.view.numpy_files import read_npy, read_npz
from metal4conv.view.opening import open_contents
from metal4conv.view.safetensors_file import read_safetensors
from metal4conv.view.statistics import statistics
from metal4conv.view.traces import read_trace

DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64"),
)


def sample(dtype: str) -> np.ndarray:
    """An array of 2 × 3 × 4 elements of a type."""
    return (np.arange(24).reshape(2, 3, 4) % 7).astype(dtype)


def is_mapped(array: np.ndarray) -> bool:
    """Whether an array's elements are those of a mapped file."""
    base: object = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    return isinstance(base, np.memmap)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_npy(dtype: str, order: str, tmp_path: Path) -> None:
    array = np.asarray(sample(dtype), order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "x.npy", array)
    contents = read_npy(tmp_path / "x.npy")
    (entry,) = contents.entries
    assert (entry.name, entry.dtype, entry.shape) == ("", dtype, (2, 3, 4))
    assert not contents.named
    assert is_mapped(entry.values())
    np.testing.assert_array_equal(entry.values(), array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed, write_npz])
def test_npz(save: Callable[..., None], tmp_path: Path) -> None:
    arrays = {dtype: sample(dtype) for dtype in DTYPES}
    arrays |= {"scalar": np.array(2.5), "empty": np.zeros((0, 3)), "turned": sample("int8").T}
    path = tmp_path / "x.npz"
    save(path, arrays) if save is write_npz else save(path, **arrays)
    contents = read_npz(path)
    assert contents.names == list(arrays)
    for entry in contents.entries:
        np.testing.assert_array_equal(entry.values(), arrays[entry.name])
        assert entry.values().dtype == arrays[entry.name].dtype
        assert is_mapped(entry.values()) == (
            save is not np.savez_compressed and entry.name != "empty"
        )


def test_big_endian(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([1.5, -2], ">f4"))
    (entry,) = read_npy(tmp_path / "x.npy").entries
    assert (entry.dtype, entry.values().tolist()) == ("float32", [1.5, -2])
    assert statistics(entry.stored(), entry.dtype).min == -2


def test_text_and_complex_numbers_have_no_figures(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", labels=np.array(["cat", "dog"]), c=np.array([1 + 2j]))
    labels, numbers = read_npz(tmp_path / "x.npz").entries
    assert (labels.dtype, labels.has_numbers()) == ("text", False)
    assert labels.stored().tolist() == ["cat", "dog"]
    assert (numbers.dtype, numbers.has_numbers()) == ("complex128", False)


def test_bytes_read_as_bfloat16(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.array([0x3F80, 0xC000], np.uint16).view("V2"))
    contents = read_npz(tmp_path / "x.npz")
    assert contents.entries[0].dtype == "void16"
    (entry,) = contents.as_type("bfloat16").entries
    assert (entry.dtype, entry.values().tolist()) == ("bfloat16", [1.0, -2.0])
    with pytest.raises(UsageError, match="2 bytes an element; float32 has 4"):
        contents.as_type("float32")


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_safetensors(dtype: str, tmp_path: Path) -> None:
    made = torch.arange(24).reshape(2, 3, 4).remainder(7).to(getattr(torch, dtype))
    save_file({"b": made, "a": torch.zeros(3)}, tmp_path / "x.safetensors")
    contents = read_safetensors(tmp_path / "x.safetensors")
    entry = contents.find("b")
    assert (entry.dtype, entry.shape) == (dtype, (2, 3, 4))
    assert is_mapped(entry.stored())
    expected = sample("bool" if dtype == "bool" else "float32")
    np.testing.assert_array_equal(entry.values(), expected)


def safetensors_with(path: Path, header: object, data: bytes = b"") -> Path:
    """A file with a header as given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def row(dtype: str, shape: list[int], start: int, end: int) -> dict[str, object]:
    """A tensor of a header."""
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_safetensors_need_no_alignment(tmp_path: Path) -> None:
    data = b"\x01" + np.array([1.5, 2.5], np.float32).tobytes()
    header = {"a": row("I8", [1], 0, 1), "b": row("F32", [2], 1, 9)}
    path = safetensors_with(tmp_path / "x.safetensors", header, data)
    assert read_safetensors(path).find("b").values().tolist() == [1.5, 2.5]


def test_unknown_types_are_listed_and_not_shown(tmp_path: Path) -> None:
    header = {"a": row("F4", [4], 0, 2), "b": row("I8", [2], 2, 4)}
    path = safetensors_with(tmp_path / "x.safetensors", header, b"1234")
    contents = read_safetensors(path)
    assert contents.names == ["a", "b"]
    assert not contents.find("a").has_numbers()
    with pytest.raises(UsageError, match='"a" cannot be shown: the type F4 is not known'):
        contents.find("a").stored()


DAMAGED_SAFETENSORS: dict[str, tuple[object, bytes]] = {
    "truncated": ({"a": row("I32", [4], 0, 16)}, b"x" * 15),
    "wrong_size": ({"a": row("I32", [4], 0, 15)}, b"x" * 16),
    "negative_start": ({"a": row("I8", [4], -4, 0)}, b"x" * 16),
    "negative_shape": ({"a": row("I8", [-2, -2], 0, 4)}, b"x" * 16),
    "no_offsets": ({"a": {"dtype": "I8", "shape": [1]}}, b"x"),
    "no_object": ({"a": 3}, b"x"),
    "list": ([1, 2], b"x"),
    "no_json": (b"{", b"x"),
    "deep": (b"[" * 100_000, b"x"),
    "words": ({"a": {"dtype": "I8", "shape": ["h"], "data_offsets": [0, 1]}}, b"x"),
}


@pytest.mark.parametrize("name", DAMAGED_SAFETENSORS)
def test_damaged_safetensors(name: str, tmp_path: Path) -> None:
    path = safetensors_with(tmp_path / "x.safetensors", *DAMAGED_SAFETENSORS[name])
    with pytest.raises(DamagedFile, match=r"x\.safetensors"):
        read_safetensors(path)


@pytest.mark.parametrize("content", [b"", b"1234", struct.pack("<Q", 1 << 60) + b"{}"])
def test_no_safetensors(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(DamagedFile, match="its header would take"):
        read_safetensors(tmp_path / "x.safetensors")


class Trap:
    """An object that leaves a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    target = tmp_path / "touched"
    array = np.array([Trap(target)], object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    np.savez(tmp_path / "x.npz", good=np.zeros(3), bad=array)
    with pytest.raises(UntrustedFile, match=r"x\.npy holds pickled objects"):
        read_npy(tmp_path / "x.npy")
    with pytest.raises(UntrustedFile, match=r'array "bad" of .* holds pickled objects'):
        read_npz(tmp_path / "x.npz")
    assert not target.exists()


def npy_bytes(header: str, data: bytes = b"") -> bytes:
    """An .npy file with a header as given."""
    text = header.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


DAMAGED_NPY = {
    "empty": b"",
    "text": b"no array",
    "version": b"\x93NUMPY\x09\x00" + bytes(100),
    "truncated_header": npy_bytes("{'descr': '<f4'")[:50],
    "no_header": npy_bytes("{'descr': '<f4', 'shape': (3,)}", b"x" * 12),
    "code": npy_bytes("__import__('os').system('true')"),
    "bad_type": npy_bytes("{'descr': '<q9', 'fortran_order': False, 'shape': (3,)}", b"x" * 99),
    "truncated": npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", b"x" * 11),
    "huge": npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1152921504606846976,)}"),
    "negative": npy_bytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,)}", b"x" * 99),
}


@pytest.mark.parametrize("name", DAMAGED_NPY)
def test_damaged_npy(name: str, tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    path.write_bytes(DAMAGED_NPY[name])
    with pytest.raises(DamagedFile, match=r"x\.npy"):
        read_npy(path)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("name", DAMAGED_NPY)
def test_damaged_member(name: str, method: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w", method) as archive:
        archive.writestr("a.npy", DAMAGED_NPY[name])
    with pytest.raises(DamagedFile, match=r'array "a" of .*x\.npz'):
        read_npz(tmp_path / "x.npz")


def test_damaged_archives(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez_compressed(path, a=np.random.default_rng(0).random(1000))
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    with pytest.raises(DamagedFile, match=r"no readable \.npz file"):
        read_npz(path)
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes(8) + content[middle + 8 :])
    with pytest.raises(DamagedFile, match=r'array "a" of .* cannot be read'):
        read_npz(path).find("a").values()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(DamagedFile, match="holds no arrays"):
        read_npz(path)


def test_other_members_are_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("readme.txt", "hello")
        archive.writestr(
            "a.npy", npy_bytes("{'descr': '|i1', 'fortran_order': False, 'shape': ()}", b"\x07")
        )
    contents = read_npz(tmp_path / "x.npz")
    assert contents.find("a").values().tolist() == 7
    assert "1 members that are no arrays" in contents.findings[0].message


@pytest.fixture
def trace(tmp_path: Path) -> Contents:
    """A trace with a loop, an operation of two outputs, and a name that comes twice."""
    folder = tmp_path / "trace"
    folder.mkdir()
    one, two = np.full(3, 1.0), np.full((2, 2), 2)
    written = Trace(folder)
    for outputs, place in (
        ({"x": one, "y": two}, ()),
        ({"z": one}, ("loop body 0",)),
        ({"z": two}, ("loop body 1",)),
        ({"w": one}, ()),
        ({"w": np.array([True])}, ()),
    ):
        operation = Operation("split", "split_0", {}, ())
        written.add(Seen(operation, place, outputs, finite_inputs=True))  # type: ignore[arg-type]
    written.finish({"package": "net.mlpackage"})
    return read_trace(folder)


def test_trace(trace: Contents) -> None:
    assert trace.names == ["x", "y", "loop body 0: z", "loop body 1: z", "w #1", "w #2"]
    assert trace.find("y").values().tolist() == [[2, 2], [2, 2]]
    assert (trace.find("w #2").dtype, trace.find("w #2").stored().tolist()) == ("bool", [True])
    assert trace.of_operation("x").names == ["x", "y"]
    assert trace.of_operation("z").names == ["loop body 0: z", "loop body 1: z"]
    with pytest.raises(UsageError, match='no operation "y"'):
        trace.of_operation("y")


BAD_INDEX: dict[str, object] = {
    "other_format": {"format": "other/1", "operations": []},
    "no_operations": {"format": "metal4conv.trace/1"},
    "list": [],
    "outside": {
        "format": "metal4conv.trace/1",
        "operations": [{"operation": "x", "place": [], "file": "../secret.npz", "outputs": []}],
    },
    "no_file": {"format": "metal4conv.trace/1", "operations": [{"operation": "x"}]},
}


@pytest.mark.parametrize("name", BAD_INDEX)
def test_damaged_trace(name: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(json.dumps(BAD_INDEX[name]), "utf-8")
    with pytest.raises(DamagedFile):
        read_trace(tmp_path)


def test_trace_without_its_files(trace: Contents) -> None:
    (trace.path / "00000_x.npz").unlink()
    with pytest.raises(Metal4ConvError, match="no such file"):
        trace.find("x").values()
    write_npz(trace.path / "00001_z.npz", {"z": np.zeros(3, np.float32)})
    with pytest.raises(DamagedFile, match=r"is float32 of shape \(3,\); the trace's index has"):
        trace.find("loop body 0: z").values()


def test_folders_that_are_no_traces(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"without index\.json"):
        open_contents(tmp_path, BufferOptions(), None)


def test_formats_are_known_by_their_first_bytes(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    np.savez(tmp_path / "y.npz", a=np.zeros(3))
    (tmp_path / "x.npy").rename(tmp_path / "x.dat")
    (tmp_path / "y.npz").rename(tmp_path / "y.dat")
    assert open_contents(tmp_path / "x.dat", BufferOptions(), None).kind == "numpy array"
    assert open_contents(tmp_path / "y.dat", BufferOptions(), None).kind == "numpy archive"


def test_names(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "x.npz", **{"case0/in/a": np.zeros(1), "case1/in/a": np.ones(1), "b": np.ones(2)}
    )
    contents = read_npz(tmp_path / "x.npz")
    assert contents.find("case1/in/a").values().tolist() == [1]
    with pytest.raises(UsageError, match='several tensors "a"') as error:
        contents.find("a")
    assert error.value.hint == "name one: case0/in/a, case1/in/a"
    with pytest.raises(UsageError, match='no tensor "c"'):
        contents.find("c")
