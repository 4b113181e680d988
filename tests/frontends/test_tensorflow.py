"""TensorFlow sources of every kind, made small here, opened, run and lowered."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from metal4conv.errors import DamagedFile, UnsupportedModel, UntrustedFile, UsageError
from metal4conv.frontends.source import LoweringRequest
from metal4conv.frontends.tensorflow_runtime import load_keras, load_tensorflow
from metal4conv.frontends.toolkit import quiet
from metal4conv.mil.schema import new_model
from tests.frontends.helpers import assert_verified, draw, source


def lowered_features(opened, folder, precision="float32"):
    """The names of the inputs and outputs of the lowered model."""
    lowered = opened.lower(LoweringRequest(precision=precision), folder)
    model = new_model()
    model.ParseFromString(lowered.spec)
    description = model.description
    return [item.name for item in description.input], [item.name for item in description.output]


def blend_network(keras):
    """Two poses and a weight to a pose and its quality."""
    layers = keras.layers
    inputs = {
        name: keras.Input((size,), name=name)
        for name, size in (("pose_b", 6), ("pose_a", 6), ("weight", 1))
    }
    hidden = layers.Dense(8, activation="gelu")(layers.Concatenate()(list(inputs.values())))
    outputs = {
        "pose": layers.Dense(6)(hidden),
        "error": layers.Dense(1, activation="sigmoid")(hidden),
    }
    return keras.Model(inputs, outputs)


def two_signatures(tensorflow):
    """A module with variables and two signatures."""

    class Filter(tensorflow.Module):
        def __init__(self):
            self.kernel = tensorflow.Variable(np.eye(4, dtype="float32") * 2)

        @tensorflow.function(
            input_signature=[
                tensorflow.TensorSpec((None, 4)),
                tensorflow.TensorSpec((None, 4)),
            ]
        )
        def mix(self, left, right):
            return {"sum": left @ self.kernel + right, "left": left}

        @tensorflow.function(input_signature=[tensorflow.TensorSpec((2, 4))])
        def double(self, x):
            return x * 2.0, x @ self.kernel

    return Filter()


def frozen_graph(tensorflow):
    """A TensorFlow 1 style graph of constants."""
    with tensorflow.Graph().as_default() as graph:
        v1 = tensorflow.compat.v1
        image = v1.placeholder("float32", (None, 8, 8, 3), name="input/image")
        kernel = tensorflow.constant(np.full((3, 3, 3, 2), 0.1, "float32"))
        features = tensorflow.nn.relu(tensorflow.nn.conv2d(image, kernel, 1, "SAME"))
        tensorflow.reduce_mean(features, [1, 2], name="head/mean")
        tensorflow.reduce_max(features, [1, 2], name="head/peak")
    return graph.as_graph_def()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """All model files, written once."""
    folder = tmp_path_factory.mktemp("tensorflow")
    keras, tensorflow = load_keras(), load_tensorflow()
    with quiet():
        keras.utils.set_random_seed(3)
        network = blend_network(keras)
        network.export(folder / "blend", verbose=False)
        network.save(folder / "blend.keras")
        network.save(folder / "blend.h5")
        module = two_signatures(tensorflow)
        signatures = {"mix": module.mix, "double": module.double}
        tensorflow.saved_model.save(module, folder / "filter", signatures=signatures)
        tensorflow.saved_model.save(module, folder / "bare")
    (folder / "frozen.pb").write_bytes(frozen_graph(tensorflow).SerializeToString())
    return folder


@pytest.mark.parametrize("file", ["blend", "blend.keras", "blend.h5"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_keras_network_in_each_format(folder, file, precision, tmp_path):
    opened = source(folder / file)
    assert (opened.framework, opened.name) == ("tensorflow", "blend")
    assert [str(item.type) for item in opened.inputs] == [
        "float32[1, 6]",
        "float32[1, 6]",
        "float32[1, 1]",
    ]
    assert [finding.code for finding in opened.findings] == ["batch-fixed-to-one"]
    results = opened.predict(draw(opened))
    assert {name: array.shape for name, array in results.items()} == {
        "error": (1, 1),
        "pose": (1, 6),
    }
    assert_verified(opened, tmp_path, precision=precision)
    inputs, outputs = lowered_features(opened, tmp_path, precision)
    assert inputs == ["pose_a", "pose_b", "weight"]
    assert outputs == ["error", "pose"]


def test_formats_agree(folder):
    opened = [source(folder / file) for file in ("blend", "blend.keras", "blend.h5")]
    inputs = draw(opened[0])
    first, *others = [item.predict(inputs) for item in opened]
    for other in others:
        np.testing.assert_allclose(other["pose"], first["pose"], rtol=1e-6)


def test_description(folder):
    described = source(folder / "blend.keras").describe()
    assert described["parameters"] == 13 * 8 + 8 + 8 * 6 + 6 + 8 + 1
    assert described["operations"]["MatMul"] == 3
    assert described["unsupported"] == []


def test_signature_by_name(folder, tmp_path):
    opened = source(folder / "filter", signature="mix", dims=["batch=1..4@3"])
    assert [str(item.type) for item in opened.inputs] == ["float32[batch, 4]"] * 2
    inputs = draw(opened)
    results = opened.predict(inputs)
    np.testing.assert_allclose(results["sum"], inputs["left"] * 2 + inputs["right"], rtol=1e-6)
    # "left" is an input too, so the output has another name
    assert list(results) == ["left_out", "sum"]
    assert lowered_features(opened, tmp_path) == (["left", "right"], ["left_out", "sum"])
    assert_verified(opened, tmp_path, {"batch": 2})


def test_outputs_of_a_tuple(folder):
    opened = source(folder / "filter", signature="double")
    assert opened.outputs == ("output_0", "output_1")


def test_functions_without_signatures(folder, tmp_path):
    opened = source(folder / "bare", signature="double")
    assert opened.outputs == ("output_0", "output_1")
    assert lowered_features(opened, tmp_path) == (["x"], ["output_0", "output_1"])


def test_frozen_graph(folder, tmp_path):
    opened = source(folder / "frozen.pb")
    assert [str(item.type) for item in opened.inputs] == ["float32[1, 8, 8, 3]"]
    results = opened.predict(draw(opened))
    assert {name: array.shape for name, array in results.items()} == {
        "mean": (1, 2),
        "peak": (1, 2),
    }
    assert lowered_features(opened, tmp_path) == (["input_image"], ["mean", "peak"])
    assert_verified(opened, tmp_path)


def test_equal_bytes_twice(folder, tmp_path):
    specs = [
        source(folder / "blend.keras").lower(LoweringRequest(), tmp_path / str(index)).spec
        for index in range(2)
    ]
    assert specs[0] == specs[1]


@pytest.mark.parametrize(
    ("file", "arguments", "error", "message"),
    [
        ("filter", {}, UsageError, "several signatures: double, mix"),
        ("filter", {"signature": "mixx"}, UsageError, 'did you mean "mix"?'),
        ("blend.keras", {"signature": "serve"}, UsageError, "has no signatures"),
        ("blend", {"inputs": ["pose_a:1x7"]}, UsageError, "expected ?x6, -i says 1x7"),
        ("blend", {"inputs": ["pose_a:6"]}, UsageError, "expected ?x6, -i says 6"),
        ("blend", {"inputs": ["pose_a:1x6:int32"]}, UsageError, "is float32 in the model"),
        ("blend", {"inputs": ["pose:1x6"]}, UsageError, 'has no input "pose"'),
        ("blend", {"inputs": ["pose_a:3x6"]}, UsageError, "does not work with these sizes"),
        ("blend", {"dims": ["h=3"]}, UsageError, 'no input has a dimension "h"'),
        ("blend/saved_model.pb", {}, UsageError, "is part of a SavedModel"),
        ("blend.h5", {"weights": Path("w.npz")}, UsageError, "comes with its weights"),
    ],
)
def test_wrong_arguments(folder, file, arguments, error, message):
    with pytest.raises(error) as caught:
        source(folder / file, **arguments)
    assert message in str(caught.value)


def damaged(content: bytes, how: str) -> bytes:
    """The content of a file that something happened to."""
    if how == "empty":
        return b""
    if how == "truncated":
        return content[: len(content) // 2]
    return np.random.default_rng(1).bytes(2000)


@pytest.mark.parametrize("how", ["empty", "truncated", "random"])
@pytest.mark.parametrize("file", ["blend.keras", "blend.h5", "frozen.pb"])
def test_damaged_file(folder, tmp_path, file, how):
    path = tmp_path / file
    path.write_bytes(damaged((folder / file).read_bytes(), how))
    with pytest.raises(DamagedFile, match=file):
        source(path)


@pytest.mark.parametrize("how", ["empty", "truncated", "random"])
@pytest.mark.parametrize("part", ["saved_model.pb", "variables/variables.index"])
def test_damaged_saved_model(folder, tmp_path, part, how):
    for file in sorted((folder / "blend").rglob("*")):
        if file.is_file():
            copy = tmp_path / file.relative_to(folder / "blend")
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(file.read_bytes())
    (tmp_path / part).write_bytes(damaged((folder / "blend" / part).read_bytes(), how))
    with pytest.raises(DamagedFile, match=str(tmp_path)):
        source(tmp_path)


def test_archive_of_something_else(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.keras", "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(DamagedFile, match=r"net\.keras"):
        source(tmp_path / "net.keras")


def test_lambda_needs_trust(tmp_path):
    keras = load_keras()
    with quiet():
        image = keras.Input((4,), name="x")
        network = keras.Model(image, keras.layers.Lambda(lambda x: x * 2)(image))
        network.save(tmp_path / "code.keras")
    with pytest.raises(UntrustedFile, match="--trust"):
        source(tmp_path / "code.keras")
    opened = source(tmp_path / "code.keras", trust=True)
    inputs = draw(opened)
    np.testing.assert_allclose(opened.predict(inputs)[opened.outputs[0]], inputs["x"] * 2)


def test_custom_layer_is_named(tmp_path):
    keras = load_keras()

    class Swirl(keras.layers.Layer):
        def call(self, x):
            return x

    with quiet():
        image = keras.Input((4,))
        keras.Model(image, Swirl()(image)).save(tmp_path / "custom.keras")
        keras.Model(image, Swirl()(image)).save(tmp_path / "custom.h5")
    for file in ("custom.keras", "custom.h5"):
        with pytest.raises(UnsupportedModel, match="Swirl"):
            source(tmp_path / file)


def saved_function(path, function, *shapes):
    """A SavedModel of a function of float32 tensors `x`, `y`, …"""
    tensorflow = load_tensorflow()
    module = tensorflow.Module()
    module.state = tensorflow.Variable(np.ones((4, 4), "float32"))
    specs = [
        tensorflow.TensorSpec(shape, name=name) for shape, name in zip(shapes, "xyz", strict=False)
    ]
    module.run = tensorflow.function(
        lambda *inputs: function(tensorflow, module, *inputs),
        input_signature=specs,
        autograph=False,
    )
    with quiet():
        tensorflow.saved_model.save(module, path, signatures=module.run)
    return path


def operations(opened, folder):
    """The MIL operations of the lowered model, loops' bodies included."""
    lowered = opened.lower(LoweringRequest(precision="float32"), folder)
    model = new_model()
    model.ParseFromString(lowered.spec)
    block = model.mlProgram.functions["main"].block_specializations["CoreML8"]
    nested = [inner for operation in block.operations for inner in operation.blocks]
    blocks = [block, *nested]
    return [item.type for part in blocks for item in part.operations if item.type != "const"]


