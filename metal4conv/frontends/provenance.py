"""Which variables of a coremltools program hold which values of the source model.

A frontend notes it while it makes the program. The passes that follow keep the names of values
that stay, so what survives them is found by name. Names that a frontend gives to operations of
its own can be those of other values of the source, so they are made unique first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from metal4conv.frontends.names import clean_name, unique_name

Var = Any
"""A coremltools Var; coremltools carries no types."""

Held = tuple[Var, str]
"""A variable, and the name of the source's value that it holds."""

CAST = re.compile(r"_cast_(?:fp16|fp32)(_\d+)?$")
"""What the pass that casts to float16 puts behind the name of an operation."""


@contextmanager
def recorded_values() -> Iterator[list[Held]]:
    """Within it, coremltools' frontend for PyTorch notes which variable is which value."""
    from coremltools.converters.mil.frontend.torch.converter import TranscriptionContext

    held: list[Held] = []
    original = TranscriptionContext.add

    def add(self: Any, ssa_var: Any, torch_name: str | None = None, override: bool = False) -> None:
        original(self, ssa_var, torch_name, override)
        if hasattr(ssa_var, "sym_type"):
            held.append((ssa_var, torch_name or ssa_var.name))

    TranscriptionContext.add = add
    try:
        yield held
    finally:
        TranscriptionContext.add = original


def settle_names(program: Any, held: Sequence[Held]) -> dict[str, str]:
    """The source's value by the name of the variable that holds it; those names are unique now.

    Of several values that one variable holds, the first one counts: the others only pass it on.
    Where the value is a variable with its dimensions in another order, both hold it.

        conv_0 = conv(x);  y = transpose(conv_0)      →      {"y": "y", "conv_0": "y"}

    (Any: a coremltools Program.)
    """
    main = program.functions["main"]
    inputs = set(main.inputs.values())
    first: dict[Var, str] = {}
    for var, name in held:
        if var.op is not None and var not in inputs:
            first.setdefault(var, name)
    for operation in main.operations:
        inner = operation.inputs.get("x") if operation.op_type == "transpose" else None
        if inner is not None and inner.op is not None and operation.outputs[0] in first:
            first.setdefault(inner, first[operation.outputs[0]])
    taken = {name.lower() for name in main.inputs}
    for var in first:
        rename(var, unique_name(clean_name(var.name), taken))
    rename_others(main, first, taken)
    return {var.name: name for var, name in first.items() if var.op.op_type != "const"}


def rename_others(block: Any, kept: Mapping[Var, str], taken: set[str]) -> None:
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


def surviving_values(
    function: Any, origins: Mapping[str, str], renamed: Mapping[str, str]
) -> dict[str, str]:
    """The source's value by the name of the finished program's variable.

    `renamed` has the names that outputs had before. (Any: a coremltools Function.)
    """
    found = {}
    for operation in function.operations:
        if operation.op_type == "const":
            continue
        for var in operation.outputs:
            before = renamed.get(var.name, var.name)
            origin = origins.get(before) or origins.get(name_before_cast(before))
            if origin is not None:
                found[var.name] = origin
    return found


def name_before_cast(name: str) -> str:
    """The name that a value had before the program was made float16.

    >>> name_before_cast("relu_1_cast_fp16"), name_before_cast("split_cast_fp16_0")
    ('relu_1', 'split_0')
    >>> name_before_cast("y_cast_fp16_to_fp32_cast_fp32")
    'y_cast_fp16_to_fp32'
    """
    return CAST.sub(lambda match: match[1] or "", name)
