"""What coremltools refuses in a PyTorch model is told with the node, its module and its line."""

from __future__ import annotations

from pathlib import Path
from types import FunctionType

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metal4conv.errors import UnsupportedModel
from metal4conv.frontends import torch_lowerings
from metal4conv.frontends.toolkit import quiet
from metal4conv.frontends.torch_operations import torch_operations
from tests.frontends.helpers import packaged, source


class Pool(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return functional.avg_pool2d(x, 2, divisor_override=3)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pool = Pool()

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.pool(x))


X = torch.rand(1, 2, 4, 4)
FORMATS = ("pt2", "pt")


def written(folder: Path, ending: str) -> Path:
    """The net as an exported program, or as TorchScript."""
    path = folder / f"net.{ending}"
    with quiet():
        if ending == "pt2":
            torch.export.save(torch.export.export(Net(), (X,)), path)
        else:
            torch.jit.save(torch.jit.trace(Net(), (X,)), path)
    return path


@pytest.mark.parametrize("ending", FORMATS)
def test_what_cannot_be_lowered_is_named_with_its_place(ending: str, tmp_path: Path) -> None:
    opened = source(written(tmp_path, ending), ["x:1x2x4x4"] if ending == "pt" else [])
    with pytest.raises(UnsupportedModel) as caught:
        packaged(opened, tmp_path)
    assert caught.value.exit_code == 3
    assert "avg_pool2d cannot be converted: divisor_override is not supp" in caught.value.message
    line = Pool.forward.__code__.co_firstlineno + 1
    place = caught.value.where[0]
    assert place.startswith("node ")
    assert "(aten" in place
    assert "in pool" in place
    assert f"test_torch_errors.py:{line}" in place


def asks_wrongly(context: object, node: object) -> None:
    """A lowering that forgets an argument of coremltools' builder."""
    from coremltools.converters.mil.mil import Builder

    Builder.tanh(y=1)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_mistake_in_a_lowering_of_ours_keeps_its_traceback(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = source(written(tmp_path, ending), ["x:1x2x4x4"] if ending == "pt" else [])
    # as if it stood in the file of our lowerings
    lowering = FunctionType(asks_wrongly.__code__, vars(torch_lowerings))
    monkeypatch.setitem(torch_operations().name_to_func_mapping, "avg_pool2d", lowering)
    with pytest.raises(Exception, match="tanh") as caught:
        packaged(opened, tmp_path)
    assert not isinstance(caught.value, UnsupportedModel)