def test_branch(tmp_path):
    def branch(tf, module, x):
        return tf.cond(tf.reduce_sum(x) > 3, lambda: x @ module.state, lambda: x - 1.0)

    opened = source(saved_function(tmp_path, branch, (4, 4)))
    assert "cond" in operations(opened, tmp_path)


def test_loop_limit_is_kept(tmp_path):
    def limited(tf, module, x):
        return tf.while_loop(
            lambda i, y: tf.reduce_sum(y) < 1000.0,
            lambda i, y: (i + 1, y + 1.0),
            [0, x],
            maximum_iterations=3,
        )[1]

    opened = source(saved_function(tmp_path, limited, (4, 4)))
    zeros = np.zeros((4, 4), "float32")
    assert opened.predict({"x": zeros})[opened.outputs[0]].max() == 3
    # the condition compares the sum with 1000 and the counter with 3
    assert operations(opened, tmp_path).count("less") == 2


@pytest.mark.parametrize("layer", ["LSTM", "GRU", "SimpleRNN"])
def test_recurrent_layers(layer, tmp_path):
    keras = load_keras()
    with quiet():
        keras.utils.set_random_seed(1)
        network = keras.Sequential([keras.Input((5, 3)), getattr(keras.layers, layer)(4)])
        network.save(tmp_path / "net.keras")
    path = tmp_path / "net.keras"
    assert "while_loop" in operations(source(path), tmp_path)
    # TensorFlow numbers its functions; the numbers must not show
    first, second = (source(path).lower(LoweringRequest(), tmp_path).spec for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("resize", "wanted"),
    [
        (lambda tf, m, x: tf.image.resize(x, tf.shape(x)[1:3] * 2), "upsample_bilinear"),
        (
            lambda tf, m, x: tf.image.resize(x, tf.shape(x)[1:3] * 2, "nearest"),
            "upsample_nearest_neighbor",
        ),
        (lambda tf, m, x: tf.image.resize(x, (24, 40)), "resize"),
    ],
    ids=["bilinear", "nearest", "fixed result"],
)
def test_resizing_of_dynamic_images(resize, wanted, tmp_path):
    path = saved_function(tmp_path, resize, (None, None, None, 3))
    opened = source(path, inputs=["x:1xhxwx3"], dims=["h=8..64", "w=8..64"])
    assert wanted in operations(opened, tmp_path)
    assert_verified(opened, tmp_path, {"h": 9, "w": 20})


