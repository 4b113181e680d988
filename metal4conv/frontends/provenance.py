"""Which variables of a coremltools program hold which values of the source model.

A frontend notes it while it makes the program. Passes change the program, and a variable that takes
the place of a known one is known too. Names play no part in it: those that frontends and passes
give to operations of their own can be those of other values of the source. For people they are
settled before the passes run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any
from weakref import WeakKeyDictionary

from metal4conv.frontends.names import clean_name, unique_name

Var = Any
"""A coremltools Var; coremltools carries no types."""

Held = tuple[Var, str]
"""A variable, and the name of the source's value that it holds."""

CAST = re.compile(r"_cast_(?:fp16|fp32)(_\d+)?$")
"""What the pass that casts to float16 puts behind the name of an operation."""

MOVING = ("transpose", "expand_dims", "squeeze", "identity", "cast", "reshape")
"""Operations whose output may hold the same elements as their input, in the same order of the
dimensions longer than 1 or in another."""


@contextmanager
def recorded_values() -> Iterator[list[Held]]:
    """Within it, coremltools' frontend for PyTorch notes which variable is which value.

    What loops and branches compute within is left out.
    """
    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext

    held: list[Held] = []
    original = TranscriptionContext.add

    def add(self: Any, ssa_var: Any, torch_name: str | None = None, override: bool = False) -> None:
        name = torch_name or ssa_var.name
        is_new = override or name not in self._current_graph[-1]
        original(self, ssa_var, torch_name, override)
        if is_new and len(self._current_graph) == 1:
            note(held, ssa_var, name)

    TranscriptionContext.add = add
    try:
        yield held
    finally:
        TranscriptionContext.add = original


@contextmanager
def recorded_nodes() -> Iterator[list[Held]]:
    """Within it, coremltools' frontend for TensorFlow notes which variable is which tensor.

    A node's first output has its name, the others `name:1` and so on.
    """
    from coremltools.converters.mil.frontend.tensorflow.converter import TranscriptionContext

    held: list[Held] = []
    original = TranscriptionContext.add

    def add(self: Any, tf_name: str, ssa_vars: Any, is_new_var: bool = True) -> None:
        original(self, tf_name, ssa_vars, is_new_var)
        if self.func_input_stack:
            return
        several = ssa_vars if isinstance(ssa_vars, (list, tuple)) else [ssa_vars]
        for index, var in enumerate(several):
            note(held, var, f"{tf_name}:{index}" if index else tf_name)

    TranscriptionContext.add = add
    try:
        yield held
    finally:
        TranscriptionContext.add = original


def note(held: list[Held], var: Var, name: str) -> None:
    """Adds what a variable holds, unless it is a constant, an input or no tensor."""
    operation = getattr(var, "op", None)
    if operation is not None and operation.op_type != "const" and is_tensor(var):
        held.append((var, name))


def is_tensor(var: Var) -> bool:
    """Whether a variable holds numbers; lists of tensors have no shape."""
    from coremltools.converters.mil.mil import types

    return bool(types.is_tensor(var.sym_type) or types.is_scalar(var.sym_type))


class Origins:
    """The source's value of each variable of a program, while passes change it.

    It keeps no operation alive: those hold the weights that they were made with.
    """

    def __init__(self) -> None:
        self.by_operation: WeakKeyDictionary[Any, dict[int, str]] = WeakKeyDictionary()

    def of(self, var: Var) -> str | None:
        """The source's value that a variable holds."""
        if var.op is None:
            return None
        return self.by_operation.get(var.op, {}).get(var.op_output_idx)

    def set(self, var: Var, origin: str) -> None:
        """Notes what a variable holds."""
        self.by_operation.setdefault(var.op, {})[var.op_output_idx] = origin

    def of_cast(self, var: Var) -> str | None:
        """The source's value that a variable holds in another dtype."""
        if var.op is None or var.op.op_type != "cast" or not keeps_values(var.op.x, var):
            return None
        return self.of(var.op.x) or self.of_cast(var.op.x)

    def take_over(self, old: Var, new: Var) -> None:
        """A variable that replaces a known one of the same shape holds the same value."""
        origin = self.of(old) or self.of_cast(old)
        if origin is None or new.op is None or self.of(new) is not None:
            return
        if not has_shape_of(old, new):
            return
        self.set(new, origin)
        if new.op.op_type == "cast" and keeps_values(new, new.op.x):
            self.take_over(new, new.op.x)


def has_shape_of(one: Var, other: Var) -> bool:
    """Whether two variables have as many dimensions, and equal numbers for sizes.

    Sizes that are dynamic get new symbols when a pass makes an operation anew.
    """
    if one.rank != other.rank:
        return False
    pairs = zip(one.shape, other.shape, strict=True)
    return all(
        a == b or not (isinstance(a, Integral) and isinstance(b, Integral)) for a, b in pairs
    )


