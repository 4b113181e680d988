"""What the generator gives: the text of a shader and what its manifest says of it."""

from __future__ import annotations

from dataclasses import dataclass

from metal4conv.shader.document import EntryPoint, Estimates, FunctionConstant, IntermediateImage


@dataclass(frozen=True)
class ShaderSource:
    """The text of a shader and what its manifest says of it.

    `evaluate` is the function to call from other shaders, None where there is none; `passes` are
    the compute functions to dispatch in order for a network that needs several.
    """

    text: str
    evaluate: str | None
    entry_points: tuple[EntryPoint, ...]
    constants: tuple[FunctionConstant, ...]
    estimates: Estimates
    passes: tuple[str, ...] = ()
    images: tuple[IntermediateImage, ...] = ()
    notes: tuple[str, ...] = ()


def function_constants(prefix: str) -> tuple[FunctionConstant, ...]:
    """The choice of the path."""
    meaning = (
        "Metal Performance Primitives (matmul2d, convolution2d) where it is true, else plain "
        "arithmetic"
    )
    return (FunctionConstant(f"{prefix}_use_matmul2d", 0, "bool", meaning),)
