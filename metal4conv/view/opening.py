"""Opens a file of tensors by its name, or by its first bytes."""

from __future__ import annotations

from pathlib import Path

from metal4conv.view.buffers import BufferOptions, read_buffer
from metal4conv.view.contents import Contents, check_file
from metal4conv.view.numpy_files import read_npy, read_npz
from metal4conv.view.safetensors_file import read_safetensors
from metal4conv.view.traces import read_trace

READERS = {".npy": read_npy, ".npz": read_npz, ".safetensors": read_safetensors}
SIGNATURES = {b"\x93NUMPY": read_npy, b"PK\x03\x04": read_npz}


def open_contents(path: Path, options: BufferOptions, tensor: str | None) -> Contents:
    """The tensors in a file or folder; what is of no known kind is a raw buffer.

    `tensor` names the tensor of the manifest that a raw buffer holds.
    """
    if path.is_dir():
        return read_trace(path)
    check_file(path)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        with path.open("rb") as file:
            start = file.read(8)
        reader = next((read for sign, read in SIGNATURES.items() if start.startswith(sign)), None)
    return reader(path) if reader else read_buffer(path, options, tensor)
