"""Programs that do not hold together: the message says what, in which function and operation."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import metal4conv
from metal4conv.errors import DamagedFile, Metal4ConvError, UnsupportedModel
from metal4conv.inspection import inspect_package
from metal4conv.mil.package import read_package
from tests.layout.packages import PackageBuilder, set_type

HUGE = 2**40


def small() -> PackageBuilder:
    """`x` (4,) float32; a = relu(x), y = a + one."""
    build = PackageBuilder()
    build.input("x", "float32", (4,))
    build.literal("one", "float32", (), [1.0])
    build.operation("relu", "a", "float32", (4,), {"x": ["x"]})
    build.operation("add", "y", "float32", (4,), {"x": ["a"], "y": ["one"]})
    build.output("y", "float32")
    return build


def operation(build: PackageBuilder, output: str) -> object:
    """The operation that gives a value."""
    return next(item for item in build.block.operations if item.outputs[0].name == output)


def rename_argument(build: PackageBuilder, output: str, name: str) -> None:
    operation(build, output).inputs["x"].arguments[0].name = name


def nested(build: PackageBuilder, depth: int) -> None:
    """Conditions in conditions, each of whose branches gives `a`."""
    build.literal("yes", "bool", (), [])
    constant = operation(build, "yes").attributes["val"].immediateValue.tensor
    constant.bools.values.append(True)
    block = build.block
    for level in range(depth):
        message = block.operations.add(type="cond")
        message.inputs["pred"].arguments.add(name="yes")
        set_type(message.outputs.add(name=f"c{level}").type, "float32", (4,))
        inner = [message.blocks.add(), message.blocks.add()]
        for item in inner:
            item.outputs.append("a" if level == depth - 1 or item is inner[1] else f"c{level + 1}")
        block = inner[0]


def retype(build: PackageBuilder, output: str, dtype: str, shape: tuple[int | str, ...]) -> None:
    """Declares an operation's output as something else."""
    message = operation(build, output).outputs[0].type
    message.Clear()
    set_type(message, dtype, shape)


def later(build: PackageBuilder) -> None:
    rename_argument(build, "a", "y")


def literal_of(build: PackageBuilder) -> object:
    return operation(build, "one").attributes["val"]


def change_type(build: PackageBuilder, dtype: str, shape: tuple[int | str, ...]) -> None:
    """Declares the constant as something else, both times."""
    constant = operation(build, "one")
    for message in (constant.outputs[0].type, constant.attributes["val"].type):
        message.Clear()
        set_type(message, dtype, shape)


def hold_integers(build: PackageBuilder) -> None:
    literal_of(build).immediateValue.tensor.ints.values.append(1)


def hold_strings(build: PackageBuilder) -> None:
    literal_of(build).immediateValue.tensor.strings.values.append("one")


