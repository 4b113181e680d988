"""Networks of other projects with compressed weights give what the decompressed weights give.

In float32: coremltools 9 prunes nothing of a float16 weight with more than 65,504 elements, since
its position within the sorted weights is infinite in float16.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metal4conv import cli
from metal4conv.frontends.tensorflow_runtime import load_keras
from metal4conv.frontends.toolkit import quiet
from metal4conv.verify.golden import golden_path, read_golden
from tests.compression import compressed, compression_operations, outputs, weight_bytes
from tests.outside.test_networks import INPUTS, NETWORKS

pytest.importorskip("transformers", reason="installed by make test-slow")

KERAS = ("MobileNetV3Small", "EfficientNetV2B0", "ResNet50")


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A network's package, converted once."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            source = (
                [f"{NETWORKS}:{name}", *INPUTS[name]] if name in INPUTS else [keras(name, folder)]
            )
            arguments = [*source, "--precision", "float32", "-o", str(folder), "-q"]
            assert cli.run(["convert", *arguments]) == 0
            made[name] = folder / f"{name}.mlpackage"
        return made[name]

    return make


def keras(name: str, folder: Path) -> str:
    """The `.keras` file of a network of keras.applications with seeded random weights."""
    module = load_keras()
    path = folder / f"{name}.keras"
    with quiet():
        module.utils.set_random_seed(1)
        getattr(module.applications, name)(weights=None, input_shape=(128, 128, 3)).save(path)
    return str(path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["palettized", "quantized", "pruned"])
@pytest.mark.parametrize("name", [*INPUTS, *KERAS])
def test_network(name: str, kind: str, packages: Callable[[str], Path], tmp_path: Path) -> None:
    package = packages(name)
    small, large = compressed(package, kind, tmp_path)
    assert len(compression_operations(small)) == 1
    assert not compression_operations(large)
    assert weight_bytes(small) < 0.8 * weight_bytes(large)
    case = read_golden(golden_path(package)).cases[0]
    found, expected = outputs(small, case.inputs), outputs(large, case.inputs)
    for key, array in expected.items():
        np.testing.assert_array_equal(found[key], array)
