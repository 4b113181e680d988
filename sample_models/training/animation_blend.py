"""Trains the animation blend: the pose at a speed between two gaits of the same character.

Blending rotations one by one lifts standing feet and lets them slide, since a run is no faster
walk. The network adds what is missing to the plain blend. Its correction vanishes at weights 0 and
1, where `pose_a` and `pose_b` come out unchanged.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from keras import layers, ops
from numpy.typing import NDArray

from training.gaits import JOINTS, STYLES, Array, Gaits, feet, poses

FOLDER = Path(__file__).resolve().parents[1]
SAMPLES, BATCH, EPOCHS = 250_000, 1024, 60
HELD_OUT_CYCLES, FRAMES = 48, 64
# legs count more: their errors add up at the foot
JOINT_WEIGHTS = np.array([2.0, 1, 1, 1, 1, 1, 1, 1, 4, 4, 2, 1, 4, 4, 2, 1], np.float32)

Blend = Callable[[dict[str, NDArray[np.float32]]], Array]


@dataclass(frozen=True)
class Samples:
    """Inputs of the network by name, and the gaits between, whose poses it should give."""

    inputs: dict[str, NDArray[np.float32]]
    between: Gaits


def blend_samples(style: Array, slow: Array, fast: Array, weight: Array, phase: Array) -> Samples:
    """Samples of n characters between n slow and n fast gaits."""
    circle = 2 * np.pi * phase
    inputs = {
        "pose_a": poses(Gaits(style, slow, phase)),
        "pose_b": poses(Gaits(style, fast, phase)),
        "phase": np.stack([np.cos(circle), np.sin(circle)], axis=1),
        "weight": weight[:, None],
    }
    between = Gaits(style, slow + weight * (fast - slow), phase)
    return Samples({name: value.astype(np.float32) for name, value in inputs.items()}, between)


def training_samples(count: int) -> Samples:
    """Independent samples: every one has its own character, speeds, weight and phase."""
    generator = np.random.default_rng(11)
    style = generator.uniform(-1, 1, (count, STYLES))
    slow, fast = generator.uniform(1.0, 1.8, count), generator.uniform(3.2, 4.4, count)
    return blend_samples(style, slow, fast, generator.random(count), generator.random(count))


def held_out_cycles(count: int = HELD_OUT_CYCLES) -> Samples:
    """Whole cycles of FRAMES poses, of characters that training did not see."""
    generator = np.random.default_rng(12)
    style = generator.uniform(-1, 1, (count, STYLES))
    slow, fast = generator.uniform(1.0, 1.8, count), generator.uniform(3.2, 4.4, count)
    weight = generator.uniform(0.2, 0.8, count)
    style, slow, fast, weight = (
        np.repeat(value, FRAMES, axis=0) for value in (style, slow, fast, weight)
    )
    return blend_samples(style, slow, fast, weight, np.tile(np.arange(FRAMES) / FRAMES, count))


def build_model() -> keras.Model:
    """The plain blend, plus a correction scaled by 4 w (1 - w), at unit length again."""
    shape = (len(JOINTS), 4)
    pose_a = keras.Input(shape, name="pose_a")
    pose_b = keras.Input(shape, name="pose_b")
    phase = keras.Input((2,), name="phase")
    weight = keras.Input((1,), name="weight")
    share = ops.clip(weight, 0.0, 1.0)
    hidden = layers.Concatenate()(
        [layers.Flatten()(pose_a), layers.Flatten()(pose_b), phase, share]
    )
    hidden = layers.Dense(128, activation="swish")(hidden)
    hidden = layers.Dense(96, activation="swish")(hidden)
    hidden = layers.Dense(96, activation="swish")(hidden)
    correction = layers.Dense(len(JOINTS) * 4, kernel_initializer="zeros")(hidden)
    correction = layers.Reshape(shape)(correction * (4.0 * share * (1.0 - share)))
    joint_weight = layers.Reshape((1, 1))(share)
    pose = pose_a + (pose_b - pose_a) * joint_weight + correction
    # the epsilon keeps a pose of zeros finite; of a rotation's length it changes 0.005 %
    squared_length = ops.sum(ops.square(pose), axis=-1, keepdims=True) + 1e-4
    pose = layers.Multiply(name="pose")([pose, ops.rsqrt(squared_length)])
    return keras.Model([pose_a, pose_b, phase, weight], {"pose": pose}, name="animation_blend")


def train(folder: Path) -> None:
    """Writes the SavedModel and the test clip into `folder`, and prints the quality."""
    keras.utils.set_random_seed(13)
    samples = training_samples(SAMPLES)
    target = poses(samples.between).astype(np.float32)
    model = build_model()

    def loss(expected: tf.Tensor, found: tf.Tensor) -> tf.Tensor:
        return 1000 * ops.mean(ops.square(expected - found) * JOINT_WEIGHTS[:, None])

    steps = SAMPLES // BATCH * EPOCHS
    rate = keras.optimizers.schedules.CosineDecay(3e-3, steps)
    model.compile(keras.optimizers.Adam(rate), loss={"pose": loss})
    model.fit(samples.inputs, {"pose": target}, batch_size=BATCH, epochs=EPOCHS, verbose=2)
    save(model, folder / "animation_blend")
    clip = held_out_cycles(1)
    np.savez_compressed(
        folder / "animation_blend_test.npz",
        pose=poses(clip.between).astype(np.float32),
        **clip.inputs,
    )
    for name, value in quality(folder).items():
        print(f"{name:28} {value:10.3f}")


def save(model: keras.Model, folder: Path) -> None:
    """Writes a SavedModel with one signature and no training state."""
    shutil.rmtree(folder, ignore_errors=True)
    specs = {
        item.name: tf.TensorSpec((None, *item.shape[1:]), tf.float32, name=item.name)
        for item in model.inputs
    }

    @tf.function(input_signature=[specs], autograph=False)
    def serve(inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        result: dict[str, tf.Tensor] = model(inputs)
        return result

    module = tf.Module()
    module.weights = model.trainable_variables
    module.serve = serve
    tf.saved_model.save(module, str(folder), signatures=serve)


def plain_blend(inputs: dict[str, NDArray[np.float32]]) -> Array:
    """Each quaternion interpolated by itself and brought to unit length."""
    weight = inputs["weight"][:, :, None].astype(np.float64)
    pose = inputs["pose_a"] * (1 - weight) + inputs["pose_b"] * weight
    return np.asarray(pose / np.linalg.norm(pose, axis=-1, keepdims=True))


def network_blend(folder: Path = FOLDER) -> Blend:
    """The checked-in SavedModel as a function of arrays."""
    loaded = tf.saved_model.load(str(folder / "animation_blend"))
    signature = loaded.signatures["serving_default"]

    def blend(inputs: dict[str, NDArray[np.float32]]) -> Array:
        found = signature(**{name: tf.constant(value) for name, value in inputs.items()})
        return np.asarray(found["pose"].numpy(), np.float64)

    blend.loaded = loaded  # type: ignore[attr-defined]  # its variables live as long as it does
    return blend


def errors(found: Array, between: Gaits) -> dict[str, float]:
    """How far poses of whole cycles are from the truth: degrees, centimetres and cm/s."""
    expected = poses(between)
    found = found / np.linalg.norm(found, axis=-1, keepdims=True)
    cosine = np.clip(np.abs((found * expected).sum(-1)), 0, 1)
    height = between.pelvis_height()
    places, true_places = feet(found, height), feet(expected, height)
    stands = np.stack([between.stands(0), between.stands(1)], axis=1)
    # a standing foot moves back under the pelvis exactly as fast as the pelvis moves ahead
    cycles = places[..., 2].reshape(-1, FRAMES, 2)
    step = (np.roll(cycles, -1, axis=1) - cycles).reshape(-1, 2)
    seconds = 1 / (FRAMES * between.cycles_per_second())
    sliding = np.abs(step / seconds[:, None] + between.speed[:, None])
    following = np.roll(stands.reshape(-1, FRAMES, 2), -1, axis=1).reshape(-1, 2)
    lifted = np.abs(places[..., 1] - true_places[..., 1])
    return {
        "rotation_degrees": float(np.degrees(2 * np.arccos(cosine)).mean()),
        "foot_centimetres": 100 * float(np.linalg.norm(places - true_places, axis=-1).mean()),
        "standing_foot_height_centimetres": 100 * float(lifted[stands].mean()),
        "sliding_centimetres_a_second": 100 * float(sliding[stands & following].mean()),
    }


def quality(folder: Path = FOLDER) -> dict[str, float]:
    """Errors of the network and of the plain blend (`plain_*`) on held-out characters."""
    samples = held_out_cycles()
    network = errors(network_blend(folder)(samples.inputs), samples.between)
    plain = errors(plain_blend(samples.inputs), samples.between)
    return network | {f"plain_{name}": value for name, value in plain.items()}
