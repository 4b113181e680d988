"""The ONNX operators, a file a family; `load` fills the table with all of them."""

from __future__ import annotations

import importlib

FAMILIES = (
    "activation",
    "attention",
    "contrib",
    "contrib_attention",
    "control_flow",
    "elementwise",
    "indexing",
    "reduction",
    "shape",
    "slicing",
)


def load() -> None:
    """Imports every family, which registers its operators."""
    for name in FAMILIES:
        importlib.import_module(f"metal4conv.frontends.onnx.operators.{name}")
