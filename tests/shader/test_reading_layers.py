"""Layers against the executor: where the features lie, what is folded, which matrices there are."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.shader.network import Assign, Linear, Network, Reduce
from metal4conv.shader.reading import read_network
from tests.shader.programs import Program, check

RANDOM = np.random.default_rng(7)


def numbers(*shape: int) -> np.ndarray:
    """Seeded weights."""
    return RANDOM.uniform(-1, 1, shape)


def kinds(network: Network) -> list[str]:
    """The kinds of a network's steps."""
    return [type(step).__name__ for step in network.program.steps]


@pytest.mark.parametrize("shape", [("n", 3), (1, "h", "w", 3), (7, 3), (1, 3), (3,)])
def test_linear_over_the_last_axis(shape: tuple[int | str, ...]) -> None:
    program = Program(x=shape)
    program.add("linear", x="x", weight=numbers(5, 3), bias=numbers(5))
    network = check(program.function())
    assert network.inputs[0].feature_axes == (len(shape) - 1,)
    assert kinds(network) == ["Linear", "Assign"]


def test_bias_of_zeros_is_no_step() -> None:
    program = Program(x=("n", 3))
    program.add("linear", x="x", weight=numbers(5, 3), bias=np.zeros(5))
    assert kinds(check(program.function())) == ["Linear"]


def test_linear_over_several_groups_of_features() -> None:
    """Four groups of three features go through the same weight: one block-diagonal matrix."""
    program = Program(x=("n", 12))
    program.add("reshape", x="x", shape=np.array([-1, 4, 3]))
    program.add("linear", x="reshape", weight=numbers(2, 3))
    program.add("reshape", x="linear_1", shape=np.array([-1, 8]))
    network = check(program.function())
    (linear,) = network.program.linears
    assert linear.weight.shape == (8, 12)
    assert np.count_nonzero(linear.weight) == 24


@pytest.mark.parametrize("transpose_y", [False, True])
@pytest.mark.parametrize("batch", [(), (1,)])
def test_product_with_a_matrix_behind(transpose_y: bool, batch: tuple[int, ...]) -> None:
    matrix = numbers(*batch, 5, 3) if transpose_y else numbers(*batch, 3, 5)
    program = Program(x=("n", 3))
    program.add("matmul", x="x", y=matrix, transpose_y=transpose_y)
    assert kinds(check(program.function())) == ["Linear"]


@pytest.mark.parametrize("transpose_x", [False, True])
def test_product_with_a_matrix_in_front(transpose_x: bool) -> None:
    matrix = numbers(3, 5) if transpose_x else numbers(5, 3)
    program = Program(x=(1, 3, "n"))
    program.add("matmul", x=matrix, y="x", transpose_x=transpose_x)
    network = check(program.function())
    assert network.outputs[0].feature_axes == (1,)


def test_product_with_a_transposed_value() -> None:
    program = Program(x=(3, "n"))
    program.add("matmul", x="x", y=numbers(3, 5), transpose_x=True)
    assert check(program.function()).inputs[0].feature_axes == (0,)


def test_product_with_a_vector() -> None:
    program = Program(x=("n", 3))
    program.add("matmul", x="x", y=numbers(3))
    network = check(program.function())
    assert network.outputs[0].width == 1


def test_rotation_of_a_direction_by_a_computed_matrix() -> None:
    program = Program(x=("n", 9), y=("n", 3))
    program.add("reshape", x="x", shape=np.array([-1, 3, 3]), name="matrix")
    program.add("expand_dims", x="y", axes=np.array([2]), name="column")
    program.add("matmul", x="matrix", y="column")
    network = check(program.function())
    assert kinds(network) == ["Reduce"]


@pytest.mark.parametrize("transposed", [(False, True), (True, False)])
def test_product_of_two_computed_matrices(transposed: tuple[bool, bool]) -> None:
    program = Program(x=("n", 2, 3), y=("n", 2, 3))
    program.add("matmul", x="x", y="y", transpose_x=transposed[0], transpose_y=transposed[1])
    check(program.function())


def test_convolution_of_single_pixels() -> None:
    program = Program(x=(1, 3, "h", "w"))
    program.add("conv", x="x", weight=numbers(5, 3, 1, 1), bias=numbers(5))
    network = check(program.function())
    assert network.inputs[0].feature_axes == (1,)
    assert network.is_pointwise


