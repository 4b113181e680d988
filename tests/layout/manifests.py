"""Layout manifests without a package: of tensors that a test names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from metal4conv.layout.document import LayoutManifest, PackageIdentity
from metal4conv.layout.manifest import dynamic_inputs, tensor_layout
from metal4conv.layout.rules import SYSTEMS_OF_METAL_4
from metal4conv.mil.interface import Feature, FeatureKind
from metal4conv.mil.program import Dimension, TensorType

Tensor = tuple[str, Literal["input", "output"], str, Sequence[int | str]]
"""Name, role, dtype, and shape with the outermost dimension first."""


def manifest_with(
    tensors: Iterable[Tensor],
    dimensions: Mapping[str, Dimension] | None = None,
    *,
    name: str = "net",
    function: str = "main",
    states: tuple[str, ...] = (),
    kinds: Mapping[str, FeatureKind] | None = None,
    enumerated: Mapping[str, tuple[tuple[int, ...], ...]] | None = None,
) -> LayoutManifest:
    """The manifest of a package with these inputs and outputs."""
    layouts = tuple(
        tensor_layout(
            Feature(
                tensor,
                TensorType(dtype, tuple(shape)),
                kind=(kinds or {}).get(tensor, "tensor"),
                enumerated=(enumerated or {}).get(tensor, ()),
            ),
            index,
            role,
            tuple(shape),
        )
        for index, (tensor, role, dtype, shape) in enumerate(tensors)
    )
    return LayoutManifest(
        package=PackageIdentity(
            name,
            f"{name}.mlpackage",
            "0" * 64,
            function,
            "CoreML8",
            9,
            {"metal_4": SYSTEMS_OF_METAL_4},
        ),
        dimensions=dimensions or {},
        sizes={},
        tensors=layouts,
        states=states,
        requires_input_dimensions=dynamic_inputs(layouts),
        max_buffer_bind_count=len(layouts),
        estimated_bytes=None,
        activation_bytes=None,
        flops=None,
    )


def upscaler(name: str = "upscaler") -> LayoutManifest:
    """A picture of open size, doubled."""
    return manifest_with(
        [
            ("color", "input", "float16", (1, 3, "h", "w")),
            ("upscaled", "output", "float16", (1, 3, "2*h", "2*w")),
        ],
        {"h": Dimension(16, 2160, 720, step=8), "w": Dimension(16, None, 1280)},
        name=name,
    )


def classifier(name: str = "classifier") -> LayoutManifest:
    """All sizes fixed."""
    return manifest_with(
        [("x", "input", "float32", (4, 10)), ("y", "output", "int32", (4,))], name=name
    )
