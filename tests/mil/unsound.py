"""Sound little packages, and what makes them unsound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from metal4conv.mil.package import read_package
from tests.layout.packages import PackageBuilder, set_type

MODEL = "Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = "Data/com.apple.CoreML/weights/weight.bin"
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


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    low = number & 127
    return bytes([low]) if number < 128 else bytes([low | 128]) + varint(number >> 7)


def nest_blocks(path: Path, depth: int) -> None:
    """Appends blocks in blocks to a package's program, deeper than a message can be built."""
    content = b""
    for _ in range(depth):  # Operation.blocks is field 4, Block.operations field 3
        for tag in (0x1A, 0x22):
            content = bytes([tag]) + varint(len(content)) + content
    for tag in (0x1A, 0x12, 0x12, 0x12, 0x12):
        content = bytes([tag]) + varint(len(content)) + content
    file = path / MODEL
    program = b"\xb2\x1f" + varint(len(content)) + content  # Model.mlProgram is field 502
    file.write_bytes(file.read_bytes() + program)


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


def make_link_to(target: str) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return make