CASES: dict[str, tuple[Callable[[PackageBuilder], object], tuple[str, ...]]] = {
    "missing value": (
        lambda b: rename_argument(b, "a", "nobody"),
        ('input "x" of operation a (relu)', '"nobody"', "no operation gives", "function main"),
    ),
    "cycle": (later, ('reads the value "y"', "only y (add) after it")),
    "own output": (lambda b: rename_argument(b, "a", "a"), ("a (relu)", "its own output")),
    "name twice": (
        lambda b: b.operation("relu", "a", "float32", (4,), {"x": ["x"]}),
        ('two values have the name "a"', "function main"),
    ),
    "input named twice": (
        lambda b: set_type(b.function.inputs.add(name="x").type, "float32", (4,)),
        ('two values have the name "x"',),
    ),
    "missing output": (
        lambda b: b.block.outputs.append("z"),
        ('no operation gives the block\'s output "z"', "function main"),
    ),
    "bound to nothing": (
        lambda b: operation(b, "a").inputs["x"].ClearField("arguments"),
        ('input "x" of operation a (relu) is bound to nothing',),
    ),
    "missing value in a block": (
        lambda b: (nested(b, 2), later(b)),
        ("a (relu)", '"y"'),
    ),
    "size that is negative if cut to 64 bits": (
        lambda b: retype(b, "a", "float32", (2**64 - 4,)),
        ('value "a" is larger than memory can be',),
    ),
    "more bytes than there are": (
        lambda b: retype(b, "a", "float32", (2**62, 2**62)),
        ('value "a"', "larger than memory"),
    ),
    "rank": (
        lambda b: retype(b, "a", "float32", (1,) * 500),
        ('value "a" has 500', "dimensions"),
    ),
    "another rank": (
        lambda b: setattr(operation(b, "a").outputs[0].type.tensorType, "rank", 7),
        ('value "a" declares rank 7, but has 1 sizes',),
    ),
    "unknown dtype": (
        lambda b: setattr(operation(b, "a").outputs[0].type.tensorType, "dataType", 77),
        ('value "a" has element type 77',),
    ),
    "no type": (
        lambda b: operation(b, "a").outputs[0].ClearField("type"),
        ('value "a" has no type',),
    ),
    "constant without value": (
        lambda b: operation(b, "one").attributes["val"].ClearField("immediateValue"),
        ('constant "one" has no value',),
    ),
    "constant without anything": (
        lambda b: operation(b, "one").ClearField("attributes"),
        ("one (const) has no tensor as its value",),
    ),
    "constant of unknown size": (
        lambda b: change_type(b, "float32", ("?",)),
        ('constant "one" has a size that is not a number',),
    ),
    "huge constant": (
        lambda b: (change_type(b, "float32", (HUGE,)), literal_of(b).ClearField("immediateValue")),
        ('constant "one" has no value', str(HUGE)),
    ),
    "huge constant of few values": (
        lambda b: (
            change_type(b, "float32", (HUGE,)),
            literal_of(b).immediateValue.tensor.floats.values.append(2.0),
        ),
        ('constant "one"', f"needs {HUGE} values, found 2"),
    ),
    "another type than its value": (
        lambda b: retype(b, "one", "float32", (3,)),
        ("one (const) declares float32[3], its value is float32[]",),
    ),
    "integers in a float": (hold_integers, ('"one" is declared float32[]', "holds ints")),
    "text in a float": (hold_strings, ('"one" is declared float32[]', "holds strings")),
    "opset": (
        lambda b: (
            setattr(b.function, "opset", "Core"),
            b.function.block_specializations["Core"].CopyFrom(b.block),
        ),
        ('function "main" is written for "Core"',),
    ),
    "undeclared input": (
        lambda b: set_type(b.function.inputs.add(name="z").type, "float32", (4,)),
        ('function "main" has an input "z" that the package does not declare',),
    ),
    "declared input too many": (
        lambda b: setattr(
            b.spec.description.input.add(name="z").type.multiArrayType, "dataType", 65568
        ),
        ('the package declares input "z"',),
    ),
    "declared output too many": (
        lambda b: setattr(
            b.spec.description.output.add(name="z").type.multiArrayType, "dataType", 65568
        ),
        ('the package declares output "z"',),
    ),
    "another shape than declared": (
        lambda b: b.spec.description.input[0].type.multiArrayType.shape.append(3),
        ('input "x" is declared as float32[4, 3], but function "main" takes float32[4]',),
    ),
}
"""What is done to a sound program, and what the message says."""


@pytest.mark.parametrize("name", CASES)
def test_unsound_program(name: str, tmp_path: Path) -> None:
    change, words = CASES[name]
    build = small()
    change(build)
    path = tmp_path / "net.mlpackage"
    build.write(path)
    for use in (inspect_package, metal4conv.layout, metal4conv.load):
        with pytest.raises((DamagedFile, UnsupportedModel)) as caught:
            use(str(path))
        for word in words:
            assert word in str(caught.value)
        assert len(str(caught.value)) < 1000


def test_sound_program(tmp_path: Path) -> None:
    build = small()
    nested(build, 20)
    build.block.outputs[0] = "c0"
    build.spec.description.output[0].name = "c0"
    found = metal4conv.load(build.write(tmp_path / "net.mlpackage").path).predict(
        {"x": np.array([-1, 0, 1, 2], np.float32)}
    )
    np.testing.assert_array_equal(found["c0"], np.array([0, 0, 1, 2], np.float32))


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    low = number & 127
    return bytes([low]) if number < 128 else bytes([low | 128]) + varint(number >> 7)


