"""onnx's cases that do not pass here, each with its reason; one that starts to pass must go."""

from __future__ import annotations

import fnmatch

GAPS: dict[str, str] = {}
"""By pattern of case names."""


def reason_of(name: str) -> str | None:
    """Why a case does not pass; None for one that must."""
    return next((why for pattern, why in GAPS.items() if fnmatch.fnmatchcase(name, pattern)), None)
