"""Keras networks that tf2onnx exported, beside onnxruntime."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.frontends.helpers import source
from tests.outside.onnx_checks import assert_close
from tests.outside.tf2onnx_exports import OPEN, SHAPES

if importlib.util.find_spec("tf2onnx") is None:
    pytest.skip("tf2onnx is installed by make test-slow", allow_module_level=True)

OPSETS = (11, 17, 18)
"""18 is the newest that tf2onnx 1.17 writes."""

SIZES = {"mobilenet": (32, 33, 64, 96, 130), "recurrent": (1, 2, 5, 12, 31)}
SIZES["attention"] = SIZES["recurrent"]
"""For dynamic exports, the smallest first; no export has seen any of them."""


NOT_EXPORTED = {
    ("attention", 11): "tf2onnx writes Einsum, which opset 11 does not have",
}


@pytest.mark.slow
@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("name", [*SHAPES, *(f"{name}-dynamic" for name in OPEN)])
def test_tf2onnx_export(name: str, opset: int, tmp_path: Path) -> None:
    base, _, dynamic = name.partition("-")
    if reason := NOT_EXPORTED.get((base, opset)):
        pytest.skip(reason)
    file = tmp_path / "net.onnx"
    command = [sys.executable, "-m", "tests.outside.tf2onnx_exports", name, str(opset), str(file)]
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, capture_output=True, text=True, env=quiet)
    assert done.returncode == 0, done.stderr[-2000:]
    axes = OPEN[base] if dynamic else ()
    sizes = SIZES[base] if dynamic else (0,)
    ranges = [f"d{axis}={min(sizes)}..{max(sizes)}" for axis in axes]
    opened = source(file, dims=ranges)
    generator = np.random.default_rng(0)
    high = 255 if len(SHAPES[base]) == 4 else 1  # pictures
    cases = []
    for size in sizes:
        shape = tuple(size if n in axes else known for n, known in enumerate(SHAPES[base]))
        cases.append({"x": (generator.random(shape) * high).astype(np.float32)})
    for precision in ("float32", "float16") if opset == OPSETS[-1] else ("float32",):
        assert_close(opened, cases, tmp_path / precision, precision)
