"""How a shader shall be written."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from metal4conv.errors import UsageError

Precision = Literal["float16", "float32", "int8"]
TensorKind = Literal["handle", "inline"]


FIRST_SYSTEM = (26, 0)
"""The first macOS and iOS with Metal 4."""

MATMUL2D_SYSTEMS: dict[Precision, tuple[int, int]] = {
    "float16": FIRST_SYSTEM,
    "float32": FIRST_SYSTEM,
    "int8": (26, 4),
}
"""The first system whose matmul2d takes the weights and operands of a precision
(`MPPTensorOpsMatMul2d.h`: int8 beside half came last)."""


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
    system: tuple[int, int] = FIRST_SYSTEM

    @property
    def has_matmul2d(self) -> bool:
        """Whether there is a path with matmul2d beside the plain one."""
        return not self.inline_weights and self.system >= MATMUL2D_SYSTEMS[self.precision]


def parse_system(text: str) -> tuple[int, int]:
    """A version of macOS or iOS as `--system` has it.

    >>> parse_system("26.4"), parse_system("27")
    ((26, 4), (27, 0))
    """
    found = re.fullmatch(r"(\d{1,3})(?:\.(\d{1,3}))?", text)
    if found is None:
        raise UsageError(f'"{text}" is no version', where="--system", hint="such as 26.0 or 26.4")
    version = (int(found[1]), int(found[2] or 0))
    if version < FIRST_SYSTEM:
        raise UsageError(
            f"macOS {text} has no Metal 4", where="--system", hint="26.0 is the first with it"
        )
    return version
