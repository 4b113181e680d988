"""Arguments that coremltools' lowerings of exported programs drop are not lost."""

from __future__ import annotations

from collections.abc import Callable

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
    "rms_norm": lambda x: functional.rms_norm(x, (8,), eps=0.1),
    "rms_norm_of_weight": lambda x: functional.rms_norm(x, (8,), weight=torch.arange(8.0)),
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
