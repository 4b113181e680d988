"""The protobuf classes of Core ML's file format, borrowed from coremltools without importing it.

Importing coremltools takes 5 to 10 s, since it imports torch and TensorFlow wherever they are
installed. The generated classes in its folder `proto/` need only protobuf and load in 0.06 s.
The descriptor pool accepts the same file twice, so a later `import coremltools` is unharmed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from metal4conv.errors import MissingDependency
from metal4conv.lazy import install_line

ALIAS = "metal4conv.mil.coremltools_proto"
"""Under this name the folder is imported, so that coremltools' own `__init__` does not run."""


@cache
def proto_module(name: str) -> ModuleType:
    """The generated module `name`, such as `Model_pb2` or `MIL_pb2`."""
    found = importlib.util.find_spec("coremltools")
    if found is None or not found.submodule_search_locations:
        raise MissingDependency(
            "the Python package coremltools is not installed",
            hint=f"run: {install_line('coremltools', None)}",
        )
    folder = Path(next(iter(found.submodule_search_locations))) / "proto"
    if ALIAS not in sys.modules:
        package = ModuleType(ALIAS)
        package.__path__ = [str(folder)]
        sys.modules[ALIAS] = package
    return importlib.import_module(f"{ALIAS}.{name}")


def new_model() -> Any:  # Any: generated protobuf classes carry no types
    """An empty `CoreML.Specification.Model` message."""
    return proto_module("Model_pb2").Model()


def deterministic_bytes(message: Any) -> bytes:  # Any: a protobuf message
    """A message serialized with its maps in the order of their keys."""
    data: bytes = message.SerializeToString(deterministic=True)
    return data
