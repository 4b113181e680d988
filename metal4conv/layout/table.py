"""A layout manifest as rows for people."""

from __future__ import annotations

from metal4conv.layout.document import LayoutManifest, TensorLayout
from metal4conv.layout.sizes import Size

COLUMNS = ("name", "role", "index", "type", "dimensions, innermost first", "strides", "bytes")


def layout_rows(manifest: LayoutManifest) -> list[tuple[str, ...]]:
    """A row for each tensor, with the values of `COLUMNS`; strides are those of a buffer."""
    return [tensor_row(tensor) for tensor in manifest.tensors]


def tensor_row(tensor: TensorLayout) -> tuple[str, ...]:
    """The row of one tensor; `-` where Metal has no such tensor."""
    buffer = tensor.buffer
    return (
        tensor.name,
        tensor.role,
        str(tensor.expected_buffer_index),
        tensor.data_type.name if tensor.data_type else f"{tensor.coreml.dtype} (no tensor)",
        size_list(tensor.dimensions),
        size_list(buffer.strides) if buffer else "-",
        size_text(buffer.byte_length) if buffer else "-",
    )


def size_list(sizes: tuple[Size, ...]) -> str:
    """Sizes as people write them.

    >>> size_list((544, "2*h", 3))
    '[544, 2*h, 3]'
    """
    return f"[{', '.join(map(str, sizes))}]"


def size_text(size: Size) -> str:
    """A number with its thousands apart, or the formula.

    >>> size_text(1638400), size_text("6*h*w")
    ('1,638,400', '6*h*w')
    """
    return f"{size:,}" if isinstance(size, int) else size
