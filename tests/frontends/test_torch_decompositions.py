"""Arguments that coremltools' lowerings of exported programs drop are not lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from metal4conv import load
from metal4conv.frontends.toolkit import quiet
from tests.frontends.helpers import packaged, source


def picture(x: Tensor) -> Tensor:
    return x.reshape(1, 2, 4, 8)


CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "add": lambda x: torch.add(x, x.flip(0), alpha=2),
    "add_number": lambda x: torch.add(x, 0.3, alpha=2),
    "sub": lambda x: torch.sub(x, x.flip(0), alpha=2),
    "rsub": lambda x: torch.rsub(x, x.flip(0), alpha=3),
    "gelu": lambda x: functional.gelu(4 * x - 2, approximate="tanh"),
    "softplus": lambda x: functional.softplus(x, beta=2, threshold=1),
    "softplus_of_beta": lambda x: functional.softplus(x, beta=3),
    "lerp": lambda x: torch.lerp(x, x.flip(0), 0.3),
    "lerp_by_tensor": lambda x: torch.lerp(x, x.flip(0), x[:, :1]),
    "rms_norm": lambda x: functional.rms_norm(x, (8,), eps=0.1),
    "rms_norm_of_weight": lambda x: functional.rms_norm(x, (8,), weight=torch.arange(8.0)),
    "rms_norm_of_small": lambda x: functional.rms_norm(1e-6 * x, (8,), eps=1e-6),
    "rms_norm_of_large": lambda x: functional.rms_norm(1e4 * x - 100, (8,), eps=1e-5),
    "max_pool1d": lambda x: functional.max_pool1d(x.reshape(1, 2, 32), 2),
    "max_pool2d": lambda x: functional.max_pool2d(picture(x), 2),
    "max_pool3d": lambda x: functional.max_pool3d(x.reshape(1, 1, 4, 4, 4), 2),
    # these have their defaults, and stay what they are
    "plain_gelu": lambda x: functional.gelu(4 * x - 2),
    "plain_softplus": lambda x: functional.softplus(x),
    "plain_pool": lambda x: functional.max_pool2d(picture(x), 2, 1, 1),
}


class All(torch.nn.Module):
    """Each case as an output of its own."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: case(x) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """What the package gives, and what PyTorch gives, of one conversion."""
    folder = tmp_path_factory.mktemp("decompositions")
    x = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
    with quiet():
        torch.export.save(torch.export.export(All(), (x,)), folder / "net.pt2")
    package, _ = packaged(source(folder / "net.pt2"), folder)
    found = load(package).predict({"x": x.numpy()})
    return {name: (found[name], case(x).numpy()) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_argument_counts(name: str, results: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    found, expected = results[name]
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_a_norm_of_large_activations_is_right_in_float16(tmp_path: Path) -> None:
    class Norm(torch.nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return functional.rms_norm(x, (16,), eps=1e-5)

    x = 3000 * torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    with quiet():
        torch.export.save(torch.export.export(Norm(), (x,)), tmp_path / "net.pt2")
    package, _ = packaged(source(tmp_path / "net.pt2"), tmp_path, "float16")
    [found] = load(package).predict({"x": x.numpy().astype(np.float16)}).values()
    np.testing.assert_allclose(found, Norm()(x).numpy(), rtol=5e-3, atol=2e-3)
