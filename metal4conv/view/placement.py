"""Where the elements of a tensor stand in a raw buffer, and whether a buffer of some size fits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metal4conv.errors import DamagedFile, UsageError
from metal4conv.report import Finding
from metal4conv.view.contents import MetalLayout
from metal4conv.view.elements import TYPES, storage

ALIGNMENTS = (16, 32, 64, 128, 256)
"""What rows are padded to by those who pad them: textures to 16 or 256 bytes, tensors to 64."""

BUFFER_ALIGNMENT = 128
"""Buffers are rounded up by this much without anybody's intention."""


@dataclass(frozen=True)
class Plan:
    """Where the elements of a tensor stand; `strides` in bytes, outermost first as `shape`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    byte_length: int
    """From the offset to the end of the last row's padding."""

    @property
    def element_bytes(self) -> int:
        """The size of an element."""
        return storage(self.dtype).itemsize

    @property
    def end(self) -> int:
        """The byte after the last element."""
        if 0 in self.shape:
            return self.offset
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + sum((size - 1) * step for size, step in steps) + self.element_bytes

    @property
    def is_packed(self) -> bool:
        """Whether only rows are padded."""
        row = self.strides[-2] if len(self.shape) > 1 else None
        tight = self.shape[-1] * self.element_bytes if self.shape else 0
        if row is not None and row < tight:
            return False
        return self.strides == packed_strides(self.shape, self.element_bytes, row)

    def metal(self) -> MetalLayout:
        """The same in Metal's terms, for strides that are whole elements."""
        return MetalLayout(
            dimensions=self.shape[::-1],
            strides=tuple(step // self.element_bytes for step in self.strides[::-1]),
            row_bytes=self.strides[-2] if len(self.shape) > 1 else None,
            offset=self.offset,
            byte_length=self.byte_length,
        )


def packed_strides(
    shape: Sequence[int], element_bytes: int, row_bytes: int | None = None
) -> tuple[int, ...]:
    """Strides in bytes of rows that begin `row_bytes` apart, tight without it.

    >>> packed_strides((3, 50, 30), 2), packed_strides((3, 50, 30), 2, 64)
    ((3000, 60, 2), (3200, 64, 2))
    """
    strides = [element_bytes]
    for position, size in enumerate(reversed(shape[1:])):
        step = strides[-1] * size
        if position == 0 and row_bytes is not None:
            if row_bytes < step:
                raise UsageError(
                    f"a row of {size} elements takes {step} bytes, more than {row_bytes}",
                    where="--row-stride",
                )
            step = row_bytes
        strides.append(step)
    return tuple(reversed(strides)) if shape else ()


def too_short(path: Path, plan: Plan, size: int) -> DamagedFile:
    """The error for a buffer that ends before its tensor does: how long it would have to be."""
    at = f" at --offset {plan.offset}" if plan.offset else ""
    name = f'tensor "{plan.name}"' if plan.name else "a tensor"
    message = (
        f"{path} has {size} bytes; {name} of {plan.dtype}, shape {sizes_text(plan.shape)}, "
        f"takes {plan.offset + plan.byte_length}{at}: {length_formula(plan)}"
    )
    hint = other_reading(plan, size - plan.offset)
    return DamagedFile(message, hint=hint or "the buffer is truncated, or of another size")


def longer(path: Path, plan: Plan, size: int) -> tuple[Finding, ...]:
    """A warning for a buffer that goes on after its tensor by more than rounding up explains."""
    hint = other_reading(plan, size - plan.offset)
    wanted = plan.offset + plan.byte_length
    if size <= wanted or (
        hint is None and size <= math.ceil(wanted / BUFFER_ALIGNMENT) * BUFFER_ALIGNMENT
    ):
        return ()
    text = (
        f"{path} has {size} bytes, of which {wanted} are shown: {length_formula(plan)}; "
        f"{size - wanted} follow"
    )
    return (Finding("warning", "buffer-longer", text, hint=hint),)


def length_formula(plan: Plan) -> str:
    """How the length of a tensor comes about.

    >>> length_formula(Plan("x", "float16", (3, 50, 30), (3200, 64, 2), 0, 9600))
    '150 rows of 64 bytes (30 elements of 2 bytes are 60, 4 are padding)'
    """
    element = plan.element_bytes
    if len(plan.shape) < 2 or not math.prod(plan.shape):
        return f"{math.prod(plan.shape)} elements of {element} bytes"
    rows, row, step = math.prod(plan.shape[:-1]), plan.shape[-1] * element, plan.strides[-2]
    if not plan.is_packed:
        return f"strides of {', '.join(map(str, plan.strides))} bytes"
    inner = f"{plan.shape[-1]} elements of {element} bytes"
    rest = f"{inner} are {row}, {step - row} are padding" if step > row else inner
    return f"{rows} rows of {step} bytes ({rest})"


def other_reading(plan: Plan, size: int) -> str | None:
    """What a buffer of this size would fit: rows with less or more padding, or another type."""
    count, element = math.prod(plan.shape), plan.element_bytes
    if not count:
        return None
    if plan.is_packed and len(plan.shape) > 1:
        row, rows = plan.shape[-1] * element, count // plan.shape[-1]
        if size == row * rows and plan.strides[-2] != row:
            return f"this looks like tight rows, without padding: pass --row-stride {row}"
        if padded := padded_rows(size, rows, row, plan.strides[-2]):
            return f"this looks like rows of {padded} bytes: pass --row-stride {padded}"
    if plan.is_packed and len(plan.shape) > 2 and plan.shape[-1] in (3, 4):
        line = plan.shape[-1] * plan.shape[-2] * element
        if padded := padded_rows(size, count * element // line, line, line):
            further = [step // line * padded for step in plan.strides[:-3]]
            steps = ",".join(map(str, [*further, padded, plan.shape[-1] * element, element]))
            return f"this looks like lines of {padded} bytes: pass --strides {steps}"
    others = [name for name in TYPES if storage(name).itemsize * count == size]
    others = [name for name in others if storage(name).itemsize != element]
    if others and not plan.name:  # a manifest knows its types
        return f"that many elements of {' or '.join(others)} fit: check --dtype"
    return None


def padded_rows(size: int, rows: int, row_bytes: int, known: int) -> int | None:
    """The length of a padded row when rows of such a length, other than the known, make up a size.

    >>> padded_rows(9600, 150, 60, 60)
    64
    """
    lengths = [math.ceil(row_bytes / alignment) * alignment for alignment in ALIGNMENTS]
    return next((step for step in lengths if step * rows == size and step != known), None)


def sizes_text(sizes: Sequence[int | str], brackets: str = "()") -> str:
    """Sizes or formulas in brackets.

    >>> sizes_text((3, "h", "2*w"), "[]")
    '[3, h, 2*w]'
    """
    return f"{brackets[0]}{', '.join(map(str, sizes))}{brackets[1]}"
