"""A small Keras network with seeded weights, and copies of it with one layer changed."""

from __future__ import annotations

import warnings
from pathlib import Path

import keras
import numpy as np
from keras import layers

from tests.debug.faults import LayerFault


def scenery() -> keras.Model:
    """Pictures to classes, with a way around the smaller size."""
    picture = keras.Input((16, 16, 3), batch_size=1, name="picture")
    full = layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(picture)
    full = layers.BatchNormalization(name="norm")(full)
    half = layers.AveragePooling2D(2, name="pool")(full)
    half = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(half)
    half = layers.LeakyReLU(negative_slope=0.2, name="leaky")(half)
    larger = layers.UpSampling2D(2, interpolation="bilinear", name="up")(half)
    both = layers.Concatenate(name="both")([full, larger])
    mixed = layers.Conv2D(12, 3, padding="same", activation="swish", name="mix")(both)
    mixed = layers.LayerNormalization(epsilon=1e-3, name="layer_norm")(mixed)
    small = layers.MaxPooling2D(4, name="max")(mixed)
    flat = layers.Flatten(name="flat")(small)
    hidden = layers.Dense(16, activation="gelu", name="hidden")(flat)
    around = layers.Dense(16, activation="tanh", name="around")(hidden)
    joined = layers.Subtract(name="less")([hidden, around])
    classes = layers.Dense(5, activation="softmax", name="classes")(joined)
    return keras.Model(picture, classes, name="scenery")


def save_scenery(file: Path, fault: LayerFault | None = None) -> None:
    """Writes the network, or a copy with a fault, as a `.keras` file."""
    keras.utils.set_random_seed(6)
    model = scenery()
    draw = np.random.default_rng(7)
    model.set_weights([array + draw.normal(0, 0.1, array.shape) ** 2 for array in lively(model)])
    if fault is not None:
        model = with_fault(model, fault)
    with warnings.catch_warnings():
        # Keras asks numpy for copies in a way that numpy has given up
        warnings.simplefilter("ignore", DeprecationWarning)
        model.save(file)


def lively(model: keras.Model) -> list[np.ndarray]:
    """The weights; means and biases are 0 at first, what is added later moves them."""
    return [np.asarray(array) for array in model.get_weights()]


def with_fault(model: keras.Model, fault: LayerFault) -> keras.Model:
    """A copy whose one layer differs."""
    config = model.get_config()
    changes = dict(fault.config)
    for row in config["layers"]:
        if row["config"]["name"] == fault.layer:
            assert all(row["config"][key] != value for key, value in changes.items())
            row["config"].update(changes)
    made = keras.Model.from_config(config)
    made.set_weights(model.get_weights())
    if fault.change is not None:
        layer = made.get_layer(fault.layer)
        weights = layer.get_weights()
        weights[fault.weight] = fault.change(weights[fault.weight].copy())
        layer.set_weights(weights)
    return made
