"""Resizing of PyTorch that Core ML's resizing operations do not do: products with matrices.

Each output row is a weighted sum of input rows, and PyTorch itself tells the weights: it resizes
the identity matrix. Sizes must be known for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.torch_arguments import Context, Lowering, Node, Var, argument, number

Scales = tuple[float | None, float | None]


@dataclass(frozen=True)
class Resizing:
    """What a node asks for. `sizes` are None where they follow from scales."""

    kind: str
    is_smooth: bool
    align_corners: bool
    sizes: tuple[Any, Any] | None
    scales: Scales

    @property
    def is_antialiased(self) -> bool:
        """Whether making a picture smaller takes the mean of more than two rows."""
        return self.kind.endswith("_aa")

    def size(self, axis: int, length: int) -> int | None:
        """Of the output along an axis of a given length; None where it varies."""
        if self.sizes is not None:
            return None if self.sizes[axis] is None else int(self.sizes[axis])
        return int(np.floor(length * float(self.scales[axis] or 1)))

    def matrix(self, axis: int, length: int) -> np.ndarray:
        """Weights of the input's rows by row of the output."""
        sizes: list[int | None] = [length, length]
        scales: list[float | None] = [None, None]
        sizes[axis], scales[axis] = self.size(axis, length), self.scales[axis]
        operator = getattr(torch.ops.aten, self.kind).default
        found = operator(torch.eye(length)[None, None], sizes, self.align_corners, *scales)[0, 0]
        weights: np.ndarray = (found if axis == 0 else found.T).contiguous().numpy()
        return weights

    def nearest(self, axis: int, lengths: Sequence[int]) -> np.ndarray:
        """The input's row by row of the output."""
        operator = getattr(torch.ops.aten, self.kind).default
        sizes = [self.size(at, length) for at, length in enumerate(lengths)]
        row = torch.arange(lengths[axis], dtype=torch.float32)
        picture = (row[:, None] if axis == 0 else row).expand(1, 1, *lengths).contiguous()
        found = operator(picture, sizes, *self.scales)[0, 0]
        rows: np.ndarray = (found[:, 0] if axis == 0 else found[0]).to(torch.int32).numpy()
        return rows


def resizing_of(context: Context, node: Node) -> Resizing:
    """The arguments of a node, of either overload."""
    kind = node.kind.split(".")[0]
    is_smooth = "nearest" not in kind
    align_corners = bool(number(context, node, 2, "align_corners", False)) if is_smooth else False
    first = 3 if is_smooth else 2
    # TorchScript tells the overloads apart by the number of arguments alone
    is_script = context.frontend.name == "TORCHSCRIPT"
    if len(node.inputs) == first + 1 if is_script else node.kind.endswith(".vec"):
        scales = known(argument(context, node, first, "scale_factors"))
    else:
        rest = ((first, "scales_h"), (first + 1, "scales_w"))
        scales = [number(context, node, at, key) for at, key in rest]
    pair = (None, None) if scales is None else (as_written(scales[0]), as_written(scales[1]))
    sizes = known(argument(context, node, 1, "output_size"))
    return Resizing(kind, is_smooth, align_corners, None if sizes is None else (*sizes,), pair)


LARGEST_DENOMINATOR = 1000


def as_written(scale: float | None) -> float | None:
    """A scale as the model has it: coremltools keeps it as a float32.

    >>> as_written(np.float32(1.7)), as_written(np.float32(1 / 3)), as_written(None)
    (1.7, 0.3333333333333333, None)
    """
    if scale is None:
        return None
    simple = float(Fraction(float(scale)).limit_denominator(LARGEST_DENOMINATOR))
    return simple if np.float32(simple) == np.float32(scale) else float(scale)


def known(values: Any) -> list[Any] | None:
    """The numbers of an argument; those that are dynamic stay variables."""
    if values is None:
        return None
    if isinstance(values, (list, tuple)):
        return [getattr(value, "val", value) for value in values]
    return None if values.val is None else list(values.val)


def with_matrices(original: Lowering | None) -> Lowering:
    """A lowering that leaves to coremltools what Core ML's operations do as PyTorch does.

    Without an original there is nothing to leave.
    """

    def lower(context: Context, node: Node) -> None:
        resizing = resizing_of(context, node)
        x = argument(context, node, 0, "self")
        lengths = [
            int(size) if isinstance(size, (int, np.integer)) else None for size in x.shape[2:]
        ]
        if original is not None and not needs_matrices(resizing, lengths):
            original(context, node)
            return
        if None in lengths or (resizing.sizes is not None and None in resizing.sizes):
            raise UnsupportedModel(
                f"the operation {resizing.kind} cannot be converted for sizes that vary"
                + ("" if original is None else ", with antialiasing or a broken scale"),
                hint="fix the sizes of the input, or resize bilinearly by a whole number",
            )
        context.add(resized(resizing, x, [length or 0 for length in lengths]), node.name)

    return lower


def needs_matrices(resizing: Resizing, lengths: Sequence[int | None]) -> bool:
    """Whether coremltools' lowering would compute something else, or refuse."""
    if resizing.is_antialiased:
        return any(
            length is None or (resizing.size(axis, length) or 0) < length
            for axis, length in enumerate(lengths)
        )
    if resizing.align_corners:
        return False
    scales = [scale for scale in resizing.scales if scale is not None]
    if all(float(scale).is_integer() for scale in scales):
        return False
    # a scale is used as it is given, not as the sizes have it
    return any(
        scale is not None and (length is None or resizing.size(axis, length) != length * scale)
        for axis, (scale, length) in enumerate(zip(resizing.scales, lengths, strict=True))
    )


def resized(resizing: Resizing, x: Var, lengths: Sequence[int]) -> Var:
    """The picture resized along its height, then along its width."""
    from coremltools.converters.mil.mil import Builder

    if not resizing.is_smooth:
        rows, columns = (resizing.nearest(axis, lengths) for axis in range(2))
        return Builder.gather(x=Builder.gather(x=x, indices=rows, axis=2), indices=columns, axis=3)
    height, width = (resizing.matrix(axis, length) for axis, length in enumerate(lengths))
    across = Builder.matmul(x=x, y=np.ascontiguousarray(width.T))
    # Core ML broadcasts a matrix over the pictures of a batch
    return Builder.matmul(x=height, y=across)


RESIZING = (
    "upsample_bilinear2d",
    "_upsample_bilinear2d_aa",
    "upsample_bicubic2d",
    "_upsample_bicubic2d_aa",
    "upsample_nearest2d",
    "_upsample_nearest_exact2d",
)
"""Names in coremltools' table; each is there with `.vec`, too."""
