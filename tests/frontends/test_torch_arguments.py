"""No argument of a PyTorch operation is lost in silence, in either format.

All cases are outputs of one network, which is converted once for each format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from metal4conv import load
from metal4conv.errors import UnsupportedModel
from metal4conv.frontends.toolkit import quiet
from tests.frontends.helpers import packaged, source
from tests.frontends.torch_argument_cases import FAMILIES, GAPS

X = torch.randn(4, 6, 8, generator=torch.Generator().manual_seed(0))
CASES = {
    re.sub(r"\W", "_", f"{family}_{name}"): case
    for family, cases in FAMILIES.items()
    for name, case in cases.items()
}
TOLERANCE = 1e-4
"""Powers, quotients and sums of many elements lose some bits of float32."""

Convert = Callable[[str, Mapping[str, Callable[[Tensor], Tensor]]], dict[str, np.ndarray]]


class All(torch.nn.Module):
    """Each case as an output of its own."""

    def __init__(self, cases: Mapping[str, Callable[[Tensor], Tensor]]) -> None:
        super().__init__()
        self.cases = dict(cases)
        self.inner = torch.nn.ModuleList(
            case for case in cases.values() if isinstance(case, torch.nn.Module)
        )
        self.eval()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: case(x) for name, case in self.cases.items()}


def converted(ending: str, cases: Mapping[str, Callable[[Tensor], Tensor]], folder: Path) -> Path:
    """The package of a network of cases, by way of an exported program or TorchScript."""
    path = folder / f"net.{ending}"
    with quiet(), torch.no_grad():
        if ending == "pt2":
            torch.export.save(torch.export.export(All(cases), (X,)), path)
        else:
            traced = torch.jit.trace(All(cases), (X,), strict=False, check_trace=False)
            torch.jit.save(traced, path)
    return packaged(source(path, ["x:4x6x8"] if ending == "pt" else []), folder)[0]


@pytest.fixture(scope="module", params=["pt2", "pt"])
def results(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, dict[str, np.ndarray]]:
    """What the package of each format gives."""
    ending = request.param
    cases = {name: case for name, case in CASES.items() if name not in GAPS[ending]}
    package = converted(ending, cases, tmp_path_factory.mktemp(ending))
    return ending, load(package).predict({"x": X.numpy()})


@pytest.mark.parametrize("name", CASES)
def test_argument_counts(name: str, results: tuple[str, dict[str, np.ndarray]]) -> None:
    ending, found = results
    if name in GAPS[ending]:
        pytest.skip("cannot be converted from this format")
    with quiet(), torch.no_grad():
        expected = CASES[name](X).numpy()
    # Core ML has no tensors without dimensions
    assert found[name].shape == (expected.shape or (1,))
    np.testing.assert_allclose(found[name], expected.reshape(found[name].shape), TOLERANCE, 1e-5)


@pytest.mark.parametrize(
    ("ending", "name"), [(ending, name) for ending, names in GAPS.items() for name in names]
)
def test_gaps_are_refused(ending: str, name: str, tmp_path: Path) -> None:
    """One that converts has no place in the list any more."""
    with pytest.raises(UnsupportedModel):
        converted(ending, {name: CASES[name]}, tmp_path)
