"""What all languages emit: the open dimensions and the tensors of a manifest, checked first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metal4conv.errors import UnsupportedModel
from metal4conv.layout.document import BufferLayout, LayoutManifest, TensorLayout
from metal4conv.layout.emit.expressions import dimension_names
from metal4conv.layout.rules import TensorDataType
from metal4conv.layout.sizes import Size, is_unknown, product
from metal4conv.mil.program import Dimension

Condition = tuple[tuple[str, int], ...]
"""Formulas and the numbers that they have to equal."""


@dataclass(frozen=True)
class BoundTensor:
    """A tensor that can be bound: its layout without what may be missing.

    `cpu_byte_length` is that of a C-contiguous array.
    """

    layout: TensorLayout
    data_type: TensorDataType
    buffer: BufferLayout
    cpu_byte_length: Size

    @property
    def sizes(self) -> tuple[Size, ...]:
        """All sizes that are emitted."""
        buffer = self.buffer
        lists = (self.layout.dimensions, buffer.strides, self.layout.cpu_strides)
        return (*(size for sizes in lists for size in sizes), buffer.byte_length)


@dataclass(frozen=True)
class Plan:
    """A manifest for emission.

    `open` are the dimensions that have no number yet, `fixed` those that were given one;
    `enumerated` holds for each input that enumerates its shapes the conditions, one of which the
    sizes must meet.
    """

    manifest: LayoutManifest
    tensors: tuple[BoundTensor, ...]
    open: Mapping[str, Dimension]
    fixed: Mapping[str, int]
    enumerated: tuple[tuple[Condition, ...], ...]

    @property
    def dynamic_inputs(self) -> tuple[BoundTensor, ...]:
        """The inputs whose dimensions the pipeline descriptor has to be given."""
        indices = self.manifest.requires_input_dimensions
        return tuple(item for item in self.tensors if item.layout.expected_buffer_index in indices)


def plan_of(manifest: LayoutManifest) -> Plan:
    """The plan of a manifest; `UnsupportedModel` names what cannot be bound."""
    if manifest.states:
        raise UnsupportedModel(
            f"a machine learning pass cannot bind states ({', '.join(manifest.states)})",
            hint="pass what is to be kept as an input and an output",
        )
    tensors = tuple(map(bound_tensor, manifest.tensors))
    open = {
        name: dimension
        for name, dimension in manifest.dimensions.items()
        if name not in manifest.sizes
    }
    for tensor in tensors:
        check_names(tensor, open)
    enumerated = tuple(
        conditions(tensor.layout) for tensor in tensors if tensor.layout.coreml.enumerated
    )
    return Plan(manifest, tensors, open, manifest.sizes, tuple(filter(None, enumerated)))


def bound_tensor(layout: TensorLayout) -> BoundTensor:
    """The tensor with what is needed to create it."""
    where = f'{layout.role} "{layout.name}"'
    if layout.data_type is None:
        raise UnsupportedModel(
            f"{where} cannot be bound: no MTLTensor holds "
            f"{layout.coreml.dtype} with {len(layout.dimensions)} dimensions"
            f"{'' if layout.coreml.kind == 'tensor' else f' (a {layout.coreml.kind})'}",
            where=where,
            hint="convert the model again: it gets a cast to a type that fits",
        )
    if layout.buffer is None or any(map(is_unknown, layout.dimensions)):
        raise UnsupportedModel(
            f"{where} cannot be bound: it has a size that is only known when the program runs",
            where=where,
        )
    byte_length = product([*layout.dimensions, layout.data_type.bytes])
    return BoundTensor(layout, layout.data_type, layout.buffer, byte_length)


def check_names(tensor: BoundTensor, open: Mapping[str, Dimension]) -> None:
    """Formulas may only have dimensions that the package declares."""
    used = {name for size in tensor.sizes for name in dimension_names(size)}
    for name in sorted(used - open.keys()):
        raise UnsupportedModel(
            f'the size of {tensor.layout.role} "{tensor.layout.name}" depends on "{name}", which '
            "is no dimension of the package"
        )


def conditions(layout: TensorLayout) -> tuple[Condition, ...]:
    """What the sizes have to be for each shape of an input; empty where nothing is open."""
    shape, shapes = layout.coreml.shape, layout.coreml.enumerated
    pairs = [list(zip(shape, sizes, strict=True)) for sizes in shapes if len(sizes) == len(shape)]
    possible = [
        pair for pair in pairs if all(not isinstance(a, int) or a == number for a, number in pair)
    ]
    found = [tuple((a, number) for a, number in pair if isinstance(a, str)) for pair in possible]
    return tuple(found) if all(found) else ()
