"""Values of frozen TensorFlow graphs, beside those of their packages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metal4conv.frontends.tensorflow_runtime import load_keras, load_tensorflow
from metal4conv.frontends.toolkit import quiet
from tests.frontends.correspondence import TOLERANCES, assert_corresponds
from tests.frontends.helpers import source


def convolutions() -> Any:  # Any: Keras carries no types, here and below
    layers = load_keras().layers
    x = given = load_keras().Input((8, 8, 3))
    x = layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(beta_initializer="ones", moving_mean_initializer="ones")(x)
    x = layers.Activation("silu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", activation="gelu")(x)
    pooled = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2DTranspose(4, 2, strides=2)(layers.MaxPooling2D(2)(x * pooled))
    x = layers.LayerNormalization()(x)
    return load_keras().Model(given, layers.Softmax(axis=-1)(x / 3.0))


@pytest.mark.parametrize("precision", TOLERANCES)
def test_keras(precision: str, tmp_path: Path) -> None:
    load_keras().utils.set_random_seed(0)
    with quiet():
        convolutions().save(tmp_path / "net.keras")
    found = assert_corresponds(source(tmp_path / "net.keras"), tmp_path, precision)
    modules = {row.module for row in found.sources if row.module}
    assert any("layer_normalization" in module for module in modules)
    assert any("conv2d_transpose" in module for module in modules)


def saved(call: Any, folder: Path, shape: tuple[int, ...]) -> Path:
    """A SavedModel of a function of one tensor."""
    tensorflow = load_tensorflow()
    module = tensorflow.Module()
    module.call = tensorflow.function(
        call, input_signature=[tensorflow.TensorSpec(shape, tensorflow.float32, name="x")]
    )
    tensorflow.saved_model.save(module, str(folder / "net"), signatures=module.call)
    return folder / "net"


def test_a_dilation_written_out(tmp_path: Path) -> None:
    """The convolution between the two moves of blocks becomes a dilated one under its name."""
    tensorflow = load_tensorflow()
    weights = np.random.default_rng(0).standard_normal((3, 3, 2, 2)).astype(np.float32)

    def call(x: Any) -> Any:
        spaced = tensorflow.space_to_batch_nd(x, [2, 2], [[2, 2], [2, 2]])
        inner = tensorflow.nn.conv2d(spaced, weights, 1, "VALID", name="inner")
        return {"y": tensorflow.tanh(tensorflow.batch_to_space(inner, [2, 2], [[0, 0], [0, 0]]))}

    opened = source(saved(call, tmp_path, (1, 8, 8, 2)))
    found = assert_corresponds(opened, tmp_path, at_least=0.5)
    held = [row.operator for row in map(found.source_of, found.values) if row is not None]
    assert "BatchToSpaceND" in held
    assert "Conv2D" not in held


def test_several_outputs_and_a_loop(tmp_path: Path) -> None:
    tensorflow = load_tensorflow()

    def call(x: Any) -> Any:
        first, second, third = tensorflow.split(x, 3, axis=1)
        values, places = tensorflow.math.top_k(third, 2)

        def step(count: Any, total: Any) -> Any:
            return count + 1, tensorflow.tanh(total + second)

        _, total = tensorflow.while_loop(lambda count, _: count < 3, step, [0, first])
        found = tensorflow.exp(total) + tensorflow.cast(places, tensorflow.float32)[:, :1]
        return {"y": found * values[:, :1]}

    opened = source(saved(call, tmp_path, (2, 12)))
    found = assert_corresponds(opened, tmp_path, at_least=0.7)
    names = {row.name for row in map(found.source_of, found.values) if row is not None}
    split = next(row.name for row in found.sources if row.operator == "Split")
    assert {split, f"{split}:1", f"{split}:2"} <= names
    assert not any(row.operator in ("While", "StatelessWhile") for row in found.sources)
