"""What does not fit in a shader: the error names the operation, the limit, and the way out."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from metal4conv.errors import UnsupportedModel
from metal4conv.mil.program import Block, Function, Operation, StateType, TensorType, Value
from metal4conv.shader.limits import (
    MAXIMUM_JOINED_WIDTH,
    MAXIMUM_MULTIPLY_ADDS,
    MAXIMUM_WIDTH,
    check_limits,
)
from metal4conv.shader.network import (
    Call,
    Element,
    Index,
    Network,
    Pass,
    PointProgram,
    Port,
    Reduce,
    Vector,
)
from metal4conv.shader.reader import READERS
from metal4conv.shader.reading import read_network
from metal4conv.shader.refusals import REASONS
from tests.shader.networks import Net, program_of, seeded
from tests.shader.programs import Program


def refusal(program: Program) -> UnsupportedModel:
    """The error that reading a program ends with."""
    with pytest.raises(UnsupportedModel) as caught:
        read_network(program.function(), "net")
    assert caught.value.hint
    return caught.value


def refusal_of(module: nn.Module, *examples: Tensor) -> UnsupportedModel:
    """The same for a torch module."""
    function, _ = program_of(module, *examples)
    with pytest.raises(UnsupportedModel) as caught:
        read_network(function, "net")
    assert caught.value.hint
    return caught.value


def test_attention() -> None:
    layer = seeded(lambda: nn.MultiheadAttention(16, 2, batch_first=True))
    module = Net(lambda self, x: self.layer(x, x, x, need_weights=False)[0], layer=layer)
    found = refusal_of(module, torch.rand(1, 10, 16))
    assert "attention" in found.message
    assert "each point" in found.message


def test_attention_written_by_hand() -> None:
    """Scores are a product of two computed matrices, whatever it is called."""
    module = Net(
        lambda self, x: torch.softmax(self.q(x) @ self.k(x).transpose(-1, -2), -1) @ self.v(x),
        q=nn.Linear(16, 16), k=nn.Linear(16, 16), v=nn.Linear(16, 16),
    )  # fmt: skip
    found = refusal_of(module, torch.rand(1, 10, 16))
    assert "multiplies two computed matrices" in found.message
    assert "matmul" in found.message


def test_recurrent_layer() -> None:
    module = Net(lambda self, x: self.layer(x)[0], layer=nn.LSTM(8, 16, batch_first=True))
    found = refusal_of(module, torch.rand(1, 10, 8))
    assert "(lstm) is a recurrent layer" in found.message


def test_layer_of_1024() -> None:
    module = nn.Sequential(nn.Linear(8, 1024), nn.ReLU(), nn.Linear(1024, 3))
    found = refusal_of(module, torch.rand(5, 8))
    assert (
        f"a layer of 1024 outputs is too wide for a shader, which holds at most {MAXIMUM_WIDTH}"
        in (found.message)
    )
    assert "4 KB" in found.message
    assert "metal4conv convert" in str(found.hint)


def test_input_of_1024() -> None:
    found = refusal_of(nn.Linear(1024, 3), torch.rand(5, 1024))
    limit = f"which holds at most {MAXIMUM_JOINED_WIDTH}"
    assert f"1024 features of a point are too wide for a shader, {limit}" in found.message
    assert found.where == ('input "input" of shape (5, 1024)',)


def test_too_many_multiply_adds() -> None:
    layers = [nn.Linear(256, 256) for _ in range(1 + MAXIMUM_MULTIPLY_ADDS // 256**2)]
    found = refusal_of(nn.Sequential(*layers), torch.rand(5, 256))
    assert f"{256 * 256 * 17} multiply-adds for each point" in found.message
    assert str(MAXIMUM_MULTIPLY_ADDS) in found.message


def test_too_many_operations_on_elements() -> None:
    """Some hundred sums of products of two matrices of 16 × 16 that each point has of its own."""
    x = Vector("x", 256)
    terms = Call("multiply", (Element(x, Index(divisor=16)), Element(x, Index(modulus=256))))
    steps = tuple(Reduce(Vector(f"y{k}", 256), "sum", 16, terms, f"y{k}") for k in range(129))
    port = Port("x", "float32", ("n", 256), (1,))
    program = PointProgram((x,), steps, (steps[-1].result,))
    network = Network("net", (port,), (port,), (Pass(program, ("x",), ("y",)),))
    with pytest.raises(
        UnsupportedModel, match=f"{129 * 8192} operations on elements for each point"
    ):
        check_limits(network)


def test_too_much_kept_for_later() -> None:
    """Ten layers of 256, all of which the end needs."""
    program = Program(x=("n", 16))
    names = []
    for number in range(10):
        layer = program.add("linear", x="x", weight=np.ones((256, 16)), name=f"layer_{number}")
        names.append(program.add("sin", x=layer, name=f"wave_{number}"))
    last = program.add("mul", x=names[0], y=names[1], name="product_0")
    for number, name in enumerate(names[2:], 1):
        last = program.add("add", x=last, y=name, name=f"product_{number}")
    for number, name in enumerate(names):
        last = program.add("mul", x=last, y=name, name=f"again_{number}")
    found = refusal(program)
    assert "are needed at the same time" in found.message
    assert "wave_0" in found.message


def test_sizes_of_features_that_are_dynamic() -> None:
    program = Program(x=(1, "n"))
    program.add("softmax", x="x", axis=1)
    program.add("sub", x="softmax", y=0.5)
    found = refusal(program)
    assert "has n features a point" in found.message
    assert "--dim n=" in (found.hint or "")


def test_embedding_by_an_input() -> None:
    module = Net(lambda self, i: self.table(i), table=nn.Embedding(10, 4))
    found = refusal_of(module, torch.randint(0, 10, (5,)))
    assert "looks nothing up by an index" in found.message
    assert "int32" in found.message


def test_lookup_by_a_computed_index() -> None:
    program = Program(x=("n", 3))
    program.add_named("cast", {"x": "x", "dtype": "=int32"}, name="index", dtype="int32")
    program.add("gather", x=np.ones((4, 2), np.float32), indices="index", axis=0)
    assert "looks up elements by indices" in refusal(program).message


def test_constant_of_each_point() -> None:
    program = Program(x=(5, 3))
    program.add("linear", x="x", weight=np.eye(3))
    program.add("add", x="linear", y=np.arange(15.0).reshape(5, 3), name="offset")
    found = refusal(program)
    assert "offset (add) takes a constant of shape (5, 3)" in found.message
    assert str(found.hint).startswith("make the constant an input of the model, or run it")


def test_constant_that_is_the_same_for_all_points_is_fine() -> None:
    program = Program(x=(5, 3))
    program.add("linear", x="x", weight=np.eye(3))
    program.add("add", x="linear", y=np.tile(np.arange(3.0), (5, 1)))
    assert len(read_network(program.function(), "net").program.steps) == 2


def test_inputs_of_different_points() -> None:
    program = Program(x=(5, 3), y=(7, 3))
    program.add("linear", x="x", weight=np.eye(3))
    program.add("linear", x="y", weight=np.eye(3))
    with pytest.raises(UnsupportedModel, match=r'input "y" of shape \(7, 3\) has other points'):
        read_network(program.function("linear", "linear_1"), "net")


def test_output_that_is_the_same_for_all_points() -> None:
    program = Program(x=("n", 3), y=(1, 3))
    program.add("sin", x="y")
    program.add("add", x="x", y="y")
    with pytest.raises(UnsupportedModel, match=r'output "sin" of shape .* is not one row for each'):
        read_network(program.function("sin", "add_1"), "net")


def test_output_that_depends_on_nothing() -> None:
    program = Program(x=("n", 3))
    program.constant("one", np.ones(3))
    program.add("sin", x="x")
    with pytest.raises(UnsupportedModel, match='output "one" does not depend on any input'):
        read_network(program.function("sin_1", "one"), "net")


def test_output_of_truths() -> None:
    program = Program(x=("n", 3))
    program.add("greater", x="x", y=0.5, dtype="bool")
    assert 'output "greater" is bool, a shader gives floats' in refusal(program).message


def test_weight_that_is_computed() -> None:
    program = Program(x=("n", 3), y=(2, 3))
    program.add("linear", x="x", weight="y")
    assert "has a computed weight" in refusal(program).message


def test_normalization_over_points() -> None:
    program = Program(x=("n", 8))
    program.add("linear", x="x", weight=np.eye(8))
    program.add("layer_norm", x="linear", axes=np.array([0]), name="over_batch")
    assert "over_batch (layer_norm) reduces axis 0" in refusal(program).message


def test_instance_norm() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 1), nn.InstanceNorm2d(8))
    assert "statistics of all points" in refusal_of(module, torch.rand(1, 3, 8, 8)).message


@pytest.mark.parametrize(
    ("module", "found"),
    [
        (nn.MaxPool2d(2), "reads neighbouring pixels"),
        (nn.Upsample(scale_factor=2), "gives another number of pixels"),
        (nn.PixelShuffle(2), "gives another number of pixels"),
        (nn.ConvTranspose2d(4, 4, 2, stride=2), "gives another number of pixels"),
    ],
)
def test_other_pixels(module: nn.Module, found: str) -> None:
    made = refusal_of(nn.Sequential(nn.Conv2d(3, 4, 1), module), torch.rand(1, 3, 8, 8))
    assert found in made.message


def test_depthwise_convolution() -> None:
    module = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    assert "groups" in refusal_of(module, torch.rand(1, 4, 8, 8)).message


def test_operation_that_nobody_knows() -> None:
    program = Program(x=("n", 3))
    program.add("cumsum", x="x", axis=1, name="running")
    assert "running (cumsum) is none that a shader can do" in refusal(program).message


def test_all_attention_layers_are_named() -> None:
    """Whoever has to replace them wants the list."""
    program = Program(x=(1, 3, 8))
    for number in range(3):
        program.add("max_pool", x="x", kernel_sizes=np.array([3]), strides=np.array([1]),
                    pad_type="=same", name=f"pool_{number}")  # fmt: skip
    program.add("add", x="pool_0", y="pool_1")
    program.add("add", x="add_3", y="pool_2")
    assert refusal(program).where == tuple(f"operation pool_{k} (max_pool)" for k in range(3))


def test_operations_that_no_output_needs_do_not_count() -> None:
    program = Program(x=(1, 3, 8))
    program.add("sin", x="x")
    program.add("max_pool", x="x", kernel_sizes=np.array([3]), strides=np.array([1]),
                pad_type="=same")  # fmt: skip
    read_network(program.function("sin"), "net")


def test_no_operation_is_read_and_refused() -> None:
    assert not set(REASONS) & set(READERS)


def test_state() -> None:
    rows = TensorType("float32", ("n", 3))
    inputs = (Value("x", rows), Value("memory", StateType(TensorType("float16", (4,)))))
    operation = Operation("relu", "relu", {"x": ("x",)}, (Value("y", rows),))
    function = Function("main", "CoreML8", inputs, Block(inputs, (operation,), ("y",)))
    with pytest.raises(UnsupportedModel, match='"memory" keeps a state from one prediction'):
        read_network(function, "net")


@pytest.mark.parametrize("kind", sorted(REASONS))
def test_kinds_of_operations(kind: str) -> None:
    """Whatever the operation is given: it is refused before its shapes are looked at."""
    rows = TensorType("float32", ("n", 3))
    operation = Operation(kind, "made_up", {"x": ("x",)}, (Value("y", rows),))
    inputs = (Value("x", rows),)
    function = Function("main", "CoreML8", inputs, Block(inputs, (operation,), ("y",)))
    with pytest.raises(UnsupportedModel) as caught:
        read_network(function, "net")
    assert caught.value.message == f"operation made_up ({kind}) {REASONS[kind]}"
    assert caught.value.hint
