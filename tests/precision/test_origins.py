"""Names in the finished package and at the cast, and mixed programs beside real conversions."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from metal4conv.assembly import GoldenOptions, make_package
from metal4conv.execute.interpreter import Executor
from metal4conv.frontends.source import (
    CastOperation,
    LoweringRequest,
    ModelSource,
    open_source,
    parse_options,
)
from metal4conv.precision.mixing import mixed
from metal4conv.precision.origins import joined
from metal4conv.precision.tolerance import Wanted
from metal4conv.precision_search import Looked, look_for_precision

NETWORK = '''
import torch
from torch import nn
import torch.nn.functional as F

class Network(nn.Module):
    """Operations of many kinds; silu is written out, and joined after the casts."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.GroupNorm(2, 8)
        self.prelu, self.up = nn.PReLU(8), nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.dynamic = nn.Linear(8, 64)

    def forward(self, x):
        y = self.prelu(self.norm(F.mish(self.conv(x))))
        y = F.interpolate(y, scale_factor=2, mode="bilinear", align_corners=False)
        y = F.pad(self.up(F.avg_pool2d(y, 4)), (1, 1, 1, 1), mode="reflect")
        y = y * torch.sigmoid(y)
        s = y.mean(dim=2).transpose(1, 2)
        s = s + self.attention(s, s, s, need_weights=False)[0]
        w = self.dynamic(s.mean(dim=1)).reshape(1, 8, 8)
        s = torch.einsum("bij,bjk->bik", s, w) + F.linear(s, w[0])
        s = s + F.normalize(s, dim=-1) + torch.cumsum(s, 1) * 0.01 + s.std(dim=-1, keepdim=True)
        a, b = s.chunk(2, dim=-1)
        return (a * b.sigmoid()).sum(-1), torch.where(s > 0, s, 0.1 * s)

def network():
    return Network().eval()
'''


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ModelSource:
    folder = tmp_path_factory.mktemp("origins")
    (folder / "net.py").write_text(NETWORK, "utf-8")
    return open_source(f"{folder / 'net.py'}:network", parse_options(["x:1x3x8x8"], ()))


@pytest.fixture(scope="module")
def looked(source: ModelSource, tmp_path_factory: pytest.TempPathFactory) -> Looked:
    """A search that keeps nothing."""
    request = LoweringRequest(precision="auto", output_names=source.outputs)
    work = tmp_path_factory.mktemp("wide") / "work"
    return look_for_precision(source, request, GoldenOptions(), Wanted(10.0), work, print)


def test_what_was_joined_later_is_named_as_it_was(looked: Looked) -> None:
    search = looked.search
    silu = next(node for node in search.nodes if node.operation.type == "silu")
    assert [part.type for part in search.origins[silu.name]] == ["sigmoid", "mul"]
    assert all(search.origins[node.name] for node in search.nodes if node.eligible)


@pytest.mark.parametrize("share", [0.0, 0.4, 1.0])
def test_as_the_conversion_makes_it(
    source: ModelSource, looked: Looked, tmp_path: Path, share: float
) -> None:
    """To the last bit, whichever operations are kept."""
    search, chance = looked.search, random.Random(1)
    search.kept = {
        number
        for number, node in enumerate(search.nodes)
        if node.eligible and chance.random() < share
    }
    search.reasons = {search.nodes[number].name: "chosen" for number in search.kept}
    made = make_package(source, looked.request, tmp_path / "net.mlpackage", tmp_path / "work")
    program = mixed(search.function, search.names_of(search.kept), search.narrowing)
    inputs = search.trials[0].inputs
    expected = Executor.from_package(made.package).predict(inputs)
    found = Executor(program, search.interface).predict(inputs)
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_operations_between_values_of_the_package() -> None:
    sigmoid = CastOperation("s", "sigmoid", ("x",), ("a",))
    product = CastOperation("m", "mul", ("x", "a"), ("y",))
    makers = {"a": sigmoid, "y": product}
    assert joined(["y"], makers, {"x", "y"}) == (sigmoid, product)
    assert joined(["y"], makers, {"x", "a", "y"}) == (product,)
    assert joined(["z"], makers, {"x", "y", "z"}) == ()
