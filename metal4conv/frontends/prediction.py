"""coremltools' own `MLModel.predict`, answered by the executor where Core ML itself is missing.

coremltools reaches Core ML through one class, which its compiled module provides on macOS. After
`enable_predict()` a class of ours stands in its place, so that everything in coremltools that
predicts, its experimental comparators included, works on any machine.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv.errors import Metal4ConvError
from metal4conv.execute.interpreter import Executor, load
from metal4conv.execute.marshal import TORCH_DTYPES
from metal4conv.execute.pipeline import Pipeline
from metal4conv.lazy import require
from metal4conv.mil.dtypes import DTYPES

NEWEST_SPECIFICATION = 10
"""iOS 26 and macOS 26, the newest that coremltools 9 writes."""

enabled: dict[str, Any] = {}
"""What stood in coremltools before, by name; empty when nothing is replaced. (Any: its things.)"""


def enable_predict(device: str = "cpu") -> None:
    """Lets `coremltools.models.MLModel.predict` and `make_state` run on this machine.

    It holds for models opened or converted from then on, until `disable_predict()`. ML Programs
    only; a model of another kind opens as before and says so when it predicts.
    """
    require("coremltools")
    models: Any = importlib.import_module("coremltools.models.model")
    if not enabled:
        enabled["_MLModelProxy"] = models._MLModelProxy
        enabled["make_state"] = models.MLModel.make_state
    models._MLModelProxy = type("_MLModelProxy", (ExecutorProxy,), {"device": device})
    models.MLModel.make_state = make_state


def disable_predict() -> None:
    """Puts back what `enable_predict` replaced; models opened meanwhile keep predicting."""
    if not enabled:
        return
    models: Any = importlib.import_module("coremltools.models.model")
    models._MLModelProxy = enabled.pop("_MLModelProxy")
    models.MLModel.make_state = enabled.pop("make_state")


def make_state(model: Any) -> Any:  # Any: coremltools' MLModel and MLState
    """A new state of `model`; coremltools' own method asks for macOS 15 first."""
    models: Any = importlib.import_module("coremltools.models.model")
    proxy = model.__proxy__
    if not isinstance(proxy, ExecutorProxy):
        return enabled["make_state"](model)
    return models.MLState(proxy.newState())


class ExecutorProxy:
    """What coremltools asks of its bridge to Core ML; the method names are the bridge's."""

    device = "cpu"

    def __init__(
        self,
        path: str,
        compute_units: str,
        function: str,
        hints: Mapping[str, str],
        asset: object | None,
    ) -> None:
        """The model is read when it is first used: most conversions never predict.

        `RuntimeError` for a file: ML Programs are packages, which are folders.
        """
        if not Path(path).is_dir():
            raise RuntimeError(f"{path} is no ML Program package; only these are run here")
        self.path = path
        self.function = function or None
        self.opened: Executor | Pipeline | None = None
        self.load_nanoseconds: int | None = None
        self.predict_nanoseconds: int | None = None

    @staticmethod
    def maximum_supported_specification_version() -> int:
        return NEWEST_SPECIFICATION

    @property
    def executor(self) -> Executor | Pipeline:
        """The package's executor, loaded once."""
        if self.opened is None:
            start = time.perf_counter_ns()
            self.opened = load(self.path, self.function, self.device)
            self.load_nanoseconds = time.perf_counter_ns() - start
        return self.opened

    def predict(self, data: Mapping[str, Any], state: StateProxy | None = None) -> dict[str, Any]:
        """Outputs by name; `RuntimeError`, as Core ML's bridge raises, with our explanation."""
        try:
            executor = self.executor
            inputs = {name: as_declared(executor, name, value) for name, value in data.items()}
            start = time.perf_counter_ns()
            outputs = executor.predict(inputs, None if state is None else state.arrays)
            self.predict_nanoseconds = time.perf_counter_ns() - start
        except Metal4ConvError as error:
            raise RuntimeError(
                f"Unable to compute the prediction using ML Program: {error}"
            ) from error
        return dict(outputs)

    def batchPredict(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [self.predict(data) for data in batch]

    def newState(self) -> StateProxy:
        try:
            return StateProxy(self.executor.make_state())
        except Metal4ConvError as error:
            raise RuntimeError(str(error)) from error

    def get_compiled_model_path(self) -> str:
        raise RuntimeError("models are compiled by Core ML, which exists on Apple's systems only")

    def get_load_duration_in_nano_seconds(self) -> int | None:
        return self.load_nanoseconds

    def get_last_predict_duration_in_nano_seconds(self) -> int | None:
        return self.predict_nanoseconds


class StateProxy:
    """The states of one conversation with a model, by name."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def read_state(self, name: str) -> np.ndarray:
        return self.array(name).copy()

    def write_state(self, name: str, value: np.ndarray) -> None:
        held = self.array(name)
        if value.shape != held.shape:
            raise RuntimeError(f'state "{name}" has shape {held.shape}, got {value.shape}')
        held[...] = value

    def array(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            known = ", ".join(self.arrays) or "none"
            raise RuntimeError(f'there is no state "{name}" (states: {known})')
        return self.arrays[name]


def as_declared(executor: Executor | Pipeline, name: str, value: Any) -> Any:
    """A number or an array in the dtype that the input declares; pictures and texts as they are.

    Core ML converts between the number types of an MLMultiArray, floats to integers included,
    while `Executor.predict` takes a float for an integer as a mistake. (Any: what coremltools
    hands over.)
    """
    type = executor.inputs.get(name)
    is_number = isinstance(value, (np.ndarray, np.generic, int, float, bool))
    if type is None or type.dtype not in TORCH_DTYPES or not is_number:
        return value
    array = np.asarray(value)
    wanted = np.dtype(DTYPES[type.dtype].numpy)
    return array.astype(wanted) if array.dtype.kind in "fiub" else value
