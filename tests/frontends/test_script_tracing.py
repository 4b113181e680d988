"""Values of TorchScript modules, beside those of their packages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from metal4conv.frontends.toolkit import quiet
from tests.frontends.correspondence import TOLERANCES, assert_corresponds
from tests.frontends.helpers import source


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)
        nn.init.normal_(self.norm.weight)
        nn.init.normal_(self.norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.norm(self.conv(x)))


class Network(nn.Module):
    """Writes into values, fuses, divides by constants, and splits."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Block()
        self.linear = nn.Linear(8, 8)
        self.layer_norm = nn.LayerNorm(8)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.block(x)
        z = y[:, :4] * 2
        z.add_(1).div_(7)
        written = z.clone()
        written[:, 0] = 3.0
        rows = y.flatten(2).transpose(1, 2)
        gelu = nn.functional.gelu(self.layer_norm(self.linear(rows)))
        scores = torch.softmax(torch.einsum("bij,bkj->bik", gelu, rows) / 3.0, -1)
        first, second = torch.split(y, 4, 1)
        return {"a": written / 5 + first, "b": scores @ gelu, "c": second.sigmoid() * second}


def traced(folder: Path) -> Path:
    torch.manual_seed(0)
    with quiet():
        example = torch.rand(1, 3, 6, 6)
        torch.jit.trace(Network().eval(), example, strict=False).save(folder / "net.pt")
    return folder / "net.pt"


@pytest.mark.parametrize("precision", TOLERANCES)
def test_traced(precision: str, tmp_path: Path) -> None:
    opened = source(traced(tmp_path), ["x:1x3x6x6"])
    found = assert_corresponds(opened, tmp_path, precision, at_least=0.9)
    rows = {row.operator: row for row in found.sources}
    assert rows["aten::_convolution"].module == "block.conv"
    assert rows["aten::relu_"].module == "block"
    lines = Path(__file__).read_text().splitlines()
    file, _, number = (rows["aten::einsum"].line or "").partition(":")
    assert file == Path(__file__).name
    assert "torch.einsum" in lines[int(number) - 1]
    held = [row.operator for row in map(found.source_of, found.values) if row is not None]
    for operator in ("batch_norm", "relu_", "add_", "div_", "gelu", "layer_norm", "einsum"):
        assert f"aten::{operator}" in held


def test_lowering_and_tracing_know_the_same_names(tmp_path: Path) -> None:
    """coremltools changes the module's graph while it reads it."""
    opened, fresh = (source(traced(tmp_path), ["x:1x3x6x6"]) for _ in range(2))
    before = opened.values()
    assert_corresponds(opened, tmp_path)
    assert opened.values() == before == fresh.values()


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.sum() > 3):
            x = self.linear(x)
        for _ in range(3):
            x = torch.relu(x) + 1
        return torch.exp(x * 0.1)


def test_scripted_with_a_branch_and_a_loop(tmp_path: Path) -> None:
    with quiet():
        torch.jit.script(Branches().eval()).save(tmp_path / "net.pt")
    opened = source(tmp_path / "net.pt", ["x:3x4"])
    found = assert_corresponds(opened, tmp_path, at_least=1.0)
    operators = [row.operator for row in found.sources]
    assert {"prim::If", "prim::Loop", "aten::exp"} <= set(operators)
    assert "aten::relu" not in operators, "that is within the loop"
    row = next(row for row in opened.values() if row.operator == "aten::exp")
    assert row.code == "return torch.exp(x * 0.1)"


def test_only_wanted_values_are_given(tmp_path: Path) -> None:
    opened = source(traced(tmp_path), ["x:1x3x6x6"])
    zeros = {"x": torch.zeros(1, 3, 6, 6).numpy()}
    name = next(row.name for row in opened.values() if row.operator == "aten::softmax")
    assert list(opened.trace(zeros, [name, "no such value"])) == [name]
    assert opened.trace(zeros, []) == {}
