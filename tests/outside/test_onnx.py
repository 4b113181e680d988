"""Networks exported to ONNX by both of PyTorch's exporters, and those that onnx itself ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.frontends.helpers import source
from tests.outside.onnx_checks import TOLERANCES, assert_close

pytest.importorskip("transformers", reason="installed by make test-slow")
pytest.importorskip("onnxscript", reason="installed by make test-slow")

from tests.outside.onnx_exports import NETWORKS, Network, export  # needs transformers

NEWEST = {"trace": 20, "dynamo": 23}
OPSETS = {"trace": (11, 17, 20), "dynamo": (18, 23)}
"""What each exporter offers of 11, 17 and the newest; that with dynamo starts at 18."""

NOT_EXPORTED = {
    "bert_fused trace 11": "scaled_dot_product_attention is exported from opset 14 on",
    "recurrent dynamo dynamic": "torch.export fixes the length that an LSTM runs over",
    "swin2sr dynamo dynamic": "torch.export takes many minutes over its sizes",
}
"""By words that a variant has: why PyTorch does not export it."""

LIGHT = Path(onnx.__file__).parent / "backend/test/data/light"
FILLED = ("bvlc_alexnet", "vgg19", "zfnet512")
"""Architectures whose weights would take hundreds of megabytes of random numbers."""


def variants() -> Iterator[tuple[str, str, int, str]]:
    """Network, exporter, opset version, and whether its sizes are fixed."""
    for name, network in NETWORKS.items():
        for exporter, opsets in OPSETS.items():
            for opset in opsets:
                yield name, exporter, opset, "fixed"
                if network.ranges:
                    yield name, exporter, opset, "dynamic"


def reason_of(variant: tuple[str, str, int, str]) -> str | None:
    """Why a variant does not exist."""
    words = set(map(str, variant))
    return next((why for key, why in NOT_EXPORTED.items() if set(key.split()) <= words), None)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variant", list(variants()), ids=lambda variant: "-".join(map(str, variant))
)
def test_export(variant: tuple[str, str, int, str], tmp_path: Path) -> None:
    if reason := reason_of(variant):
        pytest.skip(reason)
    name, exporter, opset, sizes = variant
    network = NETWORKS[name]
    file = tmp_path / f"{name}.onnx"
    export(name, exporter, opset, sizes == "dynamic", file)
    opened = source(file, dims=ranges_of(file, network) if sizes == "dynamic" else ())
    chosen = network.others if sizes == "dynamic" else (network.exported,)
    names = [item.name for item in opened.inputs]
    cases = [
        dict(zip(names, (item.numpy() for item in network.inputs(size)), strict=True))
        for size in chosen
    ]
    for precision in TOLERANCES if opset == NEWEST[exporter] else ("float32",):
        assert_close(opened, cases, tmp_path / precision, precision)


def ranges_of(file: Path, network: Network) -> list[str]:
    """`--dim` for the names that an exporter gave to the dynamic axes."""
    graph = onnx.load(file, load_external_data=False).graph
    found = {}
    for item, axes in zip(graph.input, network.axes, strict=True):
        for axis, name in axes.items():
            found[item.type.tensor_type.shape.dim[axis].dim_param] = network.ranges[name]
    return [f"{name}={size}" for name, size in found.items() if name]


@pytest.mark.slow
@pytest.mark.parametrize("file", sorted(LIGHT.glob("*.onnx")), ids=lambda file: file.stem)
def test_light_model(file: Path, tmp_path: Path) -> None:
    """onnx's light models have equal weights everywhere; here they get others where these fit."""
    name = file.stem.removeprefix("light_")
    if name not in FILLED:
        file = with_random_weights(file, tmp_path / file.name)
    opened = source(file)
    generator = np.random.default_rng(0)
    feeds = {
        item.name: generator.standard_normal(item.type.shape).astype(np.float32)
        for item in opened.inputs
    }
    assert_close(opened, [feeds], tmp_path / "package", "float32")


def with_random_weights(file: Path, made: Path) -> Path:
    """A copy of a model with seeded numbers where it has constants of a shape."""
    model = onnx.load(file)
    shapes = {
        item.name: onnx.numpy_helper.to_array(item).tolist()
        for item in model.graph.initializer
        if item.data_type == onnx.TensorProto.INT64
    }
    generator = np.random.default_rng(0)
    kept = []
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape":
            kept.append(node)
            continue
        shape = shapes[node.input[0]]
        width = np.prod(shape[1:]) if len(shape) > 1 else 1
        numbers = generator.standard_normal(shape) * (2 / width) ** 0.5
        if len(shape) == 1:
            numbers = np.abs(numbers) * 0.1 + 0.5  # variances among them
        array = numbers.astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, node.output[0]))
    del model.graph.node[:]
    model.graph.node.extend(kept)
    model.ir_version = 8  # before 4, initializers had to be inputs too
    onnx.save(model, made)
    return made
