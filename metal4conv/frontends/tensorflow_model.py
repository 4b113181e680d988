"""What a TensorFlow file holds, before the sizes of its inputs are settled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.shapes import DeclaredInput
from metal4conv.report import Finding


@dataclass(frozen=True)
class TensorFlowModel:
    """A function of tensors in the order of `inputs`, and what is known of it.

    (Any: TensorFlow carries no types.)
    """

    kind: str
    name: str
    files: tuple[Path, ...]
    inputs: tuple[DeclaredInput, ...]
    outputs: tuple[str, ...]
    call: Callable[[Sequence[Any]], Sequence[Any]]
    parameters: int
    findings: tuple[Finding, ...] = ()


def declared_input(name: str, spec: Any) -> DeclaredInput:
    """An input from its TensorSpec. (Any: TensorFlow carries no types.)"""
    dtype = str(spec.dtype.name if hasattr(spec.dtype, "name") else spec.dtype)
    if dtype in ("string", "resource", "variant") or dtype.startswith(("complex", "q")):
        raise UnsupportedModel(
            f'input "{name}" is a {dtype}, which no tensor can hold',
            hint="move what handles it out of the model into the app",
        )
    shape = spec.shape
    rank = getattr(shape, "rank", len(shape) if isinstance(shape, tuple) else None)
    return DeclaredInput(name, dtype, None if rank is None else tuple(shape))
