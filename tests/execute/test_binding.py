"""Arguments of another kind than an operation's parameter takes: refused with the input's name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import metal4conv
from metal4conv.errors import DamagedFile, UnsupportedModel
from tests.layout.packages import PackageBuilder
from tests.mil.unsound import operation, retype, small


def add(build: PackageBuilder, type: str, **inputs: list[str]) -> None:
    """Lets an operation of one output give the package's output instead."""
    build.operation(type, "z", "float32", (4,), inputs)
    build.block.outputs[0] = "z"
    build.spec.description.output[0].name = "z"


def text_for_a_tensor(build: PackageBuilder) -> None:
    build.literal("text", "string", (), ["valid"])
    add(build, "relu", x=["text"])


def number_for_a_text(build: PackageBuilder) -> None:
    add(build, "cast", x=["y"], dtype=["one"])


def text_for_a_number(build: PackageBuilder) -> None:
    build.literal("text", "string", (), ["valid"])
    add(build, "leaky_relu", x=["y"], alpha=["text"])


def nothing_for_a_number(build: PackageBuilder) -> None:
    build.literal("none", "float32", (0,), [])
    add(build, "leaky_relu", x=["y"], alpha=["none"])


def two_values_for_one(build: PackageBuilder) -> None:
    add(build, "relu", x=["a", "y"])


def list_for_a_tensor(build: PackageBuilder) -> None:
    add(build, "relu")
    argument = operation(build, "z").inputs["x"].arguments.add()
    item = operation(build, "one").attributes["val"]
    argument.value.immediateValue.list.values.add().CopyFrom(item)


def stride_of_nothing(build: PackageBuilder) -> None:
    build.literal("wide", "int32", (3,), [1, 1, 4])
    build.operation("reshape", "r", "float32", (1, 1, 4), {"x": ["y"], "shape": ["wide"]})
    build.literal("two", "int32", (1,), [2])
    build.literal("zero", "int32", (1,), [0])
    build.literal("valid", "string", (), ["valid"])
    build.literal("yes", "bool", (), [])
    constant = operation(build, "yes").attributes["val"].immediateValue.tensor
    constant.bools.values.append(True)
    names = {"kernel_sizes": ["two"], "strides": ["zero"], "pad_type": ["valid"]}
    add(build, "max_pool", x=["r"], ceil_mode=["yes"], **names)


def array_among_numbers(build: PackageBuilder) -> None:
    build.literal("sizes", "int32", (2,), [2, 2])
    add(build, "reshape", x=["y"], shape=["sizes", "sizes"])


def values_among_numbers(build: PackageBuilder) -> None:
    add(build, "reshape", x=["y"], shape=["a", "y"])


def unknown_dtype(build: PackageBuilder) -> None:
    build.literal("axis", "int32", (), [0])
    build.literal("kind", "string", (), ["int23"])
    add(build, "reduce_argmax", x=["y"], axis=["axis"], output_dtype=["kind"])


def unknown_list_dtype(build: PackageBuilder) -> None:
    build.literal("kind", "string", (), ["fp31"])
    build.literal("sizes", "int32", (1,), [4])
    add(build, "make_list", elem_shape=["sizes"], dtype=["kind"])


CASES: dict[str, tuple[Callable[[PackageBuilder], None], tuple[str, ...]]] = {
    "text for a tensor": (text_for_a_tensor, ("a tensor was expected", 'input "x"', "z (relu)")),
    "number for a text": (number_for_a_text, ("a text was expected, found 1", 'input "dtype"')),
    "text for a number": (text_for_a_number, ("found the text 'valid'", 'input "alpha"')),
    "nothing for a number": (nothing_for_a_number, ("found none", 'input "alpha"')),
    "two values for one": (two_values_for_one, ('input "x"', "z (relu)", "takes one", "found 2")),
    "list for a tensor": (list_for_a_tensor, ('input "x"', "z (relu)", "takes a tensor")),
    "stride of nothing": (stride_of_nothing, ("strides are [0]", "z (max_pool)")),
    "array among numbers": (array_among_numbers, ('"shape"', "int32[2]", "z (reshape)")),
    "values among numbers": (values_among_numbers, ('"shape"', "takes one value", "z (reshape)")),
    "unknown dtype": (unknown_dtype, ('"int23"', 'did you mean "int32"', "z (reduce_argmax)")),
    "unknown dtype of a list": (unknown_list_dtype, ('"fp31"', '"fp32"', "z (make_list)")),
}


@pytest.mark.parametrize("name", CASES)
def test_argument_of_another_kind(name: str, tmp_path: Path) -> None:
    change, words = CASES[name]
    build = small()
    change(build)
    path = build.write(tmp_path / "net.mlpackage").path
    with pytest.raises(UnsupportedModel) as caught:
        metal4conv.load(path).predict({"x": np.zeros(4, np.float32)})
    for word in words:
        assert word in str(caught.value)


def test_tensor_of_texts_as_input(tmp_path: Path) -> None:
    build = small()
    build.function.inputs[0].type.tensorType.dataType = 2
    path = build.write(tmp_path / "net.mlpackage").path
    with pytest.raises(UnsupportedModel, match='input "x" is a tensor of texts'):
        metal4conv.load(path)


def test_constant_operation_of_unknown_size(tmp_path: Path) -> None:
    build = small()
    build.operation("constexpr_cast", "c", "float32", ("?",), {"source_val": ["one"]})
    path = build.write(tmp_path / "net.mlpackage").path
    with pytest.raises(DamagedFile, match=r"c \(constexpr_cast\).* not a number: float32\["):
        metal4conv.load(path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float8_e4m3fn", "float8_e5m2"])
def test_output_of_a_dtype_that_numpy_lacks(dtype: str, tmp_path: Path) -> None:
    build = small()
    retype(build, "y", dtype, (4,))
    executor = metal4conv.load(build.write(tmp_path / "net.mlpackage").path)
    found = executor.predict({"x": np.array([-2, 0.5, 1, 3], np.float32)})["y"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.array([1, 1.5, 2, 4], np.float32))
