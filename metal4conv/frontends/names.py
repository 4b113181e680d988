"""Names of inputs and outputs that Core ML takes."""

from __future__ import annotations

import re
from collections.abc import Sequence

from metal4conv.report import Finding


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
            "none stands twice, and none is a word of MIL",
            where=old,
        )
        for old, name in zip([*inputs, *outputs], [*new, *results], strict=True)
        if old != name
    )
    return tuple(new), tuple(results), findings


RESERVED = frozenset(
    [
        "any",
        "bf16",
        "bool",
        "dict",
        "false",
        "fp16",
        "fp32",
        "fp64",
        "func",
        "int16",
        "int32",
        "int64",
        "int8",
        "list",
        "program",
        "state",
        "string",
        "tensor",
        "true",
        "tuple",
        "uint16",
        "uint32",
        "uint64",
        "uint8",
    ]
)
"""Words of MIL's own language; coremltools gives values with such a name another one."""


def clean_name(name: str) -> str:
    """A name of letters, digits and underscores that starts with a letter, and no word of MIL's.

    >>> clean_name("2/pose:0"), clean_name("serving_default_x:0"), clean_name("state")
    ('f_2_pose_0', 'serving_default_x_0', 'state_')
    """
    cleaned = re.sub(r"[^A-Za-z0-9_]", "_", name)
    if cleaned in RESERVED:
        return f"{cleaned}_"
    return cleaned if cleaned[:1].isalpha() else f"f_{cleaned}"


def unique_name(name: str, taken: set[str]) -> str:
    """The name, with a number when it is taken; upper and lower case are not told apart."""
    candidate, count = name, 1
    while candidate.lower() in taken:
        count += 1
        candidate = f"{name}_{count}"
    taken.add(candidate.lower())
    return candidate
