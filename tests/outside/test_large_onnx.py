"""A model of more than 2 GB, which no protobuf message can hold: its weights are external data."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from metal4conv import load

WIDTH, LAYERS = 8192, 9
TOTAL_BYTES = WIDTH * WIDTH * 4 * LAYERS

FRAMEWORKS_BYTES = 400 << 20
"""What coremltools, torch and onnx take before there is a model."""


def large_model(file: Path) -> None:
    """Layers of a square matrix each, 2.4 GB in all, in one file beside the model's."""
    generator = np.random.default_rng(0)
    data = file.with_suffix(".bin")
    weights = []
    with data.open("wb") as stream:
        for number in range(LAYERS):
            start = stream.tell()
            for _ in range(8):
                part = generator.standard_normal((WIDTH // 8, WIDTH), np.float32) / WIDTH**0.5
                stream.write(part.tobytes())
            tensor = TensorProto(
                name=f"w{number}", data_type=TensorProto.FLOAT, dims=(WIDTH, WIDTH)
            )
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": data.name, "offset": start}.items():
                tensor.external_data.add(key=key, value=str(value))
            tensor.external_data.add(key="length", value=str(stream.tell() - start))
            weights.append(tensor)
    names = ["x", *(f"y{number}" for number in range(LAYERS))]
    nodes = [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(LAYERS)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, WIDTH))
        for name in (names[0], names[-1])
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), file)


def anonymous_bytes(process: int) -> int:
    """Memory of a process that no file backs."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")]
    return found[0] if found else 0


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_more_than_two_gigabytes(precision: str, tmp_path: Path) -> None:
    file = tmp_path / "large.onnx"
    large_model(file)
    assert TOTAL_BYTES > 1 << 31
    command = [sys.executable, "-m", "metal4conv", "convert", str(file), "-q"]
    process = subprocess.Popen([*command, "-o", str(tmp_path), "--precision", precision])
    peak = 0
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(0.05)
    assert process.returncode == 0
    held = TOTAL_BYTES if precision == "float32" else TOTAL_BYTES // 2
    print(
        f"peak of {peak / 1e9:.2f} GB for {TOTAL_BYTES / 1e9:.2f} GB, package {held / 1e9:.2f} GB"
    )
    assert peak < 1.1 * (TOTAL_BYTES + held) + FRAMEWORKS_BYTES
    executor = load(tmp_path / "large.mlpackage")
    x = np.random.default_rng(1).standard_normal((1, WIDTH), np.float32)
    (given,) = executor.inputs
    (found,) = executor.predict({given: x.astype(executor.inputs[given].dtype)}).values()
    weights = np.memmap(file.with_suffix(".bin"), np.float32, "r", shape=(LAYERS, WIDTH, WIDTH))
    expected = x
    for matrix in weights:
        expected = expected @ matrix
    tolerance = {"float32": 1e-4, "float16": 2e-2}[precision]
    assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
