"""What a TensorFlow file holds, before the sizes of its inputs are settled."""

from __future__ import annotations

import re
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


def feature_names(
    inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Finding, ...]]:
    """Names of inputs and outputs that Core ML takes, and a finding for each that had to change.

    >>> feature_names(["x:0", "pose a"], ["x_0"])[:2]
    (('x_0', 'pose_a'), ('x_0_out',))
    """
    taken: set[str] = set()
    new = [unique_name(clean_name(name), taken) for name in inputs]
    results = []
    for name in outputs:
        cleaned = clean_name(name)
        results.append(unique_name(f"{cleaned}_out" if cleaned in new else cleaned, taken))
    findings = tuple(
        Finding(
            "info",
            "feature-renamed",
            f'"{old}" is called "{name}" in the package: names there are letters, digits and _, '
            "and none stands twice",
            where=old,
        )
        for old, name in zip([*inputs, *outputs], [*new, *results], strict=True)
        if old != name
    )
    return tuple(new), tuple(results), findings


def clean_name(name: str) -> str:
    """A name of letters, digits and underscores that starts with a letter.

    >>> clean_name("2/pose:0"), clean_name("serving_default_x:0")
    ('f_2_pose_0', 'serving_default_x_0')
    """
    cleaned = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return cleaned if cleaned[:1].isalpha() else f"f_{cleaned}"


def unique_name(name: str, taken: set[str]) -> str:
    """The name, with a number when it is taken; TensorFlow does not tell upper from lower case."""
    candidate, count = name, 1
    while candidate.lower() in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate.lower())
    return candidate
