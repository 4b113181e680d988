"""Whether a package of an ONNX file gives what onnxruntime gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metal4conv import load
from metal4conv.frontends.source import ModelSource
from tests.frontends.helpers import packaged

TOLERANCES = {"float32": 1e-4, "float16": 2e-2}
"""Of an output's largest magnitude."""


def assert_close(
    opened: ModelSource, cases: list[dict[str, np.ndarray]], folder: Path, precision: str
) -> None:
    """The package gives what onnxruntime gives, for all sizes."""
    package, _ = packaged(opened, folder, precision)
    executor = load(package)
    for feeds in cases:
        given = {name: item.astype(executor.inputs[name].dtype) for name, item in feeds.items()}
        found, expected = executor.predict(given), opened.predict(feeds)
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name].shape == array.shape, name
            difference = np.abs(found[name].astype(np.float64) - array).max()
            assert difference <= TOLERANCES[precision] * np.abs(array).max(), name
