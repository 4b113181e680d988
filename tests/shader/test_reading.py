"""Whole networks: what the reader makes of them, against their source framework in float64."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.nn import functional

from metal4conv.frontends.tensorflow_runtime import load_keras
from metal4conv.frontends.toolkit import quiet
from metal4conv.layout.emit.identifiers import C_WORDS
from metal4conv.shader.network import Assign, Call, Element, Index, Linear, Network, Table
from metal4conv.shader.reading import read_network
from tests.conftest import SAMPLES
from tests.shader.networks import Converted, Net, converted, converted_file, seeded, small_mlp
from tests.shader.programs import Program, check

TOLERANCE = 1e-5
"""Weights that something was folded into are rounded to float32 once more; a SIREN multiplies what
that changes by its frequency in each layer."""


def assert_like_torch(made: Converted, module: nn.Module, *examples: Tensor) -> Network:
    """The network gives what the module gives in float64, and what the executor gives."""
    network = made.network
    inputs = {
        port.name: example.numpy() for port, example in zip(network.inputs, examples, strict=True)
    }
    with torch.no_grad():
        wanted = module.double()(*(example.double() for example in examples))
    module.float()
    found = made.evaluated(inputs)
    results = wanted if isinstance(wanted, tuple) else (wanted,)
    for (name, array), result, executed in zip(
        found.items(), results, made.executed(inputs).values(), strict=True
    ):
        scale = max(1.0, float(result.abs().max()))
        assert array.shape == tuple(result.shape), name
        np.testing.assert_allclose(array, result.numpy(), rtol=0, atol=TOLERANCE * scale)
        np.testing.assert_allclose(array, executed, rtol=0, atol=2 * TOLERANCE * scale)
    return network


def read(module: nn.Module, *examples: Tensor, **more: Any) -> Network:
    """The network of a module, after it has been compared with the module."""
    return assert_like_torch(converted(module, *examples, **more), module, *examples)


def kinds(network: Network) -> str:
    """The kinds of a network's steps: L, A, R."""
    return "".join(type(step).__name__[0] for step in network.program.steps)


def points(*shape: int) -> Tensor:
    """Seeded inputs between -1 and 1."""
    generator = torch.Generator().manual_seed(len(shape) + shape[0])
    return 2 * torch.rand(shape, generator=generator) - 1


def test_bias_and_activation_are_one_step() -> None:
    network = read(small_mlp(), points(5, 3))
    assert kinds(network) == "LALA"
    _, activation, *_ = network.program.steps
    assert isinstance(activation, Assign)
    (piece,) = activation.pieces
    relu = piece.expression
    assert isinstance(relu, Call)
    (add,) = relu.arguments
    assert isinstance(add, Call)
    assert (relu.function, add.function) == ("relu", "add")
    assert [type(item) for item in add.arguments] == [Element, Table]


def test_neural_material() -> None:
    """The sample: two heads of one layer, one of them normalized."""
    made = converted_file(f"{SAMPLES / 'neural_material.py'}:neural_material")
    network = made.network
    assert kinds(network) == "LALALARAAA"
    assert [port.name for port in network.outputs] == ["output_0", "output_1"]
    names = [step.result.name for step in network.program.steps]
    assert names[:6] == [
        "first_product",
        "first",
        "second_product",
        "second",
        "last_product",
        "last",
    ]
    inputs = made.draw()
    for (name, found), wanted in zip(
        made.evaluated(inputs).items(), made.source.predict(inputs).values(), strict=True
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6, err_msg=name)


def test_siren_has_its_frequency_in_the_weights() -> None:
    module = seeded(
        lambda: Net(
            lambda self, x: self.c(torch.sin(30 * self.b(torch.sin(30 * self.a(x))))),
            a=nn.Linear(2, 16), b=nn.Linear(16, 16), c=nn.Linear(16, 3),
        )
    )  # fmt: skip
    network = read(module, points(9, 2))
    assert kinds(network) == "LALALA"
    assert network.folded["mul"] == "folded into linear_0"
    first = network.program.linears[0]
    np.testing.assert_allclose(first.weight, 30 * module.a.weight.detach().numpy(), rtol=1e-6)


