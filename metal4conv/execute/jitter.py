"""A program whose constants are a little off: what that changes, rounding them changes too."""

from __future__ import annotations

import torch

from metal4conv.execute.interpreter import Executor
from metal4conv.mil.interface import Interface
from metal4conv.mil.program import Constant, Function


class JitteredExecutor(Executor):
    """An executor that changes each float constant, element by element, by a random part.

    The parts are uniform between -`amount` and `amount`, and the same each time. What is so small
    that rounding changes it by `least`, whatever its size, is changed by that; zeros stay.
    """

    def __init__(
        self, function: Function, interface: Interface, amount: float, least: float = 0.0
    ) -> None:
        self.amount = amount
        self.least = least
        self.generator = torch.Generator().manual_seed(0)
        super().__init__(function, interface)

    def materialize(self, constant: Constant) -> torch.Tensor:
        """The constant on the device, changed."""
        tensor = super().materialize(constant)
        if not tensor.is_floating_point():
            return tensor
        parts = torch.rand(tensor.shape, generator=self.generator).mul_(2).sub_(1)
        wide = tensor.float()
        change = torch.where(
            wide.abs() * self.amount < self.least,
            torch.sign(parts * wide) * self.least,
            wide * self.amount * parts,
        )
        largest = torch.finfo(tensor.dtype).max
        # masks are as large as can be, or infinite
        changed = torch.where(wide.isfinite(), (wide + change).clamp(-largest, largest), wide)
        return changed.to(tensor.dtype)
