"""Reading `.mlpackage` folders: the manifest, the description, and the program with its weights."""

from __future__ import annotations

import gc
import json
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from metal4conv.errors import DamagedFile, UnsupportedModel, UsageError, did_you_mean
from metal4conv.mil.dtypes import DTYPE_OF_MIL
from metal4conv.mil.interface import Interface, read_interface
from metal4conv.mil.program import (
    Argument,
    Block,
    Constant,
    ConstantDictionary,
    ConstantList,
    DictionaryType,
    Function,
    ListType,
    Operation,
    Program,
    StateType,
    TensorType,
    TupleType,
    Value,
    ValueType,
)
from metal4conv.mil.schema import new_model
from metal4conv.mil.soundness import (
    check_function,
    check_interface,
    check_literal,
    check_tensor_type,
)

if TYPE_CHECKING:
    import numpy as np

    from metal4conv.mil.weights import WeightFile

LARGEST_MANIFEST = 1 << 24
"""A manifest names a handful of files."""

LARGEST_MESSAGE = (1 << 31) - 1
"""What protobuf reads; the program's weights stand in files of their own."""

PIPELINES = ("pipeline", "pipelineClassifier", "pipelineRegressor")
"""Fields of `Model.proto` that hold models in a row."""


@dataclass(frozen=True)
class Package:
    """A package on disk. `spec` is its `Model` message (Any: protobuf classes carry no types)."""

    path: Path
    spec: Any
    model_folder: Path

    @cached_property
    def program(self) -> Program:
        """All functions, with constants that load when they are used."""
        if self.is_pipeline:
            raise UnsupportedModel(
                f"{self.path} holds a pipeline of several models, not one ML Program",
                hint="metal4conv.load(...).predict(...) runs it; what looks at a program needs a "
                "package of its own for each model",
            )
        if self.spec.WhichOneof("Type") != "mlProgram":
            raise UnsupportedModel(
                f"{self.path} holds a {self.spec.WhichOneof('Type') or 'model without a type'}, "
                "not an ML Program",
                hint="convert the source model again to an ML Program",
            )
        with collector_paused():
            program = ProgramReader(self.model_folder).program(self.spec.mlProgram)
            for function in program.functions.values():
                check_function(function)
        return program

    @property
    def is_pipeline(self) -> bool:
        """Whether it holds models in a row, which `mil.pipeline` reads, instead of a program."""
        return self.spec.WhichOneof("Type") in PIPELINES

    @property
    def specification_version(self) -> int:
        """Core ML's version of the format: 9 is iOS 18 and macOS 15."""
        return int(self.spec.specificationVersion)

    @cached_property
    def metadata(self) -> dict[str, str]:
        """The user-defined metadata."""
        return dict(self.spec.description.metadata.userDefined)

    @property
    def default_function(self) -> str:
        """The function that runs when none is named."""
        return self.spec.description.defaultFunctionName or "main"

    def function(self, name: str | None = None) -> Function:
        """A function of the program by name, the default one without."""
        name = name or self.default_function
        functions = self.program.functions
        if name not in functions:
            raise UsageError(
                f'{self.path} has no function "{name}"', hint=did_you_mean(name, functions)
            )
        return functions[name]

    def interface(self, function: str | None = None) -> Interface:
        """The declared features of a function, dynamic sizes by name."""
        description = self.spec.description
        found = self.function(function)
        for candidate in description.functions:
            if candidate.name == found.name:
                interface = read_interface(candidate, found, {})
                break
        else:
            interface = read_interface(description, found, self.metadata)
        check_interface(interface, found)
        return interface

    def weight_files(self) -> tuple[Path, ...]:
        """The files with weights, `DamagedFile` for one that is no file of this package."""
        files = tuple(sorted((self.model_folder / "weights").glob("*.bin")))
        for file in files:
            check_file(file, self.path)
        return files


