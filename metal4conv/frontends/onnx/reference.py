"""Runs an ONNX model as it is: with onnxruntime where it is installed, else with onnx itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx

from metal4conv.errors import UsageError, first_line
from metal4conv.frontends.onnx.model import OnnxModel
from metal4conv.frontends.onnx.tensors import PACKED
from metal4conv.frontends.toolkit import quiet
from metal4conv.lazy import is_installed


class Reference(Protocol):
    """Something that runs a model on arrays by name."""

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs in their order; floats as float32."""


def open_reference(model: OnnxModel, names: Sequence[str] = ()) -> Reference:
    """onnxruntime, or onnx's reference evaluator where that is missing or refuses the model.

    With `names` it gives those values of the graph instead of the outputs.
    """
    if is_installed("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        # else products with quantized weights are computed in 8 bits, which is not what they mean
        options.add_session_config_entry("session.disable_quant_qdq", "1")
        folder = str(model.path.resolve().parent)
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", folder
        )
        given = with_outputs(model, names) if names else str(model.path)
        try:
            session = onnxruntime.InferenceSession(
                given, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # it raises a kind of its own for each status
            if not is_gap(error):
                raise UsageError(
                    f"{model.path}: onnxruntime does not take the model: {first_line(error)}"
                ) from error
        else:
            return Session(session, model, names)
    return Evaluator(model, names)


def with_outputs(model: OnnxModel, names: Sequence[str]) -> bytes:
    """The model's file with more outputs: protobuf joins messages that follow one another."""
    outputs = {item.name for item in model.proto.graph.output}
    more = onnx.ModelProto()
    for name in names:
        if name not in outputs:
            more.graph.output.add(name=name)
    return model.path.read_bytes() + more.SerializeToString()


def is_gap(error: Exception) -> bool:
    """Whether onnxruntime only lacks something: a kernel, a newer opset or IR version."""
    text = str(error)
    words = ("NOT_IMPLEMENTED", "Could not find an implementation", "opset", "IR version")
    return any(word in text for word in words)


class Session:
    """An onnxruntime session. (Its classes carry no types.)"""

    def __init__(self, session: object, model: OnnxModel, names: Sequence[str]) -> None:
        self.session = session
        self.names = list(names) or None
        self.dtypes = {item.name: item.dtype or "float32" for item in model.inputs}

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs in their order; floats as float32."""
        given = {name: typed(array, self.dtypes[name]) for name, array in feeds.items()}
        try:
            results = self.session.run(self.names, given)  # type: ignore[attr-defined]  # untyped
        except Exception as error:  # it raises a kind of its own for each status
            raise UsageError(
                f"the model cannot run on these inputs: {first_line(error)}"
            ) from error
        return widened(results)


class Evaluator:
    """onnx's own evaluator, written in numpy: slow, and complete."""

    def __init__(self, model: OnnxModel, names: Sequence[str]) -> None:
        from onnx.reference import ReferenceEvaluator

        self.dtypes = {item.name: item.dtype or "float32" for item in model.inputs}
        proto = onnx.load_model(str(model.path))
        self.evaluator = ReferenceEvaluator(proto)
        self.names = list(names) or None

    def run(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The outputs in their order; floats as float32."""
        given = {name: typed(array, self.dtypes[name]) for name, array in feeds.items()}
        with quiet():
            results = self.evaluator.run(self.names, given)
        assert isinstance(results, list)
        return widened(results)


def typed(array: np.ndarray, dtype: str) -> np.ndarray:
    """An array in an ONNX dtype; what numpy lacks comes from ml_dtypes, which onnx brings."""
    if dtype == "bfloat16" or dtype in PACKED:
        import ml_dtypes

        return np.asarray(array, getattr(ml_dtypes, dtype))
    return np.asarray(array, dtype)


def widened(results: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Arrays with all floats as float32."""
    arrays = [np.asarray(item) for item in results]
    is_float = [
        np.issubdtype(item.dtype, np.floating) or item.dtype.name == "bfloat16" for item in arrays
    ]
    return [
        item.astype(np.float32) if narrow else item
        for item, narrow in zip(arrays, is_float, strict=True)
    ]
