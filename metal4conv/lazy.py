"""Heavy packages, imported where they are needed and named with their install line when missing."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType
from typing import Any

from metal4conv.errors import MissingDependency


def require(module: str, *, extra: str | None = None) -> ModuleType:
    """The imported module; `MissingDependency` with the pip line when it is not installed.

    >>> require("json").__name__
    'json'
    """
    check_installed(module, extra=extra)
    return importlib.import_module(module)


def check_installed(module: str, *, extra: str | None = None) -> None:
    """`MissingDependency` when `module` is not installed; nothing is imported."""
    if not is_installed(module):
        raise MissingDependency(
            f"the Python package {module.partition('.')[0]} is not installed",
            hint=f"run: {install_line(module, extra)}",
        )


def is_installed(module: str) -> bool:
    """Whether the top-level package of `module` can be imported; nothing is imported.

    >>> is_installed("no_such_module.part")
    False
    """
    top = module.partition(".")[0]
    return top in sys.modules or importlib.util.find_spec(top) is not None


def install_line(module: str, extra: str | None) -> str:
    """The pip command that brings `module`.

    >>> install_line("tensorflow", "tensorflow")
    "pip install 'metal4conv[tensorflow]'"
    """
    return f"pip install 'metal4conv[{extra}]'" if extra else f"pip install {module}"


def make_callable(package: str, module: str, function: str) -> None:
    """Lets a package be called like its main function: `metal4conv.layout(...)`.

    `metal4conv.layout` is a function of the public API and a package; which of them the name
    means must not depend on what was imported before.
    """

    class CallablePackage(ModuleType):
        def __call__(self, *args: Any, **options: Any) -> Any:  # Any: passed on unchanged
            return getattr(importlib.import_module(module), function)(*args, **options)

    sys.modules[package].__class__ = CallablePackage
