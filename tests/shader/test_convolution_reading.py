"""What convolutions are refused, and how those that fit cut a network into passes."""

from __future__ import annotations

import numpy as np
import pytest

from metal4conv.errors import UnsupportedModel
from metal4conv.shader.convolution_reading import (
    ConvolutionArguments,
    passes_of,
    spatial_convolution,
)
from metal4conv.shader.network import (
    Assign,
    Call,
    Convolution,
    Element,
    Linear,
    Pass,
    Piece,
    Vector,
)


def arguments(outputs=8, inputs=3, kernel=(3, 3), **changes):
    given = {
        "operation": "conv_1 (conv)",
        "label": "conv_1",
        "weight": np.ones((outputs, inputs, *kernel), np.float32),
        "strides": (1, 1),
        "pad_type": "custom",
        "pad": (kernel[0] // 2, kernel[0] // 2, kernel[-1] // 2, kernel[-1] // 2),
        "dilations": (1, 1),
        "groups": 1,
    }
    return ConvolutionArguments(**(given | changes))


def convolution_of(given, operand=3, result=8):
    return spatial_convolution(given, Vector("x", operand), Vector("hidden", result))


def test_a_convolution_keeps_weight_and_padding():
    made = convolution_of(arguments(kernel=(3, 5)))
    assert (made.image, made.padding, made.label) == ("x", (1, 2), "conv_1")
    assert made.weight.shape == (8, 3, 3, 5)


@pytest.mark.parametrize("pad_type", ["same", "same_lower"])
def test_same_padding_of_an_odd_kernel_is_the_same_on_all_sides(pad_type):
    assert convolution_of(arguments(pad_type=pad_type, pad=())).padding == (1, 1)


def test_uneven_padding_moves_the_window():
    assert convolution_of(arguments(pad=(2, 0, 0, 2))).padding == (2, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"kernel": (4, 4)}, "odd and at most 7 × 7 in a shader, this one is 4 × 4"),
        ({"kernel": (9, 9)}, "this one is 9 × 9"),
        ({"strides": (2, 2)}, r"strides \[2, 2\]"),
        ({"dilations": (2, 1)}, r"dilations \[2, 1\]"),
        ({"groups": 3}, "3 groups"),
        ({"pad_type": "valid"}, "changes the size of its image"),
        ({"pad": (0, 0, 1, 1)}, r"padding \[0, 0, 1, 1\] .* expected \[1, 1, 1, 1\]"),
        ({"outputs": 256}, "at most 128 channels, this one has 3 inputs and 256 outputs"),
        ({"outputs": 128, "inputs": 128, "kernel": (9, 7)}, "9 × 7"),
        ({"kernel": (3,)}, "1 spatial axes"),
    ],
)
def test_refused(changes, words):
    given = arguments(**changes)
    operand, result = given.weight.shape[1], given.weight.shape[0]
    with pytest.raises(UnsupportedModel, match=words) as raised:
        convolution_of(given, operand, result)
    assert raised.value.where == ("conv_1 (conv)",)
    assert raised.value.hint


def sum_of(result, *terms):
    first, second = (Element(term) for term in terms)
    return Assign(result, (Piece(0, result.width, Call("add", (first, second))),), result.name)


def relu(result, of):
    return Assign(result, (Piece(0, result.width, Call("relu", (Element(of),))),), result.name)


def convolution(result, image):
    weight = np.ones((result.width, image.width, 3, 3), np.float32)
    return Convolution(result, image.name, weight, (1, 1), result.name)


X, A, B, C, D, E = (Vector(name, 4) for name in "xabcde")


def shape_of(made: Pass):
    """(image or None, steps, reads, writes) of a pass, by names."""
    image = made.convolution.image if made.convolution else None
    steps = [step.result.name for step in made.program.steps]
    return image, steps, made.reads, made.writes


def test_two_convolutions_are_two_passes():
    steps = [convolution(A, X), relu(B, A), convolution(C, B), sum_of(D, C, X)]
    first, second = passes_of({"image": X}, steps, {"denoised": D})
    assert shape_of(first) == ("image", ["b"], (), ("b",))
    assert shape_of(second) == ("b", ["d"], ("image",), ("denoised",))
    assert first.program.inputs == (A,)
    assert second.program.inputs == (C, X)


def test_what_comes_before_the_first_convolution_is_a_pass_without_one():
    steps = [relu(A, X), convolution(B, A)]
    first, second = passes_of({"x": X}, steps, {"y": B})
    assert shape_of(first) == (None, ["a"], ("x",), ("a",))
    assert shape_of(second) == ("a", [], (), ("y",))
    assert second.program.outputs == (B,)


def test_a_residual_of_the_input_waits_for_its_use():
    steps = [relu(A, X), convolution(B, X), sum_of(C, B, A)]
    (only,) = passes_of({"x": X}, steps, {"y": C})
    assert shape_of(only) == ("x", ["a", "c"], ("x",), ("y",))


def test_a_step_of_the_input_that_two_passes_use_becomes_an_image():
    steps = [relu(A, X), convolution(B, X), sum_of(C, B, A), convolution(D, C), sum_of(E, D, A)]
    first, second = passes_of({"x": X}, steps, {"y": E})
    assert shape_of(first) == ("x", ["a", "c"], ("x",), ("a", "c"))
    assert shape_of(second) == ("c", ["e"], ("a",), ("y",))


def test_an_output_that_a_later_pass_reads_is_no_second_image():
    steps = [convolution(A, X), convolution(B, A)]
    first, second = passes_of({"x": X}, steps, {"features": A, "y": B})
    assert shape_of(first) == ("x", [], (), ("features",))
    assert shape_of(second) == ("features", [], (), ("y",))


def test_one_vector_as_two_outputs_is_written_twice():
    (only,) = passes_of({"x": X}, [convolution(A, X)], {"y": A, "z": A})
    assert only.writes == ("y", "z")
    assert only.program.outputs == (A, A)


def test_an_output_that_is_an_input_is_written_by_the_last_pass():
    steps = [convolution(A, X), convolution(B, A)]
    _, second = passes_of({"x": X}, steps, {"y": B, "same": X})
    assert shape_of(second) == ("a", [], ("x",), ("y", "same"))


def test_an_image_named_as_a_port_gets_another_name():
    steps = [convolution(A, X), convolution(B, A)]
    first, second = passes_of({"x": X}, steps, {"a": B})
    assert first.writes == ("a_image",)
    assert second.convolution is not None
    assert second.convolution.image == "a_image"


def test_two_convolutions_of_one_image_are_two_passes():
    steps = [convolution(A, X), convolution(B, X), sum_of(C, A, B)]
    first, second = passes_of({"x": X}, steps, {"y": C})
    assert shape_of(first) == ("x", [], (), ("a",))
    assert shape_of(second) == ("x", ["c"], ("a",), ("y",))


def test_a_linear_layer_between_convolutions_runs_in_the_pass_of_the_first():
    layer = Linear(B, A, np.ones((4, 4), np.float32), "mix")
    steps = [convolution(A, X), layer, convolution(C, B)]
    first, second = passes_of({"x": X}, steps, {"y": C})
    assert shape_of(first) == ("x", ["b"], (), ("b",))
    assert shape_of(second) == ("b", [], (), ("y",))