def test_blocks_nested_ten_thousand_deep(tmp_path: Path) -> None:
    package = small().write(tmp_path / "net.mlpackage")
    content = b""
    for _ in range(10_000):  # Operation.blocks is field 4, Block.operations field 3
        for tag in (0x1A, 0x22):
            content = bytes([tag]) + varint(len(content)) + content
    for tag in (0x1A, 0x12, 0x12, 0x12, 0x12):
        content = bytes([tag]) + varint(len(content)) + content
    file = package.model_folder / "model.mlmodel"
    program = b"\xb2\x1f" + varint(len(content)) + content  # Model.mlProgram is field 502
    file.write_bytes(file.read_bytes() + program)
    with pytest.raises(DamagedFile, match=r"model\.mlmodel is damaged.*nested deeper"):
        read_package(package.path)


def weighted(folder: Path) -> Path:
    """`x` (4,) float16 plus a weight that lies in the package's file."""
    record = np.array([0xDEADBEEF, 1], "<u4").tobytes() + np.array([8, 128, 0], "<u8").tobytes()
    data = np.arange(4, dtype="<f2").tobytes()
    content = np.array([1, 2], "<u4").tobytes().ljust(64, b"\0") + record.ljust(64, b"\0")
    build = PackageBuilder()
    build.input("x", "float16", (4,))
    build.weight("weight", "float16", (4,), offset=64)
    build.operation("add", "y", "float16", (4,), {"x": ["x"], "y": ["weight"]})
    build.output("y", "float16")
    return build.write(folder / "net.mlpackage", content + data.ljust(64, b"\0")).path


def replace_file_name(path: Path, name: str) -> None:
    package = read_package(path)
    value = package.spec.mlProgram.functions["main"].block_specializations["CoreML8"].operations[0]
    value.attributes["val"].blobFileValue.fileName = name
    (package.model_folder / "model.mlmodel").write_bytes(package.spec.SerializeToString())


@pytest.mark.parametrize(
    "name",
    [
        "@model_path/weights/../../../../../../../../etc/passwd",
        "/etc/passwd",
        "@model_path//etc/passwd",
        "@model_path/weights",
        "@model_path/weights/\0",
        "@model_path/" + "w" * 5000,
        "",
    ],
)
def test_weights_elsewhere(name: str, tmp_path: Path) -> None:
    path = weighted(tmp_path)
    np.testing.assert_array_equal(
        metal4conv.load(path).predict({"x": np.zeros(4, np.float16)})["y"], [0, 1, 2, 3]
    )
    replace_file_name(path, name)
    with pytest.raises(DamagedFile):
        metal4conv.load(path)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_link_to(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return make


REPLACEMENTS = {
    "a pipe": make_pipe,
    "a folder": make_folder,
    "a device": make_link_to("/dev/zero"),
    "a file elsewhere": make_link_to("/etc/passwd"),
    "a link to itself": lambda path: make_link_to(path.name)(path),
}


@pytest.mark.parametrize("replacement", REPLACEMENTS)
@pytest.mark.parametrize(
    "file",
    [
        "Manifest.json",
        "Data/com.apple.CoreML/model.mlmodel",
        "Data/com.apple.CoreML/weights/weight.bin",
    ],
)
def test_file_that_is_something_else(file: str, replacement: str, tmp_path: Path) -> None:
    path = weighted(tmp_path)
    REPLACEMENTS[replacement](path / file)
    uses: list[Callable[[str], object]] = [metal4conv.load, inspect_package]
    for use in uses:
        with pytest.raises(Metal4ConvError, match=Path(file).name):
            use(str(path))


@pytest.mark.parametrize("file", ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel"])
def test_file_of_a_terabyte(file: str, tmp_path: Path) -> None:
    path = weighted(tmp_path)
    with (path / file).open("r+b") as stream:
        stream.truncate(HUGE)  # takes no space on disk
    with pytest.raises(DamagedFile, match=r"1,099,511,627,776 bytes, at most"):
        read_package(path)
