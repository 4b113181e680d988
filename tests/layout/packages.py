"""Small packages, written message by message, without coremltools' builder and its imports."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metal4conv.mil.dtypes import DTYPES
from metal4conv.mil.interface import ARRAY_DTYPES
from metal4conv.mil.package import Package, read_package
from metal4conv.mil.schema import new_model
from metal4conv.mil.writer import write_package

ARRAY_TYPES = {name: value for value, name in ARRAY_DTYPES.items()}
Range = tuple[int, int]


class PackageBuilder:
    """One function `main`; `h` and `w` in shapes of values stand for unknown sizes."""

    def __init__(self) -> None:
        self.spec = new_model()
        self.spec.specificationVersion = 9
        self.function = self.spec.mlProgram.functions["main"]
        self.spec.mlProgram.version = 1
        self.function.opset = "CoreML8"
        self.block = self.function.block_specializations["CoreML8"]
        self.weights = b""

    def input(self, name: str, dtype: str, shape: Sequence[int | Range], *, default=None) -> str:
        """An input; a pair of sizes is a range whose default is `default` at that place."""
        item = self.spec.description.input.add(name=name)
        array = item.type.multiArrayType
        array.dataType = ARRAY_TYPES[dtype]
        lowest = [size if isinstance(size, int) else size[0] for size in shape]
        array.shape.extend(default or lowest)
        if any(isinstance(size, tuple) for size in shape):
            for size in shape:
                low, high = (size, size) if isinstance(size, int) else size
                array.shapeRange.sizeRanges.add(lowerBound=low, upperBound=high)
        value = self.function.inputs.add(name=name)
        set_type(value.type, dtype, [size if isinstance(size, int) else "?" for size in shape])
        return name

    def output(self, name: str, dtype: str) -> None:
        """An output, which a value of the same name gives."""
        item = self.spec.description.output.add(name=name)
        item.type.multiArrayType.dataType = ARRAY_TYPES.get(dtype, 0)
        self.block.outputs.append(name)

    def operation(
        self,
        type: str,
        output: str,
        dtype: str,
        shape: Sequence[int | str],
        inputs: Mapping[str, Sequence[str]],
    ) -> str:
        """An operation with one output."""
        message = self.block.operations.add(type=type)
        for key, names in inputs.items():
            for name in names:
                message.inputs[key].arguments.add(name=name)
        value = message.outputs.add(name=output)
        set_type(value.type, dtype, shape)
        return output

    def weight(self, name: str, dtype: str, shape: Sequence[int], *, offset: int = 0) -> str:
        """A constant in the weight file; its data is not there."""
        message = self.constant(name, dtype, shape)
        message.blobFileValue.fileName = "@model_path/weights/weight.bin"
        message.blobFileValue.offset = offset
        return name

    def literal(self, name: str, dtype: str, shape: Sequence[int], values: Sequence[float]) -> str:
        """A constant in the program."""
        message = self.constant(name, dtype, shape)
        if dtype == "string":
            message.immediateValue.tensor.strings.values.extend(values)
        elif dtype == "int32":
            message.immediateValue.tensor.ints.values.extend(values)
        else:
            message.immediateValue.tensor.floats.values.extend(values)
        return name

    def constant(self, name: str, dtype: str, shape: Sequence[int]) -> Any:
        """The value of a `const` operation."""
        message = self.block.operations.add(type="const")
        set_type(message.outputs.add(name=name).type, dtype, shape)
        set_type(message.attributes["val"].type, dtype, shape)
        return message.attributes["val"]

    def metadata(self, key: str, text: str) -> None:
        """A user-defined entry of the metadata."""
        self.spec.description.metadata.userDefined[key] = text

    def write(self, folder: Path, weights: bytes = struct.pack("<II56x", 0, 2)) -> Package:
        """The package, written to `folder` and read again."""
        source = folder.with_name(f"{folder.name}.weights")
        source.mkdir()
        (source / "weight.bin").write_bytes(weights)
        write_package(folder, self.spec, source)
        return read_package(folder)


def set_type(message: Any, dtype: str, shape: Sequence[int | str]) -> None:
    """Fills a `ValueType` message."""
    message.tensorType.dataType = DTYPES[dtype].mil
    message.tensorType.rank = len(shape)
    for size in shape:
        dimension = message.tensorType.dimensions.add()
        if isinstance(size, int):
            dimension.constant.size = size
        else:
            dimension.unknown.variadic = False


def upscaler() -> PackageBuilder:
    """`x` (1, 3, h, w) float16, a convolution to 12 channels, `y` (1, 3, 2h, 2w)."""
    build = PackageBuilder()
    build.input("x", "float16", (1, 3, (64, 2160), (64, 3840)), default=(1, 3, 720, 1280))
    build.weight("weight", "float16", (12, 3, 3, 3))
    build.operation("conv", "c", "float16", (1, 12, "h", "w"), {"x": ["x"], "weight": ["weight"]})
    build.operation("relu", "r", "float16", (1, 12, "h", "w"), {"x": ["c"]})
    build.operation("pixel_shuffle", "y", "float16", (1, 3, "h", "w"), {"x": ["r"]})
    build.output("y", "float16")
    return build


def upscaler_types(function, inputs, dimensions):
    """What shape inference gives for `upscaler`, worked out by hand."""
    x = inputs["x"]
    *_, h, w = x.shape
    middle = type(x)(x.dtype, (1, 12, h, w))
    return {"x": x, "c": middle, "r": middle, "y": type(x)(x.dtype, (1, 3, f"2*{h}", f"{w}*2"))}


def classifier() -> PackageBuilder:
    """`x` (4, 10) float32, a linear layer, `y` (4, 7)."""
    build = PackageBuilder()
    build.input("x", "float32", (4, 10))
    build.weight("weight", "float32", (7, 10))
    build.literal("bias", "float32", (7,), [0.0] * 7)
    build.operation(
        "linear", "z", "float32", (4, 7), {"x": ["x"], "weight": ["weight"], "bias": ["bias"]}
    )
    build.operation("softmax", "y", "float32", (4, 7), {"x": ["z"]})
    build.output("y", "float32")
    return build