def test_radiance_field_with_encoding_and_skip() -> None:
    def forward(self: Any, x: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        waves = [f(x * 2**k) for k in range(3) for f in (torch.sin, torch.cos)]
        encoded = torch.cat([x, *waves], -1)
        hidden = functional.relu(self.a(encoded))
        hidden = functional.relu(self.b(torch.cat([hidden, encoded], -1)))
        color = torch.sigmoid(self.c(torch.cat([hidden, direction], -1)))
        return functional.softplus(self.d(hidden)), color

    module = seeded(
        lambda: Net(
            forward,
            a=nn.Linear(21, 16),
            b=nn.Linear(37, 16),
            c=nn.Linear(19, 3),
            d=nn.Linear(16, 1),
        )
    )
    network = read(module, points(9, 3), points(9, 3))
    assert [port.width for port in network.inputs] == [3, 3]
    assert [port.width for port in network.outputs] == [1, 3]


def test_encoding_by_broadcasting_is_one_step() -> None:
    """Frequencies and features are indexes of a loop, not copies."""

    def forward(self: Any, x: Tensor) -> Tensor:
        angles = (x[..., None] * self.octaves).flatten(-2)
        waves: Tensor = self.last(torch.cat([torch.sin(angles), torch.cos(angles)], -1))
        return waves

    module = Net(forward, octaves=2.0 ** torch.arange(4), last=nn.Linear(24, 3))
    network = read(module, points(9, 3))
    angles, waves, *_ = network.program.steps
    assert kinds(network) == "AALA"
    assert isinstance(angles, Assign)
    assert isinstance(waves, Assign)
    (piece,) = angles.pieces
    assert isinstance(piece.expression, Call)
    x, octaves = piece.expression.arguments
    assert isinstance(x, Element)
    assert isinstance(octaves, Table)
    assert x.index == Index(divisor=4)
    assert octaves.index == Index(modulus=4)
    assert octaves.values.tolist() == [1, 2, 4, 8]
    assert len(waves.pieces) == 2


def test_layers_of_pixels_as_linear_layers() -> None:
    """Transposed to channels last and back: no step moves anything."""
    module = Net(
        lambda self, x: self.b(functional.relu(self.a(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2),
        a=nn.Linear(3, 8), b=nn.Linear(8, 2),
    )  # fmt: skip
    network = read(module, points(1, 3, 5, 7))
    assert kinds(network) == "LALA"
    assert network.inputs[0].feature_axes == network.outputs[0].feature_axes == (1,)


def test_points_as_rows_and_back() -> None:
    module = Net(
        lambda self, x: self.b(functional.relu(self.a(x.reshape(-1, 3)))).reshape(5, 7, 2),
        a=nn.Linear(3, 8), b=nn.Linear(8, 2),
    )  # fmt: skip
    network = read(module, points(5, 7, 3))
    assert network.outputs[0].point_axes == (0, 1)


def test_uniform_inputs() -> None:
    """One row for all points: a vector, and a matrix that turns a direction."""
    module = Net(
        lambda self, x, light, turn: self.a(torch.cat([x @ turn.T, light.expand(9, 2)], -1)),
        a=nn.Linear(5, 8),
    )
    network = read(module, points(9, 3), points(1, 2), points(3, 3))
    assert [port.uniform for port in network.inputs] == [False, True, True]
    assert network.inputs[2].width == 9


def test_one_sample_is_one_point() -> None:
    network = read(small_mlp(8), points(1, 8))
    assert network.inputs[0].feature_axes == (1,)
    assert not network.inputs[0].uniform


def test_batch_norm_of_a_trained_network() -> None:
    module = seeded(
        lambda: nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    )
    module.train()(points(50, 3))
    assert kinds(read(module.eval(), points(9, 3))) == "LALA"


def test_outputs_that_are_shared_or_inputs() -> None:
    def forward(self: Any, x: Tensor) -> tuple[Tensor, ...]:
        first = self.a(x)
        return first, torch.relu(first), x, first[:, :2]

    network = read(Net(forward, a=nn.Linear(3, 4)), points(9, 3))
    assert network.program.outputs[2] == network.program.inputs[0]
    names = [vector.name for vector in network.program.outputs]
    assert [names[0], names[1], names[3]] == ["output_0", "output_1", "output_3"]


@pytest.mark.parametrize(
    "activation",
    [nn.Hardswish(), nn.Mish(), nn.SELU(), nn.Hardsigmoid(), nn.PReLU(8), nn.Softmax(-1), nn.GLU()],
    ids=lambda module: type(module).__name__,
)
def test_activations_that_are_several_operations(activation: nn.Module) -> None:
    read(nn.Sequential(seeded(lambda: nn.Linear(3, 8)), activation), points(9, 3))


FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "normalize": lambda x: functional.normalize(x, dim=-1),
    "tone_map": lambda x: (x * (2.5 * x + 0.03)) / (x * (2.4 * x + 0.6) + 1.4),
    "harmonics": lambda x: torch.stack(
        [x[:, 0] * x[:, 1], x[:, 1] * x[:, 2], 3 * x[:, 2] ** 2 - 1, x[:, 0] ** 2 - x[:, 1] ** 2],
        -1,
    ),
    "cross": lambda x: torch.cross(x, x.roll(1, -1), dim=-1),
    "where": lambda x: torch.where(x > 0, x, -0.5 * x) * x.max(-1, keepdim=True).values,
    "distances": lambda x: torch.exp(-((x[:, None, :] - torch.eye(3)) ** 2).sum(-1)),
}


def test_shading_arithmetic() -> None:
    """Several functions of a point at once, each as its output."""
    module = Net(lambda self, x: tuple(function(x) for function in FUNCTIONS.values()))
    network = read(module, points(9, 3))
    assert [port.width for port in network.outputs] == [3, 3, 4, 3, 3, 3]


def test_dynamic_points_keep_their_name() -> None:
    made = converted(small_mlp(), points(5, 3), dynamic=({0: Dim("n", min=2, max=500)},))
    assert made.network.inputs[0].shape == ("n", 3)
    assert made.network.outputs[0].shape == ("n", 4)
    inputs = made.draw({"n": 11})
    np.testing.assert_allclose(
        made.evaluated(inputs)["output"], made.source.predict(inputs)["output"], atol=1e-6
    )


def test_dynamic_pictures() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 2, 1))
    made = converted(
        module,
        points(1, 3, 5, 6),
        dynamic=({2: Dim("h", min=2, max=500), 3: Dim("w", min=2, max=500)},),
    )
    assert made.network.outputs[0].shape == (1, 2, "h", "w")
    inputs = made.draw({"h": 3, "w": 8})
    np.testing.assert_allclose(
        made.evaluated(inputs)["output"], made.source.predict(inputs)["output"], atol=1e-6
    )


