"""The layout manifest: how to create and bind the tensors of a package, format 1.

`schema.json` describes the JSON form field by field. Sizes are numbers or formulas of the
dimensions; `LayoutManifest.at` puts numbers in their place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from metal4conv.errors import DamagedFile, UsageError, did_you_mean
from metal4conv.layout.rules import ROW_ALIGNMENT, Access, TensorDataType
from metal4conv.layout.sizes import Size, substitute
from metal4conv.mil.interface import FeatureKind, dimension_from_json
from metal4conv.mil.program import Dimension

MANIFEST_SUFFIX = ".layout.json"
"""The end of a manifest's file name; what comes before it is the package's."""

FORMAT = "metal4conv.layout/1"

Sizes = tuple[Size, ...]
Json = dict[str, Any]  # Any: a JSON object


@dataclass(frozen=True)
class PackageIdentity:
    """Which package and function it is.

    `sha256` is that of the content without metadata, None where it was not computed.
    `least_os` holds the systems that load the package, and those that have Metal 4.
    """

    name: str
    file: str
    sha256: str | None
    function: str
    opset: str
    specification_version: int
    least_os: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class CoreMLType:
    """An input or output as Core ML declares it; `kind` is `tensor`, or `image` and others."""

    dtype: str
    shape: Sizes
    kind: FeatureKind = "tensor"
    enumerated: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class BufferLayout:
    """A tensor that lives in a buffer, from offset 0 on."""

    strides: Sizes
    byte_length: Size


@dataclass(frozen=True)
class TensorLayout:
    """One input or output. `data_type` and `buffer` are None where Metal has no such tensor."""

    name: str
    role: Literal["input", "output"]
    access: Access
    expected_buffer_index: int
    coreml: CoreMLType
    data_type: TensorDataType | None
    dimensions: Sizes
    usage: tuple[str, ...]
    buffer: BufferLayout | None
    cpu_strides: Sizes

    def at(self, sizes: Mapping[str, int]) -> TensorLayout:
        """The same tensor with numbers for these dimensions."""
        buffer = self.buffer
        return replace(
            self,
            coreml=replace(self.coreml, shape=sizes_at(self.coreml.shape, sizes)),
            dimensions=sizes_at(self.dimensions, sizes),
            buffer=buffer
            and BufferLayout(
                sizes_at(buffer.strides, sizes), substitute(buffer.byte_length, sizes)
            ),
            cpu_strides=sizes_at(self.cpu_strides, sizes),
        )


@dataclass(frozen=True)
class LayoutManifest:
    """Everything that is needed to create and bind the tensors of one function.

    `sizes` are the dimensions that were given numbers. `estimated_bytes` is our estimate of the
    intermediates heap, `activation_bytes` the sum of all intermediate values, `flops` the
    arithmetic of one run; None where a size is not known before the run.
    """

    package: PackageIdentity
    dimensions: Mapping[str, Dimension]
    sizes: Mapping[str, int]
    tensors: tuple[TensorLayout, ...]
    states: tuple[str, ...]
    requires_input_dimensions: tuple[int, ...]
    max_buffer_bind_count: int
    estimated_bytes: Size | None
    activation_bytes: Size | None
    flops: Size | None

    @property
    def inputs(self) -> tuple[TensorLayout, ...]:
        """The inputs, in order."""
        return tuple(tensor for tensor in self.tensors if tensor.role == "input")

    @property
    def outputs(self) -> tuple[TensorLayout, ...]:
        """The outputs, in order."""
        return tuple(tensor for tensor in self.tensors if tensor.role == "output")

    @property
    def defaults(self) -> dict[str, int]:
        """The default size of each dimension."""
        return {name: dimension.default for name, dimension in self.dimensions.items()}

    def at(self, dims: Mapping[str, int]) -> LayoutManifest:
        """The manifest with numbers for these dimensions; `UsageError` for a size not allowed."""
        for name, size in dims.items():
            check_size(name, size, self.dimensions)
        sizes = {**self.sizes, **dims}
        tensors = tuple(tensor.at(sizes) for tensor in self.tensors)
        for tensor in tensors:
            check_enumerated(tensor)
        return replace(
            self,
            sizes=sizes,
            tensors=tensors,
            estimated_bytes=optional_at(self.estimated_bytes, sizes),
            activation_bytes=optional_at(self.activation_bytes, sizes),
            flops=optional_at(self.flops, sizes),
        )

    def to_json(self) -> Json:
        """The JSON form, with lists for tuples."""
        package = self.package
        return {
            "format": FORMAT,
            "package": {
                "name": package.name,
                "file": package.file,
                "sha256": package.sha256,
                "function": package.function,
                "opset": package.opset,
                "specification_version": package.specification_version,
                "least_os": {key: dict(systems) for key, systems in package.least_os.items()},
            },
            "dimensions": {name: dimension_json(row) for name, row in self.dimensions.items()},
            "sizes": dict(self.sizes),
            "tensors": [tensor_json(tensor) for tensor in self.tensors],
            "states": list(self.states),
            "requires_input_dimensions": list(self.requires_input_dimensions),
            "max_buffer_bind_count": self.max_buffer_bind_count,
            "intermediates": {
                "estimated_bytes": self.estimated_bytes,
                "total_bytes": self.activation_bytes,
            },
            "flops": self.flops,
        }


def sizes_at(sizes: Sizes, known: Mapping[str, int]) -> Sizes:
    """Numbers for the known dimensions."""
    return tuple(substitute(size, known) for size in sizes)


def optional_at(size: Size | None, known: Mapping[str, int]) -> Size | None:
    """A number for the known dimensions, None for what is not known."""
    return None if size is None else substitute(size, known)


def check_size(name: str, size: int, dimensions: Mapping[str, Dimension]) -> None:
    """A dimension must be one of the package's and the size one that it allows."""
    if name not in dimensions:
        raise UsageError(
            f'the package has no dynamic dimension "{name}"', hint=did_you_mean(name, dimensions)
        )
    if not dimensions[name].allows(size):
        raise UsageError(
            f"dimension {name} cannot be {size}, allowed is {allowed_sizes(dimensions[name])}"
        )


