"""A float32 program as the converter would make it float16, but for chosen operations.

It gives what the converted package gives, without converting: the search runs it.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Collection, MutableMapping
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np

from metal4conv.mil.program import (
    Argument,
    Block,
    Constant,
    ConstantList,
    Function,
    Operation,
    TensorType,
    Value,
)
from metal4conv.precision.eligible import (
    Named,
    becomes_float16,
    can_be_float16,
    constants_of,
    float16_values,
    is_float,
)

Names = MutableMapping[str, str]


@dataclass
class Narrowing:
    """Float16 constants by the float32 ones, which all mixed programs of a network share."""

    narrow: dict[Constant, Constant] = field(default_factory=dict)

    def of(self, constant: Constant) -> Constant:
        """The same constant in float16."""
        if constant not in self.narrow:
            type = TensorType("float16", constant.type.shape)
            self.narrow[constant] = Constant(type, partial(load_narrow, constant))
        return self.narrow[constant]


def load_narrow(constant: Constant) -> np.ndarray:
    """The values of a float32 constant in float16."""
    return float16_values(constant.load())


def mixed(function: Function, kept: Collection[str], narrowing: Narrowing) -> Function:
    """The float32 function in float16 but for the operations whose names are `kept`.

    Program before and after, when `b` is kept:

        main(x: fp32) {  a: fp32 = relu(x);   b: fp32 = exp(a);   y: fp32 = tanh(b)  }
        main(x: fp32) {
            x_fp16 = cast(x, "fp16");  a_fp16: fp16 = relu(x_fp16);
            a = cast(a_fp16, "fp32");  b: fp32 = exp(a);
            b_fp16 = cast(b, "fp16");  y_fp16: fp16 = tanh(b_fp16);  y = cast(y_fp16, "fp32")  }
    """
    mixer = Mixer(
        constants_of(function), frozenset(kept), narrowing, function.opset_version, ChainMap()
    )
    mixer.declare(function.inputs)
    return replace(function, block=mixer.block(function.block))


@dataclass
class Mixer:
    """What is known within a block: which form of a value there is under which name."""

    constants: Named
    kept: frozenset[str]
    narrowing: Narrowing
    opset: int
    types: ChainMap[str, TensorType]
    wide: ChainMap[str, str] = field(default_factory=ChainMap)
    narrow: ChainMap[str, str] = field(default_factory=ChainMap)
    done: list[Operation] = field(default_factory=list)

    def inner(self) -> Mixer:
        """The same for a block within this one."""
        return replace(
            self,
            types=self.types.new_child(),
            wide=self.wide.new_child(),
            narrow=self.narrow.new_child(),
            done=[],
        )

    def declare(self, values: Collection[Value]) -> None:
        """Notes float32 values that come from elsewhere."""
        for value in values:
            if isinstance(value.type, TensorType) and is_float(value.type, "float32"):
                self.types[value.name] = value.type
                self.wide[value.name] = value.name

    def block(self, block: Block) -> Block:
        """A block; its outputs keep their names and dtypes."""
        self.declare(block.inputs)
        for operation in block.operations:
            if self.is_narrowed(operation):
                self.narrowed(operation)
            else:
                self.left(operation)
        for name in block.outputs:
            self.wide_form(name)
        return replace(block, operations=tuple(self.done))

    def is_narrowed(self, operation: Operation) -> bool:
        """Whether the operation takes or gives float32 and is made float16."""
        if operation.name in self.kept or operation.blocks:
            return False
        if not can_be_float16(operation, self.constants):
            return False
        return any(
            self.is_wide(argument)
            for parameter, group in operation.inputs.items()
            if becomes_float16(parameter, operation, self.opset)
            for argument in group
        )

    def is_wide(self, argument: Argument) -> bool:
        """Whether an argument was float32 in the program."""
        if isinstance(argument, str):
            constant = self.constants.get(argument)
            return argument in self.types or (
                constant is not None and constant.type.dtype == "float32"
            )
        return isinstance(argument, Constant) and argument.type.dtype == "float32"

    def left(self, operation: Operation) -> None:
        """An operation as it is, on float32 values; a cast takes either form."""
        blocks = tuple(self.inner().block(block) for block in operation.blocks)
        form = self.any_form if operation.type == "cast" else self.wide_form
        inputs = {
            parameter: tuple(form(item) if isinstance(item, str) else item for item in group)
            for parameter, group in operation.inputs.items()
        }
        self.done.append(replace(operation, inputs=inputs, blocks=blocks))
        self.declare(operation.outputs)

    def narrowed(self, operation: Operation) -> None:
        """An operation on float16 values, its float32 results now float16."""
        inputs = {
            parameter: tuple(self.narrow_form(item) for item in group)
            if becomes_float16(parameter, operation, self.opset)
            else tuple(self.wide_form(item) if isinstance(item, str) else item for item in group)
            for parameter, group in operation.inputs.items()
        }
        outputs = []
        for value in operation.outputs:
            if isinstance(value.type, TensorType) and is_float(value.type, "float32"):
                self.types[value.name] = value.type
                name = self.narrow[value.name] = narrow_name(value.name)
                outputs.append(Value(name, TensorType("float16", value.type.shape)))
            else:
                outputs.append(value)
        self.done.append(replace(operation, inputs=inputs, outputs=tuple(outputs)))

    def any_form(self, name: str) -> str:
        """A value in the form that there is."""
        return self.wide[name] if name in self.wide else self.narrow.get(name, name)

    def wide_form(self, name: str) -> str:
        """A value in float32; one that is only there in float16 is cast here."""
        if name not in self.types or name in self.wide:
            return self.wide.get(name, name)
        self.done.append(cast_operation(self.narrow[name], name, self.types[name], "float32"))
        self.wide[name] = name
        return name

    def narrow_form(self, argument: Argument) -> Argument:
        """An argument in float16."""
        if isinstance(argument, ConstantList) or not self.is_wide(argument):
            return argument
        if isinstance(argument, Constant):
            return self.narrowing.of(argument)
        assert isinstance(argument, str)
        if argument in self.narrow:
            return self.narrow[argument]
        name = narrow_name(argument)
        constant = self.constants.get(argument)
        if constant is not None:
            self.done.append(constant_operation(name, self.narrowing.of(constant)))
        else:
            self.done.append(cast_operation(argument, name, self.types[argument], "float16"))
        self.narrow[argument] = name
        return name


def narrow_name(name: str) -> str:
    """What a value's float16 form is called; the colon cannot stand in a name of the program."""
    return f"{name}:fp16"


SPELLING = {"float16": "fp16", "float32": "fp32"}


def text_constant(text: str) -> Constant:
    """A text as a literal."""
    return Constant(TensorType("string", ()), lambda: np.array(text, dtype=object))


CASTS = {dtype: text_constant(spelling) for dtype, spelling in SPELLING.items()}


def cast_operation(source: str, name: str, type: TensorType, dtype: str) -> Operation:
    """A cast of a value to `dtype`, under a new name."""
    result = Value(name, TensorType(dtype, type.shape))
    return Operation("cast", name, {"x": (source,), "dtype": (CASTS[dtype],)}, (result,))


def constant_operation(name: str, constant: Constant) -> Operation:
    """A `const` operation."""
    value = Value(name, constant.type)
    return Operation("const", name, {}, (value,), (), {"val": constant})
