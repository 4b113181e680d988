"""Symbolic sizes for tests: fake tensors, and the formulas that their shapes become."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sympy
import torch
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv, StrictMinMaxConstraint
from torch.utils._sympy.value_ranges import ValueRanges


class Symbols:
    """Two sizes `h` and `w`, of at least 1, and the guards that operations put on them."""

    def __init__(self) -> None:
        self.environment = ShapeEnv(specialize_zero_one=False, duck_shape=False)
        self.h = self.size("h", 24)
        self.w = self.size("w", 40)

    def size(self, name: str, hint: int) -> Any:
        """A symbolic size."""
        source = ConstantSource(name)
        limits = StrictMinMaxConstraint(warn_only=False, vr=ValueRanges(1, 2**31 - 1))
        symbol = self.environment.create_symbol(
            hint, source=source, dynamic_dim=DimDynamic.DYNAMIC, constraint_dim=limits
        )
        return self.environment.create_symintnode(symbol, hint=hint, source=source)

    def at(self, size: Any, h: int, w: int) -> int:
        """What a size is for these values; it must not have been frozen on the way."""
        assert not any(isinstance(guard.expr, sympy.Eq) for guard in self.environment.guards)
        if isinstance(size, int):
            return size
        values = {self.h.node.expr: h, self.w.node.expr: w}
        return int(size.node.expr.xreplace(values))

    def shape_at(self, tensor: torch.Tensor, h: int, w: int) -> tuple[int, ...]:
        """A tensor's shape for these values."""
        return tuple(self.at(size, h, w) for size in tensor.shape)


@contextmanager
def symbolic() -> Iterator[Symbols]:
    """Runs what is inside on fake tensors."""
    symbols = Symbols()
    with FakeTensorMode(shape_env=symbols.environment, allow_non_fake_inputs=True):
        yield symbols
