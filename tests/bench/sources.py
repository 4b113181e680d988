"""The files that peers run: `python -m tests.bench.sources NAME FOLDER` exports one network."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch

from tests.bench.networks import example, network


class Named(torch.nn.Module):
    """A network whose input is called x, whatever its own name for it."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.network(x)
        return result


def export(name: str, folder: Path) -> None:
    """Writes `.pt` (an exported LSTM cannot be converted), `.onnx` and the input as `.npy`."""
    x = example(name)
    np.save(folder / f"{name}.npy", x.numpy())
    with warnings.catch_warnings():
        # both are deprecated; the newer ONNX exporter needs onnxscript
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(Named(network(name)).eval(), x), folder / f"{name}.pt")
        target = str(folder / f"{name}.onnx")
        torch.onnx.export(network(name), (x,), target, dynamo=False, opset_version=17)


if __name__ == "__main__":
    export(sys.argv[1], Path(sys.argv[2]))
