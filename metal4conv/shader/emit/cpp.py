"""A shader's host code as a C++17 header for metal-cpp."""

from __future__ import annotations

from metal4conv.shader.emit.numbers import header_text
from metal4conv.shader.emit.plan import ShaderPlan


def cpp_text(plan: ShaderPlan) -> str:
    """The header. Its first part is that of Objective-C as well, guarded by the same macro."""
    return header_text("shader.hpp.j2", plan)
