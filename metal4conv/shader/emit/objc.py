"""A shader's host code as an Objective-C header: numbers, then functions of Metal's objects."""

from __future__ import annotations

from metal4conv.shader.emit.numbers import header_text
from metal4conv.shader.emit.plan import ShaderPlan


def objc_text(plan: ShaderPlan) -> str:
    """The header. Its first part is that of metal-cpp as well, guarded by the same macro."""
    return header_text("shader.objc.h.j2", plan)
