"""Keywords of an exported program's operations that a lowering does not read are refused.

An exported program has no arguments that are the default ones. What a lowering does not read is
lost, and the package would compute something else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.torch_arguments import Context, Keywords, Node

HARMLESS = {
    "device",
    "dtype",
    "generator",
    "implicit",
    "layout",
    "memory_format",
    "non_blocking",
    "path",
    "pin_memory",
}
"""They change no value: coremltools infers types by itself, and einsum's path is a hint."""


@contextmanager
def unread_keywords_refused() -> Iterator[None]:
    """Within it, coremltools tells which keywords its lowerings leave unread."""
    from coremltools.converters.mil.frontend.torch import ops

    original = ops.convert_single_node

    def convert(context: Context, node: Node) -> None:
        if node.kwinputs:
            node.kwinputs = Keywords(node.kwinputs)
        original(context, node)
        if node.kwinputs:
            check_read(node.kind, node.kwinputs)

    ops.convert_single_node = convert
    try:
        yield
    finally:
        ops.convert_single_node = original


def check_read(kind: str, keywords: Any) -> None:
    """`UnsupportedModel` for a keyword that was not read. (Any: what another lowering left.)"""
    unread = sorted(set(keywords) - keywords.read - HARMLESS)
    if unread:
        raise UnsupportedModel(
            f"the operation {kind} cannot be converted with {', '.join(unread)}",
            hint="replace it in the model by operations that do the same",
        )
