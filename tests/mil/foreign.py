"""Packages that coremltools writes, from programs of its builder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from metal4conv.frontends.toolkit import coremltools_with, quiet, without_bars


def toolkit() -> tuple[ModuleType, Any, Any]:
    """coremltools, its builder, and its types."""
    ct = coremltools_with("none")
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil import types

    return ct, Builder, types


def converted(
    body: Callable[..., Any], specs: Sequence[Any], target: str = "iOS18", **options: Any
) -> Any:
    """A model of coremltools; `body` calls the builder, its parameters have the inputs' names.

    No pass runs, so that the package holds the operations and weights that `body` made.
    """
    ct, mb, _ = toolkit()
    version = getattr(ct.target, target)
    defaults = {"compute_precision": ct.precision.FLOAT32, "pass_pipeline": ct.PassPipeline.EMPTY}
    with quiet(), without_bars():
        program = mb.program(input_specs=list(specs), opset_version=version)(body)
        return ct.convert(
            program,
            source="milinternal",
            convert_to="mlprogram",
            minimum_deployment_target=version,
            skip_model_load=True,
            **{**defaults, **options},
        )


def save(
    folder: Path,
    body: Callable[..., Any],
    specs: Sequence[Any],
    target: str = "iOS18",
    **options: Any,
) -> Path:
    """The same, saved as a package."""
    path = folder / "foreign.mlpackage"
    model = converted(body, specs, target, **options)
    with quiet():
        model.save(str(path))
    return path


def tensor(shape: Sequence[int], dtype: str = "fp32") -> Any:
    """The specification of an input of the builder's program."""
    _, mb, types = toolkit()
    return mb.TensorSpec(tuple(shape), getattr(types, dtype))


def from_torch(folder: Path, module: Any, example: Sequence[Any], **options: Any) -> Path:
    """A package that `coremltools.convert` makes of a traced torch module, all passes included."""
    import torch

    ct, _, _ = toolkit()
    path = folder / "foreign.mlpackage"
    defaults = {
        "convert_to": "mlprogram",
        "compute_precision": ct.precision.FLOAT32,
        "minimum_deployment_target": ct.target.iOS18,
        "skip_model_load": True,
    }
    with quiet(), without_bars():
        traced = torch.jit.trace(module.eval(), tuple(example))
        ct.convert(traced, **{**defaults, **options}).save(str(path))
    return path


def pipeline(folder: Path, *models: Any) -> Path:
    """The package that `coremltools.utils.make_pipeline` makes of these models."""
    ct, _, _ = toolkit()
    path = folder / "pipeline.mlpackage"
    with quiet():
        ct.utils.make_pipeline(*models).save(str(path))
    return path
