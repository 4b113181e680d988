"""The stages of a GPU's work, as barriers name them, and the passes that run them.

Names are ours, constants those of `MTLStages` (`MTLCommandEncoder.h`, macOS 26 SDK).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

PassKind = Literal["render", "compute", "machine_learning", "cpu"]

CPU = "cpu"
"""The stage of what the CPU does; no barrier can name it."""


@dataclass(frozen=True)
class Stage:
    """A stage: the constant of `MTLStages`, and the kind of pass that runs it."""

    constant: str
    kind: PassKind


# In the order in which a pass goes through them, as far as there is one
STAGES = {
    "object": Stage("MTLStageObject", "render"),
    "mesh": Stage("MTLStageMesh", "render"),
    "vertex": Stage("MTLStageVertex", "render"),
    "fragment": Stage("MTLStageFragment", "render"),
    "tile": Stage("MTLStageTile", "render"),
    "resource_state": Stage("MTLStageResourceState", "compute"),
    "blit": Stage("MTLStageBlit", "compute"),
    "acceleration_structure": Stage("MTLStageAccelerationStructure", "compute"),
    "dispatch": Stage("MTLStageDispatch", "compute"),
    "machine_learning": Stage("MTLStageMachineLearning", "machine_learning"),
}
ORDER = {name: position for position, name in enumerate((CPU, *STAGES))}

DEFAULT_STAGE: dict[PassKind, str] = {
    "render": "fragment",
    "compute": "dispatch",
    "machine_learning": "machine_learning",
    "cpu": CPU,
}
"""The stage of an access that names none."""

GEOMETRY = ("object", "mesh", "vertex")
"""What comes before the fragments of the same commands."""

UNWAITABLE = ("fragment", "tile")
"""What no barrier within a pass can wait for, on GPUs that render in tiles."""

VISIBILITY = {"device": 1, "resource_alias": 2}
"""Visibility options, by what they reach: see `order.Past`."""


def stages_of(kind: PassKind) -> tuple[str, ...]:
    """The stages that a pass of this kind can run.

    >>> stages_of("machine_learning"), stages_of("cpu")
    (('machine_learning',), ('cpu',))
    """
    if kind == "cpu":
        return (CPU,)
    return tuple(name for name, stage in STAGES.items() if stage.kind == kind)


def in_order(stages: Iterable[str]) -> tuple[str, ...]:
    """Stages, each once, in the order of the table.

    >>> in_order({"fragment", "vertex"})
    ('vertex', 'fragment')
    """
    return tuple(sorted(set(stages), key=ORDER.__getitem__))


def mask_text(stages: Iterable[str]) -> str:
    """A mask as Objective-C writes it.

    >>> mask_text(["dispatch", "fragment"]), mask_text(STAGES)
    ('MTLStageFragment | MTLStageDispatch', 'MTLStageAll')
    """
    named = in_order(stages)
    if len(named) == len(STAGES):
        return "MTLStageAll"
    return " | ".join(STAGES[name].constant for name in named)


def visibility_text(level: int) -> str:
    """Visibility options as Objective-C writes them.

    >>> visibility_text(0), visibility_text(2)
    ('MTL4VisibilityOptionNone', 'MTL4VisibilityOptionDevice | MTL4VisibilityOptionResourceAlias')
    """
    if level == 2:
        return "MTL4VisibilityOptionDevice | MTL4VisibilityOptionResourceAlias"
    return "MTL4VisibilityOptionDevice" if level else "MTL4VisibilityOptionNone"
