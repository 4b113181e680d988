"""Layout manifests of packages: read from their metadata, or worked out from their programs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from metal4conv.errors import Metal4ConvError
from metal4conv.layout.costs import function_costs, value_types
from metal4conv.layout.document import (
    FORMAT,
    BufferLayout,
    CoreMLType,
    LayoutManifest,
    PackageIdentity,
    Sizes,
    TensorLayout,
    manifest_from_json,
)
from metal4conv.layout.rules import (
    DATA_TYPES,
    MACHINE_LEARNING,
    MAXIMUM_RANK,
    READ,
    SYSTEMS_OF_METAL_4,
    SYSTEMS_OF_SPECIFICATION,
    WRITE,
    buffer_bytes,
    buffer_strides,
    tight_strides,
)
from metal4conv.layout.sizes import is_unknown, simplify
from metal4conv.mil.interface import LAYOUT_KEY, Feature, Interface
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.program import Shape, TensorType, ValueType
from metal4conv.mil.schema import deterministic_bytes

__all__ = [
    "FORMAT",
    "LayoutManifest",
    "content_sha256",
    "layout",
    "layout_manifest",
    "manifest_from_json",
    "manifest_of",
]


def layout(
    path: str | Path, dims: Mapping[str, int] | None = None, function: str | None = None
) -> LayoutManifest:
    """How to create and bind the tensors of a package, with numbers for the sizes in `dims`."""
    manifest = manifest_of(read_package(path), function)
    return manifest.at(dims) if dims else manifest


def manifest_of(package: Package, function: str | None = None) -> LayoutManifest:
    """The manifest that the package carries, or else the one that its program gives."""
    return embedded_manifest(package, function) or layout_manifest(package, function)


def embedded_manifest(package: Package, function: str | None = None) -> LayoutManifest | None:
    """The manifest in the package's metadata, None when there is none that fits it.

    Other tools keep the metadata when they change a package, so names and versions are compared.
    """
    text = package.metadata.get(LAYOUT_KEY)
    if text is None:
        return None
    try:
        manifest = manifest_from_json(json.loads(text))
    except (ValueError, Metal4ConvError):
        return None
    description = package.spec.description
    same = (
        manifest.package.function == (function or package.default_function)
        and manifest.package.specification_version == package.specification_version
        and [tensor.name for tensor in manifest.inputs] == [item.name for item in description.input]
        and [tensor.name for tensor in manifest.outputs]
        == [item.name for item in description.output]
    )
    return manifest if same else None


def layout_manifest(
    package: Package, function: str | None = None, *, sha256: str | None = None
) -> LayoutManifest:
    """The manifest of a function, from its declared features and its program.

    `sha256` is `content_sha256(package)`; it is left to the caller, since it reads all weights.
    """
    found = package.function(function)
    interface = package.interface(function)
    types = value_types(found, interface)
    costs = function_costs(found, types, interface.dimensions)
    tensors = tensor_layouts(interface, types)
    return LayoutManifest(
        package=PackageIdentity(
            name=package.path.resolve().stem,
            file=package.path.resolve().name,
            sha256=sha256,
            function=found.name,
            opset=found.opset,
            specification_version=package.specification_version,
            least_os={
                "core_ml": SYSTEMS_OF_SPECIFICATION.get(package.specification_version, {}),
                "metal_4": SYSTEMS_OF_METAL_4,
            },
        ),
        dimensions=interface.dimensions,
        sizes={},
        tensors=tensors,
        states=tuple(feature.name for feature in interface.states),
        requires_input_dimensions=dynamic_inputs(tensors),
        max_buffer_bind_count=len(tensors),
        estimated_bytes=costs.peak_bytes,
        activation_bytes=costs.total_bytes,
        flops=costs.flops,
    )


def dynamic_inputs(tensors: Iterable[TensorLayout]) -> tuple[int, ...]:
    """Buffer indices of the inputs with a size that is a formula."""
    return tuple(
        tensor.expected_buffer_index
        for tensor in tensors
        if tensor.role == "input" and any(isinstance(size, str) for size in tensor.dimensions)
    )


def tensor_layouts(
    interface: Interface, types: Mapping[str, ValueType]
) -> tuple[TensorLayout, ...]:
    """Inputs then outputs: the order of the buffer indices in every package seen so far."""
    inputs = [
        tensor_layout(feature, index, "input", feature.type.shape)
        for index, feature in enumerate(interface.inputs)
    ]
    outputs = [
        tensor_layout(feature, index, "output", output_shape(feature, types.get(feature.name)))
        for index, feature in enumerate(interface.outputs, len(inputs))
    ]
    return (*inputs, *outputs)


def output_shape(feature: Feature, inferred: ValueType | None) -> Shape:
    """The shape of an output; what follows from the inputs' sizes knows more than the package."""
    return inferred.shape if isinstance(inferred, TensorType) else feature.type.shape


def tensor_layout(
    feature: Feature, index: int, role: Literal["input", "output"], declared: Shape
) -> TensorLayout:
    """How the tensor of one feature is created and bound."""
    shape = tuple(map(simplify, declared))
    dimensions = shape[::-1]
    known = not any(map(is_unknown, shape))
    is_tensor = feature.kind in ("tensor", "image") and len(shape) <= MAXIMUM_RANK
    data_type = DATA_TYPES.get(feature.type.dtype) if is_tensor else None
    return TensorLayout(
        name=feature.name,
        role=role,
        access=READ if role == "input" else WRITE,
        expected_buffer_index=index,
        coreml=CoreMLType(feature.type.dtype, shape, feature.kind, feature.enumerated),
        data_type=data_type,
        dimensions=dimensions,
        usage=(MACHINE_LEARNING,),
        buffer=buffer_layout(dimensions, data_type.bytes) if data_type and known else None,
        cpu_strides=tight_strides(dimensions) if known else (),
    )


def buffer_layout(dimensions: Sizes, element_bytes: int) -> BufferLayout:
    """Strides and length of a tensor in a buffer."""
    return BufferLayout(
        buffer_strides(dimensions, element_bytes), buffer_bytes(dimensions, element_bytes)
    )


def content_sha256(package: Package) -> str:
    """SHA-256 of what runs: the program, the declared features and the weights, not the metadata.

    The metadata holds the manifest, and the manifest holds this.
    """
    import hashlib

    spec = package.spec
    description = type(spec.description)()
    description.CopyFrom(spec.description)
    description.ClearField("metadata")
    digest = hashlib.sha256()
    for part in (description, spec.mlProgram):
        data = deterministic_bytes(part)
        digest.update(len(data).to_bytes(8, "little") + data)
    for file in package.weight_files():
        digest.update(f"{file.name}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()
