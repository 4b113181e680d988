"""Core ML itself, where this machine has it: coremltools' `MLModel.predict` on a Mac."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import MissingDevice
from metal4conv.lazy import require
from metal4conv.mil.package import read_package
from metal4conv.mil.program import TensorType


def require_core_ml() -> None:
    """`MissingDevice` on a system without Core ML."""
    if sys.platform != "darwin":
        raise MissingDevice(
            f"there is no Core ML here: it needs macOS, this is {sys.platform}",
            hint="metal4conv verify --on reference runs the package on any machine",
        )


class CoreMLRunner:
    """A function of a package in Core ML, on whatever processors it chooses."""

    def __init__(self, path: Path, function: str | None = None) -> None:
        require_core_ml()
        require("coremltools")
        models: Any = importlib.import_module("coremltools.models")
        package = read_package(path)
        interface = package.interface(function)
        self.inputs: Mapping[str, TensorType] = {item.name: item.type for item in interface.inputs}
        self.outputs = {item.name: item.type for item in interface.outputs}
        self.model = models.MLModel(str(path), function_name=function)

    def predict(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name, with the dtypes that the package declares.

        Core ML hands float16 outputs over as float32.
        """
        found = self.model.predict(dict(inputs))
        return {name: np.asarray(found[name], type.dtype) for name, type in self.outputs.items()}
