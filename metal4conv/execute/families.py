"""The files that hold operations, by MIL's families; importing them fills the tables."""

from __future__ import annotations

import importlib

FAMILIES = (
    "activation",
    "classify",
    "constexpr",
    "control_flow",
    "conv",
    "elementwise_binary",
    "elementwise_unary",
    "host",
    "image_resizing",
    "linear",
    "normalization",
    "pool",
    "random",
    "recurrent",
    "reduction",
    "scatter_gather",
    "states",
    "tensor_operation",
    "tensor_transformation",
    "transformer",
)


def load_all() -> None:
    """Imports every family."""
    for name in FAMILIES:
        importlib.import_module(f"metal4conv.execute.{name}")
