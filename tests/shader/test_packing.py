"""Packing: where each number lies, what smaller types keep of it, and what is refused."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel, UsageError
from metal4conv.layout.rules import DATA_TYPES
from metal4conv.shader.estimates import estimate
from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Expression,
    Index,
    Linear,
    Network,
    Pass,
    Piece,
    PointProgram,
    Port,
    Reduce,
    Step,
    Table,
    Vector,
)
from metal4conv.shader.options import Precision, ShaderOptions
from metal4conv.shader.packing import PackedWeights, pack_weights

PRECISIONS: tuple[Precision, ...] = ("float32", "float16", "int8")


def table(count: int, seed: int) -> Table:
    return Table(np.random.default_rng(seed).standard_normal(count).astype(np.float32))


def mlp(widths: tuple[int, ...], seed: int = 3, biased: bool = True) -> Network:
    """Linear layers with a bias and a relu after each."""
    draw = np.random.default_rng(seed)
    vector = first = Vector("x", widths[0])
    steps: list[Step] = []
    for number, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        sums = Vector(f"sums_{number}", outputs)
        weight = draw.standard_normal((outputs, inputs)).astype(np.float32)
        steps.append(Linear(sums, vector, weight, f"layer_{number}"))
        expression: Expression = Element(sums)
        if biased:
            expression = Call("add", (expression, table(outputs, seed + number)))
        vector = Vector(f"hidden_{number}", outputs)
        piece = Piece(0, outputs, Call("relu", (expression,)))
        steps.append(Assign(vector, (piece,), f"layer_{number}"))
    program = PointProgram((first,), tuple(steps), (vector,))
    ports = (
        Port("x", "float32", ("n", widths[0]), (1,)),
        Port("y", "float32", ("n", widths[-1]), (1,)),
    )
    return Network("mlp", ports[:1], ports[1:], (Pass(program, ("x",), ("y",)),))


def of_steps(inputs: tuple[Vector, ...], steps: tuple[Step, ...], outputs: int = 1) -> Network:
    """A network of one pass whose ports do not matter."""
    program = PointProgram(inputs, steps, tuple(step.result for step in steps[-outputs:]))
    return Network("net", (), (), (Pass(program, (), ()),))


def linears(network: Network) -> tuple[Linear, ...]:
    return network.program.linears


@pytest.mark.parametrize("precision", PRECISIONS)
def test_rules_of_every_block(precision: Precision) -> None:
    packed = pack_weights(mlp((3, 40, 64, 17, 1)), ShaderOptions(precision=precision))
    end = 0
    for block in packed.blocks:
        size = DATA_TYPES[block.dtype].bytes
        assert block.offset % 128 == 0
        assert end <= block.offset < end + 128
        assert block.raw_data_type == {"float32": 3, "float16": 16, "int8": 45}[block.dtype]
        assert block.byte_length == math.prod(block.dimensions) * size
        assert block.strides[0] == 1
        if block.role == "weight":
            assert block.dtype == precision
            assert block.dimensions[0] % 32 == 0
            assert block.dimensions[1] % 16 == 0
            assert block.strides == (1, block.dimensions[0])
        else:
            assert block.dtype == "float32"
            assert len(block.dimensions) == 1
        assert block.usage == ("compute", "render")
        end = block.offset + block.byte_length
    assert len(packed.data) % 128 == 0
    assert 0 <= len(packed.data) - end < 128


def test_names_are_in_order_of_use() -> None:
    packed = pack_weights(mlp((3, 8, 2)), ShaderOptions(precision="int8"))
    assert [block.name for block in packed.blocks] == ["w0", "s0", "b0", "w1", "s1", "b1"]
    assert [block.layer for block in packed.blocks] == ["layer_0"] * 3 + ["layer_1"] * 3
    plain = pack_weights(mlp((3, 8, 2), biased=False), ShaderOptions())
    assert [block.name for block in plain.blocks] == ["w0", "w1"]


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_element_i_o_is_the_weight_o_i_of_the_source(precision: Precision) -> None:
    """Each number is looked for at the address that a shader would compute."""
    network = mlp((5, 33, 2))
    packed = pack_weights(network, ShaderOptions(precision=precision))
    dtype = np.dtype(precision)
    for linear in linears(network):
        block = packed.of[linear]
        outputs, inputs = linear.weight.shape
        assert block.used == (inputs, outputs)
        for i in range(block.dimensions[0]):
            for o in range(block.dimensions[1]):
                place = i * block.strides[0] + o * block.strides[1]
                at = block.offset + place * dtype.itemsize
                (found,) = np.frombuffer(packed.data[at : at + dtype.itemsize], dtype)
                inside = i < inputs and o < outputs
                assert found == (linear.weight[o, i].astype(dtype) if inside else 0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_stored_is_what_a_layer_multiplies_with(precision: Precision) -> None:
    network = mlp((7, 20, 3))
    packed = pack_weights(network, ShaderOptions(precision=precision))
    for linear in linears(network):
        stored = packed.stored(packed.of[linear])
        assert stored.dtype == np.float32
        assert stored.shape == linear.weight.shape
        largest = np.abs(linear.weight).max(axis=1, keepdims=True)
        bound = {"float32": 0, "float16": 2**-11 * largest, "int8": largest / 127 * 0.5000001}
        assert (np.abs(stored - linear.weight) <= bound[precision]).all()


def test_tables_stay_float32_and_may_be_read_in_vectors() -> None:
    network = mlp((3, 5))
    packed = pack_weights(network, ShaderOptions(precision="float16"))
    (bias,) = [block for block in packed.blocks if block.role == "bias"]
    assert (bias.name, bias.used, bias.dimensions, bias.byte_length) == ("b0", (5,), (16,), 64)
    held = np.frombuffer(packed.data, np.float32, 16, bias.offset)
    assert held[:5].tolist() == table(5, 3).values.tolist()
    assert not held[5:].any()
    assert packed.stored(bias).tolist() == table(5, 3).values.tolist()


def test_int8_by_hand() -> None:
    """Scales 2/127 and 1 (an output of zeros, and one that is too small)."""
    x, y = Vector("x", 4), Vector("y", 3)
    step = 2 / 127
    weight = np.array([[2, -2, 0, 3 * step], [0, 0, 0, 0], [1e-45, 0, 0, 0]], np.float32)
    network = of_steps((x,), (Linear(y, x, weight, "only"),))
    packed = pack_weights(network, ShaderOptions(precision="int8"))
    weights, scales = packed.blocks
    held = np.frombuffer(packed.data, np.int8, 32 * 16, weights.offset).reshape(16, 32)
    assert held[0, :4].tolist() == [127, -127, 0, 3]
    assert held[1:2].tolist() == [[0] * 32]
    assert not held[3:].any()
    assert not held[2].any()
    assert packed.stored(scales).tolist() == [np.float32(step), 1, 1]  # 1e-45/127 is no float32
    assert packed.scales[network.program.linears[0]] is scales


def test_int8_halves_round_to_even() -> None:
    x, y = Vector("x", 4), Vector("y", 1)
    linear = Linear(y, x, np.array([[127, 0.5, 1.5, -2.5]], np.float32), "only")
    packed = pack_weights(of_steps((x,), (linear,)), ShaderOptions(precision="int8"))
    assert packed.stored(packed.of[linear]).tolist() == [[127, 0, 2, -2]]


def test_only_what_is_added_to_a_layer_is_its_bias() -> None:
    x, sums, encoded, both = (Vector(name, 6) for name in ("x", "sums", "encoded", "both"))
    frequencies, bias, factor = table(6, 1), table(6, 2), table(6, 3)
    added = Call("add", (bias, Call("multiply", (Element(sums), factor))))
    steps = (
        Assign(encoded, (Piece(0, 6, Call("add", (Element(x), frequencies))),), "encode"),
        Linear(sums, encoded, np.ones((6, 6), np.float32), "layer"),
        Assign(both, (Piece(0, 6, Call("multiply", (added, frequencies))),), "rest"),
    )
    packed = pack_weights(of_steps((x,), steps), ShaderOptions())
    rows = [(block.name, block.role, block.layer) for block in packed.blocks]
    assert rows == [
        ("t0", "table", "encode"),
        ("w0", "weight", "layer"),
        ("b0", "bias", "layer"),
        ("t1", "table", "rest"),
    ]
    assert packed.of[frequencies].name == "t0"
    assert packed.of[factor].name == "t1"


def test_two_layers_that_are_summed_have_a_bias_each() -> None:
    x, first, second, total = (Vector(name, 4) for name in ("x", "first", "second", "total"))
    biases = [table(4, 1), table(4, 2)]
    expression = Call(
        "add",
        (
            Call("add", (Element(first), biases[0])),
            Call("add", (Element(second), biases[1])),
        ),
    )
    steps = (
        Linear(first, x, np.ones((4, 4), np.float32), "a"),
        Linear(second, x, np.ones((4, 4), np.float32), "b"),
        Assign(total, (Piece(0, 4, expression),), "sum"),
    )
    packed = pack_weights(of_steps((x,), steps), ShaderOptions())
    assert [packed.of[one].name for one in biases] == ["b0", "b1"]


def test_a_table_of_a_reduction_is_packed() -> None:
    x, total = Vector("x", 4), Vector("total", 1)
    weights = Table(np.arange(4, dtype=np.float32), Index(stride=1))
    step = Reduce(total, "sum", 4, Call("multiply", (Element(x), weights)), "dot")
    packed = pack_weights(of_steps((x,), (step,)), ShaderOptions())
    assert packed.stored(packed.of[weights]).tolist() == [0, 1, 2, 3]


def convolution_network() -> tuple[Network, Convolution]:
    """A 3×5 convolution of two channels to three, with a bias."""
    weight = np.random.default_rng(8).standard_normal((3, 2, 5, 3)).astype(np.float32)
    sums, y = Vector("sums", 3), Vector("y", 3)
    convolution = Convolution(sums, "x", weight, (2, 1), "conv")
    piece = Piece(0, 3, Call("add", (Element(sums), table(3, 1))))
    program = PointProgram((sums,), (Assign(y, (piece,), "bias"),), (y,))
    return Network("net", (), (), (Pass(program, (), ("y",), convolution),)), convolution


@pytest.mark.parametrize("precision", PRECISIONS)
def test_convolution_weights_are_hwio(precision: Precision) -> None:
    network, convolution = convolution_network()
    packed = pack_weights(network, ShaderOptions(precision=precision, tensors="handle"))
    block = packed.of[convolution]
    assert [made.name for made in packed.blocks if made.role != "scale"] == ["w0", "b0"]
    assert block.used == (3, 2, 3, 5)
    assert block.dimensions == (16, 32, 3, 5)
    stored = packed.stored(block)
    expected = np.transpose(convolution.weight, (2, 3, 1, 0))
    largest = np.abs(convolution.weight).max()
    tolerance = {"float32": 0, "float16": 2**-11 * largest, "int8": largest / 254 * 1.001}
    np.testing.assert_allclose(stored, expected, rtol=0, atol=tolerance[precision])


def test_tensors_that_the_host_binds_have_an_index() -> None:
    def indices(options: ShaderOptions) -> list[int | None]:
        packed = pack_weights(mlp((3, 8, 2)), options)
        return [block.index for block in packed.blocks if block.role == "weight"]

    assert indices(ShaderOptions(tensors="handle")) == [1, 2]
    assert indices(ShaderOptions(tensors="inline")) == [None, None]
    assert indices(ShaderOptions(tensors="handle", inline_weights=True)) == [None, None]
    assert indices(ShaderOptions("int8", "handle", system=(26, 3))) == [None, None]
    assert indices(ShaderOptions("int8", "handle", system=(26, 4))) == [1, 2]
    passes, _ = convolution_network()
    beside = replace(passes, passes=(*passes.passes, *mlp((3, 8)).passes))
    handles = pack_weights(beside, ShaderOptions(tensors="handle")).blocks
    assert {block.index for block in handles} == {None}
    others = pack_weights(mlp((3, 8, 2)), ShaderOptions(tensors="handle")).blocks
    assert {block.index for block in others if block.role != "weight"} == {None}


def one_weight(values: list[float]) -> Network:
    x, y = Vector("x", len(values)), Vector("y", 1)
    return of_steps((x,), (Linear(y, x, np.array([values], np.float32), "decoder.out"),))


def test_a_weight_that_float16_cannot_hold_is_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"decoder.out holds 70000, .* ends at 65504"):
        pack_weights(one_weight([1, -70000]), ShaderOptions())
    for precision in ("float32", "int8"):
        pack_weights(one_weight([1, -70000]), ShaderOptions(precision=precision))
    assert pack_weights(one_weight([65519]), ShaderOptions()).data[:2] == b"\xff\x7b"  # 65504


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_weights_that_are_not_finite_are_refused(bad: float, precision: Precision) -> None:
    with pytest.raises(UnsupportedModel, match=r"1 of 2 weights of decoder\.out are infinite"):
        pack_weights(one_weight([1, bad]), ShaderOptions(precision=precision))


def test_underflow_is_told() -> None:
    packed = pack_weights(one_weight([1, 1e-8, -2e-8, 0]), ShaderOptions())
    (finding,) = packed.findings
    assert (finding.severity, finding.code) == ("warning", "float16-underflow")
    assert finding.where == "decoder.out"
    assert "2 of 4 weights" in finding.message
    assert not pack_weights(one_weight([1, 1e-8]), ShaderOptions(precision="float32")).findings


def test_many_numbers_do_not_go_into_the_source() -> None:
    options = ShaderOptions(inline_weights=True)
    assert pack_weights(mlp((63, 64)), options).blocks  # 64 * 63 + 64 = 4096
    with pytest.raises(UsageError, match="has 4,160 parameters, and at most 4,096"):
        pack_weights(mlp((64, 64)), options)


def test_more_tensors_than_a_function_takes_are_refused() -> None:
    deep = mlp((4,) * 29)  # 28 layers, an input, an output, weights, parameters
    pack_weights(mlp((4,) * 28), ShaderOptions(tensors="handle"))
    pack_weights(deep, ShaderOptions(tensors="inline"))
    with pytest.raises(UsageError, match=r"28 weights as tensors, .* are 32 buffers, .* most 31"):
        pack_weights(deep, ShaderOptions(tensors="handle"))
    many = replace(deep, outputs=deep.outputs * 29)
    with pytest.raises(UnsupportedModel, match=r"has 30 inputs and outputs, .* at most 29"):
        pack_weights(many, ShaderOptions())


def test_equal_networks_give_equal_bytes() -> None:
    def made() -> PackedWeights:
        return pack_weights(mlp((9, 31, 4)), ShaderOptions(precision="int8"))

    assert made().data == made().data
    assert made().blocks == made().blocks


def test_a_network_without_constants_has_no_bytes() -> None:
    x, y = Vector("x", 2), Vector("y", 2)
    packed = pack_weights(
        of_steps((x,), (Assign(y, (Piece(0, 2, Call("relu", (Element(x),))),), "relu"),)),
        ShaderOptions(),
    )
    assert (packed.blocks, packed.data) == ((), b"")


def test_estimates_by_hand() -> None:
    """3 → 8 → 2: the second layer's moment is the largest but for the padding.

    Layer 0: x (12 bytes), its copy in half padded to 32 (64), sums padded to 16 (64): 128 after
    the 76 before. Layer 1: hidden (32), copy 64; then copy 64 and sums 64: 128.
    """
    costs = estimate(mlp((3, 8, 2)), ShaderOptions(), threadgroup_bytes=2048)
    assert costs.parameters == 3 * 8 + 8 + 8 * 2 + 2
    assert costs.multiply_adds == 3 * 8 + 8 * 2
    assert costs.register_bytes == 128
    assert costs.threadgroup_bytes == 2048
    wide = estimate(mlp((3, 8, 2)), ShaderOptions(precision="float32"))
    assert wide.register_bytes == 128 + 64


def test_a_skip_connection_stays_alive() -> None:
    x, hidden, out = Vector("x", 16), Vector("hidden", 16), Vector("out", 16)
    weight = np.ones((16, 16), np.float32)
    chain = (
        Linear(hidden, x, weight, "a"),
        Assign(out, (Piece(0, 16, Call("relu", (Element(hidden),))),), "relu"),
    )
    skip = (
        chain[0],
        Assign(out, (Piece(0, 16, Call("add", (Element(hidden), Element(x)))),), "add"),
    )
    # copy 64 and sums 64, then hidden 64 and out 64; with the skip, x (64) as well
    assert estimate(of_steps((x,), chain), ShaderOptions()).register_bytes == 128
    assert estimate(of_steps((x,), skip), ShaderOptions()).register_bytes == 192


def test_estimates_of_convolutions() -> None:
    network, convolution = convolution_network()
    costs = estimate(network, ShaderOptions())
    assert costs.multiply_adds == convolution.weight.size
    assert costs.parameters == convolution.weight.size + 3