def test_dynamic_sizes_without_a_name() -> None:
    """The function alone numbers them."""
    made = converted(small_mlp(), points(5, 3), dynamic=({0: Dim("n", min=2, max=500)},))
    network = read_network(made.function, "net")
    assert network.inputs[0].feature_axes == (1,)


def test_float16_package_is_widened() -> None:
    made = converted(small_mlp(), points(5, 3), precision="float16")
    weight = made.network.program.linears[0].weight
    assert weight.dtype == np.float32
    assert np.array_equal(weight, weight.astype(np.float16))


def test_compressed_weights() -> None:
    program = Program(x=("n", 3))
    data = np.arange(-6, 6, dtype=np.int8).reshape(4, 3)
    scale = np.array([0.5, 1, 2, 3], np.float32)
    program.add(
        "constexpr_affine_dequantize", quantized_data=data, zero_point=np.zeros(4, np.int8),
        scale=scale, axis=np.int32(0), name="weight",
    )  # fmt: skip
    program.add("linear", x="x", weight="weight")
    network = check(program.function())
    (linear,) = network.program.linears
    np.testing.assert_array_equal(linear.weight, data * scale[:, None])
    assert network.folded == {"weight": "a constant"}


def test_steps_that_no_output_needs_are_left_out() -> None:
    program = Program(x=("n", 3))
    program.add("linear", x="x", weight=np.eye(3))
    program.add("split", x="linear", num_splits=3, axis=1, outputs=3)
    program.add("sin", x="split_1_2")
    program.add("cos", x="split_1_0")
    network = check(program.function("cos_3"))
    assert [step.label for step in network.program.steps] == ["linear", "cos_3"]
    assert network.folded["sin_2"] == "not needed for any output"


