"""The samples with compressed weights give exactly what the decompressed weights give."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metal4conv import cli
from metal4conv.verify.golden import golden_path, read_golden
from tests.compression import KINDS, compressed, compression_operations, outputs, weight_bytes
from tests.conftest import Done, sample
from tests.test_samples import SIZES

OPERATIONS = {
    "iOS17": {
        "palettized": {"constexpr_lut_to_dense"},
        "quantized": {"constexpr_affine_dequantize"},
        "pruned": {"constexpr_sparse_to_dense"},
    },
    "iOS18": {
        "palettized": {"constexpr_lut_to_dense"},
        "quantized": {"constexpr_blockwise_shift_scale"},
        "pruned": {"constexpr_sparse_to_dense"},
        "pruned and palettized": {"constexpr_lut_to_sparse", "constexpr_sparse_to_dense"},
        "pruned and quantized": {
            "constexpr_sparse_blockwise_shift_scale",
            "constexpr_sparse_to_dense",
        },
    },
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """A sample's package for a system, converted once."""
    made: dict[tuple[str, str], Path] = {}

    def make(name: str, target: str) -> Path:
        if (name, target) not in made:
            folder = tmp_path_factory.mktemp(f"{name}_{target}")
            arguments = [*sample(name), *SIZES[name], "--target", target, "-o", folder, "-q"]
            assert cli.run([str(argument) for argument in ["convert", *arguments]]) == 0
            made[name, target] = folder / f"{name}.mlpackage"
        return made[name, target]

    return make


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SIZES)
def test_sample(name: str, kind: str, packages: Callable[[str, str], Path], tmp_path: Path) -> None:
    check(packages(name, "iOS18"), "iOS18", kind, tmp_path)


@pytest.mark.parametrize("kind", OPERATIONS["iOS17"])
def test_operations_before_ios18(
    kind: str, packages: Callable[[str, str], Path], tmp_path: Path
) -> None:
    check(packages("neural_material", "iOS17"), "iOS17", kind, tmp_path)


def check(package: Path, target: str, kind: str, folder: Path) -> None:
    small, large = compressed(package, kind, folder)
    assert compression_operations(small) == OPERATIONS[target][kind]
    assert not compression_operations(large)
    assert weight_bytes(small) < weight_bytes(large)
    golden = read_golden(golden_path(package))
    for case in golden.cases:
        found, expected = outputs(small, case.inputs), outputs(large, case.inputs)
        for key, array in expected.items():
            np.testing.assert_array_equal(found[key], array)


def test_commands_read_compressed_packages(
    packages: Callable[[str, str], Path], tmp_path: Path, metal4conv: Callable[..., Done]
) -> None:
    package = packages("neural_material", "iOS18")
    small, _ = compressed(package, "palettized", tmp_path)
    report = json.loads(metal4conv("inspect", small, "--json").stdout)
    assert report["weights"].keys() >= {"uint4"}
    assert metal4conv("layout", small, "-q").code == 0
    golden = golden_path(package)
    done = metal4conv("verify", small, "--golden", golden, "--json")
    assert done.code == 1
    assert json.loads(done.stdout)["verdict"] == "differs"
