"""Words of keras 2 that coremltools' tests use and keras 3 dropped, so that its layers are tested.

`batch_input_shape` names a whole input shape: for a model's first layer, and for `Input`. Classes
stand in for layers that are gone; a test that builds one is skipped, with the reason. coremltools
traces a model through attributes that models no longer have; here through its inputs.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

import pytest

DROPPED_LAYERS = ("LocallyConnected1D", "LocallyConnected2D")
"""Layers that the suite names while its files are read."""


def speak_keras2() -> None:
    """Lets keras 3 understand the suite. (Any: keras carries no types.)"""
    # the suite imports by these names, which gives other modules than tensorflow's attribute
    keras: Any = importlib.import_module("tensorflow.keras")
    layers: Any = importlib.import_module("tensorflow.keras.layers")
    for name in DROPPED_LAYERS:
        if not hasattr(layers, name):
            setattr(layers, name, type(name, (), {"__init__": skip_dropped_layer}))
    layers.Layer.__init__ = with_batch_shape(layers.Layer.__init__)
    keras.Sequential.add = after_its_input(keras.Sequential.add, layers.InputLayer)
    keras.Input = layers.Input = with_whole_shape(layers.Input)
    loader: Any = importlib.import_module("coremltools.converters.mil.frontend.tensorflow2.load")
    loader.TF2Loader._concrete_fn_from_tf_keras = staticmethod(concrete_functions)


def skip_dropped_layer(self: object, *_: object, **__: object) -> None:
    pytest.skip(f"keras 3 has no layer {type(self).__name__}")


def with_batch_shape(initialize: Callable[..., None]) -> Callable[..., None]:
    """A layer's `__init__` that remembers `batch_input_shape`."""

    @functools.wraps(initialize)
    def __init__(self: Any, *arguments: Any, batch_input_shape: Any = None, **options: Any) -> None:
        initialize(self, *arguments, **options)
        if batch_input_shape is not None:
            self.whole_input_shape = shape_of(batch_input_shape)

    return __init__


def after_its_input(add: Callable[..., None], input_layer: Any) -> Callable[..., None]:
    """`Sequential.add` that puts an input before a first layer that says what it takes."""

    @functools.wraps(add)
    def add_with_input(self: Any, layer: Any, *arguments: Any, **options: Any) -> None:
        shape = getattr(layer, "whole_input_shape", None)
        if shape is not None and not self.layers:
            add(self, input_layer(batch_shape=shape), *arguments, **options)
        add(self, layer, *arguments, **options)

    return add_with_input


def with_whole_shape(make_input: Callable[..., Any]) -> Callable[..., Any]:
    """`Input` that takes `batch_input_shape`."""

    @functools.wraps(make_input)
    def Input(*arguments: Any, batch_input_shape: Any = None, **options: Any) -> Any:
        if batch_input_shape is not None:
            options["batch_shape"] = shape_of(batch_input_shape)
        return make_input(*arguments, **options)

    return Input


def shape_of(sizes: Any) -> tuple[int | None, ...]:
    """A shape of plain numbers, from whatever array or list the suite has."""
    return tuple(None if size is None else int(size) for size in sizes)


def concrete_functions(model: Any) -> list[Any]:
    """What coremltools converts: the model's call as a TensorFlow function of its inputs."""
    import tensorflow as tf

    inputs = [tf.TensorSpec(item.shape, item.dtype, name=item.name) for item in model.inputs]

    @tf.function(input_signature=inputs)
    def call(*arguments: Any) -> dict[str, Any]:
        given = arguments[0] if len(inputs) == 1 else list(arguments)
        outputs = tf.nest.flatten(model(given, training=False))
        return {f"output_{place:03}": output for place, output in enumerate(outputs)}

    return [call.get_concrete_function()]
