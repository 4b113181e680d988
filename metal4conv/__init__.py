"""Neural networks for Metal 4: convert, lay out, verify on any machine."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from metal4conv.conversion import convert
    from metal4conv.execute.interpreter import load
    from metal4conv.frontends.prediction import disable_predict, enable_predict
    from metal4conv.layout.manifest import layout
    from metal4conv.verify.verification import verify

__all__ = [
    "__version__",
    "convert",
    "disable_predict",
    "enable_predict",
    "layout",
    "load",
    "verify",
]

LAZY = {
    "convert": "metal4conv.conversion",
    "disable_predict": "metal4conv.frontends.prediction",
    "enable_predict": "metal4conv.frontends.prediction",
    "layout": "metal4conv.layout.manifest",
    "load": "metal4conv.execute.interpreter",
    "verify": "metal4conv.verify.verification",
}


def __getattr__(name: str) -> Any:  # Any: whatever the name stands for
    """The public function `name`, imported when it is first used."""
    if name not in LAZY:
        raise AttributeError(f"module metal4conv has no attribute {name}")
    value = getattr(importlib.import_module(LAZY[name]), name)
    globals()[name] = value  # a function hides the subpackage of the same name
    return value
