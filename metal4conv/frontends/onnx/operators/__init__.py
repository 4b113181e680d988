"""The ONNX operators, a file a family; `load` fills the table with all of them."""

from __future__ import annotations

import importlib
import pkgutil


def load() -> None:
    """Imports every family, which registers its operators."""
    for module in sorted(item.name for item in pkgutil.iter_modules(__path__)):
        importlib.import_module(f"{__name__}.{module}")
