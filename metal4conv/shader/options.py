"""How a shader shall be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float16", "float32", "int8"]
TensorKind = Literal["handle", "inline"]


@dataclass(frozen=True)
class ShaderOptions:
    """What the user chooses.

    `precision` is that of weights and of what is multiplied with them: `float16`, `float32`, or
    `int8` weights with a scale for each output and float16 operands. Sums, biases and all that is
    between linear layers are float32. `tensors` says how matmul2d gets its weights: as bound
    `MTLTensor` objects, or as tensors that the shader makes in the weights' buffer.
    `inline_weights` writes the numbers into the source.
    `system` is the oldest macOS/iOS that has to compile it, such as (26, 0).
    """

    precision: Precision = "float16"
    tensors: TensorKind = "inline"
    inline_weights: bool = False
    system: tuple[int, int] = (26, 0)
