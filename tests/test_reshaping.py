"""Packages with other sizes: fixed, enumerated, dynamic, and what cannot be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv import layout, load
from metal4conv.mil.package import read_package
from tests.conftest import Done, sample

SIZES = ["-i", "color:1x3xhxw", "--dim", "h=16..64@24", "--dim", "w=16..96@32"]
VIT = '''
import torch

class Patches(torch.nn.Module):
    """The start of a vision transformer: patches, and a position for each of them."""

    def __init__(self):
        super().__init__()
        self.project = torch.nn.Conv2d(3, 8, 4, stride=4)
        self.position = torch.nn.Parameter(torch.randn(1, 16, 8))
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, pixels):
        tokens = self.project(pixels).flatten(2).transpose(1, 2)
        return self.norm(tokens + self.position)

def patches():
    torch.manual_seed(0)
    return Patches(), (torch.rand(1, 3, 16, 16),)
'''


@pytest.fixture(scope="module")
def dynamic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The upscaler with dynamic sizes."""
    from metal4conv.cli import run

    folder = tmp_path_factory.mktemp("dynamic")
    assert run(["convert", *sample("upscaler"), *SIZES, "-o", str(folder), "-q"]) == 0
    return folder / "upscaler.mlpackage"


def operations(package: Path) -> list[Any]:
    """Type, output types and constants of a package's operations."""
    block = read_package(package).function().block
    return [
        (item.type, [value.type for value in item.outputs])
        for item in block.operations
        if item.type != "const"
    ]


def test_dynamic_made_fixed_equals_converted_fixed(
    dynamic: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    fixed = ["-i", "color:1x3x24x32", "-o", tmp_path / "fixed", "-q"]
    assert metal4conv("convert", *sample("upscaler"), *fixed).code == 0
    sizes = ["--dim", "h=24", "--dim", "w=32", "-o", tmp_path / "reshaped", "-q"]
    assert metal4conv("reshape", dynamic, *sizes).code == 0
    one, other = (tmp_path / name / "upscaler.mlpackage" for name in ("fixed", "reshaped"))
    assert operations(one) == operations(other)
    color = np.random.default_rng(0).random((1, 3, 24, 32)).astype(np.float16)
    results = [load(package).predict({"color": color})["output"] for package in (one, other)]
    np.testing.assert_array_equal(*results)
    assert metal4conv("verify", other).code == 0


def test_range_made_narrower_and_enumerated(
    dynamic: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    sizes = ["--dim", "h=24|48@24", "--dim", "w=32|64"]
    assert metal4conv("reshape", dynamic, *sizes, "-o", tmp_path, "-q").code == 0
    package = tmp_path / "upscaler.mlpackage"
    (color,) = read_package(package).interface().inputs
    assert set(color.enumerated) == {(1, 3, h, w) for h in (24, 48) for w in (32, 64)}
    assert layout(package).outputs[0].coreml.shape == (1, 3, "2*h", "2*w")
    assert metal4conv("verify", package).code == 0
    refused = metal4conv("layout", package, "--dim", "h=25")
    assert refused.code == 2
    assert "24 or 48" in refused.stderr


def test_fixed_convolutions_made_dynamic_run_at_three_sizes(
    dynamic: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    fixed = ["-i", "color:1x3x24x32", "-o", tmp_path / "fixed", "-q"]
    assert metal4conv("convert", *sample("upscaler"), *fixed).code == 0
    package = tmp_path / "fixed" / "upscaler.mlpackage"
    done = metal4conv("reshape", package, *SIZES, "-o", tmp_path, "-q")
    assert (done.code, done.stderr) == (0, "")
    made, source = load(tmp_path / "upscaler.mlpackage"), load(dynamic)
    for h, w in ((16, 16), (24, 32), (64, 90)):
        color = np.random.default_rng(h).random((1, 3, h, w)).astype(np.float16)
        result = made.predict({"color": color})["output"]
        assert result.shape == (1, 3, 2 * h, 2 * w)
        np.testing.assert_array_equal(result, source.predict({"color": color})["output"])


def test_position_embedding_forbids_other_sizes(
    tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    (tmp_path / "net.py").write_text(VIT)
    arguments = [f"{tmp_path / 'net.py'}:patches", "-o", tmp_path, "-q"]
    assert metal4conv("convert", *arguments).code == 0
    shape = ["-i", "pixels:1x3xhxw", "--dim", "h=16..64/4", "--dim", "w=16..64/4"]
    done = metal4conv("reshape", tmp_path / "patches.mlpackage", *shape, "-o", tmp_path / "new")
    assert done.code == 3
    assert "operation" in done.stderr
    assert "(h//4)" in done.stderr
    assert "fixed when the model was converted" in done.stderr
    assert not (tmp_path / "new").exists()


def test_unknown_dimension_is_named(dynamic: Path, metal4conv: Callable[..., Done]) -> None:
    done = metal4conv("reshape", dynamic, "--dim", "height=24")
    assert done.code == 2
    assert 'no input has a dimension "height"' in done.stderr


def test_reshape_says_what_it_wrote_as_json(
    dynamic: Path, tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    done = metal4conv("reshape", dynamic, "--dim", "h=24", "-o", tmp_path, "--json")
    document = json.loads(done.stdout)
    assert document["layout"]["dimensions"].keys() == {"w"}
