"""Packages with compressed weights, made by coremltools, and with what it makes of these again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from metal4conv import load
from metal4conv.frontends.toolkit import coremltools_with, quiet

KINDS = ("palettized", "quantized", "pruned", "pruned and palettized", "pruned and quantized")


def compressed(package: Path, kind: str, folder: Path) -> tuple[Path, Path]:
    """The package with all weights compressed, and that with the same weights decompressed."""
    coremltools = coremltools_with("torch")
    import coremltools.optimize.coreml as optimize

    every = {"weight_threshold": 0}
    configurations: Mapping[str, tuple[Callable[..., Any], Any]] = {
        # to group weights by k-means needs scikit-learn; a grid of 16 values does not
        "palettized": (
            optimize.palettize_weights,
            optimize.OpPalettizerConfig(mode="uniform", nbits=4, **every),
        ),
        "quantized": (
            optimize.linear_quantize_weights,
            optimize.OpLinearQuantizerConfig(mode="linear", dtype="int8", **every),
        ),
        "pruned": (
            optimize.prune_weights,
            optimize.OpMagnitudePrunerConfig(target_sparsity=0.5, **every),
        ),
    }
    with quiet():
        model = coremltools.models.MLModel(str(package), skip_model_load=True)
        for number, step in enumerate(kind.split(" and ")):
            compress, configuration = configurations[step]
            joint = {"joint_compression": True} if number else {}
            model = compress(model, optimize.OptimizationConfig(configuration), **joint)
        small, large = folder / f"{package.stem} small.mlpackage", folder / "large.mlpackage"
        model.save(str(small))
        optimize.decompress_weights(model).save(str(large))
    return small, large


def outputs(package: Path, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays that a package gives."""
    found: dict[str, np.ndarray] = load(package).predict(inputs)
    return found


def compression_operations(package: Path) -> set[str]:
    """The types of the operations that decompress weights."""
    block = load(package).function.block
    return {operation.type for operation in block.walk() if operation.type.startswith("constexpr_")}


def weight_bytes(package: Path) -> int:
    """The size of the weight file."""
    return sum(path.stat().st_size for path in package.rglob("weight.bin"))
