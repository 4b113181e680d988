"""The layout as an Objective-C header: that of C, then functions that create and bind tensors."""

from __future__ import annotations

from metal4conv.layout.emit.cpp import c_header, constants
from metal4conv.layout.emit.plan import Plan
from metal4conv.layout.emit.templates import fill


def objc_text(plan: Plan) -> str:
    """The header. Its first part is the header of C, guarded by the same macro."""
    return fill("layout.objc.h.j2", header=c_header(plan), **constants())
