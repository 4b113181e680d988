"""Plans and requests for tests of the runner, by hand: `x` (4, 10) float32 gives `y` (4, 7)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from metal4conv.device.protocol import Binding, RunCase, RunRequest, TensorPlan
from metal4conv.layout.document import LayoutManifest, TensorLayout

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


def planned(manifest: LayoutManifest, label: str, sizes: dict[str, int]) -> RunCase:
    """The case of a manifest at these sizes."""
    pairs = zip(manifest.tensors, manifest.at(sizes).tensors, strict=True)
    return RunCase(label, tuple(plan(declared, sized) for declared, sized in pairs))


def plan(declared: TensorLayout, sized: TensorLayout) -> TensorPlan:
    """A tensor of the manifest, as the manifest of any size and of this one has it."""
    return TensorPlan(
        sized.name,
        sized.role,
        sized.expected_buffer_index,
        sized.data_type.raw,
        sized.dimensions,
        sized.buffer.strides,
        sized.buffer.byte_length,
        any(isinstance(size, str) for size in declared.dimensions),
    )