def allowed_sizes(dimension: Dimension) -> str:
    """The sizes of a dimension in words.

    >>> allowed_sizes(Dimension(8, 64, 8, step=8)), allowed_sizes(Dimension(1, None, 1))
    ('8 to 64 in steps of 8', '1 or more')
    """
    if dimension.values:
        return " or ".join(map(str, dimension.values))
    upper = " or more" if dimension.maximum is None else f" to {dimension.maximum}"
    step = f" in steps of {dimension.step}" if dimension.step != 1 else ""
    return f"{dimension.minimum}{upper}{step}"


def check_enumerated(tensor: TensorLayout) -> None:
    """A shape with all its sizes given must be one that the package enumerates, if it does."""
    shape, enumerated = tensor.coreml.shape, tensor.coreml.enumerated
    if enumerated and not any(isinstance(size, str) for size in shape) and shape not in enumerated:
        raise UsageError(
            f'input "{tensor.name}" cannot have shape {shape}',
            hint=f"the package allows {', '.join(map(str, enumerated))}",
        )


def dimension_json(dimension: Dimension) -> Json:
    """A dimension as `mil.interface.dimension_from_json` reads it.

    >>> dimension_json(Dimension(8, 64, 16, step=8))
    {'min': 8, 'max': 64, 'default': 16, 'step': 8}
    """
    if dimension.values:
        return {"values": list(dimension.values), "default": dimension.default}
    return {
        "min": dimension.minimum,
        "max": dimension.maximum,
        "default": dimension.default,
        "step": dimension.step,
    }


def tensor_json(tensor: TensorLayout) -> Json:
    """The JSON form of a tensor."""
    coreml: Json = {"dtype": tensor.coreml.dtype, "shape": list(tensor.coreml.shape)}
    if tensor.coreml.kind != "tensor":
        coreml["kind"] = tensor.coreml.kind
    if tensor.coreml.enumerated:
        coreml["enumerated"] = [list(shape) for shape in tensor.coreml.enumerated]
    return {
        "name": tensor.name,
        "role": tensor.role,
        "access": dict(vars(tensor.access)),
        "expected_buffer_index": tensor.expected_buffer_index,
        "coreml": coreml,
        "data_type": tensor.data_type and dict(vars(tensor.data_type)),
        "dimensions": list(tensor.dimensions),
        "usage": list(tensor.usage),
        "device": {"strides": None},
        "buffer": tensor.buffer
        and {
            "strides": list(tensor.buffer.strides),
            "row_alignment": ROW_ALIGNMENT,
            "offset": 0,
            "byte_length": tensor.buffer.byte_length,
        },
        "cpu": {"strides": list(tensor.cpu_strides)},
    }


def manifest_from_json(document: Json) -> LayoutManifest:
    """The manifest of a JSON document; `DamagedFile` when it is not one."""
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DamagedFile(f'this is not a layout manifest: its format is not "{FORMAT}"')
    try:
        rows = document["dimensions"].items()
        return LayoutManifest(
            package=PackageIdentity(**document["package"]),
            dimensions={name: dimension_from_json(row) for name, row in rows},
            sizes=document["sizes"],
            tensors=tuple(map(tensor_from_json, document["tensors"])),
            states=tuple(document["states"]),
            requires_input_dimensions=tuple(document["requires_input_dimensions"]),
            max_buffer_bind_count=document["max_buffer_bind_count"],
            estimated_bytes=document["intermediates"]["estimated_bytes"],
            activation_bytes=document["intermediates"]["total_bytes"],
            flops=document["flops"],
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedFile(f"the layout manifest is damaged: {error!r}") from None


def tensor_from_json(row: Json) -> TensorLayout:
    """The tensor of a JSON object."""
    coreml, data_type, buffer = row["coreml"], row["data_type"], row["buffer"]
    return TensorLayout(
        name=row["name"],
        role=row["role"],
        access=Access(**row["access"]),
        expected_buffer_index=row["expected_buffer_index"],
        coreml=CoreMLType(
            coreml["dtype"],
            tuple(coreml["shape"]),
            coreml.get("kind", "tensor"),
            tuple(map(tuple, coreml.get("enumerated", ()))),
        ),
        data_type=data_type and TensorDataType(**data_type),
        dimensions=tuple(row["dimensions"]),
        usage=tuple(row["usage"]),
        buffer=buffer and BufferLayout(tuple(buffer["strides"]), buffer["byte_length"]),
        cpu_strides=tuple(row["cpu"]["strides"]),
    )
