"""A MIL program as plain data: functions of blocks of operations over named values.

MIL (model intermediate language) is what an ML Program package holds. The words here are those of
coremltools' `MIL.proto`. Nothing here knows the file format; `package.py` reads it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from metal4conv.mil.dtypes import DTYPES

if TYPE_CHECKING:
    import numpy as np

Shape = tuple[int | str, ...]
"""Sizes, outermost first; a string is a symbolic dimension or a formula of some."""


@dataclass(frozen=True)
class Dimension:
    """The sizes that a named dynamic dimension may take.

    `maximum` None is unbounded; `values` is non-empty for an enumerated dimension, `step` counts
    from 0, so `minimum` and `maximum` are multiples of it.
    """

    minimum: int
    maximum: int | None
    default: int
    step: int = 1
    values: tuple[int, ...] = ()

    def allows(self, size: int) -> bool:
        """Whether the dimension may have this size.

        >>> Dimension(8, 64, 8, step=8).allows(20)
        False
        """
        if self.values:
            return size in self.values
        above = self.maximum is not None and size > self.maximum
        return size >= self.minimum and not above and size % self.step == 0

    def __str__(self) -> str:
        """As `--dim` takes it.

        >>> str(Dimension(64, 2160, 720, step=8)), str(Dimension(1, 3, 1, values=(1, 3)))
        ('64..2160/8@720', '1|3@1')
        """
        if self.values:
            return f"{'|'.join(map(str, self.values))}@{self.default}"
        step = f"/{self.step}" if self.step != 1 else ""
        upper = "" if self.maximum is None else self.maximum
        return f"{self.minimum}..{upper}{step}@{self.default}"


@dataclass(frozen=True)
class TensorType:
    """Element type by numpy-style name (`float16`, `int4`, `bool`, `string`) and shape."""

    dtype: str
    shape: Shape

    def __str__(self) -> str:
        """
        >>> str(TensorType("float16", (1, 3, "h", "w")))
        'float16[1, 3, h, w]'
        """
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"

    @property
    def is_dynamic(self) -> bool:
        """Whether a size is not a plain number."""
        return any(isinstance(size, str) for size in self.shape)

    @property
    def element_bits(self) -> int:
        """Bits of one element: 4 for int4, 0 for string."""
        return DTYPES[self.dtype].bits


@dataclass(frozen=True)
class ListType:
    """A MIL list (`make_list`): elements of one type; `length` None when it grows."""

    element: TensorType
    length: int | None = None


@dataclass(frozen=True)
class StateType:
    """A buffer that survives between predictions (`read_state`, `coreml_update_state`)."""

    tensor: TensorType


@dataclass(frozen=True)
class DictionaryType:
    """A dictionary, such as a classifier's probabilities by label."""

    key: TensorType
    value: TensorType


@dataclass(frozen=True)
class TupleType:
    """Several values bound as one argument."""

    members: tuple[ValueType, ...]


ValueType = TensorType | ListType | StateType | DictionaryType | TupleType


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that is part of the program: immediate, or at an offset of a weight file.

    `load` maps or decodes it; the array is read-only. Sub-byte integers come unpacked, one element
    a byte; bfloat16 and float8 come as `uint16` and `uint8` bit patterns (`DTYPES` says so).
    A string is a `str` in a rank-0 object array.
    """

    type: TensorType
    load: Callable[[], np.ndarray]
    file: str | None = None
    offset: int | None = None

    @cached_property
    def value(self) -> np.ndarray:
        """The array, loaded once."""
        return self.load()

    @property
    def element_count(self) -> int:
        """The number of elements; a constant's sizes are plain numbers."""
        count = 1
        for size in self.type.shape:
            count *= int(size)
        return count


@dataclass(frozen=True)
class Value:
    """A named result of an operation, or an input of a function or block."""

    name: str
    type: ValueType


@dataclass(frozen=True)
class ConstantList:
    """Several literal constants bound as one list (a classifier's labels, a cropping tuple)."""

    items: tuple[Constant, ...]


@dataclass(frozen=True)
class ConstantDictionary:
    """A literal dictionary, keys and values by position."""

    keys: tuple[Constant, ...]
    values: tuple[Constant, ...]


Argument = str | Constant | ConstantList | ConstantDictionary
"""What an input of an operation is bound to: the name of a value, or a literal."""


@dataclass(frozen=True)
class Operation:
    """One operation; `inputs` maps a parameter to its arguments (several for a tuple parameter)."""

    type: str
    name: str
    inputs: Mapping[str, tuple[Argument, ...]]
    outputs: tuple[Value, ...]
    blocks: tuple[Block, ...] = ()
    attributes: Mapping[str, Constant] = field(default_factory=dict)

    @property
    def value_names(self) -> tuple[str, ...]:
        """The names of the values that it is given; what its blocks read is not among them."""
        groups = self.inputs.values()
        return tuple(item for group in groups for item in group if isinstance(item, str))

    def __str__(self) -> str:
        """How errors name it: `conv_12 (conv)`."""
        return f"{self.name} ({self.type})"


@dataclass(frozen=True)
class Block:
    """Operations in order of execution; `outputs` are names of values visible in the block."""

    inputs: tuple[Value, ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]

    def walk(self) -> Iterator[Operation]:
        """All operations, those of nested blocks after the operation that holds them."""
        for operation in self.operations:
            yield operation
            for block in operation.blocks:
                yield from block.walk()


@dataclass(frozen=True)
class Function:
    """An entry point: `main`, or one of several. `opset` is `CoreML5` (iOS 15) to `CoreML9`."""

    name: str
    opset: str
    inputs: tuple[Value, ...]
    block: Block

    @property
    def opset_version(self) -> int:
        """The iOS version whose operations it uses: 15 for CoreML5, 18 for CoreML8.

        >>> Function("main", "CoreML8", (), Block((), (), ())).opset_version
        18
        """
        return int(self.opset.removeprefix("CoreML")) + 10

    @cached_property
    def output_types(self) -> dict[str, ValueType]:
        """Declared types of the function's outputs, by name, in order."""
        known = {value.name: value.type for value in self.inputs}
        for operation in self.block.operations:
            known |= {value.name: value.type for value in operation.outputs}
        return {name: known[name] for name in self.block.outputs}


@dataclass(frozen=True)
class Program:
    """All functions of a package."""

    functions: Mapping[str, Function]
    version: int = 1
