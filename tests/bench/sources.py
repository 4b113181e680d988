"""The files that peers run: `python -m tests.bench.sources NAME FOLDER` exports one network."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from tests.bench.networks import example, network


def export(name: str, folder: Path) -> None:
    """Writes `.pt` (an exported LSTM cannot be converted), `.onnx` and the input as `.npy`."""
    x = example(name)
    np.save(folder / f"{name}.npy", x.numpy())
    with warnings.catch_warnings():
        # both are deprecated; the newer ONNX exporter needs onnxscript
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(network(name), x), folder / f"{name}.pt")
        target = str(folder / f"{name}.onnx")
        torch.onnx.export(network(name), (x,), target, dynamo=False, opset_version=17)


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]))