@pytest.mark.parametrize("size", [(13, 17), (16, 24), (4, 4), (5, 3)])
@pytest.mark.parametrize("method", ["bilinear", "nearest"])
def test_resizing_to_any_size(method, size, tmp_path):
    def resize(tf, module, x):
        return tf.image.resize(x, size, method)

    assert_verified(source(saved_function(tmp_path, resize, (1, 8, 8, 3))), tmp_path)


def test_written_variables_are_refused(tmp_path):
    opened = source(saved_function(tmp_path, lambda tf, m, x: m.state.assign_add(x), (4, 4)))
    with pytest.raises(UnsupportedModel, match="changes its own variables"):
        opened.lower(LoweringRequest(), tmp_path)


def test_model_without_inputs(tmp_path):
    with pytest.raises(UnsupportedModel, match="no inputs"):
        source(saved_function(tmp_path, lambda tf, m: m.state * 2))


def test_missing_size_names_the_arguments(tmp_path):
    path = saved_function(tmp_path, lambda tf, m, x: x * 2, (None, None, 3))
    with pytest.raises(UsageError) as caught:
        source(path)
    assert 'input "x", axis 1: x_1' in str(caught.value)
    assert "--dim x_1=1..512" in str(caught.value)


def test_all_unsupported_operations_at_once(tmp_path):
    tensorflow = load_tensorflow()

    @tensorflow.function(input_signature=[tensorflow.TensorSpec((4, 4), name="x")])
    def spectrum(x):
        return tensorflow.linalg.det(x) + tensorflow.math.lgamma(x)

    module = tensorflow.Module()
    module.spectrum = spectrum
    with quiet():
        tensorflow.saved_model.save(module, tmp_path / "net", signatures=spectrum)
    opened = source(tmp_path / "net")
    with pytest.raises(UnsupportedModel) as caught:
        opened.lower(LoweringRequest(), tmp_path)
    assert "MatrixDeterminant" in str(caught.value)
    assert "Lgamma: node" in str(caught.value)
    assert len(opened.describe()["unsupported"]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("network", ["MobileNetV3Small", "EfficientNetV2B0", "ResNet50"])
@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_keras_applications(network, precision, tmp_path):
    keras = load_keras()
    with quiet():
        keras.utils.set_random_seed(1)
        getattr(keras.applications, network)(weights=None, input_shape=(224, 224, 3)).save(
            tmp_path / "net.keras"
        )
    opened = source(tmp_path / "net.keras")
    assert opened.predict(draw(opened))["predictions"].shape == (1, 1000)
    assert_verified(opened, tmp_path, precision=precision)