def test_onnx(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    helper, arrays = onnx.helper, onnx.numpy_helper
    generator = np.random.default_rng(0)
    shapes = {"w1": (3, 16), "b1": (16,), "w2": (8, 16), "b2": (8,), "scale": (8,)}
    weights = [
        arrays.from_array(generator.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["sums"], name="fc1"),
        helper.make_node("Add", ["sums", "b1"], ["biased"]),
        helper.make_node("LeakyRelu", ["biased"], ["hidden"], alpha=0.1),
        helper.make_node("Gemm", ["hidden", "w2", "b2"], ["g"], transB=1, alpha=2.0, beta=0.5),
        helper.make_node("Mul", ["g", "scale"], ["y"]),
    ]
    rows = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", width])
        for name, width in (("x", 3), ("y", 8))
    ]
    graph = helper.make_graph(nodes, "graph", rows[:1], rows[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.save(model, tmp_path / "net.onnx")
    made = converted_file(tmp_path / "net.onnx", dims=["n=1..1000"])
    assert kinds(made.network) == "LALA"
    inputs = made.draw({"n": 7})
    np.testing.assert_allclose(
        made.evaluated(inputs)["y"], made.source.predict(inputs)["y"], rtol=1e-5, atol=1e-5
    )


@pytest.mark.slow  # TensorFlow takes its time to start
def test_animation_blend() -> None:
    """A TensorFlow SavedModel whose features have two axes."""
    made = converted_file(SAMPLES / "animation_blend")
    assert (1, 16, 4) in [port.shape for port in made.network.inputs]
    inputs = made.draw()
    found, wanted = made.evaluated(inputs), made.source.predict(inputs)
    for array, expected in zip(found.values(), wanted.values(), strict=True):
        np.testing.assert_allclose(array, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_keras_with_channels_last(tmp_path: Path) -> None:
    """Converters put transposes around each convolution; none of them is a step."""
    keras = load_keras()
    with quiet():
        layers = keras.layers
        image = keras.Input((4, 6, 3), name="image")
        hidden = layers.BatchNormalization()(layers.Conv2D(8, 1, activation="relu")(image))
        hidden = layers.Dense(5, activation="gelu")(hidden)
        both = layers.Concatenate()([hidden, image])
        keras.Model(image, layers.Conv2D(2, 1, activation="tanh")(both)).save(
            tmp_path / "net.keras"
        )
    made = converted_file(tmp_path / "net.keras")
    assert kinds(made.network) == "LALALA"
    assert made.network.inputs[0].feature_axes == made.network.outputs[0].feature_axes == (3,)
    inputs = made.draw()
    (found,), (wanted,) = made.evaluated(inputs).values(), made.source.predict(inputs).values()
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_names_are_identifiers_of_their_own() -> None:
    program = Program(x=("n", 3))
    program.add("linear", x="x", weight=np.eye(3), name="half")
    program.add("sin", x="half", name="größe/1.0")
    program.add("add", x="größe/1.0", y="half", name="X")
    network = check(program.function("half", "X", "größe/1.0"))
    vectors = [*network.program.inputs, *(step.result for step in network.program.steps)]
    names = [vector.name for vector in vectors]
    assert len({name.lower() for name in names}) == len(names)
    for name in names:
        assert re.fullmatch(r"[A-Za-z]\w*", name), name
        assert name.lower() not in C_WORDS.split()
    assert "grosse_1_0" in names


def test_reading_twice_gives_the_same() -> None:
    made = converted(small_mlp(), points(5, 3))
    first, second = (read_network(made.function, "net") for _ in range(2))
    assert [str(step) for step in first.program.steps if not isinstance(step, Linear)] == [
        str(step) for step in second.program.steps if not isinstance(step, Linear)
    ]
    assert first.folded == second.folded
