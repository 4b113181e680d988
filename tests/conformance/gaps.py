"""Tests of coremltools that fail here, each with its reason.

A gap that starts to work fails the run until its line goes, except where `always` is false: tests
whose random numbers decide.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass


@dataclass(frozen=True)
class Gap:
    """A pattern of test names, as `fnmatch` reads it, and why they fail."""

    pattern: str
    reason: str
    always: bool = True


GAPS: tuple[Gap, ...] = ()


def reason_of(name: str) -> Gap | None:
    """The gap that a test's name falls under."""
    escaped = name.replace("[", "(").replace("]", ")")
    found = (gap for gap in GAPS if fnmatch.fnmatchcase(escaped, gap.pattern))
    return next(found, None)