def test_convolution_of_one_axis() -> None:
    program = Program(x=(1, 3, "n"))
    program.add("conv", x="x", weight=numbers(5, 3, 1))
    check(program.function())


def test_convolution_in_groups() -> None:
    program = Program(x=(1, 4, "h", "w"))
    program.add("conv", x="x", weight=numbers(6, 2, 1, 1), groups=2)
    (linear,) = check(program.function()).program.linears
    assert np.count_nonzero(linear.weight) == 12


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"strides": np.array([2, 2])}, r"strides \[2, 2\]"),
        ({"pad_type": "=custom", "pad": np.array([1, 1, 1, 1])}, r"padding \[1, 1, 1, 1\]"),
    ],
)
def test_convolution_that_changes_the_pixels(more: dict[str, object], found: str) -> None:
    program = Program(x=(1, 3, "h", "w"))
    program.add("conv", x="x", weight=numbers(5, 3, 1, 1), name="shrink", **more)
    with pytest.raises(UnsupportedModel, match=f"shrink .* {found}"):
        read_network(program.function(), "net")


def test_spatial_convolution_begins_a_pass() -> None:
    program = Program(x=(1, 3, "h", "w"))
    program.add(
        "conv",
        x="x",
        weight=numbers(4, 3, 3, 3),
        bias=numbers(4),
        pad_type="=custom",
        pad=np.array([1, 1, 1, 1]),
    )
    program.add("relu", x="conv")
    network = check(program.function())
    assert len(network.passes) == 1
    assert network.passes[0].convolution is not None


def test_batch_norm_behind_a_convolution_is_in_its_weight() -> None:
    program = Program(x=(1, 3, "h", "w"))
    program.add("conv", x="x", weight=numbers(5, 3, 1, 1), bias=numbers(5))
    program.add(
        "batch_norm",
        x="conv",
        mean=numbers(5),
        variance=numbers(5) + 2,
        gamma=numbers(5),
        beta=numbers(5),
        name="norm",
    )
    program.add("relu", x="norm")
    network = check(program.function())
    assert kinds(network) == ["Linear", "Assign"]
    assert network.folded["norm"] == "folded into conv"


def test_batch_norm_of_an_input() -> None:
    program = Program(x=(1, 3, "h", "w"))
    program.add("batch_norm", x="x", mean=numbers(3), variance=numbers(3) + 2)
    assert kinds(check(program.function())) == ["Assign"]


@pytest.mark.parametrize("is_affine", [False, True])
def test_layer_norm(is_affine: bool) -> None:
    program = Program(x=("n", 6))
    more = {"gamma": numbers(6), "beta": numbers(6)} if is_affine else {}
    program.add("layer_norm", x="x", axes=np.array([-1]), epsilon=1e-3, **more)
    network = check(program.function())
    # sum, mean, what is above it, sum of squares, factor, result: each number is computed once
    found = [type(step) for step in network.program.steps]
    assert found == [Reduce, Assign, Assign, Reduce, Assign, Assign]


def test_layer_norm_over_one_of_two_axes() -> None:
    program = Program(x=("n", 12))
    program.add("reshape", x="x", shape=np.array([-1, 3, 4]))
    program.add("layer_norm", x="reshape", axes=np.array([1]), epsilon=1e-3, gamma=numbers(3))
    check(program.function())


def test_l2_norm() -> None:
    program = Program(x=("n", 4, 1, 1))
    program.add("l2_norm", x="x", epsilon=1e-3)
    check(program.function())


def test_operand_in_another_order_needs_no_copy() -> None:
    """The columns of the weight move in place of the features."""
    program = Program(x=("n", 6))
    program.add("reshape", x="x", shape=np.array([-1, 2, 3]))
    program.add("transpose", x="reshape", perm=np.array([0, 2, 1]))
    program.add("reshape", x="transpose_1", shape=np.array([-1, 6]))
    program.add("linear", x="reshape_2", weight=numbers(4, 6))
    (linear,) = check(program.function()).program.steps
    assert isinstance(linear, Linear)


def test_part_of_a_vector_is_copied_for_a_layer() -> None:
    """With zeros in the weight for the rest, an infinity there would spoil the sums."""
    program = Program(x=("n", 6))
    program.add(
        "slice_by_index", x="x", begin=np.array([0, 1]), end=np.array([0, 4]),
        end_mask=np.array([True, False]),
    )  # fmt: skip
    program.add("linear", x="slice_by_index", weight=numbers(4, 3))
    assert kinds(check(program.function())) == ["Assign", "Linear"]
