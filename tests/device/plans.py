"""Plans and requests for tests of the runner, by hand: `x` (4, 10) float32 gives `y` (4, 7)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from metal4conv.device.protocol import Binding, RunCase, RunRequest, TensorPlan

X = TensorPlan("x", "input", 0, 3, (10, 4), (1, 16), 256, False)
Y = TensorPlan("y", "output", 1, 3, (7, 4), (1, 16), 256, False)
CASE = RunCase("case0", (X, Y))


def request(package: Path | str = "net.mtlpackage", **changes) -> RunRequest:
    return replace(RunRequest("emulator", str(package), (CASE,), timeout_ms=10_000), **changes)


def bound(plan: TensorPlan, **changes) -> Binding:
    """The binding that a plan expects."""
    access = 0 if plan.role == "input" else 2
    found = Binding(plan.name, plan.index, access, plan.data_type, plan.dimensions)
    return replace(found, **changes)