def settle(program: Any, held: list[Held]) -> Origins:
    """What the variables of a fresh program hold; their names are clean and unique from now on.

    Of several values that one variable holds, the first one counts: the others only pass it on.
    A variable whose elements are only moved to make a known one holds the same value. `held` is
    emptied, since its variables would keep the weights alive. (Any: a coremltools Program.)

        conv_0 = conv(x);  y = transpose(conv_0)      →      y and conv_0 hold "y"
    """
    main = program.functions["main"]
    inputs = set(main.inputs.values())
    first: dict[Var, str] = {}
    for var, name in held:
        if var not in inputs:
            first.setdefault(var, name)
    held.clear()
    for operation in reversed(list(main.operations)):
        inner, outer = moved(operation)
        if outer in first and inner is not None and inner.op is not None:
            first.setdefault(inner, first[outer])
    settle_names(main, first)
    origins = Origins()
    for var, name in first.items():
        origins.set(var, name)
    return origins


def settle_names(function: Any, known: Collection[Var]) -> None:
    """Gives known variables clean names, and others those that are left: coremltools cleans them
    after its passes only, and a name that is asked for before must be the one in the package.

    (Any: a coremltools Function.)
    """
    taken = {name.lower() for name in function.inputs}
    for var in known:
        # none looks like one that the pass to float16 gives
        name = CAST.sub("_cast", clean_name(var.name))
        rename(var, unique_name(name, taken))
    rename_others(function, set(known), taken)


def rename_others(block: Any, kept: Collection[Var], taken: set[str]) -> None:
    """Gives other names to variables whose name is among `taken`, also in inner blocks.

    (Any: a coremltools Block.)
    """
    for operation in block.operations:
        for inner in operation.blocks:
            rename_others(inner, kept, taken)
        for var in operation.outputs:
            if var not in kept and var.name.lower() in taken:
                rename(var, unique_name(f"{var.name}_{operation.op_type}", taken))


def rename(var: Var, name: str) -> None:
    """Gives a variable another name, and its operation, where that has no other outputs."""
    if var.name == name:
        return
    var.name = name
    if len(var.op.outputs) == 1:
        var.op.name = name


def moved(operation: Any) -> tuple[Var | None, Var | None]:
    """Input and output of an operation that only moves elements; None and None for others.

    (Any: a coremltools Operation.)
    """
    if operation.op_type not in MOVING:
        return None, None
    inner, outer = operation.inputs.get("x"), operation.outputs[0]
    if inner is None or not keeps_values(inner, outer):
        return None, None
    if operation.op_type == "reshape" and long_sizes(inner) != long_sizes(outer):
        return None, None
    return inner, outer


def keeps_values(inner: Var, outer: Var) -> bool:
    """Whether a cast from one variable to the other only rounds."""
    from coremltools.converters.mil.mil import types

    if inner.dtype == outer.dtype or types.is_bool(inner.dtype):
        return True
    return bool(types.is_float(outer.dtype))


def long_sizes(var: Var) -> list[Any]:
    """The sizes of a variable's dimensions that are not 1."""
    return [size for size in var.shape if size != 1]


@contextmanager
def followed(origins: Origins) -> Iterator[None]:
    """Within it, what replaces a known variable becomes known."""
    from coremltools.converters.mil.mil import Block

    original: Callable[..., None] = Block.replace_uses_of_var_after_op

    def replace_uses(
        self: Any, anchor_op: Any, old_var: Var, new_var: Var, *more: Any, **options: Any
    ) -> None:
        original(self, anchor_op, old_var, new_var, *more, **options)
        origins.take_over(old_var, new_var)

    Block.replace_uses_of_var_after_op = replace_uses
    try:
        yield
    finally:
        Block.replace_uses_of_var_after_op = original


def surviving_values(function: Any, origins: Origins) -> dict[str, str]:
    """The source's value by the name of the finished program's variable.

    What only moves the elements of a known variable is known too. (Any: a coremltools Function.)
    """
    operations = [item for item in function.operations if item.op_type != "const"]
    variables = [var for item in operations for var in item.outputs if is_tensor(var)]
    found = {var: origin for var in variables if (origin := origins.of(var))}
    moves = [moved(operation) for operation in operations]
    within = set(variables)
    for inner, outer in reversed(moves):
        if outer in found and inner in within:
            found.setdefault(inner, found[outer])
    for inner, outer in moves:
        if inner in found:
            found.setdefault(outer, found[inner])
    return {var.name: found[var] for var in variables if var in found}


def name_before_cast(name: str) -> str:
    """The name that a value had before the program was made float16.

    >>> name_before_cast("relu_1_cast_fp16"), name_before_cast("split_cast_fp16_0")
    ('relu_1', 'split_0')
    >>> name_before_cast("y_cast_fp16_to_fp32_cast_fp32")
    'y_cast_fp16_to_fp32'
    """
    return CAST.sub(lambda match: match[1] or "", name)