@contextmanager
def collector_paused() -> Iterator[None]:
    """Reading makes many objects that all stay; collecting over them is a third of the time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def read_package(path: str | Path) -> Package:
    """The package at `path`; `UsageError` when there is none, `DamagedFile` when it is not one."""
    path = Path(path)
    if not path.exists():
        raise UsageError(f"no such file or folder: {path}")
    if not path.is_dir():
        raise DamagedFile(
            f"{path} is not a package: expected a folder with a Manifest.json",
            hint="an .mlpackage is a folder; a single .mlmodel file is not supported",
        )
    model_file = find_model_file(path)
    spec = new_model()
    try:
        spec.ParseFromString(model_file.read_bytes())
    except DecodeError as error:
        raise DamagedFile(
            f"{model_file} is damaged, truncated, or nested deeper than protobuf reads: {error}",
            hint="convert the model again",
        ) from None
    except OSError as error:
        raise DamagedFile(f"{model_file} cannot be read: {error.strerror}") from None
    if not spec.specificationVersion:
        raise DamagedFile(f"{model_file} is empty or not a Core ML model")
    return Package(path, spec, model_file.parent)


def find_model_file(path: Path) -> Path:
    """The model file that the package's `Manifest.json` names as its root."""
    manifest_file = path / "Manifest.json"
    if not manifest_file.exists() and not manifest_file.is_symlink():
        raise DamagedFile(
            f"{path} is not a package: it has no Manifest.json",
            hint="name the .mlpackage folder itself",
        )
    check_file(manifest_file, path, largest=LARGEST_MANIFEST)
    try:
        manifest = json.loads(manifest_file.read_text("utf-8"))
        root = str(manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"])
        model_file = path / "Data" / root
        is_inside = model_file.resolve().is_relative_to(path.resolve())
        is_file = model_file.is_file()
    except KeyError as error:
        raise DamagedFile(f"{manifest_file} is damaged: it has no entry {error}") from None
    except (OSError, ValueError, TypeError, RuntimeError) as error:  # RuntimeError: symlink loops
        reason = error.strerror if isinstance(error, OSError) else error
        raise DamagedFile(f"{manifest_file} is damaged: {reason}") from None
    if not is_inside:
        raise DamagedFile(f"{manifest_file} names a file outside the package: {root}")
    if not is_file:
        raise DamagedFile(f"the package has no file Data/{root}, which its manifest names")
    check_file(model_file, path, largest=LARGEST_MESSAGE)
    return model_file


def check_file(file: Path, package: Path, largest: int | None = None) -> None:
    """`DamagedFile` for what is no plain file within the package, or too large to be what it is.

    Opening a pipe would wait for ever, and a device has no end.
    """
    try:
        is_inside = file.resolve().is_relative_to(package.resolve())
        found = file.stat()
    except (OSError, ValueError, RuntimeError) as error:  # a null byte, a loop of symlinks
        reason = error.strerror if isinstance(error, OSError) else error
        raise DamagedFile(f"{file} cannot be read: {reason}", where=str(file)) from None
    if not is_inside:
        raise DamagedFile(
            f"{file} is a link to a file outside the package: {file.resolve()}", where=str(file)
        )
    if not stat.S_ISREG(found.st_mode):
        raise DamagedFile(f"{file} is not a plain file", where=str(file))
    if largest is not None and found.st_size > largest:
        raise DamagedFile(
            f"{file} has {found.st_size:,} bytes, at most {largest:,} are possible",
            where=str(file),
        )


class ProgramReader:
    """Turns protobuf messages into `mil.program` data. (Any: protobuf classes carry no types.)

    `inspect` and `layout` walk thousands of operations through it within 0.1 s: types are few and
    read once each, and numpy loads with the first constant that is asked for its value.
    """

    def __init__(self, model_folder: Path) -> None:
        self.model_folder = model_folder
        self.weight_files: dict[str, WeightFile] = {}
        self.types: dict[bytes, ValueType] = {}

    def program(self, message: Any) -> Program:
        functions = {
            name: self.function(name, message.functions[name]) for name in message.functions
        }
        return Program(functions, message.version)

    def function(self, name: str, message: Any) -> Function:
        if message.opset not in message.block_specializations:
            raise DamagedFile(
                f'function "{name}" has no block for its opset "{message.opset}"',
                where=f"function {name}",
            )
        block = self.block(message.block_specializations[message.opset])
        return Function(name, message.opset, self.values(message.inputs), block)

    def block(self, message: Any) -> Block:
        operations = tuple(map(self.operation, message.operations))
        return Block(self.values(message.inputs), operations, tuple(message.outputs))

    def values(self, messages: Iterable[Any]) -> tuple[Value, ...]:
        return tuple([Value(item.name, self.type(item.type, item.name)) for item in messages])

    def type(self, message: Any, name: str) -> ValueType:
        """The type of the value `name`; equal types are one object."""
        key = message.SerializeToString()
        if key not in self.types:
            self.types[key] = value_type(message, name)
        return self.types[key]

    def tensor_type(self, message: Any, name: str) -> TensorType:
        type = self.type(message, name)
        return type if isinstance(type, TensorType) else tensor_type(message, name)

    def operation(self, message: Any) -> Operation:
        """An operation; of `const`, by far the most, only the attributes are looked at."""
        outputs = self.values(message.outputs)
        named = outputs[0].name if outputs else message.type
        name, attributes = named, {}
        found = message.attributes
        for key in found:
            if key == "name":
                name = "".join(found[key].immediateValue.tensor.strings.values) or named
            elif isinstance(constant := self.literal(found[key], named), Constant):
                attributes[key] = constant
        if message.type == "const":
            return Operation(message.type, name, {}, outputs, (), attributes)
        inputs = message.inputs
        return Operation(
            type=message.type,
            name=name,
            inputs={
                key: tuple([self.argument(item, named) for item in inputs[key].arguments])
                for key in inputs
            },
            outputs=outputs,
            blocks=tuple([self.block(block) for block in message.blocks]),
            attributes=attributes,
        )

    def argument(self, binding: Any, operation: str) -> Argument:
        if binding.WhichOneof("binding") == "name":
            return str(binding.name)
        return self.literal(binding.value, operation)

    def literal(self, message: Any, name: str) -> Constant | ConstantList | ConstantDictionary:
        """A `Value` message; `name` is the operation or constant that it belongs to."""
        if message.WhichOneof("value") == "blobFileValue":
            return self.blob_constant(message, name)
        immediate = message.immediateValue
        match immediate.WhichOneof("value"):
            case "list":
                return ConstantList(
                    tuple(self.scalar(item, name) for item in immediate.list.values)
                )
            case "tuple":
                return ConstantList(
                    tuple(self.scalar(item, name) for item in immediate.tuple.values)
                )
            case "dictionary":
                pairs = immediate.dictionary.values
                return ConstantDictionary(
                    tuple(self.scalar(pair.key, name) for pair in pairs),
                    tuple(self.scalar(pair.value, name) for pair in pairs),
                )
        return self.scalar(message, name)

    def scalar(self, message: Any, name: str) -> Constant:
        """A literal that is one tensor."""
        if message.WhichOneof("value") == "blobFileValue":
            return self.blob_constant(message, name)
        type = self.tensor_type(message.type, name)
        tensor = message.immediateValue.tensor
        check_literal(tensor, type, name)
        return Constant(type, partial(read_immediate, tensor, type, name))

    def blob_constant(self, message: Any, name: str) -> Constant:
        type = self.tensor_type(message.type, name)
        if type.is_dynamic:
            raise DamagedFile(
                f'constant "{name}" has a size that is not a number: {type}',
                where=f"constant {name}",
            )
        file, offset = message.blobFileValue.fileName, int(message.blobFileValue.offset)
        return Constant(type, partial(self.read_blob, file, offset, type, name), file, offset)

    def read_blob(self, file: str, offset: int, type: TensorType, name: str) -> np.ndarray:
        from metal4conv.mil.weights import WeightFile

        if file not in self.weight_files:
            relative = file.removeprefix("@model_path/")
            path = self.model_folder / relative
            try:
                is_inside = path.resolve().is_relative_to(self.model_folder.resolve())
            except (OSError, ValueError, RuntimeError) as error:  # a null byte, a loop of symlinks
                raise DamagedFile(
                    f'constant "{name}" reads a file that cannot be: {file!r}: {error}',
                    where=f"constant {name}",
                ) from None
            if not is_inside:
                raise DamagedFile(
                    f'constant "{name}" reads a file outside the package: {file}',
                    where=f"constant {name}",
                )
            self.weight_files[file] = WeightFile(path, relative)
        return self.weight_files[file].read(offset, type, name)


def read_immediate(tensor: Any, type: TensorType, name: str) -> np.ndarray:
    """The array of a literal. (Any: a protobuf message.)"""
    from metal4conv.mil.weights import immediate_array

    return immediate_array(tensor, type, name)


def value_type(message: Any, name: str) -> ValueType:
    """A `ValueType` message of the value `name`. (Any: a protobuf message.)"""
    match message.WhichOneof("type"):
        case "tensorType":
            return tensor_type(message, name)
        case "listType":
            length = message.listType.length
            known = (
                int(length.constant.size) if length.WhichOneof("dimension") == "constant" else None
            )
            return ListType(tensor_type(message.listType.type, name), known)
        case "tupleType":
            return TupleType(tuple(value_type(item, name) for item in message.tupleType.types))
        case "dictionaryType":
            entry = message.dictionaryType
            return DictionaryType(
                tensor_type(entry.keyType, name), tensor_type(entry.valueType, name)
            )
        case "stateType":
            return StateType(tensor_type(message.stateType.wrappedType, name))
    raise DamagedFile(f'value "{name}" has no type', where=name)


def tensor_type(message: Any, name: str) -> TensorType:
    """A tensor's type; unknown sizes become `?0`, `?1`, … by their position."""
    tensor = message.tensorType
    dtype = DTYPE_OF_MIL.get(tensor.dataType)
    if message.WhichOneof("type") != "tensorType" or dtype is None:
        raise DamagedFile(
            f'value "{name}" has element type {tensor.dataType}, which is not known', where=name
        )
    sizes: list[int | str] = []
    for position, size in enumerate(tensor.dimensions):
        constant = size.WhichOneof("dimension") == "constant"
        sizes.append(int(size.constant.size) if constant else f"?{position}")
    type = TensorType(dtype, tuple(sizes))
    check_tensor_type(type, int(tensor.rank), name)
    return type
