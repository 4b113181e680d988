"""Keras networks exported by tf2onnx: `python -m tests.outside.tf2onnx_exports NAME OPSET FILE`.

`NAME` ends in `-dynamic` for an export whose height and width, or number of steps, are open. A
process of its own, since TensorFlow prints and warns as it likes.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

SHAPES = {
    "mobilenet": (1, 64, 64, 3),
    "efficientnet": (1, 64, 64, 3),
    "resnet50": (1, 64, 64, 3),
    "recurrent": (1, 12, 8),
    "attention": (1, 12, 32),
}
OPEN = {"mobilenet": (1, 2), "recurrent": (1,), "attention": (1,)}
"""The axes that are open in a dynamic export."""

SETTLED = ("mobilenet", "efficientnet")
"""Those whose values vanish with random weights. A ResNet's stay, and would be ill-conditioned."""


def mobilenet(shape: tuple[int | None, ...]) -> Any:  # Any: a Keras model, here and below
    import keras

    return keras.applications.MobileNetV3Small(
        weights=None, include_top=False, input_shape=shape[1:]
    )


def efficientnet(shape: tuple[int | None, ...]) -> Any:
    import keras

    return keras.applications.EfficientNetV2B0(
        weights=None,
        classes=10,
        classifier_activation=None,
        input_shape=shape[1:],
        include_preprocessing=False,
    )


def resnet50(shape: tuple[int | None, ...]) -> Any:
    import keras

    return keras.applications.ResNet50(
        weights=None, classes=10, classifier_activation=None, input_shape=shape[1:]
    )


def recurrent(shape: tuple[int | None, ...]) -> Any:
    import keras

    layers = [
        keras.layers.Input(shape[1:]),
        keras.layers.Bidirectional(keras.layers.LSTM(16, return_sequences=True)),
        keras.layers.GRU(8, return_sequences=True),
        keras.layers.Dense(4, activation="swish"),
    ]
    return keras.Sequential(layers)


def attention(shape: tuple[int | None, ...]) -> Any:
    import keras

    x = keras.layers.Input(shape[1:])
    mixed = keras.layers.MultiHeadAttention(4, 8)(x, x)
    return keras.Model(x, keras.layers.LayerNormalization()(mixed + x))


BUILD: dict[str, Callable[[tuple[int | None, ...]], Any]] = {
    "mobilenet": mobilenet,
    "efficientnet": efficientnet,
    "resnet50": resnet50,
    "recurrent": recurrent,
    "attention": attention,
}


def settle(network: Any, shape: tuple[int, ...]) -> None:
    """Lets normalizations see a batch: with random weights alone values shrink layer by layer."""
    import keras
    import numpy as np

    layers = [item for item in network.layers if isinstance(item, keras.layers.BatchNormalization)]
    for layer in layers:
        layer.momentum = 0.0
    if layers:
        network(np.random.default_rng(1).random((8, *shape[1:])) * 255, training=True)


def export(name: str, opset: int, file: str) -> None:
    """Writes the ONNX file."""
    import keras
    import onnx
    import tensorflow as tf
    import tf2onnx

    name, _, sizes = name.partition("-")
    axes = OPEN[name] if sizes else ()
    shape = tuple(None if axis in axes else size for axis, size in enumerate(SHAPES[name]))
    keras.utils.set_random_seed(0)
    network = BUILD[name](shape)
    if name in SETTLED:
        settle(network, SHAPES[name])
    model, _ = tf2onnx.convert.from_function(
        tf.function(lambda x: network(x, training=False)),
        input_signature=[tf.TensorSpec(shape, tf.float32, name="x")],
        opset=opset,
    )
    for axis in axes:
        model.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = f"d{axis}"
    onnx.save(model, file)


if __name__ == "__main__":
    export(sys.argv[1], int(sys.argv[2]), sys.argv[3])
