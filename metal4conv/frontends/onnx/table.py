"""The table of ONNX operators: each is a function that emits MIL operations.

A function takes the lowering context, the node's inputs in their order (None for one that is left
out) and its attributes as keywords with ONNX's defaults, and gives the output, or a tuple of them.
`since` is the opset version from which it holds. Operators of other domains have the domain before
their name: `com.microsoft.Gelu`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from metal4conv.registry import OpTable

Lowering = Callable[..., Any]  # Any: a Value, or a tuple of them

ONNX_OPS: OpTable[Lowering] = OpTable("ONNX operator")


def qualified_name(domain: str, name: str) -> str:
    """An operator's name in the table.

    >>> qualified_name("", "Add"), qualified_name("com.microsoft", "Gelu")
    ('Add', 'com.microsoft.Gelu')
    """
    return name if domain in ("", "ai.onnx") else f"{domain}.{name}"
