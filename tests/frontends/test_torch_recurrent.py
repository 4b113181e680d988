"""Recurrent modules of exported programs, beside PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from metal4conv import load
from metal4conv.frontends.toolkit import quiet
from tests.frontends.helpers import packaged, source

MODULES = {
    "lstm": nn.LSTM(6, 8),
    "lstm_layers": nn.LSTM(6, 8, 2, batch_first=True),
    "lstm_both": nn.LSTM(6, 8, bidirectional=True, batch_first=True),
    "lstm_plain": nn.LSTM(6, 8, bias=False),
    "gru": nn.GRU(6, 8, 2, batch_first=True),
    "gru_both": nn.GRU(6, 8, bidirectional=True),
    "rnn": nn.RNN(6, 8, batch_first=True),
    "rnn_relu": nn.RNN(6, 8, nonlinearity="relu"),
}


class All(nn.Module):
    """Each module with all of its outputs; the states of the first come from outside."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.parts = nn.ModuleDict(MODULES)
        for parameter in self.parts.parameters():
            nn.init.uniform_(parameter, -0.5, 0.5)

    def forward(self, x: Tensor, hidden: Tensor, cell: Tensor) -> dict[str, Tensor]:
        found = {}
        for name, module in self.parts.items():
            states = ((hidden, cell),) if name == "lstm" else ()
            sequence, last = module(x, *states)
            found[f"{name}_sequence"] = sequence
            for number, state in enumerate(last if isinstance(last, tuple) else (last,)):
                found[f"{name}_state_{number}"] = state
        return found


def test_recurrent_modules(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    net = All().eval()
    # as many steps as rows, so that either order of the two fits
    shapes = {"x": (4, 4, 6), "hidden": (1, 4, 8), "cell": (1, 4, 8)}
    inputs = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    with quiet():
        torch.export.save(torch.export.export(net, tuple(inputs.values())), tmp_path / "net.pt2")
    package, _ = packaged(source(tmp_path / "net.pt2"), tmp_path)
    found = load(package).predict({name: item.numpy() for name, item in inputs.items()})
    with torch.inference_mode():
        expected = net(**inputs)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.numpy(), atol=2e-6, err_msg=name)
